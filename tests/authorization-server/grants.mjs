// Grant types that the provider leaves to its users: JWT assertions (RFC 7523), token exchange (RFC 8693) and passwords.
// Proofs of possession, scopes, resources and replies are the provider's own code, which it gives to its own grants only.

import { createLocalJWKSet, createRemoteJWKSet, jwtVerify } from 'jose';
import { errors } from 'oidc-provider';
import * as helpers from 'oidc-provider/lib/helpers/grants.js';
import { algorithms } from './configuration.mjs';

const TYPE = 'urn:ietf:params:oauth:token-type';

// RFC 6749 §5.2 allows no double quotes in a description.
const refusal = (description) => new errors.CustomOIDCProviderError('invalid_grant', description.replaceAll('"', "'"));

const required = (ctx, name) => {
  const value = ctx.oidc.params[name];
  if (!value) throw new errors.InvalidRequest(`${name} is missing`);
  return value;
};

const keysFrom = (set, uri) => {
  if (set) return createLocalJWKSet(set);
  if (uri) return createRemoteJWKSet(new URL(uri));
  throw refusal('the client has no keys registered to verify with');
};

/** The subject of a JWT, which must hold in every point; one that is not reusable lives an hour at most and comes once. */
const subjectOf = async (ctx, jwt, keys, { issuer, audience, reusable = false }) => {
  const { client, provider } = ctx.oidc;
  const expected = {
    algorithms,
    audience: audience ?? [provider.issuer, provider.urlFor('token')],
    issuer,
    maxTokenAge: reusable ? undefined : 3600,
    requiredClaims: ['iss', 'sub', 'aud', 'exp', 'iat', ...(reusable ? [] : ['jti'])],
  };
  const { payload } = await jwtVerify(jwt, keys, expected).catch((error) => {
    throw refusal(error.message);
  });
  if (!reusable) {
    if (payload.exp - Date.now() / 1000 > 3600) throw refusal('the JWT lives longer than an hour');
    const unique = await provider.ReplayDetection.unique(`${client.clientId} ${payload.iss}`, payload.jti, payload.exp);
    if (!unique) throw refusal('the JWT came before');
  }
  return payload.sub;
};

const assertion = (ctx) => {
  const { client } = ctx.oidc;
  const jwt = required(ctx, 'assertion');
  return subjectOf(ctx, jwt, keysFrom(client.jwks, client.jwksUri), { issuer: client.assertionIssuer ?? client.clientId });
};

const exchange = (ctx) => {
  const { client, params } = ctx.oidc;
  const jwt = required(ctx, 'subject_token');
  if (![`${TYPE}:jwt`, `${TYPE}:access_token`, `${TYPE}:id_token`].includes(required(ctx, 'subject_token_type'))) {
    throw new errors.InvalidRequest('subject_token_type is not supported');
  }
  if ((params.requested_token_type ?? `${TYPE}:access_token`) !== `${TYPE}:access_token`) {
    throw new errors.InvalidRequest('requested_token_type is not supported');
  }
  return subjectOf(ctx, jwt, keysFrom(client.subjectJwks, client.subjectJwksUri), {
    issuer: client.subjectIssuer,
    audience: client.subjectAudience,
    reusable: client.subjectReusable,
  });
};

const password = (ctx) => {
  const passwords = new Map(Object.entries(ctx.oidc.client.passwords ?? {}));
  const username = required(ctx, 'username');
  if (passwords.get(username) !== required(ctx, 'password')) throw refusal('the user name and password do not match');
  return username;
};

/** A grant type's handler, given how it comes by the account. */
const handler = (gty, accountOf, { issuedTokenType, refreshes = false } = {}) => async (ctx) => {
  const { client, params, provider } = ctx.oidc;
  // Before the account: a request that is told to come again with a nonce has spent nothing.
  const dPoP = await helpers.validateDpop(provider, ctx);
  helpers.checkDpopRequired(provider, ctx, dPoP);
  const certificate = helpers.checkMtlsCert(provider, ctx);
  const accountId = await accountOf(ctx);

  const [resourceServer] = await helpers.resolveRequestedResources(provider, ctx);
  const scopes = [...helpers.validateClientScope(provider, ctx)];
  const grant = new provider.Grant({ clientId: client.clientId, accountId });
  grant.addOIDCScope(scopes);
  const source = { client, accountId, gty, scope: scopes.join(' ') || undefined, claims: {} };
  const token = new provider.AccessToken(source);
  if (resourceServer) {
    token.resourceServer = resourceServer;
    token.scope = scopes.filter((one) => resourceServer.scopes.has(one)).join(' ') || undefined;
    grant.addResourceScope(resourceServer.identifier(), scopes);
  } else if (params.audience) {
    token.setAudience(params.audience);
  }
  source.grantId = token.grantId = await grant.save();
  if (certificate) token.setThumbprint('x5t', certificate);
  if (dPoP) {
    await helpers.checkDpopReplay(provider, ctx, dPoP, client.clientId);
    token.setThumbprint('jkt', dPoP.thumbprint);
  }
  ctx.oidc.entity('AccessToken', token);
  const accessToken = await token.save();

  let refreshToken;
  const refresh = new provider.RefreshToken({ ...source, resource: resourceServer?.identifier() });
  if (refreshes && (await helpers.shouldIssueRefreshToken(provider, ctx, refresh))) {
    await helpers.applyRefreshTokenBindings(provider, ctx, token, refresh);
    refreshToken = await refresh.save();
  }
  ctx.body = helpers.buildTokenResponse(provider, {
    accessToken,
    expiresIn: token.expiration,
    issuedTokenType,
    refreshToken,
    scope: token.scope,
    tokenType: token.tokenType,
  });
};

export const registerGrants = (provider) => {
  const type = (name) => `urn:ietf:params:oauth:grant-type:${name}`;
  provider.registerGrantType(type('jwt-bearer'), handler('jwt_bearer', assertion), ['assertion', 'resource', 'scope']);
  provider.registerGrantType(
    type('token-exchange'),
    handler('token_exchange', exchange, { issuedTokenType: `${TYPE}:access_token` }),
    ['audience', 'requested_token_type', 'resource', 'scope', 'subject_token', 'subject_token_type'],
  );
  provider.registerGrantType(
    'password',
    handler('password', password, { refreshes: true }),
    ['password', 'resource', 'scope', 'username'],
  );
};
