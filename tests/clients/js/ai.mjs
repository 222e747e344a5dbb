// Owns: one case of the AI SDK (`ai` over `@ai-sdk/openai-compatible`) against the server, chosen by name; exits non-zero
// when it fails.
//
//   node ai.mjs PACKAGES SERVER_URL PROVIDER_URL CASE

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { createRequire } from 'node:module';
import { join } from 'node:path';

import { planNext, upstreamCall, upstreamCalls } from './provider.mjs';

const [packages, baseURL, providerURL, wanted] = process.argv.slice(2);
const load = createRequire(join(packages, 'package.json'));
const { APICallError, RetryError, generateText, isStepCount, jsonSchema, streamText, tool } = load('ai');
const { createOpenAICompatible } = load('@ai-sdk/openai-compatible');

const provider = createOpenAICompatible({ name: 'ish', baseURL, apiKey: 'sk-the-clients-own-secret', includeUsage: true });
const model = provider.chatModel('mock');
const prompt = `What does the word ${randomUUID()} mean in the old manuscript?`;

/** Two calls, each with a result, and then an answer in words. */
function look(seen) {
  const inputSchema = jsonSchema({
    type: 'object',
    properties: { query: { type: 'string' }, number: { type: 'integer' } },
    required: ['query', 'number'],
  });
  const execute = async ({ number }) => {
    seen.push(number);
    return { colour: `red ${number}` };
  };
  return { look: tool({ description: 'Looks something up.', inputSchema, execute }) };
}

const cases = {
  async plain() {
    const { text, finishReason, usage, response } = await generateText({ model, prompt, maxRetries: 0 });
    assert.equal(finishReason, 'stop');
    assert.equal(text.split(' ').length, 20);
    assert.equal(usage.outputTokens, 20);
    assert.equal(response.headers['x-ish-cache'], 'MISS');
    const again = await generateText({ model, prompt, maxRetries: 0 });
    assert.deepEqual([again.text, again.response.headers['x-ish-cache']], [text, 'HIT']);
  },

  async streamed() {
    const whole = await generateText({ model, prompt, maxRetries: 0 });
    for (const headers of [{ 'x-ish-cache': 'off' }, {}]) {
      const streamed = streamText({ model, prompt, headers, maxRetries: 0 });
      let text = '';
      for await (const piece of streamed.textStream) text += piece;
      assert.equal(text, whole.text);
      assert.equal(await streamed.finishReason, 'stop');
    }
  },

  async tools() {
    const seen = [];
    const question = `${prompt} [[tool_calls=2]]`;
    const done = await generateText({ model, prompt: question, tools: look(seen), stopWhen: isStepCount(3), maxRetries: 0 });
    assert.deepEqual(seen, [0, 1]);
    assert.deepEqual(done.steps.map((step) => step.finishReason), ['tool-calls', 'stop']);
    assert.ok(done.text);
    const results = JSON.parse((await upstreamCalls(providerURL, question)).at(-1).body).messages.filter(({ role }) => role === 'tool');
    assert.deepEqual(results.map(({ content }) => JSON.parse(content).colour), ['red 0', 'red 1']);
  },

  async toolsStreamed() {
    const seen = [];
    const question = `${prompt} [[tool_calls=2]]`;
    const streamed = streamText({ model, prompt: question, tools: look(seen), stopWhen: isStepCount(3), maxRetries: 0 });
    assert.ok(await streamed.text);
    assert.deepEqual(seen, [0, 1]);
    assert.deepEqual((await streamed.steps).map((step) => step.finishReason), ['tool-calls', 'stop']);
  },

  async errors() {
    const ask = (more) => generateText({ model, prompt, maxRetries: 0, ...more });
    const is = (status, code, isRetryable) => (error) => {
      assert.ok(APICallError.isInstance(error), error);
      assert.deepEqual([error.statusCode, error.isRetryable, error.data.error.code], [status, isRetryable, code]);
      assert.equal(error.message, error.data.error.message);
      return true;
    };
    await assert.rejects(ask({ model: provider.chatModel('no-such-model') }), is(404, 'model_not_found', false));
    await assert.rejects(ask({ providerOptions: { ish: { stream_options: 3 } } }), is(400, 'invalid_request_error', false));
    await assert.rejects(ask({ prompt: `${prompt} [[fault=quota]]` }), (error) => error.statusCode === 429);
    await assert.rejects(ask({ prompt: `${prompt} [[fault=rate_limit]]` }), is(429, 'rate_limit_exceeded', true));
    await assert.rejects(ask({ prompt: `${prompt} [[fault=503]]` }), is(503, 'overloaded', true));
    await assert.rejects(ask({ prompt: `${prompt} [[fault=503]]`, maxRetries: 1 }), (error) => RetryError.isInstance(error));
  },

  async brokenStream() {
    const faults = [];
    const onError = ({ error }) => void faults.push(error);
    const streamed = streamText({ model, prompt: `${prompt} [[fault=cut after=3]]`, onError, maxRetries: 0 });
    let text = '';
    for await (const piece of streamed.textStream) text += piece;
    assert.equal(text.trim().split(' ').length, 3);
    assert.equal(faults.length, 1);
  },

  async retried() {
    for (const fault of ['rate_limit retry_after=1', '503']) {
      const question = `${prompt} ${fault}`;
      await planNext(providerURL, `[[fault=${fault}]]`);
      assert.ok((await generateText({ model, prompt: question, maxRetries: 1 })).text);
      assert.equal((await upstreamCalls(providerURL, question)).length, 2);
    }
  },

  async cancelledStream() {
    const question = `${prompt} [[tokens=10000 each=20ms]]`;
    const leaving = new AbortController();
    const streamed = streamText({ model, prompt: question, abortSignal: leaving.signal, maxRetries: 0 });
    for await (const piece of streamed.textStream) {
      if (piece) leaving.abort();
    }
    await upstreamCall(providerURL, question, 'client_gone');
  },

  async cancelledPlain() {
    const question = `${prompt} [[fault=no_reply]]`;
    const leaving = new AbortController();
    const left = assert.rejects(generateText({ model, prompt: question, abortSignal: leaving.signal, maxRetries: 0 }), { name: 'AbortError' });
    await upstreamCall(providerURL, question, 'in_flight');
    leaving.abort();
    await left;
    await upstreamCall(providerURL, question, 'client_gone');
  },
};

await cases[wanted]();
