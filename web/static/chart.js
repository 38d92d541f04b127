// Draws a chart: bars and lines with uPlot, shares as a ring, and the figures as a table below.

import { axes, scales } from './chart-axes.js';
import { el } from './dom.js';
import { figure as inWords } from './format.js';
import { ring } from './ring.js';
import { table } from './values.js';
import uPlot from './vendor/uplot/uPlot.esm.js';

const COLOURS = 6; // --series-0 to --series-5 in base.css
const HEIGHT = 260;
const BAR_HEIGHT = 30;
const LONG_LABEL = 9; // characters from which bars are horizontal, so that their labels fit

/** @param {import('./chart-spec.js').Chart} chart */
export function chartFigure(chart) {
  const drawing = chart.type === 'pie' && canBePie(chart) ? ring(chart) : plot(chart);
  const legend = chart.type !== 'pie' && chart.series.length > 1 && names(chart);
  const data = el('details', { class: 'data' }, el('summary', {}, 'Figures'));
  data.addEventListener('toggle', () => data.open && !data.querySelector('table') && data.append(figures(chart)));
  return el('figure', { class: 'chart' }, el('figcaption', {}, chart.title), legend, drawing, data);
}

/** Shares of a whole can't be negative, and there is one whole. */
function canBePie(chart) {
  const [{ values }, ...others] = chart.series;
  return others.length === 0 && values.every((value) => (value ?? 0) >= 0) && values.some((value) => value > 0);
}

function names(chart) {
  const name = (series, i) => el('li', { class: `series-${i % COLOURS}` }, series.name || `Series ${i + 1}`);
  return el('ul', { class: 'legend' }, chart.series.map(name));
}

function figures(chart) {
  const heads = ['', ...chart.series.map((series, i) => series.name || (i === 0 ? chart.unit : '') || 'Value')];
  return table(heads, chart.labels.map((label, i) => [label, ...chart.series.map((series) => series.values[i])]));
}

/** uPlot needs a width in pixels: draw once the frame has one, and resize when it changes. */
function plot(chart) {
  const frame = el('div', { class: 'plot', role: 'img', 'aria-label': described(chart) });
  const horizontal = chart.type !== 'line' && chart.labels.some((label) => label.length > LONG_LABEL);
  const height = horizontal ? 46 + BAR_HEIGHT * chart.labels.length * Math.max(1, chart.series.length * 0.6) : HEIGHT;
  let drawn = null;
  new ResizeObserver(([{ contentRect }]) => {
    const size = { width: Math.floor(contentRect.width), height };
    if (size.width === 0) return;
    if (drawn === null) drawn = new uPlot(options(chart, horizontal, size), dataOf(chart), frame);
    else if (drawn.width !== size.width) drawn.setSize(size);
  }).observe(frame);
  const dark = matchMedia('(prefers-color-scheme: dark)');
  const recolour = () => (frame.isConnected ? drawn?.redraw(true, true) : dark.removeEventListener('change', recolour));
  dark.addEventListener('change', recolour);
  return frame;
}

function described(chart) {
  const { type, labels } = chart;
  return `${type} chart: ${chart.title}. ${labels.length} values, ${labels[0]} to ${labels.at(-1)}. The figures follow below.`;
}

function dataOf(chart) {
  return [chart.labels.map((_, i) => i), ...chart.series.map((series) => series.values)];
}

function options(chart, horizontal, size) {
  return {
    ...size,
    scales: scales(chart, horizontal),
    axes: axes(chart, horizontal),
    series: [{}, ...chart.series.map((series, i) => seriesOptions(chart, series, i))],
    legend: { show: false },
    cursor: { x: chart.type === 'line', y: false, drag: { x: false, y: false }, points: { show: chart.type === 'line' } },
    padding: [10, horizontal ? 16 : 28, 0, 0], // for the half of the last label that overhangs
    plugins: [tooltip(chart)],
  };
}

function seriesOptions(chart, series, i) {
  const colour = () => getComputedStyle(document.documentElement).getPropertyValue(`--series-${i % COLOURS}`);
  const few = { show: chart.labels.length <= 24, size: 6 };
  if (chart.type === 'line') return { label: series.name, stroke: colour, width: 2, points: { ...few, fill: colour } };
  return { label: series.name, fill: colour, width: 0, points: { show: false }, paths: bars(chart, i) };
}

/** The bars of several series stand side by side at their label. */
function bars(chart, i) {
  const wide = 0.68 / chart.series.length;
  const starts = chart.labels.map((_, at) => at - 0.34 + i * wide);
  const disp = { x0: { unit: 1, values: () => starts }, size: { unit: 1, values: () => [wide * 0.94] } };
  return uPlot.paths.bars({ disp, radius: [0.12, 0] });
}

/** A small box with the figures under the pointer. */
function tooltip(chart) {
  const box = el('div', { class: 'tip', hidden: true });
  const line = (series, i, at) => {
    const value = series.values[at];
    const words = value === null ? 'no figure' : inWords(value, chart.unit);
    return el('div', { class: `series-${i % COLOURS}` }, series.name && `${series.name}: `, el('b', {}, words));
  };
  const move = (u) => {
    const { idx, left, top } = u.cursor;
    box.hidden = idx === null || idx === undefined || left < 0;
    if (box.hidden) return;
    box.replaceChildren(el('div', {}, chart.labels[idx]), ...chart.series.map((series, i) => line(series, i, idx)));
    const over = u.over.clientWidth;
    const beside = left > over / 2 ? left - box.offsetWidth - 12 : left + 12;
    box.style.transform = `translate(${Math.max(0, beside)}px, ${Math.max(0, top - 16)}px)`;
  };
  return { hooks: { init: (u) => u.over.append(box), setCursor: move } };
}
