//! WHEN THE OPERATOR'S OWN CA CHANGES: a successor is trusted for a day before it signs, its predecessor for a week after. Pure:
//! time is an argument, and whoever asks makes the certificates.

use crate::oauth::Sensitive;
use jiff::{SignedDuration, Timestamp};

/// A CA lives for a year; its successor is made at two thirds of that.
const CA_LIFE: SignedDuration = SignedDuration::from_hours(365 * 24);
/// A server's certificate lives for a week; it is renewed at half of that.
const LEAF_LIFE: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Certificates begin so much before they are made: clocks of clients differ.
const SKEW: SignedDuration = SignedDuration::from_mins(5);
/// So long the bundle has told of a successor before it signs: clients have read it meanwhile.
const TRUSTED_BEFORE: SignedDuration = SignedDuration::from_hours(24);
/// So long the bundle tells of a predecessor that signs no more: each leaf of its has ended, [`SKEW`] before.
const TRUSTED_AFTER: SignedDuration = SignedDuration::from_hours(7 * 24);
/// A CA that ends sooner than this gives way to its successor, however short the bundle has told of that one.
const LAST_HOUR: SignedDuration = SignedDuration::from_hours(1);
/// What is dated further ahead than this was made by a clock that was wrong; less is a difference between two machines.
const AHEAD: SignedDuration = SignedDuration::from_hours(1);

/// When a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// From then on.
    pub from: Timestamp,
    /// Until before then.
    pub until: Timestamp,
}

impl Life {
    /// Of a CA that is made now.
    pub fn of_ca(now: Timestamp) -> Self {
        Self { from: now - SKEW, until: now - SKEW + CA_LIFE }
    }

    /// Of a server's certificate that is made now: never longer than its CA's.
    pub fn of_leaf(ca: Self, now: Timestamp) -> Self {
        Self { from: now - SKEW, until: ca.until.min(now - SKEW + LEAF_LIFE) }
    }

    /// Whether it can be used, by a clock that may be a little behind the one it was made by.
    pub fn usable(self, now: Timestamp) -> bool {
        self.from.duration_since(now) <= AHEAD && now < self.until
    }

    /// Whether this part of it is over.
    fn spent(self, parts: i32, of: i32, now: Timestamp) -> bool {
        now.duration_since(self.from) >= self.until.duration_since(self.from) / of * parts
    }
}

/// A CA as those see it who trust it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// Its certificate, PEM.
    pub certificate: String,
    /// When that is valid.
    pub life: Life,
}

/// A CA that can sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// Its certificate.
    pub root: Root,
    /// Its key, PKCS#8 as PEM.
    pub key: Sensitive,
}

/// The CA that signs next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Successor {
    /// The CA.
    pub signer: Signer,
    /// Since when the bundle has told of it, as far as is known.
    pub announced: Option<Timestamp>,
}

/// The CA that signed before. Its key is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Predecessor {
    /// Its certificate.
    pub root: Root,
    /// Since when it signs no more.
    pub since: Timestamp,
}

/// What is stored of the CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The one that signs.
    pub current: Signer,
    /// The next, while there is one.
    pub successor: Option<Successor>,
    /// The last, while its leaves may be met.
    pub predecessor: Option<Predecessor>,
}

impl Stored {
    /// Every certificate that a client must trust now, PEM.
    pub fn bundle(&self) -> String {
        let successor = self.successor.iter().map(|successor| &successor.signer.root);
        let predecessor = self.predecessor.iter().map(|predecessor| &predecessor.root);
        let all = [&self.current.root].into_iter().chain(successor).chain(predecessor);
        all.map(|root| format!("{}\n", root.certificate.trim())).collect()
    }
}

/// What to do about the CA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing.
    Keep,
    /// Make one: there is none that can be used.
    Make,
    /// Make its successor.
    AddSuccessor,
    /// Note that the published bundle tells of the successor now.
    Announce,
    /// Let the successor sign.
    Switch,
    /// Forget the predecessor.
    Retire,
}

/// What to do about the CA that is stored.
pub fn decide(stored: Option<&Stored>, now: Timestamp) -> Next {
    let Some(Stored { current, successor, predecessor }) = stored else { return Next::Make };
    let life = current.root.life;
    // One of a time to come is made anew when it is needed.
    let successor = successor.as_ref().filter(|successor| successor.signer.root.life.usable(now));
    if !life.usable(now) {
        return if successor.is_some() { Next::Switch } else { Next::Make };
    }
    if predecessor.as_ref().is_some_and(|predecessor| predecessor.is_over(now)) {
        return Next::Retire;
    }
    match successor {
        None if life.spent(2, 3, now) => Next::AddSuccessor,
        None => Next::Keep,
        Some(successor) => match successor.announced.map(|announced| now.duration_since(announced)) {
            Some(told) if told >= TRUSTED_BEFORE => Next::Switch,
            Some(told) if told < -AHEAD => Next::Announce,
            Some(_) if life.until.duration_since(now) < LAST_HOUR => Next::Switch,
            Some(_) => Next::Keep,
            None => Next::Announce,
        },
    }
}

impl Predecessor {
    fn is_over(&self, now: Timestamp) -> bool {
        now.duration_since(self.since) >= TRUSTED_AFTER || !self.root.life.usable(now)
    }
}

/// What is to be stored after a step; `make` makes a CA where the step needs one.
///
/// # Errors
/// Those of `make`.
pub fn after<E>(
    stored: Option<Stored>,
    next: Next,
    now: Timestamp,
    make: impl FnOnce() -> Result<Signer, E>,
) -> Result<Stored, E> {
    Ok(match (next, stored) {
        (Next::Make, _) | (_, None) => Stored { current: make()?, successor: None, predecessor: None },
        (Next::Keep, Some(stored)) => stored,
        (Next::AddSuccessor, Some(stored)) => {
            Stored { successor: Some(Successor { signer: make()?, announced: None }), ..stored }
        }
        (Next::Announce, Some(stored)) => {
            let told = |successor| Successor { announced: Some(now), ..successor };
            Stored { successor: stored.successor.map(told), ..stored }
        }
        (Next::Switch, Some(Stored { current, successor: Some(successor), .. })) => {
            let predecessor = Predecessor { root: current.root, since: now };
            Stored { current: successor.signer, successor: None, predecessor: Some(predecessor) }
        }
        (Next::Switch, Some(stored)) => stored,
        (Next::Retire, Some(stored)) => Stored { predecessor: None, ..stored },
    })
}

/// A server's certificate, as far as its renewal is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Certificate of the CA that signed it, PEM.
    pub issuer: String,
    /// When it is valid.
    pub life: Life,
}

impl Leaf {
    /// Whether it is to be renewed while this CA signs.
    pub fn is_due(&self, current: &Root, now: Timestamp) -> bool {
        self.issuer != current.certificate || now < self.life.from || self.life.spent(1, 2, now)
    }
}

#[cfg(test)]
#[path = "authority_tests.rs"]
mod tests;
