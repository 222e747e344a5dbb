// Owns: the part of the page that shows workflows: their runs, or the one that the address names.

import { button, element } from '../element.js';
import { FieldForm, jsonField } from './field-form.js';
import { keep } from './keep.js';
import { Pages } from './pages.js';
import { runRow } from './run-row.js';
import { RunView } from './run-view.js';
import { RUN_STATES, stateName } from './state.js';

export class WorkflowsPage {
  #defined = null;

  constructor(page) {
    this.page = page;
    const address = new URLSearchParams(location.search);
    this.filter = { state: address.get('state'), workflow: address.get('workflow') };
    this.pages = new Pages({ row: runRow, onTurn: () => page.refresh(), testid: 'runs' });
    this.state = this.#select('state');
    this.workflow = this.#select('workflow');
    this.form = new FieldForm(page.form, {
      title: 'Start a workflow', action: 'Start', testid: 'start', rows: [['name'], ['input'], ['key']], send: (wish) => this.#start(wish),
      fields: {
        name: { label: 'Workflow', input: element('select', {}) },
        input: jsonField('input', 'Input, as JSON'),
        key: { label: 'Key: started again under it, it is the same run', input: element('input', { autocomplete: 'off', spellcheck: 'false', placeholder: 'none' }) },
      },
    });
    const start = button({ label: 'Start a workflow', text: 'Start…', iconName: 'plus', className: 'outlined', testid: 'start', onClick: () => this.form.show() });
    this.list = element(
      'section', {}, element('h1', { class: 'visually-hidden' }, 'Workflows'),
      element('div', { class: 'filters' }, element('label', {}, 'State', this.state), element('label', {}, 'Workflow', this.workflow), element('span', { class: 'spacer' }), start),
      this.pages.root,
    );
    this.run = new RunView((id, verb) => this.#change(id, verb));
    page.main.append(this.list, this.run.root);
    addEventListener('hashchange', () => this.#follow());
    this.#follow();
  }

  async look() {
    const id = opened();
    return id ? this.#lookAt(id) : this.#lookOver();
  }

  async #lookAt(id) {
    try {
      const run = await this.page.api.workflow(id);
      if (id === opened()) this.run.show(run);
    } catch (error) {
      if (error.status !== 404 && error.status !== 400) throw error;
      if (id === opened()) this.run.gone();
    }
  }

  async #lookOver() {
    this.#defined ??= (await this.page.api.workflowDefinitions()).data.map((one) => one.name);
    const query = { ...this.filter, ...this.pages.query() };
    const { data } = await this.page.api.workflows(query);
    this.form.offer('name', this.#defined);
    offer(this.state, RUN_STATES, this.filter.state, stateName);
    offer(this.workflow, this.#defined, this.filter.workflow);
    if (JSON.stringify(query) === JSON.stringify({ ...this.filter, ...this.pages.query() })) this.pages.show(data, this.#defined.length > 0 ? 'There are no such runs.' : 'This server knows no workflows.');
  }

  #follow() {
    const id = opened();
    if (id && id !== this.run.id) this.run.clear();
    this.list.hidden = Boolean(id);
    this.run.root.hidden = !id;
    scrollTo(0, 0);
    this.page.refresh();
  }

  async #change(id, verb) {
    await this.page.api.changeWorkflow(id, verb);
    this.page.announce(verb === 'retry' ? 'It goes on from where it failed.' : 'It is cancelled.');
    this.page.refresh();
  }

  async #start(wish) {
    const { id } = await this.page.api.startWorkflow(wish);
    this.page.announce('Started.');
    location.hash = id;
  }

  #select(name) {
    return element('select', { 'data-testid': `filter-${name}`, on: { change: ({ target }) => this.#narrow({ [name]: target.value || null }) } });
  }

  #narrow(change) {
    Object.assign(this.filter, change);
    const wanted = Object.entries(this.filter).filter(([, value]) => value);
    history.replaceState(null, '', `${location.pathname}${wanted.length > 0 ? `?${new URLSearchParams(wanted)}` : ''}`);
    this.pages.toFirst();
  }
}

/** The run that the address names, or an empty string. */
function opened() {
  return decodeURIComponent(location.hash.slice(1)).replace(/^main$/, '');
}

function offer(select, names, chosen, written = (name) => name) {
  const all = ['', ...new Set([...names, ...(chosen ? [chosen] : [])])];
  keep(select, all, (name) => name, (name) => ({ root: element('option', { value: name }, name ? written(name) : 'any') }));
  select.value = chosen ?? '';
}
