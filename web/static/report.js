// The report of a run: charts as they are made, the text once the run has ended, and what it took.

import { chartFigure } from './chart.js';
import { copyButton, el } from './dom.js';
import { duration, number, plural } from './format.js';
import { markdown } from './markdown.js';

const REASONS = {
  client: 'Somebody pressed Stop.',
  orphaned: 'Nobody was watching for too long.',
  timeout: 'It took longer than a run may.',
  shutdown: 'The server went away.',
};

export class Report {
  #run;
  #actions;
  #charts = el('div', { class: 'charts' });
  #body = el('div', { class: 'report-body' });
  #drawn = new Set();
  #ended = false;

  /** @param root the section to draw into  @param actions {again(), retry()} for the buttons of what failed */
  constructor(root, run, actions) {
    this.#run = run;
    this.#actions = actions;
    const title = el('h2', { id: 'report-title' }, 'Report');
    this.#body.append(el('p', { class: 'none waiting' }, 'The report appears here when the team has finished.'));
    root.replaceChildren(title, this.#charts, this.#body);
  }

  draw() {
    this.#drawCharts();
    if (!this.#run.terminal || this.#ended) return;
    this.#ended = true;
    this.#body.replaceChildren(...this.#ending());
  }

  /** What can't be followed any more, with what to do about it. */
  fail(error) {
    const retry = el('button', { type: 'button', class: 'primary', onclick: this.#actions.retry }, 'Try again');
    this.#body.replaceChildren(trouble(error.code, error.message, retry));
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
    const again = el('button', { type: 'button', class: 'primary', onclick: this.#actions.again }, 'Ask again');
    if (state === 'error') return [trouble(error.code, error.message, again), this.#facts()];
    const why = REASONS[reason] ?? 'The run was stopped.';
    return [trouble('cancelled', why, again), this.#facts()];
  }

  /** The charts stand after the report's opening words, before its first section. */
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
      ['Events', plural(count, 'event')],
    ].filter(([, value]) => value);
    return el('dl', { class: 'facts' }, facts.map(([name, value]) => el('div', {}, el('dt', {}, name), el('dd', {}, value))));
  }
}

function tokens(usage) {
  const { prompt_tokens: read = 0, completion_tokens: written = 0 } = usage;
  return `${number(read)} read, ${number(written)} written`;
}

function trouble(code, message, action) {
  return el('div', { class: `trouble is-${code}`, role: 'alert' }, el('p', {}, message), el('p', {}, el('code', {}, code)), action);
}

function save(name, text) {
  const address = URL.createObjectURL(new Blob([text], { type: 'text/markdown' }));
  el('a', { href: address, download: name }).click();
  URL.revokeObjectURL(address);
}
