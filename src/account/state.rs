//! The operator's own record of a login whose refresh token is spent by its use: what is held, what is about to be spent,
//! and what must never be posted again. Every change of it is a function here; it lives in a Secret of the operator's.

use super::Record;
use super::demand::Demand;
use super::login::{Credential, CredentialKind, Login, Registration, Source};
use super::revocation::Revocation;
use crate::api::{StatePolicy, Trigger};
use crate::oauth::{Sensitive, Token, exposed};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// How long an intent binds others: longer than an exchange may take (20 s) and what comes before and after it.
pub const INTENT_LIFETIME: SignedDuration = SignedDuration::from_secs(45);
/// Refresh tokens that are remembered as refused, and as spent.
const TOMBSTONES: usize = 16;

/// A refresh that is about to be made or was: written before a byte is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Intent {
    /// Unlike that of any other.
    pub id: String,
    /// Digest of the refresh token that is spent.
    pub digest: String,
    /// When it was written.
    pub started: Timestamp,
    /// Until when it binds others, by its holder's clock: what others go by is when they saw it first.
    pub deadline: Timestamp,
    /// Instance that wrote it (`--identity`).
    pub holder: String,
    /// Why the refresh is made.
    pub trigger: Trigger,
    /// The request of a person's that it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested: Option<Timestamp>,
    /// Key that seals its reply in the journal: 64 hex digits.
    #[serde(with = "exposed")]
    pub journal_key: Sensitive,
}

/// The account a state belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID: another account of this name adopts the state only with the same seed.
    pub uid: String,
}

/// The record of one login.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Whose it is.
    pub account: Account,
    /// Whom it was made with.
    pub login: Login,
    /// The refresh token that is held; none: it is dead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<Credential>,
    /// The refresh token that a new seed has displaced, until the new one has proved itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub displaced: Option<Credential>,
    /// Digest of the refresh token that was imported last.
    pub seed_digest: String,
    /// Counts the tokens of the account.
    pub generation: i64,
    /// The access token obtained last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<Record>,
    /// The refresh under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<Intent>,
    /// Id of the intent that was settled last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled: Option<String>,
    /// The request of a person's that was answered last, so that a crash before status says so does not answer it twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<Timestamp>,
    /// Digests of refresh tokens that were refused: they are never posted again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tombstones: Vec<String>,
    /// Digests of refresh tokens that were spent here, and replaced: they are never posted again either.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spent: Vec<String>,
    /// Whose login it is, once the provider has said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// When the login was made: the first token came of what was imported last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// The client that the provider has registered for us.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration: Option<Registration>,
    /// What is told to the provider when the account goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation: Option<Revocation>,
    /// Annotation `token-hosts` of each seed when it was last read, with the Secret's name: it binds also when the seed is
    /// gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub token_hosts: Vec<(String, Option<String>)>,
    /// What becomes of this record when the account is gone.
    #[serde(default)]
    pub policy: StatePolicy,
    /// The last time that somebody wanted another token before its time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub demand: Option<Demand>,
    /// UID of the Secret that it was first written over: in a Secret of another one it is a copy, put there from a backup. Whatever
    /// is obtained with it makes it an original.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<String>,
}

impl State {
    /// The state of a refresh token just read from a seed. `prior` is what is there already: its token is displaced where it
    /// is of the same login and account, its tombstones and its subject go on.
    pub fn imported(account: Account, login: Login, seed: Credential, generation: i64, prior: Option<&Self>) -> Self {
        let same = prior.filter(|prior| prior.account.uid == account.uid && prior.login == login);
        // One that was displaced before is older still; the seed in between has not proved itself.
        let held = same.and_then(|prior| prior.credential.clone().filter(Credential::is_refresh_token));
        let displaced = same.and_then(|prior| prior.displaced.clone()).or(held);
        Self {
            login,
            seed_digest: seed.refresh_token.digest(),
            credential: Some(seed),
            displaced,
            generation: generation.max(prior.map_or(0, |prior| prior.generation)),
            record: same.and_then(|prior| prior.record.clone()),
            intent: None,
            settled: None,
            answered: prior.and_then(|prior| prior.answered),
            tombstones: prior.map(|prior| prior.tombstones.clone()).unwrap_or_default(),
            spent: prior.map(|prior| prior.spent.clone()).unwrap_or_default(),
            subject: same.and_then(|prior| prior.subject.clone()),
            since: same.and_then(|prior| prior.since),
            registration: prior.and_then(|prior| prior.registration.clone()),
            revocation: None,
            token_hosts: vec![],
            policy: StatePolicy::default(),
            home: None,
            demand: prior.filter(|prior| prior.account.uid == account.uid).and_then(|prior| prior.demand.clone()),
            account,
        }
    }

