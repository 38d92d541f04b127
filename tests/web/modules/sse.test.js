// sse.js decodes as WHATWG specifies, wherever the stream is cut.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { SseDecoder } from '../../../web/static/sse.js';

const block = ({ id = null, data = null, retry = null }) => ({ id, data, retry });

/** The blocks that a decoder makes of `bytes`, which arrive in pieces that end at `edges`. */
function decoded(bytes, edges) {
  const decoder = new SseDecoder();
  return edges.flatMap((edge, i) => decoder.push(bytes.slice(i ? edges[i - 1] : 0, edge)));
}

const STREAMS = [
  ['id: 1\ndata: {}\n\n', [{ id: '1', data: '{}' }]],
  ['id:1\r\ndata:a\r\n\r\nid:2\r\ndata:b\r\n\r\n', [{ id: '1', data: 'a' }, { id: '2', data: 'b' }]],
  ['data: a\r\rdata: b\r\r', [{ data: 'a' }, { data: 'b' }]],
  ['data: a\ndata: b\n\n', [{ data: 'a\nb' }]],
  ['data\n\n', [{ data: '' }]],
  [': a comment\n\ndata: a\n\n', [{ data: 'a' }]],
  ['id: 7\n\n', [{ id: '7' }]],
  ['retry: 1500\n\nretry: soon\n\n', [{ retry: 1500 }]],
  ['id: 1\0\ndata: a\n\n', [{ data: 'a' }]],
  ['\ufeffdata: \ufeff\n\n', [{ data: '\ufeff' }]],
  ['data:  two spaces, one is the separator\n\n', [{ data: ' two spaces, one is the separator' }]],
  ['data: žluťoučký 🐎\n\n', [{ data: 'žluťoučký 🐎' }]],
  ['event: x\nunknown: y\ndata: a\n\ndata: never finished\n', [{ data: 'a' }]],
];

for (const [stream, expected] of STREAMS) {
  test(`a stream gives the same blocks wherever it is cut: ${JSON.stringify(stream)}`, () => {
    const bytes = new TextEncoder().encode(stream);
    const all = [...bytes.keys()].map((i) => i + 1);
    const ways = [[bytes.length], all, ...all.map((cut) => [cut, bytes.length])];
    for (const edges of ways) assert.deepEqual(decoded(bytes, edges), expected.map(block), `cut at ${edges}`);
  });
}
