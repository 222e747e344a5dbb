// Owns: how one task is shown in the list: its state, what it is, what it last said, and since when.

import { element } from '../element.js';
import { say } from './keep.js';
import { stateChip } from './state.js';
import { away, span, timeView } from './times.js';

const SNIPPET = 200;
/** The tenant of what is the deployment's own. */
const OWN = '/';

export function taskRow({ id }) {
  const chip = stateChip();
  const time = timeView();
  const kind = element('span', { class: 'row-kind' });
  const facts = element('span', { class: 'row-facts' });
  const said = element('span', { class: 'row-said' });
  const attempt = element('span', { class: 'row-attempt' });
  const link = element(
    'a', { class: 'row', href: `#${id}`, 'data-testid': 'task' },
    element('span', { class: 'row-state' }, chip.root), element('span', { class: 'row-what' }, kind, facts), said, attempt, element('span', { class: 'row-time' }, time.root),
  );
  const root = element('li', { 'data-id': id }, link);
  return {
    root,
    update(task) {
      root.toggleAttribute('data-gone', task.isGone === true);
      if (task.isGone) return;
      link.dataset.state = task.state;
      chip.update(task.state, task.cancel_wanted && task.state === 'running' ? 'asked to end' : '');
      say(kind, task.kind);
      say(facts, [task.priority, task.tenant === OWN ? null : task.tenant].filter(Boolean).join(' · '));
      say(said, lastSaid(task));
      said.toggleAttribute('data-fault', ['retryable', 'discarded'].includes(task.state));
      say(attempt, task.attempt === 0 ? '' : `attempt ${task.attempt} of ${task.max_attempts}`);
      time.update(...moment(task));
    },
  };
}

/** The latest error of what failed, how far what runs has come, else what it is to do. */
function lastSaid({ state, failures, progress, arguments: given }) {
  const failure = failures.at(-1);
  if (failure && state !== 'completed' && state !== 'running') return failure.error.slice(0, SNIPPET);
  if (state === 'running' && progress !== null) return short(progress);
  return short(given);
}

function short(value) {
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return text === '{}' ? '' : text.slice(0, SNIPPET);
}

function moment({ state, run_at: runAt, started_at: startedAt, ended_at: endedAt }) {
  if (endedAt) return [endedAt, away(endedAt)];
  if (state === 'running') return [startedAt, `for ${span(Date.now() - Date.parse(startedAt))}`];
  return Date.parse(runAt) > Date.now() ? [runAt, away(runAt)] : [runAt, `waits ${span(Date.now() - Date.parse(runAt))}`];
}
