// Owns: the exchanges of the branch that is open: questions with their answers, older pages, and staying at the end while text
// comes, unless the reader has scrolled up.

import { AnswerView } from './answer-view.js';
import { button, element } from './element.js';
import { QuestionView } from './question-view.js';

const NEAR_END_PX = 80;

/** The list of exchanges in `root`. `jump` is the button that leads back to the end; `actions` as in `AnswerView` and `QuestionView`. */
export class Transcript {
  #exchanges = [];
  #following = true;

  constructor(root, jump, actions) {
    this.root = root;
    this.jump = jump;
    this.actions = actions;
    this.column = element('div', { class: 'column' });
    root.append(this.column);
    root.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    jump.addEventListener('click', () => this.toEnd());
    // Whatever grows (text, a badge, an opened thought), the end stays in view for a reader who is at the end. While a
    // question is edited, its box stays in view instead.
    new ResizeObserver(() => this.#following && !this.column.querySelector('.edit') && this.#jumpToEnd()).observe(this.column);
  }

  /** Empties the transcript and shows `placeholder`, if any. */
  clear(placeholder = null) {
    this.#exchanges = [];
    this.column.replaceChildren(...(placeholder ? [placeholder] : []));
    this.root.dataset.state = placeholder ? 'empty' : 'loading';
    this.#following = true;
    this.jump.hidden = true;
  }

  /** Adds one page before everything shown. `entries`: `{question, answer}` from oldest to newest, either may be `null`. */
  prepend(entries, loadOlder) {
    const height = this.root.scrollHeight - this.root.scrollTop;
    this.column.querySelector('.older')?.remove();
    const made = entries.map(({ question, answer }) => this.#exchange(question, answer));
    this.#exchanges.unshift(...made);
    this.column.prepend(...made.map((exchange) => exchange.root));
    if (loadOlder) {
      this.column.prepend(button({ label: 'Show earlier messages', text: 'Show earlier messages', className: 'older', testid: 'older-messages', onClick: loadOlder }));
    }
    this.root.dataset.state = 'shown';
    if (this.#following) this.#jumpToEnd();
    else this.root.scrollTop = this.root.scrollHeight - height;
  }

  /** Adds a question that was just asked, with its coming answer. One that takes the place of `edited` takes all after that too. */
  append(question, answer, edited = null) {
    if (edited) this.#cut(this.#exchanges.findIndex((exchange) => exchange.question === edited));
    if (this.#exchanges.length === 0) this.column.replaceChildren(...this.column.querySelectorAll('.older'));
    const exchange = this.#exchange(question, answer);
    this.#exchanges.push(exchange);
    this.column.append(exchange.root);
    this.root.dataset.state = 'shown';
    this.toEnd();
  }

  /** Shows another answer to the question that `earlier` answered; what followed that one belongs to its own branch. */
  replace(earlier, answer) {
    const at = this.#exchanges.findIndex((exchange) => exchange.view?.answer === earlier);
    if (at === -1) return;
    this.#cut(at + 1);
    this.#show(this.#exchanges[at], answer);
    this.toEnd();
  }

  /** Draws what changed of an answer and its question; says whether it is shown here. */
  update(answer) {
    const exchange = this.#exchangeOf(answer);
    if (!exchange) return false;
    exchange.view.redraw();
    return true;
  }

  /** The question was stored: it has a name now, and can be edited. */
  named(answer) {
    const exchange = this.#exchangeOf(answer);
    if (!exchange?.question || exchange.question.id) return;
    const { question } = exchange;
    question.id = answer.question;
    question.siblings = question.siblings.length > 0 ? question.siblings.map((id) => id ?? answer.question) : [answer.question];
    exchange.asked.draw();
  }

  /** The question that an answer belongs to. */
  questionOf(answer) {
    return this.#exchangeOf(answer)?.question ?? null;
  }

  /** The last answer, or `undefined`. */
  get last() {
    return this.#exchanges.at(-1)?.view?.answer;
  }

  /** The stored answer that a next question follows, or `undefined`. */
  get end() {
    return this.#exchanges.findLast((exchange) => exchange.view?.answer.reply)?.view.answer;
  }

  /** Where a message stands on the screen; `null` where it is not shown. */
  topOf(id) {
    return this.#rootOf(id)?.getBoundingClientRect().top ?? null;
  }

  /** Brings a message to `top` on the screen, and the focus to its arrows. */
  hold(id, top) {
    const root = this.#rootOf(id);
    if (!root) return;
    this.#following = false;
    this.root.scrollTop += root.getBoundingClientRect().top - top;
    this.#scrolled();
    root.querySelector('.siblings button:not(:disabled)')?.focus({ preventScroll: true });
  }

  toEnd() {
    this.#following = true;
    this.jump.hidden = true;
    this.#jumpToEnd();
  }

  #exchange(question, answer) {
    const exchange = { question, asked: question && new QuestionView(question, this.actions), view: null };
    exchange.root = element('div', { class: 'exchange' }, exchange.asked?.root);
    if (answer) this.#show(exchange, answer);
    return exchange;
  }

  #show(exchange, answer) {
    const view = new AnswerView(answer, this.actions);
    if (exchange.view) exchange.view.root.replaceWith(view.root);
    else exchange.root.append(view.root);
    exchange.view = view;
  }

  /** Takes away what is shown from an exchange on. */
  #cut(from) {
    if (from === -1) return;
    for (const exchange of this.#exchanges.splice(from)) exchange.root.remove();
  }

  #exchangeOf(answer) {
    return this.#exchanges.find((exchange) => exchange.view?.answer === answer);
  }

  #rootOf(id) {
    return this.column.querySelector(`[data-message="${CSS.escape(id)}"]`);
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.root;
    this.#following = scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
    this.jump.hidden = this.#following;
  }

  #jumpToEnd() {
    this.root.scrollTop = this.root.scrollHeight;
  }
}
