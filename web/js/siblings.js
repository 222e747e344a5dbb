// Owns: the arrows between messages that stand side by side: `‹ 2 / 3 ›`.

import { button, element } from './element.js';

/**
 * The arrows at `id` among `ids`, or `null` where there is nothing to step to. `noun` names what is stepped through, `testid`
 * begins the names for tests, `onStep(to)` gets the other message's id.
 */
export function siblingArrows({ id, ids, noun, testid, onStep }) {
  const at = ids.indexOf(id);
  if (at === -1 || ids.length < 2) return null;
  const step = (to, label, iconName, name) => button({
    label, iconName, className: 'icon-button small', testid: `${testid}-${name}`, disabled: !ids[to], onClick: () => onStep(ids[to]),
  });
  return element(
    'span', { class: 'siblings', 'data-testid': `${testid}s`, role: 'group', 'aria-label': `${at + 1} of ${ids.length} ${noun}s` },
    step(at - 1, `Older ${noun}`, 'chevron-left', 'older'), `${at + 1} / ${ids.length}`, step(at + 1, `Newer ${noun}`, 'chevron-right', 'newer'),
  );
}
