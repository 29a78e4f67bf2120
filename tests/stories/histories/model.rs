//! What must be true of each account when nothing is in its way any more.

use crate::testbed::Result;
use crate::testbed::authorization_server::{AuthorizationServer, Client};
use crate::testbed::story::{Story, account, login, merge};
use k8s_openapi::api::core::v1::Secret;
use oauth_operator::api::{OAuthAccount, OAuthAccountStatus};
use oauth_operator::oauth::Sensitive;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// What went wrong on purpose between two moments of quiet.
#[derive(Default)]
pub struct Chapter {
    /// How much.
    pub faults: usize,
    /// A reply of the provider's may have reached nobody.
    pub doubts: bool,
}

/// One account, as its user wants it.
pub struct Slot {
    pub name: String,
    pub client: Client,
    /// Its refresh token is spent by use; otherwise it has client credentials.
    pub rotates: bool,
    /// Refresh tokens that somebody gave it, the newest last.
    pub seeds: Vec<String>,
    pub exists: bool,
    pub suspended: bool,
    /// Its Secret has another name than the usual one.
    pub elsewhere: bool,
    pub greeting: u8,
    pub retain: bool,
    /// Since the last quiet: things that may cost a token request each.
    pub triggers: u64,
    /// Nobody knows whether its refresh token was spent.
    pub doubt: bool,
    /// Its login is gone.
    pub lost: bool,
    /// Since the last quiet: how often somebody asked for a refresh. In doubt, that is leave to post what may have been spent: once each.
    asked: usize,
    /// Since the last quiet it may have been in doubt.
    doubtful: bool,
    /// Leave that was given before.
    leave: usize,
    /// Token requests at the last quiet.
    requests: u64,
    /// Was suspended at the last quiet, and ever since.
    still: bool,
    /// Whether its Secret was marked to stay or to go at the last quiet; otherwise nobody can say.
    marked: Option<bool>,
    /// A Secret that was to stay may stand under its other name: it is nobody's to delete.
    left: bool,
    /// A token newer than this one is wanted.
    newer_than: Option<i64>,
    /// Generation of its token at the last quiet.
    generation: i64,
}

impl Slot {
    pub fn new(name: String, client: Client, rotates: bool) -> Self {
        Self {
            name,
            client,
            rotates,
            seeds: vec![],
            exists: false,
            suspended: false,
            elsewhere: false,
            greeting: 0,
            retain: false,
            triggers: 0,
            doubt: false,
            lost: false,
            asked: 0,
            doubtful: false,
            leave: 0,
            requests: 0,
            still: false,
            marked: Some(false),
            left: false,
            newer_than: None,
            generation: 0,
        }
    }

    fn secrets(&self) -> [String; 2] {
        ["token", "elsewhere"].map(|place| format!("{}-{place}", self.name))
    }

    pub fn secret(&self) -> String {
        let [usual, elsewhere] = self.secrets();
        if self.elsewhere { elsewhere } else { usual }
    }

    pub fn appears(&mut self, story: &Story<'_>) -> Result<()> {
        self.clear(story)?;
        (self.exists, self.still, self.marked) = (true, false, None);
        self.triggers += 1;
        Ok(())
    }

    /// Where nobody could say whether a Secret would stay, somebody clears away.
    fn clear(&mut self, story: &Story<'_>) -> Result<()> {
        if self.marked != Some(true) {
            let [one, other] = self.secrets();
            story.kubectl().run(&["delete", "secret", &one, &other, "--ignore-not-found"])?;
            (self.marked, self.left) = (Some(false), false);
        }
        Ok(())
    }

    pub fn moves(&mut self, story: &Story<'_>) -> Result<()> {
        self.elsewhere = !self.elsewhere;
        if self.left {
            // An old one that was to stay is in the way of one that is to go.
            story.kubectl().run(&["delete", "secret", &self.secret(), "--ignore-not-found"])?;
        }
        self.left |= self.retain || self.marked != Some(false);
        self.is_touched();
        Ok(())
    }

    pub fn marks(&mut self) {
        self.retain = !self.retain;
        self.left |= self.marked.is_none();
    }

    /// Something happens to its Secret, which may cost a token request.
    pub fn is_touched(&mut self) {
        self.triggers += 1;
        self.marked = None;
    }

    pub fn goes(&mut self) {
        (self.exists, self.still, self.newer_than, self.generation) = (false, false, None, 0);
        self.marked = self.marked.filter(|marked| *marked == self.retain);
        // The record of its login stays for the next account of that name, and nobody looks at it until then.
        self.doubt |= self.rotates;
    }

