// One run on the page: its viewer, and the parts of the page that show it.

import { Bar } from './bar.js';
import { byId } from './dom.js';
import { leavePlace, writePlace } from './place.js';
import { RawEvents } from './raw.js';
import { Report } from './report.js';
import { newRun } from './run.js';
import { request } from './sign-in.js';
import { Timeline } from './timeline.js';
import { Viewer } from './viewer.js';
import { connect as sse } from './wire-sse.js';
import { connect as ws } from './wire-ws.js';
import { refusal } from './wire.js';

const WIRES = { sse, ws };
const FRAME_TIMEOUT = 250; // milliseconds after which it draws without a frame: a hidden tab gets none

export class Watch {
  #run;
  #via;
  #viewer;
  #parts;
  #bar;
  #report;
  #page;
  #session = '';
  #timeline;
  #due = false;
  #frame = 0;
  #timer = 0;
  #left = false;
  #stopping = false;

  /**
   * @param request the first request, see wire.js
   * @param page via: the transport; text: the question to show until the run has one;
   *   ask(text); repeatRequest(), queue(), inNewSession(): repeat the request as it was, behind the session's other
   *   runs (queue is null if it was queued already), or in a new session; opened(): the run is known; session(): its
   *   session is known; changed(): lists are out of date
   */
  constructor(request, page) {
    this.#run = newRun(request.runId ?? null, page.text);
    this.#run.queued = request.ifBusy === 'queue';
    this.#via = page.via;
    this.#page = page;
    this.#bar = new Bar(this.#run);
    this.#report = new Report(byId('report'), this.#run, {
      askAgain: () => page.ask(this.#run.question),
      retry: page.repeatRequest,
      queue: page.queue,
      inNewSession: page.inNewSession,
    });
    this.#timeline = new Timeline(byId('timeline'), byId('timeline-pane'), this.#run, showReport);
    this.#parts = [this.#timeline, this.#bar, this.#report, new RawEvents(this.#run)];
    this.#viewer = new Viewer(this.#run, request.test ? { ...WIRES, [page.via]: sse } : WIRES, page.via, {
      changed: () => this.#schedule(),
      opened: () => this.#opened(),
      link: (link) => this.#link(link),
    });
    byId('run').hidden = false;
    this.#schedule();
    this.#viewer.follow(request);
  }

  get run() {
    return this.#run;
  }

  get runId() {
    return this.#run.id;
  }

  switchTo(via) {
    if (via === this.#via) return;
    this.#via = via;
    if (this.#run.id) writePlace(this.#run.id, via);
    if (!this.#run.terminal) this.#viewer.switchTo(via);
  }

  retryNow() {
    this.#viewer.retryNow();
  }

  showRequest() {
    this.#timeline.showRequest();
  }

  leave() {
    this.#left = true;
    this.#viewer.leave();
    this.#bar.leave();
  }

  /** Ask the server to end the run. The outcome arrives as an event, for every viewer. */
  async stop() {
    this.#stopping = true;
    this.#bar.stopping(true);
    if (!this.#run.id) return; // no id yet: `#opened` calls again
    const path = `runs/${encodeURIComponent(this.#run.id)}/cancel`;
    const response = await request(path, { method: 'POST' }).catch(() => null);
    if (response?.ok) return;
    this.#stopping = false;
    this.#bar.stopping(false);
    this.#bar.setActivity(response ? (await refusal(response)).message : 'Stop did not reach the server. Try again.');
  }

  #opened() {
    if (this.#run.id) writePlace(this.#run.id, this.#via);
    if (this.#stopping) this.stop();
    this.#page.opened();
  }

  #link(link) {
    if (this.#left) return;
    this.#bar.link(link);
    if (link.state === 'failed') this.#fail(link.error);
    if (link.state === 'ended') this.#page.changed();
  }

  /** A refused question has no address, and the address must not keep naming the previous run. */
  #fail(error) {
    if (!this.#run.id) leavePlace();
    this.#report.fail(error);
  }

  #schedule() {
    if (this.#due) return;
    this.#due = true;
    this.#frame = requestAnimationFrame(() => this.#draw());
    this.#timer = setTimeout(() => this.#draw(), FRAME_TIMEOUT);
  }

  #sessionKnown() {
    this.#session = this.#run.sessionId;
    this.#page.session();
  }

  #draw() {
    cancelAnimationFrame(this.#frame); // the frame or the timer called; the other must not draw again
    clearTimeout(this.#timer);
    this.#due = false;
    if (this.#left) return;
    if (this.#session !== this.#run.sessionId) this.#sessionKnown();
    const more = this.#parts.map((part) => part.draw()).some(Boolean);
    if (more) this.#schedule();
  }
}

function showReport() {
  byId('report').scrollIntoView({ block: 'start' });
  byId('report').focus({ preventScroll: true });
}
