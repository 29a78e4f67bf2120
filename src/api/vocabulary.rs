//! Names that are API though they are no fields: annotations, labels, Secret keys and types.

/// API group of every kind.
pub const GROUP: &str = "oauth-operator.dev";
/// Field manager of every write and value of `app.kubernetes.io/managed-by`.
pub const MANAGER: &str = "oauth-operator";

/// Label on every Secret the operator makes: UID of the account that owns it.
pub const ACCOUNT_UID_LABEL: &str = "oauth-operator.dev/account-uid";
/// The recommended label that says who manages an object.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// The recommended label that says what application an object belongs to.
pub const NAME_LABEL: &str = "app.kubernetes.io/name";
/// The recommended label that says what part an object plays.
pub const COMPONENT_LABEL: &str = "app.kubernetes.io/component";
/// Value of [`COMPONENT_LABEL`] on a ControllerRevision: a workflow as it was when a run of it began.
pub const REVISION_COMPONENT: &str = "workflow-revision";
/// Value of [`COMPONENT_LABEL`] on a Secret that holds an output of a run.
pub const OUTPUT_COMPONENT: &str = "workflow-output";
/// Key of such a Secret.
pub const OUTPUT_KEY: &str = "output.json.gz";
/// Label on what is made for a workflow: its name.
pub const WORKFLOW_LABEL: &str = "oauth-operator.dev/workflow";
/// Annotation on a Secret: `true` where runs of workflows may take it as their input.
pub const RUN_INPUT_ANNOTATION: &str = "oauth-operator.dev/run-input";
/// Annotation on a run: what a person answers to the interrupt of a remote workflow.
pub const RESUME_DATA_ANNOTATION: &str = "oauth-operator.dev/resume-data";
/// Value of [`COMPONENT_LABEL`] on a token Secret.
pub const TOKEN_COMPONENT: &str = "access-token";
/// Value of [`COMPONENT_LABEL`] on a state Secret.
pub const STATE_COMPONENT: &str = "login-state";
/// Type of a state Secret: the operator's own record of a login, in the operator's namespace.
pub const STATE_SECRET_TYPE: &str = "oauth-operator.dev/state";
/// Key of a state Secret: the record, JSON of one version.
pub const STATE_KEY: &str = "state";

/// Name of the Secret that holds the operator's own CA, and of the ConfigMap that says whom to trust for it; both in the
/// operator's namespace.
pub const CA_NAME: &str = "oauth-operator-ca";
/// Value of [`COMPONENT_LABEL`] on both.
pub const CA_COMPONENT: &str = "ca";
/// Type of that Secret.
pub const CA_SECRET_TYPE: &str = "oauth-operator.dev/ca";
/// Key of that ConfigMap: every CA certificate that a client of the operator must trust now, PEM. Key of the Secret: the
/// certificate of the CA that signs.
pub const CA_CERTIFICATE_KEY: &str = "ca.crt";

/// Annotation on a state Secret: SHA-256 of the refresh token that is held, by which duplicates are found.
pub const REFRESH_TOKEN_DIGEST_ANNOTATION: &str = "oauth-operator.dev/refresh-token-digest";
/// Annotation on a state Secret: SHA-256 of the refresh token that was imported from the seed.
pub const SEED_DIGEST_ANNOTATION: &str = "oauth-operator.dev/seed-digest";
/// Annotation on a state Secret: id of the intent to spend what it holds, while there is one.
pub const INTENT_ANNOTATION: &str = "oauth-operator.dev/intent";
/// Annotation on a state Secret: name of the key of the keyring that it is encrypted with.
pub const ENCRYPTION_KEY_ANNOTATION: &str = "oauth-operator.dev/encryption-key";
/// Annotation on a state Secret: `spec.statePolicy` of its account.
pub const STATE_POLICY_ANNOTATION: &str = "oauth-operator.dev/state-policy";

/// Annotation on a state Secret: since when somebody waits for a newer token of the account, RFC 3339. Absent: nobody does.
pub const REFRESH_DEMANDED_ANNOTATION: &str = "oauth-operator.dev/refresh-demanded-at";

