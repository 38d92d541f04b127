// SQL as code, with its keywords marked.

import { el } from './dom.js';

const KEYWORDS = `select from where group by order having limit offset with as on using join left right inner outer cross
  full union all except intersect distinct case when then else end and or not in is null like between exists over
  partition asc desc values recursive filter cast`.split(/\s+/);
const KEYWORD = new Set(KEYWORDS);
// A string, a comment, a number or a word; everything between them stays as it is.
const TOKEN = /'(?:[^']|'')*'|--[^\n]*|\b\d+(?:\.\d+)?\b|\b[a-z_]+\b/gi;

export function sqlCode(source) {
  const parts = [];
  let end = 0;
  for (const { 0: token, index } of source.matchAll(TOKEN)) {
    const kind = kindOf(token);
    if (!kind) continue;
    parts.push(source.slice(end, index), el('span', { class: `sql-${kind}` }, token));
    end = index + token.length;
  }
  return el('code', { class: 'sql' }, ...parts, source.slice(end));
}

export function looksLikeSql(text) {
  return /^\s*(select|with)\s/i.test(text);
}

function kindOf(token) {
  if (token.startsWith("'")) return 'string';
  if (token.startsWith('--')) return 'comment';
  if (/^\d/.test(token)) return 'number';
  return KEYWORD.has(token.toLowerCase()) ? 'keyword' : null;
}
