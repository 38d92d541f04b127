// The server's runs, newest first, each a link.

import { byId, el } from './dom.js';
import { ago, shorten } from './format.js';
import { request } from './sign-in.js';

/** Reload the list. If the server can't answer, the list stays as it is. */
export async function refreshRecent(current) {
  const response = await request('runs', { cache: 'no-store' }).catch(() => null);
  const runs = response?.ok ? (await response.json().catch(() => null))?.runs : null;
  if (!Array.isArray(runs)) return;
  byId('recent-list').replaceChildren(...runs.map((run) => runLine(run, current)));
  byId('recent-none').hidden = runs.length > 0;
}

/** One run of a list, as a link; `current` is the id of the run on the page. */
export function runLine(run, current) {
  const link = el(
    'a',
    { href: `#run=${encodeURIComponent(run.run_id)}`, 'aria-current': run.run_id === current ? 'true' : null },
    el('span', { class: `state is-${run.state}` }, run.state),
    el('span', { class: 'recent-question' }, shorten(String(run.question ?? ''), 140)),
    el('span', { class: 'when' }, when(run.created_at)),
  );
  return el('li', {}, link);
}

function when(stamp) {
  const at = Date.parse(stamp);
  return Number.isNaN(at) ? '' : ago(Date.now() - at);
}
