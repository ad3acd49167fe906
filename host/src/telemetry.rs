//! Log lines: where they go, which pass, and how they look.
//!
//! Writing never blocks a request: a full buffer drops lines.

pub(crate) mod lines;
pub(crate) mod meter;
pub(crate) mod recent;

use std::sync::OnceLock;

use lines::HostLines;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, fmt};

/// Lines that may wait for the writer; one more is dropped.
const BUFFERED_LINES_MAX: usize = 32_768;
/// Answered once, at the start: one of two filters that refuses what is merely asked about would miss the next line of the thread that
/// asked as well, because it keeps the refusal until it is asked again.
static ACCESS_IS_LOGGED: OnceLock<bool> = OnceLock::new();
/// RFC 3339 in UTC with milliseconds.
const TIME_FORMAT: &str = "%Y-%m-%dT%H:%M:%S%.3fZ";

/// How a line looks (`BERTH_LOG_FORMAT`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// One readable line.
    Text,
    /// One JSON object a line.
    Json,
}

/// What `BERTH_LOG` and `BERTH_LOG_FORMAT` say.
#[derive(Clone, Debug)]
pub(crate) struct TelemetryOptions {
    /// Directives as in `info` or `warn,access=info,gateway=debug`.
    pub filter: String,
    pub format: LogFormat,
    /// Colours, for a terminal.
    pub ansi: bool,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TelemetryError {
    #[error("`{0}` is not a log filter")]
    Filter(String),
    #[error("logging is set up already")]
    AlreadyStarted,
}

/// The time of a line.
struct UtcMilliseconds;

impl FormatTime for UtcMilliseconds {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        write!(writer, "{}", chrono::Utc::now().format(TIME_FORMAT))
    }
}

/// Keeps the writer alive; its drop flushes what waits.
pub(crate) struct Telemetry {
    _writer: WorkerGuard,
}

/// Sets up logging for the whole process; once. `lines` hears the host's own lines besides.
pub(crate) fn start(options: &TelemetryOptions, lines: HostLines) -> Result<Telemetry, TelemetryError> {
    let filter = parse_filter(&options.filter)?;
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(BUFFERED_LINES_MAX)
        .lossy(true)
        .thread_name("log-writer")
        .finish(std::io::stderr());
    let layer = fmt::layer()
        .with_writer(writer)
        .with_ansi(options.ansi)
        .with_span_events(FmtSpan::NONE)
        .with_timer(UtcMilliseconds);
    let shown: Box<dyn Layer<Registry> + Send + Sync> = match options.format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed(),
    };
    let started = tracing_subscriber::registry().with(shown.with_filter(filter)).with(lines.layer()).try_init();
    started.map_err(|_| TelemetryError::AlreadyStarted)?;
    let _ = ACCESS_IS_LOGGED.set(tracing::enabled!(target: "access", tracing::Level::INFO));
    Ok(Telemetry { _writer: guard })
}

/// Whether requests are written to the log.
pub(crate) fn logs_access() -> bool {
    ACCESS_IS_LOGGED.get().copied().unwrap_or_default()
}

fn parse_filter(filter: &str) -> Result<EnvFilter, TelemetryError> {
    EnvFilter::builder().parse(filter).map_err(|_| TelemetryError::Filter(filter.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_judged_before_anything_starts() {
        assert!(parse_filter("info").is_ok());
        assert!(parse_filter("warn,access=info,gateway=debug").is_ok());
        assert!(parse_filter("info,access=loud").is_err());
    }
}
