// The page's start: passes the reader's input on to the current watch.

import { showTeam } from './about.js';
import { Conversation } from './conversation.js';
import { byId, copy, el } from './dom.js';
import { number } from './format.js';
import { leavePlace, readPlace } from './place.js';
import { refreshRecent } from './recent.js';
import { signInFromAddress } from './sign-in.js';
import { Watch } from './watch.js';

const COUNT_FROM = 3500; // characters of the 4,000 that a question may have

const form = byId('ask');
const question = byId('question');
const conversation = new Conversation();
let watch = null;

function via() {
  return form.elements.via.value;
}

function chooseVia(name) {
  form.elements.via.value = name;
}

/** Leave the current run, which continues on the server, and watch another. */
function show(request, text = '') {
  watch?.leave();
  document.body.classList.add('watching');
  if (!request.question && !conversation.has(request.runId)) conversation.leave();
  const repeatRequest = () => show(request, text);
  const retryWith = (change) => () => show({ ...request, key: newKey(), ...change }, text);
  const opened = () => {
    if (question.value === text) question.value = ''; // the question is shown above the run now
    refreshLists();
  };
  const queue = request.ifBusy === 'queue' ? null : retryWith({ ifBusy: 'queue' });
  const actions = { ask, repeatRequest, queue, inNewSession: retryWith({ sessionId: null, ifBusy: null }) };
  watch = new Watch(request, { via: via(), text, ...actions, opened, session: refreshLists, changed: refreshLists });
}

/** Refresh the recent runs and the conversation's questions. */
function refreshLists() {
  if (byId('recent').open) refreshRecent(watch?.runId);
  if (watch?.run.sessionId) conversation.follow(watch.run);
}

function ask(text) {
  const words = text.trim();
  if (words === '') return;
  question.value = words;
  show({ question: words, key: newKey(), sessionId: conversation.id, review: byId('review').checked }, words);
}

/** An idempotency key. `crypto.randomUUID` needs HTTPS; this doesn't. */
function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

async function start() {
  await signInFromAddress();
  attach();
}

/** Show the run that the page's address names. */
function attach() {
  const place = readPlace();
  if (place.via) chooseVia(place.via);
  if (place.runId === null) return home();
  if (place.runId === watch?.runId) return place.via && watch.switchTo(place.via);
  show({ runId: place.runId, after: 0 });
}

function home() {
  watch?.leave();
  conversation.leave();
  watch = null;
  document.body.classList.remove('watching');
  byId('run').hidden = true;
  document.title = 'askstream';
}

function newConversation() {
  leavePlace();
  home();
  question.focus();
}

function countCharacters() {
  const length = question.value.length;
  byId('count').hidden = length < COUNT_FROM;
  byId('count').textContent = `${number(length)} of ${number(question.maxLength)}`;
}

/** Close an open list on Escape, and on a click on one of its runs or outside it. */
function closeOnOutsideClick(list) {
  document.addEventListener('click', ({ target }) => {
    if (!list.contains(target) || target.closest('a')) list.open = false;
  });
  document.addEventListener('keydown', ({ key }) => {
    if (key !== 'Escape' || !list.open) return;
    list.open = false;
    list.querySelector('summary').focus();
  });
}

form.addEventListener('submit', (event) => {
  event.preventDefault();
  ask(question.value);
});
form.addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) form.requestSubmit();
});
question.addEventListener('input', countCharacters);
for (const radio of form.elements.via) radio.addEventListener('change', () => watch?.switchTo(via()));
byId('test').addEventListener('click', () => show({ test: true }, 'Test stream'));
byId('stop').addEventListener('click', () => watch?.stop());
byId('answer').addEventListener('click', () => watch?.showRequest());
byId('new-conversation').addEventListener('click', newConversation);
byId('share').addEventListener('click', () => copy(byId('share'), location.href));
byId('reconnect').addEventListener('click', () => watch?.retryNow());
byId('recent').addEventListener('toggle', () => byId('recent').open && refreshRecent(watch?.runId));
for (const list of [byId('recent'), byId('conversation-list')]) closeOnOutsideClick(list);
addEventListener('online', () => watch?.retryNow());
addEventListener('pageshow', () => watch?.retryNow());
addEventListener('hashchange', start);

start().then(() => showTeam(ask));
