// Owns: the list of conversations in the sidebar: newest first, pages, or what a search found; arrow keys, renaming in place,
// the menu of each. Leaves opening one to its caller.

import { button, element } from './element.js';
import { openMenu } from './menu.js';
import { moment, period } from './units.js';

/**
 * The list in `root`. `actions`: `load(cursor)` (a promise of a REST page), `rename(conversation, title)`,
 * `download(conversation, format)`, `remove(conversation)`.
 */
export class ConversationList {
  #conversations = new Map();
  #running = new Set();
  #cursor = null;
  #current = null;
  /** What a search found, `{conversations, more}`; `null`: no search. */
  #found = null;
  /** The conversation whose title is being edited: the list stands still meanwhile. */
  #renaming = null;

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
    const found = this.#found?.conversations.find(({ id }) => id === conversation.id);
    if (found) Object.assign(found, conversation);
    this.#draw();
  }

  has(id) {
    return this.#conversations.has(id);
  }

  drop(id) {
    this.#conversations.delete(id);
    if (this.#found) this.#found.conversations = this.#found.conversations.filter((conversation) => conversation.id !== id);
    this.#draw();
  }

  /** Shows what a search found instead of all; `null` ends that. `more` loads the next ones, where there are any. */
  showFound(conversations, more = null) {
    this.#found = conversations && { conversations, more };
    this.#draw();
  }

  /** Adds a further page of what was found. */
  addFound(conversations, more) {
    this.showFound([...this.#found.conversations, ...conversations], more);
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

  focusFirst() {
    this.root.querySelector('a[data-conversation]')?.focus();
  }

  #draw() {
    if (this.#renaming) return;
    const focused = this.root.contains(document.activeElement) ? document.activeElement.closest('[data-id]')?.dataset.id : null;
    if (this.#found) this.#drawFound();
    else this.#drawAll();
    if (focused) this.#linkOf(focused)?.focus();
  }

  #drawAll() {
    const newestFirst = [...this.#conversations.values()].sort((a, b) => new Date(b.updated_at) - new Date(a.updated_at));
    const groups = Map.groupBy(newestFirst, (conversation) => period(new Date(conversation.updated_at)));
    this.root.replaceChildren(...[...groups].map(([name, members]) => this.#section(name, members)));
    if (newestFirst.length === 0) this.root.append(element('p', { class: 'quiet' }, 'Your chats will be listed here.'));
    if (this.#cursor) this.#appendOlder('Show older chats', 'Show older', 'older-conversations', () => this.#loadOlder());
  }

  #drawFound() {
    const { conversations, more } = this.#found;
    this.root.replaceChildren(
      conversations.length === 0
        ? element('p', { class: 'quiet', role: 'status', 'data-testid': 'nothing-found' }, 'No chat holds these words.')
        : this.#section('Found', conversations),
    );
    if (more) this.#appendOlder('Show more chats that were found', 'Show more', 'more-found', more);
  }

  #section(name, members) {
    return element(
      'section', { 'aria-label': name }, element('h2', {}, name), element('ul', {}, members.map((conversation) => this.#item(conversation))),
    );
  }

  #appendOlder(label, text, testid, onClick) {
    this.root.append(button({ label, text, className: 'older', testid, onClick }));
  }

  #item(conversation) {
    const { id, title, updated_at: updated, match } = conversation;
    const name = title || 'New chat';
    return element(
      'li', { class: 'conversation', 'data-testid': 'conversation-item', 'data-state': id === this.#current ? 'open' : 'closed', 'data-id': id },
      element(
        'a', { href: `#/c/${encodeURIComponent(id)}`, 'data-conversation': id, 'aria-current': id === this.#current ? 'page' : null, title: name },
        element('span', { class: 'conversation-title' }, name),
        this.#running.has(id)
          ? element('span', { class: 'conversation-running', role: 'img', 'aria-label': 'An answer is being written' })
          : element('time', { datetime: new Date(updated).toISOString() }, moment(new Date(updated))),
        match && element('span', { class: 'snippet', 'data-testid': 'snippet' }, match.snippet.map(({ text, hit }) => (hit ? element('mark', {}, text) : text))),
      ),
      button({
        label: `More about ${name}`, iconName: 'more', className: 'icon-button small', testid: 'conversation-menu',
        'aria-haspopup': 'menu', 'aria-expanded': 'false', onClick: (event) => this.#menu(event.currentTarget, conversation),
      }),
    );
  }

  #menu(anchor, conversation) {
    const { download, remove } = this.actions;
    openMenu(anchor, [
      { label: 'Rename', iconName: 'pen', testid: 'rename-conversation', onChoose: () => this.#rename(conversation) },
      { label: 'Export as Markdown', iconName: 'download', testid: 'export-markdown', onChoose: () => download(conversation, 'markdown') },
      { label: 'Export as JSON', iconName: 'download', testid: 'export-json', onChoose: () => download(conversation, 'json') },
      { label: 'Delete', iconName: 'trash', testid: 'delete-conversation', danger: true, onChoose: () => remove(conversation) },
    ]);
  }

  /** The title becomes a box: Enter and leaving it keep what was typed, Esc the old title. */
  #rename(conversation) {
    const link = this.#linkOf(conversation.id);
    if (!link) return;
    const input = element('input', { class: 'rename', maxlength: 200, 'aria-label': 'Title of the chat', 'data-testid': 'rename-input' });
    input.value = conversation.title ?? '';
    const end = (keep) => {
      if (this.#renaming !== conversation.id) return;
      const hadFocus = document.activeElement === input;
      this.#renaming = null;
      const title = input.value.trim();
      if (keep && title !== '' && title !== conversation.title) this.actions.rename(conversation, title);
      this.#draw();
      if (hadFocus) this.#linkOf(conversation.id)?.focus();
    };
    input.addEventListener('blur', () => end(true));
    input.addEventListener('keydown', (event) => {
      event.stopPropagation();
      if (event.isComposing) return;
      if (event.key === 'Enter') end(true);
      else if (event.key === 'Escape') end(false);
    });
    this.#renaming = conversation.id;
    link.replaceWith(input);
    input.focus();
    input.select();
  }

  async #loadOlder() {
    const page = await this.actions.load(this.#cursor);
    for (const conversation of page.data) this.#conversations.set(conversation.id, conversation);
    this.#cursor = page.next_cursor;
    this.#draw();
  }

  #linkOf(id) {
    return this.root.querySelector(`a[data-conversation="${CSS.escape(id)}"]`);
  }

  #conversation(id) {
    return this.#found?.conversations.find((conversation) => conversation.id === id) ?? this.#conversations.get(id);
  }

  #key(event) {
    const links = [...this.root.querySelectorAll('a[data-conversation]')];
    const at = links.indexOf(document.activeElement);
    if (at === -1) return;
    const conversation = this.#conversation(links[at].dataset.conversation);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: links.length - 1 }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      links[Math.max(0, Math.min(links.length - 1, to))].focus();
    } else if (event.key === 'Delete') {
      event.preventDefault();
      this.actions.remove(conversation);
    } else if (event.key === 'F2') {
      event.preventDefault();
      this.#rename(conversation);
    }
  }
}
