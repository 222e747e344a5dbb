// Owns: who runs tasks, how busy each of them is, and what nobody runs for now.

import { button, element, icon } from '../element.js';
import { keep, say } from './keep.js';
import { span } from './times.js';

const LIVING = ['available', 'running', 'retryable'];
const count = new Intl.NumberFormat('en');

export class Crew {
  /** `pause(scope, name)` and `resume(scope, name)` are promises. */
  constructor(actions) {
    this.actions = actions;
    this.workers = element('ul', { class: 'workers', 'data-testid': 'workers' });
    this.nobody = element('p', { class: 'nobody', hidden: true, 'data-testid': 'nobody' }, icon('cross'), 'No process runs tasks. ', element('code', {}, 'ish worker'), ' is one.');
    this.lists = { queue: element('ul', { class: 'pausable' }), kind: element('ul', { class: 'pausable' }) };
    this.root = element(
      'aside', { class: 'crew', 'aria-label': 'Workers, queues and kinds' },
      element('section', {}, element('h2', {}, 'Workers'), this.workers, this.nobody),
      element('section', {}, element('h2', {}, 'Queues'), this.lists.queue),
      element('section', {}, element('h2', {}, 'Kinds'), this.lists.kind),
    );
  }

  show({ by_kind: byKind, kinds, pauses }, workers) {
    keep(this.workers, workers, (worker) => worker.id, workerView);
    this.nobody.hidden = workers.length > 0;
    for (const scope of ['queue', 'kind']) {
      const paused = pauses.filter((pause) => pause.scope === scope).map((pause) => pause.name);
      const names = new Set([...byKind.map((one) => one[scope]), ...(scope === 'kind' ? kinds : []), ...paused]);
      const rows = [...names].sort().map((name) => ({ name, isPaused: paused.includes(name), ...sums(byKind.filter((one) => one[scope] === name)) }));
      keep(this.lists[scope], rows, (row) => row.name, (row) => this.#pausable(scope, row));
    }
  }

  #pausable(scope, { name }) {
    const note = element('span', { class: 'pausable-note' });
    const toggle = button({ label: '', iconName: 'pause', className: 'icon-button small', testid: `pause-${scope}` });
    const chip = element('span', { class: 'state', 'data-state': 'retryable' }, icon('pause'), 'paused');
    const root = element('li', { 'data-name': name, 'data-testid': scope }, element('span', { class: 'pausable-name' }, name), toggle, element('span', { class: 'pausable-line' }, chip, note));
    let isPaused = null;
    toggle.addEventListener('click', async () => {
      toggle.disabled = true;
      await this.actions[isPaused ? 'resume' : 'pause'](scope, name).catch((error) => say(note, error.message));
      toggle.disabled = false;
      toggle.focus();
    });
    return {
      root,
      update(row) {
        say(note, [row.waiting && `${count.format(row.waiting)} to do`, row.dead && `${count.format(row.dead)} dead`].filter(Boolean).join(', ') || 'nothing to do');
        if (isPaused === row.isPaused) return;
        isPaused = row.isPaused;
        chip.hidden = !isPaused;
        root.dataset.state = isPaused ? 'paused' : 'open';
        toggle.setAttribute('aria-label', `${isPaused ? 'Resume' : 'Pause'} the ${scope} ${name}`);
        toggle.title = toggle.getAttribute('aria-label');
        toggle.replaceChildren(icon(isPaused ? 'play' : 'pause'));
      },
    };
  }
}

function sums(rows) {
  const sum = (states) => rows.reduce((all, row) => all + states.reduce((of, state) => of + (row.states[state] ?? 0), 0), 0);
  return { waiting: sum(LIVING), dead: sum(['discarded']) };
}

function workerView({ name, started_at: startedAt }) {
  const note = element('span', { class: 'worker-note' });
  const busy = element('meter', { min: 0, 'aria-hidden': 'true' });
  const root = element('li', { 'data-testid': 'worker' }, element('span', { class: 'worker-name' }, name), note, busy);
  return {
    root,
    update({ running, room, is_draining: isDraining }) {
      root.dataset.state = isDraining ? 'draining' : 'open';
      const work = running === 0 ? `idle, room for ${room}` : `${running} of ${room} at work`;
      say(note, isDraining ? `draining, ${running} left` : `${work}, up ${span(Date.now() - Date.parse(startedAt))}`);
      busy.max = Math.max(room, running, 1);
      busy.value = running;
    },
  };
}
