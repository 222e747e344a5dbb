// Owns: one run of a workflow, whole: its graph, its steps one by one, what it was given and what came of it, and what can be done.

import { button, element, icon } from '../element.js';
import { Graph } from './graph.js';
import { keep, kept, remake, say } from './keep.js';
import { progress } from './run-row.js';
import { stateChip } from './state.js';
import { stepView } from './step-view.js';
import { facts, written } from './values.js';

/** In which states a verb makes sense; the server decides. */
const FITS = { retry: ['failed', 'cancelled', 'compensation_failed'], cancel: ['running'] };

export class RunView {
  /** `change(id, verb)` is a promise. */
  constructor(change) {
    this.change = change;
    this.chip = stateChip();
    this.title = element('h1', { tabindex: '-1' });
    this.note = element('span', { class: 'quiet' });
    this.fault = element('p', { class: 'fault', role: 'alert', 'data-testid': 'run-fault' });
    this.error = element('pre', { class: 'value run-error', hidden: true, 'data-testid': 'run-error' });
    this.retry = this.#verb('retry', 'Retry', 'refresh');
    this.cancel = this.#verb('cancel', 'Cancel', 'stop');
    const drawing = element('div', { class: 'graph-scroll', tabindex: '0', role: 'region', 'aria-label': 'Graph' });
    this.graph = new Graph(drawing, (name) => this.#choose(name));
    this.steps = element('ol', { class: 'steps-list', 'data-testid': 'steps' });
    this.values = Object.fromEntries(['input', 'output', 'facts'].map((name) => [name, part(name)]));
    this.root = element(
      'article', { class: 'run', 'data-testid': 'run-view' },
      element('a', { class: 'back', href: '#', 'data-testid': 'all-runs' }, icon('chevron-left'), 'All runs'),
      element('header', { class: 'verbs' }, this.title, this.chip.root, this.note, element('span', { class: 'spacer' }), this.retry, this.cancel),
      this.fault, this.error, drawing,
      element('div', { class: 'run-columns' }, element('section', {}, element('h2', {}, 'Steps'), this.steps), element('div', { class: 'run-values' }, Object.values(this.values).map((one) => one.root))),
    );
    this.clear();
  }

  /** Before anything is known of a run. */
  clear() {
    this.id = null;
    this.root.dataset.state = 'loading';
    say(this.title, 'Looking…');
    for (const node of [this.note, this.fault]) say(node, '');
    this.error.hidden = this.chip.root.hidden = true;
    this.retry.disabled = this.cancel.disabled = true;
    keep(this.steps, [], () => null, () => null);
    this.graph.show([]);
    for (const { root } of Object.values(this.values)) root.hidden = true;
  }

  gone() {
    this.clear();
    this.root.dataset.state = 'gone';
    say(this.title, 'There is no such run');
  }

  show(run) {
    this.id = run.id;
    this.root.dataset.state = run.state;
    say(this.title, run.workflow);
    this.chip.root.hidden = false;
    this.chip.update(run.state);
    say(this.note, progress(run.steps));
    this.retry.disabled = !FITS.retry.includes(run.state);
    this.cancel.disabled = !FITS.cancel.includes(run.state);
    this.error.hidden = !run.error;
    say(this.error, run.error ?? '');
    this.graph.show(run.steps);
    keep(this.steps, run.steps, (step) => step.name, stepView);
    this.#value('input', run.input);
    this.#value('output', run.output);
    const shown = factsOf(run);
    this.values.facts.root.hidden = false;
    remake(this.values.facts.body, shown, () => facts(shown));
  }

  #value(name, value) {
    const { root, body } = this.values[name];
    root.hidden = value === null || value === undefined;
    remake(body, value, () => written(value));
  }

  /** Opens a step in the list below. */
  #choose(name) {
    const { root } = kept(this.steps, name);
    root.firstChild.open = true;
    root.firstChild.firstChild.focus();
    root.scrollIntoView({ block: 'nearest' });
  }

  #verb(verb, text, iconName) {
    const root = button({ label: text, text, iconName, className: 'outlined', testid: `${verb}-run` });
    root.addEventListener('click', async () => {
      root.disabled = true;
      say(this.fault, '');
      await this.change(this.id, verb).catch((error) => say(this.fault, error.message));
    });
    return root;
  }
}

function part(name) {
  const body = element('div', { 'data-testid': `run-${name}` });
  return { body, root: element('section', { hidden: true }, element('h2', {}, name[0].toUpperCase() + name.slice(1)), body) };
}

function factsOf(run) {
  const moment = (date) => date && new Date(date).toLocaleString();
  return {
    id: run.id, version: run.version, tenant: run.tenant === '/' ? "the deployment's own" : run.tenant, begun: moment(run.created_at), ended: moment(run.ended_at),
  };
}
