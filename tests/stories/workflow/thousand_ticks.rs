//! A schedule over a thousand ticks of a clock of our own, against the real API server: two leaders who alternate and overlap, with
//! caches that are behind and clocks that differ, who die between any two writes; and runs that are pruned. Every tick fires
//! at most once, none is invented, and none is lost but by a death in the only place where that may happen.

use crate::story;
use crate::testbed::Result;
use crate::testbed::client::client;
use crate::testbed::mortal_client::{Death, Seen, Wire, mortal_client};
use crate::testbed::story::Story;
use jiff::{SignedDuration, Timestamp};
use kube::api::{Api, DeleteParams};
use kube::{Client, ResourceExt};
use oauth_operator::api::{Workflow, WorkflowRun};
use oauth_operator::runtime::schedules::{Attended, attend};
use oauth_operator::workflow::{Definition, DefinitionError};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

const TICKS: usize = 1000;

/// Numerical Recipes' generator: the same course in every run.
struct Random(u32);

impl Random {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) % limit
    }

    fn seconds(&mut self, from: i64, to: i64) -> SignedDuration {
        let range = u32::try_from(to - from).unwrap_or(1);
        SignedDuration::from_secs(from + i64::from(self.below(range)))
    }

    fn death(&mut self) -> Death {
        [Death::BeforeStatus, Death::AfterStatus, Death::BeforeRun, Death::AfterRun][self.below(4) as usize]
    }
}

/// The ticks of `*/20 9-17 * * MON-FRI` in Asia/Kolkata, five and a half hours before UTC all year, by nothing but arithmetic.
fn ticks(after: Timestamp) -> impl Iterator<Item = Timestamp> {
    let first = after.as_second() / 60 + 1;
    let minutes = (first..).filter(|minute| {
        let local = minute + 330;
        let (hour, weekday) = (local / 60 % 24, (local / 1440 + 4) % 7);
        local % 20 == 0 && (9..=17).contains(&hour) && (1..=5).contains(&weekday)
    });
    minutes.map(|minute| Timestamp::from_second(minute * 60).expect("a moment"))
}

type Understood = std::result::Result<Definition, DefinitionError>;

struct Leader {
    client: Client,
    wire: Arc<Wire>,
    /// The workflow as its watch has told last.
    cached: Workflow,
    told: Vec<String>,
}

impl Leader {
    async fn new(story: &Story<'_>) -> Result<Self> {
        let (client, wire) = mortal_client(&story.kubeconfig).await?;
        let cached = Api::namespaced(client.clone(), &story.apps).get("report").await?;
        Ok(Self { client, wire, cached, told: vec![] })
    }

    async fn refresh(&mut self) -> Result<()> {
        let api: Api<Workflow> = Api::namespaced(self.client.clone(), &self.cached.namespace().unwrap_or_default());
        self.cached = api.get("report").await?;
        Ok(())
    }

    /// Attends until there is nothing to do. One that dies is begun anew, and knows what is stored.
    async fn attend(&mut self, definition: &Understood, now: Timestamp, death: Option<Death>) -> Result<()> {
        self.wire.seen().death = death;
        for _ in 0..6 {
            let cached = self.cached.clone();
            let turn = attend(&self.client, &cached, definition, None, now);
            let attended = tokio::select! {
                turn = turn => Some(turn?),
                () = self.wire.died() => None,
            };
            match attended {
                None => return self.refresh().await,
                Some((Attended::Until(until), _)) => {
                    assert!(until.is_some_and(|until| until > now), "{until:?} at {now}");
                    self.wire.seen().death = None;
                    return Ok(());
                }
                Some((Attended::Written(written), told)) => {
                    self.told.extend(told);
                    self.cached = *written;
                }
                Some((Attended::Changed, _)) => self.refresh().await?,
                Some((Attended::Refused(words), _)) => return Err(words.into()),
            }
        }
        Err("it does not come to rest".into())
    }
}

