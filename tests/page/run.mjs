// Owns: the browser test of the pages: starts the server, and one whose tasks fail (examples/mail.rs), drives the system's Chromium over every case, counts.
//
//   node run.mjs --ish-bin PATH --provider-bin PATH --mail-bin PATH [--only TEXT] [--chromium PATH] [--screenshot]

import { chromium } from 'playwright-core';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { asking } from './asking.mjs';
import { Chat } from './chat.mjs';
import { logins } from './logins.mjs';
import { looks } from './looks.mjs';
import * as questions from './questions.mjs';
import { restarts } from './restarts.mjs';
import { Provider, Server } from './server.mjs';
import { sessions } from './sessions.mjs';
import { tasks } from './tasks.mjs';
import { workflows } from './workflows.mjs';

const FLAGS = [
  '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync',
];

const { values: options } = parseArgs({
  options: {
    'ish-bin': { type: 'string' },
    'provider-bin': { type: 'string' },
    'mail-bin': { type: 'string' },
    chromium: { type: 'string', default: '/usr/bin/chromium' },
    only: { type: 'string', default: '' },
    screenshot: { type: 'boolean', default: false },
  },
});
if (!options['ish-bin'] || !options['provider-bin'] || !options['mail-bin']) {
  console.error('usage: node run.mjs --ish-bin PATH --provider-bin PATH --mail-bin PATH [--only TEXT] [--chromium PATH] [--screenshot]');
  process.exit(2);
}

// Started by path, they run in folders of their own.
const provider = await Provider.start(resolve(options['provider-bin']));
const server = await Server.start(resolve(options['ish-bin']), provider);
const mail = await Server.start(resolve(options['mail-bin']), provider);
const browser = await chromium.launch({ executablePath: options.chromium, headless: true, args: FLAGS });
try {
  if (options.screenshot) await screenshot();
  else process.exitCode = await runCases();
} finally {
  await browser.close();
  await server.remove();
  await mail.remove();
  provider.stop();
}

/** Runs the cases in order; returns the exit status. */
async function runCases() {
  const count = { ok: 0, FLAKY: 0, FAIL: 0 };
  for (const [name, run] of Object.entries({ ...asking, ...sessions, ...restarts, ...looks, ...logins, ...tasks, ...workflows })) {
    if (!name.includes(options.only)) continue;
    const began_ms = performance.now();
    const outcome = await tried(name, run);
    count[outcome] += 1;
    console.log(`${outcome.padEnd(5)} ${name} (${((performance.now() - began_ms) / 1000).toFixed(1)} s)`);
  }
  if (count.FAIL > 0) console.log(`the server's last lines:\n${server.log}`);
  console.log(`${count.ok + count.FLAKY} passed, ${count.FAIL} failed, ${count.FLAKY} flaky`);
  return count.FAIL === 0 ? 0 : 1;
}

/** A case that fails is run once more. One that passes then is a defect to mend, not a reason to lose a whole run. */
async function tried(name, run) {
  for (const outcome of ['ok', 'FLAKY']) {
    try {
      await run({ browser, server, provider, mail });
      return outcome;
    } catch (error) {
      console.log(`      ${name}: ${String(error.stack).replaceAll('\n', '\n      ')}`);
      await recover();
    }
  }
  return 'FAIL';
}

/** After a failed case the next one still gets a clean browser and a server that runs. */
async function recover() {
  for (const context of browser.contexts()) await context.close();
  const alive = await fetch(`${server.url}livez`).then((response) => response.ok, () => false);
  if (alive) return;
  await server.down('SIGKILL');
  await server.up();
}

/** The README's picture: a question, and the same one in other words. */
async function screenshot() {
  const chat = await Chat.open(browser, server, { colorScheme: 'light', viewport: { width: 1280, height: 900 } });
  await chat.ask(questions.leaves.base);
  const how = await chat.ask(questions.leaves.reworded[0]);
  if (how !== 'semantic') throw new Error(`the picture is of a semantic hit, not of: ${how}`);
  await chat.page.evaluate(() => Promise.all(document.getAnimations().filter((one) => one.effect.getTiming().iterations !== Infinity).map((one) => one.finished)));
  await chat.page.mouse.move(0, 0);
  const path = fileURLToPath(new URL('../../docs/chat.png', import.meta.url));
  await chat.page.screenshot({ path });
  await chat.context.close();
  console.log(`wrote ${path}`);
}
