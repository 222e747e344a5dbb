// Owns: how one question looks: its text, its siblings, and the box in which it is edited. An edited question is asked beside
// the old one, which stays.

import { button, element } from './element.js';
import { siblingArrows } from './siblings.js';

/**
 * The view of one question: `{id, parent, content, siblings}`; `id` is `null` until it is stored. `actions`:
 * `edit(question, text)` (says whether it was taken), `step(from, to)`.
 */
export class QuestionView {
  constructor(question, actions) {
    this.question = question;
    this.actions = actions;
    this.bubble = element('div', { class: 'question', 'data-testid': 'message-user', role: 'article', 'aria-label': 'Your question' }, question.content);
    this.foot = element('div', { class: 'question-foot' });
    this.root = element('div', { class: 'asked' }, this.bubble, this.foot);
    this.draw();
  }

  draw() {
    const { question, actions } = this;
    this.root.dataset.message = question.id ?? '';
    const arrows = siblingArrows({
      id: question.id, ids: question.siblings, noun: 'question', testid: 'question-sibling', onStep: (to) => actions.step(question.id, to),
    });
    const edit = question.id && button({
      label: 'Edit the question', iconName: 'pen', className: 'icon-button small', testid: 'edit-question', onClick: () => this.#edit(),
    });
    this.foot.replaceChildren(...[arrows, edit].filter(Boolean));
  }

  #edit() {
    const input = element('textarea', { rows: 1, 'aria-label': 'Edit the question', 'data-testid': 'edit-input' });
    input.value = this.question.content;
    const form = element(
      'form', { class: 'edit' }, input,
      element(
        'div', { class: 'modal-actions' },
        button({ label: 'Cancel', text: 'Cancel', className: '', testid: 'edit-cancel', onClick: () => this.#endEdit() }),
        element('button', { type: 'submit', class: 'primary', 'data-testid': 'edit-send' }, 'Ask'),
      ),
    );
    const submit = () => {
      const text = input.value.trim();
      // Taken, the whole view is replaced by the new question's.
      if (text !== '') this.actions.edit(this.question, text);
    };
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      submit();
    });
    form.addEventListener('keydown', (event) => {
      if (event.isComposing) return;
      if (event.key === 'Enter' && !event.shiftKey && event.target === input) {
        event.preventDefault();
        submit();
      } else if (event.key === 'Escape') {
        event.stopPropagation();
        this.#endEdit();
      }
    });
    this.root.replaceChildren(form);
    this.root.dataset.state = 'editing';
    input.focus();
    form.scrollIntoView({ block: 'nearest' });
    input.setSelectionRange(input.value.length, input.value.length);
  }

  #endEdit() {
    delete this.root.dataset.state;
    this.root.replaceChildren(this.bubble, this.foot);
    this.foot.querySelector('[data-testid="edit-question"]')?.focus();
  }
}
