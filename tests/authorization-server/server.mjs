// A certified OpenID provider under TLS, as users have one. Clients register themselves (RFC 7591) with a lifetime for
// their tokens, so that each test has its own; requests at the token endpoint are counted per client. Refresh tokens rotate
// unless the client says otherwise, and one that comes twice ends its whole login, as the provider does by itself.
//
//   GET /testbed/login?client_id=…&subject=…   logs a person in without a browser: {"refresh_token": …}
//   GET /testbed/device?user_code=…&subject=…  the same for a device's code, which &deny=1 denies: {"approved": …}
//   GET /testbed/token-requests?client_id=…    {"issued": n, "refused": n}
//   GET /testbed/redemptions?client_id=…       [{"digest": first hex digits of a refresh token's SHA-256, "status": n}, …]
//   GET /testbed/revocations?client_id=…       [{"digest": of any token, "token_type_hint": if given, "status": n}, …]
//   GET /testbed/assertions?client_id=…        [{"parameter": its name, "header", "claims": of a JWT that came, "status": n}, …]
//   GET /testbed/change?client_id=…&metadata=… changes a client, as its owner does at a console: {"changed": [its name, …]}
//   GET /testbed/resource                      {"sub", "client_id", "scope"} of the access token it is asked with, or 401
//
//   node server.mjs '{"certificate": FILE, "key": FILE, "registrationToken": TEXT, "host": "127.0.0.1", "port": 0, "clientCA": FILE,
//     "minted": FILE}'
//
// Prints {"issuer": URL} in a line when it listens. Certificates by clientCA are good for tls_client_auth; it may be absent.
// Every secret that it gave away or was shown is appended to the file minted, one a line.
//
// Metadata of clients beyond the standards':
//
//   accessTokenTtl    seconds that access tokens live: 3600
//   alwaysRefreshes   refresh tokens without the scope offline_access: false
//   assertionIssuer   iss of the client's JWT assertions (RFC 7523 §2.1), verified with its jwks: its client_id
//   deviceCodeTtl     seconds that device codes live: 600
//   deviceInterval    seconds between polls, told to the device, and slow_down for one that comes sooner: neither
//   dpopNonce         DPoP proofs need the provider's nonce: false
//   graceSeconds      a refresh token that was used is accepted for so long, as some providers do: 0
//   passwords         {"user": "password", …} of the password grant: none
//   rotates           refresh tokens are used once: true
//   subjectJwks, subjectJwksUri, subjectIssuer, subjectAudience
//                     who signs the subject tokens of a token exchange, and what they say: the audience is this provider
//   subjectReusable   subject tokens may come again and live longer than an hour, as service account tokens do: false

