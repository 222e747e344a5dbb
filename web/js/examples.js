// Owns: the empty page and its three questions, which show what the cache does: ask, ask in other words, and ask something
// that only sounds alike. After each answer the next one is offered.

import { button, element, icon } from './element.js';

const EXAMPLES = [
  { lead: 'Ask something', question: 'Why do leaves change their colour in autumn?' },
  { lead: 'Ask it again in other words', question: 'What makes leaves change colour in autumn?' },
  { lead: 'Ask what only sounds alike', question: 'Why do leaves change their colour in spring?' },
];

/** The empty page. `onAsk(question)` runs for a pressed example. */
export function emptyPage(onAsk) {
  return element(
    'div', { class: 'empty', 'data-testid': 'empty' },
    element('h2', {}, 'Ask once. After that it is instant.'),
    element('p', {}, 'An answer is kept, and found again when the question comes back, even in other words. The badge under each answer says how, and why.'),
    element('ol', { class: 'examples' }, EXAMPLES.map(({ lead, question }, index) => element(
      'li', {},
      element(
        'button', { type: 'button', class: 'example', 'data-testid': 'example', on: { click: () => onAsk(question) } },
        element('span', { class: 'example-number', 'aria-hidden': 'true' }, String(index + 1)),
        element('span', { class: 'example-lead' }, lead),
        element('span', { class: 'example-question' }, question),
      ),
    ))),
  );
}

/** The offer of the example after `question`, or `null` if that was none of them or the last. */
export function nextExample(question, onAsk) {
  const at = EXAMPLES.findIndex((example) => example.question === question);
  const next = at === -1 ? undefined : EXAMPLES[at + 1];
  if (!next) return null;
  return element(
    'div', { class: 'next-example', 'data-testid': 'next-example' },
    element('span', {}, next.lead),
    button({ label: next.question, text: next.question, iconName: 'arrow-right', className: 'suggestion', testid: 'suggestion', onClick: () => onAsk(next.question) }),
  );
}
