// Numbers and times as text. The page is in English, whatever the browser's language.

const NUMBER = new Intl.NumberFormat('en', { maximumFractionDigits: 2 });
const COMPACT = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });

export function number(value) {
  return NUMBER.format(value);
}

/** 12300 ms -> "12.3 s", 75000 ms -> "1:15 min". */
export function duration(ms) {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')} min`;
}

/** Milliseconds since the run began as "m:ss", for the timeline. */
export function offset(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
}

export function ago(ms) {
  const minutes = Math.round(ms / 60_000);
  if (minutes < 1) return 'just now';
  if (minutes < 60) return `${minutes} min ago`;
  const hours = Math.round(minutes / 60);
  return hours < 48 ? `${hours} h ago` : `${Math.round(hours / 24)} days ago`;
}

/** A figure with its unit: a currency's sign before it, any other unit after it. */
export function figure(value, unit, { compact = false } = {}) {
  const digits = (compact ? COMPACT : NUMBER).format(Math.abs(value));
  const sign = value < 0 ? '−' : '';
  if (unit === '') return sign + digits;
  if (/^\p{Sc}$/u.test(unit)) return `${sign}${unit}${digits}`;
  if (/^[A-Z]{3}$/.test(unit)) return sign + currencySign(unit) + digits;
  return unit === '%' ? `${sign}${digits}%` : `${sign}${digits} ${unit}`;
}

/** "€" for EUR; a code without a sign stays, with a space. */
function currencySign(code) {
  const parts = new Intl.NumberFormat('en', { style: 'currency', currency: code }).formatToParts(0);
  const sign = parts.find((part) => part.type === 'currency').value;
  return sign === code ? `${code} ` : sign;
}

export function plural(count, word) {
  return `${number(count)} ${word}${count === 1 ? '' : 's'}`;
}

/** The first `length` characters, on one line. */
export function shorten(text, length) {
  const line = text.replace(/\s+/g, ' ').trim();
  return line.length <= length ? line : `${line.slice(0, length - 1)}…`;
}
