// The protocol's conformance suite against Berth's endpoint. The suite knows no tokens, so they are put in on the way. Takes the
// address of the endpoint, a token, and the suite's program with its arguments.
import { spawn } from 'node:child_process';
import { createServer, request } from 'node:http';

const [address, token, program, ...rest] = process.argv.slice(2);
const target = new URL(address);

const between = createServer((incoming, outgoing) => {
  const headers = { ...incoming.headers, authorization: `Bearer ${token}` };
  const options = { host: target.hostname, port: target.port, path: target.pathname, method: incoming.method, headers };
  const passed = request(options, (answer) => {
    outgoing.writeHead(answer.statusCode, answer.headers);
    answer.pipe(outgoing);
  });
  passed.on('error', () => outgoing.destroy());
  outgoing.on('close', () => passed.destroy());
  incoming.pipe(passed);
});

between.listen(0, 'localhost', () => {
  const url = `http://localhost:${between.address().port}/mcp`;
  const suite = spawn(process.execPath, [program, 'server', '--url', url, ...rest], { stdio: 'inherit' });
  suite.on('exit', (code) => {
    between.close();
    between.closeAllConnections();
    process.exitCode = code ?? 1;
  });
});
