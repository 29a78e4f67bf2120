// A certified OpenID provider under TLS, as users have one. Clients register themselves (RFC 7591) with a lifetime for
// their tokens, so that each test has its own; requests at the token endpoint are counted per client. Refresh tokens rotate
// unless the client says otherwise, and one that comes twice ends its whole login, as the provider does by itself.
//
//   GET /testbed/login?client_id=…&subject=…  logs a person in without a browser: {"refresh_token": …}
//   GET /testbed/token-requests?client_id=…   {"issued": n, "refused": n}
//   GET /testbed/redemptions?client_id=…      [{"digest": first hex digits of a refresh token's SHA-256, "status": n}, …]
//
//   node server.mjs '{"certificate": FILE, "key": FILE, "registrationToken": TEXT, "port": 0}'
//
// Prints {"issuer": URL} in a line when it listens.

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import Provider from 'oidc-provider';

const settings = JSON.parse(process.argv[2]);
const tokenRequests = new Map();
const redemptions = new Map();

const configuration = (issuer) => ({
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    introspection: { enabled: true },
    registration: { enabled: true, initialAccessToken: settings.registrationToken },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_ctx, resource, client) => ({
        scope: 'read write admin',
        audience: resource,
        accessTokenTTL: client.accessTokenTtl ?? 3600,
        accessTokenFormat: 'jwt',
      }),
    },
  },
  scopes: ['openid', 'offline_access', 'read', 'write', 'admin'],
  extraClientMetadata: { properties: ['accessTokenTtl', 'rotates'] },
  findAccount: (_ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  rotateRefreshToken: (ctx) => ctx.oidc.client.rotates ?? true,
  ttl: {
    AccessToken: (_ctx, _token, client) => client.accessTokenTtl ?? 3600,
    ClientCredentials: (_ctx, _token, client) => client.accessTokenTtl ?? 3600,
    Grant: 86400,
    IdToken: 3600,
    RefreshToken: 86400,
  },
});

// What follows a person's consent, without the person.
const login = async (provider, clientId, accountId) => {
  const client = await provider.Client.find(clientId);
  const scope = 'openid offline_access read';
  const grant = new provider.Grant({ clientId, accountId });
  grant.addOIDCScope(scope);
  const grantId = await grant.save();
  const token = new provider.RefreshToken({ client, accountId, grantId, scope, claims: {}, gty: 'authorization_code' });
  return { refresh_token: await token.save() };
};

const server = createServer({ cert: readFileSync(settings.certificate), key: readFileSync(settings.key) });
server.listen(settings.port ?? 0, '127.0.0.1', () => {
  const issuer = `https://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, configuration(issuer));
  provider.use(async (ctx, next) => {
    if (ctx.path === '/testbed/token-requests') {
      ctx.body = tokenRequests.get(ctx.query.client_id) ?? { issued: 0, refused: 0 };
      return;
    }
    if (ctx.path === '/testbed/redemptions') {
      ctx.body = redemptions.get(ctx.query.client_id) ?? [];
      return;
    }
    if (ctx.path === '/testbed/login') {
      ctx.body = await login(provider, ctx.query.client_id, ctx.query.subject);
      return;
    }
    await next();
    if (ctx.path === '/token' && ctx.method === 'POST') {
      const id = ctx.oidc?.client?.clientId ?? 'unknown';
      const count = tokenRequests.get(id) ?? { issued: 0, refused: 0 };
      count[ctx.status === 200 ? 'issued' : 'refused'] += 1;
      tokenRequests.set(id, count);
      const spent = ctx.oidc?.params?.refresh_token;
      if (spent) {
        const digest = createHash('sha256').update(spent).digest('hex').slice(0, 8);
        redemptions.set(id, [...(redemptions.get(id) ?? []), { digest, status: ctx.status }]);
      }
    }
  });
  server.on('request', provider.callback());
  console.log(JSON.stringify({ issuer }));
});
