// Runs over a WebSocket: one ask or subscribe, its reply, then the same envelopes as on every transport.

import { checkAccess } from './sign-in.js';
import { askOf, eventOf, readFrame, replyRefusal, WireError } from './wire.js';

const PROTOCOL = 'askstream.v1';
const FIRST_FATAL_CLOSE = 4500; // close codes from here on mean: don't reconnect

/** See wire.js. */
export function connect(request, on, signal) {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(address(), PROTOCOL);
    const finish = (settle, value) => {
      signal.removeEventListener('abort', abort);
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close(1000);
      settle(value);
    };
    const abort = () => finish(reject, signal.reason);
    signal.addEventListener('abort', abort);
    let opened = false;
    socket.onopen = () => {
      opened = true;
      socket.send(JSON.stringify(command(request)));
    };
    socket.onclose = async (close) => {
      if (!opened) await checkAccess(signal);
      finish(...ending(close, resolve, reject));
    };
    socket.onmessage = (message) => {
      try {
        on.alive();
        handleFrame(readFrame(message.data), request, on);
      } catch (error) {
        finish(reject, error);
      }
    };
  });
}

function address() {
  const url = new URL('ws', document.baseURI);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  return url.href;
}

function command(request) {
  return request.runId
    ? { type: 'subscribe', ref: 1, run_id: request.runId, after: request.after, tokens: true }
    : { type: 'ask', ref: 1, ...askOf(request), idempotency_key: request.key };
}

function handleFrame(frame, request, on) {
  const event = eventOf(frame);
  if (event !== null) on.event(event);
  else if (frame?.reply?.ok === false) throw replyRefusal(frame.reply.error);
  else if (frame?.reply?.ref === 1) on.opened(frame.reply.run_id ?? request.runId);
}

function ending(close, resolve, reject) {
  if (close.code >= FIRST_FATAL_CLOSE) {
    const message = close.reason || 'The server closed the connection permanently.';
    return [reject, new WireError(`closed_${close.code}`, message, { refused: true, fatal: true })];
  }
  if (close.code === 1000) return [resolve, 'closed'];
  return [reject, new WireError('connection_lost', 'The connection was lost.')];
}
