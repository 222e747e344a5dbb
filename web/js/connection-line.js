// Owns: the slim line that says how the connection is doing, and silence when it is well.

import { element } from './element.js';

const SHOWN_FOR_MS = 2500;
// A restart on the same machine takes a moment; a line that flashes for less than this only worries people.
const QUIET_MS = 400;

/** Shows the socket's states in `line`; `onRetry` runs when the reader wants to try again at once, `onLogIn` when they want to log in again. */
export class ConnectionLine {
  #timer = null;
  #wasLost = false;
  /** What the line says of the connection, also while it shows a fault: `[state, text, action, onAction]`. */
  #connection = ['connecting', ''];

  constructor(line, onRetry, onLogIn) {
    this.line = line;
    this.onRetry = onRetry;
    this.onLogIn = onLogIn;
  }

  /** `resumed`: how many answers go on after a reconnect. */
  show(state, { reason = '', resumed = 0, expires_at = '' } = {}) {
    if (state === 'online') {
      this.#online(resumed);
    } else if (state === 'draining') {
      this.#lost('draining', 'The server is restarting. Answers go on in a moment.');
    } else if (state === 'waiting' || (state === 'connecting' && this.#wasLost)) {
      this.#lost('reconnecting', 'Reconnecting…');
    } else if (state === 'expiring') {
      this.#become('expiring', `You will be logged out at ${new Date(expires_at).toLocaleTimeString()}.`, 'Log in again', this.onLogIn);
    } else if (state === 'refused') {
      this.#lost('refused', reason, 'Try again');
    } else {
      this.#become('connecting', 'Connecting…');
      this.#briefly(QUIET_MS, 'connecting', '');
    }
  }

  /** A fault that concerns no answer on the page: for a moment it takes the place of how the connection is doing. */
  showFault(text) {
    this.#briefly(SHOWN_FOR_MS, 'fault', text);
  }

  #online(resumed) {
    this.#become('online', '');
    if (this.#wasLost) this.#briefly(SHOWN_FOR_MS, 'resumed', resumed > 0 ? 'Resumed' : 'Connected again');
    this.#wasLost = false;
  }

  #lost(...connection) {
    this.#wasLost = true;
    this.#become(...connection);
  }

  #become(...connection) {
    clearTimeout(this.#timer);
    this.#connection = connection;
    this.#say(...connection);
  }

  /** Says something else for a while; what has become of the connection by then follows it. */
  #briefly(duration_ms, state, text) {
    clearTimeout(this.#timer);
    this.#say(state, text);
    this.#timer = setTimeout(() => this.#say(...this.#connection), duration_ms);
  }

  #say(state, text, action, onAction = this.onRetry) {
    this.line.dataset.state = state;
    this.line.replaceChildren(element('span', {}, text));
    if (action) this.line.append(element('button', { type: 'button', on: { click: onAction } }, action));
  }
}
