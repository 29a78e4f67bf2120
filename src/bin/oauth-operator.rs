//! The operator's start-up checklist.

use clap::Parser;
use oauth_operator::runtime::{Settings, run};
use oauth_operator::telemetry::logs;
use std::process::ExitCode;

fn main() -> ExitCode {
    // One TLS provider for the API server and for token endpoints, before anybody asks for one.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return ExitCode::FAILURE;
    }
    let settings = Settings::parse();
    if let Err(error) = logs::start(settings.log_format, &settings.log_level) {
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), "error: {error}");
        return ExitCode::from(2);
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
