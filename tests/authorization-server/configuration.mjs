// What the provider is configured to do. Behaviours that tests want of one client only are that client's metadata.

import { createLocalJWKSet, exportJWK, generateKeyPair } from 'jose';
import { randomBytes } from 'node:crypto';
import { deviceInput, deviceConfirmation, deviceSuccess, failure } from './interactions.mjs';

/** Metadata of clients beyond the standards': see the header of server.mjs. */
const properties = [
  'accessTokenTtl', 'alwaysRefreshes', 'assertionIssuer', 'deviceCodeTtl', 'deviceInterval', 'dpopNonce', 'graceSeconds', 'passwords',
  'rotates', 'subjectAudience', 'subjectIssuer', 'subjectJwks', 'subjectJwksUri', 'subjectReusable',
];

export const algorithms = ['RS256', 'PS256', 'ES256', 'EdDSA', 'Ed25519'];

// Made at each start: the provider's built-in development keys are known to everyone.
const { privateKey, publicKey } = await generateKeyPair('RS256', { extractable: true });
const named = async (key) => ({ ...(await exportJWK(key)), kid: 'testbed', use: 'sig' });
const signing = await named(privateKey);
export const publicKeys = createLocalJWKSet({ keys: [await named(publicKey)] });

const accessTokenTtl = (_ctx, _token, client) => client.accessTokenTtl ?? 3600;

/** Whether a certificate carries the name that a client registered (RFC 8705 §2.1.2). */
const carries = (certificate, property, expected) => {
  if (property === 'tls_client_auth_subject_dn') {
    // RFC 4514 says the names from the last to the first.
    return certificate.subject.split('\n').reverse().join(',') === expected;
  }
  const kind = { dns: 'DNS', email: 'email', ip: 'IP Address', uri: 'URI' }[property.split('_').at(-1)];
  return certificate.subjectAltName?.split(', ').includes(`${kind}:${expected}`) ?? false;
};

export const configuration = (settings) => ({
  clientAuthMethods: [
    'client_secret_basic', 'client_secret_jwt', 'client_secret_post', 'none', 'private_key_jwt',
    'self_signed_tls_client_auth', 'tls_client_auth',
  ],
  enabledJWA: { clientAuthSigningAlgValues: ['HS256', ...algorithms], dPoPSigningAlgValues: algorithms },
  extraClientMetadata: { properties },
  features: {
    clientCredentials: { enabled: true },
    deviceFlow: {
      enabled: true,
      successSource: deviceSuccess,
      userCodeConfirmSource: deviceConfirmation,
      userCodeInputSource: deviceInput,
    },
    devInteractions: { enabled: false },
    dPoP: { enabled: true, nonceSecret: randomBytes(32), requireNonce: (ctx) => ctx.oidc.client?.dpopNonce ?? false },
    introspection: { enabled: true },
    mTLS: {
      enabled: true,
      certificateAuthorized: (ctx) => Boolean(settings.clientCA) && ctx.socket.authorized,
      certificateBoundAccessTokens: true,
      certificateSubjectMatches: (ctx, ...property) => carries(ctx.socket.getPeerX509Certificate(), ...property),
      getCertificate: (ctx) => ctx.socket.getPeerX509Certificate(),
      selfSignedTlsClientAuth: true,
      tlsClientAuth: true,
    },
    pushedAuthorizationRequests: { enabled: true },
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
    revocation: { enabled: true, allowedPolicy: (_ctx, client, token) => token.clientId === client.clientId },
  },
  // A login that outlives the browser's session, for clients that get refresh tokens without the scope for it.
  expiresWithSession: (ctx, source) => !ctx.oidc.client.alwaysRefreshes && !source.scopes.has('offline_access'),
  findAccount: (_ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  issueRefreshToken: (_ctx, client, source) =>
    client.grantTypeAllowed('refresh_token') && Boolean(client.alwaysRefreshes || source.scopes.has('offline_access')),
  jwks: { keys: [signing] },
  pkce: { required: () => true },
  renderError: failure,
  rotateRefreshToken: (ctx) => ctx.oidc.client.rotates ?? true,
  scopes: ['openid', 'offline_access', 'read', 'write', 'admin'],
  ttl: {
    AccessToken: accessTokenTtl,
    ClientCredentials: accessTokenTtl,
    DeviceCode: (_ctx, _code, client) => client.deviceCodeTtl ?? 600,
    Grant: 86400,
    IdToken: 3600,
    Interaction: 3600,
    RefreshToken: 86400,
    Session: 86400,
  },
});
