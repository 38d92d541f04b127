// One tool call: a line that opens to its arguments and its result, which are built when it is opened.

import { chartFigure } from './chart.js';
import { el } from './dom.js';
import { duration, plural, shorten } from './format.js';
import { rowCount, show } from './values.js';

const STATUS = { started: 'running', finished: 'done', failed: 'failed', unfinished: 'not finished' };

/** @param before the earlier element of the same call; if it is open, so is the new one */
export function toolCall(item, before) {
  const status = STATUS[item.status] ?? item.status;
  const took = typeof item.durationMs === 'number' ? duration(item.durationMs) : '';
  const body = el('div', { class: 'tool-body' });
  const summary = el(
    'summary',
    {},
    el('code', { class: 'tool-name' }, item.name || 'tool'),
    el('span', { class: 'gist' }, gist(item)),
    el('span', { class: 'tool-status' }, status === 'done' ? took || 'done' : status),
  );
  const details = el('details', { class: `tool is-${item.status}` }, summary, body);
  const fill = () => details.open && !body.firstChild && body.append(...parts(item));
  details.addEventListener('toggle', fill);
  details.open = before?.open ?? false;
  return details;
}

function parts(item) {
  const waiting = item.status === 'started';
  return [
    el('h4', {}, 'Arguments'),
    show(item.parameters),
    el('h4', {}, item.status === 'failed' ? 'Error' : 'Result'),
    item.chart && chartFigure(item.chart),
    waiting ? el('span', { class: 'none' }, 'still running') : !item.chart && show(item.result),
  ].filter(Boolean);
}

/** The call in a few words: its chart, or its rows and arguments. */
function gist(item) {
  if (item.chart) return item.chart.title || `${item.chart.type} chart`;
  const rows = item.status === 'finished' ? rowCount(item.result) : null;
  const asked = shorten(argumentsInWords(item.parameters), 120);
  return rows === null ? asked : `${plural(rows, 'row')} · ${asked}`;
}

function argumentsInWords(parameters) {
  if (parameters === null || typeof parameters !== 'object') return String(parameters ?? '');
  const given = Object.values(parameters);
  const plain = given.filter((value) => typeof value !== 'object').map(String);
  const nested = given.filter((value) => typeof value === 'object').map((value) => JSON.stringify(value));
  return [...plain, ...nested].filter((words) => !['', 'null', '{}', '[]'].includes(words)).join(' · ');
}
