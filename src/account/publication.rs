//! What is published: the contents of the token Secret, and the record read back from them. For a grant that spends
//! nothing the Secret itself is the record.

use super::Plan;
use crate::api::{CreationPolicy, DPoPStatus, ExpirySource, OAuthAccount, SecretType, TokenStatus, vocabulary as v};
use crate::expression::{self, Field, Variables};
use crate::oauth::{DPoPKey, Fault, FaultKind, Sensitive, Token, exposed, exposed_option, is_bound};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The part of a Secret that is ours to write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Decoded values by key.
    pub data: BTreeMap<String, Sensitive>,
}

impl Contents {
    /// Whether everything in `self` stands in `other` too: keys that others add to the Secret are theirs.
    pub fn stands_in(&self, other: &Self) -> bool {
        fn within<V: PartialEq>(mine: &BTreeMap<String, V>, theirs: &BTreeMap<String, V>) -> bool {
            mine.iter().all(|(key, value)| theirs.get(key) == Some(value))
        }
        within(&self.labels, &other.labels) && within(&self.annotations, &other.annotations) && within(&self.data, &other.data)
    }
}

/// Names that the user's template brought into the Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template {
    /// Names of labels.
    pub labels: BTreeSet<String>,
    /// Names of annotations.
    pub annotations: BTreeSet<String>,
    /// Names of keys.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub data: BTreeSet<String>,
}

impl Template {
    fn of(account: &OAuthAccount) -> Self {
        let secret = &account.spec.token_secret;
        Self {
            labels: secret.labels.keys().cloned().collect(),
            annotations: secret.annotations.keys().cloned().collect(),
            data: secret.data.keys().cloned().collect(),
        }
    }

    fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// What the template brought into these contents, by their own account; never a name of ours.
    fn in_contents(contents: &Contents) -> Self {
        let text = contents.annotations.get(v::TEMPLATE_ANNOTATION);
        let mut template: Self = text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        for names in [&mut template.labels, &mut template.annotations] {
            names.retain(|name| !name.starts_with(v::GROUP) && !name.starts_with("app.kubernetes.io/"));
        }
        // Of our own keys, one is there for some tokens only.
        template.data.retain(|name| name == v::DPOP_KEY || !v::OWN_KEYS.contains(&name.as_str()));
        template
    }

    /// What the template brought into the contents that are there and no longer asks for.
    pub fn obsolete(there: &Contents, wanted: &Contents) -> Self {
        let mut template = Self::in_contents(there);
        template.labels.retain(|name| !wanted.labels.contains_key(name));
        template.annotations.retain(|name| !wanted.annotations.contains_key(name));
        template.data.retain(|name| !wanted.data.contains_key(name));
        template
    }
}

/// Keys of the token Secret beside the token: what the user's templates make, and where the token may go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extra {
    templates: BTreeMap<String, expression::Template>,
    allowed_hosts: Vec<String>,
}

impl Extra {
    /// Understands the templates, and tries them with a token that is none: what cannot be made of any token is said before
    /// one is asked for. `fields` are those of the provider's reply that are kept beside the token, `hosts` those that the
    /// provider's tokens are meant for, where the account does not say.
    ///
    /// # Errors
    /// A sentence that names the key.
    pub fn of(account: &OAuthAccount, fields: &[String], hosts: &[String]) -> Result<Self, String> {
        let at = |key: &str, why: String| format!("spec.tokenSecret.data[{key}] cannot be used: {why}.");
        let parse = |(key, text): (&String, &String)| match expression::Template::parse(text) {
            Ok(template) => Ok((key.clone(), template)),
            Err(error) => Err(at(key, error.to_string())),
        };
        let templates = account.spec.token_secret.data.iter().map(parse).collect::<Result<_, _>>()?;
        let own = &account.spec.allowed_hosts;
        let extra = Self { templates, allowed_hosts: if own.is_empty() { hosts.to_vec() } else { own.clone() } };
        let scopes = if account.spec.scopes.is_empty() { vec!["scope".to_owned()] } else { account.spec.scopes.clone() };
        let docker = ".dockerconfigjson";
        let reply = fields.iter().map(|field| (field.clone(), "value".to_owned())).collect();
        let trial = variables(account, "token", "Bearer", "2026-01-01T00:00:00Z", &scopes, 1, &reply);
        match extra.render(&trial) {
            // The API server would refuse it.
            Ok(made) if account.spec.token_secret.type_ == SecretType::DockerConfigJSON && !is_object(made.get(docker)) => {
                Err(at(docker, "it is no JSON object".into()))
            }
            Ok(_) => Ok(extra),
            Err((key, why)) => Err(at(&key, why)),
        }
    }

