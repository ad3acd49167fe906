// OpenAI's own Node client against Berth: what works with OpenAI works here. Takes the base URL and the key.
import assert from 'node:assert/strict';
import OpenAI from 'openai';

const [baseURL, apiKey] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const ask = (body) => client.chat.completions.create({ model: 'echo', ...body });
const ahoy = [{ role: 'user', content: 'Ahoy, you' }];

const models = [];
for await (const model of client.models.list()) models.push(model.id);
assert.deepEqual(models, ['echo']);
assert.equal((await client.models.retrieve('echo')).owned_by, 'echo');

const done = await ask({ messages: ahoy, temperature: 0 });
assert.equal(done.choices[0].message.content, 'Ahoy, you');
assert(done.choices[0].finish_reason === 'stop' && done.usage.total_tokens > 0, JSON.stringify(done));

let words = '';
let last;
for await (const chunk of await ask({ messages: ahoy, stream: true, stream_options: { include_usage: true } })) {
  words += chunk.choices[0]?.delta.content ?? '';
  last = chunk;
}
assert.equal(words, 'Ahoy, you');
assert(last.usage.total_tokens > 0, JSON.stringify(last));

const tools = [{ type: 'function', function: { name: 'add', description: 'Adds.', parameters: { type: 'object' } } }];
const messages = [{ role: 'user', content: 'call add {"a": 1, "b": 2}' }];
const first = (await ask({ messages, tools })).choices[0];
const call = first.message.tool_calls[0];
assert.deepEqual([first.finish_reason, call.function], ['tool_calls', { name: 'add', arguments: '{"a":1,"b":2}' }]);
const result = { role: 'tool', tool_call_id: call.id, content: '3' };
assert.equal((await ask({ messages: [...messages, first.message, result], tools })).choices[0].message.content, '3');

const whole = await client.chat.completions.stream({ model: 'echo', messages, tools }).finalChatCompletion();
assert.equal(whole.choices[0].message.tool_calls[0].function.arguments, '{"a":1,"b":2}');

// The client's own loop: it calls the function and asks again with what came out.
const sums = [];
const add = ({ a, b }) => {
  sums.push(a + b);
  return String(a + b);
};
const tool = { type: 'function', function: { ...tools[0].function, function: add, parse: JSON.parse } };
const runner = client.chat.completions.runTools({ model: 'echo', messages, tools: [tool] });
assert.equal(await runner.finalContent(), '3');
assert.deepEqual(sums, [3]);

const vectors = await client.embeddings.create({ model: 'default', input: ['a', 'b'] });
assert.equal(vectors.data.length, 2);
assert(vectors.data[0].embedding.length > 0 && vectors.data[0].embedding.every(Number.isFinite), JSON.stringify(vectors));
// This client asks for base64 where nothing is said, and unpacks it.
const plain = await client.embeddings.create({ model: 'default', input: ['a'], encoding_format: 'float' });
assert.deepEqual(plain.data[0].embedding.map(Math.fround), vectors.data[0].embedding.map(Math.fround));

const refused = async (kind, code, body) => {
  await assert.rejects(ask(body), (error) => {
    assert(error instanceof kind, String(error));
    assert.equal(error.code, code);
    return true;
  });
};
await refused(OpenAI.NotFoundError, 'model_not_found', { model: 'nobody', messages: ahoy });
await refused(OpenAI.BadRequestError, 'validation_error', { messages: [] });
await refused(OpenAI.BadRequestError, 'validation_error', { messages: ahoy, n: 2 });
const long = [{ role: 'user', content: 'x'.repeat(600_000) }];
await refused(OpenAI.BadRequestError, 'context_length_exceeded', { messages: long });
const stranger = new OpenAI({ baseURL, apiKey: 'wrong', maxRetries: 0 });
await assert.rejects(async () => stranger.models.list(), OpenAI.AuthenticationError);
console.log('all of it works');
