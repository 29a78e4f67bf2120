//! What the proxy costs, beside nginx and haproxy doing the same job in the same run: `make bench-proxy`.
//!
//! Each subject has one core and one worker; load generator and upstream have another core. docs/performance.md tells the
//! method, the goals, and how to read the result; `--quick` tries it in a minute.
#![allow(clippy::disallowed_macros, clippy::disallowed_methods, reason = "a program for a terminal")]

mod awake;
mod case;
mod client;
mod cost;
#[path = "../figures/mod.rs"]
mod figures;
mod goals;
#[path = "../load/mod.rs"]
mod load;
mod machine;
mod markdown;
mod measure;
mod proof;
mod quiet;
mod scores;
mod subject;
mod testbed;
mod tokens;
mod upstream;

use awake::Awake;
use clap::{Parser, ValueEnum};
use client::Client;
use goals::Goals;
use load::report::Latency;
use machine::Cores;
use measure::Held;
use quiet::Quiet;
use scores::{Rounds, Scores};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use subject::{Ground, Kind, Subject};
use testbed::Result;
use tokens::Known;
use upstream::Upstream;

/// What the proxy costs, beside nginx and haproxy doing the same job in the same run.
#[derive(Parser)]
struct Arguments {
    /// How long each subject is measured in each case of each round
    #[arg(long, env = "PROXY_BENCH_SECONDS", default_value_t = 2.0)]
    seconds: f64,
    /// Rounds, each in the reverse order of the last; medians are taken over them
    #[arg(long, env = "PROXY_BENCH_ROUNDS", default_value_t = 5)]
    rounds: usize,
    /// One short round: shows that it works, and no more
    #[arg(long)]
    quick: bool,
    /// The subject's core, and that of generator and upstream
    #[arg(long, env = "PROXY_BENCH_CORES", default_value = "0,1")]
    cores: Cores,
    /// The proxy
    #[arg(long, env = "PROXY_BENCH_BINARY", default_value_os_t = testbed::root().join("target/release/oauth-proxy"))]
    binary: PathBuf,
    /// Whom the goals are for: another subject in place of the proxy tries the benchmark itself
    #[arg(long, default_value = "oauth-proxy")]
    ours: Kind,
    /// The upstream answers one request of so many with 500: the benchmark has to fail
    #[arg(long, default_value_t = 0)]
    fault_every: u64,
    /// Nothing but to keep a core awake
    #[arg(long, hide = true)]
    stay_awake: bool,
    /// What cargo adds
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut arguments = Arguments::parse();
    if arguments.stay_awake {
        awake::stay();
    }
    if arguments.quick {
        (arguments.seconds, arguments.rounds) = (0.5, 1);
    }
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nThe benchmark has failed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let load = machine::load();
    if load > 0.3 {
        eprintln!("NOTE: the machine is busy (load {load:.1}): the figures will mean little");
    }
    if arguments.cores.are_siblings() {
        eprintln!("NOTE: both cores are threads of one: latencies will be too high; choose others with --cores");
    }
    machine::raise_file_limit()?;
    arguments.cores.take_generator()?;
    // One thread: what the generator does beside sending is on nobody else's core.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(bench(arguments))
}

async fn bench(arguments: &Arguments) -> Result<()> {
    let known = Arc::new(Known::default());
    let direct = Client::new(&tokens::publish(&known, "direct")?)?;
    let sound = Upstream::start(known.clone(), 0).await?;
    eprintln!("proving that errors are noticed ...");
    proof::prove(&direct, sound.plain).await?;

    let upstream = if arguments.fault_every == 0 { sound } else { Upstream::start(known.clone(), arguments.fault_every).await? };
    let client = Client::new(client::KEY)?;
    let ground =
        Ground { upstream: &upstream, known: &known, client: &client, cores: arguments.cores, binary: &arguments.binary };
    let mut subjects = vec![];
    let others = Kind::value_variants().iter().filter(|kind| ![arguments.ours, Kind::OauthProxy].contains(kind));
    let others: Vec<Kind> = others.copied().collect();
    for kind in std::iter::once(arguments.ours).chain(others.iter().copied()) {
        eprintln!("starting {} ...", kind.name());
        subjects.push(Subject::start(kind, &ground).await?);
    }

    let quiet = Quiet::new(arguments.cores, !arguments.quick);
    let run = Run { arguments, upstream: &upstream, client, direct, subjects, quiet };
    let scores = run.all().await?;
    if run.quiet.disturbed() > 0 {
        eprintln!(
            "NOTE: {} measures were disturbed by other work on the two cores, each time they were tried",
            run.quiet.disturbed()
        );
    }
    for subject in &run.subjects {
        subject.check(&known)?;
    }
    conclude(arguments, &Goals { scores: &scores, ours: arguments.ours, others: &others })
}

