//! Log lines: JSON with the keys `level ts msg target`, then the span's and the event's own; text on a terminal.

use serde_json::{Map, Value, json};
use std::fmt;
use std::io::{IsTerminal, Write};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt as text, reload};

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// One JSON object a line.
    Json,
    /// Text.
    Text,
}

/// Starts logging to standard error, panics included.
///
/// # Errors
/// A sentence when the level is none, or logging was started before.
pub fn start(format: LogFormat, level: &str) -> Result<LogLevel, String> {
    let (filter, handle) = reload::Layer::new(filter(level)?);
    let as_text = format == LogFormat::Text || (format == LogFormat::Auto && std::io::stderr().is_terminal());
    let registry = tracing_subscriber::registry().with(filter);
    let started = if as_text {
        registry.with(text::layer().with_writer(std::io::stderr).compact()).try_init()
    } else {
        registry.with(JsonLines).try_init()
    };
    started.map_err(|error| error.to_string())?;
    super::panics::tell();
    Ok(LogLevel(handle))
}

/// The level, while the process runs.
#[derive(Clone)]
pub struct LogLevel(reload::Handle<EnvFilter, Registry>);

impl LogLevel {
    /// Sets another level or filter.
    ///
    /// # Errors
    /// A sentence when it is none.
    pub fn set(&self, level: &str) -> Result<(), String> {
        self.0.reload(filter(level)?).map_err(|error| error.to_string())
    }
}

fn filter(level: &str) -> Result<EnvFilter, String> {
    let wrong = |error: &dyn fmt::Display| format!("--log-level \"{level}\" is no level or filter: {error}");
    let filter = EnvFilter::builder().parse(level).map_err(|error| wrong(&error))?;
    // A refused Secret write shows up in status; kube's own lines would repeat it with less sense.
    let filter = filter.add_directive("kube_client=error".parse().map_err(|error| wrong(&error))?);
    let filter = filter.add_directive("kube_runtime=error".parse().map_err(|error| wrong(&error))?);
    // A panic may be the last that is heard of a process.
    let filter = filter.add_directive("panic=error".parse().map_err(|error| wrong(&error))?);
    // Who was given which token is told at every level.
    Ok(filter.add_directive("audit=info".parse().map_err(|error| wrong(&error))?))
}

struct JsonLines;

/// Fields of a span, kept beside it.
struct SpanFields(Map<String, Value>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for JsonLines {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields(Map::new());
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(SpanFields(fields.0));
        }
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(SpanFields(map)) = span.extensions_mut().get_mut::<SpanFields>() {
            let mut fields = Fields(std::mem::take(map));
            record.record(&mut fields);
            *map = fields.0;
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let spans = context.event_scope(event).into_iter().flat_map(|scope| scope.from_root());
        let spans = spans.filter_map(|span| span.extensions().get::<SpanFields>().map(|fields| fields.0.clone()));
        let mut line = line(event, &now(), spans);
        line.push('\n');
        // Nobody is left to tell when standard error is gone.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }
}

/// RFC 3339 in UTC.
fn now() -> String {
    let mut text = String::new();
    // A String takes whatever is written.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

fn line(event: &Event<'_>, now: &str, spans: impl Iterator<Item = Map<String, Value>>) -> String {
    let mut fields = Fields(Map::new());
    event.record(&mut fields);
    let message = fields.0.remove("message").unwrap_or_default();
    let metadata = event.metadata();
    let level = metadata.level().as_str().to_ascii_lowercase();
    let mut rest = Map::new();
    spans.for_each(|span| rest.extend(span));
    rest.extend(fields.0);
    // Written by hand for the order: what a person looks for stands first.
    let mut line =
        format!(r#"{{"level":{},"ts":{},"msg":{},"target":{}"#, json!(level), json!(now), message, json!(metadata.target()));
    for (key, value) in rest {
        // A String takes whatever is written.
        let _ = fmt::Write::write_fmt(&mut line, format_args!(",{}:{value}", json!(key)));
    }
    line.push('}');
    line
}

struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), json!(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), json!(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), json!(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), json!(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name().to_owned(), json!(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), json!(value));
    }
}
