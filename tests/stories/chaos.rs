//! SIGKILL at moments that chance chooses, again and again, while logins whose provider rotates strictly are renewed all at once: no refresh
//! token is redeemed twice, and where a reply reached nobody, that is said and what was published stays.
//!
//! `CHAOS_SEED` chooses the schedule, `CHAOS_SECONDS` (default 40) and `CHAOS_KILLS` (2) say how long, and how many kills amid refreshes
//! there are to be at least. The gate plays one seed, so that it fails for a change's sake; `make chaos MINUTES=20` takes another each
//! time, `SEED=7` that one, and `KILLS=100` goes on until there were so many.

use super::{issuer, story};
use crate::testbed::Result;
use crate::testbed::authorization_server::{AuthorizationServer, Client};
use crate::testbed::client::client;
use crate::testbed::operator::Operator;
use crate::testbed::story::{Story, eventually};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ListParams, Patch, PatchParams};
use oauth_operator::api::{OAuthAccount, OAuthAccountStatus};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

const LOGINS: usize = 8;
/// A wave of refreshes is over before that: no kill comes later.
const WAVE: Duration = Duration::from_millis(1500);
/// Most kills come so soon after the first refresh of a wave was armed: while others are, and requests are on their way.
const AMID: Duration = Duration::from_millis(150);
/// Until the next leader works.
const TAKEOVER: Duration = Duration::from_secs(15);
/// Until everything is settled: another's intent binds for 45 s.
const SETTLED: Duration = Duration::from_secs(120);

