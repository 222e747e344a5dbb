// Owns: how one run of a workflow is shown in the list.

import { element } from '../element.js';
import { say } from './keep.js';
import { stateChip } from './state.js';
import { away, timeView } from './times.js';

const OWN = '/';

export function runRow({ id }) {
  const [chip, time] = [stateChip(), timeView()];
  const [name, facts, said, done] = ['row-kind', 'row-facts', 'row-said', 'row-attempt'].map((kind) => element('span', { class: kind }));
  const link = element(
    'a', { class: 'row', href: `#${id}`, 'data-testid': 'run' },
    element('span', { class: 'row-state' }, chip.root), element('span', { class: 'row-what' }, name, facts), said, done, element('span', { class: 'row-time' }, time.root),
  );
  const root = element('li', { 'data-id': id }, link);
  return {
    root,
    update(run) {
      root.toggleAttribute('data-gone', run.isGone === true);
      if (run.isGone) return;
      link.dataset.state = run.state;
      chip.update(run.state);
      say(name, run.workflow);
      say(facts, [`version ${run.version}`, run.tenant === OWN ? null : run.tenant].filter(Boolean).join(' · '));
      say(said, run.error ?? '');
      said.toggleAttribute('data-fault', Boolean(run.error));
      say(done, progress(run.steps ?? []));
      const when = run.ended_at ?? run.created_at;
      time.update(when, away(when));
    },
  };
}

/** How many of the steps are done; what undoes one is none. */
export function progress(steps) {
  const own = steps.filter((step) => !step.compensates);
  const done = own.filter((step) => ['completed', 'skipped', 'compensating', 'compensated'].includes(step.state));
  return own.length === 0 ? '' : `${done.length} of ${own.length} steps`;
}
