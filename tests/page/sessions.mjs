// The cases about what one does with conversations: rename, search, export, edit a question, go from branch to branch.

import { strict as assert } from 'node:assert';
import { readFile } from 'node:fs/promises';
import { Chat } from './chat.mjs';
import * as questions from './questions.mjs';

const item = (chat, id) => chat.page.locator(`[data-testid=conversation-item][data-id="${id}"]`);

/** What stands in the transcript: the questions, and where each arrow stands. */
const asked = (chat) => chat.at('message-user').allTextContents();

/** Opens the menu of a conversation and chooses. */
async function choose(chat, id, testid) {
  await item(chat, id).hover();
  await item(chat, id).getByTestId('conversation-menu').click();
  await chat.at(testid).click();
}

export const sessions = {
  async 'a chat is renamed in place, and the name is kept'({ browser, server }) {
    const chat = await Chat.open(browser, server);
    await chat.ask(questions.leaves.base);
    const id = chat.conversation;
    const title = item(chat, id).locator('.conversation-title');
    await choose(chat, id, 'rename-conversation');
    await chat.at('rename-input').fill('Never mind');
    await chat.at('rename-input').press('Escape');
    assert.equal(await title.textContent(), questions.leaves.base, 'Esc keeps the old one');
    await item(chat, id).locator('a').focus();
    await chat.page.keyboard.press('F2');
    await chat.page.keyboard.type('Autumn <b>leaves</b>');
    await chat.page.keyboard.press('Enter');
    await item(chat, id).locator('a', { hasText: 'Autumn <b>leaves</b>' }).waitFor();
    assert.equal(await chat.page.evaluate(() => document.activeElement.dataset.conversation), id, 'the focus comes back');
    await chat.ask(questions.leaves.reworded[0]);
    await chat.page.reload();
    await item(chat, id).waitFor();
    assert.equal(await title.textContent(), 'Autumn <b>leaves</b>');
    assert.equal((await server.rest('GET', `api/sessions/${id}`)).body.title, 'Autumn <b>leaves</b>');
    await chat.close();
  },

  async 'the search box finds words in questions and answers, and marks them'({ browser, server }) {
    const chat = await Chat.open(browser, server);
    await chat.ask('Where do zebrafinches build their nests?');
    const id = chat.conversation;
    await chat.newChat();
    await chat.ask(questions.leaves.base);
    const all = await chat.at('conversation-item').count();
    await chat.at('search').fill('zebrafin');
    await chat.page.locator('[data-testid=snippet] mark').first().waitFor();
    assert.equal(await chat.at('conversation-item').count(), 1);
    assert.equal(await chat.at('snippet').locator('mark').first().textContent(), 'zebrafinches');
    await chat.at('search').press('ArrowDown');
    await chat.page.keyboard.press('Enter');
    await chat.at('message-user').waitFor();
    assert.equal(chat.conversation, id);
    assert.equal(await chat.at('search').inputValue(), 'zebrafin', 'what was found stays while one looks');
    for (const strange of ['"', 'AND OR (', '*:^', '<img src=x onerror=window.harmed=1>']) await chat.at('search').fill(strange);
    await chat.at('nothing-found').waitFor();
    await chat.at('search').press('Escape');
    await chat.page.waitForFunction((count) => document.querySelectorAll('[data-testid=conversation-item]').length === count, all);
    assert.equal(await chat.page.evaluate(() => window.harmed), undefined);
    await chat.close();
  },

  async 'a chat is exported as Markdown and as JSON'({ browser, server }) {
    const chat = await Chat.open(browser, server);
    await chat.ask(questions.leaves.base);
    const answer = (await chat.stored()).content;
    const id = chat.conversation;
    const exported = async (testid) => {
      const [download] = await Promise.all([chat.page.waitForEvent('download'), choose(chat, id, testid)]);
      return { name: download.suggestedFilename(), text: await readFile(await download.path(), 'utf8') };
    };
    const markdown = await exported('export-markdown');
    assert.equal(markdown.name, 'why-do-leaves-change-their-colour-in-autumn.md');
    assert.ok(markdown.text.startsWith(`# ${questions.leaves.base}\n`) && markdown.text.includes(answer.trimEnd()));
    const json = JSON.parse((await exported('export-json')).text);
    assert.deepEqual(json.messages, await server.messages(id));
    await chat.close();
  },

  async 'an edited question is a branch; the arrows go between, and the choice is kept'({ browser, server }) {
    const chat = await Chat.open(browser, server);
    const { base, reworded } = questions.leaves;
    await chat.ask(base);
    await chat.ask(questions.tides.base);
    const second = chat.at('message-user').nth(1);
    await second.hover();
    await chat.at('edit-question').nth(1).click();
    await chat.at('edit-input').fill('gone\n'.repeat(8));
    const isWhole = await chat.at('edit-input').evaluate((input) => input.form.getBoundingClientRect().top >= document.querySelector('#transcript').getBoundingClientRect().top);
    assert.ok(isWhole, 'what is edited stays in view, at the end of a long answer too');
    await chat.at('edit-input').press('Escape');
    assert.deepEqual(await asked(chat), [base, questions.tides.base], 'Esc leaves it as it was');
    await chat.at('edit-question').nth(1).click();
    await chat.at('edit-input').fill(questions.tides.reworded);
    await chat.at('edit-input').press('Enter');
    await chat.at('question-siblings').waitFor();
    await chat.ends('complete');
    assert.deepEqual(await asked(chat), [base, questions.tides.reworded]);
    assert.match(await chat.at('question-siblings').textContent(), /2 \/ 2/);
    const stored = await server.messages(chat.conversation);
    assert.equal(stored[2].parent, stored[4].parent);

    await chat.at('question-sibling-older').click();
    await second.filter({ hasText: questions.tides.base }).waitFor();
    assert.match(await chat.at('question-siblings').textContent(), /1 \/ 2/);
    await chat.ask(reworded[0]);
    assert.equal((await server.messages(chat.conversation)).at(-2).parent, stored[3].id, 'the next question follows what is shown');
    await chat.page.reload();
    await chat.at('message-user').nth(2).waitFor();
    assert.deepEqual(await asked(chat), [base, questions.tides.base, reworded[0]], 'the choice outlives a reload');

    await chat.at('edit-question').first().click();
    await chat.at('edit-input').fill(questions.leaves.alike);
    await chat.at('edit-send').click();
    await chat.page.waitForFunction(() => document.querySelectorAll('[data-testid=message-user]').length === 1);
    await chat.ends('complete');
    const first = (await server.messages(chat.conversation)).at(-2);
    assert.deepEqual([first.content, first.parent], [questions.leaves.alike, null]);
    await chat.at('question-sibling-older').press('Enter');
    await chat.at('message-user').nth(2).waitFor();
    assert.deepEqual(await asked(chat), [base, questions.tides.base, reworded[0]], 'to the end that was written last');
    assert.equal(await chat.page.evaluate(() => document.activeElement.dataset.testid), 'question-sibling-newer');
    await chat.close();
  },

  async 'another answer is another branch: what followed the first one follows only that'({ browser, server }) {
    const chat = await Chat.open(browser, server);
    await chat.ask(questions.leaves.base);
    await chat.ask(questions.tides.base);
    await chat.at('regenerate').first().click();
    await chat.page.waitForFunction(() => document.querySelectorAll('[data-testid=message-user]').length === 1);
    await chat.ends('complete');
    assert.match(await chat.at('siblings').textContent(), /2 \/ 2/);
    await chat.at('sibling-older').click();
    await chat.at('message-user').nth(1).waitFor();
    assert.deepEqual(await asked(chat), [questions.leaves.base, questions.tides.base]);
    assert.match(await chat.at('siblings').textContent(), /1 \/ 2/);
    await chat.close();
  },

  async 'on a narrow screen, by keyboard: menu, search and edit are in reach'({ browser, server }) {
    const chat = await Chat.open(browser, server, { viewport: { width: 360, height: 740 } });
    const { page } = chat;
    await chat.ask(questions.leaves.base);
    const id = chat.conversation;
    assert.equal(await chat.at('edit-question').evaluate((one) => getComputedStyle(one).opacity), '1', 'no hover is needed');
    await chat.at('edit-question').focus();
    await page.keyboard.press('Enter');
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth), 0);
    await page.keyboard.press('Escape');
    assert.equal(await page.evaluate(() => document.activeElement.dataset.testid), 'edit-question');
    await chat.at('sidebar-toggle').click();
    await chat.at('search').fill('autumn');
    await chat.at('snippet').first().waitFor();
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth), 0);
    await item(chat, id).getByTestId('conversation-menu').focus();
    await page.keyboard.press('Enter');
    await chat.at('menu').waitFor();
    const inside = await chat.at('menu').evaluate((menu) => menu.getBoundingClientRect().right <= innerWidth && menu.getBoundingClientRect().left >= 0);
    assert.ok(inside, 'the menu is on the screen');
    const focused = () => page.evaluate(() => document.activeElement.dataset.testid);
    assert.equal(await focused(), 'rename-conversation');
    await page.keyboard.press('ArrowUp');
    assert.equal(await focused(), 'delete-conversation');
    await page.keyboard.press('Escape');
    await chat.at('menu').waitFor({ state: 'detached' });
    assert.equal(await focused(), 'conversation-menu', 'Esc closes the menu alone');
    await chat.close();
  },
};
