// Shows any JSON value: rows as a table, SQL as code, the rest as names and values. Everything stays text.

import { copyButton, el } from './dom.js';
import { number, plural } from './format.js';
import { looksLikeSql, sqlCode } from './sql.js';

const ROWS_AT_ONCE = 100;
const DEEPEST = 4; // below that a value is shown as JSON

/** An element that shows `value`; JSON in a string is parsed first. */
export function show(value, depth = 0) {
  const plain = parsed(value);
  if (plain === null || plain === undefined) return el('span', { class: 'none' }, 'none');
  if (typeof plain === 'string') return showText(plain);
  if (typeof plain !== 'object') return el('span', {}, typeof plain === 'number' ? number(plain) : String(plain));
  const rows = rowsOf(plain);
  if (rows) return rowsWithRest(plain, rows, depth);
  if (depth >= DEEPEST || Array.isArray(plain)) return showList(plain, depth);
  return showFields(Object.entries(plain), depth);
}

/** The number of rows in a result, or null if it has no rows. */
export function rowCount(value) {
  return rowsOf(parsed(value))?.rows.length ?? null;
}

/** A table with numeric columns aligned to the right. */
export function table(columns, rows) {
  const numeric = columns.map((_, i) => rows.length > 0 && rows.every((row) => isNumberOrNothing(row[i])));
  const cells = (row) => columns.map((_, i) => el('td', { class: numeric[i] && 'num' }, cell(row[i])));
  const heads = columns.map((name, i) => el('th', { scope: 'col', class: numeric[i] && 'num' }, String(name)));
  const body = el('tbody');
  const more = (from) => {
    body.append(...rows.slice(from, from + ROWS_AT_ONCE).map((row) => el('tr', {}, cells(row))));
    return from + ROWS_AT_ONCE;
  };
  let shown = more(0);
  const label = () => `Show ${plural(Math.min(ROWS_AT_ONCE, rows.length - shown), 'more row')} of ${number(rows.length)}`;
  const button = el('button', { type: 'button', class: 'quiet' }, label());
  button.addEventListener('click', () => {
    shown = more(shown);
    if (shown < rows.length) button.textContent = label();
    else button.remove();
  });
  const grid = el('table', {}, el('thead', {}, el('tr', {}, heads)), body);
  return el('div', { class: 'rows' }, scrollable(grid, 'Rows'), shown < rows.length && button);
}

/** Let `node` scroll by itself if it is too wide, with the keyboard too. */
export function scrollable(node, label) {
  return el('div', { class: 'scroll-x', tabindex: '0', role: 'region', 'aria-label': label }, node);
}

function parsed(value) {
  if (typeof value !== 'string' || !/^\s*[[{]/.test(value)) return value;
  try {
    return JSON.parse(value);
  } catch {
    return value;
  }
}

/** {columns, rows}, {rows: [{…}]} or [{…}] as columns and arrays of cells; null for anything else. */
function rowsOf(value) {
  const list = Array.isArray(value) ? value : value?.rows;
  if (!Array.isArray(list) || list.length === 0) return null;
  if (Array.isArray(value?.columns) && list.every(Array.isArray)) return { columns: value.columns.map(cell), rows: list };
  if (!list.every((row) => row !== null && typeof row === 'object' && !Array.isArray(row))) return null;
  const columns = [...new Set(list.flatMap((row) => Object.keys(row)))];
  return { columns, rows: list.map((row) => columns.map((name) => row[name])) };
}

function rowsWithRest(value, { columns, rows }, depth) {
  const rest = Array.isArray(value) ? [] : Object.entries(value).filter(([name]) => name !== 'rows' && name !== 'columns');
  return el('div', { class: 'stack' }, table(columns, rows), rest.length > 0 && showFields(rest, depth));
}

function showFields(entries, depth) {
  if (entries.length === 0) return el('span', { class: 'none' }, 'none');
  const pair = ([name, value]) => {
    const wide = isWide(parsed(value)) && 'wide';
    return [el('dt', { class: wide }, name), el('dd', { class: wide }, show(value, depth + 1))];
  };
  return el('dl', { class: 'fields' }, entries.flatMap(pair));
}

/** Whether a value needs the whole width, below its name. */
function isWide(value) {
  if (typeof value === 'string') return value.includes('\n');
  return value !== null && typeof value === 'object' && Object.values(value).some((one) => one !== null && typeof one === 'object');
}

function showList(value, depth) {
  if (!Array.isArray(value) || depth >= DEEPEST) return el('pre', {}, JSON.stringify(value, null, 2));
  if (value.length === 0) return el('span', { class: 'none' }, 'none');
  if (value.every((one) => one === null || typeof one !== 'object')) return el('span', {}, value.map(cell).join(', '));
  return el('ol', { class: 'list' }, value.map((one) => el('li', {}, show(one, depth + 1))));
}

function showText(text) {
  if (looksLikeSql(text)) {
    return el('div', { class: 'code' }, el('pre', {}, sqlCode(text)), copyButton('Copy', () => text));
  }
  return text.includes('\n') ? el('pre', { class: 'words' }, text) : el('span', { class: 'words' }, text);
}

function cell(value) {
  if (value === null || value === undefined) return '';
  if (typeof value === 'number') return number(value);
  if (typeof value !== 'object') return String(value);
  // For a list of named objects, such as a table's columns, the names are enough in a cell.
  const named = Array.isArray(value) && value.every((one) => typeof one?.name === 'string');
  return named ? value.map((one) => one.name).join(', ') : JSON.stringify(value);
}

function isNumberOrNothing(value) {
  return value === null || value === undefined || typeof value === 'number';
}
