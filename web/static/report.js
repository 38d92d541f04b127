// The report of a run: charts as they are made, the text once the run has ended, then time and tokens.

import { chartFigure } from './chart.js';
import { copyButton, el } from './dom.js';
import { duration, number } from './format.js';
import { markdown } from './markdown.js';

const REASONS = {
  client: 'Somebody stopped the run.',
  orphaned: 'The run had no viewer for too long.',
  timeout: 'The run reached its time limit.',
  shutdown: 'The server shut down.',
};

const BUSY = 'This conversation is still busy with an earlier question.';
const DRAFTS = {
  waiting: 'It becomes the report once you approve it.',
  approved: 'It was approved.',
  returned: 'It was sent back and is being rewritten.',
  unseen: 'Nobody answered in time.',
};

export class Report {
  #root;
  #run;
  #actions;
  #charts = el('div', { class: 'charts' });
  #body = el('div', { class: 'report-body' });
  #drawn = new Set();
  #draft = null;
  #ended = false;

  /** @param root the section to draw into  @param actions {askAgain(), retry(), queue(), inNewSession()}, see watch.js */
  constructor(root, run, actions) {
    this.#run = run;
    this.#actions = actions;
    const title = el('h2', { id: 'report-title' }, 'Report');
    this.#body.append(el('p', { class: 'none waiting' }, 'The report appears here when the team has finished.'));
    this.#root = root;
    root.replaceChildren(title, this.#charts, this.#body);
  }

  draw() {
    this.#drawCharts();
    if (this.#ended) return;
    if (!this.#run.terminal) return this.#drawDraft();
    this.#ended = true;
    this.#root.querySelector('h2').after(this.#charts); // out of the draft, which is removed next
    this.#body.replaceChildren(...this.#ending());
  }

  /** Show a report under review, before it is final. */
  #drawDraft() {
    const { draft } = this.#run;
    if (draft === this.#draft || !draft?.text) return;
    this.#draft = draft;
    const note = el('p', { class: `draft is-${draft.state}` }, el('b', {}, 'Draft. '), DRAFTS[draft.state]);
    this.#body.replaceChildren(note, this.#illustrated(markdown(draft.text)));
  }

  /** Show why the run can't be followed, with buttons for what to do. */
  fail(error) {
    const { retry, queue, inNewSession } = this.#actions;
    const button = (words, onclick, kind) => el('button', { type: 'button', class: kind, onclick }, words);
    const busy = error.code === 'session_busy';
    const message = busy && queue ? BUSY : error.message; // the server's sentence is for programs
    const first = busy && queue ? button('Ask it when that is done', queue, 'primary') : button('Try again', retry, 'primary');
    const second = busy && button('Ask it in a new conversation', inNewSession, 'quiet');
    this.#body.replaceChildren(trouble(error.code, message, first, second));
  }

  #drawCharts() {
    const current = new Set(this.#run.charts.map((chart) => chart.key));
    for (const figure of [...this.#charts.children]) if (!current.has(Number(figure.dataset.key))) figure.remove();
    for (const { key, chart } of this.#run.charts) {
      if (this.#drawn.has(key)) continue;
      this.#drawn.add(key);
      const figure = chartFigure(chart);
      figure.dataset.key = key;
      this.#charts.append(figure);
    }
  }

  #ending() {
    const { state, report, error, reason } = this.#run;
    if (state === 'completed') return [this.#illustrated(markdown(report)), this.#facts(), this.#tools(report)];
    const askAgain = el('button', { type: 'button', class: 'primary', onclick: this.#actions.askAgain }, 'Ask again');
    if (state === 'error') return [trouble(error.code, error.message, askAgain), this.#facts()];
    const why = REASONS[reason] ?? 'The run was stopped.';
    return [trouble('cancelled', why, askAgain), this.#facts()];
  }

  /** Put the charts after the report's introduction, before its first section. */
  #illustrated(prose) {
    const [, section] = prose.querySelectorAll(':scope > :is(h2, h3)');
    if (section) section.before(this.#charts);
    else prose.append(this.#charts);
    return prose;
  }

  #tools(report) {
    const name = `report-${this.#run.id?.slice(0, 8) ?? 'run'}.md`;
    const download = el('button', { type: 'button', class: 'quiet', onclick: () => save(name, report) }, 'Download .md');
    return el('div', { class: 'row' }, copyButton('Copy Markdown', () => report), download);
  }

  #facts() {
    const { model, durationMs, messages, usage, count, startedAt, lastAt } = this.#run;
    const took = durationMs ?? (startedAt === null ? null : lastAt - startedAt);
    const facts = [
      ['Model', model],
      ['Time', took === null ? '' : duration(took)],
      ['Messages', messages === null ? '' : number(messages)],
      ['Tokens', usage ? tokens(usage) : ''],
      ['Events', number(count)],
    ].filter(([, value]) => value);
    return el('dl', { class: 'facts' }, facts.map(([name, value]) => el('div', {}, el('dt', {}, name), el('dd', {}, value))));
  }
}

function tokens(usage) {
  const { prompt_tokens: read = null, completion_tokens: written = null } = usage;
  if (read === null || written === null) return 'not counted';
  return `${number(read)} read, ${number(written)} written`;
}

function trouble(code, message, ...actions) {
  return el('div', { class: `trouble is-${code}`, role: 'alert' }, el('p', {}, message), el('p', {}, el('code', {}, code)), el('div', { class: 'row' }, actions));
}

function save(name, text) {
  const address = URL.createObjectURL(new Blob([text], { type: 'text/markdown' }));
  el('a', { href: address, download: name }).click();
  URL.revokeObjectURL(address);
}
