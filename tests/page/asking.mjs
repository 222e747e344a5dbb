// The cases about asking: streaming, hits of each kind, why, wrong, regenerate, stop.

import { strict as assert } from 'node:assert';
import { Chat } from './chat.mjs';
import * as questions from './questions.mjs';

export const asking = {
  async 'an answer streams, is a miss, and is stored'({ browser, server, provider }) {
    const chat = await Chat.open(browser, server);
    await chat.chooseObedientModel();
    await chat.send(questions.waiting.grown);
    const early = await chat.streams(questions.SHOWN_LENGTH);
    await chat.at('stop').waitFor();
    await provider.release();
    await chat.ends('complete');
    assert.ok(await chat.shownLength() > early, 'what had come was shown before the rest');
    assert.equal(await chat.badge.getAttribute('data-state'), 'miss');
    const message = await chat.stored();
    assert.equal(message.state, 'complete');
    assert.equal(message.cache.status, 'miss');
    assert.equal(await chat.at('message-user').last().textContent(), questions.waiting.grown);
    assert.equal(await chat.at('wrong-answer').count(), 0, 'a miss cannot be reported as a wrong hit');
    await chat.close();
  },

  async 'in other words, in the same conversation: a semantic hit'({ browser, server }) {
    const chat = await Chat.open(browser, server);
    await chat.ask(questions.leaves.base);
    const first = await chat.stored();
    assert.equal(await chat.ask(questions.leaves.reworded[0]), 'semantic');
    const message = await chat.stored();
    assert.equal(message.content, first.content);
    assert.equal(message.cache.how, 'semantic');
    const text = await chat.badge.textContent();
    assert.match(text, /Semantic hit/);
    assert.match(text, /ms/);
    assert.match(text, /saved/);
    assert.match(text, /similarity (0\.\d{3}|1\.000)/);
    await chat.close();
  },

  async 'in other words, in a new conversation: a semantic hit'({ browser, server }) {
    const chat = await Chat.open(browser, server);
    assert.equal(await chat.ask(questions.leaves.reworded[1]), 'semantic');
    assert.equal((await chat.stored()).cache.how, 'semantic');
    await chat.close();
  },

  async 'word for word: exact; with other case and manners: normalized'({ browser, server }) {
    const chat = await Chat.open(browser, server);
    assert.equal(await chat.ask(questions.leaves.base), 'exact');
    await chat.newChat();
    assert.equal(await chat.ask(`please ${questions.leaves.base.toLowerCase()}`), 'normalized');
    await chat.close();
  },

  async 'what only sounds alike: a miss, and why says which guard refused'({ browser, server }) {
    const chat = await Chat.open(browser, server);
    assert.equal(await chat.ask(questions.leaves.alike), 'miss');
    await chat.at('why').last().click();
    await chat.page.locator('[data-testid=why-drawer][data-state=open]').waitFor();
    const refused = chat.page.locator('[data-testid=neighbour][data-state=refuse]').first();
    assert.equal(await refused.count(), 1, 'the neighbour that was refused is shown');
    await chat.close();
  },

  async 'why explains a hit: rule, steps, neighbours, guards, scope'({ browser, server }) {
    const chat = await Chat.open(browser, server);
    await chat.ask(questions.leaves.reworded[1]);
    await chat.at('why').last().click();
    const drawer = chat.page.locator('[data-testid=why-drawer][data-state=open]');
    await drawer.waitFor();
    const message = await chat.stored();
    const { body } = await server.rest('GET', `api/sessions/${chat.conversation}/messages/${message.id}/why`);
    assert.equal(await chat.at('why-rule').textContent(), body.rule);
    assert.equal(await chat.at('why-steps').locator('li').count(), body.steps.length);
    assert.equal(await chat.at('neighbour').count(), body.neighbours.length);
    assert.equal(await chat.at('guard').count(), body.neighbours.flatMap((neighbour) => neighbour.checks).length);
    assert.ok(!(await drawer.textContent()).includes('[object'), 'every value is written out');
    await chat.page.keyboard.press('Escape');
    await chat.page.locator('[data-testid=why-drawer][data-state=closed]').waitFor({ state: 'attached' });
    await chat.close();
  },

  async 'a wrong answer is reported, and is not served for that question again'({ browser, server }) {
    const chat = await Chat.open(browser, server);
    await chat.ask(questions.tides.base);
    await chat.newChat();
    assert.equal(await chat.ask(questions.tides.reworded), 'semantic');
    await chat.at('wrong-answer').last().click();
    const feedback = chat.page.locator('[data-testid=feedback][data-state=done]');
    await feedback.waitFor();
    assert.match(await feedback.textContent(), /Thank you/);
    assert.equal(await chat.at('wrong-answer').count(), 0, 'it is reported once');
    await chat.newChat();
    assert.equal(await chat.ask(questions.tides.reworded), 'miss');
    await chat.close();
  },

  async 'regenerate goes past the cache, and both answers can be seen'({ browser, server }) {
    const chat = await Chat.open(browser, server);
    await chat.ask(questions.fresh.regenerated);
    await chat.at('regenerate').click();
    await chat.at('siblings').waitFor();
    await chat.ends('complete');
    assert.notEqual(await chat.badge.getAttribute('data-state'), 'exact');
    assert.match(await chat.at('siblings').textContent(), /2 \/ 2/);
    const stored = (await server.messages(chat.conversation)).filter((message) => message.role === 'assistant');
    assert.equal(stored.length, 2);
    assert.equal(stored[0].parent, stored[1].parent);
    await chat.at('sibling-older').click();
    await chat.at('siblings').getByText('1 / 2').waitFor();
    await chat.page.reload();
    await chat.at('siblings').waitFor();
    assert.match(await chat.at('siblings').textContent(), /1 \/ 2/, 'the choice outlives a reload');
    await chat.close();
  },

  async 'stop in mid-stream keeps what was written'({ browser, server, provider }) {
    const chat = await Chat.open(browser, server);
    await chat.chooseObedientModel();
    await chat.send(questions.waiting.stopped);
    await chat.streams(questions.SHOWN_LENGTH);
    await chat.at('stop').click();
    await chat.ends('cancelled');
    assert.match(await chat.answer.getByTestId('notice').textContent(), /stopped/);
    const message = await chat.stored();
    assert.equal(message.state, 'cancelled');
    assert.ok(message.content.length >= questions.SHOWN_LENGTH);
    await chat.newChat();
    await chat.send(questions.waiting.stopped);
    await chat.streams(questions.SHOWN_LENGTH);
    await provider.release();
    await chat.ends('complete');
    assert.equal(await chat.badge.getAttribute('data-state'), 'miss', 'a stopped answer is not kept');
    await chat.close();
  },

  async 'a conversation is deleted after a question, here and on the server'({ browser, server }) {
    const chat = await Chat.open(browser, server);
    await chat.ask(questions.fresh.deleted);
    const id = chat.conversation;
    const item = chat.page.locator(`[data-testid=conversation-item][data-id="${id}"]`);
    await item.hover();
    await item.getByTestId('conversation-menu').click();
    await chat.at('delete-conversation').click();
    await chat.at('confirm-no').click();
    assert.equal(await item.count(), 1, 'no means no');
    await item.hover();
    await item.getByTestId('conversation-menu').click();
    await chat.at('delete-conversation').click();
    await chat.at('confirm-yes').click();
    await item.waitFor({ state: 'detached' });
    await chat.at('empty').waitFor();
    assert.equal((await server.rest('GET', `api/sessions/${id}`)).status, 404);
    await chat.close();
  },

  async 'a long conversation shows its end first, and its beginning when asked'({ browser, server }) {
    const small = (route) => route.continue({ url: route.request().url().replace('limit=50', 'limit=2') });
    const chat = await Chat.open(browser, server, {}, (page) => page.route('**/messages?*', small));
    for (const question of [questions.leaves.base, ...questions.leaves.reworded]) await chat.ask(question);
    await chat.page.reload();
    await chat.at('message-user').waitFor();
    assert.equal(await chat.at('message-user').count(), 1);
    assert.equal(await chat.at('message-user').textContent(), questions.leaves.reworded[1]);
    for (const count of [2, 3]) {
      await chat.at('older-messages').click();
      await chat.page.waitForFunction((wanted) => document.querySelectorAll('[data-testid=message-user]').length === wanted, count);
    }
    assert.equal(await chat.at('message-user').first().textContent(), questions.leaves.base);
    assert.equal(await chat.at('message-assistant').count(), 3);
    assert.equal(await chat.at('older-messages').count(), 0);
    await chat.close();
  },

  async 'the list pages, newest first'({ browser, server }) {
    for (let number = 1; number <= 55; number += 1) await server.rest('POST', 'api/sessions', { title: `Chat ${number}` });
    const chat = await Chat.open(browser, server);
    const { body } = await server.rest('GET', 'api/sessions?limit=100');
    const stored = body.data.map((conversation) => conversation.id);
    const shown = () => chat.at('conversation-item').evaluateAll((items) => items.map((item) => item.dataset.id));
    await chat.at('older-conversations').waitFor();
    assert.deepEqual(await shown(), stored.slice(0, 50));
    await chat.at('older-conversations').click();
    await chat.at('older-conversations').waitFor({ state: 'detached' });
    assert.deepEqual(await shown(), stored);
    await chat.close();
  },
};
