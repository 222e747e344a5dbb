// The cases about the page of tasks, on a server whose mail cannot be delivered until a case opens the post office.

import { strict as assert } from 'node:assert';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Ops } from './ops.mjs';
import { ADMIN_KEY, Server } from './server.mjs';

const HARM = '<img src=x onerror="window.harmed=1"><script>window.harmed=2</script>';

const open = (server) => writeFile(join(server.folder, 'open'), '');
const shut = (server) => rm(join(server.folder, 'open'), { force: true });

async function enqueue(server, kind, given, more = {}) {
  const { status, body } = await server.rest('POST', 'api/tasks', { kind, arguments: given, ...more });
  assert.equal(status, 201, JSON.stringify(body));
  return body.id;
}

export const tasks = {
  async 'tasks: a failing task is seen, its errors are read, it is retried by a click and succeeds'({ browser, mail }) {
    await shut(mail);
    const id = await enqueue(mail, 'send_mail', { to: 'ada@example.org' });
    const ops = await Ops.open(browser, mail);
    await ops.row(id, 'discarded').waitFor();
    await ops.tab('discarded').click();
    assert.match(await ops.row(id).textContent(), /dead letter.*send_mail.*the post office is shut.*attempt 2 of 2/);
    await ops.row(id).click();
    await ops.drawer('discarded').waitFor();
    assert.equal(await ops.at('failure').count(), 2);
    assert.match(await ops.at('failure').first().textContent(), /Attempt 2.*ago.*the post office is shut; ada@example.org waits/);
    assert.match(await ops.at('task-arguments').textContent(), /"to": "ada@example.org"/);
    assert.ok(await ops.at('cancel-task').isDisabled());
    await open(mail);
    await ops.at('retry-task').click();
    await ops.drawer('completed').waitFor();
    assert.equal(await ops.at('task-result').textContent(), 'delivered to ada@example.org');
    assert.equal(await ops.at('failure').count(), 2, 'what went wrong before stays to be read');
    assert.match(await ops.at('task-facts').textContent(), /attempts3 of 4/, 'with as many attempts as its job has');
    assert.equal(await ops.at('announcer').textContent(), 'It runs again.');
    await ops.page.keyboard.press('Escape');
    await ops.at('no-tasks').filter({ hasText: 'No task here is dead letter.' }).waitFor();
    assert.equal((await mail.rest('GET', `api/tasks/${id}`)).body.state, 'completed');
    await ops.close();
  },

  async 'tasks: what runs shows how far it has come, and ends when it is cancelled'({ browser, mail }) {
    await shut(mail);
    const id = await enqueue(mail, 'queue_up', { ahead: 3 }, { tenant: 'acme' });
    const ops = await Ops.open(browser, mail);
    await ops.row(id, 'running').filter({ hasText: '3 ahead' }).waitFor();
    await ops.at('worker').filter({ hasText: '1 of' }).waitFor();
    await ops.row(id).press('Enter');
    await ops.at('task-progress').filter({ hasText: '3 ahead' }).waitFor();
    await ops.at('cancel-task').click();
    await ops.drawer('cancelled').waitFor();
    await ops.at('close-task').click();
    await ops.focusIs(`[data-id="${id}"] a`);
    await ops.at('filter-tenant').fill('acme');
    await ops.page.keyboard.press('Enter');
    await ops.page.waitForFunction(() => document.querySelectorAll('[data-testid=task]').length === 1);
    await ops.page.reload();
    await ops.row(id, 'cancelled').waitFor();
    assert.equal(await ops.at('filter-tenant').inputValue(), 'acme', 'what is looked at outlives a reload');
    await ops.close();
  },

  async 'tasks: a kind and a queue are paused and resumed'({ browser, mail }) {
    await open(mail);
    const ops = await Ops.open(browser, mail);
    for (const [scope, name] of [['kind', 'send_mail'], ['queue', 'mail']]) {
      const paused = (state) => ops.page.locator(`[data-testid=${scope}][data-name="${name}"][data-state=${state}]`);
      await paused('open').getByTestId(`pause-${scope}`).click();
      await paused('paused').waitFor();
      assert.equal(await paused('paused').getByRole('button').getAttribute('aria-label'), `Resume the ${scope} ${name}`);
      const id = await enqueue(mail, 'send_mail', { to: scope }, { priority: 'high' });
      await ops.row(id, 'available').waitFor();
      await ops.page.locator('[data-testid=waiting][data-priority=high][data-state=some]').waitFor();
      assert.deepEqual((await mail.rest('GET', 'api/tasks/stats')).body.pauses, [{ scope, name }]);
      await paused('paused').getByRole('button').click();
      await paused('open').waitFor();
      await ops.row(id, 'completed').waitFor();
    }
    await ops.close();
  },

  async 'tasks: a task is enqueued by a form, and what is wrong is said at its field'({ browser, mail }) {
    await open(mail);
    const ops = await Ops.open(browser, mail);
    await ops.at('enqueue').click();
    await ops.at('enqueue-kind').selectOption('send_mail');
    const refused = async (given, says) => {
      await ops.at('enqueue-arguments').fill(given);
      await ops.at('enqueue-submit').click();
      await ops.page.locator('#enqueue-arguments-fault', { hasText: says }).waitFor();
      assert.equal(await ops.at('enqueue-arguments').getAttribute('aria-invalid'), 'true');
      await ops.focusIs('#enqueue-arguments');
    };
    await refused('{"to": ', 'That is no JSON');
    await refused('{"too": "far"}', "the arguments are not the job's: missing field `to`");
    await ops.at('enqueue-arguments').fill('{"to": "grace@example.org", "text": "12345678901234567890"}');
    await ops.at('enqueue-delay').fill('-1');
    await ops.at('enqueue-submit').click();
    await ops.page.locator('#enqueue-delay-fault', { hasText: 'takes seconds' }).waitFor();
    await ops.at('enqueue-delay').fill('0');
    await ops.at('enqueue-priority').selectOption('critical');
    await ops.at('enqueue-submit').click();
    await ops.drawer('completed').waitFor();
    assert.equal(await ops.at('task-result').textContent(), 'delivered to grace@example.org');
    assert.match(await ops.at('task-facts').textContent(), /prioritycritical/);
    await ops.close([/400/]);
  },

  async 'tasks: what has ended is purged after a question, and nothing else'({ browser, mail }) {
    await shut(mail);
    const waits = await enqueue(mail, 'send_mail', { to: 'later' }, { delay: 3600 });
    const dead = await enqueue(mail, 'send_mail', { to: 'nobody' });
    const ops = await Ops.open(browser, mail);
    await ops.row(dead, 'discarded').waitFor();
    await ops.tab('available').click();
    await ops.row(waits).waitFor();
    assert.ok(await ops.at('purge').isDisabled(), 'what waits is not purged');
    await ops.tab('discarded').click();
    await ops.row(dead).waitFor();
    await ops.at('purge').click();
    await ops.page.getByRole('heading', { name: /^Purge [0-9]+ tasks?\?$/ }).waitFor();
    await ops.at('confirm-no').click();
    assert.equal((await mail.rest('GET', `api/tasks/${dead}`)).status, 200, 'no means no');
    await ops.at('purge').click();
    await ops.at('confirm-yes').click();
    await ops.row(dead).waitFor({ state: 'detached' });
    assert.equal((await mail.rest('GET', `api/tasks/${dead}`)).status, 404);
    assert.equal((await mail.rest('GET', `api/tasks/${waits}`)).body.state, 'available');
    await ops.page.goto(`${mail.url}ops/tasks#${dead}`);
    await ops.page.locator('[data-testid=task-drawer][data-state=gone]').waitFor();
    await ops.close([/404/]);
  },

  async 'tasks: harm in arguments, errors and names does nothing'({ browser, mail }) {
    await shut(mail);
    const id = await enqueue(mail, 'send_mail', { to: HARM, text: HARM }, { tenant: HARM });
    const ops = await Ops.open(browser, mail);
    await ops.row(id, 'discarded').click();
    await ops.at('failure').first().waitFor();
    const shown = await ops.page.locator('[data-testid=task-arguments] pre').textContent();
    assert.deepEqual(JSON.parse(shown), { to: HARM, text: HARM }, 'it is shown as it is');
    assert.ok((await ops.at('failure').first().textContent()).includes(HARM));
    await ops.page.goto(`${mail.url}ops/tasks?${new URLSearchParams({ kind: HARM, tenant: HARM })}`);
    await ops.at('no-tasks').filter({ hasText: 'There are no tasks.' }).waitFor();
    await ops.page.goto(`${mail.url}ops/tasks#${encodeURIComponent(HARM)}`);
    await ops.page.locator('[data-testid=task-drawer][data-state=gone]').waitFor();
    assert.equal(await ops.page.locator('main img, main script, dialog img, dialog script').count(), 0);
    assert.equal(await ops.page.evaluate(() => window.harmed), undefined);
    await ops.close([/404/]);
  },

  async 'tasks: nothing moves under a hand: what is new waits, what changes stays where it is'({ browser, mail }) {
    await open(mail);
    const first = await enqueue(mail, 'send_mail', { to: 'first' }, { tenant: 'hand' });
    const ops = await Ops.open(browser, mail, 'tasks?tenant=hand');
    await ops.row(first, 'completed').focus();
    await mail.rest('POST', 'api/tasks', { kind: 'send_mail', arguments: { to: 'second' }, tenant: 'hand', delay: 3600 });
    await ops.at('fresh').waitFor();
    assert.equal(await ops.at('task').count(), 1);
    await ops.focusIs(`[data-id="${first}"] a`);
    await ops.at('fresh').click();
    await ops.page.waitForFunction(() => document.querySelectorAll('[data-testid=task]').length === 2);
    await ops.row(first).click();
    await ops.drawer('completed').waitFor();
    const looked = ops.page.waitForResponse((response) => response.url().endsWith(`api/tasks/${first}`));
    await ops.at('task-arguments').evaluate((part) => getSelection().selectAllChildren(part));
    await looked;
    await ops.page.waitForResponse((response) => response.url().endsWith(`api/tasks/${first}`));
    assert.match(await ops.page.evaluate(() => String(getSelection())), /"to": "first"/, 'a selection outlives looks');
    await ops.close();
  },

  async 'tasks: a long list has pages, and each is kept up to date'({ browser, mail }) {
    const ids = [];
    for (let number = 0; number < 53; number += 1) ids.unshift(await enqueue(mail, 'send_mail', { to: `${number}` }, { tenant: 'many', delay: 3600 }));
    const ops = await Ops.open(browser, mail, 'tasks?tenant=many');
    const shown = () => ops.at('tasks').locator('li').evaluateAll((rows) => rows.map((row) => row.dataset.id));
    await ops.row(ids[0]).waitFor();
    assert.deepEqual(await shown(), ids.slice(0, 50));
    await ops.at('older').click();
    await ops.row(ids[50]).waitFor();
    assert.deepEqual(await shown(), ids.slice(50));
    assert.ok(await ops.at('older').isDisabled());
    await mail.rest('POST', `api/tasks/${ids[51]}/cancel`);
    await ops.row(ids[51], 'cancelled').waitFor();
    await ops.at('newer').click();
    await ops.row(ids[0]).waitFor();
    assert.deepEqual(await shown(), ids.slice(0, 50));
    await ops.close();
  },

  async 'tasks: a narrow screen, dark: nothing sideways, all in reach'({ browser, mail }) {
    await shut(mail);
    const id = await enqueue(mail, 'send_mail', { to: 'x'.repeat(300) });
    const ops = await Ops.open(browser, mail, '', { viewport: { width: 360, height: 740 }, colorScheme: 'dark' });
    const sideways = () => ops.page.evaluate(() => Math.max(0, document.documentElement.scrollWidth - innerWidth));
    await ops.row(id, 'discarded').waitFor();
    assert.equal(await sideways(), 0);
    await ops.row(id).click();
    await ops.drawer('discarded').waitFor();
    assert.equal(await sideways(), 0);
    assert.ok(await ops.at('retry-task').evaluate((one) => one.getBoundingClientRect().right <= innerWidth));
    await ops.page.keyboard.press('Escape');
    await ops.at('enqueue').click();
    assert.equal(await sideways(), 0);
    await ops.close();
  },

  async 'tasks: a server that is away is said to be, and what was known stays'({ browser, mail }) {
    const id = await enqueue(mail, 'send_mail', { to: 'kept' }, { delay: 3600 });
    const ops = await Ops.open(browser, mail);
    await ops.row(id, 'available').waitFor();
    await ops.page.route('**/api/**', (route) => route.abort());
    await ops.page.locator('[data-testid=live][data-state=fault]').waitFor();
    assert.equal(await ops.row(id, 'available').count(), 1);
    await ops.page.unroute('**/api/**');
    await ops.page.locator('[data-testid=live][data-state=live]').waitFor();
    await ops.close([/ERR_FAILED/]);
  },

  async 'tasks: a server that wants an admin key is given one, and the chat page leads there'({ browser, provider, mail }) {
    const own = await Server.startWithKeys(mail.bin, provider);
    try {
      const { body } = await own.rest('POST', 'api/admin/keys', { name: 'somebody', tenant: 'acme' }, ADMIN_KEY);
      const ops = await Ops.open(browser, own);
      await ops.at('key-input').fill(body.key);
      await ops.page.keyboard.press('Enter');
      await ops.page.getByText('has not the admin role').waitFor();
      await ops.page.goto(own.url);
      await ops.at('account').waitFor();
      assert.ok(await ops.at('operations').isHidden());
      await ops.page.goto(`${own.url}ops/tasks`);
      await ops.at('key-input').fill(ADMIN_KEY);
      await ops.page.keyboard.press('Enter');
      await ops.page.locator('[data-testid=live][data-state=live]').waitFor();
      await ops.at('pause-kind').first().click();
      await ops.page.locator('[data-testid=kind][data-state=paused]').waitFor();
      await ops.page.goto(own.url);
      await ops.at('operations').click();
      await ops.page.locator('[data-testid=live][data-state=live]').waitFor();
      await ops.close([/401/, /403/]);
    } finally {
      await own.remove();
    }
  },
};
