//! What a scrape is told of each account: written from the cache when somebody asks, family after family, a piece at a time.

use super::watches::Scope;
use super::workqueue::Key;
use crate::api::{OAuthAccount, OAuthAccountStatus};
use crate::oauth::preset;
use crate::telemetry::metrics::{
    AccountGauge, CONDITION, EXPIRATION, INFO, ISSUED, LAST_SUCCESS, READY, REFRESH_TOKEN_EXPIRATION, RENEWAL, SUSPENDED,
};
use jiff::Timestamp;
use std::sync::Arc;

/// Accounts of one piece: some dozens of KiB.
const PIECE: usize = 256;

/// Seconds since the epoch, of one account.
type Moment = fn(&Seconds) -> Option<i64>;

/// When what is known of an account was, or will be.
#[derive(Default)]
struct Seconds {
    issued: Option<i64>,
    expires: Option<i64>,
    due: Option<i64>,
    refresh_token_expires: Option<i64>,
    succeeded: Option<i64>,
}

/// What is told of one account.
pub struct Told {
    name: Key,
    suspended: bool,
    due: Option<Timestamp>,
    status: Option<ToldStatus>,
}

struct ToldStatus {
    /// Labels.
    info: Box<str>,
    ready: Box<str>,
    /// Labels, a line each.
    conditions: Box<str>,
    seconds: Seconds,
}

impl Told {
    /// Of all accounts of these scopes.
    pub fn of(scopes: &[Arc<Scope>]) -> Vec<Self> {
        let names = scopes.iter().flat_map(|scope| scope.accounts.names().into_iter().map(move |name| (scope, name)));
        names.filter_map(|(scope, name)| Some(Self::one(&*scope.accounts.get(&name)?, name))).collect()
    }

    fn one(account: &OAuthAccount, name: Key) -> Self {
        let status = account.status.as_ref();
        let due = status.and_then(|status| status.next_refresh_time.as_ref()).map(|time| time.0);
        Self { name, suspended: account.spec.suspend, due, status: status.map(ToldStatus::of) }
    }
}

impl ToldStatus {
    fn of(status: &OAuthAccountStatus) -> Self {
        let grant = status.grant.as_deref().unwrap_or("Unknown");
        let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready");
        let labels = status.conditions.iter().map(|condition| {
            let (type_, state, reason) = (&condition.type_, &condition.status, &condition.reason);
            format!("type=\"{type_}\",status=\"{state}\",reason=\"{reason}\",")
        });
        let second = |time: Option<Timestamp>| time.map(Timestamp::as_second);
        let token = status.token.as_ref();
        Self {
            info: format!("provider=\"{}\",grant=\"{grant}\",", provider(status)).into(),
            ready: ready.map_or("Unknown", |condition| &condition.status).into(),
            conditions: labels.collect::<Vec<_>>().join("\n").into(),
            seconds: Seconds {
                issued: second(token.map(|token| token.issued_time.0)),
                expires: second(token.map(|token| token.expiration_time.0)),
                due: second(status.next_refresh_time.as_ref().map(|time| time.0)),
                refresh_token_expires: second(status.refresh_token_expiration_time.as_ref().map(|time| time.0)),
                succeeded: second(status.last_success_time.as_ref().map(|time| time.0)),
            },
        }
    }
}

/// One of a closed set: the name of a preset that an account asks for may be any.
fn provider(status: &OAuthAccountStatus) -> &str {
    let named = status.provider.as_deref().filter(|name| ["Issuer", "Custom"].contains(name) || preset(name).is_some());
    named.unwrap_or("Unknown")
}

/// For how many seconds the most overdue refresh has been due; 0 where none is.
pub fn most_overdue(accounts: &[Told], now: Timestamp) -> f64 {
    let late = accounts.iter().filter_map(|account| account.due).map(|due| now.duration_since(due).as_secs_f64());
    late.fold(0.0, f64::max)
}

/// A family: the samples of one account.
type Samples = Box<dyn Fn(&Told, &mut Vec<u8>) + Send + Sync>;

