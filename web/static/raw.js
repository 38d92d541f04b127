// The last events as received, for people who write a client.

import { byId } from './dom.js';
import { number } from './format.js';

const LINES = 300;
const INTERVAL = 300; // milliseconds between two redraws: nobody reads faster

export class RawEvents {
  #run;
  #due = 0;

  constructor(run) {
    this.#run = run;
    byId('raw').ontoggle = () => this.draw();
    byId('raw-lines').replaceChildren();
  }

  draw() {
    byId('raw-count').textContent = number(this.#run.count);
    if (!byId('raw').open || this.#due) return;
    this.#due = setTimeout(() => this.#fill(), INTERVAL);
  }

  #fill() {
    this.#due = 0;
    const pane = byId('raw-lines');
    pane.textContent = this.#run.lines.slice(-LINES).map((event) => JSON.stringify({ event })).join('\n');
    pane.scrollTop = pane.scrollHeight;
  }
}
