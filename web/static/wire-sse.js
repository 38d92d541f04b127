// Runs over HTTP: a POST whose response is the stream, and GETs that resume from a cursor.

import { request as ask } from './sign-in.js';
import { SseDecoder } from './sse.js';
import { askOf, eventOf, readFrame, refusal, WireError } from './wire.js';

/** See wire.js. */
export async function connect(request, on, signal) {
  const response = await send(request, signal);
  if (response.status === 204) return 'finished';
  if (!response.ok) throw await refusal(response);
  on.opened(response.headers.get('X-Run-Id') ?? request.runId ?? null);
  const decoder = new SseDecoder();
  const reader = response.body.getReader();
  try {
    for (;;) {
      const { value, done } = await read(reader, signal);
      if (done) return 'closed';
      on.alive();
      for (const block of decoder.push(value)) deliver(block, on);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

async function read(reader, signal) {
  try {
    return await reader.read();
  } catch {
    throw signal.aborted ? signal.reason : new WireError('connection_lost', 'The connection was lost.');
  }
}

async function send(request, signal) {
  try {
    return await ask(...address(request, signal));
  } catch {
    throw signal.aborted ? signal.reason : new WireError('unreachable', 'The server can’t be reached.');
  }
}

function address(request, signal) {
  const stream = { Accept: 'text/event-stream' };
  if (request.test) return ['test-stream', { headers: stream, signal, cache: 'no-store' }];
  if (request.runId) {
    const path = `runs/${encodeURIComponent(request.runId)}/events?after=${request.after}&tokens=true`;
    return [path, { headers: stream, signal, cache: 'no-store' }];
  }
  const headers = { ...stream, 'Content-Type': 'application/json', 'Idempotency-Key': request.key };
  return ['ask-stream', { method: 'POST', headers, body: JSON.stringify(askOf(request)), signal }];
}

function deliver(block, on) {
  if (block.data !== null) {
    const event = eventOf(readFrame(block.data));
    if (event !== null) on.event(event);
  } else if (/^[0-9]+$/.test(block.id ?? '')) {
    on.cursor(Number(block.id));
  }
}
