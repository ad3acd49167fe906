// A login provider as it should be. Arguments: port, client id, client secret, redirect URIs separated by commas.
//
// Whoever signs in as `name` has the address `name@example.com`; the addresses of `unproven…` nobody has confirmed.
import { Provider } from 'oidc-provider';

const [port, clientId, clientSecret, redirects] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;

const provider = new Provider(issuer, {
  clients: [
    {
      client_id: clientId,
      client_secret: clientSecret,
      redirect_uris: redirects.split(','),
      grant_types: ['authorization_code'],
      response_types: ['code'],
    },
  ],
  claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name'] },
  pkce: { required: () => true },
  features: { devInteractions: { enabled: true } },
  cookies: { keys: ['a key of the tests'] },
  async findAccount(_context, id) {
    const claims = { sub: id, email: `${id}@example.com`, email_verified: !id.startsWith('unproven'), name: `The ${id}` };
    return { accountId: id, claims: async () => claims };
  },
});
provider.listen(Number(port), '127.0.0.1', () => console.log('listening'));
