// run.js: the state of a run, as its events add up to it.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { apply, classify, newRun } from '../../../web/static/run.js';

const STAMP = '2026-11-22T10:30:00.000Z';

/** An event as the wire has it. Without an id it is a notice beside the log. */
function event(id, kind, { agent = 'DataAgent', message = '', ...data } = {}) {
  const made = { event_type: kind, timestamp: STAMP, agent_name: agent, message, data };
  return id === null ? made : { ...made, id, run_id: 'r1' };
}

/** The run after these events, as they come from the wire. */
function applied(...events) {
  const run = newRun();
  for (const one of JSON.parse(JSON.stringify(events))) {
    if (['new', 'notice'].includes(classify(run, one))) apply(run, one);
  }
  return run;
}

test('the cursor accepts the next event, drops seen events and finds a gap', () => {
  // The same rule as the server's cursor; an announced gap is accepted.
  const run = newRun();
  run.cursor = 5;
  const place = (id) => classify(run, { id });
  assert.deepEqual([place(5), place(6), place(7), place(undefined)], ['seen', 'new', 'gap', 'notice']);
  apply(run, { event_type: 'gap', data: { from: 6, to: 9 } });
  assert.deepEqual([place(10), place(11), run.cursor], ['new', 'gap', 5]);
});

test('pieces of text become the answer that completes them', () => {
  // Chunks grow one text for each message id; the whole message then replaces its pieces.
  const run = applied(
    event(1, 'agent_thinking', { message: 'Looks at the tables.' }),
    event(2, 'agent_chunk', { delta: 'Reve', message_id: 'm1' }),
    event(3, 'agent_chunk', { delta: 'nue', message_id: 'm1' }),
    event(4, 'agent_response', { message: 'Revenue rose.', message_id: 'm1' }),
  );
  assert.equal(run.entries.length, 1);
  assert.deepEqual(
    run.entries[0].items.map(({ kind, text }) => [kind, text]),
    [['thought', 'Looks at the tables.'], ['answer', 'Revenue rose.']],
  );
  assert.equal(run.openTurns.size, 0);
});

test('a streamed thought is not shown twice', () => {
  // A thought that came in pieces is followed by the whole thought; it is shown once.
  const run = applied(
    event(1, 'agent_chunk', { delta: 'First the schema.', message_id: 'm1' }),
    event(2, 'agent_thinking', { message: 'First the schema.' }),
  );
  assert.deepEqual(run.entries[0].items.map((item) => item.kind), ['thought']);
});

test('agents that work side by side keep a turn each', () => {
  // Interleaved events of two agents are kept apart by name until each has answered.
  const run = applied(
    event(1, 'agent_chunk', { agent: 'A', delta: 'a1 ', message_id: 'ma' }),
    event(2, 'agent_chunk', { agent: 'B', delta: 'b1 ', message_id: 'mb' }),
    event(3, 'agent_chunk', { agent: 'A', delta: 'a2', message_id: 'ma' }),
    event(4, 'agent_response', { agent: 'B', message: 'b1 b2', message_id: 'mb' }),
    event(5, 'agent_thinking', { agent: 'B', message: 'Another turn.' }),
  );
  assert.deepEqual(
    run.entries.map((turn) => [turn.agent, turn.items.map((item) => item.text)]),
    [['A', ['a1 a2']], ['B', ['b1 b2']], ['B', ['Another turn.']]],
  );
});

test('a tool call is one item from its start to its end', () => {
  // The end joins the start by `call_id`, and a chart in the result is read, structured or as text.
  const series = [{ name: 's', values: [1] }];
  const result = { chart: { type: 'bar', title: 'T', labels: ['a'], series, unit: 'EUR' } };
  const call = { tool_name: 'make_chart', parameters: { type: 'bar' } };
  const run = applied(
    event(1, 'tool_execution', { call_id: 'c1', status: 'started', ...call }),
    event(2, 'tool_execution', { call_id: 'c2', status: 'started', ...call }),
    event(3, 'tool_execution', { call_id: 'c2', status: 'failed', result: 'no', duration_ms: 3, ...call }),
    event(4, 'tool_execution', { call_id: 'c1', status: 'finished', result, duration_ms: 5, ...call }),
  );
  const [first, second, ...more] = run.entries[0].items;
  assert.deepEqual([first.status, first.durationMs, first.chart.labels], ['finished', 5, ['a']]);
  assert.deepEqual([second.status, second.result, second.chart], ['failed', 'no', null]);
  assert.deepEqual(more, []);
  assert.deepEqual(run.charts.map((made) => made.chart.title), ['T']);
});