    /// Where the token may go; none: anywhere.
    pub fn allowed_hosts(&self) -> &[String] {
        &self.allowed_hosts
    }

    fn render(&self, variables: &Variables) -> Result<BTreeMap<String, Sensitive>, (String, String)> {
        let one = |(key, template): (&String, &expression::Template)| match template.render(variables) {
            Ok(text) => Ok((key.clone(), Sensitive::new(text))),
            Err(error) => Err((key.clone(), error.to_string())),
        };
        self.templates.iter().map(one).collect()
    }
}

fn is_object(text: Option<&Sensitive>) -> bool {
    text.is_some_and(|text| serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text.expose()).is_ok())
}

/// What templates may refer to: what may be said of the token, the token, and the account; no refresh token, no secret.
fn variables(
    account: &OAuthAccount,
    access_token: &str,
    token_type: &str,
    expires_at: &str,
    scopes: &[String],
    generation: i64,
    reply: &BTreeMap<String, String>,
) -> Variables {
    let text = |text: &str| Field::Text(text.to_owned());
    let token = vec![
        ("accessToken", text(access_token)),
        ("tokenType", text(token_type)),
        ("expiresAt", text(expires_at)),
        ("scope", Field::Text(scopes.join(" "))),
        ("scopes", Field::List(scopes.to_vec())),
        ("generation", Field::Number(generation)),
        ("reply", Field::Map(reply.clone())),
    ];
    let metadata = &account.metadata;
    let account = vec![
        ("name", text(metadata.name.as_deref().unwrap_or_default())),
        ("namespace", text(metadata.namespace.as_deref().unwrap_or_default())),
    ];
    Variables::default().with("token", token).with("account", account)
}

/// A token with what is known of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The access token.
    #[serde(with = "exposed")]
    pub access_token: Sensitive,
    /// Private key that it is bound to, PEM: without proofs by it the token is of no use (RFC 9449 §7).
    #[serde(default, with = "exposed_option", skip_serializing_if = "Option::is_none")]
    pub dpop_key: Option<Sensitive>,
    /// What may be said of it.
    pub public: TokenStatus,
    /// Digest of the request it answers.
    pub request_digest: String,
}

impl Record {
    /// The record of a token just issued to a request sent at `sent`, which has proved this key. A provider that binds
    /// nothing to it calls the token `Bearer` (RFC 9449 §5).
    pub fn issued(token: &Token, plan: &Plan, generation: i64, sent: Timestamp, proved: Option<&Sensitive>) -> Self {
        let dpop = proved.filter(|_| is_bound(&token.token_type)).and_then(dpop_status);
        let dpop_key = proved.filter(|_| dpop.is_some()).cloned();
        let public = TokenStatus {
            expiration_time: Time(token.expiry.at),
            issued_time: Time(whole_second(sent)),
            generation,
            scopes: token.scopes.clone().unwrap_or_else(|| plan.scopes.clone()),
            token_type: token.token_type.clone(),
            expiry_source: token.expiry.source,
            fingerprint: token.access_token.fingerprint(),
            dpop,
            refresh_time: token.refresh_at.map(Time),
            earliest_refresh_time: token.earliest_refresh_at.map(Time),
            reply: token.extra.clone(),
        };
        Self { access_token: token.access_token.clone(), dpop_key, public, request_digest: plan.request_digest() }
    }

    /// Whether it is a valid token of the kind that is asked for.
    pub fn answers(&self, plan: &Plan, now: Timestamp) -> bool {
        self.request_digest == plan.request_digest() && self.public.expiration_time.0 > now
    }

    /// What the token Secret must hold, with the keys that the user's templates make.
    ///
    /// # Errors
    /// [`FaultKind::TemplateFailed`], naming the key.
    pub fn published(&self, account: &OAuthAccount, extra: &Extra) -> Result<Contents, Fault> {
        let mut contents = self.contents(account);
        let public = &self.public;
        let expires_at = public.expiration_time.0.to_string();
        let (token, type_) = (self.access_token.expose(), &public.token_type);
        let variables = variables(account, token, type_, &expires_at, &public.scopes, public.generation, &public.reply);
        let rendered = extra.render(&variables).map_err(|(key, why)| {
            let message = format!("The token cannot be published: spec.tokenSecret.data[{key}] cannot be made of it: {why}.");
            Fault::new(FaultKind::TemplateFailed, message)
        })?;
        contents.data.insert(v::ALLOWED_HOSTS_KEY.to_owned(), Sensitive::new(extra.allowed_hosts.join("\n")));
        contents.data.extend(rendered);
        Ok(contents)
    }