    /// The state before there is a login. `prior` is what is there already.
    pub fn begun(account: Account, login: Login, generation: i64, prior: Option<&Self>) -> Self {
        let nothing = Credential::seed(&Sensitive::new(""), CredentialKind::RefreshToken);
        let state = Self::imported(account, login, nothing, generation, prior);
        let seed_digest = prior.map(|prior| prior.seed_digest.clone()).unwrap_or_default();
        Self { credential: None, displaced: None, seed_digest, ..state }
    }

    /// Digest of the refresh token that is held.
    pub fn digest(&self) -> Option<String> {
        self.credential.as_ref().map(|credential| credential.refresh_token.digest())
    }

    /// Whether this refresh token was refused, or spent and replaced.
    pub fn is_dead(&self, refresh_token: &Sensitive) -> bool {
        let digest = refresh_token.digest();
        self.tombstones.contains(&digest) || self.spent.contains(&digest)
    }

    /// With the intent to spend what is held.
    #[must_use]
    pub fn armed(mut self, intent: Intent) -> Self {
        self.intent = Some(intent);
        self
    }

    /// Nothing was sent, or the provider refused before it looked at the refresh token: it goes on.
    #[must_use]
    pub fn unspent(self) -> Self {
        self.settle()
    }

    /// It was sent and no answer came: since the intent was written, nobody knows. A code works once, and sent twice it ends
    /// what came of the first time (RFC 6749 §4.1.2): it is given up.
    #[must_use]
    pub fn doubted(mut self) -> Self {
        if self.credential.as_ref().is_some_and(|credential| !credential.is_refresh_token()) {
            return self.rejected();
        }
        let since = self.intent.as_ref().map(|intent| intent.started);
        if let Some(credential) = &mut self.credential {
            credential.doubt = credential.doubt.or(since);
        }
        self.settle()
    }

    /// It was refused: never again. What it had displaced takes its place.
    #[must_use]
    pub fn rejected(mut self) -> Self {
        if let Some(dead) = self.credential.take() {
            remember(&mut self.tombstones, &dead);
        }
        self.credential = self.displaced.take();
        self.settle()
    }

    /// It was spent, and the reply's refresh token takes its place; where there is none, it goes on itself (RFC 6749 §6), but
    /// for a code, which works once.
    #[must_use]
    pub fn spent(mut self, successor: Option<Sensitive>, token: Option<&Token>) -> Self {
        if let Some(mut credential) = self.credential.take() {
            let seed = credential.source == Source::Seed;
            credential.doubt = None;
            let successor = successor.filter(|successor| *successor != credential.refresh_token);
            self.credential = match successor {
                Some(successor) => {
                    remember(&mut self.spent, &credential);
                    let kind = CredentialKind::RefreshToken;
                    let dpop_key = credential.dpop_key;
                    Some(Credential { dpop_key, source: Source::Reply, ..Credential::seed(&successor, kind) })
                }
                None if credential.is_refresh_token() => Some(credential),
                None => {
                    remember(&mut self.spent, &credential);
                    None
                }
            };
            if let (Some(held), Some(token)) = (&mut self.credential, token) {
                held.expires = token.refresh_token_expires.or(held.expires);
            }
            if seed {
                self.since = self.intent.as_ref().map(|intent| intent.started).or(self.since);
            }
        }
        self.displaced = None;
        self.home = None;
        self.subject = token.and_then(|token| token.subject.clone()).or(self.subject);
        self.settle()
    }

    /// However it ended, a person's word was acted on: it is no leave to post once more.
    fn settle(mut self) -> Self {
        self.answered = self.intent.as_ref().and_then(|intent| intent.requested).or(self.answered);
        self.settled = self.intent.take().map(|intent| intent.id).or(self.settled);
        self
    }
}

