//! The operator's start-up checklist.

use oauth_operator::runtime::command_line::CommandLine;
use oauth_operator::runtime::{Probe, probe, run};
use oauth_operator::telemetry::logs;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use std::io::Write;
use std::process::ExitCode;

/// Ten thousand accounts' worth of small things lie between buffers that come and go: the C library's allocator holds twice what is used.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // One TLS provider for the API server and for token endpoints, before anybody asks for one.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return ExitCode::FAILURE;
    }
    let settings = match CommandLine::read(std::env::args_os()) {
        Ok(CommandLine::Run(settings)) => *settings,
        Ok(CommandLine::Inject(inject)) => return ended(inject.run()),
        Ok(CommandLine::Probe(page)) => return asked(page),
        Err(error) => error.exit(),
    };
    if let Err(error) = logs::start(settings.log_format, &settings.log_level) {
        let _ = writeln!(std::io::stderr(), "error: {error}");
        return ExitCode::from(2);
    }
    // Tokens are in memory: no core dump of it, and no look into it by another process of the same user (prctl(2), PR_SET_DUMPABLE).
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "what is in memory may be dumped");
    }
    let ended = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        // Of which only what is used is taken: expressions of users are evaluated on them.
        .thread_stack_size(8 << 20)
        .build()
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(run(settings)));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the operator ends");
            ExitCode::FAILURE
        }
    }
}

/// How a subcommand has ended.
fn ended(result: Result<(), String>) -> ExitCode {
    let Err(words) = result else { return ExitCode::SUCCESS };
    for line in words.lines() {
        let _ = writeln!(std::io::stderr(), "error: {line}");
    }
    ExitCode::FAILURE
}

/// The probe's exit code: 0 where the page says yes.
fn asked(page: Probe) -> ExitCode {
    let url = page.url.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let _ = logs::start(logs::LogFormat::Auto, "info");
    let answer = runtime.map_err(|error| error.to_string());
    match answer.and_then(|runtime| runtime.block_on(probe(page)).map_err(|error| error.to_string())) {
        Ok(said) => {
            tracing::info!(%url, said = said.trim(), "it is ready");
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!(%error, "it is not ready");
            ExitCode::FAILURE
        }
    }
}
