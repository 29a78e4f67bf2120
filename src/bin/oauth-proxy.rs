//! The proxy's start-up checklist.

use clap::Parser;
use oauth_operator::proxy::{Settings, run};
use oauth_operator::telemetry::logs;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use std::process::ExitCode;

fn main() -> ExitCode {
    // One TLS provider for all sides, before anybody asks for one.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return ExitCode::FAILURE;
    }
    let settings = Settings::parse();
    let level = match logs::start(settings.log_format, &settings.log_level) {
        Ok(level) => level,
        Err(error) => {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "error: {error}");
            return ExitCode::from(2);
        }
    };
    // Tokens are in memory: no core dump of it, and no look into it by another process of the same user (prctl(2), PR_SET_DUMPABLE).
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "what is in memory may be dumped");
    }
    match run(settings, level) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the proxy ends");
            ExitCode::FAILURE
        }
    }
}
