// Owns: the choice of the model, kept in this browser for as long as the server offers it.

import { element } from './element.js';

const STORED = 'ish.model';

export class ModelPicker {
  constructor(select) {
    this.select = select;
    select.addEventListener('change', () => localStorage.setItem(STORED, select.value));
  }

  /** Offers the models of the server, the reader's earlier choice first, the server's default otherwise. */
  offer(models, fallback) {
    const wanted = [this.select.value, localStorage.getItem(STORED), fallback].find((model) => models.includes(model));
    this.select.replaceChildren(...models.map((model) => element('option', { value: model, selected: model === wanted }, model)));
    this.select.disabled = models.length === 0;
  }

  /** The chosen model's id, or `null` before the server has named any. */
  get chosen() {
    return this.select.value || null;
  }
}
