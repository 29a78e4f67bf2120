//! Moments of schedules: each is seen to once, told where no run comes of it, and nothing is written at rest.

use super::*;
use serde_json::{Value, json};

/// When the workflows were made.
const CREATED: &str = "2026-03-01T00:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// An hourly workflow, with `patch` merged into its spec.
fn hourly(patch: &Value) -> Workflow {
    let mut spec = json!({
        "schedule": {"cron": "0 * * * *", "input": {"topic": "sales"}},
        "steps": [{"name": "a", "http": {"url": "https://api.example/a"}}],
    });
    merge(&mut spec, patch);
    let workflow = json!({
        "apiVersion": "oauth-operator.dev/v1alpha1", "kind": "Workflow",
        "metadata": {"name": "report", "namespace": "apps", "uid": "u-1", "generation": 1, "creationTimestamp": CREATED},
        "spec": spec,
    });
    serde_json::from_value(workflow).unwrap()
}

/// RFC 7396.
fn merge(base: &mut Value, patch: &Value) {
    let (Some(members), Some(patch)) = (base.as_object_mut(), patch.as_object()) else {
        *base = patch.clone();
        return;
    };
    for (name, value) in patch {
        match value {
            Value::Null => drop(members.remove(name)),
            value => merge(members.entry(name.as_str()).or_insert(Value::Null), value),
        }
    }
}

/// The same with another spec, as an edit leaves it.
fn edited(workflow: &Workflow, patch: &Value) -> Workflow {
    let generation = workflow.metadata.generation.map(|generation| generation + 1);
    let mut edited = Workflow { status: workflow.status.clone(), ..hourly(patch) };
    edited.metadata.generation = generation;
    edited
}

fn seen(workflow: &Workflow, active: Option<&str>, now: &str) -> Tick {
    tick(workflow, &Definition::of(&workflow.spec), active, at(now))
}

/// What a tick says is stored, as the API server stores it: in whole seconds.
fn store(workflow: &mut Workflow, status: &WorkflowStatus) {
    workflow.status = serde_json::from_value(json!(status)).unwrap();
}

/// Everything that comes of a look, stored until there is rest: what was told, which runs were made, and how often was written.
#[derive(Debug, Default, PartialEq)]
struct Course {
    runs: Vec<String>,
    skipped: Vec<String>,
    writes: usize,
    until: Option<Timestamp>,
}

fn course(workflow: &mut Workflow, active: Option<&str>, now: &str) -> Course {
    let mut course = Course::default();
    for _ in 0..5 {
        let status = match seen(workflow, active, now) {
            Tick::Rest(until) => return Course { until, ..course },
            Tick::Say(status) => status,
            Tick::Fire(status, run) => {
                course.runs.push(run.name_any());
                status
            }
            Tick::Skip(status, why) => {
                course.skipped.push(why);
                status
            }
        };
        course.writes += 1;
        store(workflow, &status);
    }
    panic!("{course:?} does not come to rest");
}

/// One that was looked at, and rests until one o'clock.
fn resting(patch: &Value) -> Workflow {
    let mut workflow = hourly(patch);
    assert_eq!(
        course(&mut workflow, None, CREATED),
        Course { writes: 1, until: Some(at("2026-03-01T01:00:00Z")), ..Course::default() }
    );
    workflow
}

fn status(workflow: &Workflow) -> WorkflowStatus {
    workflow.status.clone().unwrap()
}

fn last(workflow: &Workflow) -> Option<Timestamp> {
    status(workflow).last_schedule_time.map(|last| last.0)
}

fn next(workflow: &Workflow) -> Option<Timestamp> {
    status(workflow).next_schedule_time.map(|next| next.0)
}

#[test]
fn a_workflow_that_is_seen_first_says_when_it_runs_and_that_it_can() {
    let workflow = resting(&json!({}));
    let status = status(&workflow);
    assert_eq!(status.observed_generation, Some(1));
    assert_eq!(status.next_schedule_time, Some(Time(at("2026-03-01T01:00:00Z"))));
    let since = Time(at(CREATED));
    assert_eq!(status.schedule, Some(ScheduleStatus { cron: "0 * * * *".into(), time_zone: "UTC".into(), since_time: since }));
    assert_eq!((status.last_schedule_time, status.last_run_name), (None, None));
    let ready = &status.conditions[0];
    assert_eq!((ready.type_.as_str(), ready.status.as_str(), ready.reason.as_str()), ("Ready", "True", "Accepted"));
    assert_eq!(ready.observed_generation, Some(1));
}