    pub fn suspend(&mut self) {
        self.suspended = !self.suspended;
        self.still = false;
        // What was put off is made up for.
        self.triggers += 1;
    }

    pub fn asks(&mut self) {
        self.triggers += 1;
        self.asked += 1;
        self.newer_than = Some(self.generation);
    }

    pub fn apply(&self, story: &Story<'_>, provider: &Value) -> Result<()> {
        let mut token_secret = json!({"name": self.secret()});
        if self.greeting > 0 {
            let greeting = format!("{} ${{token.accessToken}}", self.greeting);
            merge(&mut token_secret, &json!({"data": {"greeting": greeting}}));
        }
        if self.retain {
            merge(&mut token_secret, &json!({"deletionPolicy": "Retain"}));
        }
        let patch = json!({"suspend": self.suspended, "tokenSecret": token_secret});
        let object = if self.rotates {
            let seed = self.seeds.last().ok_or("a login without a seed")?;
            story.secret(&format!("{}-seed", self.name), &[("refresh_token", seed)])?;
            login(&self.name, provider, &self.client, &patch)
        } else {
            story.secret(&format!("{}-client", self.name), &[("client_secret", &self.client.secret)])?;
            account(&self.name, provider, &self.client, &patch)
        };
        story.kubectl().apply(&object.to_string()).map(drop)
    }

    /// A chapter begins: what is so now is what the next one is compared with.
    pub async fn turns_the_page(&mut self, story: &Story<'_>, provider: &AuthorizationServer) -> Result<()> {
        self.requests = requests(provider, &self.client).await?;
        self.leave += if self.doubtful { self.asked } else { 0 };
        (self.asked, self.doubtful) = (0, false);
        (self.still, self.triggers, self.newer_than) =
            (self.exists && self.suspended, 0, self.newer_than.filter(|_| self.suspended));
        if self.exists { Ok(()) } else { self.clear(story) }
    }
}

async fn requests(provider: &AuthorizationServer, client: &Client) -> Result<u64> {
    let (issued, refused) = provider.token_requests(client).await?;
    Ok(issued + refused)
}

/// Token requests of all.
pub async fn posted(provider: &AuthorizationServer, slots: &[Slot]) -> Result<u64> {
    let mut all = 0;
    for slot in slots {
        all += requests(provider, &slot.client).await?;
    }
    Ok(all)
}

fn by_name<T: DeserializeOwned>(story: &Story<'_>, resource: &str) -> Result<BTreeMap<String, T>> {
    let list: Value = serde_json::from_str(&story.kubectl().run(&["get", resource, "-o", "json"])?)?;
    let items = list["items"].as_array().cloned().unwrap_or_default();
    items
        .into_iter()
        .map(|item| Ok((item["metadata"]["name"].as_str().unwrap_or_default().to_owned(), serde_json::from_value(item)?)))
        .collect()
}

fn key(secret: &Secret, name: &str) -> Option<String> {
    String::from_utf8(secret.data.as_ref()?.get(name)?.0.clone()).ok()
}

fn is_true(status: &OAuthAccountStatus, type_: &str) -> bool {
    status.conditions.iter().any(|condition| condition.type_ == type_ && condition.status == "True")
}

/// What is not, or not yet, as it must be.
pub async fn wrong(
    story: &Story<'_>,
    provider: &AuthorizationServer,
    slots: &mut [Slot],
    chapter: &Chapter,
) -> Result<Option<String>> {
    let mut accounts: BTreeMap<String, OAuthAccount> = by_name(story, "oauthaccounts")?;
    let secrets: BTreeMap<String, Secret> = by_name(story, "secrets")?;
    let mut expected = BTreeSet::new();
    for slot in &mut *slots {
        let name = slot.name.clone();
        slot.doubtful |= chapter.doubts || slot.doubt;
        // What may never be is an error at once.
        once(provider, slot).await?;
        let made = requests(provider, &slot.client).await? - slot.requests;
        if slot.still && made > 0 {
            return Err(format!("{name} is suspended, and there were {made} token requests").into());
        }
        if chapter.faults == 0 && made > slot.triggers {
            return Err(format!("{name}: {made} token requests for {} reasons", slot.triggers).into());
        }
        expected.extend([format!("{name}-seed"), format!("{name}-client")]);
        if slot.left {
            expected.extend(slot.secrets());
        }
        let Some(account) = accounts.remove(&name) else {
            if slot.exists {
                return Err(format!("{name} is gone").into());
            }
            match slot.marked {
                Some(true) => expected.extend([slot.secret()]),
                Some(false) => {}
                None => expected.extend(slot.secrets()),
            }
            if slot.marked == Some(true) && !secrets.contains_key(&slot.secret()) {
                return Err(format!("{name}: its Secret had to stay").into());
            }
            continue;
        };
        if !slot.exists {
            return Ok(Some(format!("{name} does not go")));
        }
        expected.insert(slot.secret());
        let status = account.status.unwrap_or_default();
        if status.observed_generation != account.metadata.generation {
            return Ok(Some(format!("{name}: its newest spec is not observed")));
        }
        if slot.suspended {
            // Nothing follows a new name until it goes on.
            expected.extend(slot.secrets());
            slot.marked = None;
            slot.doubt |= slot.rotates && chapter.doubts;
            continue;
        }
        if let Some(wrong) = as_wanted(provider, slot, &status, secrets.get(&slot.secret()), chapter).await? {
            return Ok(Some(format!("{name}: {wrong}: {}", json!(status))));
        }
    }
    let strange: Vec<_> = secrets.keys().filter(|name| !expected.contains(*name)).collect();
    Ok(if strange.is_empty() { None } else { Some(format!("nobody wants these Secrets: {strange:?}")) })
}

