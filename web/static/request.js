// The team's question to a human: the prompt, a form while it is open, then the outcome.

import { stillWanted, submitInput } from './answering.js';
import { el } from './dom.js';
import { offset } from './format.js';
import { inWords } from './input-kind.js';
import { markdown } from './markdown.js';

const LAST_MINUTE = 60_000;

export class RequestForm {
  #runId;
  #request;
  #openReport;
  #opened;
  #body = el('div', { class: 'request-body' });
  #alert = el('p', { class: 'refusal', role: 'alert' });
  #hint = el('p', { class: 'hint', role: 'status' });
  #timer = el('span', { class: 'left', role: 'timer' });
  #form = null;
  #clock = 0;

  /** @param openReport shows the draft under review  @param opened called once the form is on the page */
  constructor(runId, request, openReport, opened) {
    this.#runId = runId;
    this.#request = request;
    this.#openReport = openReport;
    this.#opened = opened;
    this.root = el('div', { class: 'request-box' }, el('div', { class: 'prompt' }, markdown(request.prompt)), this.#body, this.#alert);
    if (request.outcome === null) this.#ask();
    else this.update();
  }

  /** Show the outcome, once there is one. A refusal that is shown stays. */
  update() {
    if (this.#request.outcome === null) return;
    clearInterval(this.#clock);
    this.#form = null;
    this.root.classList.remove('open');
    this.#body.replaceChildren(settled(this.#request));
  }

  focus() {
    this.#form?.querySelector('textarea, button').focus({ preventScroll: true });
  }

  async #ask() {
    const { wanted, ahead } = await stillWanted(this.#runId, this.#request.requestId);
    if (!wanted || this.#request.outcome !== null) return; // it is settled, or its end arrives next
    this.#form = this.#fields();
    this.root.classList.add('open');
    this.#body.replaceChildren(this.#form, el('p', { class: 'until' }, this.#timer), this.#hint);
    this.#countDown(ahead);
    this.#clock = setInterval(() => this.#countDown(ahead), 1000);
    this.#opened();
  }

  #fields() {
    const { asks, prompt, schema } = this.#request;
    if (asks === 'review') return this.#review();
    const label = asks === 'text' ? 'Your answer' : 'Your answer, as JSON';
    const box = el('textarea', { rows: asks === 'text' ? 2 : 4, 'aria-label': `${label} to: ${prompt}`, class: asks });
    const wanted = asks === 'json' && el('details', { class: 'data' }, el('summary', {}, 'What is expected'), el('pre', {}, JSON.stringify(schema, null, 2)));
    const send = el('button', { class: 'primary' }, 'Answer');
    return this.#made([box, wanted, el('div', { class: 'row' }, send)], () => (asks === 'text' ? this.#text(box) : this.#json(box)));
  }

  #review() {
    const box = el('textarea', { rows: 2, 'aria-label': 'Your remark', placeholder: 'What should change?' });
    const approve = el('button', { type: 'button', class: 'primary', onclick: () => this.#send({ approve: true, remark: box.value.trim() }) }, 'Approve');
    const draft = el('button', { type: 'button', class: 'link', onclick: this.#openReport }, 'Read the draft');
    const back = el('button', { class: 'quiet' }, 'Send back with a remark');
    return this.#made([el('p', {}, draft), box, el('div', { class: 'row' }, approve, back)], () => this.#return(box));
  }

  #made(children, submit) {
    const form = el('form', { class: 'answer-form' }, ...children);
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      submit();
    });
    form.addEventListener('keydown', (event) => {
      if (event.key === 'Enter' && (event.ctrlKey || event.metaKey) && event.target.matches('textarea')) form.requestSubmit();
    });
    return form;
  }

  #text(box) {
    if (box.value.trim() === '') return this.#refuse('Write an answer first.', box);
    this.#send(box.value.trim());
  }

  #json(box) {
    try {
      this.#send(JSON.parse(box.value));
    } catch (error) {
      this.#refuse(`This is not JSON yet: ${error.message}.`, box);
    }
  }

  #return(box) {
    if (box.value.trim() === '') return this.#refuse('Write what should change, then send it back.', box);
    this.#send({ approve: false, remark: box.value.trim() });
  }

  #refuse(words, box) {
    this.#alert.textContent = words;
    box.focus();
  }

  async #send(value) {
    const form = this.#form;
    this.#alert.textContent = '';
    this.#busy(form, true);
    const refused = await submitInput(this.#runId, this.#request.requestId, value);
    if (refused === null) return; // an event settles the form, here and in every other tab
    this.#alert.textContent = refused;
    this.#busy(form, false);
  }

  #busy(form, yes) {
    for (const field of form.elements) field.disabled = yes;
    form.classList.toggle('sending', yes);
  }

  #countDown(ahead) {
    if (!this.root.isConnected) return clearInterval(this.#clock);
    if (this.#request.deadline === null) return;
    const left = this.#request.deadline - Date.now() - ahead;
    this.#timer.textContent = left > 0 ? `${offset(left)} left to answer` : 'The time to answer is over.';
    this.#timer.classList.toggle('soon', left < LAST_MINUTE);
    const hint = left > 0 && left < LAST_MINUTE ? 'Less than a minute is left to answer.' : '';
    if (this.#hint.textContent !== hint) this.#hint.textContent = hint; // only once, or a screen reader would read it each second
  }
}

const OUTCOMES = {
  approved: 'Approved',
  returned: 'Sent back',
  text: 'Answered',
  json: 'Answered',
};

function settled({ asks, outcome, value }) {
  if (outcome === 'timed_out') return el('p', { class: 'settled' }, 'Nobody answered in time.');
  if (outcome !== 'answered') return el('p', { class: 'settled' }, 'The run ended before somebody answered.');
  const { as, text } = inWords(asks, value);
  const shown = as === 'json' ? el('pre', {}, text) : text && el('span', { class: 'words' }, text);
  return el('p', { class: `settled is-${as}` }, el('b', {}, OUTCOMES[as]), shown);
}
