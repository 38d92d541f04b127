// A human's answer on its way to the server: whether it is still wanted, and giving it. What comes of it is an event.

import { refusal } from './wire.js';

/**
 * Whether the run still waits for this answer. A log that is being replayed can't tell: the answer may be its next line.
 * `ahead` is how far the server's clock is before ours, in milliseconds. Where nobody can be asked, it does wait.
 */
export async function stillWanted(runId, requestId) {
  const response = await fetch(`runs/${encodeURIComponent(runId)}`, { cache: 'no-store' }).catch(() => null);
  const run = response?.ok ? await response.json().catch(() => null) : null;
  const now = Date.parse(response?.headers.get('Date'));
  return {
    wanted: run === null || run.pending_input?.request_id === requestId,
    ahead: Number.isNaN(now) ? 0 : now + 500 - Date.now(), // the header tells whole seconds
  };
}

/** Gives the answer: null where it was taken, else the sentence that says why not. */
export async function submitInput(runId, requestId, value) {
  const response = await fetch(`runs/${encodeURIComponent(runId)}/input`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ request_id: requestId, value }),
  }).catch(() => null);
  if (response?.ok) return null;
  return response ? (await refusal(response)).message : 'Your answer did not reach the server. Try again.';
}
