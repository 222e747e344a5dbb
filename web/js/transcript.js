// Owns: the exchanges of the open conversation: questions, the answers to each (one shown, the others a step away), older
// pages, and staying at the end while text comes, unless the reader has scrolled up.

import { AnswerView } from './answer-view.js';
import { button, element } from './element.js';

const NEAR_END_PX = 80;

/** The list of exchanges in `root`. `jump` is the button that leads back to the end; `actions` as in `AnswerView`. */
export class Transcript {
  #exchanges = [];
  #following = true;

  constructor(root, jump, actions) {
    this.root = root;
    this.jump = jump;
    this.actions = { ...actions, step: (answer, by) => this.#step(answer, by) };
    this.column = element('div', { class: 'column' });
    root.append(this.column);
    root.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    jump.addEventListener('click', () => this.toEnd());
    // Whatever grows (text, a badge, an opened thought), the end stays in view for a reader who is at the end.
    new ResizeObserver(() => this.#following && this.#jumpToEnd()).observe(this.column);
  }

  /** Empties the transcript and shows `placeholder`, if any. */
  clear(placeholder = null) {
    this.#exchanges = [];
    this.column.replaceChildren(...(placeholder ? [placeholder] : []));
    this.root.dataset.state = placeholder ? 'empty' : 'loading';
    this.#following = true;
    this.jump.hidden = true;
  }

  /** Adds one page before everything shown. `entries`: `{question, answers}` from oldest to newest; `loadOlder` or `null`. */
  prepend(entries, loadOlder) {
    const height = this.root.scrollHeight - this.root.scrollTop;
    this.column.querySelector('.older')?.remove();
    const made = entries.map(({ question, answers }) => this.#exchange(question, answers));
    this.#exchanges.unshift(...made);
    this.column.prepend(...made.map((exchange) => exchange.root));
    if (loadOlder) {
      this.column.prepend(button({ label: 'Show earlier messages', text: 'Show earlier messages', className: 'older', testid: 'older-messages', onClick: loadOlder }));
    }
    this.root.dataset.state = 'shown';
    if (this.#following) this.#jumpToEnd();
    else this.root.scrollTop = this.root.scrollHeight - height;
  }

  /** Adds a question that was just asked, with its coming answer. */
  append(answer) {
    if (this.#exchanges.length === 0) this.column.replaceChildren();
    const exchange = this.#exchange({ id: null, content: answer.content }, [answer]);
    this.#exchanges.push(exchange);
    this.column.append(exchange.root);
    this.root.dataset.state = 'shown';
    this.toEnd();
  }

  /** Adds another answer to the question that `earlier` answered, and shows it. */
  addSibling(earlier, answer) {
    const exchange = this.#exchangeOf(earlier);
    if (!exchange) return;
    exchange.answers.push(answer);
    this.#show(exchange, exchange.answers.length - 1);
    if (exchange === this.#exchanges.at(-1)) this.toEnd();
  }

  /** Draws what changed of an answer; says whether it is shown here. */
  update(answer) {
    const exchange = this.#exchangeOf(answer);
    if (!exchange) return false;
    if (exchange.view?.answer === answer) exchange.view.redraw();
    return true;
  }

  /** The content of the question that an answer belongs to. */
  questionOf(answer) {
    return this.#exchangeOf(answer)?.question.content ?? answer.content;
  }

  /** The newest answer, or `undefined`. */
  get last() {
    return this.#exchanges.at(-1)?.answers.at(-1);
  }

  toEnd() {
    this.#following = true;
    this.jump.hidden = true;
    this.#jumpToEnd();
  }

  #exchange(question, answers) {
    const exchange = { question, answers, shown: -1, view: null };
    exchange.root = element(
      'div', { class: 'exchange' },
      question && element('div', { class: 'question', 'data-testid': 'message-user', role: 'article', 'aria-label': 'Your question' }, question.content),
    );
    if (answers.length > 0) this.#show(exchange, answers.length - 1);
    return exchange;
  }

  #show(exchange, index) {
    const view = new AnswerView(exchange.answers[index], this.actions);
    view.placeAmong(index, exchange.answers.length);
    if (exchange.view) exchange.view.root.replaceWith(view.root);
    else exchange.root.append(view.root);
    exchange.view = view;
    exchange.shown = index;
  }

  #step(answer, by) {
    const exchange = this.#exchangeOf(answer);
    const index = exchange.shown + by;
    if (!exchange.answers[index]) return;
    this.#show(exchange, index);
    const again = exchange.root.querySelector(`[data-testid="${by < 0 ? 'sibling-older' : 'sibling-newer'}"]:not(:disabled)`);
    (again ?? exchange.root.querySelector('.siblings button:not(:disabled)'))?.focus();
  }

  #exchangeOf(answer) {
    return this.#exchanges.find((exchange) => exchange.answers.includes(answer));
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
