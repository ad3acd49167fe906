//! The host's own log lines on their way to whoever shows them: what the host says of a plugin belongs beside what the
//! plugin says itself.
//!
//! It must never wait, never log anything itself, and never take what guests write or the access log: those have ways of
//! their own.

use std::error::Error;
use std::fmt;
use std::sync::{Arc, OnceLock};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

/// Fields of one line; more are left out.
const FIELDS_MAX: usize = 32;
/// Bytes of one text; what is over is cut off.
const TEXT_BYTES_MAX: usize = 4096;

/// One line of the host: information or graver, whatever `BERTH_LOG` shows.
#[derive(Debug)]
pub(crate) struct HostLine {
    pub level: Level,
    /// The plugin it is about.
    pub plugin: Option<String>,
    /// The build it is about, as the line names it: its number or its short digest.
    pub revision: Option<String>,
    pub request_id: Option<String>,
    pub message: String,
    /// Everything else, in its order.
    pub fields: Vec<(String, String)>,
}

/// Whoever takes the host's lines. Called in the middle of anything: it must neither wait nor log.
pub(crate) trait Lines: Send + Sync {
    fn take(&self, line: HostLine);
}

/// The end of the way, which is connected once there is somebody; lines before that are only written. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct HostLines(Arc<OnceLock<Arc<dyn Lines>>>);

impl HostLines {
    /// From now on `lines` takes every line. Only the first one that is connected counts.
    pub(crate) fn connect(&self, lines: Arc<dyn Lines>) {
        let _ = self.0.set(lines);
    }

    /// What hears the lines.
    pub(super) fn layer<S>(self) -> impl Layer<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        // The hint keeps what is finer switched off where it is written.
        Tap(self).with_filter(filter_fn(is_wanted).with_max_level_hint(LevelFilter::INFO))
    }
}

struct Tap(HostLines);

impl<S: Subscriber> Layer<S> for Tap {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let Some(lines) = self.0.0.get() else { return };
        let mut reader = Reader(HostLine {
            level: *event.metadata().level(),
            plugin: None,
            revision: None,
            request_id: None,
            message: String::new(),
            fields: Vec::new(),
        });
        event.record(&mut reader);
        lines.take(reader.0);
    }
}

/// Lines of this program's own rooms. What libraries say may hold anything, and stays in the log alone.
fn is_wanted(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    metadata.is_event()
        && *metadata.level() <= Level::INFO
        && (matches!(target, "gateway" | "tasks" | "berth") || target.starts_with("berth::"))
}

struct Reader(HostLine);

impl Reader {
    fn add(&mut self, field: &Field, text: String) {
        let text = bounded(text);
        match field.name() {
            "message" => self.0.message = text,
            "plugin" => self.0.plugin = Some(text),
            "revision" => self.0.revision = Some(text),
            "request_id" => self.0.request_id = Some(text),
            name if self.0.fields.len() < FIELDS_MAX => self.0.fields.push((name.to_owned(), text)),
            _ => {}
        }
    }
}

impl Visit for Reader {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.to_owned());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let mut text = value.to_string();
        let mut source = value.source();
        while let Some(cause) = source {
            text.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        self.add(field, text);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}"));
    }
}

fn bounded(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    text
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Default)]
    struct Kept(Mutex<Vec<HostLine>>);

    impl Lines for Kept {
        fn take(&self, line: HostLine) {
            self.0.lock().push(line);
        }
    }

    #[test]
    fn lines_of_the_host_are_taken_with_what_they_are_about_and_nothing_else() {
        let (lines, kept) = (HostLines::default(), Arc::new(Kept::default()));
        let subscriber = tracing_subscriber::registry().with(lines.clone().layer());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("before anybody listens");
            lines.connect(Arc::clone(&kept) as Arc<dyn Lines>);
            let error = std::io::Error::other("the cause");
            tracing::warn!(plugin = %"planning", revision = 3, request_id = "r1", trap = %"unreachable", error = &error as &dyn Error, "a guest trapped");
            tracing::debug!(plugin = "planning", "too fine");
            tracing::error!(target: "guest", plugin = "planning", "a guest's own");
            tracing::info!(target: "access", "request");
            tracing::info!(target: "sqlx::query", "a library's");
            tracing::info!(target: "tasks", text = "é".repeat(TEXT_BYTES_MAX), "of no plugin");
        });
        let kept = kept.0.lock();
        let messages: Vec<&str> = kept.iter().map(|line| line.message.as_str()).collect();
        assert_eq!(messages, ["a guest trapped", "of no plugin"]);
        let trapped = &kept[0];
        let about = (trapped.plugin.as_deref(), trapped.revision.as_deref(), trapped.request_id.as_deref());
        assert_eq!((trapped.level, about), (Level::WARN, (Some("planning"), Some("3"), Some("r1"))));
        assert_eq!(
            trapped.fields,
            [("trap".to_owned(), "unreachable".to_owned()), ("error".to_owned(), "the cause".to_owned())]
        );
        assert_eq!((&kept[1].plugin, kept[1].fields[0].1.len()), (&None, TEXT_BYTES_MAX));
    }
}
