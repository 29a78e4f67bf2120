//! Between a person's consent under way and the Kubernetes Secret it lives in, in the operator's own namespace; pure. It is
//! apart from the record of the login: pages that anybody may open must not be able to clobber that.

use super::consent::Deposit;
use super::login::Login;
use super::state::Account;
use super::state_secret::Version;
use crate::api::vocabulary as v;
use crate::oauth::{Sensitive, exposed, exposed_option, hex};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// How far a consent has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all_fields = "camelCase")]
pub enum Phase {
    /// Somebody who may connect the account was given a link that works once.
    Ticket {
        /// Digest of what is in the link.
        ticket: String,
    },
    /// A browser was sent to the provider.
    Started {
        /// Digest of the parameter `state` (RFC 6749 §10.12).
        state: String,
        /// Digest of the cookie that the browser was given.
        cookie: String,
        /// What the challenge was made of (RFC 7636 §4.1).
        #[serde(default, with = "exposed_option", skip_serializing_if = "Option::is_none")]
        verifier: Option<Sensitive>,
        /// Where the code is to be sent to.
        redirect_uri: String,
        /// Who must have sent it (RFC 9207 §2.4); none where that is not known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        issuer: Option<String>,
        /// Whether the provider says that it names itself.
        #[serde(default)]
        names_issuer: bool,
        /// Whom the code is asked of, as which client.
        login: Login,
    },
    /// It came back with a code, for the leader to redeem.
    Deposited {
        /// The code.
        #[serde(with = "exposed")]
        code: Sensitive,
        /// What the challenge was made of.
        #[serde(default, with = "exposed_option", skip_serializing_if = "Option::is_none")]
        verifier: Option<Sensitive>,
        /// Where the code was sent to.
        redirect_uri: String,
        /// Digest of the cookie that the browser was given.
        cookie: String,
        /// When it came.
        at: Timestamp,
        /// Whom it was asked of, as which client.
        login: Login,
    },
}

impl Phase {
    /// Its name, as the annotation says it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Ticket { .. } => "Ticket",
            Self::Started { .. } => "Started",
            Self::Deposited { .. } => v::DEPOSITED,
        }
    }
}

/// A consent under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Consent {
    /// The account that it is for.
    pub account: Account,
    /// How far it has come.
    pub phase: Phase,
    /// Until when it is worth anything.
    pub expires: Timestamp,
    /// Who connects the account, as the API server knows them; none where anybody may, for it is known as whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// Name of the Secret of an account's consent.
pub fn consent_secret_name(namespace: &str, name: &str) -> String {
    format!("consent-{}", consent_id(namespace, name))
}

/// What tells one consent from another in links and cookies: the end of its Secret's name.
pub fn consent_id(namespace: &str, name: &str) -> String {
    hex(&Sha256::digest(format!("{namespace}/{name}"))[..16])
}

/// The Secret that holds a consent, in place of the one that is `over`.
pub fn consent_manifest(namespace: &str, consent: &Consent, over: Option<&Version>) -> Secret {
    let (account, text) = (&consent.account, |text: &str| text.to_owned());
    let labels = [
        (v::NAME_LABEL, text(v::MANAGER)),
        (v::MANAGED_BY_LABEL, text(v::MANAGER)),
        (v::COMPONENT_LABEL, text(v::CONSENT_COMPONENT)),
    ];
    let annotations = [
        (v::ACCOUNT_ANNOTATION, format!("{}/{}", account.namespace, account.name)),
        (v::CONSENT_PHASE_ANNOTATION, text(consent.phase.name())),
        (v::CONSENT_EXPIRES_ANNOTATION, consent.expires.to_string()),
    ];
    let json = serde_json::to_vec(consent).unwrap_or_default();
    Secret {
        metadata: ObjectMeta {
            name: Some(consent_secret_name(&account.namespace, &account.name)),
            namespace: Some(namespace.to_owned()),
            labels: Some(labels.into_iter().map(|(key, value)| (text(key), value)).collect()),
            annotations: Some(annotations.into_iter().map(|(key, value)| (text(key), value)).collect()),
            uid: over.map(|version| version.uid.clone()),
            resource_version: over.map(|version| version.resource_version.clone()),
            ..ObjectMeta::default()
        },
        type_: Some(text(v::CONSENT_SECRET_TYPE)),
        data: Some(BTreeMap::from([(text(v::CONSENT_KEY), ByteString(json))])),
        ..Secret::default()
    }
}

/// What a Secret of that name says; none where it says nothing that can be read: it is written over.
pub fn consent_of(secret: &Secret) -> Option<Consent> {
    let bytes = secret.data.as_ref()?.get(v::CONSENT_KEY)?;
    serde_json::from_slice(&bytes.0).ok()
}

/// Which one it is.
pub fn version_of(secret: &Secret) -> Version {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    Version { uid: text(&secret.metadata.uid), resource_version: text(&secret.metadata.resource_version) }
}

/// What the leader is to redeem.
pub fn deposit(secret: &Secret) -> Option<Deposit> {
    let consent = consent_of(secret)?;
    let Phase::Deposited { code, verifier, redirect_uri, at, login, .. } = consent.phase else { return None };
    let (uid, expires) = (consent.account.uid, consent.expires);
    Some(Deposit { version: version_of(secret), uid, code, verifier, redirect_uri, at, expires, login })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consent(phase: Phase) -> Consent {
        let account = Account { namespace: "apps".into(), name: "demo".into(), uid: "7d0c".into() };
        Consent { account, phase, expires: "2026-01-01T00:00:00Z".parse().unwrap(), by: Some("alice".into()) }
    }

    #[test]
    fn a_consent_survives_the_way_through_its_secret_and_shows_nothing() {
        let deposited = Phase::Deposited {
            code: Sensitive::new("c0de"),
            verifier: Some(Sensitive::new("verif1er")),
            redirect_uri: "https://connect.example.com/callback".into(),
            cookie: "digest".into(),
            at: "2026-01-01T00:00:00Z".parse().unwrap(),
            login: Login { origin: "https://login.example.com".into(), client_id: "app".into() },
        };
        let consent = consent(deposited);
        let secret = consent_manifest("system", &consent, None);
        assert_eq!(consent_of(&secret), Some(consent.clone()));
        let found = deposit(&secret).unwrap();
        assert_eq!((found.code.expose(), found.verifier.unwrap().expose(), found.uid.as_str()), ("c0de", "verif1er", "7d0c"));
        assert!(!format!("{:?} {consent:?}", secret.metadata).contains("c0de"));
        assert_eq!(secret.metadata.annotations.unwrap()[v::CONSENT_PHASE_ANNOTATION], "Deposited");
    }

    #[test]
    fn only_a_code_is_a_deposit() {
        let ticket = consent(Phase::Ticket { ticket: "digest".into() });
        assert_eq!(deposit(&consent_manifest("system", &ticket, None)), None);
    }
}
