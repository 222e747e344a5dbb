// Owns: a list that is shown page by page and kept up to date. While somebody points at it, or is in it by keyboard or with a
// selection, what is new waits to be shown: nothing moves under a hand.

import { button, element } from '../element.js';
import { keep, say } from './keep.js';

const PAGE = 50;

export class Pages {
  /** The last item of each page before this one. */
  #before = [];
  #shown = [];
  #latest = [];
  #nothing = '';
  #pointed = false;

  /** `row(item)` makes a view of an item, which has an `id`; `onTurn()` has another page looked at. */
  constructor({ row, onTurn, testid }) {
    Object.assign(this, { row, onTurn });
    this.rows = element('ul', { class: `rows ${testid}`, 'data-testid': testid });
    this.empty = element('p', { class: 'quiet rows-empty', 'data-testid': `no-${testid}` }, 'Looking…');
    this.newer = button({ label: 'Newer', text: 'Newer', iconName: 'chevron-left', className: 'outlined', testid: 'newer', onClick: () => this.#turn(-1) });
    this.older = button({ label: 'Older', text: 'Older', iconName: 'chevron-right', className: 'outlined', testid: 'older', onClick: () => this.#turn(1) });
    this.fresh = button({ label: 'Show what is new', text: 'Show what is new', iconName: 'arrow-up', className: 'fresh', testid: 'fresh', hidden: true, onClick: () => this.#showLatest() });
    this.root = element('div', {}, this.rows, this.empty, element('nav', { class: 'pager', 'aria-label': 'Pages' }, this.newer, this.fresh, this.older));
    this.rows.addEventListener('pointerenter', () => { this.#pointed = true; });
    this.rows.addEventListener('pointerleave', () => { this.#pointed = false; });
    this.#turned();
  }

  /** What the server is asked for; one item more than a page tells whether there is another. */
  query() {
    return { before: this.#before.at(-1), limit: PAGE + 1 };
  }

  /** From the first page on: something else is wanted. */
  toFirst() {
    this.#before = [];
    this.#turned();
    this.onTurn();
  }

  /** Shows what the server gave; `nothing` says that there is none. */
  show(items, nothing) {
    this.#latest = items;
    this.#nothing = nothing;
    const isSame = items.length >= this.#shown.length && this.#shown.every((id, at) => items[at].id === id) && this.#shown.length === Math.min(items.length, PAGE);
    const isHeld = this.#shown.length > 0 && !isSame && (this.#pointed || this.rows.contains(document.activeElement) || this.#isSelected());
    if (!isHeld) return this.#showLatest();
    const known = new Map(items.map((item) => [item.id, item]));
    this.fresh.hidden = false;
    this.#draw(this.#shown.map((id) => known.get(id) ?? { id, isGone: true }));
  }

  #showLatest() {
    const items = this.#latest.slice(0, PAGE);
    this.#shown = items.map((item) => item.id);
    this.fresh.hidden = true;
    this.older.disabled = this.#latest.length <= PAGE;
    this.#draw(items);
    say(this.empty, items.length > 0 ? '' : this.#nothing);
  }

  #draw(items) {
    keep(this.rows, items, (item) => item.id, this.row);
  }

  #isSelected() {
    const selection = getSelection();
    return !selection.isCollapsed && this.rows.contains(selection.anchorNode);
  }

  #turn(pages) {
    if (pages < 0) this.#before.pop();
    else this.#before.push(this.#shown.at(-1));
    this.#turned();
    this.onTurn();
  }

  /** What is shown is another page from here on: nothing of the last one is held. */
  #turned() {
    this.#shown = [];
    this.newer.disabled = this.#before.length === 0;
    this.older.disabled = true;
  }
}
