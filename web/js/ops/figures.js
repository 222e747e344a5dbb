// Owns: what waits, by priority: how much, and for how long the oldest has.

import { element } from '../element.js';
import { keep, say } from './keep.js';
import { span } from './times.js';

const PRIORITIES = ['critical', 'high', 'normal', 'low'];
const count = new Intl.NumberFormat('en');

export class Figures {
  constructor() {
    this.list = element('ul', { class: 'figure-list' });
    this.root = element('section', { class: 'figures', 'aria-labelledby': 'waiting-title' }, element('h2', { id: 'waiting-title' }, 'Waiting to run'), this.list);
    this.show({});
  }

  /** `waiting`: for each priority `{tasks, oldest_ms}`; none, where nothing waits. */
  show(waiting) {
    const rows = PRIORITIES.map((priority) => ({ priority, tasks: 0, oldest_ms: 0, ...waiting[priority] }));
    keep(this.list, rows, (row) => row.priority, figure);
  }
}

function figure({ priority }) {
  const number = element('span', { class: 'figure-number' });
  const note = element('span', { class: 'figure-note' });
  const name = element('span', { class: 'figure-name' }, priority);
  const root = element('li', { class: 'figure', 'data-testid': 'waiting', 'data-priority': priority }, name, number, note);
  return {
    root,
    update({ tasks, oldest_ms }) {
      root.dataset.state = tasks > 0 ? 'some' : 'none';
      say(number, count.format(tasks));
      say(note, tasks > 0 ? `oldest ${span(oldest_ms)}` : 'none waits');
    },
  };
}
