//! One account as the proxy knows it: the credential that is sent now, whichever way it came.

use super::clock::{Moment, moment};
use super::credential::{Credential, Unusable};
use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// Milliseconds that an account is spared after its token was refused: then it is tried, and the operator asked, again.
const SPARED: Moment = 30_000;

/// An account.
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its namespace, where it is not the Pod's.
    pub namespace: Option<String>,
    held: ArcSwapOption<Credential>,
    /// Fingerprint of a token that an upstream has refused, and that nothing newer was found for; and until when it is spared.
    rejected: ArcSwapOption<(String, Moment)>,
    known: Mutex<Known>,
    /// Wakes whoever waits for another credential; one for all accounts.
    changed: Arc<Notify>,
    /// What the operator was asked for last; held while it is asked.
    pub asking: Arc<tokio::sync::Mutex<Asked>>,
}

/// What decides which credential is held.
#[derive(Default)]
struct Known {
    /// What stands before the token in the headers of all routes.
    prefixes: Vec<String>,
    /// Fingerprint of what the Secret held when it was read last.
    read: Option<String>,
    /// Whether what is held was told by the operator, and is not yet in the Secret as it is seen from here.
    told: bool,
    /// Why what was read last is no credential.
    problem: Option<Unusable>,
    /// Why the operator had nothing newer.
    not_renewed: Option<String>,
}

/// How the operator has answered last.
#[derive(Debug, Default)]
pub struct Asked {
    /// Fingerprint for which it had nothing newer, and the moment before which it is not asked again.
    pub refused: Option<(Option<String>, Moment)>,
}

/// What became of what was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// It was held already.
    Same,
    /// It is held now.
    Taken,
    /// What is held is newer.
    Older,
    /// There is none any more.
    Gone,
    /// It is no credential; what was held is kept.
    Refused,
}

impl Reading {
    /// As metrics name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Taken => "taken",
            Self::Older => "older",
            Self::Gone => "gone",
            Self::Refused => "refused",
        }
    }
}

impl Account {
    /// One without a credential.
    pub fn new(name: impl Into<String>, namespace: Option<String>, changed: Arc<Notify>) -> Self {
        Self {
            name: name.into(),
            namespace,
            held: ArcSwapOption::empty(),
            rejected: ArcSwapOption::empty(),
            known: Mutex::default(),
            changed,
            asking: Arc::default(),
        }
    }

    /// The credential that is held, live or not.
    pub fn credential(&self) -> Option<Arc<Credential>> {
        self.held.load_full()
    }

    /// Whether there is one that may be sent.
    pub fn is_usable(&self, now: Timestamp) -> bool {
        self.held.load().as_ref().is_some_and(|credential| credential.is_live(now))
    }

    /// An upstream has refused a token, and there is no newer one.
    pub fn rejected(&self, credential: &Credential) {
        self.rejected.store(Some(Arc::new((credential.fingerprint().to_owned(), moment() + SPARED))));
    }

    /// Whether this token was refused not long ago.
    pub fn is_rejected(&self, credential: &Credential, now: Moment) -> bool {
        let rejected = self.rejected.load();
        rejected.as_ref().is_some_and(|rejected| now < rejected.1 && rejected.0 == credential.fingerprint())
    }

    /// A route sends the token after this prefix.
    pub fn prepare(&self, prefix: &str) {
        let mut known = self.known();
        if !known.prefixes.iter().any(|one| one == prefix) {
            known.prefixes.push(prefix.to_owned());
            if let Some(held) = self.held.load_full() {
                self.held.store(Some(Arc::new(Credential::clone(&held).prepared(&known.prefixes))));
            }
        }
    }

    /// The Secret was read.
    pub fn read(&self, read: Result<Credential, Unusable>, now: Timestamp) -> Reading {
        let mut known = self.known();
        let credential = match read {
            Ok(credential) => credential,
            Err(Unusable::Absent) => {
                known.problem = Some(Unusable::Absent);
                known.read = None;
                // What the operator has told stays: the Secret may not have reached us yet.
                if known.told || self.held.load().is_none() {
                    return Reading::Same;
                }
                self.held.store(None);
                return Reading::Gone;
            }
            Err(why) => {
                known.problem = Some(why);
                return Reading::Refused;
            }
        };
        known.problem = None;
        let held = self.held.load_full();
        if known.told {
            let newer = |held: &Credential| held.generation > credential.generation && held.is_live(now);
            if held.as_deref().is_some_and(newer) {
                return Reading::Older;
            }
        }
        let same = known.read.as_deref() == Some(credential.fingerprint())
            && held.as_deref().is_some_and(|held| held.says_the_same(&credential));
        known.read = Some(credential.fingerprint().to_owned());
        if same {
            return Reading::Same;
        }
        self.hold(credential, &mut known, false);
        Reading::Taken
    }

