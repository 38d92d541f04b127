// Signing in: trades a token for a cookie. The token comes in the page's address, or a person types it in.

import { byId } from './dom.js';
import { refusal } from './wire.js';

let open = null; // the promise of the dialog while it is open

/** Trade the token in the address, `#token=…`, if there is one. It leaves the address at once. */
export async function signInFromAddress() {
  const parts = new URLSearchParams(location.hash.slice(1));
  const token = parts.get('token');
  if (token === null) return;
  parts.delete('token');
  const rest = parts.toString();
  history.replaceState(null, '', location.pathname + location.search + (rest && `#${rest}`));
  const problem = await trade(token);
  if (problem !== null) await signIn(problem);
}

/** `fetch`; where the server needs a token it asks the reader for one, and sends the request again. */
export async function request(path, options = {}) {
  const response = await fetch(path, options);
  if (response.status !== 401 || !(await unlessAborted(signIn(), options.signal))) return response;
  return fetch(path, options);
}

/** Ask for a token if the server needs one. For a WebSocket: a browser doesn't say why a handshake was refused. */
export async function checkAccess(signal) {
  await request('runs?limit=1', { cache: 'no-store', signal }).catch(() => null);
}

/** Resolves with whether the reader has signed in; false if the dialog was closed. One dialog serves all requests. */
function signIn(problem = '') {
  open ??= showDialog(problem).finally(() => (open = null));
  return open;
}

function showDialog(problem) {
  const dialog = byId('sign-in');
  const form = byId('sign-in-form');
  byId('sign-in-problem').textContent = problem;
  return new Promise((resolve) => {
    form.onsubmit = async (event) => {
      event.preventDefault();
      const found = await trade(byId('token').value.trim());
      byId('sign-in-problem').textContent = found ?? '';
      if (found === null) dialog.close('signed in');
    };
    dialog.onclose = () => {
      byId('token').value = '';
      resolve(dialog.returnValue === 'signed in');
    };
    dialog.returnValue = '';
    dialog.showModal();
  });
}

/** Returns null if the server has set a cookie, else the reason as a sentence. */
async function trade(token) {
  const headers = { 'Content-Type': 'application/json' };
  const response = await fetch('login', { method: 'POST', headers, body: JSON.stringify({ token }) }).catch(() => null);
  if (response?.ok) return null;
  return response ? (await refusal(response)).message : 'The server can’t be reached.';
}

function unlessAborted(promise, signal) {
  if (!signal) return promise;
  const aborted = new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason), { once: true }));
  return Promise.race([promise, aborted]);
}