/// Names of the runs that the API server has made for the operator, one for each time.
fn made(story: &Story<'_>) -> Result<Vec<String>> {
    let log = std::fs::read_to_string(&story.cluster.audit_log)?;
    let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let made = events.filter(|event| {
        let object = &event["objectRef"];
        event["verb"] == "create"
            && event["responseStatus"]["code"] == 201
            && object["resource"] == "workflowruns"
            && object["namespace"] == story.apps
    });
    Ok(made.map(|event| event["objectRef"]["name"].as_str().unwrap_or_default().to_owned()).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_thousand_ticks_each_fires_at_most_once_whoever_leads_and_dies() -> Result<()> {
    let (story, _) = story("wf-ticks").await?;
    let workflow = json!({
        "apiVersion": "oauth-operator.dev/v1alpha1", "kind": "Workflow", "metadata": {"name": "report"},
        "spec": {
            "schedule": {"cron": "*/20 9-17 * * MON-FRI", "timeZone": "Asia/Kolkata", "startingDeadlineSeconds": 900},
            "steps": [{"name": "a", "http": {"url": "https://api.example/a"}}],
        }
    });
    story.kubectl().apply(&workflow.to_string())?;
    let (mut first, mut second, mut next) = (Leader::new(&story).await?, Leader::new(&story).await?, Leader::new(&story).await?);
    let definition = Definition::of(&first.cached.spec);
    let created = first.cached.metadata.creation_timestamp.as_ref().ok_or("no creationTimestamp")?.0;
    let runs: Api<WorkflowRun> = Api::namespaced(client(&story.cluster.kubeconfig).await?, &story.apps);
    let prune = async |name: &str| match runs.delete(name, &DeleteParams::background()).await {
        Err(error) if !matches!(&error, kube::Error::Api(status) if status.code == 404) => Err(error),
        _ => Ok(()),
    };
    first.attend(&definition, created, None).await?;

    let (mut random, mut due, mut late, mut away, mut missed) = (Random(20_260_301), vec![], 0, 0, false);
    for tick in ticks(created).take(TICKS) {
        // Nobody leads for some ticks: they are too old when the next one comes.
        if away > 0 || random.below(30) == 0 {
            away = if away > 0 { away - 1 } else { random.below(4) };
            missed = true;
            continue;
        }
        // A clock that is behind sees nothing, unless there is something older to see.
        let behind = if std::mem::take(&mut missed) { 0 } else { -60 };
        let name = format!("report-{}", tick.strftime("%Y%m%d%H%M"));
        let too_late = random.below(25) == 0;
        let seen = tick + if too_late { random.seconds(970, 1080) } else { random.seconds(0, 600) };
        let (one, other) = (seen + random.seconds(behind, 60), seen + random.seconds(behind, 60));
        if random.below(10) < 7 {
            first.refresh().await?;
        }
        if random.below(10) < 7 {
            second.refresh().await?;
        }
        let (death, another) = (random.death(), random.death());
        match random.below(8) {
            0 => first.attend(&definition, one, None).await?,
            1 => second.attend(&definition, other, None).await?,
            2 | 3 => {
                let both = (first.attend(&definition, one, None), second.attend(&definition, other, None));
                tokio::try_join!(both.0, both.1).map(drop)?;
            }
            4 => {
                first.attend(&definition, one, None).await?;
                prune(&name).await?;
                // What it knows is older than the run that came and went.
                second.attend(&definition, other, None).await?;
            }
            5 => {
                first.attend(&definition, one, Some(death)).await?;
                second.attend(&definition, other, None).await?;
            }
            6 => {
                let both = (first.attend(&definition, one, Some(death)), second.attend(&definition, other, None));
                tokio::try_join!(both.0, both.1).map(drop)?;
            }
            _ => {
                let both = (first.attend(&definition, one, Some(death)), second.attend(&definition, other, Some(another)));
                tokio::try_join!(both.0, both.1).map(drop)?;
            }
        }
        // Whoever leads next sees to what is left.
        next.refresh().await?;
        next.attend(&definition, seen + SignedDuration::from_secs(61), None).await?;
        if random.below(3) == 0 {
            prune(&name).await?;
        }
        if too_late {
            late += 1;
        } else {
            due.push(name);
        }
    }

    let leaders = [&first, &second, &next];
    let all =
        |what: fn(&Seen) -> Vec<String>| -> Vec<String> { leaders.iter().flat_map(|leader| what(&leader.wire.seen())).collect() };
    let sum = |what: fn(&Seen) -> usize| -> usize { leaders.iter().map(|leader| what(&leader.wire.seen())).sum() };
    let set = |names: &[String]| names.iter().cloned().collect::<BTreeSet<_>>();
    let (made, dropped) = (made(&story)?, all(|seen| seen.dropped.clone()));
    let told: usize = leaders.iter().map(|leader| leader.told.len()).sum();
    let (stored, conflicts, deaths) = (sum(|seen| seen.stored), sum(|seen| seen.conflicts), sum(|seen| seen.deaths));
    #[expect(clippy::disallowed_macros, reason = "how much trouble there was is told to whoever runs it")]
    let () = eprintln!(
        "{} of {TICKS} ticks were due, {late} too late; {} runs made, {} lost in {deaths} deaths; {conflicts} conflicts",
        due.len(),
        made.len(),
        dropped.len()
    );
    assert_eq!(set(&made).len(), made.len(), "no tick has fired twice");
    assert_eq!(set(&dropped).len(), dropped.len(), "nor was one claimed again that was lost");
    let expected: BTreeSet<_> = set(&due).difference(&set(&dropped)).cloned().collect();
    assert_eq!(set(&made), expected, "none is invented, and none is lost but by a death between the two writes");
    assert_eq!(set(&all(|seen| seen.claimed.clone())), set(&due));
    // The status is written when it is seen first, and once for each tick.
    assert_eq!(stored, 1 + due.len() + late);
    assert!(told <= late, "{told} told of {late} that were too late; some who died had to tell");
    // All of that has happened.
    assert!(due.len() > 700 && late > 15, "{} due, {late} late", due.len());
    assert!(
        deaths > 150 && dropped.len() > 50 && conflicts > 50,
        "{deaths} deaths, {} lost, {conflicts} conflicts",
        dropped.len()
    );
    Ok(())
}