struct Login {
    name: String,
    client: Client,
    generation: i64,
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn statuses(story: &Story<'_>) -> Result<HashMap<String, OAuthAccountStatus>> {
    let list: Value = serde_json::from_str(&story.kubectl().run(&["get", "oauthaccounts", "-o", "json"])?)?;
    let accounts: Vec<OAuthAccount> = serde_json::from_value(list["items"].clone())?;
    Ok(accounts
        .into_iter()
        .map(|account| (account.metadata.name.unwrap_or_default(), account.status.unwrap_or_default()))
        .collect())
}

fn generation(status: &OAuthAccountStatus) -> i64 {
    status.token.as_ref().map_or(0, |token| token.generation)
}

fn is_true(status: &OAuthAccountStatus, type_: &str) -> bool {
    status.conditions.iter().any(|condition| condition.type_ == type_ && condition.status == "True")
}

/// Nothing came to the provider twice, and nothing was refused.
async fn each_once(provider: &AuthorizationServer, logins: &[Login], schedule: &str) -> Result<usize> {
    let mut all = 0;
    for login in logins {
        let redemptions = provider.redemptions(&login.client).await?;
        for (index, (digest, status)) in redemptions.iter().enumerate() {
            assert_eq!(*status, 200, "{schedule}: {}: {redemptions:?}", login.name);
            assert!(
                redemptions[..index].iter().all(|(before, _)| before != digest),
                "{schedule}: {}: {redemptions:?}",
                login.name
            );
        }
        all += redemptions.len();
    }
    Ok(all)
}

async fn leader(operators: &[Operator]) -> Option<usize> {
    for (index, operator) in operators.iter().enumerate() {
        if operator.leads().await {
            return Some(index);
        }
    }
    None
}

/// Refreshes that are armed now: somebody may just have redeemed.
async fn under_way(records: &Api<Secret>) -> Result<usize> {
    let all = records.list_metadata(&ListParams::default()).await?.items;
    let armed = |annotations: &BTreeMap<_, _>| annotations.contains_key("oauth-operator.dev/intent");
    Ok(all.iter().filter(|record| record.metadata.annotations.as_ref().is_some_and(armed)).count())
}

/// Asks for a refresh of each login, and waits for a moment of its wave that chance chooses.
async fn wave(accounts: &Api<OAuthAccount>, records: &Api<Secret>, number: u64, chance: &mut fastrand::Rng) -> Result<()> {
    let moment = jiff::Timestamp::from_second(1_767_225_600 + i64::try_from(number)?)?.to_string();
    let asked = Patch::Merge(json!({"metadata": {"annotations": {"oauth-operator.dev/refresh-requested-at": moment}}}));
    let asking = (0..LOGINS)
        .map(async |index| accounts.patch_metadata(&format!("login-{index}"), &PatchParams::default(), &asked).await.map(drop));
    let (amid, share) = (chance.u8(..5) > 0, chance.f64());
    let strike = async {
        let began = Instant::now();
        while amid && began.elapsed() < WAVE && under_way(records).await? == 0 {}
        tokio::time::sleep(if amid { AMID } else { WAVE }.mul_f64(share)).await;
        Result::Ok(())
    };
    let (asked, struck) = tokio::join!(futures::future::try_join_all(asking), strike);
    asked?;
    struck
}

/// Status of a login, and what the operators have said of it.
fn told(story: &Story<'_>, operators: &[Operator], name: &str) -> String {
    let status = story.get(name).map_or_else(|error| error.to_string(), |account| json!(account.status).to_string());
    let lines = operators.iter().flat_map(Operator::log).filter(|line| line["name"] == json!(name));
    let lines: Vec<_> = lines.map(|line| line.to_string()).collect();
    format!("{status}\n{}", lines.join("\n"))
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::disallowed_macros, reason = "the schedule is told to whoever runs it")]
async fn whenever_it_is_killed_no_refresh_token_is_redeemed_twice() -> Result<()> {
    let seed = number("CHAOS_SEED").unwrap_or(1);
    let schedule = format!("CHAOS_SEED={seed}");
    println!("{schedule}");
    let limit = Duration::from_secs(number("CHAOS_SECONDS").unwrap_or(40));
    let least = number("CHAOS_KILLS").unwrap_or(2);
    let mut chance = fastrand::Rng::with_seed(seed);

    let (story, provider) = story("chaos").await?;
    let mut operators =
        vec![story.released_operator("operator-1", None).await?, story.released_operator("operator-2", None).await?];
    let mut logins = vec![];
    for index in 0..LOGINS {
        let name = format!("login-{index}");
        let (client, refresh_token) = provider.log_in(3600, "alice").await?;
        story.login(&name, &issuer(provider), &client, &refresh_token, &json!({}))?;
        logins.push(Login { name, client, generation: 1 });
    }
    for login in &logins {
        story.until_ready(&login.name).await?;
    }

    let client = client(&story.cluster.kubeconfig).await?;
    let accounts: Api<OAuthAccount> = Api::namespaced(client.clone(), &story.apps);
    let records: Api<Secret> = Api::namespaced(client, &story.system);
    let (began, mut kills, mut amid, mut unknown, mut slowest) = (Instant::now(), 0, 0, 0, Duration::ZERO);
    while began.elapsed() < limit || amid < least {
        let led = leader(&operators).await.ok_or("nobody leads")?;
        wave(&accounts, &records, kills, &mut chance).await?;
        let identity = operators[led].identity.clone();
        let killed = operators.swap_remove(led);
        killed.process.signal(Signal::KILL);
        killed.process.end_within(TAKEOVER).await.ok_or("SIGKILL does not end it")?;
        drop(killed);
        kills += 1;
        amid += u64::from(under_way(&records).await? > 0);
        if kills.is_multiple_of(10) {
            println!("{kills} kills, {amid} of them amid refreshes, {unknown} replies that reached nobody");
        }
        // Its container starts again at once, or a long time after another one has taken over.
        let died = Instant::now();
        if chance.u8(..4) > 0 {
            operators.push(story.released_operator(&identity, None).await?);
        }
        while leader(&operators).await.is_none() {
            assert!(died.elapsed() < TAKEOVER, "{schedule}: after kill {kills} nobody led for {:?}", died.elapsed());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        slowest = slowest.max(died.elapsed());
        if operators.len() < 2 {
            operators.push(story.released_operator(&identity, None).await?);
        }

        // Each is renewed, or it is said that nobody knows.
        let settled = || {
            let statuses = statuses(&story)?;
            let done = |login: &Login| {
                statuses
                    .get(&login.name)
                    .is_some_and(|status| generation(status) > login.generation || is_true(status, "RefreshOutcomeUnknown"))
            };
            Ok(logins.iter().all(done).then_some(statuses))
        };
        let statuses =
            eventually(SETTLED, settled).await?.ok_or_else(|| format!("{schedule}: kill {kills}: not all is settled"))?;
        each_once(provider, &logins, &schedule).await?;
        for login in &mut logins {
            let status = &statuses[&login.name];
            assert!(is_true(status, "Ready"), "{schedule}: {}: {status:?}", login.name);
            if is_true(status, "RefreshOutcomeUnknown") {
                unknown += 1;
                let fresh = provider.log_in_again(&login.client, "alice").await?;
                story.secret(&format!("{}-seed", login.name), &[("refresh_token", &fresh)])?;
                let renewed = story.until_generation(&login.name, generation(status) + 1).await;
                renewed
                    .map_err(|error| format!("{schedule}: kill {kills}: {error}\n{}", told(&story, &operators, &login.name)))?;
                login.generation = generation(status) + 1;
            } else {
                login.generation = generation(status);
            }
        }
    }
    let redemptions = each_once(provider, &logins, &schedule).await?;
    println!(
        "{kills} kills, {amid} of them amid refreshes, {redemptions} redemptions, none twice; {unknown} replies reached nobody, and that was said; next leader after {:.1} s at most",
        slowest.as_secs_f32()
    );
    Ok(())
}
