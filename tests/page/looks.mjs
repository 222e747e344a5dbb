// The cases about using the page: keyboard alone, a narrow screen, dark mode, and text that means harm.

import { strict as assert } from 'node:assert';
import { Chat } from './chat.mjs';
import * as questions from './questions.mjs';

const HARM = [
  '<script>window.harmed = 1</script>',
  '<img src=x onerror="window.harmed = 2">',
  '[press](javascript:window.harmed=3) [data](data:text/html,<script>1</script>) [case](JaVaScRiPt:window.harmed=4)',
  '<javascript:window.harmed=5> ![pixel](https://example.invalid/pixel.png)',
  '[quote](https://example.org/"onmouseover="window.harmed=6) <a href="javascript:window.harmed=7">a</a>',
  '```"><img src=x onerror=window.harmed=8>\n<script>window.harmed = 9</script>\n```',
  '| a | b |\n|---|---|\n| <img src=x onerror=window.harmed=10> | **<svg onload=window.harmed=11>** |',
  `${'> '.repeat(500)}deep ${'['.repeat(2000)} ${'*a '.repeat(3000)}`,
].join('\n\n');

export const looks = {
  async 'the keyboard is enough'({ browser, server }) {
    const chat = await Chat.open(browser, server);
    const { page } = chat;
    const focused = () => page.evaluate(() => document.activeElement.dataset.testid ?? document.activeElement.id);
    await chat.connected();
    await chat.chooseObedientModel();
    await page.getByTestId('theme-toggle').focus();
    await page.keyboard.press('/');
    assert.equal(await focused(), 'composer');
    await page.keyboard.type('two');
    await page.keyboard.press('Shift+Enter');
    await page.keyboard.type('lines');
    assert.equal(await chat.at('composer').inputValue(), 'two\nlines');
    await page.keyboard.press('Control+A');
    await page.keyboard.type(questions.waiting.typed);
    await page.keyboard.press('Enter');
    await chat.streams(questions.SHOWN_LENGTH);
    await page.keyboard.press('Escape');
    await chat.ends('cancelled');
    await page.locator('[data-conversation]').first().focus();
    await page.keyboard.press('ArrowDown');
    await page.keyboard.press('ArrowUp');
    await page.keyboard.press('Enter');
    await chat.at('message-assistant').first().waitFor();
    await page.keyboard.press('Control+k');
    assert.equal(await focused(), 'composer');
    await page.locator('[data-conversation]').first().focus();
    const id = chat.conversation;
    await page.keyboard.press('Delete');
    await chat.at('confirm-no').waitFor();
    await page.keyboard.press('Tab');
    assert.equal(await focused(), 'confirm-yes');
    await page.keyboard.press('Enter');
    await page.locator(`[data-id="${id}"]`).waitFor({ state: 'detached' });
    await chat.close();
  },

  async 'a narrow screen has a drawer and no sideways scrolling'({ browser, server }) {
    const chat = await Chat.open(browser, server, { viewport: { width: 360, height: 740 } });
    const { page } = chat;
    await chat.ask(questions.leaves.base);
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth), 0);
    await chat.at('new-chat').waitFor({ state: 'hidden' });
    await chat.at('sidebar-toggle').click();
    await chat.at('new-chat').waitFor();
    await page.keyboard.press('Escape');
    await chat.at('new-chat').waitFor({ state: 'hidden' });
    await chat.at('sidebar-toggle').click();
    await chat.at('conversation-item').first().locator('a').click();
    await chat.at('new-chat').waitFor({ state: 'hidden' });
    await chat.close();
  },

  async 'dark follows the system until the toggle decides, and is remembered'({ browser, server }) {
    const chat = await Chat.open(browser, server, { colorScheme: 'dark' });
    const { page } = chat;
    const isDark = () => page.evaluate(() => {
      const [red, green, blue] = getComputedStyle(document.body).backgroundColor.match(/\d+/g).map(Number);
      return red + green + blue < 200;
    });
    assert.ok(await isDark());
    await chat.at('theme-toggle').click();
    assert.ok(!(await isDark()));
    await page.reload();
    assert.ok(!(await isDark()), 'the choice outlives a reload');
    assert.equal(await chat.at('theme-toggle').getAttribute('aria-pressed'), 'false');
    await chat.close();
  },

  async 'harm written by a model or a user does nothing'({ browser, server }) {
    const reached = [];
    const chat = await Chat.open(browser, server, {}, async (page) => {
      page.on('request', (request) => reached.push(request.url()));
      await page.routeWebSocket(/\/ws$/, (socket) => {
        const upstream = socket.connectToServer();
        upstream.onMessage((text) => {
          const frame = JSON.parse(text);
          if (frame.type === 'delta' && frame.from === 1) frame.text = `${HARM}\n\n${frame.text}`;
          socket.send(JSON.stringify(frame));
        });
      });
    });
    await chat.send(HARM.slice(0, 600));
    await chat.ends('complete');
    const answer = chat.answer.getByTestId('answer-text');
    assert.equal(await answer.locator('img, script, svg[onload], iframe, object, [onerror], [onmouseover]').count(), 0);
    for (const address of await answer.locator('a').evaluateAll((links) => links.map((link) => [link.protocol, link.rel]))) {
      assert.match(address[0], /^(https?|mailto):$/);
      assert.match(address[1], /noopener/);
    }
    for (const link of await answer.locator('.unlinked').all()) await link.click();
    assert.equal(await chat.page.evaluate(() => window.harmed), undefined);
    assert.deepEqual(reached.filter((url) => !url.startsWith(server.url) && !url.startsWith('data:')), [], 'no other host is contacted');
    await chat.close();
  },

  async 'an example leads to the next one'({ browser, server }) {
    const chat = await Chat.open(browser, server);
    assert.equal(await chat.at('example').count(), 3);
    await chat.at('example').first().click();
    await chat.ends('complete');
    await chat.at('suggestion').click();
    await chat.at('message-assistant').nth(1).waitFor();
    await chat.ends('complete');
    assert.equal(await chat.at('message-user').count(), 2);
    await chat.close();
  },
};
