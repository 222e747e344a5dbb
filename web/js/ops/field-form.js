// Owns: a form in a dialog whose faults are said at the fields that they are about.

import { element } from '../element.js';
import { parseExactly } from '../exact.js';
import { keep, say } from './keep.js';

export class FieldForm {
  /**
   * `fields`: by name, `{label, input}` and, where the value is no text, `read(text)`; what is left empty is left out. `send(values)` is
   * a promise; an error's `param` says at which field it is shown. `testid` begins those of the parts.
   */
  constructor(dialog, { title, action, testid, rows, fields, send }) {
    Object.assign(this, { dialog, fields, send });
    this.faults = Object.fromEntries(Object.entries(fields).map(([name, one]) => [name, fault(testid, name, one.input)]));
    this.fault = element('p', { class: 'fault', role: 'alert', 'data-testid': `${testid}-fault` });
    this.submit = element('button', { class: 'primary', type: 'submit', 'data-testid': `${testid}-submit` }, action);
    const close = element('button', { type: 'button', on: { click: () => dialog.close() } }, 'Close');
    const shown = (name) => element('div', { class: 'field' }, element('label', { for: fields[name].input.id }, fields[name].label), fields[name].input, this.faults[name]);
    const form = element(
      'form', { novalidate: true }, element('h2', { id: 'form-title' }, title),
      rows.map((names) => element('div', { class: 'form-row' }, names.map(shown))), this.fault, element('div', { class: 'modal-actions' }, close, this.submit),
    );
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#submitted();
    });
    dialog.append(form);
  }

  /** Opens the form; what was written before is still there. */
  show() {
    this.#clear();
    this.dialog.showModal();
    Object.values(this.fields)[0].input.focus();
  }

  /** What can be chosen in a field. */
  offer(name, choices) {
    keep(this.fields[name].input, choices, (choice) => choice, (choice) => ({ root: element('option', { value: choice }, choice) }));
  }

  async #submitted() {
    this.#clear();
    this.submit.disabled = true;
    try {
      await this.send(this.#values());
      this.dialog.close();
    } catch (error) {
      this.#refused(error);
    }
    this.submit.disabled = false;
  }

  #values() {
    const given = Object.entries(this.fields).map(([name, { input, read }]) => [name, input.value.trim(), read]);
    return Object.fromEntries(given.filter(([, text]) => text !== '').map(([name, text, read]) => [name, read ? read(text) : text]));
  }

  #refused(error) {
    if (!this.faults[error.param]) {
      say(this.fault, error.message);
      return;
    }
    const { input } = this.fields[error.param];
    say(this.faults[error.param], error.message);
    input.setAttribute('aria-invalid', 'true');
    input.focus();
  }

  #clear() {
    say(this.fault, '');
    for (const [name, { input }] of Object.entries(this.fields)) {
      say(this.faults[name], '');
      input.removeAttribute('aria-invalid');
    }
  }
}

/** A field for JSON, and how it is read: what is none never reaches the server. */
export function jsonField(name, label) {
  return { label, input: element('textarea', { rows: 6, spellcheck: 'false', class: 'json' }, '{}'), read: (text) => parsed(name, text) };
}

function parsed(name, text) {
  try {
    return parseExactly(text);
  } catch (error) {
    throw Object.assign(new Error(`That is no JSON: ${error.message}`), { param: name });
  }
}

function fault(testid, name, input) {
  input.id = `${testid}-${name}`;
  input.dataset.testid = input.id;
  input.setAttribute('aria-describedby', `${input.id}-fault`);
  return element('span', { class: 'field-fault', id: `${input.id}-fault`, role: 'alert' });
}
