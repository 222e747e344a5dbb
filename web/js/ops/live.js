// Owns: that what is shown is looked at again and again while somebody sees the page, never twice at a time, and seldom where a
// look takes long; and the line that says how that goes.

import { element, icon } from '../element.js';

/** Between two looks, at least; and so many times as long as the last look took. */
const LEAST_MS = 1500;
const SHARE = 4;
const AFTER_FAULT_MS = 4000;
const NOTE_MS = 4000;

/** `look()` is a promise; `onFault(error)` hears why one failed. `line` shows how it goes. */
export class Live {
  #timer = null;
  #note = null;
  #looking = false;
  #again = false;
  #running = false;
  #since = null;

  constructor(line, look, onFault) {
    this.line = line;
    this.look = look;
    this.onFault = onFault;
    document.addEventListener('visibilitychange', () => this.#running && this.now());
  }

  start() {
    this.#running = true;
    this.now();
  }

  stop() {
    this.#running = false;
    clearTimeout(this.#timer);
    this.#say('stopped', 'Waiting for a key');
  }

  /** Looks at once, and again if a look is under way: it may have begun before what this is about. */
  async now() {
    clearTimeout(this.#timer);
    if (this.#looking) {
      this.#again = true;
      return;
    }
    if (!this.#running || document.hidden) return;
    this.#looking = true;
    const began_ms = performance.now();
    const fault = await this.look().then(() => null, (error) => error);
    this.#looking = false;
    if (!this.#running) return;
    this.#looked(fault);
    const pause_ms = fault ? AFTER_FAULT_MS : Math.max(LEAST_MS, SHARE * (performance.now() - began_ms));
    this.#timer = setTimeout(() => this.now(), this.#again ? 0 : pause_ms);
    this.#again = false;
  }

  /** Shows for a moment what came of something. */
  note(text) {
    clearTimeout(this.#note);
    this.#say('note', text);
    this.#note = setTimeout(() => {
      this.#note = null;
      this.#since = null;
      this.now();
    }, NOTE_MS);
  }

  #looked(fault) {
    if (fault) {
      this.#since ??= new Date().toLocaleTimeString();
      this.#say('fault', `${fault.message} Shown is what was there before ${this.#since}.`);
      this.onFault(fault);
    } else {
      this.#since = null;
      if (this.#note === null) this.#say('live', 'Live');
    }
  }

  #say(state, text) {
    if (this.line.dataset.state === state && this.line.textContent === text) return;
    this.line.dataset.state = state;
    this.line.replaceChildren(icon(state === 'fault' ? 'cross' : state === 'note' ? 'check' : 'dot'), element('span', {}, text));
    this.line.title = text;
  }
}
