// Owns: the part of the page that shows tasks: who is asked for what in one look, and what a click does.

import { element } from '../element.js';
import { plural } from '../units.js';
import { Crew } from './crew.js';
import { enqueueForm } from './enqueue.js';
import { Figures } from './figures.js';
import { ENDED, stateName } from './state.js';
import { TaskDrawer } from './task-drawer.js';
import { TaskList } from './task-list.js';

export class TasksPage {
  #stats = null;

  constructor(page) {
    this.page = page;
    this.figures = new Figures();
    this.crew = new Crew({ pause: (...what) => this.#pause(...what), resume: (...what) => this.#resume(...what) });
    this.list = new TaskList({ onChange: () => page.refresh(), onEnqueue: () => this.form.show(), onPurge: () => this.#purge() });
    this.drawer = new TaskDrawer(page.drawer, { onOpen: () => page.refresh(), change: (task, verb) => this.#change(task, verb) });
    this.form = enqueueForm(page.form, (task) => this.#enqueue(task));
    page.main.append(
      element('h1', { class: 'visually-hidden' }, 'Tasks'),
      this.figures.root,
      element('div', { class: 'ops-columns' }, this.list.root, this.crew.root),
    );
  }

  /** Asks for everything that is shown, and shows it. */
  async look() {
    const { api } = this.page;
    const query = this.list.query();
    const [stats, workers, tasks] = await Promise.all([api.taskStats(), api.taskWorkers(), api.tasks(query), this.drawer.look((id) => api.task(id))]);
    this.#stats = stats;
    this.form.offer('kind', stats.kinds);
    this.figures.show(stats.waiting);
    this.crew.show(stats, workers.data);
    this.list.showCounts(stats);
    this.list.show(query, tasks.data);
  }

  async #change(task, verb) {
    const changed = await this.page.api.changeTask(task.id, verb);
    const outcome = verb === 'retry' ? 'It runs again.' : changed.state === 'cancelled' ? 'Cancelled.' : 'It is asked to end.';
    this.page.announce(outcome);
    this.page.refresh();
  }

  async #enqueue(task) {
    const { id, is_new: isNew } = await this.page.api.enqueue(task);
    this.page.announce(isNew ? 'Enqueued.' : 'There is such a task already: this one.');
    this.drawer.open(id);
  }

  async #pause(scope, name) {
    await this.page.api.pause(scope, name);
    this.page.announce(`No more tasks of the ${scope} ${name} begin.`);
    this.page.refresh();
  }

  async #resume(scope, name) {
    await this.page.api.resume(scope, name);
    this.page.announce(`Tasks of the ${scope} ${name} begin again.`);
    this.page.refresh();
  }

  /** Deletes what is shown and has ended, on all pages. */
  async #purge() {
    const { state, kind, tenant } = this.list.filter;
    const what = [state ? `${stateName(state)}:` : 'All that have ended:', kind ? `of the kind ${kind}` : 'of every kind', tenant ? `and the tenant ${tenant}` : null];
    const sure = await this.page.confirmed({
      title: tenant ? 'Purge the tasks that have ended?' : `Purge ${plural(this.#ended(state, kind), 'task')}?`,
      text: `${what.filter(Boolean).join(' ')}. They go with their arguments, results and errors. What waits or runs stays.`,
      action: 'Purge',
      keep: 'Keep them',
    });
    if (!sure) return;
    const { purged } = await this.page.api.purge(state || kind || tenant ? { state, kind, tenant } : { all: true });
    this.page.announce(`${plural(purged, 'task')} purged.`);
    this.list.toFirst();
  }

  #ended(state, kind) {
    const wanted = (this.#stats?.by_kind ?? []).filter((one) => !kind || one.kind === kind);
    const counted = wanted.flatMap((one) => Object.entries(one.states)).filter(([name]) => (state ? name === state : ENDED.has(name)));
    return counted.reduce((sum, [, tasks]) => sum + tasks, 0);
  }
}
