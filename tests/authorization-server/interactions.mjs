// What a person sees: plain pages that load nothing. Anyone may sign in as anyone, without a password.

import { text } from 'node:stream/consumers';

const escape = (value) => String(value).replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);

const page = (title, content) => `<!DOCTYPE html>
<html lang="en">
  <head><meta charset="utf-8"><title>${title}</title><link rel="icon" href="data:,"></head>
  <body><main><h1>${title}</h1>${content}</main></body>
</html>
`;

const login = () => page('Sign in', `
  <form method="post">
    <p><label for="login">Login</label> <input id="login" name="login" type="text" required autofocus></p>
    <p><button type="submit">Sign in</button></p>
  </form>`);

const consent = ({ params }) => page('Consent', `
  <p>${escape(params.client_id)} asks for:</p>
  <ul>${(params.scope ?? '').split(' ').map((scope) => `<li>${escape(scope)}</li>`).join('')}</ul>
  <form method="post">
    <p>
      <button type="submit" name="answer" value="continue">Continue</button>
      <button type="submit" name="answer" value="cancel">Cancel</button>
    </p>
  </form>`);

/** The grant that a person's consent adds to. */
const granted = async (provider, { grantId, params, prompt, session }) => {
  const { missingOIDCScope, missingOIDCClaims, missingResourceScopes } = prompt.details;
  const grant = grantId
    ? await provider.Grant.find(grantId)
    : new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  if (missingOIDCScope) grant.addOIDCScope(missingOIDCScope);
  if (missingOIDCClaims) grant.addOIDCClaims(missingOIDCClaims);
  for (const [resource, scopes] of Object.entries(missingResourceScopes ?? {})) grant.addResourceScope(resource, scopes);
  return grant.save();
};

/** What a form says: the result of its interaction. */
const answered = async (provider, interaction, form) => {
  if (interaction.prompt.name === 'login') return { login: { accountId: form.get('login') } };
  if (form.get('answer') === 'continue') return { consent: { grantId: await granted(provider, interaction) } };
  return { error: 'access_denied', error_description: 'The person cancelled' };
};

/** The login and consent pages. */
export const interactions = (provider) => async (ctx, next) => {
  if (!ctx.path.startsWith('/interaction/')) return next();
  const interaction = await provider.interactionDetails(ctx.req, ctx.res);
  if (ctx.method !== 'POST') {
    ctx.set('cache-control', 'no-store');
    ctx.body = interaction.prompt.name === 'login' ? login() : consent(interaction);
    return;
  }
  const result = await answered(provider, interaction, new URLSearchParams(await text(ctx.req)));
  ctx.status = 303;
  ctx.redirect(await provider.interactionResult(ctx.req, ctx.res, result));
};

/** Asks for a device's user code; forms of the device pages are the provider's own. */
export const deviceInput = (ctx, form, _out, error) => {
  const said = error ? `The code was not taken: ${escape(error.message)}` : 'Enter the code that the device shows';
  ctx.body = page('Device', `
  <p>${said}</p>
  ${form}
  <p><button type="submit" form="op.deviceInputForm">Continue</button></p>`);
};

/** Shows whose device asks, and the code to compare. */
export const deviceConfirmation = (ctx, form, client, _device, userCode) => {
  ctx.body = page('Confirm the device', `
  <p>${escape(client.clientName ?? client.clientId)} shows <code>${escape(userCode)}</code></p>
  ${form}
  <p>
    <button type="submit" form="op.deviceConfirmForm">Continue</button>
    <button type="submit" form="op.deviceConfirmForm" name="abort" value="yes">Cancel</button>
  </p>`);
};

export const deviceSuccess = (ctx) => {
  ctx.body = page('Signed in', '<p>The device is signed in.</p>');
};

export const failure = (ctx, out) => {
  ctx.type = 'html';
  const lines = Object.entries(out).map(([key, value]) => `<p>${escape(key)}: ${escape(value)}</p>`);
  ctx.body = page('Failure', lines.join(''));
};
