// Owns: the one question before something is lost.

import { element } from './element.js';

/** Asks in `dialog`; resolves to whether the answer was yes. Esc and the first button mean no. */
export function confirmed(dialog, { title, text, action, keep = 'Keep it' }) {
  const form = element(
    'form', { method: 'dialog' },
    element('h2', { id: 'confirm-title' }, title),
    element('p', {}, text),
    element(
      'div', { class: 'modal-actions' },
      element('button', { value: 'no', 'data-testid': 'confirm-no' }, keep),
      element('button', { value: 'yes', class: 'danger', 'data-testid': 'confirm-yes' }, action),
    ),
  );
  dialog.replaceChildren(form);
  dialog.returnValue = 'no';
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => resolve(dialog.returnValue === 'yes'), { once: true });
  });
}
