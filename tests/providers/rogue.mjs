// A login provider that answers as the code tells it to: soundly, or with one fault. Arguments: port, client id, client
// secret. A code is base64url of `{nonce, challenge, fault, claims}`; nobody signs in here.
import { createHash } from 'node:crypto';
import { createServer } from 'node:http';
import { SignJWT, UnsecuredJWT, exportJWK, generateKeyPair } from 'jose';

const [port, clientId, clientSecret] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;
const [known, other] = [await generateKeyPair('RS256'), await generateKeyPair('RS256')];
const keys = [{ ...(await exportJWK(known.publicKey)), kid: 'known', alg: 'RS256', use: 'sig' }];

const documents = {
  '/.well-known/openid-configuration': {
    issuer,
    authorization_endpoint: `${issuer}/authorize`,
    token_endpoint: `${issuer}/token`,
    jwks_uri: `${issuer}/jwks`,
    response_types_supported: ['code'],
    subject_types_supported: ['public'],
    // More than anybody should believe.
    id_token_signing_alg_values_supported: ['RS256', 'HS256', 'none'],
    token_endpoint_auth_methods_supported: ['client_secret_post'],
    authorization_response_iss_parameter_supported: true,
  },
  '/jwks': { keys },
};

const now = () => Math.floor(Date.now() / 1000);

function claimsFor(order) {
  const sound = {
    iss: issuer,
    sub: 'mallory',
    aud: clientId,
    iat: now(),
    exp: now() + 300,
    nonce: order.nonce,
    email: 'mallory@example.com',
    email_verified: true,
    name: 'Mallory',
  };
  const faults = {
    audience: { aud: 'somebody-else' },
    audiences: { aud: [clientId, 'somebody-else'] },
    issuer: { iss: 'https://id.example.com' },
    expired: { iat: now() - 7200, exp: now() - 3600 },
    nonce: { nonce: 'of another sign-in' },
    noNonce: { nonce: undefined },
    accessToken: { at_hash: 'AAAAAAAAAAAAAAAAAAAAAA' },
    unproven: { email_verified: false },
    noSubject: { sub: '' },
  };
  return { ...sound, ...faults[order.fault], ...order.claims };
}

async function tokenFor(order) {
  const claims = claimsFor(order);
  const signed = (alg, kid, key) => new SignJWT(claims).setProtectedHeader({ alg, kid }).sign(key);
  switch (order.fault) {
    case 'missing':
      return undefined;
    case 'none':
      return new UnsecuredJWT(claims).encode();
    case 'shared':
      return signed('HS256', undefined, new TextEncoder().encode(clientSecret));
    case 'publicAsSecret':
      return signed('HS256', 'known', new TextEncoder().encode(keys[0].n));
    case 'otherKey':
      return signed('RS256', 'known', other.privateKey);
    case 'unknownKey':
      return signed('RS256', 'unknown', other.privateKey);
    default:
      return signed('RS256', 'known', known.privateKey);
  }
}

async function exchange(form) {
  const order = JSON.parse(Buffer.from(form.get('code') ?? '', 'base64url').toString());
  const challenge = createHash('sha256').update(form.get('code_verifier') ?? '').digest('base64url');
  const isClient = form.get('client_id') === clientId && form.get('client_secret') === clientSecret;
  if (!isClient) return [401, { error: 'invalid_client' }];
  if (challenge !== order.challenge) return [400, { error: 'invalid_grant' }];
  if (order.fault === 'large') return [200, { access_token: 'x'.repeat(2 ** 20), token_type: 'Bearer' }];
  return [200, { access_token: 'opaque', token_type: 'Bearer', expires_in: 300, id_token: await tokenFor(order) }];
}

const server = createServer(async (request, response) => {
  const answer = (status, body) => {
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  };
  const path = new URL(request.url, issuer).pathname;
  if (documents[path]) return answer(200, documents[path]);
  if (path !== '/token') return answer(404, {});
  let body = '';
  for await (const chunk of request) body += chunk;
  try {
    answer(...(await exchange(new URLSearchParams(body))));
  } catch {
    answer(400, { error: 'invalid_request' });
  }
});
server.listen(Number(port), '127.0.0.1', () => console.log('listening'));