    /// What the token Secret must hold of ours.
    pub fn contents(&self, account: &OAuthAccount) -> Contents {
        let text = |value: &str| Sensitive::new(value);
        let mut data = BTreeMap::from([
            (v::ACCESS_TOKEN_KEY.to_owned(), self.access_token.clone()),
            (v::TOKEN_TYPE_KEY.to_owned(), text(&self.public.token_type)),
            (v::EXPIRES_AT_KEY.to_owned(), text(&self.public.expiration_time.0.to_string())),
            (v::SCOPE_KEY.to_owned(), text(&self.public.scopes.join(" "))),
            (v::GENERATION_KEY.to_owned(), text(&self.public.generation.to_string())),
        ]);
        data.insert(v::ALLOWED_HOSTS_KEY.to_owned(), text(&account.spec.allowed_hosts.join("\n")));
        let mut template = Template::of(account);
        if let Some(key) = &self.dpop_key {
            data.insert(v::DPOP_KEY.to_owned(), key.clone());
            // So that it goes when a token comes that is bound to none.
            template.data.insert(v::DPOP_KEY.to_owned());
        }
        let mut labels = account.spec.token_secret.labels.clone();
        // A Secret that is somebody else's is not called ours: their tools go by these.
        if account.spec.token_secret.creation_policy != CreationPolicy::Merge {
            labels.insert(v::NAME_LABEL.into(), v::MANAGER.into());
            labels.insert(v::MANAGED_BY_LABEL.into(), v::MANAGER.into());
            labels.insert(v::COMPONENT_LABEL.into(), v::TOKEN_COMPONENT.into());
        }
        labels.insert(v::ACCOUNT_UID_LABEL.into(), account.metadata.uid.clone().unwrap_or_default());
        let mut annotations = account.spec.token_secret.annotations.clone();
        annotations.insert(v::ACCOUNT_ANNOTATION.into(), account.metadata.name.clone().unwrap_or_default());
        annotations.insert(v::ISSUED_ANNOTATION.into(), self.public.issued_time.0.to_string());
        annotations.insert(v::EXPIRY_SOURCE_ANNOTATION.into(), format!("{:?}", self.public.expiry_source));
        annotations.insert(v::REQUEST_DIGEST_ANNOTATION.into(), self.request_digest.clone());
        if !self.public.reply.is_empty() {
            annotations.insert(v::REPLY_ANNOTATION.into(), serde_json::to_string(&self.public.reply).unwrap_or_default());
        }
        if let Some(hints) = hints(&self.public) {
            annotations.insert(v::REFRESH_HINTS_ANNOTATION.into(), hints);
        }
        annotations.insert(v::TEMPLATE_ANNOTATION.into(), template.to_text());
        Contents { labels, annotations, data }
    }

