//! The OAuth client: who we are to the provider.

use super::KeyReference;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the client proves itself at the token endpoint (RFC 6749 §2.3, RFC 7523, RFC 8705).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AuthMethod {
    /// HTTP Basic with the form-encoded id and secret.
    ClientSecretBasic,
    /// `client_id` and `client_secret` in the body.
    ClientSecretPost,
    /// The secret as a bearer token (Coze).
    ClientSecretBearer,
    /// A JWT signed by a private key.
    PrivateKeyJWT,
    /// A JWT signed by the client secret.
    ClientSecretJWT,
    /// Mutual TLS.
    TLSClientAuth,
    /// A public client: `client_id` only.
    None,
}

/// Where the client id comes from when it is no literal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientIDSource {
    /// Key of a Secret in the same namespace.
    pub secret_key_ref: KeyReference,
}

/// The OAuth client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.id) && has(self.idFrom))").message("may not set both `id` and `idFrom`"))]
pub struct Client {
    /// Client identifier, in plain text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^[\x20-\x7E]+$"))]
    pub id: Option<String>,
    /// Client identifier from a Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_from: Option<ClientIDSource>,
    /// How the client authenticates. Absent: the preset's method, or ClientSecretBasic where there is no preset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_method: Option<AuthMethod>,
    /// Header `kid` of assertions, with authMethod PrivateKeyJWT.
    #[serde(rename = "keyID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub key_id: Option<String>,
    /// Client secret, private key or certificate, by what `authMethod` needs: with PrivateKeyJWT a private key as PEM, with
    /// TLSClientAuth a private key as PEM, whose certificate stands in the same key or in the key tls.crt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<KeyReference>,
}
