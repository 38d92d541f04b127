// input-kind.js: the kind of answer that a request for input needs, and an answer in words.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { inWords, kindOf } from '../../../web/static/input-kind.js';

const REVIEW = { type: 'object', properties: { approve: { type: 'boolean' }, remark: { type: 'string' } } };
const NO_REVIEW = { type: 'object', properties: { approve: { type: 'string' }, remark: { type: 'string' } } };

// A sentence, a review, and JSON for anything else, even if there is no schema.
const SCHEMAS = [
  [{ type: 'string', minLength: 1 }, 'text'],
  [{ type: 'string', enum: ['a', 'b'] }, 'json'],
  [{ ...REVIEW, required: ['approve'], additionalProperties: false }, 'review'],
  [NO_REVIEW, 'json'],
  [{ type: 'object', properties: null }, 'json'],
  [{}, 'json'],
  [null, 'json'],
  ['string', 'json'],
  [['string'], 'json'],
];

for (const [schema, kind] of SCHEMAS) {
  test(`a schema decides which form is shown: ${JSON.stringify(schema)}`, () => {
    assert.equal(kindOf(schema), kind);
  });
}

const ANSWERS = [
  ['text', 'revenue', { as: 'text', text: 'revenue' }],
  ['review', { approve: true, remark: ' ' }, { as: 'approved', text: '' }],
  ['review', { approve: false, remark: 'Shorter.' }, { as: 'returned', text: 'Shorter.' }],
  ['review', null, { as: 'returned', text: '' }],
  ['json', { n: 1 }, { as: 'json', text: '{\n  "n": 1\n}' }],
  ['json', null, { as: 'json', text: 'null' }],
];

for (const [kind, value, words] of ANSWERS) {
  test(`an answer is shown in words: ${kind} ${JSON.stringify(value)}`, () => {
    assert.deepEqual(inWords(kind, value), words);
  });
}
