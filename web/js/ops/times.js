// Owns: how far away a moment is, in words, and where it is written out.

import { element } from '../element.js';
import { say } from './keep.js';

/** Milliseconds roughly, as `4 s`, `12 min`, `3 h` or `2 d`. */
export function span(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  return seconds < 172_800 ? `${Math.floor(seconds / 3600)} h` : `${Math.floor(seconds / 86_400)} d`;
}

/** How long ago, or how soon. */
export function away(date, now = Date.now()) {
  const ms = Date.parse(date) - now;
  return ms > 500 ? `in ${span(ms)}` : `${span(-ms)} ago`;
}

/** A `time` that `update(date, words)` changes; its title is the moment itself. */
export function timeView() {
  const root = element('time', {});
  return {
    root,
    update(date, words) {
      say(root, words);
      if (!date || root.dateTime === date) return;
      root.dateTime = date;
      root.title = new Date(date).toLocaleString();
    },
  };
}
