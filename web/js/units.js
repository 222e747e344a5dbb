// Owns: how a duration, a sum of money, a count, a similarity and a moment are written for a reader.

const count = new Intl.NumberFormat('en');
const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const day = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short' });
const DAY_MS = 86_400_000;

/** Milliseconds as `<1 ms`, `3.2 ms`, `812 ms`, `1.4 s` or `2 min 5 s`. */
export function duration(ms) {
  if (ms < 1) return '<1 ms';
  if (ms < 10) return `${Number(ms.toFixed(1))} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${Number((ms / 1000).toFixed(1))} s`;
  return `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1000)} s`;
}

/** A step's milliseconds, which may be thousandths: `4 µs`, `0.31 ms`, then as `duration`. */
export function fineDuration(ms) {
  if (ms < 0.1) return `${Math.round(ms * 1000)} µs`;
  return ms < 1 ? `${Number(ms.toFixed(2))} ms` : duration(ms);
}

/** US dollars; sums below a cent keep two significant digits, since that is what one answer costs. */
export function money(usd) {
  if (usd === 0) return '$0';
  return usd < 0.01 ? `$${Number(usd.toPrecision(2)).toFixed(Math.min(8, 1 - Math.floor(Math.log10(usd))))}` : `$${usd.toFixed(2)}`;
}

/** A cosine with three digits; one below 1 never reads as 1.000. */
export function similarity(cosine) {
  return (cosine < 1 ? Math.min(cosine, 0.999) : cosine).toFixed(3);
}

/** `1 token`, `1,204 tokens`. */
export function plural(number, noun) {
  return `${count.format(number)} ${noun}${number === 1 ? '' : 's'}`;
}

/** Seconds as the age of something: `just now`, `5 min`, `3 h`, `2 d`. */
export function age(seconds) {
  if (seconds < 60) return 'under a minute';
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  return seconds < 86_400 ? `${Math.floor(seconds / 3600)} h` : `${Math.floor(seconds / 86_400)} d`;
}

/** The group of the list a moment belongs to: `Today`, `Yesterday`, `Last 7 days` or `Earlier`. */
export function period(moment, now = new Date()) {
  const midnight = new Date(now).setHours(0, 0, 0, 0);
  if (moment >= midnight) return 'Today';
  if (moment >= midnight - DAY_MS) return 'Yesterday';
  return moment >= midnight - 7 * DAY_MS ? 'Last 7 days' : 'Earlier';
}

/** A moment as a short label: the time today, the day before that. */
export function moment(date) {
  return period(date) === 'Today' ? clock.format(date) : day.format(date);
}