#[test]
fn a_tick_makes_one_run_that_is_named_after_its_minute_and_goes_with_its_workflow() {
    let mut workflow = resting(&json!({}));
    let Tick::Fire(status, run) = seen(&workflow, None, "2026-03-01T01:00:00.4Z") else { panic!("no run") };
    assert_eq!(run.name_any(), "report-202603010100");
    assert_eq!(run.namespace().as_deref(), Some("apps"));
    assert_eq!(run.spec.scheduled_time, Some(Time(at("2026-03-01T01:00:00Z"))));
    assert_eq!(run.spec.workflow_ref.as_ref().map(|workflow| workflow.name.as_str()), Some("report"));
    assert_eq!(run.spec.input, Some(json!({"topic": "sales"})));
    assert!(!run.spec.cancel && run.spec.workflow_spec.is_none());
    let owner = &run.owner_references()[0];
    let named = (owner.kind.as_str(), owner.name.as_str(), owner.uid.as_str(), owner.controller);
    assert_eq!(named, ("Workflow", "report", "u-1", Some(true)));
    assert_eq!(run.labels()[v::WORKFLOW_LABEL], "report");
    assert_eq!(status.last_run_name.as_deref(), Some("report-202603010100"));
    store(&mut workflow, &status);
    assert_eq!((last(&workflow), next(&workflow)), (Some(at("2026-03-01T01:00:00Z")), Some(at("2026-03-01T02:00:00Z"))));
    let rest = Course { until: Some(at("2026-03-01T02:00:00Z")), ..Course::default() };
    assert_eq!(course(&mut workflow, None, "2026-03-01T01:00:00.5Z"), rest, "it is seen to once");
    assert_eq!(course(&mut workflow, None, "2026-03-01T01:59:59.9Z"), rest);
}

#[test]
fn status_is_written_once_for_each_tick_and_never_at_rest() {
    let mut workflow = resting(&json!({}));
    let mut runs = vec![];
    for minute in 0..24 * 60 {
        let now = at(CREATED) + SignedDuration::from_secs(60 * minute + 7);
        let Course { runs: made, writes, skipped, until } = course(&mut workflow, None, &now.to_string());
        let tick = minute > 0 && minute % 60 == 0;
        assert_eq!((writes, made.len(), skipped.len()), (usize::from(tick), usize::from(tick), 0), "{now}");
        assert!(until > Some(now));
        runs.extend(made);
    }
    assert_eq!(runs.len(), 23);
    assert!(runs.windows(2).all(|pair| pair[0] < pair[1]), "{runs:?}");
}

#[test]
fn of_ticks_that_were_missed_the_newest_is_made_up() {
    let mut workflow = resting(&json!({}));
    let made = course(&mut workflow, None, "2026-03-03T12:34:56Z");
    assert_eq!(made.runs, ["report-202603031200"]);
    assert_eq!((made.writes, made.skipped.len(), made.until), (1, 0, Some(at("2026-03-03T13:00:00Z"))));
    // Nobody has looked since it was made: it owes the same.
    let mut new = hourly(&json!({}));
    assert_eq!(course(&mut new, None, "2026-03-03T12:34:56Z").runs, ["report-202603031200"]);
    // Nothing of before it was made.
    let mut young = hourly(&json!({}));
    assert!(course(&mut young, None, "2026-03-01T00:59:59Z").runs.is_empty());
}

#[test]
fn a_tick_that_is_too_late_is_told_once_and_makes_no_run() {
    let mut workflow = resting(&json!({"schedule": {"startingDeadlineSeconds": 300}}));
    assert_eq!(course(&mut workflow, None, "2026-03-01T01:05:00Z").runs, ["report-202603010100"], "the deadline is in time");
    let late = course(&mut workflow, None, "2026-03-01T05:05:01Z");
    let told = "No run is made for 2026-03-01T05:00:00Z: startingDeadlineSeconds (300) had passed when it was seen to.";
    assert_eq!((late.runs.len(), late.skipped, late.writes), (0, vec![told.to_owned()], 1));
    assert_eq!(last(&workflow), Some(at("2026-03-01T05:00:00Z")));
    assert_eq!(status(&workflow).last_run_name.as_deref(), Some("report-202603010100"));
    let rest = Course { until: Some(at("2026-03-01T06:00:00Z")), ..Course::default() };
    assert_eq!(course(&mut workflow, None, "2026-03-01T05:06:00Z"), rest, "it is told once");
    // A longer deadline comes too late for what was seen to.
    let mut longer = edited(&workflow, &json!({"schedule": {"startingDeadlineSeconds": 3600}}));
    assert!(course(&mut longer, None, "2026-03-01T05:07:00Z").runs.is_empty());
    assert_eq!(course(&mut longer, None, "2026-03-01T06:59:59Z").runs, ["report-202603010600"]);
}

