// Shared by both wires: errors of a connection, and the wait before the next one.
//
// A wire is a function `connect(request, on, signal)`. It opens one connection and resolves when that ends:
// 'closed' (perhaps too early: the viewer decides) or 'finished' (the server has nothing more to send).
//   request  {question, key, sessionId?, review?, ifBusy?} starts a run, {runId, after} resumes from a cursor,
//            {test: true} streams the mock run
//   on       opened(runId), event(event), cursor(id), and alive() for anything received; in order of arrival

/** A connection that failed. `refused`: the server refused the request; `fatal`: it would refuse it again. */
export class WireError extends Error {
  constructor(code, message, { refused = false, fatal = false, retryAfter = null } = {}) {
    super(message);
    this.code = code;
    this.refused = refused;
    this.fatal = fatal;
    this.retryAfter = retryAfter; // milliseconds
  }
}

const RETRYABLE_CODES = new Set(['rate_limited', 'principal_limit', 'too_many_runs', 'too_many_subscriptions', 'draining']);
const FIRST_WAIT = 500;
const LONGEST_WAIT = 15_000;

/** Milliseconds to wait before attempt `attempt` (from 0): doubling, capped, half of it random, so that the viewers
 * of a restarted server don't all return at once. */
export function backoff(attempt, random = Math.random) {
  const full = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** attempt);
  return full / 2 + random() * (full / 2);
}

/** The fields that start a run, the same on every wire. Each wire adds the idempotency key in its own way. */
export function askOf({ question, sessionId, review, ifBusy }) {
  const session = sessionId ? { session_id: sessionId } : {};
  return { question, tokens: true, asks: true, ...session, ...(review && { review }), ...(ifBusy && { if_busy: ifBusy }) };
}

/** The JSON of one frame, or null: an unreadable frame must not break the page. */
export function readFrame(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** The event in a frame's envelope, or null. */
export function eventOf(frame) {
  const event = frame?.event;
  return event !== null && typeof event === 'object' ? event : null;
}

/** The error in a refused response (RFC 9457). 429 and 5xx may be retried; all others are fatal. */
export async function refusal(response) {
  const problem = (await response.json().catch(() => null)) ?? {};
  const retryable = response.status === 429 || response.status >= 500;
  const seconds = Number(response.headers.get('Retry-After'));
  return new WireError(
    problem.code ?? `http_${response.status}`,
    problem.detail ?? problem.title ?? `The server answered ${response.status}.`,
    { refused: true, fatal: !retryable, retryAfter: seconds > 0 ? seconds * 1000 : null },
  );
}

/** The same for a WebSocket reply, which has no status: its code decides. */
export function replyRefusal(error) {
  const { code = 'refused', message = 'The server refused.', retry_after: seconds } = error ?? {};
  const retryAfter = seconds > 0 ? seconds * 1000 : null;
  return new WireError(code, message, { refused: true, fatal: !RETRYABLE_CODES.has(code), retryAfter });
}