const ENDS = [
  ['completed', { final_response: '# R', usage: { prompt_tokens: 1 }, duration_ms: 9 }, 'completed'],
  ['error', { error: 'model_auth' }, 'error'],
  ['cancelled', { reason: 'client' }, 'cancelled'],
];

for (const [kind, data, state] of ENDS) {
  test(`a terminal event leaves nothing open: ${kind}`, () => {
    // Turns are closed, unfinished text stays as a thought, and a tool call without an end is marked.
    const call = { tool_name: 't', parameters: {}, call_id: 'c', status: 'started' };
    const run = applied(
      event(1, 'agent_chunk', { delta: 'half', message_id: 'm1' }),
      event(2, 'tool_execution', { agent: 'Other', ...call }),
      event(3, kind, { agent: 'System', message: 'The end.', ...data }),
    );
    assert.deepEqual([run.state, run.terminal, run.openTurns.size], [state, true, 0]);
    assert.equal(run.entries[0].items[0].kind, 'thought');
    assert.equal(run.entries[1].items[0].status, 'unfinished');
  });
}

test('progress never falls, whatever arrives', () => {
  // A figure that is smaller, too large or no figure doesn't move the bar back or beyond its end.
  const steps = [25, 10, '99', 400].map((progress, i) => event(i + 1, 'agent_thinking', { progress }));
  assert.deepEqual([1, 2, 3, 4].map((n) => applied(...steps.slice(0, n)).progress), [25, 25, 25, 100]);
});

test('work that a resumed run repeats counts once', () => {
  // Events after the checkpoint are marked, their chart is gone, and the same call id starts a new call.
  const result = { chart: { type: 'pie', title: 'T', labels: ['a'], series: [{ name: '', values: [1] }] } };
  const call = { tool_name: 't', parameters: {} };
  const run = applied(
    event(1, 'agent_response', { message: 'kept' }),
    event(2, 'tool_execution', { ...call, call_id: 'c', status: 'finished', result }),
    event(3, 'tool_execution', { ...call, call_id: 'd', status: 'started' }),
    event(4, 'resumed', { agent: 'System', attempt: 2, from_id: 1 }),
    event(5, 'tool_execution', { ...call, call_id: 'c', status: 'started' }),
  );
  assert.equal(run.entries.length, 4);
  const [kept, again, notice, restarted] = run.entries;
  assert.deepEqual([kept.superseded, again.superseded, notice.kind], [undefined, true, 'notice']);
  assert.deepEqual(run.charts, []);
  assert.deepEqual(again.items.map((item) => item.status), ['finished', 'unfinished']);
  assert.equal(restarted.items[0].status, 'started');
});

const ASKED = { request_id: 'q1', schema: { type: 'string' }, deadline: '2026-11-22T10:40:00.000Z' };
const REVIEW = {
  request_id: 'q1',
  schema: { type: 'object', properties: { approve: { type: 'boolean' }, remark: { type: 'string' } } },
};

test('a question to a human is shown once and waits', () => {
  // The agent's turn ends, its text loses the question, and the request waits until its deadline.
  const run = applied(
    event(1, 'agent_response', { message: 'A plan.\n\nASK USER: Which one?', progress: 25 }),
    event(2, 'input_requested', { prompt: 'Which one?', ...ASKED }),
  );
  assert.equal(run.entries.length, 2);
  const [turn, request] = run.entries;
  assert.deepEqual([turn.open, turn.items[0].text], [false, 'A plan.']);
  assert.deepEqual([request.prompt, request.asks, request.outcome], ['Which one?', 'text', null]);
  assert.equal(run.pending.deadline, 1795344000000);
});

