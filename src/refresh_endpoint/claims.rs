//! A token of a ServiceAccount, verified by the cluster's public keys where the operator may not ask the API server whose it is.
//! Pure: keys and time are arguments.

use crate::world::access::Person;
use crate::world::issuer::Keys;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// What tokens are signed with: by keys of which the public half is enough to verify, and by no other.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];
/// Seconds by which clocks differ: a token may begin so much later. None ends later for it.
const SKEW: i64 = 60;

#[derive(Deserialize)]
struct Claims {
    aud: Value,
    exp: i64,
    #[serde(default)]
    nbf: Option<i64>,
    sub: String,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Kubernetes,
}

/// What Kubernetes says of a token beside the registered claims.
#[derive(Deserialize)]
struct Kubernetes {
    namespace: String,
    serviceaccount: Named,
    #[serde(default)]
    pod: Option<Named>,
    /// What else it is bound to, such as a Secret, by its end.
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
    uid: String,
}

/// Which key a token says it was signed by, for those who have several.
pub fn key_id(token: &str) -> Option<String> {
    decode_header(token).ok()?.kid
}

/// Whose token this is, with the Pod that it is bound to if there is one; `None` where it is nobody's, has ended, or is not
/// meant for this audience. Whether the Pod lives is still to be asked. Tokens that are bound to something else, whose end could
/// not be seen, are nobody's.
pub fn verify(token: &str, keys: &Keys, audience: &str, now: Timestamp) -> Option<Person> {
    let header = decode_header(token).ok()?;
    if !ALGORITHMS.contains(&header.alg) {
        return None;
    }
    let mut validation = Validation::new(header.alg);
    validation.set_issuer(&[&keys.issuer]);
    validation.set_required_spec_claims(&["iss", "exp", "aud", "sub"]);
    // Below, by the time that is an argument, and for one audience or several.
    (validation.validate_exp, validation.validate_aud) = (false, false);
    let named = |id: &String| keys.set.find(id).into_iter().collect::<Vec<_>>();
    let candidates = header.kid.as_ref().map_or_else(|| keys.set.keys.iter().collect(), named);
    let verified = candidates.into_iter().find_map(|key| {
        let key = DecodingKey::from_jwk(key).ok()?;
        decode::<Claims>(token, &key, &validation).ok()
    });
    let Claims { aud, exp, nbf, sub, kubernetes } = verified?.claims;
    let meant = match &aud {
        Value::String(one) => one == audience,
        Value::Array(all) => all.iter().any(|one| one == audience),
        _ => false,
    };
    let second = now.as_second();
    let lives = second < exp && nbf.is_none_or(|from| from <= second + SKEW);
    let Kubernetes { namespace, serviceaccount, pod, others } = kubernetes;
    let bound = others.contains_key("secret") || (pod.is_none() && others.contains_key("node"));
    let consistent = sub == format!("system:serviceaccount:{namespace}:{}", serviceaccount.name);
    let pod = pod.as_ref().map(|pod| (pod.name.as_str(), pod.uid.as_str()));
    (meant && lives && consistent && !bound)
        .then(|| Person::service_account(&namespace, &serviceaccount.name, &serviceaccount.uid, pod))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
    use serde_json::json;

    struct Cluster {
        signs: EncodingKey,
        keys: Keys,
    }

    /// A cluster whose key has this id.
    fn cluster(id: &str) -> Cluster {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).unwrap();
        let point = pair.public_key().as_ref();
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let jwk = json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": id, "x": text(&point[1..33]), "y": text(&point[33..])});
        let set = serde_json::from_value(json!({"keys": [jwk]})).unwrap();
        let keys = Keys { issuer: "https://kubernetes.default.svc".into(), set };
        Cluster { signs: EncodingKey::from_ec_der(document.as_ref()), keys }
    }

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn claims(patch: &Value) -> Value {
        let mut claims = json!({
            "aud": ["oauth-operator"], "iss": "https://kubernetes.default.svc", "exp": 1_800_000_600, "iat": 1_799_999_990,
            "nbf": 1_799_999_990, "sub": "system:serviceaccount:apps:web",
            "kubernetes.io": {
                "namespace": "apps", "serviceaccount": {"name": "web", "uid": "s"}, "pod": {"name": "web-1", "uid": "p"},
                "node": {"name": "n", "uid": "n"}, "warnafter": 1_800_000_500,
            },
        });
        claims.as_object_mut().unwrap().extend(patch.as_object().unwrap().clone());
        claims
    }

    fn token(cluster: &Cluster, kid: Option<&str>, patch: &Value) -> String {
        let header = Header { kid: kid.map(str::to_owned), ..Header::new(Algorithm::ES256) };
        encode(&header, &claims(patch), &cluster.signs).unwrap()
    }

    fn who(cluster: &Cluster, patch: Value) -> Option<Person> {
        verify(&token(cluster, Some("k1"), &patch), &cluster.keys, "oauth-operator", now())
    }

    #[test]
    fn a_token_of_this_cluster_says_whose_it_is() {
        let cluster = cluster("k1");
        let person = who(&cluster, json!({})).unwrap();
        assert_eq!(person, Person::service_account("apps", "web", "s", Some(("web-1", "p"))));
        let unbound = json!({"aud": "oauth-operator", "kubernetes.io": {"namespace": "apps", "serviceaccount": {"name": "web", "uid": "s"}}});
        assert_eq!(who(&cluster, unbound), Some(Person::service_account("apps", "web", "s", None)));
        let unnamed = token(&cluster, None, &json!({}));
        assert!(verify(&unnamed, &cluster.keys, "oauth-operator", now()).is_some(), "a key without a name");
        assert_eq!(key_id(&token(&cluster, Some("k1"), &json!({}))).as_deref(), Some("k1"));
    }

    #[test]
    fn any_other_is_nobody_s() {
        let ours = cluster("k1");
        for patch in [
            json!({"aud": ["https://kubernetes.default.svc"]}),
            json!({"aud": "oauth-operator-2"}),
            json!({"aud": null}),
            json!({"iss": "https://elsewhere.example"}),
            json!({"exp": 1_800_000_000}),
            json!({"exp": "never"}),
            json!({"nbf": 1_800_000_100}),
            json!({"sub": "system:serviceaccount:apps:admin"}),
            json!({"sub": "system:serviceaccount:kube-system:web"}),
            json!({"kubernetes.io": null}),
            json!({"kubernetes.io": {"namespace": "apps", "serviceaccount": {"name": "web", "uid": "s"}, "secret": {"name": "x", "uid": "y"}}}),
            json!({"kubernetes.io": {"namespace": "apps", "serviceaccount": {"name": "web", "uid": "s"}, "node": {"name": "x", "uid": "y"}}}),
        ] {
            assert_eq!(who(&ours, patch.clone()), None, "{patch}");
        }
        let theirs = cluster("k1");
        let forged = token(&theirs, Some("k1"), &json!({}));
        assert_eq!(verify(&forged, &ours.keys, "oauth-operator", now()), None, "signed by another key of the same name");
        assert_eq!(verify(&token(&ours, Some("k2"), &json!({})), &ours.keys, "oauth-operator", now()), None);
        // The public key as a shared secret, and no signature at all.
        let shared = EncodingKey::from_secret(b"anything");
        let hmac = encode(&Header { kid: Some("k1".into()), ..Header::default() }, &claims(&json!({})), &shared).unwrap();
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let none = format!("{}.{}.", part(json!({"alg": "none", "kid": "k1"})), part(claims(&json!({}))));
        for token in [hmac.as_str(), &none, "", "a.b.c", "nonsense"] {
            assert_eq!(verify(token, &ours.keys, "oauth-operator", now()), None, "{token}");
        }
    }
}
