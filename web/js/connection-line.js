// Owns: the slim line that says how the connection is doing, and silence when it is well.

import { element } from './element.js';

const RESUMED_FOR_MS = 2500;
// A restart on the same machine takes a moment; a line that flashes for less than this only worries people.
const QUIET_MS = 400;

/** Shows the socket's states in `line`; `onRetry` runs when the reader wants to try again at once. */
export class ConnectionLine {
  #timer = null;
  #wasLost = false;

  constructor(line, onRetry) {
    this.line = line;
    this.onRetry = onRetry;
  }

  /** `resumed`: how many answers go on after a reconnect. */
  show(state, { reason = '', resumed = 0 } = {}) {
    clearTimeout(this.#timer);
    if (state === 'online') {
      this.#online(resumed);
    } else if (state === 'draining') {
      this.#wasLost = true;
      this.#say('draining', 'The server is restarting. Answers go on in a moment.');
    } else if (state === 'waiting' || (state === 'connecting' && this.#wasLost)) {
      this.#wasLost = true;
      this.#say('reconnecting', 'Reconnecting…');
    } else if (state === 'refused') {
      this.#wasLost = true;
      this.#say('refused', reason, 'Try again');
    } else {
      this.line.dataset.state = 'connecting';
      this.#timer = setTimeout(() => this.#say('connecting', 'Connecting…'), QUIET_MS);
    }
  }

  /** A fault that concerns no answer on the page. */
  showFault(text) {
    this.#say('fault', text);
    this.#hideLater();
  }

  #online(resumed) {
    if (!this.#wasLost) {
      this.#say('online', '');
      return;
    }
    this.#wasLost = false;
    this.#say('resumed', resumed > 0 ? 'Resumed' : 'Connected again');
    this.#hideLater();
  }

  #hideLater() {
    this.#timer = setTimeout(() => this.#say('online', ''), RESUMED_FOR_MS);
  }

  #say(state, text, action) {
    this.line.dataset.state = state;
    this.line.replaceChildren(element('span', {}, text));
    if (action) this.line.append(element('button', { type: 'button', on: { click: this.onRetry } }, action));
  }
}
