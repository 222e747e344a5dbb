// The cases about the page of workflows: a parcel that cannot be handed over until a case opens the post office.

import { strict as assert } from 'node:assert';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Ops } from './ops.mjs';

const HARM = '<img src=x onerror="window.harmed=1">';

const open = (server) => writeFile(join(server.folder, 'open'), '');
const shut = (server) => rm(join(server.folder, 'open'), { force: true });

async function start(server, pieces, more = {}) {
  const { status, body } = await server.rest('POST', 'api/workflows', { name: 'parcel', input: { pieces }, ...more });
  assert.equal(status, 201, JSON.stringify(body));
  return body.id;
}

const run = (ops, state) => ops.page.locator(`[data-testid=run-view][data-state=${state}]`);
const node = (ops, name, state) => ops.page.locator(`[data-testid=node][data-name="${name}"]${state ? `[data-state=${state}]` : ''}`);
const step = (ops, name) => ops.page.locator(`[data-testid=step][data-name="${name}"]`);

export const workflows = {
  async 'workflows: a run that fails is undone, is seen as a graph, and completes when it is retried'({ browser, mail }) {
    await shut(mail);
    const id = await start(mail, ['lamp', HARM]);
    const ops = await Ops.open(browser, mail, 'workflows');
    const row = ops.page.locator(`[data-testid=runs] [data-id="${id}"] a`);
    await row.and(ops.page.locator('[data-state=failed]')).waitFor();
    assert.match(await row.textContent(), /failed.*parcel.*version 1.*the post office is shut/);
    await row.click();
    await run(ops, 'failed').waitFor();
    await node(ops, 'stamp', 'compensated').waitFor();
    await node(ops, 'hand_over', 'failed').waitFor();
    assert.match(await node(ops, 'label').textContent(), /completed 2\/2/);
    assert.equal(await ops.page.locator('.edge[data-kind=undo]').count(), 1, 'what undoes a step stands beside it');
    const at = async (name) => (await node(ops, name).boundingBox()).x;
    assert.ok(await at('weigh') < await at('label') && await at('label') < await at('hand_over'), 'each stands after what it waits for');
    await node(ops, 'hand_over').press('Enter');
    assert.match(await step(ops, 'hand_over').locator('pre').textContent(), /the post office is shut/);
    await ops.focusIs('[data-name=hand_over] summary');
    assert.match(await step(ops, 'label').textContent(), /2 of 2/);
    assert.equal(await ops.page.evaluate(() => window.harmed), undefined);
    await open(mail);
    await ops.at('retry-run').click();
    await run(ops, 'completed').waitFor();
    await node(ops, 'hand_over', 'completed').waitFor();
    assert.match(await ops.at('run-output').textContent(), /handed over/);
    await step(ops, 'hand_over').getByTestId('step-task').click();
    await ops.drawer('completed').waitFor();
    await ops.close();
  },

  async 'workflows: a run is started by a form, looked for, and cancelled'({ browser, mail }) {
    await shut(mail);
    const ops = await Ops.open(browser, mail, 'workflows');
    await ops.at('start').click();
    await ops.at('start-name').selectOption('parcel');
    await ops.at('start-input').fill('{"pieces": [');
    await ops.at('start-submit').click();
    await ops.page.locator('#start-input-fault', { hasText: 'That is no JSON' }).waitFor();
    await ops.at('start-input').fill('{"pieces": ["vase"], "wait": true}');
    await ops.at('start-key').fill('once');
    await ops.at('start-submit').click();
    await run(ops, 'running').waitFor();
    await node(ops, 'hand_over', 'running').waitFor();
    await ops.at('cancel-run').click();
    await run(ops, 'cancelled').waitFor();
    await node(ops, 'stamp', 'compensated').waitFor();
    await ops.at('all-runs').click();
    await ops.at('filter-state').selectOption('cancelled');
    await ops.page.waitForFunction(() => document.querySelectorAll('[data-testid=run]').length === 1);
    await ops.page.reload();
    await ops.page.locator('[data-testid=run][data-state=cancelled]').waitFor();
    await ops.close();
  },

  async 'workflows: a narrow screen, dark: the graph scrolls by itself'({ browser, mail }) {
    await open(mail);
    const id = await start(mail, Array.from({ length: 40 }, (_, number) => `piece ${number}`));
    const ops = await Ops.open(browser, mail, `workflows#${id}`, { viewport: { width: 360, height: 740 }, colorScheme: 'dark' });
    await run(ops, 'completed').waitFor();
    await node(ops, 'label', 'completed').filter({ hasText: '40/40' }).waitFor();
    assert.ok(await ops.page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
    const at = async (name) => (await node(ops, name).boundingBox()).y;
    assert.ok(await at('weigh') < await at('label') && await at('label') < await at('hand_over'), 'from top to bottom');
    await ops.close();
  },
};
