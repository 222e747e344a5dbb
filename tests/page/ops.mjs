// Owns: one browser page of operations, as a person meets it, with a record of what the console said.

import { strict as assert } from 'node:assert';

const DEADLINE_MS = 60_000;

export class Ops {
  /** Opens the page at `path` below `/ops`; without one, where that leads. `options` are the browser context's; `prepare(page)` runs before the page loads. */
  static async open(browser, server, path = '', options = {}, prepare = async () => {}) {
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
    context.setDefaultTimeout(DEADLINE_MS);
    const ops = new Ops();
    ops.context = context;
    ops.page = await context.newPage();
    ops.complaints = [];
    ops.page.on('console', (message) => message.type() === 'error' && ops.complaints.push(message.text()));
    ops.page.on('pageerror', (error) => ops.complaints.push(String(error)));
    await prepare(ops.page);
    await ops.page.goto(`${server.url}ops${path === '' ? '' : `/${path}`}`);
    return ops;
  }

  at(testid) {
    return this.page.getByTestId(testid);
  }

  tab(state) {
    return this.page.locator(`[data-testid=tab][data-state=${state}]`);
  }

  /** A task in the list, in a state where one is named. */
  row(id, state) {
    return this.page.locator(`[data-testid=tasks] [data-id="${id}"] a${state ? `[data-state=${state}]` : ''}`);
  }

  drawer(state) {
    return this.page.locator(`[data-testid=task-drawer][data-state=${state}]`);
  }

  /** Waits until the focus is where the selector says. */
  async focusIs(selector) {
    await this.page.waitForFunction((wanted) => document.activeElement?.matches(wanted), selector);
  }

  /** Ends it; the console may have said nothing but what `expected` fits. */
  async close(expected = []) {
    await this.context.close();
    assert.deepEqual(this.complaints.filter((text) => !expected.some((pattern) => pattern.test(text))), []);
  }
}
