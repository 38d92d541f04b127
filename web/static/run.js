// The state of a run, as its events add up to it. No DOM, no clock, no I/O.
//
// `apply` changes the run in place, since a run may have 10,000 events, and adds to `run.touched` the parts of the
// timeline that must be redrawn. The timeline is a list of turns, notices and requests (questions to a human). A turn
// belongs to one agent and has items: thoughts, text that is being written (`live`), answers and tool calls. Agents may
// work in parallel: each has its own turn, open until it responds.

import { readChart } from './chart-spec.js';
import { inWords, kindOf } from './input-kind.js';

const KEPT_LINES = 300; // raw events kept for the panel "Raw events"

export function newRun(id = null, question = '') {
  return {
    id,
    question,
    sessionId: '',
    queued: false, // `if_busy: queue`: the run starts after the session's earlier runs
    model: '',
    state: 'starting',
    terminal: false,
    cursor: 0,
    gapEnd: 0, // the last id of the newest announced gap
    progress: 0,
    activity: '',
    startedAt: null,
    lastAt: null,
    count: 0,
    lines: [],
    entries: [],
    touched: new Set(),
    charts: [],
    agents: new Map(),
    requests: new Map(),
    pending: null, // the request that waits for an answer
    draft: null, // {text, state, item}: a report under review, 'waiting', 'approved', 'returned' or 'unseen'
    report: null,
    usage: null,
    durationMs: null,
    messages: null,
    error: null,
    reason: null,
    openTurns: new Map(),
    calls: new Map(),
    nextKey: 0,
  };
}

/** Return 'notice' (an event without an id), 'new', 'seen', or 'gap' if ids before it are missing. */
export function classify(run, event) {
  if (!Number.isInteger(event.id)) return 'notice';
  if (event.id <= run.cursor) return 'seen';
  return event.id === run.cursor + 1 || event.id <= run.gapEnd + 1 ? 'new' : 'gap';
}

/** Move the cursor past events that this viewer's filter excludes. */
export function advanceCursor(run, id) {
  run.cursor = Math.max(run.cursor, id);
}

/** Apply one event. Never throws, whatever the event contains. */
export function apply(run, event) {
  const data = isObject(event.data) ? event.data : {};
  const at = Date.parse(text(event.timestamp));
  const seen = {
    id: Number.isInteger(event.id) ? event.id : 0,
    type: text(event.event_type),
    agent: text(event.agent_name),
    message: text(event.message),
    at: Number.isNaN(at) ? run.lastAt : at,
    data,
  };
  if (seen.id > 0) recordEvent(run, event, seen);
  if (typeof data.progress === 'number') run.progress = Math.max(run.progress, Math.min(100, data.progress));
  (EVENTS.get(seen.type) ?? unknown)(run, seen);
}

function recordEvent(run, event, seen) {
  run.id ??= text(event.run_id) || null;
  run.cursor = seen.id;
  run.count += 1;
  run.lastAt = seen.at;
  run.startedAt ??= seen.at;
  if (run.state === 'starting') run.state = 'running';
  run.lines.push(event);
  if (run.lines.length > 2 * KEPT_LINES) run.lines.splice(0, KEPT_LINES);
}

// A Map, not an object: the event type "constructor" must find nothing here.
const EVENTS = new Map([
  ['started', started],
  ['agent_thinking', thinking],
  ['agent_chunk', chunk],
  ['agent_response', response],
  ['tool_execution', tool],
  ['completed', completed],
  ['error', failed],
  ['cancelled', cancelled],
  ['resumed', resumed],
  ['gap', gap],
  ['drain', (run, seen) => notice(run, seen, 'This server is shutting down. The page reconnects as soon as it is back.')],
  ['input_requested', requested],
  ['input_resolved', resolved],
]);

function started(run, seen) {
  run.question = text(seen.data.question) || run.question;
  run.model = text(seen.data.model);
  run.sessionId = text(seen.data.session_id);
  run.activity = run.queued ? 'Waiting for its turn in the conversation' : 'The team is getting ready';
}

function thinking(run, seen) {
  const turn = turnOf(run, seen);
  const last = turn.items.at(-1);
  run.activity = `${seen.agent} is thinking`;
  // A streamed thought is followed by the whole thought.
  if (last?.kind === 'live' && last.text.trim() === seen.message.trim()) change(run, last, { kind: 'thought' });
  else if (seen.message && last?.text !== seen.message) add(run, turn, seen, { kind: 'thought', text: seen.message });
}

