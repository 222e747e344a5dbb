// Owns: how one answer looks while it comes and when it has ended: text, badge, the actions under it, what went wrong.

import { badge, badgeKind } from './badge.js';
import { button, element, icon, perFrame } from './element.js';
import { MarkdownView } from './markdown.js';
import { siblingArrows } from './siblings.js';

const NOTICES = {
  interrupted: 'The server stopped in the middle of this answer. What you see was saved.',
  cancelled: 'You stopped this answer.',
  failed: 'This answer could not be finished.',
};
const NOTHING_SAVED = 'The server stopped before anything of this answer was saved.';

/**
 * The view of one `Answer`. `actions`: `why(answer)`, `reportWrong(answer)` (a promise of words), `askAgain(answer)`,
 * `goOn(answer)`, `regenerate(answer)`, `step(from, to)`.
 */
export class AnswerView {
  #feedback = null;

  constructor(answer, actions) {
    this.answer = answer;
    this.actions = actions;
    this.prose = element('div', { class: 'prose', 'data-testid': 'answer-text' });
    this.thought = element('details', { class: 'thought', hidden: true }, element('summary', {}, 'Thoughts'), element('div', {}));
    const dots = element('span', { class: 'dots', 'aria-hidden': 'true' }, element('i'), element('i'), element('i'));
    this.waiting = element('p', { class: 'waiting' }, dots, element('span', {}));
    this.notice = element('div', { class: 'notice', hidden: true, 'data-testid': 'notice' });
    this.foot = element('footer', { class: 'answer-foot' });
    this.root = element(
      'article', { class: 'answer', 'data-testid': 'message-assistant', 'aria-label': 'Answer' },
      this.thought, this.prose, this.waiting, this.notice, this.foot,
    );
    this.markdown = new MarkdownView(this.prose);
    // History is read when one gets there; an answer that comes now is announced, once it is whole (see aria-busy).
    if (answer.live) this.prose.setAttribute('aria-live', 'polite');
    this.redraw = perFrame(() => this.draw());
    this.draw();
  }

  draw() {
    const { answer } = this;
    this.root.dataset.state = answer.phase;
    this.root.dataset.message = answer.reply ?? '';
    this.prose.setAttribute('aria-busy', String(answer.running));
    this.prose.toggleAttribute('data-streaming', answer.running && answer.text !== '');
    if (answer.running) this.markdown.showGrowing(answer.text);
    else this.markdown.show(answer.text);
    this.waiting.hidden = !answer.running || answer.text !== '';
    this.waiting.lastChild.textContent = waitingFor(answer);
    this.thought.hidden = answer.reasoning === '';
    this.thought.lastChild.textContent = answer.reasoning;
    this.#drawNotice();
    this.#drawFoot();
  }

  #drawNotice() {
    const { answer, actions } = this;
    const text = NOTICES[answer.phase];
    this.notice.hidden = !text;
    if (!text || this.notice.dataset.phase === answer.phase) return;
    this.notice.dataset.phase = answer.phase;
    const nothingSaved = answer.phase === 'interrupted' && answer.text === '';
    const reason = nothingSaved ? NOTHING_SAVED : (answer.phase === 'failed' && answer.error?.message) || text;
    this.notice.replaceChildren(
      element('span', {}, reason),
      answer.text === '' ? null : button({ label: 'Continue', text: 'Continue', testid: 'continue', onClick: () => actions.goOn(answer) }),
      button({ label: 'Ask again', text: 'Ask again', iconName: 'refresh', testid: 'ask-again', onClick: () => actions.askAgain(answer) }),
    );
  }

  /** The foot is rebuilt only when something in it has changed: buttons must keep their focus while text streams. */
  #drawFoot() {
    const { answer } = this;
    const facts = JSON.stringify([answer.phase, answer.cache, answer.elapsed_ms, answer.usage, this.#feedback, answer.reply, answer.siblings]);
    if (this.foot.dataset.facts === facts) return;
    const fresh = this.foot.dataset.facts !== undefined && answer.live && !answer.running;
    this.foot.dataset.facts = facts;
    const focused = this.foot.contains(document.activeElement) ? document.activeElement.dataset.testid : null;
    const outcome = badge(answer);
    // Only an answer that arrived just now celebrates; one from the history is merely labelled.
    if (outcome && fresh && this.#feedback === null) outcome.classList.add('arriving');
    this.foot.replaceChildren(...[outcome, this.#actionRow(), this.#feedbackLine()].filter(Boolean));
    if (focused) this.foot.querySelector(`[data-testid="${focused}"]`)?.focus();
  }

  #actionRow() {
    const { answer, actions } = this;
    if (answer.running) return null;
    const isHit = answer.cache?.status === 'hit';
    return element(
      'div', { class: 'actions' },
      siblingArrows({ id: answer.reply, ids: answer.siblings, noun: 'answer', testid: 'sibling', onStep: (to) => actions.step(answer.reply, to) }),
      answer.cache && answer.reply && button({ label: 'Why this answer', text: 'Why', iconName: 'question', testid: 'why', onClick: () => actions.why(answer) }),
      isHit && this.#feedback === null && button({
        label: 'Report a wrong answer', text: 'Wrong answer', iconName: 'flag', testid: 'wrong-answer', onClick: () => this.#reportWrong(),
      }),
      answer.reply && button({
        label: 'Regenerate, past the cache', text: 'Regenerate', iconName: 'refresh', testid: 'regenerate', onClick: () => actions.regenerate(answer),
      }),
      answer.text !== '' && this.#copyButton(),
    );
  }

  #copyButton() {
    const copy = button({ label: 'Copy the answer', iconName: 'copy', className: 'icon-button small', testid: 'copy-answer' });
    copy.addEventListener('click', async () => {
      const copied = await navigator.clipboard.writeText(this.answer.text).then(() => true, () => false);
      copy.replaceChildren(icon(copied ? 'check' : 'cross'));
      setTimeout(() => copy.replaceChildren(icon('copy')), 1600);
    });
    return copy;
  }

  async #reportWrong() {
    this.#feedback = { state: 'sending', text: 'Reporting…' };
    this.draw();
    try {
      this.#feedback = { state: 'done', text: await this.actions.reportWrong(this.answer) };
    } catch (error) {
      this.#feedback = { state: 'failed', text: `That could not be reported: ${error.message}` };
    }
    this.draw();
  }

  #feedbackLine() {
    if (this.#feedback === null) return null;
    const { state, text } = this.#feedback;
    return element(
      'p', { class: 'feedback', role: 'status', 'data-testid': 'feedback', 'data-state': state }, element('span', {}, text),
      state === 'done' && button({ label: 'Ask again', text: 'Ask again', iconName: 'refresh', testid: 'ask-again', onClick: () => this.actions.askAgain(this.answer) }),
    );
  }
}

function waitingFor({ phase, source, model, cache }) {
  if (phase === 'sending') return 'Sending';
  if (source === 'cache') return cache ? `Found: ${badgeKind(cache)}` : 'Found in the cache';
  return source === 'upstream' && model ? `Asking ${model}` : 'Looking in the cache';
}
