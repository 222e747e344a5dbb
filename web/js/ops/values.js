// Owns: how JSON that a job was given, or has said, is written for a reader: as text, whatever it holds.

import { element } from '../element.js';

/** A value of any kind, indented; a text as it is. */
export function written(value) {
  const text = typeof value === 'string' ? value : JSON.stringify(value, null, 2);
  return element('pre', { class: 'value', tabindex: '0' }, text);
}

/** Names with what they stand for; what is not there is left out. */
export function facts(fields) {
  const known = Object.entries(fields).filter(([, value]) => value !== null && value !== undefined);
  return element('dl', { class: 'pairs' }, known.map(([name, value]) => [element('dt', {}, name), element('dd', {}, String(value))]));
}
