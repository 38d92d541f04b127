// A run as the page knows it: what its events add up to. No DOM, no clock, no I/O.
//
// `apply` changes the run in place, since a run may have 10,000 events, and notes in `run.touched` which parts of the
// timeline must be drawn again. The timeline is a list of turns and notices; a turn belongs to one agent and holds
// items: thoughts, text as it is being written (`live`), answers and tool calls. Agents may work side by side: each
// has a turn of its own that stays open until it responds. What a human is asked is an entry of its own (`request`).

import { readChart } from './chart-spec.js';
import { inWords, kindOf } from './input-kind.js';

const KEPT_LINES = 300; // of the raw events, for the panel that shows them

export function newRun(id = null, question = '') {
  return {
    id,
    question,
    sessionId: '',
    queued: false, // asked to wait for its turn in the session
    model: '',
    state: 'starting',
    terminal: false,
    cursor: 0,
    gapEnd: 0,
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
    draft: null, // {text, state, item}: a report that a human reviews, 'waiting', 'approved', 'returned' or 'unseen'
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

/** Where an event stands for this run: 'notice' (beside the log), 'new', 'seen' or 'gap'. */
export function classify(run, event) {
  if (!Number.isInteger(event.id)) return 'notice';
  if (event.id <= run.cursor) return 'seen';
  return event.id === run.cursor + 1 || event.id <= run.gapEnd + 1 ? 'new' : 'gap';
}

/** Moves the cursor over events that this viewer isn't sent. */
export function advanceCursor(run, id) {
  run.cursor = Math.max(run.cursor, id);
}

/** Takes one event in. Whatever an event holds, this never throws. */
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

// A Map, not an object: an event type called "constructor" must find nothing here.
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
  ['drain', (run, seen) => notice(run, seen, 'This server is going away. The page goes on by itself as soon as it is back.')],
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
  // A thought that was streamed comes again as a whole.
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
  for (const turn of run.openTurns.values()) close(run, turn, seen); // the team stops until somebody has answered
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

/** A question stands in the agent's own words as well: it is told once, where it can be answered. */
function hidePrompt(run, prompt) {
  const item = answers(run).at(-1);
  const at = item && prompt ? item.text.lastIndexOf(prompt) : -1;
  if (at < 0) return;
  const before = item.text.slice(0, item.text.lastIndexOf('\n', at) + 1).trim();
  change(run, item, before ? { text: before } : { kind: 'thought', text: 'Has a question, below.' });
}

/** What was answered last is the draft, and is read where the report will stand. */
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
  run.activity = outcome === 'answered' ? 'The team goes on with the answer' : 'Nobody answered in time';
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

/** A chart of a draft that was sent back stays only where the new text still names it. */
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

/** The calls that nobody will hear of any more. */
function endCalls(run) {
  for (const call of run.calls.values()) if (call.status === 'started') change(run, call, { status: 'unfinished' });
}

/** What was published after `from_id` is done again: it stays visible, but counts no longer. */
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
  run.activity = 'The run goes on after an interruption';
  notice(run, seen, seen.message || 'The run goes on from its last checkpoint.');
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

/** Ends an agent's turn: text that was still being written stays as a thought. */
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
