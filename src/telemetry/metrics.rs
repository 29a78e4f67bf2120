//! Every metric, named and explained in one place. Names of controllers, queues and API requests are
//! controller-runtime's and client-go's, which existing dashboards query.

use super::catalogue::{Catalogue, Family};
use crate::api::{NamespacedName, Phase, RunReason};
use crate::oauth::FaultKind;
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder, exponential_buckets,
};
use std::io::Write;
use std::time::Duration;

/// Value of the label `controller`.
pub const ACCOUNT_CONTROLLER: &str = "oauthaccount";

/// The same of runs of workflows.
pub const RUN_CONTROLLER: &str = "workflowrun";

/// Metrics of one process.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    /// Reconciles by result: success, requeue_after, error.
    pub reconcile_total: IntCounterVec,
    /// Reconciles that ended in an error of the API server's.
    pub reconcile_errors: IntCounterVec,
    /// Duration of a reconcile.
    pub reconcile_time: HistogramVec,
    /// Reconciles under way.
    pub active_workers: IntGaugeVec,
    /// Objects handed to the queue.
    pub queue_adds: IntCounterVec,
    /// How long objects waited.
    pub queue_duration: HistogramVec,
    /// How long they were worked on.
    pub work_duration: HistogramVec,
    /// Objects taken up again after an error.
    pub queue_retries: IntCounterVec,
    /// API requests by status code, method and host.
    pub api_requests: IntCounterVec,
    /// Duration of API requests.
    pub api_duration: HistogramVec,
    /// 1 on the leader.
    pub leader: IntGaugeVec,
    /// Token requests by provider, grant and result.
    pub token_requests: IntCounterVec,
    /// Attempts that failed, whether anybody was asked or not, by the reason that conditions give.
    pub failed_attempts: IntCounterVec,
    /// Duration of token requests.
    pub token_duration: HistogramVec,
    /// How long after its planned moment a refresh was made.
    pub lateness: Histogram,
    /// Writes of token Secrets by result.
    pub secret_writes: IntCounterVec,
    /// Writes of the operator's own records of logins by result.
    pub state_writes: IntCounterVec,
    /// Requests for a newer token by result: newer, refreshed, or the code of the error.
    pub refresh_requests: IntCounterVec,
    /// Writes of the ConfigMap that says whom to trust for the operator's own CA, in namespaces of accounts, by result.
    pub bundle_writes: IntCounterVec,
    /// New Pods that were shown to the webhook, by what became of them.
    pub injections: IntCounterVec,
    /// Runs of workflows that have ended, by phase and reason.
    pub workflow_runs_total: IntCounterVec,
    /// Duration of runs that have ended.
    pub workflow_run_duration: Histogram,
    /// Requests of steps by what came of them.
    pub step_attempts: IntCounterVec,
    /// Objects of a kind that this version cannot read.
    pub unreadable: IntCounter,
    /// What is computed at scrape time.
    pub at_scrape: AtScrape,
}

/// Gauges of accounts: written from the cache when somebody asks, and kept nowhere, so that ten thousand accounts cost no
/// memory between two scrapes and a deleted one leaves no series. Labels: namespace and name.
pub struct AccountGauge {
    /// Its name.
    pub name: &'static str,
    /// What it tells.
    pub help: &'static str,
    /// Labels beside those two.
    pub labels: &'static [&'static str],
}

