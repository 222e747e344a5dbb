// Owns: the Markdown inside a paragraph: emphasis, code, links, breaks. Every search for a closing mark looks a bounded way
// ahead, so the work is linear in the text whatever its author has written.

import { element } from './element.js';

const SPECIAL = /[\\`*_~[!<\n]|https?:\/\/|mailto:/g;
const ESCAPED = /[!-/:-@[-`{-~]/;
const AUTOLINK = /<((?:https?:\/\/|mailto:)[^\s<>]{1,2000})>/y;
const BARE_LINK = /(?:https?:\/\/|mailto:)[^\s<>"'`]{1,2000}/y;
const TARGET = /\(\s*<?((?:[^\s()<>]|\([^\s()]{0,500}\)){1,2000})>?(?:\s+(?:"[^"]{0,500}"|'[^']{0,500}'))?\s*\)/y;
const SAFE = new Set(['http:', 'https:', 'mailto:']);
const FARTHEST = 1500;
const DEEPEST = 6;

/** The nodes of one run of inline Markdown. */
export function inline(text, depth = 0) {
  const nodes = [];
  let plain = '';
  let at = 0;
  const flush = () => {
    if (plain !== '') nodes.push(plain);
    plain = '';
  };
  while (at < text.length) {
    SPECIAL.lastIndex = at;
    const next = SPECIAL.exec(text)?.index ?? text.length;
    plain += text.slice(at, next);
    at = next;
    if (at >= text.length) break;
    const taken = take(text, at, depth);
    if (taken.node !== undefined) {
      if (text[at] === '\n') plain = plain.trimEnd();
      flush();
      nodes.push(taken.node);
    } else {
      plain += taken.plain;
    }
    at = taken.end;
  }
  flush();
  return nodes;
}

/** What begins at `at`: `{node, end}`, or `{plain, end}` where the mark means nothing. */
function take(text, at, depth) {
  const mark = text[at];
  const found = mark === '\\' ? escape(text, at)
    : mark === '`' ? code(text, at)
    : mark === '\n' ? lineBreak(text, at)
    : mark === '[' || mark === '!' ? link(text, at, depth)
    : mark === '<' ? autolink(text, at)
    : mark === 'h' || mark === 'm' ? bareLink(text, at)
    : emphasis(text, at, depth);
  return found ?? { plain: mark, end: at + 1 };
}

function escape(text, at) {
  const next = text[at + 1];
  if (next === '\n') return { node: element('br'), end: at + 2 };
  return next !== undefined && ESCAPED.test(next) ? { plain: next, end: at + 2 } : null;
}

function code(text, at) {
  let marks = 1;
  while (text[at + marks] === '`') marks += 1;
  const fence = '`'.repeat(marks);
  const start = at + marks;
  for (let close = text.indexOf(fence, start); close !== -1 && close - start < FARTHEST; close = text.indexOf(fence, close)) {
    let end = close + marks;
    if (text[end] !== '`') {
      const content = text.slice(start, close).replaceAll('\n', ' ');
      const padded = content.startsWith(' ') && content.endsWith(' ') && content.trim() !== '';
      return { node: element('code', {}, padded ? content.slice(1, -1) : content), end };
    }
    while (text[end] === '`') end += 1;
    close = end;
  }
  return { plain: fence, end: start };
}

/** Two spaces before it make a break; a plain newline is a space, as in CommonMark. */
function lineBreak(text, at) {
  return text.slice(Math.max(0, at - 2), at) === '  ' ? { node: element('br'), end: at + 1 } : { plain: ' ', end: at + 1 };
}

function link(text, at, depth) {
  const image = text[at] === '!';
  const open = image ? at + 1 : at;
  if (text[open] !== '[') return null;
  const close = closingBracket(text, open);
  if (close === -1) return null;
  TARGET.lastIndex = close + 1;
  const target = TARGET.exec(text);
  if (!target) return null;
  const label = text.slice(open + 1, close);
  const children = image || depth >= DEEPEST ? [label || target[1]] : inline(label, DEEPEST);
  return { node: anchor(target[1], children), end: TARGET.lastIndex };
}

function closingBracket(text, open) {
  let level = 0;
  for (let at = open; at < text.length && at - open < 1000; at += 1) {
    if (text[at] === '\\') at += 1;
    else if (text[at] === '[') level += 1;
    else if (text[at] === ']' && (level -= 1) === 0) return at;
  }
  return -1;
}

function autolink(text, at) {
  AUTOLINK.lastIndex = at;
  const match = AUTOLINK.exec(text);
  return match && { node: anchor(match[1], [match[1]]), end: AUTOLINK.lastIndex };
}

function bareLink(text, at) {
  if (/[\p{L}\p{N}]/u.test(text[at - 1] ?? '')) return null;
  BARE_LINK.lastIndex = at;
  const match = BARE_LINK.exec(text);
  if (!match) return null;
  let address = match[0].replace(/[.,:;!?*_~\]]+$/, '');
  while (address.endsWith(')') && address.split(')').length > address.split('(').length) address = address.slice(0, -1);
  return { node: anchor(address, [address]), end: at + address.length };
}

/** A link that opens elsewhere and tells its target nothing; an address of any other scheme stays plain text. */
function anchor(address, children) {
  const url = URL.canParse(address) ? new URL(address) : null;
  if (!url || !SAFE.has(url.protocol)) return element('span', { class: 'unlinked' }, children);
  return element('a', { href: url.href, target: '_blank', rel: 'noopener noreferrer nofollow' }, children);
}

const TAGS = { '*': 'em', _: 'em', '**': 'strong', __: 'strong', '~~': 'del' };

function emphasis(text, at, depth) {
  const character = text[at];
  let run = 1;
  while (text[at + run] === character) run += 1;
  if (run === 3 && character !== '~') return nested(text, at, character, depth);
  const marker = character.repeat(run);
  const tag = TAGS[marker];
  if (!tag || depth >= DEEPEST) return { plain: marker, end: at + run };
  const close = closing(text, at, marker);
  if (close === -1) return { plain: marker, end: at + run };
  return { node: element(tag, {}, inline(text.slice(at + run, close), depth + 1)), end: close + run };
}

function nested(text, at, character, depth) {
  const marker = character.repeat(3);
  const close = depth < DEEPEST ? closing(text, at, marker) : -1;
  if (close === -1) return { plain: marker, end: at + 3 };
  return { node: element('strong', {}, element('em', {}, inline(text.slice(at + 3, close), depth + 1))), end: close + 3 };
}

/** Where the mark opened at `at` closes, or -1: content must touch both marks, and `_` never works inside a word. */
function closing(text, at, marker) {
  const start = at + marker.length;
  const word = /[\p{L}\p{N}]/u;
  if (/\s/.test(text[start] ?? ' ') || (marker[0] === '_' && word.test(text[at - 1] ?? ''))) return -1;
  for (let close = text.indexOf(marker, start + 1); close !== -1 && close - start < FARTHEST; close = text.indexOf(marker, close + 1)) {
    const after = text[close + marker.length] ?? '';
    const longer = text[close - 1] === marker[0] || after === marker[0];
    if (/\s/.test(text[close - 1]) || text[close - 1] === '\\' || (marker[0] === '_' && word.test(after))) continue;
    if (longer && marker.length === 1) {
      // `*a **b***`: skip over a whole longer run, it closes something inside.
      while (text[close + 1] === marker[0]) close += 1;
      if (text[close - 2] !== marker[0]) continue;
    }
    return close;
  }
  return -1;
}
