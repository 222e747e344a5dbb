// Owns: one browser page on the server, as a person meets it, with a record of its frames and of what the console said.

import { strict as assert } from 'node:assert';
import { fault } from './frames.mjs';

/** Generous: a page that comes back after a restart waits longer each time it finds nobody. */
const DEADLINE_MS = 90_000;

/** Keeps every state that the connection line goes through, since some of them are shown for a moment only. */
function recordConnection() {
  window.connectionStates = [];
  document.addEventListener('DOMContentLoaded', () => {
    const line = document.getElementById('connection');
    new MutationObserver(() => window.connectionStates.push(line.dataset.state)).observe(line, { attributeFilter: ['data-state'] });
  });
}

export class Chat {
  /** Opens the page. `options` are the browser context's; `prepare(page)` runs before the page loads. */
  static async open(browser, server, options = {}, prepare = async () => {}) {
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
    context.setDefaultTimeout(DEADLINE_MS);
    const chat = new Chat();
    chat.context = context;
    chat.server = server;
    chat.page = await context.newPage();
    chat.complaints = [];
    chat.faults = [];
    chat.frames = [];
    chat.#listen();
    await context.addInitScript(recordConnection);
    await prepare(chat.page);
    await chat.page.goto(server.url);
    return chat;
  }

  #listen() {
    this.page.on('console', (message) => message.type() === 'error' && this.complaints.push(message.text()));
    this.page.on('pageerror', (error) => this.complaints.push(String(error)));
    this.page.on('websocket', (socket) => {
      const keep = (direction) => ({ payload }) => {
        this.frames.push({ direction, ...JSON.parse(payload) });
        const found = fault(direction, payload);
        if (found) this.faults.push(found);
      };
      socket.on('framesent', keep('sent'));
      socket.on('framereceived', keep('received'));
    });
  }

  at(testid) {
    return this.page.getByTestId(testid);
  }

  get answer() {
    return this.at('message-assistant').last();
  }

  get badge() {
    return this.answer.getByTestId('badge');
  }

  /** The open conversation's id, from the address. */
  get conversation() {
    return decodeURIComponent(new URL(this.page.url()).hash.replace('#/c/', ''));
  }

  async connected() {
    await this.page.locator('[data-testid=connection-status][data-state=online]').waitFor({ state: 'attached' });
  }

  /** Waits until the connection line has shown one of the states since the page was loaded, for however short a time. */
  async connectionWas(...states) {
    await this.page.waitForFunction((wanted) => window.connectionStates.some((state) => wanted.includes(state)), states);
  }

  /** Chooses the model that does what a question's directives say; it stays chosen in this browser context. */
  async chooseObedientModel() {
    await this.at('model-picker').selectOption('mock');
  }

  /** Types a question and sends it with Enter; returns at once. */
  async send(text) {
    const before = await this.at('message-assistant').count();
    await this.at('composer').fill(text);
    await this.at('composer').press('Enter');
    await this.at('message-assistant').nth(before).waitFor();
  }

  /** Waits until the newest answer is in one of the states. */
  async ends(...states) {
    const selector = states.map((state) => `[data-state=${state}]`).join(', ');
    await this.answer.and(this.page.locator(selector)).waitFor();
    await this.page.locator('#composer[data-state=idle]').waitFor();
  }

  /** Asks and waits for the whole answer; returns the state of its badge. */
  async ask(text) {
    await this.send(text);
    await this.ends('complete');
    return this.badge.getAttribute('data-state');
  }

  async newChat() {
    await this.at('new-chat').click();
    await this.at('empty').waitFor();
  }

  /** Waits until the newest answer streams and at least `length` characters of it are shown. */
  async streams(length = 1) {
    await this.page.waitForFunction((least) => {
      const answer = [...document.querySelectorAll('[data-testid=message-assistant]')].at(-1);
      const shown = answer?.querySelector('[data-testid=answer-text]').textContent.length ?? 0;
      if (answer && !['sending', 'waiting', 'streaming'].includes(answer.dataset.state)) throw new Error(`the answer is ${answer.dataset.state} already`);
      return shown >= least && answer.dataset.state === 'streaming';
    }, length);
    return this.shownLength();
  }

  async shownLength() {
    return (await this.answer.getByTestId('answer-text').textContent()).length;
  }

  /** Checks that the newest answer shows exactly `markdown`, by rendering it once more in one piece. */
  async shows(markdown) {
    const whole = await this.page.evaluate(async (text) => {
      const { MarkdownView } = await import(new URL('markdown.js', document.querySelector('script[src$="app.js"]').src));
      const root = document.createElement('div');
      new MarkdownView(root).show(text);
      return root.innerHTML;
    }, markdown);
    assert.equal(await this.answer.getByTestId('answer-text').innerHTML(), whole, 'the text shown is not the text stored');
  }

  /** The newest stored message, checked to be what the page shows. */
  async stored() {
    const messages = await this.server.messages(this.conversation);
    const message = messages.at(-1);
    assert.equal(message.role, 'assistant');
    await this.shows(message.content);
    return message;
  }

  /** Closes the page, after checking that nothing complained. `expected` are complaints that belong to the case. */
  async close(expected = []) {
    await this.context.close();
    const complaints = this.complaints.filter((text) => !expected.some((pattern) => pattern.test(text)));
    assert.deepEqual(complaints, [], 'the console complained');
    assert.deepEqual([...new Set(this.faults)], [], 'a frame is not as the schema says');
  }
}
