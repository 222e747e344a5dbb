// Owns: reading JSON without losing digits: numbers that are too large for the browser stay as they were written.

const isLost = (value) => Number.isInteger(value) && !Number.isSafeInteger(value);

/** As `JSON.parse`; written again by `JSON.stringify`, a large number is what it was, where the browser can. */
export function parseExactly(text) {
  return JSON.parse(text, (_, value, context) => (isLost(value) && context?.source && JSON.rawJSON ? JSON.rawJSON(context.source) : value));
}
