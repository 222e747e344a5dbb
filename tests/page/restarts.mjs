// The cases about connections: lost and doubled frames, a reload, the server killed and stopped in mid-stream, a draining one.

import { strict as assert } from 'node:assert';
import { Chat } from './chat.mjs';
import * as questions from './questions.mjs';
import { eventually } from './server.mjs';

// What Chromium itself writes when a server is away for a moment.
const AWAY = [/WebSocket connection to .* failed/, /Failed to load resource: net::ERR_/];

export const restarts = {
  async 'lost, doubled and late deltas leave the text whole'({ browser, server }) {
    let deltas = 0;
    let held = null;
    const chat = await Chat.open(browser, server, {}, (page) => page.routeWebSocket(/\/ws$/, (socket) => {
      const upstream = socket.connectToServer();
      upstream.onMessage((text) => {
        if (JSON.parse(text).type !== 'delta') return socket.send(text);
        deltas += 1;
        if (deltas === 3) return undefined;
        if (deltas === 12) { held = text; return undefined; }
        socket.send(text);
        if (deltas === 8) socket.send(text);
        if (deltas === 14 && held) socket.send(held);
        return undefined;
      });
      socket.onMessage((text) => {
        if (JSON.parse(text).type === 'resume') chat.resumes = (chat.resumes ?? 0) + 1;
        upstream.send(text);
      });
    }));
    await chat.ask(questions.fresh.lossy);
    assert.equal((await chat.stored()).state, 'complete');
    assert.ok(chat.resumes >= 1 && chat.resumes <= 6, `holes are asked for, once each (${chat.resumes})`);
    await chat.close();
  },

  async 'a reload in mid-stream goes on to the end'({ browser, server, provider }) {
    const chat = await Chat.open(browser, server);
    await chat.chooseObedientModel();
    await chat.send(questions.waiting.reloaded);
    await chat.streams(questions.SHOWN_LENGTH);
    await chat.page.reload();
    await chat.at('message-assistant').waitFor();
    await chat.streams(questions.SHOWN_LENGTH);
    await provider.release();
    await chat.ends('complete');
    assert.equal((await chat.stored()).state, 'complete');
    await chat.close();
  },

  async 'a second tab sees the running answer, and may stop it for both'({ browser, server }) {
    const first = await Chat.open(browser, server);
    await first.chooseObedientModel();
    await first.send(questions.waiting.shared);
    await first.streams(questions.SHOWN_LENGTH);
    const second = await Chat.open(browser, server);
    await second.page.goto(`${server.url}#/c/${first.conversation}`);
    await second.at('message-assistant').waitFor();
    await second.streams(questions.SHOWN_LENGTH);
    await second.page.keyboard.press('Escape');
    await Promise.all([first.ends('cancelled'), second.ends('cancelled')]);
    await first.stored();
    await second.stored();
    await first.close();
    await second.close();
  },

  async 'a stream that the server no longer knows ends as the store says'({ browser, server, provider }) {
    const asked = [];
    const chat = await Chat.open(browser, server, {}, (page) => page.routeWebSocket(/\/ws$/, (socket) => {
      const upstream = socket.connectToServer();
      socket.onMessage((text) => {
        const frame = JSON.parse(text);
        if (frame.type !== 'resume') return upstream.send(text);
        return asked.push(() => socket.send(JSON.stringify({ type: 'gone', stream: frame.stream })));
      });
    }));
    await chat.chooseObedientModel();
    await chat.send(questions.waiting.forgotten);
    await chat.streams(questions.SHOWN_LENGTH);
    await chat.page.reload();
    const sayGone = await eventually('the page resumes', () => asked[0]);
    await provider.release();
    await eventually('the answer is stored', async () => (await server.messages(chat.conversation)).at(-1).state === 'complete');
    sayGone();
    await chat.ends('complete');
    await chat.stored();
    assert.equal(asked.length, 1);
    await chat.close();
  },

  async 'a message above the frame limit stays in the box, and the socket open'({ browser, server }) {
    const chat = await Chat.open(browser, server);
    const { limits } = await eventually('the server says hello', () => chat.frames.find((frame) => frame.type === 'welcome'));
    await chat.at('composer').fill('x'.repeat(limits.frame_bytes));
    await chat.at('composer').press('Enter');
    await chat.connectionWas('fault');
    assert.equal((await chat.at('composer').inputValue()).length, limits.frame_bytes);
    assert.equal(await chat.at('message-user').count(), 0);
    await chat.at('composer').fill(questions.leaves.base);
    await chat.at('composer').press('Enter');
    await chat.ends('complete');
    await chat.close();
  },

  async 'another chat may be opened while an answer comes'({ browser, server, provider }) {
    const chat = await Chat.open(browser, server);
    await chat.chooseObedientModel();
    await chat.send(questions.waiting.left);
    await chat.streams(questions.SHOWN_LENGTH);
    const first = chat.conversation;
    await chat.newChat();
    await chat.ask(questions.fresh.meanwhile);
    await chat.page.locator(`[data-testid=conversation-item][data-id="${first}"] a`).click();
    await chat.page.getByText(questions.waiting.left, { exact: true }).and(chat.at('message-user')).waitFor();
    await chat.streams(questions.SHOWN_LENGTH);
    await provider.release();
    await chat.ends('complete');
    await chat.stored();
    await chat.close();
  },

  async 'kill -9 in mid-stream: reconnects, shows what was saved as interrupted, asks again'({ browser, server, provider }) {
    const chat = await Chat.open(browser, server);
    await chat.chooseObedientModel();
    await chat.send(questions.waiting.killed);
    await chat.streams(questions.SHOWN_LENGTH);
    const saved = await eventually('what has come is saved', async () => (await server.messages(chat.conversation)).at(-1).content);
    await server.down('SIGKILL');
    await chat.page.locator('[data-testid=connection-status][data-state=reconnecting]').waitFor();
    assert.match(await chat.at('connection-status').textContent(), /Reconnecting…/);
    await server.up();
    await chat.connectionWas('resumed');
    await chat.ends('interrupted');
    const message = await chat.stored();
    assert.equal(message.state, 'interrupted');
    assert.equal(message.content, saved);
    await chat.answer.getByTestId('ask-again').click();
    await chat.streams(questions.SHOWN_LENGTH);
    await provider.release();
    await chat.ends('complete');
    assert.equal((await chat.stored()).state, 'complete');
    await chat.close(AWAY);
  },

  async 'a graceful restart in mid-stream: nothing is shown twice or lost'({ browser, server, provider }) {
    const chat = await Chat.open(browser, server);
    await chat.chooseObedientModel();
    await chat.send(questions.waiting.drained);
    await chat.streams(questions.SHOWN_LENGTH);
    const ended = server.down('SIGTERM');
    await chat.connectionWas('draining');
    await provider.release();
    assert.equal(await ended, 0, 'an orderly end');
    await server.up();
    await chat.page.locator('[data-testid=connection-status]:is([data-state=resumed], [data-state=online])').waitFor({ state: 'attached' });
    await chat.ends('complete');
    assert.equal((await chat.stored()).state, 'complete');
    await chat.close(AWAY);
  },

  async 'a question asked while the server is away is sent once it is back, once'({ browser, server }) {
    const chat = await Chat.open(browser, server);
    await chat.connected();
    await server.down('SIGKILL');
    await chat.page.locator('[data-testid=connection-status][data-state=reconnecting]').waitFor();
    await chat.send(questions.fresh.away);
    assert.equal(await chat.answer.getAttribute('data-state'), 'sending');
    await server.up();
    await chat.ends('complete');
    const messages = await server.messages(chat.conversation);
    assert.deepEqual(messages.map((message) => message.role), ['user', 'assistant']);
    await chat.close(AWAY);
  },
};