const SETTLED = [
  [event(3, 'input_resolved', { request_id: 'q1', outcome: 'answered', value: 'a' }), 'answered'],
  [event(3, 'input_resolved', { request_id: 'q1', outcome: 'timed_out' }), 'timed_out'],
  [event(3, 'cancelled', { reason: 'client' }), 'ended'],
  [event(3, 'resumed', { attempt: 2, from_id: 1 }), 'ended'],
];

for (const [last, outcome] of SETTLED) {
  test(`a request is settled by the event that ends it: ${last.event_type}, ${outcome}`, () => {
    // An answer, the timeout, the run's end, or a resume from before it.
    const run = applied(event(1, 'started'), event(2, 'input_requested', { prompt: 'Which?', ...ASKED }), last);
    assert.deepEqual([run.pending, run.entries[0].outcome], [null, outcome]);
  });
}

test('a report that waits for approval is a draft', () => {
  // After it is sent back, its charts are removed unless the new draft names them.
  const drawn = (title) => ({ chart: { type: 'bar', title, labels: ['a'], series: [{ values: [1] }] } });
  const charts = ['Revenue', 'Orders'].map((title, i) =>
    event(i + 1, 'tool_execution', { call_id: title, status: 'finished', result: drawn(title) }),
  );
  const returned = { request_id: 'q1', outcome: 'answered', value: { approve: false, remark: 'Shorter' } };
  const log = [
    ...charts,
    event(3, 'agent_response', { message: '# Long', progress: 100 }),
    event(4, 'input_requested', { prompt: 'Approve?', ...REVIEW }),
    event(5, 'input_resolved', returned),
    event(6, 'agent_response', { message: '# Short, with Orders' }),
    event(7, 'input_requested', { prompt: 'Approve?', ...REVIEW, request_id: 'q2' }),
  ];
  const after = (n) => applied(...log.slice(0, n));
  assert.deepEqual(
    [4, 5, 7].map((n) => [after(n).draft.text, after(n).draft.state]),
    [['# Long', 'waiting'], ['# Long', 'returned'], ['# Short, with Orders', 'waiting']],
  );
  assert.deepEqual([4, 7].map((n) => after(n).charts.length), [2, 1]);
});

const FIELDS = [
  ...['progress', 'question', 'delta', 'message_id', 'status', 'result', 'parameters', 'call_id', 'tool_name'],
  ...['usage', 'final_response', 'duration_ms', 'error', 'reason', 'from_id', 'from', 'to', 'retry_ms', 'prompt'],
  ...['request_id', 'schema', 'deadline', 'outcome', 'value', 'session_id'],
];
const KINDS = [
  ...['started', 'agent_thinking', 'agent_chunk', 'agent_response', 'tool_execution', 'completed', 'error'],
  ...['cancelled', 'resumed', 'gap', 'drain', 'input_requested', 'input_resolved'],
  ...['constructor', '__proto__', 'new_one', null, 5],
];
const CHART = { chart: { type: 'pie' } };
const HOSTILE = [null, 0, -1, '', 'x', [], {}, [[]], { toString: 1, valueOf: 2 }, CHART, 1e308, true];

test('no event makes it throw', () => {
  // Each field of each type, known or not, with values of every shape.
  const all = (names, value) => Object.fromEntries(names.map((name) => [name, value]));
  const events = KINDS.flatMap((kind) =>
    HOSTILE.flatMap((value) => [
      { event_type: kind, timestamp: value, agent_name: value, message: value, data: value },
      { event_type: kind, data: all(FIELDS, value) },
      {
        event_type: kind,
        data: { status: 'finished', result: { chart: all(['type', 'labels', 'series'], value) } },
      },
    ]),
  );
  const numbered = events.map((one, i) => ({ ...one, id: i + 1 }));
  assert.equal(numbered.length, 18 * 12 * 3);
  assert.equal(applied(...numbered).count, numbered.length);
});
