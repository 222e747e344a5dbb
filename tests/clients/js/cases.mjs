// Owns: one case of the official JavaScript client against the server, chosen by name; exits non-zero when it fails.
//
//   node cases.mjs PACKAGES SERVER_URL PROVIDER_URL CASE
//
// PACKAGES is the folder whose node_modules hold the client: it lies outside the repository.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { createRequire } from 'node:module';
import { join } from 'node:path';

import { PATIENCE_MS, planNext, upstreamCall, upstreamCalls } from './provider.mjs';

const [packages, baseURL, providerURL, wanted] = process.argv.slice(2);
const { default: OpenAI } = createRequire(join(packages, 'package.json'))('openai');

const client = new OpenAI({ baseURL, apiKey: 'sk-the-clients-own-secret', maxRetries: 0, timeout: PATIENCE_MS });
const prompt = `What does the word ${randomUUID()} mean in the old manuscript?`;
const ask = (text, more = {}) => ({ model: 'mock', messages: [{ role: 'user', content: text }], ...more });

const cases = {
  async plain() {
    const { data, response, request_id: id } = await client.chat.completions.create(ask(prompt)).withResponse();
    assert.equal(data.choices[0].finish_reason, 'stop');
    assert.ok(data.choices[0].message.content && data.usage.total_tokens > 0);
    assert.equal(id, response.headers.get('x-request-id'));
  },

  async streamed() {
    const whole = await client.chat.completions.create(ask(prompt));
    const wish = { stream: true, stream_options: { include_usage: true }, cache: { mode: 'off' } };
    const chunks = await collect(await client.chat.completions.create(ask(prompt, wish)));
    assert.equal(text(chunks), whole.choices[0].message.content);
    assert.deepEqual(chunks.filter((chunk) => chunk.usage), [chunks.at(-1)]);
    assert.deepEqual([chunks.at(-1).choices, chunks.at(-1).usage], [[], whole.usage]);
  },

  async cached() {
    const create = (body) => client.chat.completions.create(body).withResponse();
    const made = await create(ask(prompt));
    const kept = await create(ask(prompt));
    assert.deepEqual([made, kept].map(({ response }) => response.headers.get('x-ish-cache')), ['MISS', 'HIT']);
    assert.deepEqual(kept.data.choices, made.data.choices);
    assert.deepEqual(kept.data.ish.cache.saved_usage, made.data.usage);
    const replay = await collect(await client.chat.completions.create(ask(prompt, { stream: true })));
    assert.equal(text(replay), made.data.choices[0].message.content);
  },

  async embeddings() {
    const wish = { model: 'all-minilm-l6-v2', input: ['hello world'] };
    // Without a wish the client asks for base64 and decodes it.
    const decoded = (await client.embeddings.create(wish)).data[0].embedding;
    const floats = (await client.embeddings.create({ ...wish, encoding_format: 'float' })).data[0].embedding;
    assert.equal(decoded.length, 384);
    assert.deepEqual(Float32Array.from(decoded), Float32Array.from(floats));
  },

  async errors() {
    const create = (words, more) => client.chat.completions.create(ask(`${prompt} ${words}`, more));
    const is = (kind, code) => (error) => error instanceof kind && error.code === code && Boolean(error.requestID);
    await assert.rejects(create('', { model: 'no-such-model' }), is(OpenAI.NotFoundError, 'model_not_found'));
    await assert.rejects(create('', { messages: 'hello' }), is(OpenAI.BadRequestError, 'invalid_request_error'));
    await assert.rejects(create('[[fault=rate_limit]]'), is(OpenAI.RateLimitError, 'rate_limit_exceeded'));
    await assert.rejects(create('[[fault=503]]'), is(OpenAI.InternalServerError, 'overloaded'));
  },

  async tools() {
    const parameters = { type: 'object', properties: { word: { type: 'string' } }, required: ['word'] };
    const tools = [{ type: 'function', function: { name: 'look_up', parameters } }];
    const messages = ask(`${prompt} [[tool_calls=2]]`).messages;
    const whole = await client.chat.completions.create({ model: 'mock', messages, tools });
    const asked = whole.choices[0].message;
    assert.deepEqual(asked.tool_calls.map((call) => call.function.name), ['look_up', 'look_up']);
    const streamed = client.chat.completions.stream({ model: 'mock', messages, tools });
    const named = (calls) => calls.map(({ function: { name, arguments: said } }) => [name, said]);
    assert.deepEqual(named((await streamed.finalMessage()).tool_calls), named(asked.tool_calls));
    const results = asked.tool_calls.map(({ id }) => ({ role: 'tool', tool_call_id: id, content: `found for ${prompt}` }));
    const answer = await client.chat.completions.create({ model: 'mock', messages: [...messages, asked, ...results], tools });
    assert.equal(answer.choices[0].finish_reason, 'stop');
  },

  async retried() {
    for (const fault of ['rate_limit retry_after=1', '503']) {
      const question = `${prompt} ${fault}`;
      await planNext(providerURL, `[[fault=${fault}]]`);
      const answer = await client.chat.completions.create(ask(question), { maxRetries: 1 });
      assert.ok(answer.choices[0].message.content);
      assert.equal((await upstreamCalls(providerURL, question)).length, 2);
    }
  },

  async brokenStream() {
    const seen = [];
    const broken = async () => {
      for await (const chunk of await client.chat.completions.create(ask(`${prompt} [[fault=cut after=3]]`, { stream: true }))) {
        seen.push(chunk);
      }
    };
    await assert.rejects(broken, (error) => error instanceof OpenAI.APIError && error.code === 'upstream_error' && error.error.partial);
    assert.equal(text(seen).trim().split(' ').length, 3);
  },

  async cancelledStream() {
    const question = `${prompt} [[tokens=10000 each=20ms]]`;
    const stream = await client.chat.completions.create(ask(question, { stream: true }));
    for await (const chunk of stream) {
      if (text([chunk])) break;
    }
    await upstreamCall(providerURL, question, 'client_gone');
  },

  async cancelledPlain() {
    const question = `${prompt} [[fault=no_reply]]`;
    const leaving = new AbortController();
    const asking = client.chat.completions.create(ask(question), { signal: leaving.signal });
    const left = assert.rejects(asking, OpenAI.APIUserAbortError);
    await upstreamCall(providerURL, question, 'in_flight');
    leaving.abort();
    await left;
    await upstreamCall(providerURL, question, 'client_gone');
  },
};

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

function text(chunks) {
  return chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join('');
}

await cases[wanted]();
