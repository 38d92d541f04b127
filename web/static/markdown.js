// The one place where text becomes HTML: marked renders Markdown, and DOMPurify sanitises the result.
//
// The page's Trusted Types policy allows only DOMPurify to make HTML, so the browser refuses any other way.

import DOMPurify from './vendor/dompurify/purify.es.mjs';
import { Marked } from './vendor/marked/marked.esm.js';
import { el } from './dom.js';
import { looksLikeSql, sqlCode } from './sql.js';
import { scrollable } from './values.js';

const PROSE = 'p br hr strong em del s sub sup a h2 h3 h4 h5 h6 ul ol li blockquote code pre';
const TABLES = 'table thead tbody tr th td img';
const ALLOWED = {
  ALLOWED_TAGS: `${PROSE} ${TABLES}`.split(' '),
  ALLOWED_ATTR: ['href', 'title', 'src', 'alt', 'align', 'start'],
  ALLOWED_URI_REGEXP: /^(?:https?:|mailto:|data:image\/(?:png|jpeg|gif|webp);base64,)/i,
  ADD_URI_SAFE_ATTR: ['align', 'start'], // not addresses, so the expression above must not apply
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

// A figure: its sign, currency, digits and at most a short unit, as in "−€1,200", "38.2 %" and "0.2 pp".
const FIGURE = /^[-+−–]?[\s\u2060]*\p{Sc}?\s*[-+−–]?\d[\d.,\s]*(?:%|[a-z]{0,6})?$/iu;
const NO_FIGURE = /^[-–—]?$/;

const FOLDED_SQL = 5; // queries of at least so many lines are folded

const marked = new Marked({
  gfm: true,
  renderer: {
    // Agents write Markdown. Tags are shown as text, except <br>, which tables need.
    html: ({ text }) => (/^<br\s*\/?>$/i.test(text.trim()) ? '<br>' : escaped(text)),
    // The page has the only h1. A task's checkbox becomes a character, since no form control is allowed.
    heading({ tokens, depth }) {
      const level = Math.min(6, depth + 1);
      return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>\n`;
    },
    checkbox: ({ checked }) => (checked ? '☑ ' : '☐ '),
  },
});

const purify = DOMPurify(window);
purify.addHook('afterSanitizeAttributes', (node) => {
  if (node.tagName === 'A') openApart(node);
  // Only images inside the text (data:) are shown: fetching one would reveal the reader to another host.
  if (node.tagName === 'IMG' && !node.getAttribute('src')?.startsWith('data:')) node.removeAttribute('src');
});

function escaped(text) {
  return text.replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);
}

function openApart(link) {
  link.setAttribute('target', '_blank');
  link.setAttribute('rel', 'noopener noreferrer nofollow');
}

/** An element that shows `text`, which is untrusted. */
export function markdown(text) {
  // A word joiner after a minus, so that no line breaks between the sign and its figure.
  const joined = text.replace(/−(?=[\p{Sc}\d])/gu, '−\u2060');
  const fragment = purify.sanitize(marked.parse(joined), ALLOWED);
  for (const image of fragment.querySelectorAll('img:not([src])')) image.replaceWith(image.alt);
  for (const grid of fragment.querySelectorAll('table')) formatTable(grid);
  for (const code of fragment.querySelectorAll('pre > code')) {
    if (looksLikeSql(code.textContent)) formatSql(code);
  }
  return el('div', { class: 'prose' }, fragment);
}

/** Highlight SQL. A long query is folded, since a report is read for its results. */
function formatSql(code) {
  const lines = code.textContent.trim().split('\n').length;
  const block = code.parentElement;
  code.replaceWith(sqlCode(code.textContent));
  if (lines < FOLDED_SQL) return;
  const fold = el('details', { class: 'fold' }, el('summary', {}, `SQL, ${lines} lines`));
  block.replaceWith(fold);
  fold.append(block);
}

/** Align numbers to the right, and let a wide table scroll by itself. */
function formatTable(grid) {
  const rows = [...grid.tBodies].flatMap((body) => [...body.rows]);
  const columns = grid.tHead?.rows[0]?.cells.length ?? 0;
  for (let i = 0; i < columns; i++) {
    const cells = rows.map((row) => row.cells[i]).filter(Boolean);
    const texts = cells.map((cell) => cell.textContent.trim()).filter((text) => !NO_FIGURE.test(text));
    if (texts.length === 0 || !texts.every((text) => FIGURE.test(text))) continue;
    for (const cell of [...cells, grid.tHead.rows[0].cells[i]]) cell.classList.add('num');
  }
  const frame = scrollable(el('span'), 'Table');
  grid.replaceWith(frame);
  frame.replaceChildren(grid);
}
