// Owns: one step of a run in words: its state, how often it was tried, what came of it, and the way to its task.

import { element } from '../element.js';
import { plural } from '../units.js';
import { remake, say } from './keep.js';
import { stateChip } from './state.js';
import { span } from './times.js';
import { facts, written } from './values.js';

export function stepView({ name }) {
  const chip = stateChip();
  const note = element('span', { class: 'step-note' });
  const done = element('progress', { hidden: true, 'aria-label': `${name}: how many are done` });
  const body = element('div', { class: 'step-body' });
  const head = element('summary', {}, element('span', { class: 'step-title' }, name), chip.root, note, done);
  const root = element('li', { 'data-name': name, 'data-testid': 'step' }, element('details', {}, head, body));
  return {
    root,
    update(step) {
      root.dataset.state = step.state;
      chip.update(step.state);
      say(note, noted(step));
      done.hidden = !step.items;
      if (step.items) Object.assign(done, { max: Math.max(1, step.items.total), value: step.items.completed });
      remake(body, step, () => details(step));
    },
  };
}

function noted({ items, attempt, started_at: startedAt, ended_at: endedAt }) {
  const took = startedAt && endedAt ? `took ${span(Date.parse(endedAt) - Date.parse(startedAt))}` : null;
  const spread = items ? [`${items.completed} of ${items.total}`, items.running > 0 && `${items.running} running`, items.failed > 0 && `${items.failed} failed`] : [];
  return [...spread, attempt > 1 ? plural(attempt, 'attempt') : null, took].filter(Boolean).join(', ');
}

function details(step) {
  const moment = (date) => date && new Date(date).toLocaleString();
  const known = {
    after: step.after.join(', ') || null, undoes: step.compensates, runs: step.kind === 'each' ? 'once for each of a list' : null,
    begun: moment(step.started_at), ended: moment(step.ended_at),
  };
  return [
    facts(known),
    step.error && element('pre', { class: 'value run-error' }, step.error),
    step.output !== null && step.output !== undefined && written(step.output),
    step.task && element('a', { href: `tasks#${step.task}`, 'data-testid': 'step-task' }, 'Its task'),
  ];
}
