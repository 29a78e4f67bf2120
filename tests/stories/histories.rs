//! Histories that chance writes: accounts come, change and go, Secrets are spoiled, requests and replies are lost, the operator is killed and
//! stopped; and after each chapter all is as a small model says: what must be published, and what may have been posted.
//!
//! `HISTORY_SEED` chooses (what the machine makes of the choices is its own), `HISTORY_SECONDS` (default 40) says for how long. The gate
//! plays one seed, so that it fails for a change's sake; `make histories MINUTES=20` takes another each time, `SEED=7` that one.

mod model;

use super::story;
use crate::testbed::Result;
use crate::testbed::authorization_server::AuthorizationServer;
use crate::testbed::operator::Operator;
use crate::testbed::relay::{Held, Passing, Point, Relay};
use crate::testbed::story::Story;
use model::{Chapter, Slot};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const SLOTS: usize = 6;
/// Until all is as it must be, once nothing is in the way: back-off after a few failures, a leader's Lease.
const SETTLED: Duration = Duration::from_secs(90);

/// A world of its own: what happens in it, and what is written down of it.
struct World {
    story: Story<'static>,
    provider: &'static AuthorizationServer,
    api: Relay,
    token_endpoint: Relay,
    operator: Option<Operator>,
    chance: fastrand::Rng,
    /// What was done, for whoever must understand it.
    log: String,
    moment: i64,
}

impl World {
    async fn begin(seed: u64) -> Result<Self> {
        let (story, provider) = story("histories").await?;
        let api = story.cluster.relay().await?;
        let token_endpoint = Relay::before(&provider.issuer, &provider.ca).await?;
        story.ca("relay-ca", &token_endpoint.ca)?;
        let operator = Some(story.operator_behind("operator-1", &api).await?);
        let chance = fastrand::Rng::with_seed(seed);
        Ok(Self { story, provider, api, token_endpoint, operator, chance, log: String::new(), moment: 1_767_225_600 })
    }

    fn endpoint(&self) -> Value {
        json!({"custom": {"tokenURL": format!("{}/token", self.token_endpoint.url)}, "caBundleRef": {"name": "relay-ca"}})
    }

    fn note(&mut self, what: &str) {
        let _ = writeln!(self.log, "{what}");
    }

    async fn kill(&mut self) -> Result<()> {
        if let Some(operator) = self.operator.take() {
            operator.process.signal(Signal::KILL);
            operator.process.end_within(SETTLED).await.ok_or("SIGKILL does not end it")?;
        }
        Ok(())
    }

    async fn start(&mut self) -> Result<()> {
        if self.operator.is_none() {
            self.operator = Some(self.story.operator_behind("operator-1", &self.api).await?);
        }
        Ok(())
    }

    /// Something goes wrong; what is returned ends it when it is dropped.
    async fn fault(&mut self, chapter: &mut Chapter) -> Result<Option<Held>> {
        let point = if self.chance.bool() { Point::Request } else { Point::Reply };
        let (kind, share) = (self.chance.u8(..5), 1 + self.chance.u64(..3));
        // One of so many is lost.
        let one_in = move || {
            let seen = AtomicU64::new(0);
            move || seen.fetch_add(1, Ordering::Relaxed).is_multiple_of(share)
        };
        let (writes, posts) = (one_in(), one_in());
        chapter.faults += 1;
        Ok(match kind {
            0 => {
                self.note("the operator is killed");
                chapter.doubts = true;
                self.kill().await?;
                None
            }
            1 => {
                self.note("the operator is killed and starts again");
                chapter.doubts = true;
                self.kill().await?;
                self.start().await?;
                None
            }
            2 => {
                let time = Duration::from_millis(self.chance.u64(..3000));
                self.note(&format!("the operator stands still for {time:?}"));
                chapter.doubts = true;
                if let Some(operator) = &self.operator {
                    operator.process.pause();
                    tokio::time::sleep(time).await;
                    operator.process.signal(Signal::CONT);
                }
                None
            }
            3 => {
                self.note(&format!("of the operator's writes one in {share} is lost at its {point:?}"));
                let lost = move |passing: &Passing| {
                    let writes_here = ["PUT", "POST", "PATCH", "DELETE"].contains(&passing.method.as_str());
                    // A Lease that is lost is another story.
                    writes_here && !passing.path.contains("/leases") && writes()
                };
                Some(self.api.lose(point, lost))
            }
            _ => {
                self.note(&format!("of token requests one in {share} is lost at its {point:?}"));
                chapter.doubts = true;
                Some(self.token_endpoint.lose(point, move |_| posts()))
            }
        })
    }

