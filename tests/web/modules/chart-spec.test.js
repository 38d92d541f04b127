// chart-spec.js: a result without a drawable chart is shown as data.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { readChart } from '../../../web/static/chart-spec.js';

const NO_CHARTS = [
  null,
  'text',
  {},
  { chart: null },
  { chart: { type: 'bar', labels: [], series: [] } },
  { chart: { type: 'cake', labels: ['a'], series: [{ values: [1] }] } },
  { chart: { type: 'bar', labels: ['a'], series: [null] } },
];

for (const result of NO_CHARTS) {
  test(`a result without a chart is not drawn: ${JSON.stringify(result)}`, () => {
    assert.equal(readChart(result), null);
  });
}

test('a chart is read from an object and from its JSON text', () => {
  const chart = { type: 'bar', title: 'T', labels: ['a'], series: [{ name: 's', values: [1] }], unit: 'EUR' };
  assert.deepEqual(readChart({ chart }), chart);
  assert.deepEqual(readChart(JSON.stringify({ chart })), chart);
});
