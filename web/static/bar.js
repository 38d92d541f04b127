// The bar above a run: question, progress, activity and connection.

import { byId } from './dom.js';
import { offset, plural, shorten } from './format.js';

const WIRE_NAMES = { sse: 'SSE', ws: 'WebSocket' };
const MARKS = { completed: '✓ ', error: '✗ ', cancelled: '■ ' };
const WAITING_MARK = '? '; // in the tab's title: the team waits for an answer
const STEPS = ['PlanningAgent', 'DataAgent', 'AnalysisAgent', 'ReportAgent'];
const OFFLINE =
  'No language model is used: fixed rules query the real database and write the report. Set OPENAI_API_KEY to use one.';

export class Bar {
  #run;
  #drawnAt = performance.now();
  #drawnCount = 0;
  #clock;

  constructor(run) {
    this.#run = run;
    this.#clock = setInterval(() => this.#tick(), 1000);
    this.stopping(false);
    this.link({ state: 'connecting', via: 'sse' });
  }

  draw() {
    const { count, question, progress, state, terminal, activity, pending } = this.#run;
    if (count !== this.#drawnCount) [this.#drawnCount, this.#drawnAt] = [count, performance.now()];
    byId('run-title').textContent = question;
    document.title = `${pending ? WAITING_MARK : (MARKS[state] ?? '')}${shorten(question, 60) || 'Run'} – askstream`;
    byId('bar').className = `bar is-${pending ? 'waiting' : state}`;
    byId('progress').setAttribute('aria-valuenow', progress);
    byId('progress').firstElementChild.style.width = `${progress}%`;
    byId('stop').hidden = terminal;
    byId('answer').hidden = pending === null;
    byId('share').hidden = this.#run.id === null;
    this.#steps();
    this.#model();
    this.setActivity(activity);
    this.#tick();
    if (terminal) clearInterval(this.#clock);
  }

  leave() {
    clearInterval(this.#clock);
  }

  /** Changes the text only if it differs: a screen reader reads a live region again when it is set. */
  setActivity(words) {
    const activity = byId('activity');
    if (activity.textContent !== words) activity.textContent = words;
  }

  stopping(yes) {
    byId('stop').disabled = yes;
    byId('stop').textContent = yes ? 'Stopping…' : 'Stop';
  }

  /** @param link see viewer.js */
  link({ state, via, error, wait }) {
    const name = WIRE_NAMES[via];
    const words = {
      connecting: () => `Connecting over ${name}…`,
      live: () => `Live over ${name}`,
      waiting: () => `${error?.message ?? ''} ${wait < 1000 ? 'Trying again.' : `Trying again in ${Math.round(wait / 1000)} s.`}`,
      ended: () => `All ${plural(this.#run.count, 'event')} received over ${name}`,
      failed: () => 'Not connected',
    };
    byId('link').className = `link-state is-${state}`;
    byId('link-text').textContent = words[state]();
    byId('reconnect').hidden = state !== 'waiting';
    if (state === 'failed') this.#failed();
  }

  #failed() {
    clearInterval(this.#clock);
    byId('stop').hidden = true;
    this.setActivity('');
  }

  /** The steps of the bundled team; another team's agents have names and steps of their own. */
  #steps() {
    const { agents, progress } = this.#run;
    byId('steps').hidden = !STEPS.some((name) => agents.has(name));
    for (const [i, step] of [...byId('steps').children].entries()) step.className = progress >= 25 * (i + 1) ? 'done' : '';
  }

  #model() {
    const { model } = this.#run;
    byId('model').hidden = model === '';
    byId('model-name').textContent = model;
    byId('model-note').textContent = model.startsWith('offline-analyst') ? OFFLINE : '';
  }

  #tick() {
    const { startedAt, lastAt, terminal } = this.#run;
    const since = terminal ? 0 : performance.now() - this.#drawnAt;
    byId('elapsed').textContent = startedAt === null ? '' : offset(lastAt - startedAt + since);
  }
}
