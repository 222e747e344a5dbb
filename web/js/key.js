// Owns: the API key of this tab, and the dialog that asks for it. The key stays in sessionStorage: closing the tab forgets it.

import { element } from './element.js';

const STORED = 'ish.key';

/** The key of this tab, or `null` in local mode. */
export const currentKey = () => sessionStorage.getItem(STORED);

/** Asks for a key until one is given; `onKey` runs after each one was stored. Calls while the dialog is open do nothing. */
export class KeyDialog {
  constructor(dialog, onKey) {
    this.dialog = dialog;
    this.input = element('input', {
      type: 'password', id: 'key-input', autocomplete: 'off', spellcheck: 'false', required: true, 'data-testid': 'key-input',
    });
    this.fault = element('p', { class: 'fault', role: 'alert' });
    const form = element(
      'form', { method: 'dialog' },
      element('h2', { id: 'key-title' }, 'This server asks for a key'),
      element('p', {}, 'It is kept in this tab only, and forgotten when you close it.'),
      element('label', { class: 'visually-hidden', for: 'key-input' }, 'API key'),
      this.input,
      this.fault,
      element('div', { class: 'modal-actions' }, element('button', { class: 'primary', type: 'submit', 'data-testid': 'key-submit' }, 'Continue')),
    );
    form.addEventListener('submit', () => {
      sessionStorage.setItem(STORED, this.input.value.trim());
      this.input.value = '';
      onKey();
    });
    dialog.append(form);
    // Without a key the page can do nothing, so Esc does not lead to a dead page.
    dialog.addEventListener('cancel', (event) => event.preventDefault());
  }

  /** Opens the dialog; says why when there was a key. */
  ask(why = 'That key was not accepted.') {
    if (this.dialog.open) return;
    this.fault.textContent = currentKey() ? why : '';
    sessionStorage.removeItem(STORED);
    this.dialog.showModal();
    this.input.focus();
  }
}
