// Follows runs with npm's clients: `node follow.mjs FOLDER`, a job as JSON on standard input, a JSON array of ids for
// each of its cases on standard output. FOLDER has the packages.

import { createRequire } from 'node:module';
import { text } from 'node:stream/consumers';
import { join } from 'node:path';

const require = createRequire(join(process.argv[2], 'package.json'));
const TERMINAL = new Set(['completed', 'error', 'cancelled']);
const AT_ONCE = 40;

// fetch-event-source listens to a page's visibility.
globalThis.window = globalThis;
globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };

const read = (data) => JSON.parse(data).event;

/** An EventSource as browsers have it: it reconnects by itself until it is closed. */
const byEventSource = (EventSource) => ({ url }) =>
  new Promise((resolve) => {
    const ids = [];
    const source = new EventSource(url);
    source.onmessage = ({ data, lastEventId }) => {
      const event = read(data);
      if (String(event.id) !== lastEventId) ids.push(`wrong lastEventId ${lastEventId}`);
      ids.push(event.id);
      if (TERMINAL.has(event.event_type)) {
        source.close();
        resolve(ids);
      }
    };
    source.onerror = () => {
      if (source.readyState === 2) resolve([...ids, 'closed']);
    };
  });

/** A POST that is repeated with its key. A gap in the ids ends the connection, and the next one asks for what it lacks. */
async function byFetchEventSource({ url, body, key }) {
  const { fetchEventSource } = require('@microsoft/fetch-event-source');
  const ids = [];
  let repairs = 0;
  let ended = false;
  while (!ended) {
    const abort = new AbortController();
    let gap = false;
    const cursor = ids.length ? { 'last-event-id': String(ids.at(-1)) } : {};
    await fetchEventSource(url, {
      ...(body ? { method: 'POST', body } : {}),
      headers: { 'Content-Type': 'application/json', ...(key ? { 'Idempotency-Key': key } : {}), ...cursor },
      openWhenHidden: true,
      signal: abort.signal,
      async onopen(response) {
        if (response.status === 204) gap = true;
        else if (!response.ok) throw new Error(`status ${response.status}`);
        if (gap) abort.abort();
      },
      onmessage({ data }) {
        if (!data || gap) return;
        const event = read(data);
        if (event.id !== (ids.at(-1) ?? 0) + 1) {
          gap = true;
          abort.abort();
          return;
        }
        ids.push(event.id);
        ended = TERMINAL.has(event.event_type);
        if (ended) abort.abort();
      },
    });
    repairs += gap ? 1 : 0;
  }
  return [...ids, ...Array(repairs).fill('repaired')];
}

const CLIENTS = {
  eventsource: () => byEventSource(require('eventsource').EventSource),
  undici: () => byEventSource(require('undici').EventSource),
  'fetch-event-source': () => byFetchEventSource,
};

setInterval(() => {}, 1000); // undici's waits for a reconnect don't keep the process
const { client, cases } = JSON.parse(await text(process.stdin));
const follow = CLIENTS[client]();
const left = cases.map((each, number) => [each, number]);
const found = [];
const work = async () => {
  for (let next = left.shift(); next; next = left.shift()) found[next[1]] = await follow(next[0]);
};
await Promise.all(Array.from({ length: AT_ONCE }, work));
process.stdout.write(JSON.stringify(found), () => process.exit(0));
