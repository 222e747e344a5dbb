// Owns: the message box: typing, growing, sending, and the stop button that takes the send button's place while an answer comes.

/** The composer. `onSend(text)` says whether it took the text; only then is the box cleared. */
export class Composer {
  constructor({ form, input, send, stop }, { onSend, onStop }) {
    Object.assign(this, { form, input, send, stop, onSend });
    this.busy = false;
    input.addEventListener('input', () => this.#changed());
    input.addEventListener('keydown', (event) => {
      // While an input method composes, Enter picks a candidate.
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.#submit();
    });
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#submit();
    });
    stop.addEventListener('click', onStop);
  }

  /** While busy, Enter does nothing and keeps the text, and the button stops the answer. */
  setBusy(busy) {
    if (busy === this.busy) return;
    const hadFocus = document.activeElement === this.send || document.activeElement === this.stop;
    this.busy = busy;
    this.form.dataset.state = busy ? 'busy' : 'idle';
    this.send.hidden = busy;
    this.stop.hidden = !busy;
    this.#changed();
    if (hadFocus) this.input.focus();
  }

  focus() {
    this.input.focus();
  }

  #submit() {
    const text = this.input.value.trim();
    if (text === '' || this.busy || !this.onSend(text)) return;
    this.input.value = '';
    this.#changed();
  }

  #changed() {
    this.send.disabled = this.input.value.trim() === '';
    if (CSS.supports('field-sizing', 'content')) return;
    this.input.style.height = 'auto';
    this.input.style.height = `${this.input.scrollHeight}px`;
  }
}