/// Annotation on a token Secret: name of the account it belongs to. On a state Secret: its namespace and name.
pub const ACCOUNT_ANNOTATION: &str = "oauth-operator.dev/account";
/// Annotation on a token Secret: when the token was issued, RFC 3339.
pub const ISSUED_ANNOTATION: &str = "oauth-operator.dev/issued-at";
/// Annotation on a token Secret: where its expiry comes from, an `ExpirySource`.
pub const EXPIRY_SOURCE_ANNOTATION: &str = "oauth-operator.dev/expiry-source";
/// Annotation on a token Secret: when the provider wishes the token to be refreshed, and before when not, RFC 3339; `-`
/// where it does not say. Absent where it says neither.
pub const REFRESH_HINTS_ANNOTATION: &str = "oauth-operator.dev/refresh-hints";
/// On a state Secret: its tokens are revoked when the account is gone.
pub const REVOCATION_POLICY_ANNOTATION: &str = "oauth-operator.dev/revocation-policy";
/// Component of the Secret that shows a code to log in with.
pub const AUTHORIZATION_COMPONENT: &str = "authorization";
/// Type of the Secret of a consent under way.
pub const CONSENT_SECRET_TYPE: &str = "oauth-operator.dev/consent";
/// Component of such a Secret.
pub const CONSENT_COMPONENT: &str = "consent";
/// Its key.
pub const CONSENT_KEY: &str = "consent";
/// How far it has come.
pub const CONSENT_PHASE_ANNOTATION: &str = "oauth-operator.dev/consent-phase";
/// In which phase the leader has something to do.
pub const DEPOSITED: &str = "Deposited";
/// Until when it is worth anything.
pub const CONSENT_EXPIRES_ANNOTATION: &str = "oauth-operator.dev/consent-expires";
/// Public fields of the provider's reply, as a JSON object.
pub const REPLY_ANNOTATION: &str = "oauth-operator.dev/reply";
/// Audiences, separated by commas, that tokens of a ServiceAccount may be made for, so that accounts can exchange them.
pub const TOKEN_AUDIENCES_ANNOTATION: &str = "oauth-operator.dev/token-audiences";
/// Annotation on a token Secret: digest of what was asked for (provider, client, grant, scopes), so that a changed
/// spec obtains another token.
pub const REQUEST_DIGEST_ANNOTATION: &str = "oauth-operator.dev/request-digest";

/// Annotation on a token Secret: names of the labels, annotations and keys that `spec.tokenSecret` asked for, as JSON, so that
/// one taken out of it goes from the Secret too.
pub const TEMPLATE_ANNOTATION: &str = "oauth-operator.dev/template";

/// Prefix of the annotation on the Pods of a workload that is restarted when a token changes; the account's name follows.
pub const RESTART_ANNOTATION_PREFIX: &str = "restart.oauth-operator.dev/";

/// Annotation on a Pod or its template: accounts whose tokens the sidecar is to send, separated by commas, each
/// `account` or `account=secret`. As a label with the value [`INJECT_DISABLED`]: none is to be put there.
pub const INJECT: &str = "oauth-operator.dev/inject";
/// Value of the label [`INJECT`] by which a Pod is left alone.
pub const INJECT_DISABLED: &str = "disabled";
/// Annotation on a Pod or its template: the version of the operator that has put the sidecar there.
pub const INJECTED_ANNOTATION: &str = "oauth-operator.dev/injected";
/// Prefix of the annotations that say how the sidecar of one Pod is to be.
pub const PROXY_ANNOTATION_PREFIX: &str = "oauth-operator.dev/proxy-";

/// Annotation on a Secret of the user's: name of the account that may merge its keys into it.
pub const MERGE_FROM_ANNOTATION: &str = "oauth-operator.dev/merge-from";

/// Annotation on an account: a moment, RFC 3339, at which a person asked for a new token. Echoed in
/// `status.lastHandledRefreshTime` when it was tried.
pub const REFRESH_REQUESTED_ANNOTATION: &str = "oauth-operator.dev/refresh-requested-at";

/// Annotation on a seed Secret: comma-separated hosts that may be sent its keys.
pub const TOKEN_HOSTS_ANNOTATION: &str = "oauth-operator.dev/token-hosts";

/// Key of a token Secret: the access token.
pub const ACCESS_TOKEN_KEY: &str = "access_token";
/// Key of a token Secret: `Bearer` or `DPoP`, as the reply spelled it.
pub const TOKEN_TYPE_KEY: &str = "token_type";
/// Key of a token Secret: when the token expires, RFC 3339.
pub const EXPIRES_AT_KEY: &str = "expires_at";
/// Key of a token Secret: granted scopes, separated by spaces.
pub const SCOPE_KEY: &str = "scope";
/// Key of a token Secret: counts the tokens of this account.
pub const GENERATION_KEY: &str = "generation";
/// Key of a token Secret: hosts this token may be sent to, one per line; empty where the account names none.
pub const ALLOWED_HOSTS_KEY: &str = "allowed_hosts";
/// Key of a token Secret: private key that the token is bound to (RFC 9449), PKCS #8 as PEM; absent where it is bound to none.
pub const DPOP_KEY: &str = "dpop_key";
/// The keys of a token Secret that the operator writes itself.
pub const OWN_KEYS: [&str; 7] =
    [ACCESS_TOKEN_KEY, TOKEN_TYPE_KEY, EXPIRES_AT_KEY, SCOPE_KEY, GENERATION_KEY, ALLOWED_HOSTS_KEY, DPOP_KEY];
