"""The page's files: vendored files match VENDORED.md, and nothing points to another host."""

import hashlib
import re
from pathlib import Path

STATIC = Path(__file__).parents[2] / "web" / "static"
VENDOR = STATIC / "vendor"


def test_vendored_libraries_have_their_recorded_checksums() -> None:
    """Each listed file has its checksum, each other file is a licence, and each library has one."""
    rows = re.findall(
        r"^\| .* \| `([^`]+)` \| `([0-9a-f]{64})` \|$", (VENDOR / "VENDORED.md").read_text(), re.MULTILINE
    )
    assert {name: hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() for name, _ in rows} == dict(rows)
    others = [path for path in VENDOR.glob("*/*") if path.relative_to(VENDOR).as_posix() not in dict(rows)]
    assert {path.name.split("-")[0] for path in others} == {"LICENSE"}
    assert {path.parent for path in others} == {path for path in VENDOR.iterdir() if path.is_dir()}


def test_the_page_names_no_other_host_and_holds_no_inline_code() -> None:
    """The page's own files have no address of another host, and its HTML no script, style or handler."""
    ours = [path for path in STATIC.iterdir() if path.suffix in {".html", ".css", ".js"}]
    texts = {path.name: path.read_text().replace("http://www.w3.org/2000/svg", "") for path in ours}
    assert [name for name, text in texts.items() if re.search(r"(?:https?|wss?)://|url\(", text)] == []
    assert re.findall(r"<script(?![^>]* src=)|<style|\s(?:style|on\w+)=", texts["client.html"]) == []
    assert [name for name, text in texts.items() if re.search(r"innerHTML|outerHTML|insertAdjacentHTML", text)] == []
