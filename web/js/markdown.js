// Owns: Markdown to DOM nodes, for text that nobody vouches for. Nodes are built one by one (see element.js), links go to
// http, https and mailto only, images become links: reading an answer contacts no other host. Leaves out raw HTML, footnotes
// and reference links. The dialect is the useful middle of CommonMark 0.31 and GitHub's tables and task lists.

import { element, icon } from './element.js';
import { inline } from './inline.js';

const FENCE = /^( {0,3})(`{3,}|~{3,})\s*([^\s`]*)[^`]*$/;
const HEADING = /^ {0,3}(#{1,6})(?:\s+(.*?))?(?:\s+#+)?\s*$/;
const RULE = /^ {0,3}([-*_])(?:\s*\1){2,}\s*$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])(?:\s+|$)/;
const TABLE_RULE = /^ {0,3}\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*$/;
const TASK = /^\[([ xX])\]\s+/;
const DEEPEST = 8;

/** Shows growing text in `root`: each `show` rebuilds only the blocks whose source has changed, so the rest keeps still. */
export class MarkdownView {
  #blocks = [];

  constructor(root) {
    this.root = root;
  }

  /** Shows text that is still growing, without the marks whose other half has not come yet. */
  showGrowing(text) {
    this.show(steady(text));
  }

  show(text) {
    const next = blocks(text.split('\n'));
    const shown = this.#blocks;
    next.forEach((block, index) => {
      const old = shown[index];
      if (old?.source === block.source && old.kind === block.kind) {
        block.node = old.node;
      } else if (old?.kind === 'code' && block.kind === 'code' && old.language === block.language) {
        block.node = old.node;
        block.node.querySelector('code').textContent = block.code;
      } else {
        block.node = build(block, 0);
        if (old) old.node.replaceWith(block.node);
        else this.root.append(block.node);
      }
    });
    for (const old of shown.slice(next.length)) old.node.remove();
    this.#blocks = next;
  }
}

/** Text with the open end of its last line settled: a lone `**` or backquote closed, a half link shown as its label. */
function steady(text) {
  const start = text.lastIndexOf('\n') + 1;
  const line = text.slice(start);
  const fences = text.match(/^ {0,3}(?:`{3,}|~{3,})/gm) ?? [];
  if (fences.length % 2 === 1 || FENCE.test(line)) return text;
  const opened = line.replace(/!?\[([^\]]*)(?:\](?:\([^)]*)?)?$/, '$1').replace(/(^|\s)[*_`~]+$/, '$1').trimEnd();
  return text.slice(0, start) + closed(closed(opened, '`'), '**');
}

/** The line with a last lone `mark` closed; what is inside code does not count. A closing mark that is half there is completed. */
function closed(line, mark) {
  const isOpen = (text) => (mark === '`' ? text : text.replace(/`[^`]*`/g, '')).split(mark).length % 2 === 0;
  if (!isOpen(line)) return line;
  let bare = line;
  while (bare.endsWith(mark[0])) bare = bare.slice(0, -1);
  return isOpen(bare) ? bare + mark : bare;
}

/** Cuts lines into top-level blocks, each with its `kind`, its `source`, and what its builder needs. */
function blocks(lines) {
  const found = [];
  let at = 0;
  while (at < lines.length) {
    if (lines[at].trim() === '') {
      at += 1;
      continue;
    }
    const block = fence(lines, at) ?? heading(lines, at) ?? rule(lines, at) ?? quote(lines, at) ?? list(lines, at)
      ?? table(lines, at) ?? paragraph(lines, at);
    block.source = lines.slice(at, block.end).join('\n');
    found.push(block);
    at = block.end;
  }
  return found;
}

function fence(lines, at) {
  const open = FENCE.exec(lines[at]);
  if (!open) return null;
  const [, indent, marks, language] = open;
  const code = [];
  let end = at + 1;
  for (; end < lines.length; end += 1) {
    const bare = lines[end].trim();
    if (bare.length >= marks.length && bare === marks[0].repeat(bare.length)) break;
    code.push(lines[end].startsWith(indent) ? lines[end].slice(indent.length) : lines[end].trimStart());
  }
  return { kind: 'code', language, code: code.join('\n'), end: Math.min(end + 1, lines.length) };
}

function heading(lines, at) {
  const match = HEADING.exec(lines[at]);
  return match && { kind: 'heading', level: match[1].length, text: match[2] ?? '', end: at + 1 };
}

function rule(lines, at) {
  return RULE.test(lines[at]) ? { kind: 'rule', end: at + 1 } : null;
}

function quote(lines, at) {
  if (!QUOTE.test(lines[at])) return null;
  let end = at;
  while (end < lines.length && QUOTE.test(lines[end])) end += 1;
  return { kind: 'quote', lines: lines.slice(at, end).map((line) => line.replace(QUOTE, '')), end };
}

function list(lines, at) {
  const first = ITEM.exec(lines[at]);
  if (!first || RULE.test(lines[at])) return null;
  const ordered = /\d/.test(first[2]);
  const items = [];
  let end = at;
  let inset = 0;
  for (; end < lines.length; end += 1) {
    const line = lines[end];
    const item = ITEM.exec(line);
    if (item && item[1].length < inset + (items.length === 0 ? 9 : 0) && !RULE.test(line)) {
      if (items.length > 0 && /\d/.test(item[2]) !== ordered) break;
      inset = Math.max(item[0].trimEnd().length + 1, 2);
      items.push([line.slice(item[0].length)]);
    } else if (line.trim() === '') {
      const next = lines.slice(end + 1).find((later) => later.trim() !== '');
      if (next === undefined || !(indentOf(next) >= inset || sameList(next, ordered, inset))) break;
      items.at(-1).push('');
    } else if (indentOf(line) >= inset || items.at(-1).at(-1) !== '' && !startsBlock(line)) {
      items.at(-1).push(line.slice(Math.min(inset, indentOf(line))));
    } else {
      break;
    }
  }
  return { kind: 'list', ordered, start: ordered ? Number.parseInt(first[2], 10) : null, items, end };
}

const indentOf = (line) => line.length - line.trimStart().length;
const startsBlock = (line) => [FENCE, HEADING, RULE, QUOTE, ITEM].some((pattern) => pattern.test(line));

function sameList(line, ordered, inset) {
  const item = ITEM.exec(line);
  return item !== null && item[1].length < inset && /\d/.test(item[2]) === ordered;
}

function table(lines, at) {
  if (!lines[at].includes('|') || !TABLE_RULE.test(lines[at + 1] ?? '') || !lines[at + 1].includes('-')) return null;
  const head = cells(lines[at]);
  const aligns = cells(lines[at + 1]).map((mark) => (mark.endsWith(':') ? (mark.startsWith(':') ? 'center' : 'end') : 'start'));
  if (aligns.length !== head.length) return null;
  let end = at + 2;
  while (end < lines.length && lines[end].includes('|') && !startsBlock(lines[end])) end += 1;
  return { kind: 'table', head, aligns, rows: lines.slice(at + 2, end).map(cells), end };
}

/** The cells of a table's row; `\|` is a bar inside a cell. */
function cells(line) {
  const bare = line.trim().replace(/^\|/, '').replace(/(?<!\\)\|$/, '');
  return bare.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll('\\|', '|'));
}

function paragraph(lines, at) {
  let end = at + 1;
  while (end < lines.length && lines[end].trim() !== '' && !startsBlock(lines[end])) end += 1;
  return { kind: 'paragraph', text: lines.slice(at, end).map((line) => line.trimStart()).join('\n'), end };
}

function build(block, depth) {
  switch (block.kind) {
    case 'code': return codeBlock(block);
    case 'heading': return element(`h${Math.min(block.level + 2, 6)}`, { class: `h${block.level}` }, inline(block.text));
    case 'rule': return element('hr');
    case 'quote': return element('blockquote', {}, within(block.lines, depth));
    case 'list': return listNode(block, depth);
    case 'table': return tableNode(block);
    default: return element('p', {}, inline(block.text));
  }
}

/** Blocks inside a quote or an item. Past the deepest level the text is shown as it is: nesting is an attacker's to choose. */
function within(lines, depth) {
  if (depth >= DEEPEST) return [lines.join('\n')];
  return blocks(lines).map((block) => build(block, depth + 1));
}

function listNode(block, depth) {
  const loose = block.items.some((lines) => lines.slice(0, -1).includes(''));
  const items = block.items.map((lines) => {
    const task = TASK.exec(lines[0]);
    if (task) lines = [lines[0].slice(task[0].length), ...lines.slice(1)];
    const children = within(lines, depth);
    const tight = loose ? children : children.flatMap((child) => (child.tagName === 'P' ? [...child.childNodes] : [child]));
    const box = task && element('input', { type: 'checkbox', disabled: true, checked: task[1] !== ' ', 'aria-label': task[1] === ' ' ? 'open' : 'done' });
    return element('li', { class: task ? 'task' : null }, box, tight);
  });
  return block.ordered ? element('ol', { start: block.start === 1 ? null : block.start }, items) : element('ul', {}, items);
}

function tableNode({ head, aligns, rows }) {
  const row = (tag, values) => element('tr', {}, head.map((_, index) => (
    element(tag, { class: `align-${aligns[index]}`, scope: tag === 'th' ? 'col' : null }, inline(values[index] ?? ''))
  )));
  // A wide table scrolls by itself, and a scrolling region must be reachable by keyboard.
  return element('div', { class: 'table', tabindex: '0', role: 'group', 'aria-label': 'Table' }, element(
    'table', {}, element('thead', {}, row('th', head)), element('tbody', {}, rows.map((values) => row('td', values))),
  ));
}

function codeBlock({ language, code }) {
  const content = element('code', {}, code);
  const label = element('span', {}, 'Copy');
  const copy = element('button', { type: 'button', class: 'copy-code', 'data-testid': 'copy-code', 'aria-label': 'Copy code' }, icon('copy'), label);
  copy.addEventListener('click', async () => {
    const copied = await navigator.clipboard.writeText(content.textContent).then(() => true, () => false);
    label.textContent = copied ? 'Copied' : 'Select it by hand';
    setTimeout(() => { label.textContent = 'Copy'; }, 1600);
  });
  return element(
    'figure', { class: 'code' },
    element('figcaption', {}, element('span', { class: 'language' }, language || 'text'), copy),
    element('pre', { tabindex: '0' }, content),
  );
}
