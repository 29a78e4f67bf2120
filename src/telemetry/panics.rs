//! Panics in the log. They end the process in images; whoever is paged is to find where, in a line like all others.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};

/// Tells each panic as an error with its place, and with a backtrace where `RUST_BACKTRACE` asks for one. What it says is told where it
/// stands in the source as it is: composed words may quote what the process holds, as those of a slice that splits a character do.
pub fn tell() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let trace = Backtrace::capture();
        let trace = (trace.status() == BacktraceStatus::Captured).then(|| trace.to_string());
        tracing::error!(target: "panic", place, backtrace = trace, says = words(panic.payload()), "panicked");
    }));
}

fn words(payload: &(dyn Any + Send)) -> &'static str {
    payload.downcast_ref::<&'static str>().copied().unwrap_or("not told here, because it may quote a secret")
}

#[cfg(test)]
mod tests {
    use crate::telemetry::logs::{LogFormat, start};
    use serde_json::{Value, json};
    use std::panic::catch_unwind;
    use std::process::Command;

    /// A hook is the whole process's, and so this one is another's.
    #[test]
    #[allow(clippy::disallowed_methods, reason = "it tells one process from the other")]
    fn a_panic_is_a_line_of_the_log_that_quotes_nothing() {
        const WITHIN: &str = "PANICS_ARE_TOLD_WITHIN";
        if std::env::var_os(WITHIN).is_some() {
            start(LogFormat::Json, "info").unwrap();
            let token = "canary-€-token".to_owned();
            // This one quotes all of it.
            assert!(catch_unwind(|| token[..8].len()).is_err());
            assert!(catch_unwind(|| panic!("as it stands")).is_err());
            return;
        }
        let ourselves = std::env::current_exe().unwrap();
        let name = "telemetry::panics::tests::a_panic_is_a_line_of_the_log_that_quotes_nothing";
        let mut command = Command::new(ourselves);
        let output = command.args(["--exact", name, "--nocapture"]).env(WITHIN, "").env("RUST_BACKTRACE", "0").output().unwrap();
        assert!(output.status.success());
        let log = String::from_utf8(output.stderr).unwrap();
        assert!(!log.contains("canary"), "{log}");
        let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let said: Vec<&Value> = lines.iter().map(|line| &line["says"]).collect();
        assert_eq!(said, [&json!("not told here, because it may quote a secret"), &json!("as it stands")]);
        assert!(lines.iter().all(|line| line["msg"] == "panicked" && line["level"] == "error"), "{log}");
        assert!(lines.iter().all(|line| line["place"].as_str().is_some_and(|place| place.contains(".rs:"))), "{log}");
    }
}
