// Reads a chart from a tool's result. Pure. A result without a drawable chart is null, and is shown as data instead.

const TYPES = new Set(['bar', 'line', 'pie']);

/**
 * @typedef {{name: string, values: (number | null)[]}} Series
 * @typedef {{type: 'bar' | 'line' | 'pie', title: string, labels: string[], series: Series[], unit: string}} Chart
 */

/** The chart in `result` (structured, or JSON as text), or null. @returns {Chart | null} */
export function readChart(result) {
  const spec = asObject(result)?.chart;
  if (!spec || !TYPES.has(spec.type) || !Array.isArray(spec.labels) || !Array.isArray(spec.series)) return null;
  const labels = spec.labels.map(words);
  const series = spec.series.filter((one) => Array.isArray(one?.values)).map((one) => readSeries(one, labels));
  if (labels.length === 0 || series.length === 0) return null;
  return { type: spec.type, title: words(spec.title), labels, series, unit: words(spec.unit) };
}

function readSeries(one, labels) {
  const values = labels.map((_, i) => (typeof one.values[i] === 'number' ? one.values[i] : null));
  return { name: words(one.name), values };
}

function asObject(result) {
  if (typeof result !== 'string') return result;
  try {
    return JSON.parse(result);
  } catch {
    return null;
  }
}

function words(value) {
  return typeof value === 'string' || typeof value === 'number' ? String(value) : '';
}
