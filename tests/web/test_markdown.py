"""markdown.js is the one way from text to HTML; its output runs nothing and fetches nothing."""

import pytest
from playwright.sync_api import Page

pytestmark = pytest.mark.browser

RENDER = """async (text) => {
  const { markdown } = await import('/markdown.js');
  window.ran = [];
  const node = markdown(text);
  document.body.replaceChildren(node);
  await new Promise((resolve) => setTimeout(resolve, 50));
  const named = (one) => one.getAttributeNames().map((name) => `${one.localName} ${name}`);
  const names = [...node.querySelectorAll('*')].flatMap(named);
  return { html: node.innerHTML, text: node.textContent, ran: window.ran, names };
}"""

HOSTILE = [
    "<script>window.ran.push(1)</script>",
    "<img src=x onerror=window.ran.push(1)>",
    "<svg onload=window.ran.push(1)><script>window.ran.push(1)</script></svg>",
    "<iframe srcdoc='<script>parent.ran.push(1)</script>'></iframe>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=window.ran.push(1)&gt;'>",
    "<form action=https://evil.example><button formaction=javascript:window.ran.push(1)>x</button></form>",
    "<style>@import 'https://evil.example/x.css'</style><p style='background:url(https://evil.example/x)'>p</p>",
    "<a href='javascript:window.ran.push(1)'>x</a> [y](javascript:window.ran.push(1)) [z](JaVaScRiPt:ran.push(1))",
    "[data](data:text/html;base64,PHNjcmlwdD4x) [vb](vbscript:x) [rel](/runs) [proto](//evil.example)",
    "![pixel](https://evil.example/p.png) <img src='https://evil.example/x.png' srcset='https://evil.example/y 2x'>",
    "<video src=https://evil.example/v poster=https://evil.example/p autoplay></video>",
    "<link rel=stylesheet href=https://evil.example/x.css><base href=https://evil.example/>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "<details open ontoggle=window.ran.push(1)><summary>x</summary></details>",
    "<input autofocus onfocus=window.ran.push(1)>",
    "<p id=ask name=run class=bar data-key=1 aria-hidden=true>clobber</p>",
    '| a |\n|---|\n| <img src=x onerror="window.ran.push(1)"> |',
    "```\n</code></pre><script>window.ran.push(1)</script>\n```",
]

ALLOWED = {
    *("a href", "a title", "a target", "a rel", "img src", "img alt", "img title", "ol start", "th align", "td align"),
    *("th class", "td class", "code class", "span class", "div class", "div tabindex", "div role", "div aria-label"),
}


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_runs_and_nothing_is_fetched(blank: Page, text: str) -> None:
    """Hostile text runs no script, asks no other host, and keeps only allowed attributes."""
    asked: list[str] = []
    blank.on("request", lambda request: asked.append(request.url))
    shown = blank.evaluate(RENDER, f"Before\n\n{text}\n\nAfter")
    assert shown["ran"] == []
    assert set(shown["names"]) <= ALLOWED
    assert [url for url in asked if "evil.example" in url or "/x" in url] == []
    assert 'href="javascript' not in shown["html"].lower()
    assert shown["text"].startswith("Before")


def test_links_send_no_referrer(blank: Page) -> None:
    """Every link opens in a new tab, which has no access to the page."""
    html = blank.evaluate(RENDER, "[x](https://example.org/a?b=1)")["html"]
    assert '<a href="https://example.org/a?b=1" target="_blank" rel="noopener noreferrer nofollow">x</a>' in html


def test_tags_are_shown_as_text(blank: Page) -> None:
    """Agents write Markdown: a tag is text, except the line break, which tables need."""
    shown = blank.evaluate(RENDER, "a <b>bold</b>\n\n<div>\nblock\n</div>\n\nx<br>y")
    assert "a <b>bold</b>" in shown["text"]
    assert "<div>" in shown["text"]
    assert "x<br>y" in shown["html"]


def test_an_image_of_another_host_is_replaced_by_its_text(blank: Page) -> None:
    """An image inside the text (`data:`) is shown."""
    dot = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="
    shown = blank.evaluate(RENDER, f"![far](https://example.org/x.png) ![near]({dot})")
    assert (shown["html"].count("<img"), "far" in shown["text"]) == (1, True)


def test_a_report_is_formatted(blank: Page) -> None:
    """Headings are one level lower, figures aligned right, SQL highlighted, and lists keep their start."""
    grid = "| m | v |\n|---|---|\n| a | −€1,200 |\n| b | 0.2 pp |"
    report = f"# Title\n\n3. third\n\n{grid}\n\n```sql\nSELECT 1 -- x\n```\n\n- [x] done"
    html = blank.evaluate(RENDER, report)["html"]
    assert "<h2>Title</h2>" in html
    assert '<ol start="3">' in html
    assert '<td class="num">−\u2060€1,200</td>' in html
    assert "<td>a</td>" in html
    assert '<span class="sql-keyword">SELECT</span>' in html
    assert "☑" in html