    /// Somebody does something to an account.
    async fn act(&mut self, slot: &mut Slot) -> Result<()> {
        let endpoint = self.endpoint();
        if !slot.exists {
            if slot.rotates && (slot.seeds.is_empty() || self.chance.bool()) {
                self.seed(slot).await?;
            }
            self.note(&format!("{} is applied", slot.name));
            slot.appears(&self.story)?;
            return slot.apply(&self.story, &endpoint);
        }
        let kubectl = self.story.kubectl();
        match self.chance.u8(..11) {
            0 => {
                self.note(&format!("{} is deleted", slot.name));
                kubectl.run(&["delete", "oauthaccount", &slot.name, "--timeout=10s"])?;
                slot.goes();
            }
            1 => {
                slot.suspend();
                self.note(&format!("{}: suspend {}", slot.name, slot.suspended));
                slot.apply(&self.story, &endpoint)?;
            }
            2 | 3 => {
                self.note(&format!("{}: a refresh is asked for", slot.name));
                self.moment += 1;
                let asked = format!("oauth-operator.dev/refresh-requested-at={}", jiff::Timestamp::from_second(self.moment)?);
                kubectl.run(&["annotate", "oauthaccount", &slot.name, "--overwrite", &asked])?;
                slot.asks();
            }
            4 => {
                slot.moves(&self.story)?;
                self.note(&format!("{}: its Secret is {}", slot.name, slot.secret()));
                slot.apply(&self.story, &endpoint)?;
            }
            5 => {
                slot.greeting = (slot.greeting + 1) % 3;
                self.note(&format!("{}: greeting {}", slot.name, slot.greeting));
                slot.apply(&self.story, &endpoint)?;
            }
            6 => {
                slot.marks();
                self.note(&format!("{}: retain {}", slot.name, slot.retain));
                slot.apply(&self.story, &endpoint)?;
            }
            7 => {
                self.note(&format!("{}: its Secret is deleted", slot.name));
                slot.is_touched();
                kubectl.run(&["delete", "secret", &slot.secret(), "--ignore-not-found"])?;
            }
            8 => {
                // A key that nobody asked for would be theirs.
                let spoiled = ["access_token", "expires_at", "greeting"][self.chance.usize(..2 + usize::from(slot.greeting > 0))];
                self.note(&format!("{}: {spoiled} is spoiled", slot.name));
                slot.is_touched();
                let patch = json!({"stringData": {spoiled: "spoiled"}}).to_string();
                // It may not be there, or just have gone.
                let _ = kubectl.try_run(&["patch", "secret", &slot.secret(), "--type=merge", "-p", &patch]);
            }
            9 if slot.rotates => {
                self.seed(slot).await?;
            }
            _ => {
                self.note(&format!("{} is applied again, with what it began with", slot.name));
                slot.apply(&self.story, &endpoint)?;
            }
        }
        Ok(())
    }

    /// Somebody logs in again.
    async fn seed(&mut self, slot: &mut Slot) -> Result<()> {
        self.note(&format!("{}: a new login", slot.name));
        slot.seeds.push(self.provider.log_in_again(&slot.client, "alice").await?);
        slot.triggers += 1;
        self.story.secret(&format!("{}-seed", slot.name), &[("refresh_token", &slot.seeds[slot.seeds.len() - 1])])
    }

    /// What is wrong, what was done, and what the operator said since its last start.
    fn told(&self, wrong: &str) -> String {
        let lines = self.operator.iter().flat_map(Operator::log).filter(|line| line["level"] != json!("DEBUG"));
        let said: Vec<_> = lines.map(|line| line.to_string()).collect();
        format!("{wrong}\n{}\n{}", self.log, said.join("\n"))
    }

    /// Waits until every slot is as it must be.
    async fn settle(&mut self, slots: &mut [Slot], chapter: &Chapter) -> Result<()> {
        let began = Instant::now();
        loop {
            let wrong = model::wrong(&self.story, self.provider, slots, chapter).await;
            match wrong.map_err(|never| self.told(&never.to_string()))? {
                None => return Ok(()),
                Some(wrong) if began.elapsed() > SETTLED => return Err(self.told(&wrong).into()),
                Some(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::disallowed_macros, reason = "the seed is told to whoever runs it")]
async fn whatever_happens_in_the_end_all_is_as_it_must_be() -> Result<()> {
    let seed = number("HISTORY_SEED").unwrap_or(1);
    println!("HISTORY_SEED={seed}");
    let limit = Duration::from_secs(number("HISTORY_SECONDS").unwrap_or(40));
    let mut world = World::begin(seed).await?;
    let mut slots = vec![];
    for index in 0..SLOTS {
        let rotates = index % 2 == 0;
        let name = format!("{}-{index}", if rotates { "login" } else { "client" });
        let client = match rotates {
            true => world.provider.log_in(3600, "alice").await?.0,
            false => world.provider.register(3600, "client_secret_basic").await?,
        };
        slots.push(Slot::new(name, client, rotates));
    }

    let (began, mut chapters, mut actions, mut faults) = (Instant::now(), 0, 0, 0);
    while began.elapsed() < limit || chapters < 3 {
        chapters += 1;
        world.note(&format!("chapter {chapters}"));
        let mut chapter = Chapter::default();
        for slot in &mut slots {
            slot.turns_the_page(&world.story, world.provider).await?;
            // Whose login is lost or doubtful logs in again.
            if slot.exists && (slot.lost || slot.doubt) && (slot.lost || world.chance.bool()) {
                world.seed(slot).await?;
            }
        }
        let mut troubles = vec![];
        for _ in 0..world.chance.usize(3..9) {
            if chapter.faults < 2 && world.chance.u8(..4) == 0 {
                troubles.extend(world.fault(&mut chapter).await?);
            }
            let index = world.chance.usize(..SLOTS);
            world.act(&mut slots[index]).await?;
            actions += 1;
            if world.chance.bool() {
                tokio::time::sleep(Duration::from_millis(world.chance.u64(..500))).await;
            }
        }
        drop(troubles);
        world.start().await?;
        faults += chapter.faults;
        let settled = world.settle(&mut slots, &chapter).await;
        settled.unwrap_or_else(|error| panic!("HISTORY_SEED={seed}, chapter {chapters}: {error}"));
    }
    let posted = model::posted(world.provider, &slots).await?;
    println!("{chapters} chapters, {actions} actions, {faults} faults, {posted} token requests");
    Ok(())
}
