// The one place where text becomes HTML: Markdown through marked, and what comes out of it through DOMPurify.
//
// The page's policy for trusted types lets DOMPurify alone make HTML, so that the browser itself refuses any other way.

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
  ADD_URI_SAFE_ATTR: ['align', 'start'], // no addresses, so the expression above isn't for them
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

// A figure: its sign, currency, digits and at most a short unit, as in "−€1,200", "38.2 %" and "0.2 pp".
const FIGURE = /^[-+−–]?[\s\u2060]*\p{Sc}?\s*[-+−–]?\d[\d.,\s]*(?:%|[a-z]{0,6})?$/iu;
const NO_FIGURE = /^[-–—]?$/;

const FOLDED_SQL = 5; // lines from which a query is folded

const marked = new Marked({
  gfm: true,
  renderer: {
    // Agents write Markdown. Tags are shown as they were written, but for the break that tables can't do without.
    html: ({ text }) => (/^<br\s*\/?>$/i.test(text.trim()) ? '<br>' : escaped(text)),
    // The page's own heading is the first; and a task's box is a sign, since no form control may come through.
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
  // A picture may only be one that the text brings along: fetching one would tell another host who reads.
  if (node.tagName === 'IMG' && !node.getAttribute('src')?.startsWith('data:')) node.removeAttribute('src');
});

function escaped(text) {
  return text.replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);
}

function openApart(link) {
  link.setAttribute('target', '_blank');
  link.setAttribute('rel', 'noopener noreferrer nofollow');
}

/** An element that shows `text`, which may come from anybody. */
export function markdown(text) {
  // A word joiner after a minus, so that no line ends between the sign and its figure.
  const joined = text.replace(/−(?=[\p{Sc}\d])/gu, '−\u2060');
  const fragment = purify.sanitize(marked.parse(joined), ALLOWED);
  for (const image of fragment.querySelectorAll('img:not([src])')) image.replaceWith(image.alt);
  for (const grid of fragment.querySelectorAll('table')) formatTable(grid);
  for (const code of fragment.querySelectorAll('pre > code')) {
    if (looksLikeSql(code.textContent)) formatSql(code);
  }
  return el('div', { class: 'prose' }, fragment);
}

/** SQL gets its colours; a long query is folded, since a report is read for what came of it. */
function formatSql(code) {
  const lines = code.textContent.trim().split('\n').length;
  const block = code.parentElement;
  code.replaceWith(sqlCode(code.textContent));
  if (lines < FOLDED_SQL) return;
  const fold = el('details', { class: 'fold' }, el('summary', {}, `SQL, ${lines} lines`));
  block.replaceWith(fold);
  fold.append(block);
}

/** Numbers stand to the right, and a wide table scrolls by itself. */
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
