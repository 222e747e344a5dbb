// Owns: the drawer that shows one task whole, and what can be done about it. Which task that is stands in the address.

import { button, element } from '../element.js';
import { keep, remake, say } from './keep.js';
import { stateChip } from './state.js';
import { away } from './times.js';
import { facts, written } from './values.js';

/** In which states a verb makes sense; the server decides. */
const FITS = { retry: ['retryable', 'discarded', 'cancelled'], cancel: ['available', 'running', 'retryable'] };

export class TaskDrawer {
  #task = null;

  /** `onOpen()` has the task looked at; `change(task, verb)` is a promise. */
  constructor(dialog, { onOpen, change }) {
    Object.assign(this, { dialog, onOpen, change });
    this.chip = stateChip();
    this.title = element('h2', { id: 'drawer-title' });
    this.fault = element('p', { class: 'fault', role: 'alert' });
    this.retry = this.#verb('retry', 'Retry', 'refresh');
    this.cancel = this.#verb('cancel', 'Cancel', 'stop');
    this.failures = element('ol', { class: 'failures', reversed: true, 'data-testid': 'failures' });
    this.parts = Object.fromEntries(['errors', 'arguments', 'progress', 'result', 'facts'].map((name) => [name, section(name)]));
    this.parts.errors.body.append(this.failures);
    this.body = element('div', { class: 'drawer-body', tabindex: '-1' }, element('div', { class: 'verbs' }, this.chip.root, this.retry, this.cancel), this.fault, Object.values(this.parts).map((one) => one.root));
    dialog.append(
      element('header', { class: 'drawer-head' }, this.title, button({ label: 'Close', iconName: 'close', className: 'icon-button', testid: 'close-task', onClick: () => dialog.close() })),
      this.body,
    );
    dialog.addEventListener('close', () => this.#closed());
    dialog.addEventListener('click', (event) => event.target === dialog && dialog.close());
    addEventListener('hashchange', () => this.#follow());
    this.#follow();
  }

  open(id) {
    location.hash = id;
  }

  /** Looks at the open task with `ask(id)`, a promise of it. */
  async look(ask) {
    const id = open();
    if (!id) return;
    try {
      const task = await ask(id);
      if (id === open()) this.#show(task);
    } catch (error) {
      if (error.status !== 404) throw error;
      if (id === open()) this.#gone();
    }
  }

  #follow() {
    const id = open();
    if (!id) {
      this.dialog.close();
      return;
    }
    if (this.#task?.id !== id) this.#clear(id);
    if (!this.dialog.open) this.dialog.showModal();
    this.onOpen();
  }

  #closed() {
    const id = open();
    if (!id) return;
    history.replaceState(null, '', location.pathname + location.search);
    document.querySelector(`[data-id="${CSS.escape(id)}"] a`)?.focus();
  }

  #clear(id) {
    this.#task = { id };
    this.dialog.dataset.state = 'loading';
    say(this.title, 'Task');
    say(this.fault, '');
    for (const { root } of Object.values(this.parts)) root.hidden = true;
    this.retry.disabled = this.cancel.disabled = true;
    this.chip.root.hidden = true;
  }

  #gone() {
    this.dialog.dataset.state = 'gone';
    say(this.fault, 'There is no such task: it was purged, or has been kept long enough.');
    this.retry.disabled = this.cancel.disabled = true;
  }

  #show(task) {
    this.#task = task;
    this.dialog.dataset.state = task.state;
    say(this.title, task.kind);
    this.chip.root.hidden = false;
    this.chip.update(task.state, task.cancel_wanted && task.state === 'running' ? 'asked to end' : '');
    this.retry.disabled = !FITS.retry.includes(task.state);
    this.cancel.disabled = !FITS.cancel.includes(task.state) || task.cancel_wanted;
    this.parts.errors.root.hidden = task.failures.length === 0;
    keep(this.failures, task.failures.toReversed(), (failure) => `${failure.attempt} ${failure.at_ms}`, failureView);
    this.#value('arguments', task.arguments);
    this.#value('progress', task.progress);
    this.#value('result', task.result);
    this.parts.facts.root.hidden = false;
    const shown = factsOf(task);
    remake(this.parts.facts.body, shown, () => facts(shown));
  }

  #value(name, value) {
    const { root, body } = this.parts[name];
    root.hidden = value === null;
    remake(body, value, () => written(value));
  }

  #verb(verb, text, iconName) {
    const root = button({ label: text, text, iconName, className: 'outlined', testid: `${verb}-task` });
    root.addEventListener('click', async () => {
      root.disabled = true;
      say(this.fault, '');
      try {
        await this.change(this.#task, verb);
      } catch (error) {
        say(this.fault, error.message);
      }
    });
    return root;
  }
}

/** The task that the address names, or an empty string. */
function open() {
  return decodeURIComponent(location.hash.slice(1)).replace(/^main$/, '');
}

function section(name) {
  const body = element('div', { 'data-testid': `task-${name}` });
  return { body, root: element('section', { hidden: true }, element('h3', {}, name[0].toUpperCase() + name.slice(1)), body) };
}

function failureView({ attempt, at_ms: at, error }) {
  const ago = element('span', {});
  const date = new Date(at);
  const head = element('p', { class: 'failure-head' }, element('strong', {}, `Attempt ${attempt}`), element('time', { datetime: date.toISOString(), title: date.toLocaleString() }, ago));
  return {
    root: element('li', { 'data-testid': 'failure' }, head, element('pre', { class: 'value' }, error)),
    update: () => say(ago, away(date.toISOString())),
  };
}

function factsOf(task) {
  return {
    id: task.id, tenant: task.tenant === '/' ? "the deployment's own" : task.tenant, queue: task.queue, priority: task.priority,
    attempts: `${task.attempt} of ${task.max_attempts}`, 'version of its arguments': task.version, 'unique key': task.unique_key,
    enqueued: moment(task.enqueued_at), 'may run from': moment(task.run_at), 'last begun': moment(task.started_at), ended: moment(task.ended_at), worker: task.worker,
  };
}

function moment(date) {
  return date && new Date(date).toLocaleString();
}
