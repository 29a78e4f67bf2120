// What an API does with the provider's access tokens, opaque or JWT: Bearer, DPoP (RFC 9449 §7) or bound to a certificate.

import { EmbeddedJWK, calculateJwkThumbprint, jwtVerify } from 'jose';
import { createHash } from 'node:crypto';
import { algorithms, publicKeys } from './configuration.mjs';

const digest = (data) => createHash('sha256').update(data).digest('base64url');

/** A living access token of this provider. */
const find = async (provider, value) => {
  if (value.includes('.')) {
    const verified = jwtVerify(value, publicKeys, { issuer: provider.issuer, typ: 'at+jwt', requiredClaims: ['exp'] });
    return verified.then(({ payload }) => payload, () => undefined);
  }
  const token = (await provider.AccessToken.find(value)) ?? (await provider.ClientCredentials.find(value));
  // The provider finds tokens for a while after their end.
  if (!token?.isValid) return undefined;
  const { accountId, clientId, jkt, scope, 'x5t#S256': certificate } = token;
  return { sub: accountId ?? clientId, client_id: clientId, scope, cnf: { jkt, 'x5t#S256': certificate } };
};

/** The thumbprint of the key that a request proves to have; undefined if it proves none. */
const proven = async (provider, ctx, value, clientId) => {
  const verified = await jwtVerify(ctx.get('dpop'), EmbeddedJWK, {
    algorithms, maxTokenAge: 300, requiredClaims: ['jti', 'htm', 'htu', 'ath'], typ: 'dpop+jwt',
  }).catch(() => undefined);
  if (!verified) return undefined;
  const { payload, protectedHeader } = verified;
  const here = `${provider.issuer}${ctx.path}`;
  if (payload.htm !== ctx.method || payload.htu !== here || payload.ath !== digest(value)) return undefined;
  if (!(await provider.ReplayDetection.unique(`resource ${clientId}`, payload.jti, payload.iat + 300))) return undefined;
  return calculateJwkThumbprint(protectedHeader.jwk);
};

export const resource = (provider) => async (ctx) => {
  const [scheme, value = ''] = ctx.get('authorization').split(' ');
  const refuse = (challenge) => {
    ctx.status = 401;
    ctx.set('www-authenticate', challenge);
  };
  if (!value) return refuse('Bearer');
  const token = await find(provider, value);
  if (!token) return refuse(`${scheme} error="invalid_token"`);
  const { jkt, 'x5t#S256': bound } = token.cnf ?? {};
  if (jkt) {
    if (scheme.toLowerCase() !== 'dpop') return refuse(`DPoP error="invalid_token", algs="${algorithms.join(' ')}"`);
    if ((await proven(provider, ctx, value, token.client_id)) !== jkt) return refuse('DPoP error="invalid_dpop_proof"');
  } else if (scheme.toLowerCase() !== 'bearer') {
    return refuse('Bearer error="invalid_token"');
  }
  const certificate = ctx.socket.getPeerX509Certificate();
  if (bound && (!certificate || digest(certificate.raw) !== bound)) return refuse('Bearer error="invalid_token"');
  ctx.body = { sub: token.sub, client_id: token.client_id, scope: token.scope };
};