#[test]
fn what_passes_while_the_schedule_is_suspended_is_not_made_up() {
    let mut workflow = resting(&json!({}));
    assert_eq!(course(&mut workflow, None, "2026-03-01T01:00:01Z").runs.len(), 1);
    let mut suspended = edited(&workflow, &json!({"suspend": true}));
    assert_eq!(course(&mut suspended, None, "2026-03-01T01:30:00Z"), Course { writes: 1, ..Course::default() });
    assert_eq!((status(&suspended).schedule, next(&suspended)), (None, None));
    assert_eq!(status(&suspended).conditions[0].status, "True", "runs that people make are run all the same");
    assert_eq!(course(&mut suspended, None, "2026-03-01T04:30:00Z"), Course::default());
    let mut resumed = edited(&suspended, &json!({}));
    let course_ = course(&mut resumed, None, "2026-03-01T04:45:00Z");
    assert_eq!(course_, Course { writes: 1, until: Some(at("2026-03-01T05:00:00Z")), ..Course::default() });
    assert_eq!(course(&mut resumed, None, "2026-03-01T05:00:00Z").runs, ["report-202603010500"]);
    // One that begins suspended owes nothing of before either.
    let mut asleep = hourly(&json!({"suspend": true}));
    assert_eq!(course(&mut asleep, None, "2026-03-01T03:10:00Z"), Course { writes: 1, ..Course::default() });
    let mut awake = edited(&asleep, &json!({}));
    assert!(course(&mut awake, None, "2026-03-01T03:20:00Z").runs.is_empty());
}

#[test]
fn a_schedule_that_was_edited_fires_nothing_of_before() {
    let workflow = resting(&json!({}));
    for patch in [json!({"schedule": {"cron": "*/5 * * * *"}}), json!({"schedule": {"timeZone": "Asia/Kolkata"}})] {
        let mut edited = edited(&workflow, &patch);
        let course_ = course(&mut edited, None, "2026-03-01T00:44:30.5Z");
        assert_eq!((course_.runs.len(), course_.skipped.len(), course_.writes), (0, 0, 1), "{patch}");
        let next = course_.until.unwrap();
        assert!(next > at("2026-03-01T00:44:30Z") && next <= at("2026-03-01T01:30:00Z"), "{patch}: {next}");
        assert_eq!(course(&mut edited, None, &next.to_string()).runs.len(), 1, "{patch}");
    }
    // Another input is no other schedule: what is due is made, with what stands there now.
    let other = edited(&workflow, &json!({"schedule": {"input": {"topic": "returns"}}}));
    let Tick::Fire(_, run) = seen(&other, None, "2026-03-01T01:00:00Z") else { panic!("no run") };
    assert_eq!(run.spec.input, Some(json!({"topic": "returns"})));
    // One that is taken away and comes back begins anew.
    let mut without = edited(&workflow, &json!({"schedule": null}));
    assert_eq!(course(&mut without, None, "2026-03-01T00:50:00Z"), Course { writes: 1, ..Course::default() });
    assert_eq!((status(&without).schedule, next(&without)), (None, None));
    let mut back = edited(&without, &json!({}));
    assert!(course(&mut back, None, "2026-03-01T06:10:00Z").runs.is_empty());
}

#[test]
fn forbid_leaves_a_tick_out_and_says_which_run_is_in_its_way() {
    let mut workflow = resting(&json!({"concurrencyPolicy": "Forbid"}));
    let skipped = course(&mut workflow, Some("report-x"), "2026-03-01T01:00:00Z");
    let told = "No run is made for 2026-03-01T01:00:00Z: report-x is under way, and concurrencyPolicy is Forbid.";
    assert_eq!((skipped.runs.len(), skipped.skipped, skipped.writes), (0, vec![told.to_owned()], 1));
    assert_eq!((last(&workflow), status(&workflow).last_run_name), (Some(at("2026-03-01T01:00:00Z")), None));
    let rest = Course { until: Some(at("2026-03-01T02:00:00Z")), ..Course::default() };
    assert_eq!(
        course(&mut workflow, None, "2026-03-01T01:01:00Z"),
        rest,
        "the tick is over, though nothing is under way any more"
    );
    assert_eq!(course(&mut workflow, None, "2026-03-01T02:00:00Z").runs, ["report-202603010200"]);
}

#[test]
fn the_other_policies_make_the_run_whatever_is_under_way() {
    for policy in ["Allow", "Replace"] {
        let mut workflow = resting(&json!({"concurrencyPolicy": policy}));
        assert_eq!(course(&mut workflow, Some("report-x"), "2026-03-01T01:00:00Z").runs, ["report-202603010100"], "{policy}");
    }
}

