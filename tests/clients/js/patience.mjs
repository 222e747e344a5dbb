// Owns: the AI SDK's patience. It asks once, or twice where the server takes one at a time, and prints when each request
// went out and what each refusal asked for, in milliseconds.
//
//   node patience.mjs PACKAGES SERVER_URL PROMPT ownRate|passedOn

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const [packages, baseURL, prompt, wanted] = process.argv.slice(2);
const load = createRequire(join(packages, 'package.json'));
const { generateText } = load('ai');
const { createOpenAICompatible } = load('@ai-sdk/openai-compatible');

const diary = { sent: [], refused: [] };

const noted = async (address, wish) => {
  diary.sent.push(performance.now());
  const reply = await fetch(address, wish);
  if (reply.status === 429) {
    const [ms, seconds] = ['retry-after-ms', 'retry-after'].map((name) => reply.headers.get(name));
    diary.refused.push({ at: performance.now(), wait: Number(ms ?? 1000 * seconds) });
  }
  return reply;
};

const provider = createOpenAICompatible({ name: 'ish', baseURL, apiKey: 'sk-the-clients-own-secret', fetch: noted });
const ask = async (text) => assert.ok((await generateText({ model: provider.chatModel('mock'), prompt: text, maxRetries: 1 })).text);

if (wanted === 'ownRate') await ask(`${prompt} First?`);
await ask(wanted === 'ownRate' ? `${prompt} Second?` : prompt);
console.log(JSON.stringify(diary));