fn conclude(arguments: &Arguments, goals: &Goals<'_>) -> Result<()> {
    let (figures, failures) = goals.figures();
    figures::print(&figures);
    println!("\n{}", markdown::tables(goals));
    // A trial is no result, and replaces none.
    let trial = arguments.quick || arguments.ours != Kind::OauthProxy;
    figures::store(&figures, &testbed::root().join("target/bench"), if trial { "proxy-trial" } else { "proxy" })?;
    if !failures.is_empty() {
        return Err(format!("goals are not met:\n  {}", failures.join("\n  ")).into());
    }
    Ok(())
}

/// A run over all subjects. All live all the time; one works, the others rest.
struct Run<'a> {
    arguments: &'a Arguments,
    upstream: &'a Upstream,
    client: Client,
    /// The client that the upstream takes without a proxy.
    direct: Client,
    subjects: Vec<Subject>,
    quiet: Quiet,
}

impl Run<'_> {
    async fn all(&self) -> Result<Scores> {
        let mut scores = Scores::default();
        tokio::time::sleep(Duration::from_secs(2)).await;
        for subject in &self.subjects {
            scores.idle.insert(subject.kind, subject.meter.memory()?);
        }
        self.streams(&mut scores).await?;
        self.costs(&mut scores).await?;
        self.latency(&mut scores).await?;
        for subject in &self.subjects {
            scores.after.insert(subject.kind, subject.meter.memory()?);
        }
        Ok(scores)
    }

    fn span(&self) -> Result<Duration> {
        Ok(Duration::try_from_secs_f64(self.arguments.seconds)?)
    }

    /// The subjects in the order of this round: what warms up or wears off favours nobody.
    fn in_order(&self, round: usize) -> Vec<&Subject> {
        let mut subjects: Vec<&Subject> = self.subjects.iter().collect();
        if round % 2 == 1 {
            subjects.reverse();
        }
        subjects
    }

    /// First of all, while no subject's memory has been stretched by anything else.
    async fn streams(&self, scores: &mut Scores) -> Result<()> {
        let _awake = Awake::start(self.arguments.cores)?;
        for round in 0..self.arguments.rounds {
            eprintln!("{} streams, round {} ...", measure::STREAMS, round + 1);
            scores.held.add(None, self.held(&self.direct, self.upstream.plain, None).await?);
            for subject in self.in_order(round) {
                scores.held.add(Some(subject.kind), self.held(&self.client, subject.address, Some(subject)).await?);
            }
        }
        Ok(())
    }

    async fn held(&self, client: &Client, address: SocketAddr, subject: Option<&Subject>) -> Result<Held> {
        let span = self.span()?.max(Duration::from_secs(1));
        self.quiet.measure(async || measure::held(client, address, subject, span).await).await
    }

    async fn costs(&self, scores: &mut Scores) -> Result<()> {
        let span = self.span()?;
        for case in &case::CASES {
            let mut rounds = Rounds::default();
            eprintln!("{} ...", case.name);
            for round in 0..self.arguments.rounds {
                for subject in self.in_order(round) {
                    let cost = self.quiet.measure(async || measure::cost(&self.client, subject, case, span).await).await?;
                    rounds.add(Some(subject.kind), cost);
                }
            }
            for subject in &self.subjects {
                let median = |figure: fn(&measure::Cost) -> f64| rounds.median(Some(subject.kind), figure).unwrap_or_default();
                let (processor, rate, busy) = (median(|cost| cost.processor), median(|cost| cost.rate), median(|cost| cost.busy));
                let name = subject.kind.name();
                eprintln!("  {name:<12} {processor:>9.2} µs/request {rate:>9.0} requests/s {:>4.0} % of its core", busy * 100.0);
            }
            scores.costs.push(rounds);
        }
        Ok(())
    }

    async fn at_rate(&self, client: &Client, address: SocketAddr, name: &str, rate: f64) -> Result<Latency> {
        let span = self.span()?;
        self.quiet.measure(async || measure::latency(client, address, name, rate, span).await).await
    }

    /// At half of the rate that the proxy reached with 1 KiB, for all.
    async fn latency(&self, scores: &mut Scores) -> Result<()> {
        let one_kib = case::CASES.iter().zip(&scores.costs).find(|(case, _)| case.name == case::ONE_KIB.name);
        let peak = one_kib.and_then(|(_, rounds)| rounds.median(Some(self.arguments.ours), |cost| cost.rate));
        let rate = peak.ok_or("no rate was measured")? / 2.0;
        let _awake = Awake::start(self.arguments.cores)?;
        for round in 0..self.arguments.rounds {
            eprintln!("latency at {rate:.0} requests/s, round {} ...", round + 1);
            let direct = self.at_rate(&self.direct, self.upstream.plain, "direct", rate).await?;
            scores.latency.add(None, direct);
            for subject in self.in_order(round) {
                let name = subject.kind.name();
                let latency = self.at_rate(&self.client, subject.address, name, rate).await?;
                eprintln!(
                    "  {name:<12} p50 {:>7.0} µs, p99 {:>7.0} µs; direct {:.0} and {:.0}",
                    latency.p50, latency.p99, direct.p50, direct.p99
                );
                scores.latency.add(Some(subject.kind), latency);
            }
        }
        Ok(())
    }
}