function chunk(run, seen) {
  const turn = turnOf(run, seen);
  const messageId = text(seen.data.message_id);
  const delta = text(seen.data.delta);
  const live = turn.items.findLast((item) => item.kind === 'live' && item.messageId === messageId);
  run.activity = `${seen.agent} is writing`;
  if (live) change(run, live, { text: live.text + delta });
  else add(run, turn, seen, { kind: 'live', text: delta, messageId });
}

function response(run, seen) {
  const turn = turnOf(run, seen);
  const messageId = text(seen.data.message_id);
  const matches = (item) => !messageId || item.messageId === messageId || item.text === seen.message;
  const live = turn.items.findLast((item) => item.kind === 'live' && matches(item));
  if (live) change(run, live, { kind: 'answer', text: seen.message });
  else add(run, turn, seen, { kind: 'answer', text: seen.message });
  close(run, turn, seen);
  run.activity = `${seen.agent} has answered`;
}

function tool(run, seen) {
  const { status, tool_name: name, call_id: callId, parameters, result, duration_ms: durationMs } = seen.data;
  const known = run.calls.get(callId);
  const now = { status: text(status), result, durationMs };
  const call = known && !known.superseded && now.status !== 'started' ? known : null;
  const item = call ?? add(run, turnOf(run, seen), seen, { kind: 'tool', name: text(name), parameters, ...now });
  if (call) change(run, call, now);
  run.calls.set(callId, item);
  const chart = now.status === 'finished' ? readChart(result) : null;
  if (chart) run.charts.push({ key: item.key, id: seen.id, chart });
  item.chart = chart;
  run.activity = `${seen.agent} ${now.status === 'started' ? 'is using' : 'has used'} ${item.name}`;
}

function requested(run, seen) {
  const { request_id: requestId, prompt, schema, deadline } = seen.data;
  for (const turn of run.openTurns.values()) close(run, turn, seen); // the team waits for the answer
  const until = Date.parse(text(deadline));
  const asks = kindOf(schema);
  const words = text(prompt) || seen.message;
  const fields = { requestId: text(requestId), prompt: words, schema, asks, deadline: Number.isNaN(until) ? null : until };
  const request = newEntry(run, seen, { kind: 'request', ...fields, outcome: null, value: null });
  run.entries.push(request);
  run.touched.add(request);
  run.requests.set(request.requestId, request);
  run.pending = request;
  if (asks === 'review') review(run);
  else hidePrompt(run, words);
  run.activity = asks === 'review' ? 'The report waits for your approval' : `${seen.agent} waits for your answer`;
}

/** Remove the question from the agent's text: it is shown once, with its form. */
function hidePrompt(run, prompt) {
  const item = answers(run).at(-1);
  const at = item && prompt ? item.text.lastIndexOf(prompt) : -1;
  if (at < 0) return;
  const before = item.text.slice(0, item.text.lastIndexOf('\n', at) + 1).trim();
  change(run, item, before ? { text: before } : { kind: 'thought', text: 'Asks the question below.' });
}

/** The last answer is the draft, shown in the place of the report. */
function review(run) {
  const item = answers(run).at(-1);
  run.draft = { text: item?.text ?? '', state: 'waiting', item };
  keepCharts(run, run.draft.text);
  if (item) change(run, item, { isReport: true });
}

function resolved(run, seen) {
  const request = run.requests.get(text(seen.data.request_id));
  if (!request || request.outcome !== null) return notice(run, seen, seen.message);
  const outcome = text(seen.data.outcome) || 'answered';
  settle(run, request, outcome, seen.data.value);
  run.activity = outcome === 'answered' ? 'The team continues with the answer' : 'Nobody answered in time';
}

function settle(run, request, outcome, value = null) {
  change(run, request, { outcome, value });
  if (run.pending === request) run.pending = null;
  if (request.asks !== 'review') return;
  const state = outcome === 'answered' ? inWords('review', value).as : 'unseen';
  run.draft = { ...run.draft, state };
  if (state !== 'returned') return;
  for (const chart of run.charts) chart.returned = true;
  if (run.draft.item) change(run, run.draft.item, { isReport: false });
}

/** Keep a chart of a returned draft only if the new text names it. */
function keepCharts(run, words) {
  run.charts = run.charts.filter(({ returned, chart }) => !returned || (chart.title !== '' && words.includes(chart.title)));
}