/// The provider and the grant of an account, to join with.
pub const INFO: AccountGauge = AccountGauge {
    name: "oauth_operator_account_info",
    help: "1, with the account's provider and grant as labels.",
    labels: &["provider", "grant"],
};
/// 1 for the status that the condition Ready has.
pub const READY: AccountGauge = AccountGauge {
    name: "oauth_operator_account_ready_status",
    help: "1 for the status that the account's condition Ready has, 0 for the other two.",
    labels: &["condition"],
};
/// Why an account is as it is.
pub const CONDITION: AccountGauge = AccountGauge {
    name: "oauth_operator_account_condition",
    help: "1 for each condition that the account has, with its status and reason.",
    labels: &["type", "status", "reason"],
};
/// Whether somebody has paused it.
pub const SUSPENDED: AccountGauge = AccountGauge {
    name: "oauth_operator_account_suspended",
    help: "1 where spec.suspend pauses the account's token requests, else 0.",
    labels: &[],
};
/// When the published token was issued.
pub const ISSUED: AccountGauge = AccountGauge {
    name: "oauth_operator_access_token_issued_timestamp_seconds",
    help: "When the published token was issued.",
    labels: &[],
};
/// When it expires.
pub const EXPIRATION: AccountGauge = AccountGauge {
    name: "oauth_operator_access_token_expiration_timestamp_seconds",
    help: "When the published token expires.",
    labels: &[],
};
/// When it is to be refreshed.
pub const RENEWAL: AccountGauge = AccountGauge {
    name: "oauth_operator_access_token_renewal_timestamp_seconds",
    help: "When the published token is to be refreshed.",
    labels: &[],
};
/// When the refresh token expires, where the provider says so.
pub const REFRESH_TOKEN_EXPIRATION: AccountGauge = AccountGauge {
    name: "oauth_operator_refresh_token_expiration_timestamp_seconds",
    help: "When the refresh token that is held expires; absent where the provider does not say.",
    labels: &[],
};
/// When a token was last obtained.
pub const LAST_SUCCESS: AccountGauge =
    AccountGauge { name: "oauth_operator_last_success_timestamp_seconds", help: "When a token was last obtained.", labels: &[] };

/// All of them.
const ACCOUNT_GAUGES: [&AccountGauge; 9] =
    [&INFO, &READY, &CONDITION, &SUSPENDED, &ISSUED, &EXPIRATION, &RENEWAL, &REFRESH_TOKEN_EXPIRATION, &LAST_SUCCESS];

/// How a run may end.
const ENDS: [(Phase, &[RunReason]); 3] = [
    (Phase::Completed, &[RunReason::Completed]),
    (
        Phase::Failed,
        &[
            RunReason::InvalidDefinition,
            RunReason::AccountNotReady,
            RunReason::AuthFailed,
            RunReason::PermissionDenied,
            RunReason::RateLimited,
            RunReason::Timeout,
            RunReason::StepFailed,
            RunReason::OutcomeUnknown,
            RunReason::OutputTooLarge,
        ],
    ),
    (Phase::Cancelled, &[RunReason::CancelledByUser, RunReason::Replaced]),
];

impl AccountGauge {
    /// Writes the head of the family.
    pub fn head(&self, text: &mut Vec<u8>) {
        text.extend_from_slice(format!("# HELP {0} {1}\n# TYPE {0} gauge\n", self.name, self.help).as_bytes());
    }

    /// Writes one sample; `more` is a further label. Names of Kubernetes objects need no escaping.
    pub fn sample(&self, text: &mut Vec<u8>, NamespacedName { namespace, name }: &NamespacedName, more: &str, value: i64) {
        // A vector takes whatever is written.
        let _ = writeln!(text, "{}{{{more}name=\"{name}\",namespace=\"{namespace}\"}} {value}", self.name);
    }
}

/// Gauges that are set from the cache when somebody asks.
#[derive(Clone)]
pub struct AtScrape {
    /// How long the most overdue refresh has been due.
    pub overdue: Gauge,
    /// Objects that wait to be reconciled.
    pub queue_depth: IntGaugeVec,
    /// Seconds of work that is not finished.
    pub unfinished_work: GaugeVec,
    /// Seconds of the longest work that is not finished.
    pub longest_work: GaugeVec,
    /// Runs of workflows that there are, by phase.
    pub workflow_runs: IntGaugeVec,
}

impl Metrics {
    /// Metrics with a registry of their own, of a process that reconciles so many objects at once.
    ///
    /// # Errors
    /// Two metrics of one name: a mistake of ours, found by every test.
    pub fn new(concurrent_reconciles: u16) -> prometheus::Result<Self> {
        Ok(Self::catalogued(concurrent_reconciles)?.0)
    }

