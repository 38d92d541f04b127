// Draws the timeline of a run, as it happens.
//
// A frame draws only touched parts, and for BUDGET at most, so that replaying 10,000 events doesn't freeze the page.

import { el } from './dom.js';
import { duration, offset, plural } from './format.js';
import { markdown } from './markdown.js';
import { RequestForm } from './request.js';
import { toolCall } from './tool.js';
import { show } from './values.js';

const BUDGET = 10; // milliseconds of the 16 that a frame has
const STEADY_FRAMES = 3; // frames in which an element has to stay where it is
const MOST_FRAMES = 60; // after which the reader scrolls alone
const LONG_ANSWER = 900; // characters from which an answer is folded
const STICKY = 48; // pixels from the end within which the timeline keeps following it
const REPLAY = 1500; // milliseconds for the replay of an earlier run, whose start stays in view meanwhile

// Notices whose text is enough. Any other notice shows its event type first.
const ENDINGS = new Set(['completed', 'error', 'cancelled']);
const SENTENCES = new Set([...ENDINGS, 'resumed', 'drain', 'gap']);

export class Timeline {
  #list;
  #pane;
  #run;
  #nodes = new Map();
  #openReport;
  #follows = true;
  #followsFrom;
  #wasAt = 0;

  /** @param list the `ol` to draw into  @param pane the element that scrolls  @param openReport shows the report */
  constructor(list, pane, run, openReport) {
    this.#list = list;
    this.#pane = pane;
    this.#run = run;
    this.#openReport = openReport;
    this.#followsFrom = performance.now() + (run.id === null ? 0 : REPLAY);
    list.replaceChildren();
    pane.onscroll = () => this.#scrolled();
  }

  /** Draw touched parts for at most BUDGET. Returns true if some are left for the next frame. */
  draw() {
    const { touched } = this.#run;
    const now = performance.now();
    const until = now + BUDGET;
    for (const part of touched) {
      touched.delete(part);
      this.#part(part);
      if (performance.now() > until) break;
    }
    if (this.#follows && now > this.#followsFrom) this.#pane.scrollTop = this.#pane.scrollHeight;
    return touched.size > 0;
  }

  /** Scrolling up ends following: only a reader scrolls up; growing content and the page itself don't. */
  #scrolled() {
    const { scrollTop, clientHeight, scrollHeight } = this.#pane;
    if (scrollTop + clientHeight >= scrollHeight - STICKY) this.#follows = true;
    else if (scrollTop < this.#wasAt) this.#follows = false;
    this.#wasAt = scrollTop;
  }

  #part(part) {
    if (part.kind === 'turn') this.#turn(part);
    else if (part.kind === 'notice') this.#notice(part);
    else if (part.kind === 'request') this.#request(part);
    else this.#item(part);
  }

