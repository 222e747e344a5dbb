// The cases about who is at the page, on a server that wants keys: a key is given once, the login outlives a reload, and it ends by
// its button, elsewhere, and with its key.

import { strict as assert } from 'node:assert';
import { Chat } from './chat.mjs';
import * as questions from './questions.mjs';
import { ADMIN_KEY, Server } from './server.mjs';

/** What the console says of refusals that belong to these cases: without a login, and of what only admins may see. */
const REFUSED = [/401/, /403/];

/** A case on a server of its own. */
function guarded(run) {
  return async ({ browser, server, provider }) => {
    const own = await Server.startWithKeys(server.bin, provider);
    try {
      await run({ browser, server: own });
    } finally {
      await own.remove();
    }
  };
}

async function logIn(chat, key) {
  await chat.at('key-input').fill(key);
  await chat.at('key-input').press('Enter');
}

const isAsked = (chat) => chat.page.locator('[data-testid=key-dialog][open]').count();

/** A new key, and what was said of it. */
async function made(server, wish) {
  const { status, body } = await server.rest('POST', 'api/admin/keys', wish, ADMIN_KEY);
  assert.equal(status, 201);
  return body;
}

async function leave(chat, testid) {
  await chat.at('account').click();
  await chat.at(testid).click();
}

export const logins = {
  'a key is given once, kept nowhere, and the login outlives a reload': guarded(async ({ browser, server }) => {
    let sayLate;
    const late = new Promise((resolve) => { sayLate = resolve; });
    const chat = await Chat.open(browser, server, {}, async (page) => {
      await page.route('**/api/cache/stats', async (route) => {
        const response = await route.fetch();
        if (response.status() === 401) await late;
        await route.fulfill({ response }).catch(() => {});
      });
    });
    await logIn(chat, 'wrong');
    await chat.page.getByText('That key was not accepted.').waitFor();
    await logIn(chat, ADMIN_KEY);
    await chat.connected();
    sayLate();
    await chat.ask(questions.leaves.base);
    assert.equal(await isAsked(chat), 0, 'a late refusal of the time before says nothing of this login');
    const seen = () => chat.page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie]));
    assert.equal(await seen(), '[{},{},""]', 'nothing that a script could take');
    assert.ok(chat.frames.every((frame) => !JSON.stringify(frame).includes(ADMIN_KEY)), 'the key is said once');
    await chat.page.reload();
    await chat.connected();
    await chat.at('message-assistant').first().waitFor();
    assert.equal(await isAsked(chat), 0);
    const another = await chat.context.newPage();
    await another.goto(server.url);
    await another.locator('[data-testid=connection-status][data-state=online]').waitFor({ state: 'attached' });
    await another.close();

    await leave(chat, 'log-out');
    await chat.at('key-input').waitFor();
    assert.equal(await chat.at('message-assistant').count(), 0, 'nothing stays on the page');
    await chat.page.reload();
    await chat.at('key-input').waitFor();
    await chat.close(REFUSED);
  }),

  'what an earlier page kept in its tab becomes a login': guarded(async ({ browser, server }) => {
    const chat = await Chat.open(browser, server, {}, async (page) => {
      await page.addInitScript((key) => sessionStorage.setItem('ish.key', key), ADMIN_KEY);
    });
    await chat.connected();
    await chat.at('account').waitFor();
    assert.equal(await isAsked(chat), 0);
    assert.equal(await chat.page.evaluate(() => sessionStorage.getItem('ish.key')), null);
    await chat.close();
  }),

  'a revoked key ends an open page, and the next key begins anew': guarded(async ({ browser, server }) => {
    const [first, second] = [await made(server, { name: 'first', tenant: 'acme' }), await made(server, { name: 'second', tenant: 'globex' })];
    const chat = await Chat.open(browser, server);
    await logIn(chat, first.key);
    await chat.ask(questions.leaves.base);
    assert.equal((await server.rest('DELETE', `api/admin/keys/${first.id}`, undefined, ADMIN_KEY)).status, 204);
    await chat.page.getByText('Your login has ended.').waitFor();
    await logIn(chat, first.key);
    await chat.page.getByText('That key was not accepted.').waitFor();
    await logIn(chat, second.key);
    await chat.at('empty').waitFor();
    await chat.connected();
    await chat.page.getByText('Your chats will be listed here.').waitFor();
    await chat.close(REFUSED);
  }),

  'logging out everywhere ends the other browsers, and the same person goes on where they were': guarded(async ({ browser, server }) => {
    const key = await made(server, { name: 'hers', tenant: 'acme' });
    const [here, there] = [await Chat.open(browser, server), await Chat.open(browser, server)];
    await logIn(there, key.key);
    await there.ask(questions.leaves.base);
    const conversation = there.conversation;
    await logIn(here, key.key);
    await here.connected();
    await leave(here, 'log-out-everywhere');
    await here.at('key-input').waitFor();
    await there.page.getByText('Your login has ended.').waitFor();
    await logIn(there, key.key);
    await there.connected();
    await there.ask(questions.tides.base);
    assert.equal(there.conversation, conversation);
    assert.equal(await there.at('message-user').count(), 2);
    await here.close(REFUSED);
    await there.close(REFUSED);
  }),
};
