// Owns: the list of conversations in the sidebar: newest first, pages, arrow keys, deleting. Leaves opening one to its caller.

import { button, element } from './element.js';
import { moment, period } from './units.js';

/**
 * The list in `root`. `actions`: `load(cursor)` (a promise of a REST page), `open(id)`, `remove(conversation)`.
 */
export class ConversationList {
  #conversations = new Map();
  #running = new Set();
  #cursor = null;
  #current = null;

  constructor(root, actions) {
    this.root = root;
    this.actions = actions;
    root.addEventListener('keydown', (event) => this.#key(event));
  }

  /** Loads the newest page again and keeps the older ones that are already here. */
  async reload() {
    const page = await this.actions.load();
    const isFirst = this.#conversations.size === 0;
    for (const conversation of page.data) this.#conversations.set(conversation.id, conversation);
    if (isFirst) this.#cursor = page.next_cursor;
    this.#draw();
  }

  /** Adds or replaces one. */
  put(conversation) {
    this.#conversations.set(conversation.id, { ...this.#conversations.get(conversation.id), ...conversation });
    this.#draw();
  }

  has(id) {
    return this.#conversations.has(id);
  }

  drop(id) {
    this.#conversations.delete(id);
    this.#draw();
  }

  /** Marks the open conversation; `null` for a new chat. */
  select(id) {
    this.#current = id;
    this.#draw();
  }

  /** Marks a conversation in which an answer is being written. */
  setRunning(id, running) {
    if (running === this.#running.has(id)) return;
    if (running) this.#running.add(id);
    else this.#running.delete(id);
    this.#draw();
  }

  #draw() {
    const focused = this.root.contains(document.activeElement) ? document.activeElement.dataset.conversation : null;
    const newestFirst = [...this.#conversations.values()].sort((a, b) => new Date(b.updated_at) - new Date(a.updated_at));
    const groups = Map.groupBy(newestFirst, (conversation) => period(new Date(conversation.updated_at)));
    this.root.replaceChildren(...[...groups].map(([name, members]) => element(
      'section', { 'aria-label': name }, element('h2', {}, name), element('ul', {}, members.map((conversation) => this.#item(conversation))),
    )));
    if (newestFirst.length === 0) this.root.append(element('p', { class: 'quiet' }, 'Your chats will be listed here.'));
    if (this.#cursor) {
      this.root.append(button({
        label: 'Show older chats', text: 'Show older', className: 'older', testid: 'older-conversations', onClick: () => this.#loadOlder(),
      }));
    }
    if (focused) this.root.querySelector(`a[data-conversation="${CSS.escape(focused)}"]`)?.focus();
  }

  #item(conversation) {
    const { id, title, updated_at: updated } = conversation;
    const name = title || 'New chat';
    return element(
      'li', { class: 'conversation', 'data-testid': 'conversation-item', 'data-state': id === this.#current ? 'open' : 'closed', 'data-id': id },
      element(
        'a', { href: `#/c/${encodeURIComponent(id)}`, 'data-conversation': id, 'aria-current': id === this.#current ? 'page' : null, title: name },
        element('span', { class: 'conversation-title' }, name),
        this.#running.has(id)
          ? element('span', { class: 'conversation-running', role: 'img', 'aria-label': 'An answer is being written' })
          : element('time', { datetime: new Date(updated).toISOString() }, moment(new Date(updated))),
      ),
      button({
        label: `Delete ${name}`, iconName: 'trash', className: 'icon-button small', testid: 'delete-conversation', onClick: () => this.actions.remove(conversation),
      }),
    );
  }

  async #loadOlder() {
    const page = await this.actions.load(this.#cursor);
    for (const conversation of page.data) this.#conversations.set(conversation.id, conversation);
    this.#cursor = page.next_cursor;
    this.#draw();
  }

  #key(event) {
    const links = [...this.root.querySelectorAll('a[data-conversation]')];
    const at = links.indexOf(document.activeElement);
    if (at === -1) return;
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: links.length - 1 }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      links[Math.max(0, Math.min(links.length - 1, to))].focus();
    } else if (event.key === 'Delete') {
      event.preventDefault();
      this.actions.remove(this.#conversations.get(links[at].dataset.conversation));
    }
  }
}