function answers(run) {
  return run.entries.flatMap((entry) => entry.items).filter((item) => item.kind === 'answer');
}

function completed(run, seen) {
  run.report = text(seen.data.final_response);
  keepCharts(run, run.report);
  run.messages = number(seen.data.total_messages);
  run.durationMs = number(seen.data.duration_ms);
  run.usage = isObject(seen.data.usage) ? seen.data.usage : null;
  run.progress = 100;
  finish(run, seen, 'completed', 'The report is ready');
  const last = answers(run).findLast((item) => item.text === run.report && item.text !== '');
  if (last) change(run, last, { isReport: true });
}

function failed(run, seen) {
  run.error = { code: text(seen.data.error) || 'error', message: seen.message };
  finish(run, seen, 'error', 'The run failed');
}

function cancelled(run, seen) {
  run.reason = text(seen.data.reason);
  finish(run, seen, 'cancelled', 'The run was stopped');
}

function finish(run, seen, state, activity) {
  run.state = state;
  run.terminal = true;
  run.activity = activity;
  for (const turn of run.openTurns.values()) close(run, turn, seen);
  if (run.pending) settle(run, run.pending, 'ended');
  endCalls(run);
  notice(run, { ...seen, data: {} }, activity);
}

/** Mark the calls whose end will never arrive. */
function endCalls(run) {
  for (const call of run.calls.values()) if (call.status === 'started') change(run, call, { status: 'unfinished' });
}

/** The team repeats its work after `from_id`: the old events stay visible, but no longer count. */
function resumed(run, seen) {
  const from = number(seen.data.from_id) ?? seen.id;
  for (const turn of run.openTurns.values()) close(run, turn, seen);
  endCalls(run);
  for (const entry of run.entries) {
    if (entry.id > from) change(run, entry, { superseded: true });
    for (const item of entry.items) if (item.id > from) change(run, item, { superseded: true });
  }
  run.charts = run.charts.filter((chart) => chart.id <= from);
  if (run.pending?.superseded) settle(run, run.pending, 'ended');
  run.activity = 'The run continues after an interruption';
  notice(run, seen, seen.message || 'The run continues from its last checkpoint.');
}

function gap(run, seen) {
  const [from, to] = [number(seen.data.from), number(seen.data.to)];
  if (to !== null) run.gapEnd = Math.max(run.gapEnd, to);
  notice(run, seen, `Events ${from} to ${to} are gone.`);
}

function unknown(run, seen) {
  notice(run, seen, seen.message);
}

function notice(run, seen, words) {
  const entry = newEntry(run, seen, { kind: 'notice', text: words, data: seen.data });
  run.entries.push(entry);
  run.touched.add(entry);
}

function turnOf(run, seen) {
  const open = run.openTurns.get(seen.agent);
  if (open) return open;
  if (!run.agents.has(seen.agent)) run.agents.set(seen.agent, run.agents.size);
  const turn = newEntry(run, seen, { kind: 'turn', number: run.agents.get(seen.agent), open: true });
  run.openTurns.set(seen.agent, turn);
  run.entries.push(turn);
  run.touched.add(turn);
  return turn;
}

/** End an agent's turn. Unfinished text stays as a thought. */
function close(run, turn, seen) {
  for (const item of turn.items) if (item.kind === 'live') change(run, item, { kind: 'thought' });
  change(run, turn, { open: false, endedAt: seen.at });
  run.openTurns.delete(turn.agent);
}

function newEntry(run, seen, fields) {
  return { key: ++run.nextKey, id: seen.id, type: seen.type, agent: seen.agent, at: seen.at, items: [], ...fields };
}

function add(run, turn, seen, fields) {
  const item = { key: ++run.nextKey, id: seen.id, turn, at: seen.at, ...fields };
  turn.items.push(item);
  run.touched.add(item);
  return item;
}

function change(run, part, fields) {
  Object.assign(part, fields);
  run.touched.add(part);
}

function isObject(value) {
  return value !== null && typeof value === 'object' && !Array.isArray(value);
}

function text(value) {
  if (typeof value === 'string') return value;
  return typeof value === 'number' || typeof value === 'boolean' ? String(value) : '';
}

function number(value) {
  return typeof value === 'number' && Number.isFinite(value) ? value : null;
}
