// Owns: one connection that comes back by itself: hello, heartbeat, reconnecting with backoff, what each close code means.
// Leaves the frames to its listener. Protocol: docs/websocket.md.

const FIRST_DELAY_MS = 250;
const LONGEST_DELAY_MS = 30_000;
const PONG_WITHIN_MS = 8_000;
const FINAL = new Map([
  [1002, 'The connection carried something that is no WebSocket frame.'],
  [1003, 'The server refused a binary frame.'],
  [1007, 'The connection carried something that is no text.'],
  [1009, 'That message was larger than the server accepts.'],
  [4400, 'The server does not speak this version of the protocol. Reload the page.'],
  [4401, 'The server asks for a key.'],
  [4403, 'The login has ended.'],
]);

/**
 * The socket. `onFrame(frame)` gets every frame but `pong` and `draining`; `onState(state, detail)` gets
 * `connecting`, `online`, `draining`, `waiting` (detail: `{delay_ms}`), `refused` (detail: `{code, reason}`) or, while it is
 * online, `expiring` (detail: `{expires_at}`): the login ends then.
 */
export class Socket {
  #socket = null;
  #attempt = 0;
  #notBefore_ms = 0;
  #retry = null;
  #heartbeat = null;
  #heardAt_ms = 0;

  constructor(onFrame, onState) {
    this.onFrame = onFrame;
    this.onState = onState;
    this.state = 'connecting';
    /** The largest frame that the server takes, in bytes; unlimited until it has said so. */
    this.frame_bytes = Infinity;
    addEventListener('online', () => this.#retryNow());
    document.addEventListener('visibilitychange', () => document.visibilityState === 'visible' && this.#retryNow());
  }

  /** Connects, also after a final close, and anew where it is connected: the caller has changed something, such as the login. */
  open() {
    clearTimeout(this.#retry);
    this.#retry = null;
    this.#socket?.close();
    this.#enter('connecting');
    const address = new URL('ws', location.href);
    address.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';
    address.hash = '';
    const socket = new WebSocket(address, ['ish.v1']);
    this.#socket = socket;
    // Who this is, the cookie says.
    socket.addEventListener('open', () => socket.send(JSON.stringify({ type: 'hello', protocol: 1 })));
    socket.addEventListener('message', (event) => socket === this.#socket && this.#receive(JSON.parse(event.data)));
    socket.addEventListener('close', (event) => socket === this.#socket && this.#closed(event));
  }

  /** Sends a frame if the server is ready to take it, and says whether it did. A draining server takes no new questions. */
  send(frame) {
    const asks = frame.type === 'send' || frame.type === 'regenerate';
    if (this.state !== 'online' && (asks || this.state !== 'draining')) return false;
    this.#socket.send(JSON.stringify(frame));
    return true;
  }

  #receive(frame) {
    this.#heardAt_ms = performance.now();
    if (frame.type === 'pong') return;
    if (frame.type === 'notice') {
      this.onState('expiring', { expires_at: frame.expires_at });
      return;
    }
    if (frame.type === 'draining') {
      this.#notBefore_ms = frame.reconnect_after_ms;
      this.#enter('draining');
      return;
    }
    if (frame.type === 'welcome') {
      this.#attempt = 0;
      this.frame_bytes = frame.limits.frame_bytes;
      this.#watchHeartbeat(frame.heartbeat_ms);
      this.#enter('online');
    }
    this.onFrame(frame);
  }

  /** A page cannot see the server's pings, so silence is tested with a `ping` frame of our own. */
  #watchHeartbeat(heartbeat_ms) {
    clearInterval(this.#heartbeat);
    this.#heartbeat = setInterval(() => {
      const silent_ms = performance.now() - this.#heardAt_ms;
      if (silent_ms > heartbeat_ms + PONG_WITHIN_MS) this.#abandon();
      else if (silent_ms >= heartbeat_ms) this.send({ type: 'ping' });
    }, PONG_WITHIN_MS / 2);
  }

  /** A dead peer may delay the close event for minutes, so the socket is given up without waiting for it. */
  #abandon() {
    const socket = this.#socket;
    this.#socket = null;
    socket.close();
    this.#closed({ code: 1006, reason: '' });
  }

  #closed({ code, reason }) {
    clearInterval(this.#heartbeat);
    if (FINAL.has(code)) {
      this.#enter('refused', { code, reason: reason || FINAL.get(code) });
      return;
    }
    const ceiling_ms = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** this.#attempt);
    const delay_ms = this.#notBefore_ms + Math.random() * ceiling_ms;
    this.#attempt += 1;
    this.#notBefore_ms = 0;
    this.#retry = setTimeout(() => this.open(), delay_ms);
    this.#enter('waiting', { delay_ms });
  }

  #retryNow() {
    if (this.#retry !== null) this.open();
  }

  #enter(state, detail = {}) {
    this.state = state;
    this.onState(state, detail);
  }
}
