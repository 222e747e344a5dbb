// Owns: which tasks are wanted (by state, kind and tenant; in the address too), and how many there are of each.

import { button, element } from '../element.js';
import { keep, say } from './keep.js';
import { Pages } from './pages.js';
import { ENDED, TASK_STATES, stateName } from './state.js';
import { taskRow } from './task-row.js';

const count = new Intl.NumberFormat('en');

export class TaskList {
  constructor({ onChange, onEnqueue, onPurge }) {
    const address = new URLSearchParams(location.search);
    this.filter = { state: address.get('state'), kind: address.get('kind'), tenant: address.get('tenant') };
    this.pages = new Pages({ row: taskRow, onTurn: onChange, testid: 'tasks' });
    this.tabs = element('div', { class: 'tabs', role: 'group', 'aria-label': 'State' });
    this.kind = element('select', { 'data-testid': 'filter-kind', on: { change: () => this.#narrow({ kind: this.kind.value || null }) } });
    this.tenant = element('input', {
      type: 'search', placeholder: 'any', autocomplete: 'off', spellcheck: 'false', value: this.filter.tenant, 'data-testid': 'filter-tenant',
      on: { change: () => this.#narrow({ tenant: this.tenant.value || null }) },
    });
    this.purge = button({ label: 'Purge what has ended', text: 'Purge…', iconName: 'trash', className: 'outlined', testid: 'purge', onClick: onPurge });
    const enqueue = button({ label: 'Enqueue a task', text: 'Enqueue…', iconName: 'plus', className: 'outlined', testid: 'enqueue', onClick: onEnqueue });
    this.root = element(
      'section', { class: 'tasks', 'aria-label': 'Tasks' },
      this.tabs,
      element(
        'div', { class: 'filters' },
        element('label', {}, 'Kind', this.kind), element('label', {}, 'Tenant', this.tenant),
        element('span', { class: 'spacer' }), enqueue, this.purge,
      ),
      this.pages.root,
    );
    this.showCounts({ by_kind: [], kinds: [] });
  }

  /** What to ask the server for. */
  query() {
    return { ...this.filter, ...this.pages.query() };
  }

  toFirst() {
    this.pages.toFirst();
  }

  /** How many there are in each state, of the kind that is looked at. */
  showCounts({ by_kind: byKind, kinds }) {
    const { kind, tenant } = this.filter;
    const names = [...new Set([...kinds, ...byKind.map((one) => one.kind), ...(kind ? [kind] : [])])].sort();
    keep(this.kind, ['', ...names], (name) => name, (name) => ({ root: element('option', { value: name }, name || 'any') }));
    this.kind.value = kind ?? '';
    const states = byKind.filter((one) => !kind || one.kind === kind).map((one) => one.states);
    const total = (wanted) => wanted.reduce((sum, state) => sum + states.reduce((of, one) => of + (one[state] ?? 0), 0), 0);
    // Nobody counts those of one tenant.
    const tabs = [null, ...TASK_STATES].map((state) => ({ state, tasks: tenant ? '' : count.format(total(state ? [state] : TASK_STATES)) }));
    keep(this.tabs, tabs, ({ state }) => state ?? 'all', ({ state }) => this.#tab(state));
    this.#mark();
  }

  /** Shows what came of `query`, unless something else is wanted by now. */
  show(query, tasks) {
    if (JSON.stringify(query) !== JSON.stringify(this.query())) return;
    this.pages.show(tasks, this.filter.state ? `No task here is ${stateName(this.filter.state)}.` : 'There are no tasks.');
  }

  #narrow(change) {
    Object.assign(this.filter, change);
    const wanted = Object.entries(this.filter).filter(([, value]) => value);
    history.replaceState(null, '', `${location.pathname}${wanted.length > 0 ? `?${new URLSearchParams(wanted)}` : ''}${location.hash}`);
    this.#mark();
    this.toFirst();
  }

  /** Shows what is chosen; only what has ended can be purged. */
  #mark() {
    const { state } = this.filter;
    for (const tab of this.tabs.children) tab.setAttribute('aria-pressed', String(tab.dataset.state === (state ?? 'all')));
    this.purge.disabled = Boolean(state) && !ENDED.has(state);
  }

  #tab(state) {
    const number = element('span', { class: 'tab-count' });
    const root = element('button', { type: 'button', class: 'tab', 'data-testid': 'tab', 'data-state': state ?? 'all', on: { click: () => this.#narrow({ state }) } }, state ? stateName(state) : 'all', number);
    return { root, update: ({ tasks }) => say(number, tasks) };
  }
}
