// What the team that is served says of itself: its title, its greeting, and questions to begin with.

import { byId, el } from './dom.js';
import { request } from './sign-in.js';

/** The text in an empty field for a first question. */
export let placeholder = 'Ask your question';

/** Fill the welcome with the team's words. `ask` is called with a starter that was clicked. */
export async function showTeam(ask) {
  const answer = await request('about').catch(() => null);
  if (!answer?.ok) return;
  const { title, greeting, starters } = await answer.json();
  if (title) byId('welcome-title').textContent = title;
  if (greeting) byId('greeting').textContent = greeting;
  if (starters.length) placeholder = byId('question').placeholder = starters[0];
  byId('examples').replaceChildren(
    ...starters.map((text) => el('li', {}, el('button', { type: 'button', onclick: () => ask(text) }, text))),
  );
}