/// No refresh token came to the provider twice, but one that somebody gave, while there was nothing to lose, and where somebody
/// asked for it.
async fn once(provider: &AuthorizationServer, slot: &Slot) -> Result<()> {
    let seeds: BTreeSet<_> = slot.seeds.iter().map(|seed| Sensitive::new(seed.as_str()).fingerprint()).collect();
    let mut seen = BTreeSet::new();
    let mut leave = slot.leave + if slot.doubtful { slot.asked } else { 0 };
    let redemptions = provider.redemptions(&slot.client).await?;
    for (digest, status) in &redemptions {
        let again = !seen.insert(digest);
        let unasked = !seeds.contains(digest) && (again || *status != 200);
        if unasked && again && leave > 0 {
            leave -= 1;
        } else if unasked {
            let (name, all) = (&slot.name, json!({"given": seeds, "redeemed": redemptions}));
            return Err(format!("{name}: refresh token {digest} came again, or for nothing: HTTP {status}: {all}").into());
        }
    }
    Ok(())
}

/// Of an account that is not suspended.
async fn as_wanted(
    provider: &AuthorizationServer,
    slot: &mut Slot,
    status: &OAuthAccountStatus,
    secret: Option<&Secret>,
    chapter: &Chapter,
) -> Result<Option<String>> {
    let (doubt, lost) = (is_true(status, "RefreshOutcomeUnknown"), is_true(status, "ReauthorizationRequired"));
    if (doubt || lost) && !(slot.rotates && (chapter.doubts || slot.doubt || slot.lost)) {
        return Err(format!("{}: a login was lost and nothing had happened: {}", slot.name, json!(status)).into());
    }
    if lost {
        (slot.lost, slot.doubt, slot.marked) = (true, false, None);
        return Ok(None);
    }
    if !is_true(status, "Ready") {
        return Ok(Some("it is not ready".into()));
    }
    let Some(secret) = secret else { return Ok(Some("its Secret is not there".into())) };
    let Some(token) = key(secret, "access_token") else { return Ok(Some("its Secret has no token".into())) };
    // A gamble that was lost ends the whole login at this provider; its reply may have been lost too.
    let gambled = doubt && slot.leave + slot.asked > 0;
    if !gambled && provider.introspect(&slot.client, &token).await?["active"] != json!(true) {
        return Ok(Some("its token is not one of the provider's".into()));
    }
    let generation = status.token.as_ref().map_or(0, |token| token.generation);
    if key(secret, "generation") != Some(generation.to_string()) {
        return Ok(Some("status tells of another token".into()));
    }
    let greeting = (slot.greeting > 0).then(|| format!("{} {token}", slot.greeting));
    if key(secret, "greeting") != greeting {
        return Ok(Some("its greeting is not as it was asked for".into()));
    }
    if !key(secret, "expires_at").is_some_and(|moment| moment.ends_with('Z')) {
        return Ok(Some("nobody sees when it expires".into()));
    }
    if secret.metadata.owner_references.as_ref().is_some_and(|owners| !owners.is_empty()) == slot.retain {
        return Ok(Some(format!("it is to stay or to go, and is not marked so: {}", json!(secret.metadata))));
    }
    // A wish is tried once.
    if !doubt && !chapter.doubts && slot.newer_than.is_some_and(|before| generation <= before) {
        return Ok(Some("a newer token was asked for".into()));
    }
    if generation < slot.generation {
        return Err(format!("{}: generation {} came before {generation}", slot.name, slot.generation).into());
    }
    (slot.doubt, slot.lost, slot.marked, slot.generation) = (doubt, false, Some(slot.retain), generation);
    Ok(None)
}
