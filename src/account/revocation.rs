//! What is told to the provider when an account goes (RFC 7009), written down while it lives: when it is gone, its spec and its
//! Secrets are gone too.

use super::{Credentials, Plan, State};
use crate::api::BasicEncoding;
use crate::oauth::{
    ClientAuthentication, Dialect, Endpoint, Endpoints, GrantRequest, Sensitive, TlsSettings, TokenRequest, exposed_option,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use url::Url;

/// How tokens are revoked, and as whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Revocation {
    /// Revocation endpoint.
    pub endpoint: Url,
    /// Client identifier.
    pub client_id: Option<String>,
    /// Client secret, or the private key that stands for it.
    #[serde(default, with = "exposed_option", skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<Sensitive>,
    /// How the client proves itself.
    pub authentication: ClientAuthentication,
    /// Encoding of id and secret in HTTP Basic.
    pub basic_encoding: BasicEncoding,
    /// Certificates trusted in place of the public ones, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<String>,
    /// The client's certificate and its private key, PEM.
    #[serde(default, with = "exposed_option", skip_serializing_if = "Option::is_none")]
    pub identity: Option<Sensitive>,
}

impl Revocation {
    /// What is to be written down for an account; none where its provider is not to be told, cannot be told, or its Secrets do
    /// not permit their keys to go there.
    pub fn of(plan: &Plan, credentials: &Credentials, endpoints: &Endpoints, hosts_required: bool) -> Option<Self> {
        let endpoint = endpoints.get(Endpoint::Revocation).filter(|_| plan.revokes)?;
        credentials.permit(&[], endpoint, hosts_required).ok()?;
        Some(Self {
            endpoint: endpoint.clone(),
            client_id: plan.client_id.as_ref().map(|_| credentials.client_id.clone()),
            client_secret: credentials.client_secret.clone(),
            authentication: plan.authentication.clone(),
            basic_encoding: plan.dialect.basic_encoding,
            ca_bundle: credentials.ca_bundle.as_ref().map(|bundle| String::from_utf8_lossy(bundle).into_owned()),
            identity: credentials.identity.clone(),
        })
    }

    /// Whom to trust, and who we are.
    pub fn tls(&self) -> TlsSettings {
        let ca_bundle = self.ca_bundle.as_ref().map(|bundle| bundle.clone().into_bytes());
        TlsSettings { ca_bundle, identity: self.identity.clone() }
    }

    fn request(&self, token: &Sensitive, hint: &'static str) -> TokenRequest {
        TokenRequest {
            endpoint: self.endpoint.clone(),
            client_id: self.client_id.clone(),
            client_id_is_secret: false,
            client_secret: self.client_secret.clone(),
            authentication: self.authentication.clone(),
            grant: GrantRequest::Revocation { token: token.clone(), hint },
            scopes: vec![],
            audience: None,
            resources: vec![],
            dialect: Arc::new(Dialect { basic_encoding: self.basic_encoding, ..Dialect::default() }),
            dpop_key: None,
        }
    }
}

/// What ends the login that a record is of: the refresh token first, for that often ends all that came of it (RFC 7009 §2.1).
pub fn requests(state: &State) -> Option<(TlsSettings, Vec<TokenRequest>)> {
    let revocation = state.revocation.as_ref()?;
    let held = [&state.credential, &state.displaced].into_iter().flatten().filter(|credential| credential.is_refresh_token());
    let refresh = held.map(|credential| revocation.request(&credential.refresh_token, "refresh_token"));
    let access = state.record.as_ref().map(|record| revocation.request(&record.access_token, "access_token"));
    Some((revocation.tls(), refresh.chain(access).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::seen::tests::{account, record};
    use crate::account::state::tests::imported;
    use crate::oauth::Moment;
    use serde_json::json;

    fn recipe(policy: &str, hosts: Option<&str>) -> Option<Revocation> {
        let spec =
            json!({"revocationPolicy": policy, "provider": {"overrides": {"revocationURL": "https://login.example.com/revoke"}}});
        let plan = Plan::of(&account(&spec)).unwrap();
        let credentials = Credentials {
            client_id: "app".into(),
            client_secret: Some(Sensitive::new("hunter22")),
            token_hosts: vec![("app".into(), hosts.map(str::to_owned))],
            ..Credentials::default()
        };
        Revocation::of(&plan, &credentials, &plan.known, false)
    }

    #[test]
    fn both_tokens_are_revoked_with_the_proof_of_the_client_that_they_were_issued_to() {
        let state = State { revocation: recipe("OnDelete", None), record: Some(record(1, 3600)), ..imported(None) };
        let text = serde_json::to_string(&state).unwrap();
        let state: State = serde_json::from_str(&text).unwrap();
        let (_, requests) = requests(&state).unwrap();
        let moment = Moment { now: crate::account::seen::tests::at(0), id: "once".into(), dpop_nonce: None };
        let bodies: Vec<String> = requests
            .iter()
            .map(|request| {
                let composed = request.compose(&moment).unwrap();
                assert_eq!(composed.uri(), "https://login.example.com/revoke");
                assert!(composed.headers().contains_key("authorization"));
                String::from_utf8(composed.into_body()).unwrap()
            })
            .collect();
        assert_eq!(bodies, ["token=r1&token_type_hint=refresh_token", "token=token-1&token_type_hint=access_token"]);
        assert!(!format!("{state:?}").contains("hunter22"));
    }

    #[test]
    fn nothing_is_written_down_without_a_wish_or_a_permit() {
        assert_eq!(recipe("Never", None), None);
        assert_eq!(recipe("OnDelete", Some("elsewhere.example.com")), None);
        assert!(recipe("OnDelete", Some("login.example.com")).is_some());
    }
}