  #turn(turn) {
    const node = this.#nodes.get(turn.key) ?? this.#newTurn(turn);
    node.root.classList.toggle('open', turn.open);
    node.root.classList.toggle('superseded', Boolean(turn.superseded));
    node.phase.textContent = turn.superseded ? 'repeated below' : turn.open ? 'working' : '';
    node.took.textContent = !turn.open && turn.endedAt > turn.at ? duration(turn.endedAt - turn.at) : '';
    return node;
  }

  #newTurn(turn) {
    const name = turn.agent || 'Team';
    const phase = el('span', { class: 'phase' });
    const took = el('span', { class: 'took' });
    const items = el('div', { class: 'items' });
    const head = el('h3', {}, el('span', { class: 'agent' }, name), phase, took, this.#time(turn));
    const mark = el('span', { class: 'mark', 'aria-hidden': 'true' }, name.slice(0, 1).toUpperCase());
    const root = el('li', { class: `turn agent-${turn.number % 6}` }, mark, el('div', { class: 'turn-body' }, head, items));
    this.#list.append(root);
    const node = { root, phase, took, items };
    this.#nodes.set(turn.key, node);
    return node;
  }

  /** A question to a human. Its form is built once and then updated, so that nobody loses their input. */
  #request(request) {
    const known = this.#nodes.get(request.key);
    known?.root.classList.toggle('superseded', Boolean(request.superseded));
    if (known) return known.form.update();
    const form = new RequestForm(this.#run.id, request, this.#openReport, () => this.#opened());
    const head = el('h3', {}, el('span', { class: 'agent' }, request.agent || 'The team'), el('span', { class: 'phase' }, 'asks you'), this.#time(request));
    const mark = el('span', { class: 'mark', 'aria-hidden': 'true' }, '?');
    const root = el('li', { class: 'turn request' }, mark, el('div', { class: 'turn-body' }, head, form.root));
    this.#list.append(root);
    this.#nodes.set(request.key, { root, form });
  }

  /** Scroll to the open request and focus it. */
  showRequest() {
    const node = this.#nodes.get(this.#run.pending?.key);
    if (!node) return;
    intoView(node.root);
    node.form.focus();
  }

  #opened() {
    const node = this.#nodes.get(this.#run.pending?.key);
    if (node && this.#follows) intoView(node.root);
  }

  #time(entry) {
    const since = entry.at !== null && this.#run.startedAt !== null ? entry.at - this.#run.startedAt : 0;
    const stamp = entry.at === null ? null : new Date(entry.at).toISOString();
    return el('time', { datetime: stamp, title: stamp }, offset(since));
  }

  #item(item) {
    const turn = this.#nodes.get(item.turn.key) ?? this.#turn(item.turn);
    const known = this.#nodes.get(item.key);
    if (item.kind === 'live' && known?.kind === 'live') return known.grow();
    const fresh = this.#newItem(item);
    fresh.root.classList.toggle('superseded', Boolean(item.superseded));
    if (known) known.root.replaceWith(fresh.root);
    else turn.items.append(fresh.root);
    this.#nodes.set(item.key, { ...fresh, kind: item.kind });
  }

  #newItem(item) {
    if (item.kind === 'live') return liveText(item);
    if (item.kind === 'tool') return { root: toolCall(item, this.#nodes.get(item.key)?.root) };
    if (item.kind === 'thought') return { root: el('p', { class: 'thought' }, item.text) };
    return { root: item.isReport ? this.#reportLink(item) : answer(item) };
  }

  #reportLink(item) {
    const words = plural(item.text.split(/\s+/).length, 'word');
    const open = el('button', { type: 'button', class: 'link', onclick: this.#openReport }, 'Read the report');
    return el('p', { class: 'answer' }, `Wrote the report, ${words}. `, open);
  }

  #notice(entry) {
    const ended = ENDINGS.has(entry.type);
    const name = !SENTENCES.has(entry.type) && el('span', { class: 'kind' }, entry.type || 'event');
    const data = Object.keys(entry.data).length > 0;
    const root = el(
      'li',
      { class: `notice${ended ? ` is-${entry.type}` : ''}` },
      el('div', { class: 'turn-body' }, el('p', {}, name, entry.text, this.#time(entry)), data && folded(entry.data)),
    );
    this.#list.append(root);
    this.#nodes.set(entry.key, { root });
  }
}

/** Scroll until the element stays where it is: those near the view are measured only now, and higher than estimated. */
function intoView(node, frames = MOST_FRAMES, steady = 0, before = NaN) {
  node.scrollIntoView({ block: 'nearest' });
  const { bottom } = node.getBoundingClientRect();
  const stays = bottom === before ? steady + 1 : 0;
  if (frames > 0 && stays < STEADY_FRAMES) requestAnimationFrame(() => intoView(node, frames - 1, stays, bottom));
}

/** Growing text: only the new part is appended, and the box scrolls to its end. */
function liveText(item) {
  const words = document.createTextNode('');
  const root = el('p', { class: 'live' }, words);
  const grow = () => {
    words.appendData(item.text.slice(words.length));
    root.scrollTop = root.scrollHeight;
  };
  grow();
  return { root, grow };
}

function answer(item) {
  const body = markdown(item.text);
  if (item.text.length < LONG_ANSWER) return el('div', { class: 'answer' }, body);
  const button = el('button', { type: 'button', class: 'quiet', 'aria-expanded': 'false' }, 'Show all');
  const root = el('div', { class: 'answer folded' }, body, button);
  button.addEventListener('click', () => {
    const folds = root.classList.toggle('folded');
    button.textContent = folds ? 'Show all' : 'Show less';
    button.setAttribute('aria-expanded', String(!folds));
  });
  return root;
}

function folded(data) {
  const body = el('div', { class: 'tool-body' });
  const details = el('details', { class: 'data' }, el('summary', {}, 'Data'), body);
  details.addEventListener('toggle', () => details.open && !body.firstChild && body.append(show(data)));
  return details;
}
