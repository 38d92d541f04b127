// Shares of a whole, as a ring with its legend.

import { el, svg } from './dom.js';
import { figure } from './format.js';

const RADIUS = 40;
const CIRCUMFERENCE = 2 * Math.PI * RADIUS;
const COLOURS = 6;

/** @param {import('./chart-spec.js').Chart} chart of one series without negative values */
export function ring(chart) {
  const values = chart.series[0].values.map((value) => value ?? 0);
  const whole = values.reduce((sum, value) => sum + value, 0);
  let before = 0;
  const arcs = values.map((value, i) => {
    const arc = slice(value / whole, before, i);
    before += value / whole;
    return arc;
  });
  const drawing = svg('svg', { viewBox: '0 0 100 100', class: 'ring', role: 'img', 'aria-label': `Shares: ${chart.title}` }, arcs);
  const line = (label, i) => {
    const share = figure(Math.round((1000 * values[i]) / whole) / 10, '%');
    return el('li', { class: `series-${i % COLOURS}` }, label, el('b', {}, share), el('span', {}, figure(values[i], chart.unit)));
  };
  return el('div', { class: 'shares' }, drawing, el('ul', { class: 'legend' }, chart.labels.map(line)));
}

function slice(share, before, i) {
  return svg('circle', {
    cx: 50,
    cy: 50,
    r: RADIUS,
    class: `slice series-${i % COLOURS}`,
    'stroke-dasharray': `${share * CIRCUMFERENCE} ${CIRCUMFERENCE}`,
    'stroke-dashoffset': -before * CIRCUMFERENCE,
  });
}
