// The page's beginning: reads what the reader does, and hands it to the watch that is on.

import { byId, copy, el } from './dom.js';
import { number } from './format.js';
import { readPlace } from './place.js';
import { refreshRecent } from './recent.js';
import { Watch } from './watch.js';

const EXAMPLES = [
  'Generate a monthly business report for our sales performance',
  'Why did revenue change last month?',
  'Which five products earned the most margin this year?',
  'Compare last quarter with the quarter before',
  'Which large customers did we lose?',
  'Forecast revenue for the next three months',
];
const COUNT_FROM = 3500; // characters of the 4,000 that a question may have

const form = byId('ask');
const question = byId('question');
let watch = null;

function via() {
  return form.elements.via.value;
}

function chooseVia(name) {
  form.elements.via.value = name;
}

/** Leaves the run that is shown, which goes on without us, and watches another. */
function show(request, text = '') {
  watch?.leave();
  document.body.classList.add('watching');
  const again = () => show(request, text);
  watch = new Watch(request, { via: via(), text, ask, again, changed: () => refreshRecent(watch?.runId) });
}

function ask(text) {
  const words = text.trim();
  if (words === '') return;
  question.value = words;
  show({ question: words, key: newKey() }, words);
}

/** A key by which the server would know the same ask again. `crypto.randomUUID` wants HTTPS, this does not. */
function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** Goes where the address says. */
function attach() {
  const place = readPlace();
  if (place.via) chooseVia(place.via);
  if (place.runId === null) return home();
  if (place.runId === watch?.runId) return place.via && watch.hop(place.via);
  show({ runId: place.runId, after: 0 });
}

function home() {
  watch?.leave();
  watch = null;
  document.body.classList.remove('watching');
  byId('run').hidden = true;
  document.title = 'askstream';
}

function countCharacters() {
  const length = question.value.length;
  byId('count').hidden = length < COUNT_FROM;
  byId('count').textContent = `${number(length)} of ${number(question.maxLength)}`;
}

form.addEventListener('submit', (event) => {
  event.preventDefault();
  ask(question.value);
});
question.addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) form.requestSubmit();
});
question.addEventListener('input', countCharacters);
for (const radio of form.elements.via) radio.addEventListener('change', () => watch?.hop(via()));
byId('test').addEventListener('click', () => show({ test: true }, 'Test stream'));
byId('stop').addEventListener('click', () => watch?.stop());
byId('share').addEventListener('click', () => copy(byId('share'), location.href));
byId('reconnect').addEventListener('click', () => watch?.now());
byId('recent').addEventListener('toggle', () => byId('recent').open && refreshRecent(watch?.runId));
document.addEventListener('click', (event) => {
  const inside = event.target instanceof Element && event.target.closest('#recent');
  if (!inside || event.target.closest('#recent a')) byId('recent').open = false;
});
document.addEventListener('keydown', (event) => {
  if (event.key !== 'Escape' || !byId('recent').open) return;
  byId('recent').open = false;
  byId('recent').querySelector('summary').focus();
});
addEventListener('online', () => watch?.now());
addEventListener('pageshow', () => watch?.now());
addEventListener('hashchange', attach);

byId('examples').append(
  ...EXAMPLES.map((text) => el('li', {}, el('button', { type: 'button', onclick: () => ask(text) }, text))),
);
attach();
