// Owns: how a state is shown: always by a word and an icon, by its colour besides.

import { element, icon } from '../element.js';
import { say } from './keep.js';

/** The states of a task, in the order in which they are offered. */
export const TASK_STATES = ['available', 'running', 'retryable', 'discarded', 'completed', 'cancelled'];

/** Those that nothing more comes of by itself. */
export const ENDED = new Set(['completed', 'cancelled', 'discarded']);

/** The states of a workflow's run, in the order in which they are offered. */
export const RUN_STATES = ['running', 'compensating', 'failed', 'compensation_failed', 'cancelled', 'completed'];

/** By state: of tasks, of runs, of their steps. */
export const STATE_ICONS = {
  available: 'clock', running: 'play', retryable: 'refresh', completed: 'check', cancelled: 'stop', discarded: 'cross', waiting: 'dot', ready: 'clock',
  failed: 'cross', skipped: 'skip', compensating: 'undo', compensated: 'undo', compensation_failed: 'cross',
};

/** What a state is called, where its own name says too little. */
const NAMES = { discarded: 'dead letter', retryable: 'will retry' };

export function stateName(state) {
  return NAMES[state] ?? state.replaceAll('_', ' ');
}

/** A chip that `update(state, note)` changes. */
export function stateChip() {
  const text = element('span', {});
  const root = element('span', { class: 'state' }, text);
  return {
    root,
    update(state, note = '') {
      say(text, note ? `${stateName(state)}, ${note}` : stateName(state));
      if (root.dataset.state === state) return;
      root.dataset.state = state;
      root.querySelector('svg')?.remove();
      root.prepend(icon(STATE_ICONS[state] ?? 'dot'));
    },
  };
}
