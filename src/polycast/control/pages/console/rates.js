// Rates of counters, of which the API tells the totals, as far as this page has seen them.

const REMEMBERED = 60;
const totals = new Map();
const series = new Map();

/** The rate of a counter since the last call, in bits per second; null if there was none. */
export function rate(key, bytes, now) {
  const last = totals.get(key);
  if (last && now - last.now < 500) return last.rate;
  const found = !last ? null : bytes < last.bytes ? 0 : ((bytes - last.bytes) * 8000) / (now - last.now);
  totals.set(key, { bytes, now, rate: found });
  return found;
}

/** The last values of a rate, for a small graph. */
export function remembered(key, value) {
  const kept = series.get(key) ?? [];
  kept.push(value ?? 0);
  if (kept.length > REMEMBERED) kept.shift();
  series.set(key, kept);
  return kept;
}

/** Forget what belongs to others than these. */
export function keepOnly(isKept) {
  for (const map of [totals, series]) for (const key of map.keys()) if (!isKept(key)) map.delete(key);
}
