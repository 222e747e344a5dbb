// Owns: the server under test: a free port, a folder of its own, starting, killing, stopping, and its REST side.

import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const START_WITHIN_MS = 60_000;

export class Server {
  #child = null;
  #log = '';

  static async start(bin) {
    const server = new Server();
    server.bin = bin;
    server.port = await freePort();
    server.folder = await mkdtemp(join(tmpdir(), 'ish-page-'));
    server.url = `http://127.0.0.1:${server.port}/`;
    await server.up();
    return server;
  }

  /** Starts the program (again) and waits until it answers `/livez`. */
  async up() {
    const env = { ...process.env, ISH_LISTEN: `127.0.0.1:${this.port}`, ISH_DATA_DIR: this.folder };
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

  /** A REST call; returns `{status, body}`. */
  async rest(method, path, body) {
    const response = await fetch(this.url + path, {
      method, headers: body ? { 'Content-Type': 'application/json' } : {}, body: body && JSON.stringify(body),
    });
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

async function answers(url) {
  return fetch(url).then((response) => response.ok, () => false);
}

function freePort() {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.on('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const { port } = probe.address();
      probe.close(() => resolve(port));
    });
  });
}
