// Owns: the REST calls that the page makes beside the socket. Leaves the meaning of the answers to its callers.

import { parseExactly } from './exact.js';
import { loginNumber } from './login.js';

// Found from here: pages stand at different depths.
const ROOT = new URL('../', import.meta.url);

/**
 * A refused call: `status` is the HTTP status (0 when the server could not be reached), `message` says why in words, `param` names
 * what of the request was wrong, where the server says so.
 */
export class ApiError extends Error {
  constructor(status, message, param = null) {
    super(message);
    this.status = status;
    this.param = param;
  }
}

/** Calls the server; `onUnauthorized` runs on a 401 to the login at hand, before the error is thrown. */
export class Api {
  constructor(onUnauthorized) {
    this.onUnauthorized = onUnauthorized;
  }

  /** Who this is: by a login, a key, or without either in local mode. */
  who() {
    return this.#call('GET', 'api/session');
  }

  /** Ends this browser's login, or all that began with its key. */
  logOut({ everywhere }) {
    return this.#call('DELETE', `api/session?${query({ all: everywhere })}`);
  }

  conversations(cursor) {
    return this.#call('GET', `api/sessions?${query({ limit: 50, cursor })}`);
  }

  /** Conversations that hold the words, best first. */
  search(words, offset) {
    return this.#call('GET', `api/sessions?${query({ q: words, limit: 50, offset })}`);
  }

  rename(id, title) {
    return this.#call('PATCH', `api/sessions/${encodeURIComponent(id)}`, { title });
  }

  /** Selects the branch that goes through a message. */
  select(id, message) {
    return this.#call('PATCH', `api/sessions/${encodeURIComponent(id)}`, { leaf: message });
  }

  /** A conversation as a file: `{name, blob}`. */
  async exported(id, format) {
    const response = await this.#fetch('GET', `api/sessions/${encodeURIComponent(id)}/export?${query({ format })}`);
    if (!response.ok) await this.#refused(response);
    const name = /filename="([^"]+)"/.exec(response.headers.get('Content-Disposition') ?? '')?.[1];
    return { name: name ?? 'session', blob: await response.blob() };
  }

  conversation(id) {
    return this.#call('GET', `api/sessions/${encodeURIComponent(id)}`);
  }

  deleteConversation(id) {
    return this.#call('DELETE', `api/sessions/${encodeURIComponent(id)}`);
  }

  /** One page of messages, oldest first; without `cursor` the newest page. Of all branches, or of one (`leaf`). */
  messages(conversation, { cursor, leaf } = {}) {
    return this.#call('GET', `api/sessions/${encodeURIComponent(conversation)}/messages?${query({ limit: 50, cursor, leaf })}`);
  }

  why(conversation, message) {
    return this.#call('GET', `api/sessions/${encodeURIComponent(conversation)}/messages/${encodeURIComponent(message)}/why`);
  }

  reportWrong(message) {
    return this.#call('POST', 'api/cache/feedback', { message, verdict: 'wrong' });
  }

  cacheStats() {
    return this.#call('GET', 'api/cache/stats');
  }

  tasks(filter) {
    return this.#call('GET', `api/tasks?${query(filter)}`);
  }

  async task(id) {
    const response = await this.#fetch('GET', `api/tasks/${encodeURIComponent(id)}`);
    return response.ok ? parseExactly(await response.text()) : this.#refused(response);
  }

  /** `verb`: `cancel` or `retry`. */
  changeTask(id, verb) {
    return this.#call('POST', `api/tasks/${encodeURIComponent(id)}/${verb}`);
  }

  enqueue(task) {
    return this.#call('POST', 'api/tasks', task);
  }

  /** Deletes tasks that have ended; `which` is a filter, or `{all: true}`. */
  purge(which) {
    return this.#call('DELETE', `api/tasks?${query(which)}`);
  }

  taskStats() {
    return this.#call('GET', 'api/tasks/stats');
  }

  taskWorkers() {
    return this.#call('GET', 'api/tasks/workers');
  }

  pause(scope, name) {
    return this.#call('POST', 'api/tasks/pauses', { scope, name });
  }

  resume(scope, name) {
    return this.#call('DELETE', `api/tasks/pauses?${query({ scope, name })}`);
  }

  workflows(filter) {
    return this.#call('GET', `api/workflows?${query(filter)}`);
  }

  async workflow(id) {
    const response = await this.#fetch('GET', `api/workflows/${encodeURIComponent(id)}`);
    return response.ok ? parseExactly(await response.text()) : this.#refused(response);
  }

  workflowDefinitions() {
    return this.#call('GET', 'api/workflows/definitions');
  }

  startWorkflow(wish) {
    return this.#call('POST', 'api/workflows', wish);
  }

  /** `verb`: `cancel` or `retry`. */
  changeWorkflow(id, verb) {
    return this.#call('POST', `api/workflows/${encodeURIComponent(id)}/${verb}`);
  }

  async #call(method, path, body) {
    const response = await this.#fetch(method, path, body);
    if (response.status === 204) return null;
    return response.ok ? response.json().catch(() => null) : this.#refused(response);
  }

  async #fetch(method, path, body) {
    const headers = body ? { 'Content-Type': 'application/json' } : {};
    const login = loginNumber();
    let response;
    try {
      response = await fetch(new URL(path, ROOT), { method, headers, body: body && JSON.stringify(body), cache: 'no-store' });
    } catch (cause) {
      throw new ApiError(0, `The server cannot be reached (${cause.message}).`);
    }
    // One that comes late, to a call of an earlier login, says nothing of this one.
    if (response.status === 401 && login === loginNumber()) this.onUnauthorized();
    return response;
  }

  async #refused(response) {
    const json = await response.json().catch(() => null);
    throw new ApiError(response.status, json?.detail ?? json?.title ?? `The server answered ${response.status}.`, json?.param);
  }
}

function query(fields) {
  return new URLSearchParams(Object.entries(fields).filter(([, value]) => value !== undefined && value !== null));
}
