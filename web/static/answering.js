// Sends a human's answer to the server. Its outcome arrives as an event.

import { request } from './sign-in.js';
import { refusal } from './wire.js';

/**
 * Whether the run still waits for this answer. A replayed log doesn't show it: the answer may be its next line.
 * `ahead`: milliseconds by which the server's clock is ahead. If the server doesn't answer, `wanted` is true.
 */
export async function stillWanted(runId, requestId) {
  const response = await request(`runs/${encodeURIComponent(runId)}`, { cache: 'no-store' }).catch(() => null);
  const run = response?.ok ? await response.json().catch(() => null) : null;
  const now = Date.parse(response?.headers.get('Date'));
  return {
    wanted: run === null || run.pending_input?.request_id === requestId,
    ahead: Number.isNaN(now) ? 0 : now + 500 - Date.now(), // the header has whole seconds
  };
}

/** Send the answer. Returns null if the server accepted it, else the reason as a sentence. */
export async function submitInput(runId, requestId, value) {
  const response = await request(`runs/${encodeURIComponent(runId)}/input`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ request_id: requestId, value }),
  }).catch(() => null);
  if (response?.ok) return null;
  return response ? (await refusal(response)).message : 'Your answer did not reach the server. Try again.';
}