#[test]
fn a_workflow_that_is_being_deleted_makes_no_run() {
    let mut workflow = resting(&json!({}));
    workflow.metadata.deletion_timestamp = Some(Time(at("2026-03-01T00:30:00Z")));
    assert_eq!(course(&mut workflow, None, "2026-03-01T01:00:00Z"), Course { writes: 1, ..Course::default() });
    assert_eq!(course(&mut workflow, None, "2026-03-01T02:00:00Z"), Course::default());
}

#[test]
fn what_cannot_be_run_says_why_and_makes_no_run_until_it_can() {
    for (patch, words) in [
        (json!({"schedule": {"cron": "61 * * * *"}}), "spec.schedule: the minute `61` cannot be read"),
        (json!({"schedule": {"timeZone": "Mars/Olympus"}}), "spec.schedule: `Mars/Olympus` is no time zone"),
        (json!({"steps": [{"name": "a", "dependsOn": ["b"], "http": {"url": "https://api.example/a"}}]}), "spec.steps"),
    ] {
        let before = resting(&json!({}));
        let mut workflow = edited(&before, &patch);
        assert_eq!(course(&mut workflow, None, "2026-03-01T01:00:00Z"), Course { writes: 1, ..Course::default() }, "{patch}");
        let ready = &status(&workflow).conditions[0];
        assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "InvalidDefinition"));
        assert!(ready.message.contains(words), "{}", ready.message);
        assert_eq!(ready.last_transition_time.0, at("2026-03-01T01:00:00Z"));
        assert_eq!(status(&workflow).observed_generation, Some(2));
        assert_eq!(course(&mut workflow, None, "2026-03-01T02:00:00Z"), Course::default(), "it is said once");
        let mut mended = edited(&workflow, &json!({}));
        let course_ = course(&mut mended, None, "2026-03-01T02:10:00Z");
        assert_eq!(course_, Course { writes: 1, until: Some(at("2026-03-01T03:00:00Z")), ..Course::default() });
        let ready = &status(&mended).conditions[0];
        assert_eq!((ready.status.as_str(), ready.last_transition_time.0), ("True", at("2026-03-01T02:10:00Z")));
    }
}

#[test]
fn status_is_written_once_for_each_generation() {
    let workflow = resting(&json!({}));
    let mut edited = edited(&workflow, &json!({"parallelism": 2}));
    let once = Course { writes: 1, until: Some(at("2026-03-01T01:00:00Z")), ..Course::default() };
    assert_eq!(course(&mut edited, None, "2026-03-01T00:10:00Z"), once);
    let ready = &status(&edited).conditions[0];
    assert_eq!((ready.observed_generation, ready.last_transition_time.0), (Some(2), at(CREATED)), "it was Ready all the time");
    assert_eq!(course(&mut edited, None, "2026-03-01T00:11:00Z").writes, 0);
    let mut plain = hourly(&json!({"schedule": null}));
    assert_eq!(course(&mut plain, None, CREATED), Course { writes: 1, ..Course::default() });
    assert_eq!(course(&mut plain, None, "2026-03-01T09:00:00Z"), Course::default());
}

#[test]
fn a_clock_that_goes_back_makes_nothing_twice_and_writes_nothing() {
    let mut workflow = resting(&json!({}));
    assert_eq!(course(&mut workflow, None, "2026-03-01T05:00:10Z").runs, ["report-202603010500"]);
    let rest = Course { until: Some(at("2026-03-01T06:00:00Z")), ..Course::default() };
    for now in ["2026-03-01T04:59:59Z", "2026-03-01T05:00:00Z", "2026-03-01T02:30:00Z", "2026-02-01T00:00:00Z"] {
        assert_eq!(course(&mut workflow, None, now), rest, "{now}");
    }
    assert_eq!(course(&mut workflow, None, "2026-03-01T06:00:00Z").runs, ["report-202603010600"]);
    // One that was made in what is the future now.
    let mut future = hourly(&json!({}));
    let waits = Course { writes: 1, until: Some(at("2026-03-01T01:00:00Z")), ..Course::default() };
    assert_eq!(course(&mut future, None, "2026-02-28T10:30:00Z"), waits);
}

#[test]
fn a_time_zone_moves_the_ticks_and_names_stay_in_utc() {
    let mut workflow = hourly(&json!({"schedule": {"cron": "30 2 * * *", "timeZone": "Asia/Shanghai"}}));
    assert_eq!(course(&mut workflow, None, CREATED).until, Some(at("2026-03-01T18:30:00Z")));
    assert_eq!(next(&workflow), Some(at("2026-03-01T18:30:00Z")));
    assert_eq!(course(&mut workflow, None, "2026-03-01T18:30:02Z").runs, ["report-202603011830"]);
}
