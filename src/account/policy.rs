//! What the operator's configuration says of all accounts.

use crate::api::OAuthAccount;
use std::sync::Arc;

/// What the operator's configuration says of all accounts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Where the consent pages are, as people reach them; none where there are none.
    pub consent_url: Option<Arc<str>>,
    /// Whether seed Secrets must carry the annotation `token-hosts`.
    pub token_hosts_required: bool,
    /// Whether the grant `password` is allowed.
    pub password_grant: bool,
}

impl Policy {
    /// Where codes for an account are sent to. Each has an address of its own, which its client is registered with: a code that
    /// one account asks for cannot be led to another, whatever that one says of its provider (RFC 9700 §4.4).
    pub fn callback(&self, namespace: &str, name: &str) -> Option<String> {
        self.consent_url.as_ref().map(|base| format!("{}/callback/{namespace}/{name}", base.trim_end_matches('/')))
    }

    /// The consent page of an account.
    pub fn page(&self, account: &OAuthAccount) -> Option<String> {
        let metadata = &account.metadata;
        let (namespace, name) = (metadata.namespace.as_deref()?, metadata.name.as_deref()?);
        self.consent_url.as_ref().map(|base| format!("{}/consent/{namespace}/{name}", base.trim_end_matches('/')))
    }
}