fn remember(digests: &mut Vec<String>, credential: &Credential) {
    digests.push(credential.refresh_token.digest());
    let surplus = digests.len().saturating_sub(TOMBSTONES);
    digests.drain(..surplus);
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::account::seen::tests::at;

    /// The state of the account of these tests with the refresh token `r1` as its seed.
    pub fn imported(prior: Option<&State>) -> State {
        let account = Account { namespace: "apps".into(), name: "demo".into(), uid: "7d0c".into() };
        let login = Login { origin: "https://login.example.com".into(), client_id: "app".into() };
        let seed = if prior.is_some() { "r9" } else { "r1" };
        State::imported(account, login, Credential::seed(&Sensitive::new(seed), CredentialKind::RefreshToken), 0, prior)
    }

    fn armed(state: State) -> State {
        let intent = Intent {
            id: "i".into(),
            digest: state.digest().unwrap(),
            started: at(10),
            deadline: at(55),
            holder: "me".into(),
            trigger: Trigger::Schedule,
            requested: None,
            journal_key: Sensitive::new("00"),
        };
        state.armed(intent)
    }

    fn held(state: &State) -> Option<&str> {
        state.credential.as_ref().map(|credential| credential.refresh_token.expose())
    }

    #[test]
    fn a_state_survives_the_way_through_its_secret() {
        let state = armed(imported(None));
        let text = serde_json::to_string(&state).unwrap();
        assert_eq!(serde_json::from_str::<State>(&text).unwrap(), state);
        assert!(!format!("{state:?}").contains("r1"), "{state:?}");
    }

    #[test]
    fn a_successor_takes_the_place_of_what_was_spent() {
        let state = armed(imported(None)).spent(Some(Sensitive::new("r2")), None);
        assert_eq!((held(&state), state.settled.as_deref(), &state.intent), (Some("r2"), Some("i"), &None));
        assert_eq!(state.credential.unwrap().source, Source::Reply);
    }

    #[test]
    fn without_a_successor_the_old_one_goes_on() {
        let doubted = armed(imported(None)).doubted();
        let state = armed(doubted).spent(None, None);
        assert_eq!(held(&state), Some("r1"));
        assert_eq!(state.credential.unwrap().doubt, None, "the provider has answered");
    }

    #[test]
    fn a_code_that_nobody_answered_is_given_up_and_what_it_displaced_returns() {
        let before = armed(imported(None)).spent(Some(Sensitive::new("r2")), None);
        let code = Credential::seed(
            &Sensitive::new("code"),
            CredentialKind::AuthorizationCode { redirect_uri: "https://connect.example.com".into(), verifier: None },
        );
        let state = State::imported(before.account.clone(), before.login.clone(), code, 0, Some(&before));
        let state = armed(state).doubted();
        assert_eq!(held(&state), Some("r2"));
        assert!(state.is_dead(&Sensitive::new("code")), "it is never sent again");
    }

    #[test]
    fn doubt_begins_with_the_first_post_that_nobody_answered() {
        let once = armed(imported(None)).doubted();
        let mut again = once.clone().armed(Intent { started: at(100), ..armed(once).intent.unwrap() });
        again = again.doubted();
        assert_eq!(again.credential.unwrap().doubt, Some(at(10)));
    }

    #[test]
    fn what_was_refused_is_dead_and_what_it_displaced_returns() {
        let before = armed(imported(None)).spent(Some(Sensitive::new("r2")), None);
        let state = armed(imported(Some(&before))).rejected();
        assert_eq!(held(&state), Some("r2"), "no login is lost by a bad seed");
        assert!(state.is_dead(&Sensitive::new("r9")) && !state.is_dead(&Sensitive::new("r2")));
        let state = armed(state).rejected();
        assert_eq!(held(&state), None);
        assert!(state.is_dead(&Sensitive::new("r2")));
    }

    #[test]
    fn two_bad_seeds_in_a_row_do_not_displace_the_login() {
        let before = armed(imported(None)).spent(Some(Sensitive::new("r2")), None);
        let state = imported(Some(&imported(Some(&before))));
        assert_eq!(state.displaced.unwrap().refresh_token.expose(), "r2");
    }

    #[test]
    fn nothing_of_another_login_or_account_is_taken_over() {
        let before = armed(imported(None)).spent(Some(Sensitive::new("r2")), None);
        let elsewhere = State { login: Login { origin: "https://b.example".into(), ..before.login.clone() }, ..before.clone() };
        let namesake = State { account: Account { uid: "other".into(), ..before.account.clone() }, ..before };
        for prior in [elsewhere, namesake] {
            let state = imported(Some(&prior));
            assert_eq!((state.displaced, state.record), (None, None));
        }
    }

    #[test]
    fn tombstones_have_an_end() {
        let mut state = imported(None);
        for number in 0..40 {
            let seed = Sensitive::new(format!("seed-{number}"));
            let seed = Credential::seed(&seed, CredentialKind::RefreshToken);
            state = State::imported(state.account.clone(), state.login.clone(), seed, 0, Some(&state)).rejected();
        }
        assert_eq!(state.tombstones.len(), TOMBSTONES);
        assert!(state.is_dead(&Sensitive::new("seed-39")));
    }
}
