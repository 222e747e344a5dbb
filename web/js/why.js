// Owns: the drawer that explains one answer: which rule decided, what was tried in what time, which neighbours were near and
// what each guard said of them. The explanation is the server's; nothing is concluded here.

import { button, element, icon } from './element.js';
import { fineDuration, similarity } from './units.js';

const DECISIONS = { hit: 'Served from the cache', miss: 'Answered by the model', bypass: 'The cache was not asked', collapsed: 'Shared an answer under way' };
const RESULT_ICONS = { hit: 'check', miss: 'cross', skipped: 'skip' };

/** The drawer. `show(title, load)` opens it at once and fills it when the promise that `load` returns is there. */
export class WhyDrawer {
  constructor(dialog) {
    this.dialog = dialog;
    this.body = element('div', { class: 'drawer-body' });
    dialog.append(
      element(
        'header', { class: 'drawer-head' },
        element('h2', { id: 'why-title' }, 'Why this answer'),
        button({ label: 'Close', iconName: 'close', className: 'icon-button', onClick: () => dialog.close() }),
      ),
      this.body,
    );
    dialog.addEventListener('close', () => { dialog.dataset.state = 'closed'; });
    dialog.addEventListener('click', (event) => event.target === dialog && dialog.close());
  }

  async show(load) {
    this.body.replaceChildren(element('p', { class: 'quiet' }, 'Looking it up…'));
    this.dialog.dataset.state = 'loading';
    this.dialog.showModal();
    try {
      this.body.replaceChildren(...sections(await load()));
      this.dialog.dataset.state = 'open';
    } catch (error) {
      this.body.replaceChildren(element('p', { class: 'fault', role: 'alert' }, error.message));
      this.dialog.dataset.state = 'failed';
    }
  }
}

function sections(why) {
  return [
    verdict(why),
    section('What was tried', 'why-steps', steps(why.steps)),
    section(`Nearest questions in this scope (${why.neighbours.length})`, 'why-neighbours', neighbours(why.neighbours)),
    section('How the question was read', 'why-request', request(why.request)),
    folded('Scope: who and what shares this answer', 'why-scope', pairs(why.scope)),
    folded('Keys', 'why-keys', pairs(why.keys)),
  ];
}

function section(title, testid, ...children) {
  return element('section', { 'data-testid': testid }, element('h3', {}, title), children);
}

function folded(title, testid, ...children) {
  return element('details', { 'data-testid': testid }, element('summary', {}, title), children);
}

function verdict({ decision, how, rule }) {
  return element(
    'div', { class: 'verdict', 'data-state': decision === 'hit' ? how : decision, 'data-testid': 'why-decision' },
    element('strong', {}, how ? `${DECISIONS[decision]}: ${how}` : DECISIONS[decision]),
    element('p', { 'data-testid': 'why-rule' }, rule),
  );
}

/** The steps with a bar each, to the scale of the longest: a look at it shows where the time went. */
function steps(list) {
  if (list.length === 0) return element('p', { class: 'quiet' }, 'Nothing was looked up.');
  const longest_ms = Math.max(...list.map((step) => step.ms), 0.001);
  return element('ol', { class: 'steps' }, list.map((step) => element(
    'li', { 'data-state': step.result },
    element('span', { class: 'step-mark' }, icon(RESULT_ICONS[step.result] ?? 'question')),
    element('span', { class: 'step-name' }, step.step, step.tier ? element('span', { class: 'tier' }, step.tier.toUpperCase()) : null),
    element('span', { class: 'step-result' }, step.result),
    element('span', { class: 'step-time' }, step.result === 'skipped' ? '' : fineDuration(step.ms)),
    element('progress', { max: longest_ms, value: step.result === 'skipped' ? 0 : step.ms, 'aria-hidden': 'true' }),
    step.detail ? element('span', { class: 'step-detail' }, step.detail) : null,
  )));
}

function neighbours(list) {
  if (list.length === 0) return element('p', { class: 'quiet' }, 'None was near enough to be looked at.');
  return list.map((neighbour) => element(
    'article', { class: 'neighbour', 'data-testid': 'neighbour', 'data-state': neighbour.serve ? 'serve' : 'refuse' },
    element('p', { class: 'neighbour-prompt' }, neighbour.prompt),
    gauge(neighbour),
    element('p', { class: 'neighbour-verdict' }, verdictOf(neighbour)),
    element('ul', { class: 'guards' }, neighbour.checks.map((check) => element(
      'li', { 'data-state': check.passed ? 'passed' : 'failed', 'data-testid': 'guard' },
      icon(check.passed ? 'check' : 'cross'),
      element('span', { class: 'guard-name' }, check.guard),
      element('span', { class: 'visually-hidden' }, check.passed ? ' passed ' : ' refused '),
      element('span', { class: 'guard-detail' }, check.detail),
    ))),
  ));
}

function verdictOf({ serve, blocked, similarity: cosine, threshold }) {
  if (blocked) return 'Never served for this question again: somebody reported it as wrong.';
  if (serve) return 'Served: near enough, and every guard agreed.';
  return cosine < threshold ? 'Not served: below the threshold.' : 'Not served: a guard refused.';
}

/** The cosine as a bar from 0 to 1 with the threshold as a mark on it. */
function gauge({ similarity: cosine, threshold }) {
  const meter = element('span', { class: 'gauge', 'aria-hidden': 'true' }, element('span', { class: 'gauge-fill' }), element('span', { class: 'gauge-mark' }));
  meter.style.setProperty('--fill', String(Math.max(0, Math.min(1, cosine))));
  meter.style.setProperty('--mark', String(Math.max(0, Math.min(1, threshold))));
  return element(
    'div', { class: 'similarity' }, meter,
    element('span', {}, `${similarity(cosine)}`, element('span', { class: 'quiet' }, ` needs ${similarity(threshold)}`)),
  );
}

function request({ prompt, normalized, model, language, standalone, freshness, semantic_eligible: eligible, why_not: whyNot }) {
  return pairs({
    question: prompt,
    normalized,
    model,
    language,
    'stands alone': standalone ? 'yes' : 'no, it needs the turns before it',
    freshness,
    'matched by meaning': eligible ? 'yes' : `no: ${whyNot ?? 'not eligible'}`,
  });
}

function pairs(fields) {
  return element('dl', { class: 'pairs' }, Object.entries(fields ?? {}).map(([name, value]) => [
    element('dt', {}, name.replaceAll('_', ' ')),
    element('dd', {}, written(value)),
  ]));
}

function written(value) {
  if (value === null || value === undefined || value === '') return element('span', { class: 'quiet' }, 'none');
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}
