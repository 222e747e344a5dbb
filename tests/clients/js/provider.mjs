// Owns: what the provider is told and asked beside the client: its next misbehaviour, and its log.

import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';

export const PATIENCE_MS = 30_000;

/** The next chat request meets these directives, whatever its prompt says. */
export async function planNext(providerURL, directives) {
  await fetch(new URL('/_next', providerURL), { method: 'POST', body: directives });
}

/** The calls for `question`, oldest first. */
export async function upstreamCalls(providerURL, question) {
  const log = await (await fetch(new URL('/_log', providerURL))).json();
  return log.filter((entry) => entry.body.includes(JSON.stringify(question)));
}

/** Waits until the provider's log has the call for `question` with this outcome. */
export async function upstreamCall(providerURL, question, outcome) {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    const calls = await upstreamCalls(providerURL, question);
    if (calls.some((entry) => entry.outcome === outcome)) return;
    assert.ok(Date.now() < deadline, `no call that is ${outcome}: ${JSON.stringify(calls)}`);
    await pause(10);
  }
}
