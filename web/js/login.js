// Owns: the login of this browser, and the dialog that asks for a key to begin one. The key is kept nowhere: from then on a
// cookie speaks for it that no script can read.

import { element } from './element.js';

// Found from here: pages stand at different depths.
const SESSION = new URL('../api/session', import.meta.url);

/** Where earlier versions of this page kept the key. */
const EARLIER = 'ish.key';

let number = 0;

/** Grows with each login: what the server says to a call of an earlier one says nothing of this one. */
export const loginNumber = () => number;

/** Gives the key; returns why it was not taken, or null. `keep(who)` runs when it was. */
async function give(key, keep) {
  let response;
  try {
    response = await fetch(SESSION, {
      method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ key }), cache: 'no-store',
    });
  } catch (cause) {
    return `The server cannot be reached (${cause.message}).`;
  }
  const told = await response.json().catch(() => null);
  if (response.status === 201) {
    number += 1;
    keep(told);
    return null;
  }
  if (told?.code === 'invalid_api_key') return 'That key was not accepted.';
  return told?.detail ?? `The server answered ${response.status}.`;
}

/** Asks for a key until one is taken; `onLogin(who)` runs then. Calls while the dialog is open do nothing. */
export class LoginDialog {
  constructor(dialog, onLogin) {
    this.dialog = dialog;
    this.onLogin = onLogin;
    this.input = element('input', {
      type: 'password', id: 'key-input', autocomplete: 'off', spellcheck: 'false', required: true, 'data-testid': 'key-input',
    });
    this.fault = element('p', { class: 'fault', role: 'alert' });
    this.button = element('button', { class: 'primary', type: 'submit', 'data-testid': 'key-submit' }, 'Log in');
    const form = element(
      'form', { method: 'dialog' },
      element('h2', { id: 'key-title' }, 'This server asks for a key'),
      element('p', {}, 'It is given once and not kept: this browser stays logged in until you log out, or have not used it for long.'),
      element('label', { class: 'visually-hidden', for: 'key-input' }, 'API key'),
      this.input,
      this.fault,
      element('div', { class: 'modal-actions' }, this.button),
    );
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#submit();
    });
    dialog.append(form);
    // Without a key the page can do nothing, so Esc does not lead to a dead page.
    dialog.addEventListener('cancel', (event) => event.preventDefault());
  }

  /** Opens the dialog, and says why. */
  ask(why = '') {
    if (this.dialog.open) return;
    this.fault.textContent = why;
    this.dialog.showModal();
    this.input.focus();
  }

  /** Gives the key that an earlier version of this page kept for this tab, if there is one; it is kept no longer. */
  async takeEarlier() {
    const key = sessionStorage.getItem(EARLIER);
    sessionStorage.removeItem(EARLIER);
    if (key) await give(key, this.onLogin);
  }

  async #submit() {
    if (this.button.disabled) return;
    const key = this.input.value.trim();
    this.button.disabled = true;
    this.fault.textContent = '';
    const fault = await give(key, (who) => {
      this.input.value = '';
      this.dialog.close();
      this.onLogin(who);
    });
    this.button.disabled = false;
    this.fault.textContent = fault ?? '';
    if (fault) this.input.select();
  }
}
