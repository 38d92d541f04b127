// viewer.js follows one run through lost connections; a script plays the wire.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { newRun } from '../../../web/static/run.js';
import { Viewer } from '../../../web/static/viewer.js';
import { backoff, WireError } from '../../../web/static/wire.js';

const ASK = { question: 'q', key: 'k' };

const events = (...ids) => ids.map((id) => ({ event_type: 'agent_thinking', agent_name: 'A', message: `${id}`, id }));
const end = (id) => ({ event_type: 'completed', data: { final_response: 'done' }, id });

Math.random = () => 0; // the shortest waits: half of each is random

/**
 * Follow a run while `script` is played: each entry is a connection, with its events and its end.
 * `switches`: the reader changes to the other wire during a connection that `stays`.
 */
async function followed(script, request = ASK, { switches = false } = {}) {
  const left = [...script];
  const requests = [];
  const links = [];
  const play = (wire) => async (asked, on, signal) => {
    requests.push({ wire, ...asked });
    const { events: arrived = [], cursor, ends = 'closed', error, stays } = left.shift() ?? { ends: 'finished' };
    if (error) throw new WireError(error.code, error.message, error);
    on.opened(asked.runId ?? 'r1');
    for (const event of arrived) on.event(event.id ? { run_id: 'r1', ...event } : event);
    if (cursor) on.cursor(cursor);
    if (signal.aborted) throw signal.reason;
    if (!stays) return ends;
    if (switches) setTimeout(() => viewer.switchTo('ws'), 0);
    return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
  };
  const run = newRun(request.runId ?? null);
  const viewer = new Viewer(run, { sse: play('sse'), ws: play('ws') }, 'sse', {
    changed() {},
    opened() {},
    link: ({ state, wait, error }) => links.push({ state, wait, code: error?.code }),
  });
  await viewer.follow(request);
  const notices = run.entries.filter((entry) => entry.kind === 'notice').map((entry) => entry.text);
  return { requests, links, cursor: run.cursor, count: run.count, state: run.state, notices };
}

const asked = (result) => result.requests.map((request) => request.after ?? 'ask');

test('a lost connection is resumed from the last id', async () => {
  // Each new connection asks for the events after the last one seen, and none is applied twice.
  const script = [{ events: events(1, 2) }, { events: events(3) }, { events: [...events(2, 3, 4), end(5)] }];
  const result = await followed(script);
  assert.deepEqual(asked(result), ['ask', 2, 3]);
  assert.deepEqual([result.count, result.state, result.links.at(-1).state], [5, 'completed', 'ended']);
});

test('a gap makes the viewer ask again from the cursor', async () => {
  // No event after the gap is accepted before the missing ones.
  const result = await followed([{ events: events(1, 3) }, { events: [...events(2, 3), end(4)] }]);
  assert.deepEqual(asked(result), ['ask', 1]);
  assert.equal(result.count, 4);
  assert.deepEqual(result.notices, ['The report is ready']);
});

test('a gap that stays is shown, and the viewer stops asking for it', async () => {
  // At the third try the page continues, and shows which events are missing.
  const broken = { events: [...events(1, 3), end(4)] };
  const result = await followed([broken, broken, broken]);
  assert.equal(result.requests.length, 3);
  assert.ok(result.notices.includes('Events 2 to 2 are gone.'));
});

test('an announced gap is accepted at once', async () => {
  // The viewer doesn't ask again for events that the server no longer has.
  const gap = { event_type: 'gap', data: { from: 2, to: 7, reason: 'trimmed' } };
  const result = await followed([{ events: [...events(1), gap, ...events(8), end(9)] }]);
  assert.deepEqual(asked(result), ['ask']);
  assert.equal(result.count, 3);
});

test('an id alone moves the cursor', async () => {
  // The viewer doesn't ask again for events that its filter excludes.
  const result = await followed([{ events: events(1), cursor: 6 }, { events: [end(7)] }]);
  assert.deepEqual(asked(result), ['ask', 6]);
});

test('a question is sent again with its key after a lost connection', async () => {
  // The server may have started the run: the same key joins it instead of starting a second one.
  const result = await followed([{ error: { code: 'unreachable', message: 'down' } }, { events: [end(1)] }]);
  assert.deepEqual(
    result.requests.map(({ question, key }) => [question, key]),
    [['q', 'k'], ['q', 'k']],
  );
});

const REFUSALS = [
  [ASK, { code: 'rate_limited', message: 'no', refused: true, retryAfter: 10 }],
  [{ runId: 'r1', after: 0 }, { code: 'run_not_found', message: 'no', refused: true, fatal: true }],
];

for (const [request, error] of REFUSALS) {
  test(`a refusal is shown and not repeated: ${error.code}`, async () => {
    // Neither a refused question nor a missing run is tried again without the reader.
    const result = await followed([{ error }], request);
    const last = result.links.at(-1);
    assert.deepEqual([result.requests.length, last.state, last.code], [1, 'failed', error.code]);
  });
}

test('a busy server is asked again after its Retry-After', async () => {
  // The refused request is a resume.
  const busy = { code: 'draining', message: 'busy', refused: true, retryAfter: 30 };
  const result = await followed([{ error: busy }, { events: [end(1)] }], { runId: 'r1', after: 0 });
  assert.deepEqual(
    result.links.filter((link) => link.wait === 30),
    [{ state: 'waiting', wait: 30, code: 'draining' }],
  );
});

const waits = (result) => result.links.filter((link) => link.state === 'waiting');

test('a draining server decides when viewers reconnect', async () => {
  // The wait is `retry_ms` of the drain notice.
  const drain = { event_type: 'drain', data: { retry_ms: 20 } };
  const result = await followed([{ events: [...events(1), drain] }, { events: [end(2)] }]);
  assert.deepEqual(waits(result).map((link) => link.wait), [20]);
});

test('a run continues over the other wire from the same cursor', async () => {
  // A change of transport loses nothing, repeats nothing and doesn't wait.
  const script = [{ events: events(1, 2), stays: true }, { events: [...events(3), end(4)] }];
  const result = await followed(script, ASK, { switches: true });
  assert.deepEqual(result.requests.map(({ wire, after }) => [wire, after]), [['sse', undefined], ['ws', 2]]);
  assert.equal(result.count, 4);
  assert.deepEqual(waits(result), []);
});

test('a silent connection is replaced', async (t) => {
  // After 40 s without an event or a heartbeat, the viewer opens a new connection.
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const script = [{ events: events(1), stays: true }, { events: [end(2)] }];
  let result = null;
  followed(script).then((done) => (result = done));
  let seconds = 0;
  for (; result === null && seconds < 120; seconds += 1) {
    await new Promise(setImmediate); // lets the promises settle that the last tick resolved
    t.mock.timers.tick(1000);
  }
  assert.ok(seconds >= 40 && seconds < 50, `replaced after ${seconds} s`);
  assert.deepEqual(asked(result), ['ask', 1]);
  assert.deepEqual(waits(result).map((link) => link.code), ['silent']);
});

test('waits double up to a bound, and half of each is random', () => {
  // The viewers of a restarted server don't all return at once, and none waits for more than 15 s.
  const bounds = [0, 1, 2, 10].map((attempt) => [backoff(attempt, () => 0), backoff(attempt, () => 1)]);
  assert.deepEqual(bounds, [[250, 500], [500, 1000], [1000, 2000], [7500, 15000]]);
});