    /// Reads a record back. `reported` is what status last said: where it speaks of this very token, its word counts
    /// and edits to the Secret do not. A Secret one generation ahead was written by an operator that died before it
    /// could report. `None`: somebody has changed it, or it never was whole.
    pub fn read(contents: &Contents, reported: Option<&TokenStatus>) -> Option<Self> {
        let text = |key: &str| contents.data.get(key).map(Sensitive::expose);
        let note = |key: &str| contents.annotations.get(key);
        let access_token = contents.data.get(v::ACCESS_TOKEN_KEY).filter(|token| !token.expose().is_empty())?.clone();
        let generation: i64 = text(v::GENERATION_KEY)?.parse().ok()?;
        let fingerprint = access_token.fingerprint();
        let dpop_key = contents.data.get(v::DPOP_KEY);
        let dpop = dpop_key.and_then(dpop_status);
        let public = match reported {
            Some(reported) if reported.generation == generation => {
                // Its key is as much of it as the token.
                let bound = reported.dpop.is_none() || reported.dpop == dpop;
                (reported.fingerprint == fingerprint && bound).then(|| reported.clone())?
            }
            Some(reported) if reported.generation.checked_add(1) != Some(generation) => return None,
            // Its key is gone, and it is of no use without.
            _ if text(v::TOKEN_TYPE_KEY).is_some_and(is_bound) && dpop.is_none() => return None,
            _ => TokenStatus {
                expiration_time: Time(text(v::EXPIRES_AT_KEY)?.parse().ok()?),
                issued_time: Time(note(v::ISSUED_ANNOTATION)?.parse().ok()?),
                generation,
                scopes: text(v::SCOPE_KEY)?.split_ascii_whitespace().map(str::to_owned).collect(),
                token_type: text(v::TOKEN_TYPE_KEY)?.to_owned(),
                expiry_source: expiry_source(note(v::EXPIRY_SOURCE_ANNOTATION)?)?,
                fingerprint,
                dpop: dpop.filter(|_| text(v::TOKEN_TYPE_KEY).is_some_and(is_bound)),
                refresh_time: hint(note(v::REFRESH_HINTS_ANNOTATION), 0),
                earliest_refresh_time: hint(note(v::REFRESH_HINTS_ANNOTATION), 1),
                reply: note(v::REPLY_ANNOTATION).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default(),
            },
        };
        // What status could not tell is not believed: nothing would ever be said again.
        let within = public.token_type.len() <= 64
            && public.scopes.len() <= 256
            && public.scopes.iter().all(|scope| scope.len() <= 1024)
            && public.reply.len() <= 16
            && public.reply.iter().all(|(name, value)| name.len() <= 256 && value.len() <= 1024)
            && (0..=9_007_199_254_740_991).contains(&public.generation);
        if !within {
            return None;
        }
        let dpop_key = dpop_key.filter(|_| public.dpop.is_some()).cloned();
        let request_digest = note(v::REQUEST_DIGEST_ANNOTATION).cloned().unwrap_or_default();
        Some(Self { access_token, dpop_key, public, request_digest })
    }
}

/// What may be said of a key; none where it is none.
fn dpop_status(key: &Sensitive) -> Option<DPoPStatus> {
    let key = DPoPKey::read(key).ok()?;
    Some(DPoPStatus { algorithm: key.algorithm(), thumbprint: key.thumbprint() })
}

fn hints(token: &TokenStatus) -> Option<String> {
    let hints = [&token.refresh_time, &token.earliest_refresh_time];
    let text = |hint: &Option<Time>| hint.as_ref().map_or_else(|| "-".to_owned(), |time| time.0.to_string());
    hints.iter().any(|hint| hint.is_some()).then(|| hints.map(text).join(" "))
}

fn hint(hints: Option<&String>, number: usize) -> Option<Time> {
    hints?.split(' ').nth(number)?.parse().ok().map(Time)
}

fn expiry_source(name: &str) -> Option<ExpirySource> {
    serde_json::from_value(serde_json::Value::String(name.to_owned())).ok()
}

