// Axes and scales of a chart. One axis has labels: position i is label i.

import { figure, shorten } from './format.js';

const LONGEST_LABEL = 26;
const LABEL_WIDTH = 128; // pixels, at most, for a label below the chart
const CHARACTER = 6.6; // pixels per character of the axes' font, about

const colour = (name) => () => getComputedStyle(document.documentElement).getPropertyValue(name);

/** Leave half a position free at either end. Bars start at zero, or their lengths would mislead. */
export function scales(chart, horizontal) {
  const edge = chart.type === 'line' ? 0.25 : 0.5;
  const places = { time: false, range: () => [-edge, chart.labels.length - 1 + edge] };
  if (!horizontal) return { x: places, y: { range: figuresRange(chart) } };
  return { x: { ...places, ori: 1, dir: -1 }, y: { ori: 0, dir: 1, range: figuresRange(chart) } };
}

function figuresRange(chart) {
  return (_, min, max) => {
    const [low, high] = [min ?? 0, max ?? 1];
    const margin = (high - low || Math.abs(high) || 1) * 0.08;
    // A line chart may omit zero if its values are far from zero and close together.
    if (chart.type === 'line' && low > 0 && high - low < high / 3) return [low - margin, high + margin];
    return [low < 0 ? low - margin : 0, high > 0 ? high + margin : 0];
  };
}

export function axes(chart, horizontal) {
  const look = { stroke: colour('--muted'), ticks: { show: false }, font: '12px system-ui, sans-serif' };
  const names = {
    ...look,
    side: horizontal ? 3 : 2,
    size: horizontal ? widthOfNames(chart) : 30,
    grid: { show: false },
    splits: (u) => places(chart, horizontal ? Infinity : u.bbox.width / devicePixelRatio),
    values: (_, splits) => splits.map((i) => shorten(chart.labels[i] ?? '', LONGEST_LABEL)),
  };
  const figures = {
    ...look,
    side: horizontal ? 2 : 3,
    size: horizontal ? 30 : widthOfFigures,
    space: horizontal ? 80 : 36,
    grid: { stroke: colour('--line'), width: 1 },
    values: (_, splits) => splits.map((value) => figure(value, chart.unit, { compact: true })),
  };
  return [names, figures];
}

function widthOfNames(chart) {
  const longest = Math.max(...chart.labels.map((label) => Math.min(label.length, LONGEST_LABEL)));
  return Math.ceil(longest * CHARACTER) + 14;
}

function widthOfFigures(_, values) {
  const longest = Math.max(0, ...(values ?? []).map((value) => value.length));
  return Math.ceil(longest * CHARACTER) + 14;
}

/** The positions whose labels fit. */
function places(chart, width) {
  const longest = Math.max(...chart.labels.map((label) => Math.min(label.length, LONGEST_LABEL)));
  const fitting = Math.max(1, Math.floor(width / Math.min(Math.max(longest * CHARACTER + 10, 24), LABEL_WIDTH)));
  const step = Math.max(1, Math.ceil(chart.labels.length / fitting));
  return chart.labels.map((_, i) => i).filter((i) => i % step === 0);
}
