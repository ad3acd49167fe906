// The official TypeScript SDKs against Berth's endpoint: the first line of it with sessions, the second without. Takes the
// address of the endpoint and a token.
import assert from 'node:assert/strict';
import { Client as First } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport as FirstTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { ElicitRequestSchema } from '@modelcontextprotocol/sdk/types.js';
import { Client as Second, StreamableHTTPClientTransport as SecondTransport } from '@modelcontextprotocol/client';

const [url, token] = process.argv.slice(2);
const options = { requestInit: { headers: { authorization: `Bearer ${token}` } } };
const asked = [];
const answer = async (request) => {
  asked.push(request.params.message);
  return { action: 'accept', content: { name: 'Ada' } };
};

async function work(client, name) {
  const tools = (await client.listTools()).tools.map((tool) => tool.name);
  assert(tools.includes('projects_create') && tools.includes('progress'), tools.join());
  const made = await client.callTool({ name: 'projects_create', arguments: { name } });
  assert.equal(made.structuredContent.name, name);
  const wrong = await client.callTool({ name: 'projects_create', arguments: { name: 7 } });
  assert(wrong.isError && wrong.content[0].text.includes('name'), JSON.stringify(wrong));
  const read = await client.readResource({ uri: `berth://projects/${made.structuredContent.id}` });
  assert(read.contents[0].text.includes(name));
  const hello = await client.callTool({ name: 'name', arguments: {} });
  assert.equal(hello.content[0].text, 'Hello, Ada!');
  assert.equal(asked.at(-1), 'What is your name?');
  const said = await client.getPrompt({ name: 'simple' });
  assert.equal(said.messages[0].content.text, 'This is a simple prompt for testing.');
  await assert.rejects(() => client.readResource({ uri: 'berth://projects/nothing' }));
}

const info = { name: 'berth-tests', version: '1' };
const first = new First(info, { capabilities: { elicitation: {} } });
first.setRequestHandler(ElicitRequestSchema, answer);
const transport = new FirstTransport(new URL(url), options);
await first.connect(transport);
assert(transport.sessionId);
await work(first, 'By the first');
const progress = [];
const onprogress = (step) => progress.push(step.progress);
await first.callTool({ name: 'progress', arguments: {} }, undefined, { onprogress });
assert.deepEqual(progress, [0, 50, 100]);
await first.setLoggingLevel('error');
await first.ping();
await transport.terminateSession();
await first.close();

const second = new Second(info, {
  capabilities: { elicitation: {} },
  versionNegotiation: { mode: { pin: '2026-07-28' } },
});
second.setRequestHandler('elicitation/create', answer);
await second.connect(new SecondTransport(new URL(url), options));
await work(second, 'By the second');
await second.close();

const stranger = new First(info);
await assert.rejects(() => stranger.connect(new FirstTransport(new URL(url), { requestInit: { headers: { authorization: 'Bearer wrong' } } })));
console.log('all of it works');
