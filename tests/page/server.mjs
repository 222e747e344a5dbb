// Owns: the server under test: a free port, a folder of its own, starting, killing, stopping, and its REST side; and the
// provider behind it, whose answers wait where a case says so.

import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const START_WITHIN_MS = 60_000;

/** The admin's key of `Server.startWithKeys`. */
export const ADMIN_KEY = 'ish_admin_key_of_the_page';

/** The provider of `loadtest`, which does what directives in a question say, such as to wait in the middle of the answer. */
export class Provider {
  #child;

  static async start(bin) {
    const provider = new Provider();
    provider.#child = spawn(bin, ['provider'], { stdio: ['ignore', 'pipe', 'inherit'] });
    provider.url = await new Promise((resolve, reject) => {
      provider.#child.on('error', reject);
      provider.#child.on('exit', (code) => reject(new Error(`the provider ended (${code})`)));
      createInterface({ input: provider.#child.stdout }).on('line', (line) => resolve(line.split(' ').at(-1)));
    });
    return provider;
  }

  /** Waits until one answer waits, and lets it go on. */
  async release() {
    const response = await fetch(`${this.url}/_release`, { method: 'POST', body: '1' });
    if (!response.ok) throw new Error(`nothing to release: ${await response.text()}`);
  }

  stop() {
    this.#child.kill('SIGKILL');
  }
}

export class Server {
  #child = null;
  #log = '';
  #settings = {};

  static async start(bin, provider) {
    const server = await Server.#prepared(bin, provider);
    await server.up();
    return server;
  }

  /** One that wants keys, and looks often whether those of its sockets are good. */
  static async startWithKeys(bin, provider) {
    const server = await Server.#prepared(bin, provider);
    const file = join(server.folder, 'admin.key');
    await writeFile(file, ADMIN_KEY);
    server.#settings = { ISH_ADMIN_KEY_FILE: file, ISH_HEARTBEAT: '1' };
    await server.up();
    return server;
  }

  static async #prepared(bin, provider) {
    const server = new Server();
    server.bin = bin;
    server.provider = provider;
    server.port = await freePort();
    server.folder = await mkdtemp(join(tmpdir(), 'ish-page-'));
    server.url = `http://127.0.0.1:${server.port}/`;
    return server;
  }

  /** Starts the program (again) and waits until it answers `/livez`. */
  async up() {
    const upstream = { OPENAI_BASE_URL: `${this.provider.url}/v1`, OPENAI_API_KEY: 'sk-page' };
    // A look-up that waits too long for its embedding is a miss; on a busy machine that would decide cases.
    const patient = { ISH_EMBEDDING_WAIT: '30' };
    const env = { ...process.env, ...upstream, ...patient, ISH_LISTEN: `127.0.0.1:${this.port}`, ISH_DATA_DIR: this.folder, ...this.#settings };
    const child = spawn(this.bin, [], { env, cwd: this.folder, stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child = child;
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => { this.#log = (this.#log + text).slice(-20_000); });
    this.exited = new Promise((resolve) => {
      child.on('exit', (code, signal) => resolve(signal ?? code));
      child.on('error', (error) => resolve(error.message));
    });
    let exit;
    this.exited.then((how) => { exit = how; });
    const deadline = Date.now() + START_WITHIN_MS;
    while (!(await answers(`${this.url}livez`))) {
      if (exit !== undefined) throw new Error(`the server ended (${exit}):\n${this.#log}`);
      if (Date.now() > deadline) throw new Error(`no answer from ${this.url}livez:\n${this.#log}`);
      await new Promise((resolve) => { setTimeout(resolve, 50); });
    }
  }

  /** Ends the program with `SIGKILL`, or `SIGTERM` for an orderly end; returns how it ended. */
  async down(signal) {
    this.#child.kill(signal);
    return this.exited;
  }

  async remove() {
    await this.down('SIGKILL');
    await rm(this.folder, { recursive: true, force: true });
  }

  /** A REST call, where a key is wanted with that; returns `{status, body}`. */
  async rest(method, path, body, key) {
    const headers = { ...(body && { 'Content-Type': 'application/json' }), ...(key && { Authorization: `Bearer ${key}` }) };
    const response = await fetch(this.url + path, { method, headers, body: body && JSON.stringify(body) });
    const text = await response.text();
    return { status: response.status, body: text === '' ? null : JSON.parse(text) };
  }

  /** The stored messages of a conversation, oldest first. */
  async messages(conversation) {
    const { status, body } = await this.rest('GET', `api/sessions/${conversation}/messages`);
    if (status !== 200) throw new Error(`the messages of ${conversation}: ${status}`);
    return body.data;
  }

  get log() {
    return this.#log;
  }
}

/** Asks `found` until it gives something; fails after the deadline, naming `what` was awaited. */
export async function eventually(what, found) {
  const deadline = Date.now() + START_WITHIN_MS;
  for (;;) {
    const value = await found();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`still waiting until ${what}`);
    await new Promise((resolve) => { setTimeout(resolve, 20); });
  }
}

async function answers(url) {
  return fetch(url).then((response) => response.ok, () => false);
}

/** A port below those that the system hands out: nobody takes it by chance while the server is down for a moment. */
async function freePort() {
  const isFree = (port) => new Promise((resolve) => {
    const probe = createServer();
    probe.on('error', () => resolve(false));
    probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(true)));
  });
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 20_000);
    if (await isFree(port)) return port;
  }
}
