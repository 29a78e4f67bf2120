//! References to Secrets and ConfigMaps. They never leave the namespace of the object that holds them.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A DNS subdomain (RFC 1123): what names a Secret or ConfigMap.
pub const OBJECT_NAME: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// Whether a text is such a name, of at most 253 characters.
pub fn is_object_name(text: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = |byte: Option<&u8>| byte.is_some_and(|byte| alphanumeric(*byte));
    let label = |label: &str| {
        let bytes = label.as_bytes();
        bytes.iter().all(|byte| alphanumeric(*byte) || *byte == b'-') && ends(bytes.first()) && ends(bytes.last())
    };
    text.len() <= 253 && text.split('.').all(label)
}

/// What names a key of a Secret or ConfigMap.
pub const DATA_KEY: &str = r"^[-._a-zA-Z0-9]+$";

/// One key of a Secret in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyReference {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: String,
    /// Key within the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = DATA_KEY))]
    pub key: String,
}

/// What kind of object holds a CA bundle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CABundleKind {
    #[default]
    ConfigMap,
    Secret,
}

/// PEM certificates that are trusted in place of the public ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CABundleReference {
    /// Kind of the object that holds the bundle.
    #[serde(default)]
    pub kind: CABundleKind,
    /// Name of the ConfigMap or Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: String,
    /// Key whose value is one or more PEM certificates.
    #[serde(default = "default_ca_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = DATA_KEY))]
    pub key: String,
}

fn default_ca_key() -> String {
    "ca.crt".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_the_schema_takes_for_one() {
        let pattern = regex_lite::Regex::new(OBJECT_NAME).unwrap();
        for (text, name) in [
            ("a", true),
            ("coze-prod", true),
            ("a.b-c.0", true),
            ("", false),
            ("A", false),
            ("-a", false),
            ("a-", false),
            ("a..b", false),
            (".a", false),
            ("a/b", false),
            ("a_b", false),
            ("ä", false),
        ] {
            assert_eq!((is_object_name(text), pattern.is_match(text)), (name, name), "{text}");
        }
        assert!(is_object_name(&"a".repeat(253)) && !is_object_name(&"a".repeat(254)));
    }
}