    /// The same with a list of what there is.
    ///
    /// # Errors
    /// As above.
    pub fn catalogued(concurrent_reconciles: u16) -> prometheus::Result<(Self, Vec<Family>)> {
        let mut catalogue = Catalogue::default();
        let r = &mut catalogue;
        let seconds = || exponential_buckets(0.001, 2.0, 16);
        let metrics = Self {
            reconcile_total: counters(
                r,
                "controller_runtime_reconcile_total",
                "Reconciles by result.",
                &["controller", "result"],
            )?,
            reconcile_errors: counters(
                r,
                "controller_runtime_reconcile_errors_total",
                "Reconciles that failed.",
                &["controller"],
            )?,
            reconcile_time: histograms(
                r,
                "controller_runtime_reconcile_time_seconds",
                "Duration of a reconcile.",
                &["controller"],
                seconds()?,
            )?,
            active_workers: gauges(r, "controller_runtime_active_workers", "Reconciles under way.", &["controller"])?,
            queue_adds: counters(r, "workqueue_adds_total", "Objects handed to the queue.", &["name"])?,
            queue_duration: histograms(r, "workqueue_queue_duration_seconds", "How long objects waited.", &["name"], seconds()?)?,
            work_duration: histograms(
                r,
                "workqueue_work_duration_seconds",
                "How long objects were worked on.",
                &["name"],
                seconds()?,
            )?,
            queue_retries: counters(r, "workqueue_retries_total", "Objects taken up again after an error.", &["name"])?,
            api_requests: counters(r, "rest_client_requests_total", "Requests to the API server.", &["code", "method", "host"])?,
            api_duration: histograms(
                r,
                "rest_client_request_duration_seconds",
                "Duration of requests to the API server, watches left out.",
                &["verb", "host"],
                seconds()?,
            )?,
            leader: gauges(r, "leader_election_master_status", "1 on the leader, 0 on the others.", &["name"])?,
            token_requests: counters(
                r,
                "oauth_operator_token_requests_total",
                "Token requests by provider, grant and result.",
                &["provider", "grant", "result"],
            )?,
            failed_attempts: counters(
                r,
                "oauth_operator_failed_attempts_total",
                "Attempts to obtain or publish a token that failed, by reason.",
                &["reason"],
            )?,
            token_duration: histograms(
                r,
                "oauth_operator_token_request_duration_seconds",
                "Duration of token requests.",
                &["provider", "grant"],
                seconds()?,
            )?,
            lateness: r.add(Histogram::with_opts(
                HistogramOpts::new(
                    "oauth_operator_renewal_lateness_seconds",
                    "How long after its planned moment a refresh was made.",
                )
                .buckets(exponential_buckets(0.01, 4.0, 10)?),
            )?)?,
            secret_writes: counters(r, "oauth_operator_secret_writes_total", "Writes of token Secrets by result.", &["result"])?,
            state_writes: counters(
                r,
                "oauth_operator_login_state_writes_total",
                "Writes of the operator's own records of logins by result.",
                &["result"],
            )?,
            refresh_requests: counters(
                r,
                "oauth_operator_refresh_requests_total",
                "Requests for a newer token by result.",
                &["result"],
            )?,
            bundle_writes: counters(
                r,
                "oauth_operator_ca_bundle_writes_total",
                "Writes of the ConfigMap with the operator's own CA in namespaces of accounts by result.",
                &["result"],
            )?,
            injections: counters(
                r,
                "oauth_operator_injections_total",
                "New Pods that ask for the sidecar, by result: injected, left, refused, failed.",
                &["result"],
            )?,
            workflow_runs_total: counters(
                r,
                "oauth_operator_workflow_runs_total",
                "Runs of workflows that have ended, by phase and reason.",
                &["phase", "reason"],
            )?,
            workflow_run_duration: r.add(Histogram::with_opts(
                HistogramOpts::new(
                    "oauth_operator_workflow_run_duration_seconds",
                    "Duration of runs of workflows, from their first request to their end.",
                )
                .buckets(exponential_buckets(0.05, 3.0, 13)?),
            )?)?,
            step_attempts: counters(
                r,
                "oauth_operator_step_attempts_total",
                "Requests of steps of workflows, by what came of them.",
                &["outcome"],
            )?,
            unreadable: r.add(IntCounter::new(
                "oauth_operator_unreadable_objects_total",
                "Objects that this version cannot read, each time they are seen.",
            )?)?,
            at_scrape: AtScrape {
                workflow_runs: gauges(
                    r,
                    "oauth_operator_workflow_runs",
                    "Runs of workflows that there are, by phase.",
                    &["phase"],
                )?,
                queue_depth: gauges(r, "workqueue_depth", "Objects that wait to be reconciled.", &["name"])?,
                unfinished_work: float_gauges(
                    r,
                    "workqueue_unfinished_work_seconds",
                    "Seconds of work that is not finished.",
                    &["name"],
                )?,
                longest_work: float_gauges(
                    r,
                    "workqueue_longest_running_processor_seconds",
                    "Seconds of the longest work that is not finished.",
                    &["name"],
                )?,
                overdue: r.add(Gauge::new(
                    "oauth_operator_oldest_overdue_refresh_seconds",
                    "How long the most overdue refresh has been due.",
                )?)?,
            },
            registry: r.registry.clone(),
        };
        let build = gauges(r, "oauth_operator_build_info", "1, with the version as a label.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let most: IntGauge = gauges(
            r,
            "controller_runtime_max_concurrent_reconciles",
            "Reconciles that may be under way at once.",
            &["controller"],
        )?
        .with_label_values(&[ACCOUNT_CONTROLLER]);
        most.set(i64::from(concurrent_reconciles));
        // An increase is seen only from one scrape to the next: what is rare, and asked about, begins at 0.
        for (phase, reasons) in ENDS {
            for reason in reasons {
                metrics.workflow_runs_total.with_label_values(&[phase.as_str(), reason.as_str()]);
            }
        }
        #[cfg(target_os = "linux")]
        r.add_process()?;
        ACCOUNT_GAUGES.iter().for_each(|gauge| r.list_account_gauge(gauge));
        Ok((metrics, catalogue.families))
    }