import { createHash } from 'node:crypto';
import { appendFileSync, readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { decodeJwt, decodeProtectedHeader } from 'jose';
import Provider from 'oidc-provider';
import { configuration } from './configuration.mjs';
import { registerGrants } from './grants.mjs';
import { interactions } from './interactions.mjs';
import { resource } from './resource.mjs';

const settings = JSON.parse(process.argv[2]);
const tokenRequests = new Map();
const redemptions = new Map();
const revocations = new Map();
const assertions = new Map();
const polls = new Map();

const digestOf = (token) => createHash('sha256').update(token).digest('hex').slice(0, 8);
const append = (lists, id, entry) => lists.set(id, [...(lists.get(id) ?? []), entry]);

// What follows a person's consent, without the person.
const login = async (provider, { client_id: clientId, subject: accountId }) => {
  const client = await provider.Client.find(clientId);
  const scope = 'openid offline_access read';
  const grant = new provider.Grant({ clientId, accountId });
  grant.addOIDCScope(scope);
  const grantId = await grant.save();
  const token = new provider.RefreshToken({ client, accountId, grantId, scope, claims: {}, gty: 'authorization_code' });
  return { refresh_token: await token.save() };
};

// What follows a person's answer at the device page, without the person.
const answerDevice = async (provider, { user_code: userCode, subject: accountId, deny }) => {
  const code = await provider.DeviceCode.findByUserCode(userCode.replace(/\W/g, '').toUpperCase());
  if (!code) return { error: 'there is no such living code' };
  if (deny) {
    Object.assign(code, { error: 'access_denied', errorDescription: 'The person cancelled' });
  } else {
    const { scope = '', resource: resources = [] } = code.params;
    const grant = new provider.Grant({ clientId: code.clientId, accountId });
    grant.addOIDCScope(scope);
    for (const one of [resources].flat()) grant.addResourceScope(one, scope);
    Object.assign(code, { accountId, claims: {}, grantId: await grant.save(), resource: code.params.resource, scope });
  }
  await code.save();
  return { approved: !deny };
};

// A client's secret or keys are replaced; what RFC 7592 offers lets nobody choose a secret.
const change = async (provider, { client_id: id, metadata }) => {
  const changed = JSON.parse(metadata);
  const { adapter } = provider.Client;
  await adapter.upsert(id, { ...(await adapter.find(id)), ...changed });
  await provider.Client.find(id);
  return { changed: Object.keys(changed) };
};

// RFC 8628 §3.5, which the provider leaves out: one that polls too soon is told to slow down, by five seconds more.
const pace = (ctx, client) => {
  const { device_code: code } = ctx.oidc.params;
  const { last = -Infinity, interval = client.deviceInterval * 1000 } = polls.get(code) ?? {};
  const now = performance.now();
  // Timers of the device are not to the millisecond.
  const early = now - last < interval - 100;
  polls.set(code, { last: now, interval: early ? interval + 5000 : interval });
  if (early) ctx.body = { error: 'slow_down', error_description: 'the device polls too quickly' };
};

// A refresh token that was used is marked so when its client's grace is over.
const spendLate = ({ Client, RefreshToken }) => {
  const { consume } = RefreshToken.prototype;
  RefreshToken.prototype.consume = async function spend() {
    const { graceSeconds = 0 } = await Client.find(this.clientId);
    if (!graceSeconds) return consume.call(this);
    setTimeout(() => consume.call(this), graceSeconds * 1000).unref();
    return undefined;
  };
};

const SECRETS = [
  'access_token', 'assertion', 'client_assertion', 'client_secret', 'code', 'code_verifier', 'device_code', 'id_token', 'password',
  'refresh_token', 'registration_access_token', 'subject_token',
];

// All that nobody may find in a log, written down for whoever looks.
const mint = (ctx) => {
  const redirect = new URL(ctx.response.get('location') || '/', 'https://nowhere.invalid');
  const places = [ctx.body, ctx.oidc?.params, Object.fromEntries(redirect.searchParams)];
  const secrets = places.flatMap((place) => SECRETS.map((name) => place?.[name])).filter((secret) => typeof secret === 'string');
  if (secrets.length) appendFileSync(settings.minted, `${secrets.join('\n')}\n`);
};

const record = (ctx) => {
  const client = ctx.oidc?.client;
  const id = client?.clientId ?? 'unknown';
  const params = ctx.oidc?.params ?? {};
  if (ctx.path === '/token') {
    const count = tokenRequests.get(id) ?? { issued: 0, refused: 0 };
    count[ctx.status === 200 ? 'issued' : 'refused'] += 1;
    tokenRequests.set(id, count);
    for (const parameter of ['assertion', 'client_assertion', 'subject_token']) {
      const jwt = params[parameter];
      if (jwt?.split('.').length !== 3) continue;
      append(assertions, id, { parameter, header: decodeProtectedHeader(jwt), claims: decodeJwt(jwt), status: ctx.status });
    }
    if (params.refresh_token) append(redemptions, id, { digest: digestOf(params.refresh_token), status: ctx.status });
    if (client?.deviceInterval && ctx.body?.error === 'authorization_pending') pace(ctx, client);
  } else if (ctx.path === '/token/revocation' && params.token) {
    const { token, token_type_hint } = params;
    append(revocations, id, { digest: digestOf(token), token_type_hint, status: ctx.status });
  } else if (ctx.path === '/device/auth' && client?.deviceInterval && ctx.status === 200) {
    ctx.body.interval = client.deviceInterval;
  }
};

const server = createServer({
  cert: readFileSync(settings.certificate),
  key: readFileSync(settings.key),
  ca: settings.clientCA && readFileSync(settings.clientCA),
  // Asked of everyone and believed of no one here: what a certificate is worth depends on the client that shows it.
  requestCert: true,
  rejectUnauthorized: false,
});
const host = settings.host ?? '127.0.0.1';
server.listen(settings.port ?? 0, host, () => {
  const issuer = `https://${host}:${server.address().port}`;
  const provider = new Provider(issuer, configuration(settings));
  registerGrants(provider);
  spendLate(provider);
  const testbed = new Map([
    ['/testbed/login', async (ctx) => (ctx.body = await login(provider, ctx.query))],
    ['/testbed/device', async (ctx) => (ctx.body = await answerDevice(provider, ctx.query))],
    ['/testbed/assertions', (ctx) => (ctx.body = assertions.get(ctx.query.client_id) ?? [])],
    ['/testbed/change', async (ctx) => (ctx.body = await change(provider, ctx.query))],
    ['/testbed/token-requests', (ctx) => (ctx.body = tokenRequests.get(ctx.query.client_id) ?? { issued: 0, refused: 0 })],
    ['/testbed/redemptions', (ctx) => (ctx.body = redemptions.get(ctx.query.client_id) ?? [])],
    ['/testbed/revocations', (ctx) => (ctx.body = revocations.get(ctx.query.client_id) ?? [])],
    ['/testbed/resource', resource(provider)],
  ]);
  provider.use(async (ctx, next) => {
    const answer = testbed.get(ctx.path);
    await (answer ? answer(ctx) : next());
    mint(ctx);
    if (answer) return;
    if (ctx.method === 'POST') record(ctx);
  });
  provider.use(interactions(provider));
  server.on('request', provider.callback());
  console.log(JSON.stringify({ issuer }));
});