    /// The operator has told a token.
    pub fn told(&self, credential: Credential, now: Timestamp) {
        let mut known = self.known();
        let older = |held: &Credential| held.generation > credential.generation && held.is_live(now);
        if !self.held.load_full().as_deref().is_some_and(older) {
            self.hold(credential, &mut known, true);
        }
    }

    /// The operator had nothing newer.
    pub fn not_renewed(&self, why: String) {
        self.known().not_renewed = Some(why);
    }

    fn hold(&self, credential: Credential, known: &mut Known, told: bool) {
        known.told = told;
        known.not_renewed = None;
        self.held.store(Some(Arc::new(credential.prepared(&known.prefixes))));
        self.changed.notify_waiters();
    }

    /// Why there is no credential to send, as a clause.
    pub fn problem(&self, now: Timestamp) -> String {
        let known = self.known();
        let problem = match (self.held.load().as_ref(), &known.problem) {
            (Some(held), None) if !held.is_live(now) => {
                let expires = held.expires().map(|at| at.to_string()).unwrap_or_default();
                format!("its token expired at {expires}")
            }
            (_, Some(problem)) => problem.to_string(),
            (None, None) => Unusable::Absent.to_string(),
            (Some(_), None) => "its token was refused".into(),
        };
        known.not_renewed.as_ref().map_or_else(|| problem.clone(), |why| format!("{problem}, and {why}"))
    }

    /// What is known stays whole whatever its holder did.
    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn credential(token: &str, generation: i64, expires: &str) -> Result<Credential, Unusable> {
        let pairs = [("access_token", token), ("generation", &generation.to_string()), ("expires_at", expires)];
        Credential::read(
            &pairs.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect::<BTreeMap<_, _>>(),
        )
    }

    fn held(account: &Account) -> i64 {
        account.credential().map_or(0, |credential| credential.generation)
    }

    const LATER: &str = "2026-01-01T01:00:00Z";

    #[test]
    fn what_the_operator_told_stands_until_the_secret_catches_up() {
        let account = Account::new("a", None, Arc::default());
        assert_eq!(account.read(credential("t1", 1, LATER), now()), Reading::Taken);
        assert_eq!(account.read(credential("t1", 1, LATER), now()), Reading::Same);
        account.told(credential("t3", 3, LATER).unwrap(), now());
        for (read, became, generation) in [
            (credential("t1", 1, LATER), Reading::Older, 3),
            (credential("t2", 2, LATER), Reading::Older, 3),
            (Err(Unusable::Absent), Reading::Same, 3),
            (credential("t3", 3, LATER), Reading::Taken, 3),
            (credential("t4", 4, LATER), Reading::Taken, 4),
        ] {
            assert_eq!(account.read(read, now()), became);
            assert_eq!(held(&account), generation);
        }
    }

    #[test]
    fn an_account_made_anew_counts_from_one_again() {
        let account = Account::new("a", None, Arc::default());
        account.read(credential("t7", 7, LATER), now());
        assert_eq!(account.read(credential("u1", 1, LATER), now()), Reading::Taken);
        // What was told counts no more once it has expired.
        account.told(credential("u9", 9, "2026-01-01T00:00:01Z").unwrap(), now());
        assert_eq!(account.read(credential("v1", 1, LATER), now()), Reading::Taken);
    }

    #[test]
    fn what_cannot_be_read_takes_nothing_away_and_what_is_gone_does() {
        let account = Account::new("a", None, Arc::default());
        account.read(credential("t1", 1, LATER), now());
        assert_eq!(account.read(credential("t2\r\n", 2, LATER), now()), Reading::Refused);
        assert_eq!(held(&account), 1);
        assert!(account.problem(now()).contains("line break"));
        assert_eq!(account.read(Err(Unusable::Absent), now()), Reading::Gone);
        assert!(account.credential().is_none() && !account.is_usable(now()));
        assert_eq!(account.problem(now()), "there is no access_token yet");
    }

    #[test]
    fn an_expired_token_is_none() {
        let account = Account::new("a", None, Arc::default());
        account.read(credential("t1", 1, "2026-01-01T00:00:04Z"), now());
        assert!(!account.is_usable(now()));
        assert_eq!(account.problem(now()), "its token expired at 2026-01-01T00:00:04Z");
    }

    #[test]
    fn a_prefix_may_come_later_than_the_token() {
        let account = Account::new("a", None, Arc::default());
        account.read(credential("t1", 1, LATER), now());
        account.prepare("Token ");
        assert_eq!(account.credential().unwrap().value("Token ").unwrap().to_str().unwrap(), "Token t1");
    }
}
