// A certified OpenID provider under TLS, as users have one. Clients register themselves (RFC 7591) with a lifetime for
// their tokens, so that each test has its own; requests at the token endpoint are counted per client.
//
//   node server.mjs '{"certificate": FILE, "key": FILE, "registrationToken": TEXT, "port": 0}'
//
// Prints {"issuer": URL} in a line when it listens.

import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import Provider from 'oidc-provider';

const settings = JSON.parse(process.argv[2]);
const tokenRequests = new Map();

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
  scopes: ['read', 'write', 'admin'],
  extraClientMetadata: { properties: ['accessTokenTtl'] },
  ttl: { ClientCredentials: (_ctx, _token, client) => client.accessTokenTtl ?? 3600 },
});

const server = createServer({ cert: readFileSync(settings.certificate), key: readFileSync(settings.key) });
server.listen(settings.port ?? 0, '127.0.0.1', () => {
  const issuer = `https://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, configuration(issuer));
  provider.use(async (ctx, next) => {
    if (ctx.path === '/testbed/token-requests') {
      ctx.body = tokenRequests.get(ctx.query.client_id) ?? { issued: 0, refused: 0 };
      return;
    }
    await next();
    if (ctx.path === '/token' && ctx.method === 'POST') {
      const id = ctx.oidc?.client?.clientId ?? 'unknown';
      const count = tokenRequests.get(id) ?? { issued: 0, refused: 0 };
      count[ctx.status === 200 ? 'issued' : 'refused'] += 1;
      tokenRequests.set(id, count);
    }
  });
  server.on('request', provider.callback());
  console.log(JSON.stringify({ issuer }));
});