/// Status and Secret speak in whole seconds.
fn whole_second(moment: Timestamp) -> Timestamp {
    Timestamp::from_second(moment.as_second()).unwrap_or(moment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::seen::tests::{account, record};
    use serde_json::json;

    #[test]
    fn a_record_survives_the_way_through_the_secret() {
        let record = record(1, 3600);
        let contents = record.contents(&account(&json!({})));
        assert_eq!(Record::read(&contents, None), Some(record.clone()));
        assert_eq!(Record::read(&contents, Some(&record.public)), Some(record));
    }

    #[test]
    fn the_provider_s_hints_survive_it_too() {
        let mut record = record(1, 3600);
        record.public.earliest_refresh_time = Some(Time(crate::account::seen::tests::at(60)));
        assert_eq!(Record::read(&record.contents(&account(&json!({}))), None), Some(record));
    }

    #[test]
    fn an_edited_token_is_no_record() {
        let record = record(1, 3600);
        let mut contents = record.contents(&account(&json!({})));
        contents.data.insert(v::ACCESS_TOKEN_KEY.into(), Sensitive::new("forged"));
        assert_eq!(Record::read(&contents, Some(&record.public)), None);
    }

    #[test]
    fn an_edited_expiry_does_not_count_against_status() {
        let record = record(1, 3600);
        let mut contents = record.contents(&account(&json!({})));
        contents.data.insert(v::EXPIRES_AT_KEY.into(), Sensitive::new("2099-01-01T00:00:00Z"));
        assert_eq!(Record::read(&contents, Some(&record.public)), Some(record));
    }

    #[test]
    fn one_generation_ahead_is_a_crash_and_two_are_a_forgery() {
        let (old, new, far) = (record(1, 3600), record(2, 7200), record(3, 7200));
        let account = account(&json!({}));
        assert_eq!(Record::read(&new.contents(&account), Some(&old.public)), Some(new));
        assert_eq!(Record::read(&far.contents(&account), Some(&old.public)), None);
        assert_eq!(Record::read(&old.contents(&account), Some(&far.public)), None);
    }

    #[test]
    fn what_status_could_not_tell_is_no_record() {
        let whole = record(1, 3600).contents(&account(&json!({})));
        for (key, value) in
            [(v::TOKEN_TYPE_KEY, "x".repeat(65)), (v::SCOPE_KEY, "x ".repeat(257)), (v::GENERATION_KEY, i64::MAX.to_string())]
        {
            let mut contents = whole.clone();
            contents.data.insert(key.into(), Sensitive::new(value));
            assert_eq!(Record::read(&contents, None), None, "{key}");
        }
    }

    #[test]
    fn a_missing_key_is_no_record() {
        let record = record(1, 3600);
        let whole = record.contents(&account(&json!({})));
        for key in [v::ACCESS_TOKEN_KEY, v::GENERATION_KEY, v::EXPIRES_AT_KEY, v::TOKEN_TYPE_KEY, v::SCOPE_KEY] {
            let mut contents = whole.clone();
            contents.data.remove(key);
            assert_eq!(Record::read(&contents, None), None, "{key}");
        }
    }

    /// A token that is bound to a key of its own.
    fn bound(generation: i64) -> Record {
        let key = crate::oauth::assertion_tests::key();
        let plain = record(generation, 3600);
        let public = TokenStatus { token_type: "dpop".into(), dpop: dpop_status(&key), ..plain.public };
        Record { dpop_key: Some(key), public, ..plain }
    }

    #[test]
    fn a_key_survives_the_way_through_the_secret_and_is_no_use_to_another_token() {
        let (record, account) = (bound(1), account(&json!({})));
        let contents = record.contents(&account);
        assert_eq!(contents.data[v::DPOP_KEY], record.dpop_key.clone().unwrap());
        assert_eq!(Record::read(&contents, None), Some(record.clone()));
        assert_eq!(Record::read(&contents, Some(&record.public)), Some(record.clone()));
        for damage in [None, Some("scribbled".to_owned()), Some(bound(1).dpop_key.unwrap().expose().to_owned())] {
            let mut other = contents.clone();
            other.data.remove(v::DPOP_KEY);
            other.data.extend(damage.clone().map(|text| (v::DPOP_KEY.to_owned(), Sensitive::new(text))));
            assert_eq!(Record::read(&other, Some(&record.public)), None, "{damage:?}");
            let unreported = Record::read(&other, None);
            assert_eq!(unreported.is_some(), damage.as_ref().is_some_and(|text| text.starts_with("-----")), "{damage:?}");
        }
        let mut plain = super::super::seen::tests::record(1, 3600).contents(&account);
        plain.data.insert(v::DPOP_KEY.into(), record.dpop_key.unwrap());
        assert_eq!(Record::read(&plain, None).unwrap().dpop_key, None, "a bearer token is bound to none");
    }

    #[test]
    fn a_key_goes_with_its_token_and_one_of_somebody_else_s_does_not() {
        let account = account(&json!({}));
        let (there, wanted) = (bound(1).contents(&account), record(2, 3600).contents(&account));
        assert!(Template::obsolete(&there, &wanted).data.contains(v::DPOP_KEY));
        assert_eq!(Template::obsolete(&there, &bound(2).contents(&account)), Template::default());
        let mut theirs = record(1, 3600).contents(&account);
        theirs.data.insert(v::DPOP_KEY.into(), Sensitive::new("their own"));
        assert_eq!(Template::obsolete(&theirs, &wanted), Template::default());
    }

    #[test]
    fn keys_of_others_do_not_disturb() {
        let contents = record(1, 3600).contents(&account(&json!({})));
        let mut more = contents.clone();
        more.labels.insert("team".into(), "a".into());
        more.data.insert("extra".into(), Sensitive::new("x"));
        assert!(contents.stands_in(&more));
        more.data.remove(v::SCOPE_KEY);
        assert!(!contents.stands_in(&more));
    }
}
