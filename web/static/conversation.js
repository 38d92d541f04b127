// The conversation that the next question belongs to: the shown run's session and its questions.

import { placeholder } from './about.js';
import { byId } from './dom.js';
import { plural } from './format.js';
import { runLine } from './recent.js';
import { request } from './sign-in.js';

const TEST_MODEL = /^mock /; // a test run has no conversation to continue

export class Conversation {
  #id = null;
  #runs = [];

  /** The session's id, or null if the next question starts a new session. */
  get id() {
    return this.#id;
  }

  has(runId) {
    return this.#runs.some((run) => run.run_id === runId);
  }

  /** Make the next question continue this run's session. @param run see run.js */
  async follow({ id: runId, sessionId, model }) {
    if (sessionId === '' || TEST_MODEL.test(model)) return this.leave();
    this.#id = sessionId;
    const response = await request(`sessions/${encodeURIComponent(sessionId)}`, { cache: 'no-store' }).catch(() => null);
    const session = response?.ok ? await response.json().catch(() => null) : null;
    if (sessionId !== this.#id || !Array.isArray(session?.runs)) return;
    this.#runs = session.runs;
    this.#draw(runId, session.next ? 'Last in this conversation' : 'In this conversation');
  }

  leave() {
    this.#id = null;
    this.#runs = [];
    byId('conversation').hidden = true;
    byId('question').placeholder = placeholder;
    byId('conversation-list').open = false;
  }

  #draw(runId, heading) {
    byId('conversation').hidden = false;
    byId('question').placeholder = 'Ask a follow-up: “and the quarter before?”';
    byId('conversation-count').textContent = `${heading}: ${plural(this.#runs.length, 'question')}`;
    byId('conversation-runs').replaceChildren(...this.#runs.map((run) => runLine(run, runId)));
  }
}