    /// A token endpoint was asked.
    pub fn token_requested(&self, provider: &str, grant: &str, result: &str, took: Duration) {
        // All of them from the first one on, so that the first failure is an increase.
        for result in FaultKind::METRICS {
            self.token_requests.with_label_values(&[provider, grant, result]);
        }
        self.token_requests.with_label_values(&[provider, grant, result]).inc();
        self.token_duration.with_label_values(&[provider, grant]).observe(took.as_secs_f64());
    }

    /// A reconcile has ended.
    pub fn reconciled(&self, result: &str, took: Duration) {
        self.reconcile_total.with_label_values(&[ACCOUNT_CONTROLLER, result]).inc();
        self.reconcile_time.with_label_values(&[ACCOUNT_CONTROLLER]).observe(took.as_secs_f64());
        if result == "error" {
            self.reconcile_errors.with_label_values(&[ACCOUNT_CONTROLLER]).inc();
            self.queue_retries.with_label_values(&[ACCOUNT_CONTROLLER]).inc();
        }
    }

    /// Everything in Prometheus' text format.
    ///
    /// # Errors
    /// The encoder's, for a metric that is none.
    pub fn text(&self) -> prometheus::Result<Vec<u8>> {
        let mut text = vec![];
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

pub(super) fn counters(catalogue: &mut Catalogue, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
    catalogue.add(IntCounterVec::new(Opts::new(name, help), labels)?)
}

pub(super) fn gauges(catalogue: &mut Catalogue, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
    catalogue.add(IntGaugeVec::new(Opts::new(name, help), labels)?)
}

fn float_gauges(catalogue: &mut Catalogue, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<GaugeVec> {
    catalogue.add(GaugeVec::new(Opts::new(name, help), labels)?)
}

pub(super) fn histograms(
    catalogue: &mut Catalogue,
    name: &str,
    help: &str,
    labels: &[&str],
    buckets: Vec<f64>,
) -> prometheus::Result<HistogramVec> {
    catalogue.add(HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets), labels)?)
}
