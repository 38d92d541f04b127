// Follows one run to its end, over either wire, through any number of connections.
//
// The run's cursor decides what is new: events seen before are dropped, and a gap in the ids ends the connection, so
// that the next one asks for the missing events. A gap that is still there at the third try is accepted and shown.

import { advanceCursor, apply, classify } from './run.js';
import { backoff, WireError } from './wire.js';

const SILENCE = 40_000; // milliseconds: the server sends a heartbeat every 15 s, and two may be lost
const GAP_TRIES = 3;

export class Viewer {
  #run;
  #wires;
  #via;
  #on;
  #attempt = 0;
  #lastGap = { at: -1, tries: 0 };
  #abort = new AbortController();
  #wake = () => {};
  #left = false;
  #switching = false;
  #opened = false;
  #drainWait = null;
  #silence = 0;

  /**
   * @param run the events are applied to it, see run.js
   * @param wires {name: connect}, see wire.js
   * @param via the name of the wire to begin with
   * @param on changed() after each event, opened() once the run's id is known, link(state) when the connection changes:
   *   {state: 'connecting' | 'live' | 'waiting' | 'ended' | 'failed', via, error?, wait?}
   */
  constructor(run, wires, via, on) {
    this.#run = run;
    this.#wires = wires;
    this.#via = via;
    this.#on = on;
  }

  /** Resolves when the run has ended, when it can't be followed, or after `leave()`. */
  async follow(request) {
    while (!this.#left) {
      const error = await this.#connection(request);
      if (this.#left) return;
      if (this.#run.terminal || error === null) return this.#notify('ended');
      // After a lost connection the question is sent again, since its key joins the same run. After a refusal it isn't.
      if (error.fatal || (error.refused && !this.#run.id)) return this.#notify('failed', { error });
      await this.#pause(error);
      if (this.#run.id) request = { runId: this.#run.id, after: this.#run.cursor };
    }
  }

  /** Continue over another wire from the same cursor. Until the first connection opens, only the next one uses it. */
  switchTo(via) {
    this.#via = via;
    if (!this.#opened) return;
    this.#switching = true;
    this.#abort.abort(new DOMException('switched', 'AbortError'));
    this.#wake();
  }

  /** End the wait between two connections. */
  retryNow() {
    this.#wake();
  }

  leave() {
    this.#left = true;
    this.#abort.abort(new DOMException('left', 'AbortError'));
    this.#wake();
  }

  /** Open one connection, and return the error that ended it, or null if the log is complete. */
  async #connection(request) {
    this.#abort = new AbortController();
    this.#switching = false;
    this.#notify('connecting');
    this.#listen();
    try {
      const ending = await this.#wires[this.#via](request, this.#handlers(), this.#abort.signal);
      return ending === 'finished' ? null : new WireError('connection_closed', 'The connection was closed.');
    } catch (error) {
      if (this.#abort.signal.aborted) return this.#abort.signal.reason;
      if (error instanceof WireError) return error;
      throw error;
    } finally {
      clearTimeout(this.#silence);
    }
  }

  #handlers() {
    return {
      opened: (runId) => this.#open(runId),
      event: (event) => this.#event(event),
      cursor: (id) => advanceCursor(this.#run, id),
      alive: () => this.#listen(),
    };
  }

  #open(runId) {
    this.#run.id ??= runId;
    this.#notify('live');
    if (this.#opened) return;
    this.#opened = true;
    this.#on.opened();
  }

  #event(event) {
    if (event.event_type === 'drain') this.#drainWait = event.data?.retry_ms ?? null;
    const place = classify(this.#run, event);
    if (place === 'seen') return;
    if (place === 'gap') this.#gap(event.id);
    apply(this.#run, event);
    this.#attempt = 0;
    this.#on.changed();
    if (this.#run.terminal) this.#abort.abort(new DOMException('ended', 'AbortError'));
  }

  #gap(id) {
    const { cursor } = this.#run;
    const tries = this.#lastGap.at === cursor ? this.#lastGap.tries + 1 : 1;
    this.#lastGap = { at: cursor, tries };
    if (tries < GAP_TRIES) throw new WireError('gap', 'Some events were missing.');
    apply(this.#run, gapNotice(cursor + 1, id - 1));
  }

  #listen() {
    clearTimeout(this.#silence);
    const dead = new WireError('silent', 'The connection went silent.');
    this.#silence = setTimeout(() => this.#abort.abort(dead), SILENCE);
  }

  async #pause(error) {
    if (this.#switching) return;
    const wait = this.#drainWait ?? error.retryAfter ?? backoff(this.#attempt);
    if (this.#drainWait !== null) error = new WireError('draining', 'The server is shutting down.');
    this.#drainWait = null;
    this.#attempt += 1;
    this.#notify('waiting', { error, wait });
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, wait);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #notify(state, more = {}) {
    this.#on.link({ state, via: this.#via, ...more });
  }
}

/** The page's own notice of events that no connection delivered. */
function gapNotice(from, to) {
  return { event_type: 'gap', message: '', data: { from, to, reason: 'missing' } };
}