fn families() -> Vec<(&'static AccountGauge, Samples)> {
    let moments: [(&AccountGauge, Moment); 5] = [
        (&ISSUED, |seconds| seconds.issued),
        (&EXPIRATION, |seconds| seconds.expires),
        (&RENEWAL, |seconds| seconds.due),
        (&REFRESH_TOKEN_EXPIRATION, |seconds| seconds.refresh_token_expires),
        (&LAST_SUCCESS, |seconds| seconds.succeeded),
    ];
    let mut families: Vec<(&AccountGauge, Samples)> = vec![
        (
            &INFO,
            Box::new(|account, text| {
                account.status.iter().for_each(|status| INFO.sample(text, &account.name, &status.info, 1));
            }),
        ),
        (
            &READY,
            Box::new(|account, text| {
                for (status, state) in
                    account.status.iter().flat_map(|status| ["True", "False", "Unknown"].map(|state| (status, state)))
                {
                    READY.sample(text, &account.name, &format!("condition=\"{state}\","), i64::from(*state == *status.ready));
                }
            }),
        ),
        (
            &CONDITION,
            Box::new(|account, text| {
                let conditions = account.status.iter().flat_map(|status| status.conditions.lines());
                conditions.for_each(|labels| CONDITION.sample(text, &account.name, labels, 1));
            }),
        ),
        (&SUSPENDED, Box::new(|account, text| SUSPENDED.sample(text, &account.name, "", i64::from(account.suspended)))),
    ];
    families.extend(moments.map(|(gauge, moment)| {
        let samples: Samples = Box::new(move |account, text| {
            let second = account.status.as_ref().and_then(|status| moment(&status.seconds));
            second.into_iter().for_each(|second| gauge.sample(text, &account.name, "", second));
        });
        (gauge, samples)
    }));
    families
}

/// The text of all families, in pieces.
pub fn chunks(accounts: Vec<Told>) -> impl Iterator<Item = Vec<u8>> + Send {
    let accounts = Arc::new(accounts);
    let families = if accounts.is_empty() { vec![] } else { families() };
    families.into_iter().flat_map(move |(gauge, samples)| {
        let accounts = accounts.clone();
        (0..accounts.len().div_ceil(PIECE)).map(move |piece| {
            let mut text = vec![];
            if piece == 0 {
                gauge.head(&mut text);
            }
            accounts.iter().skip(piece * PIECE).take(PIECE).for_each(|account| samples(account, &mut text));
            text
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::NamespacedName;
    use serde_json::json;

    fn account(number: usize) -> Told {
        let account: OAuthAccount = serde_json::from_value(json!({
            "apiVersion": "oauth-operator.dev/v1alpha1", "kind": "OAuthAccount",
            "metadata": {"name": format!("a-{number}"), "namespace": "apps"},
            "spec": {"provider": {"issuer": "https://login.example.com"}, "client": {"id": "app"}, "grant": {"clientCredentials": {}}},
            "status": {"nextRefreshTime": "1970-01-01T00:01:40Z", "provider": "whatever", "conditions": [{
                "type": "Ready", "status": "False", "reason": "Suspended", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}
        }))
        .unwrap();
        Told::one(&account, Arc::new(NamespacedName::of(&account)))
    }

    #[test]
    fn each_family_is_told_whole_and_once_in_however_many_pieces() {
        let count = PIECE + 3;
        let text: Vec<u8> = chunks((0..count).map(account).collect()).flatten().collect();
        let text = String::from_utf8(text).unwrap();
        let families: Vec<&str> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
        assert_eq!(families.len(), 9);
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with(READY.name)).collect();
        assert_eq!(lines.len(), 3 * count);
        let last = format!("{}{{condition=\"False\",name=\"a-{}\",namespace=\"apps\"}} 1", READY.name, count - 1);
        assert_eq!(lines[3 * count - 2], last);
        assert!(text.contains(&format!("{}{{provider=\"Unknown\",grant=\"Unknown\",name=\"a-0\"", INFO.name)), "{text}");
        assert!(text.contains("type=\"Ready\",status=\"False\",reason=\"Suspended\","));
        assert!(text.contains(&format!("{}{{name=\"a-0\",namespace=\"apps\"}} 100", RENEWAL.name)));
        assert_eq!(text.matches(&format!("{}{{", EXPIRATION.name)).count(), 0);
        assert_eq!(chunks(vec![]).count(), 0);
    }

    #[test]
    fn the_most_overdue_counts_and_what_is_not_due_does_not() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(most_overdue(&[account(1), account(2)], at(107)), 7.0);
        assert_eq!(most_overdue(&[account(1)], at(50)), 0.0);
        assert_eq!(most_overdue(&[], at(50)), 0.0);
    }
}
