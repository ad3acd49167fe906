//! The logging room: a guest's lines, cleaned, counted and handed to the host's log, and kept for a while to be read; with
//! them what the host says of the plugin.
//!
//! It must never let a guest fill the host's log: lines over the rate are counted and dropped, long ones cut. Values of
//! fields whose names look like secrets never leave it.

mod host;
mod redact;
mod stream;

pub(crate) use host::link;
pub(crate) use redact::{is_count, is_secret};
pub(crate) use stream::{Follow, Followed, LogLine};

use std::fmt;
use std::sync::{Arc, OnceLock};

use dashmap::DashMap;

use super::Guest;
use crate::telemetry::lines::{HostLine, Lines};
use stream::{Admission, PluginLog};

/// Lines a second from one plugin; more are counted and dropped.
pub(crate) const LINES_PER_SECOND_MAX: u32 = 1000;
/// Lines a second that the host may add to one plugin's; more stay in the host's log alone, and are counted.
const HOST_LINES_PER_SECOND_MAX: u32 = 100;
/// Logs at once; plugins come from the manifest, and this only holds should a line name something else.
const LOGS_MAX: usize = 2_000;
/// The log of what the host says of no plugin.
pub(crate) const HOST_LOG: &str = "host";
/// Bytes of one line, its fields included; what is over is cut.
pub(crate) const LINE_BYTES_MAX: usize = 8 << 10;
/// Fields of one line; more are cut.
pub(crate) const FIELDS_MAX: usize = 64;
/// Lines kept for each plugin, oldest first out.
pub(crate) const LINES_KEPT: usize = 1000;
/// Bytes of them, so that long lines push out more.
pub(crate) const BYTES_KEPT: usize = 1 << 20;

/// How grave a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

/// Who says a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Source {
    /// The plugin.
    Guest,
    /// The host, about the plugin.
    Host,
}

/// Whoever gets a copy of every line. Called in the middle of anything: it must neither wait nor log.
pub(crate) type Copies = Box<dyn Fn(&LogLine) + Send + Sync>;

/// The logs of all plugins. Cheap to clone. Plugins come from the manifest, so the map is as large as that.
#[derive(Clone, Default)]
pub(crate) struct LogRoom {
    plugins: Arc<DashMap<Arc<str>, Arc<PluginLog>>>,
    copies: Arc<OnceLock<Copies>>,
}

/// What the room sees of the running call.
pub(crate) struct View<'a> {
    pub guest: &'a Guest,
    pub room: &'a LogRoom,
}

impl fmt::Display for Level {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        })
    }
}

impl Level {
    /// The reverse of `Display`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Debug, Self::Info, Self::Warn, Self::Error].into_iter().find(|level| level.to_string() == text)
    }
}

impl LogRoom {
    /// Takes one line of a guest.
    pub(crate) fn write(&self, guest: &Guest, level: Level, message: String, fields: Vec<(String, String)>) {
        let log = self.plugin(&guest.plugin.name);
        match log.admit() {
            Admission::Taken => {}
            Admission::Dropped => return,
            Admission::DroppedFirst => return self.summarise_later(log, guest),
        }
        let (message, fields) = redact::cleaned(message, fields);
        let line = LogLine::new(guest, level, message, fields);
        emit(&line);
        self.keep(&log, line);
    }

    /// From now on `copies` gets every line that is kept. Only the first counts.
    pub(crate) fn copy_to(&self, copies: Copies) {
        let _ = self.copies.set(copies);
    }

    /// The last lines of a plugin, oldest first, and those still to come; only those after the line with the id `after`,
    /// where one is given. The caller knows that there is such a plugin: its log is made when it has written nothing yet.
    pub(crate) fn follow(&self, plugin: &str, after: Option<u64>) -> Follow {
        self.plugin(plugin).follow(after)
    }

    fn keep(&self, log: &PluginLog, line: LogLine) {
        let line = log.keep(line);
        if let Some(copies) = self.copies.get() {
            copies(&line);
        }
    }

    /// Says how many lines were dropped once the present second is over, even when the plugin has fallen silent.
    fn summarise_later(&self, log: Arc<PluginLog>, guest: &Guest) {
        let (room, guest) = (self.clone(), guest.clone());
        let wait = log.until_next_second();
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            let dropped = log.take_dropped();
            if dropped == 0 {
                return;
            }
            let message = format!("{dropped} log lines were dropped: more than {LINES_PER_SECOND_MAX} in a second");
            let line = LogLine::new(&guest, Level::Warn, message, vec![("dropped".into(), dropped.to_string())]);
            emit(&line);
            room.keep(&log, line);
        });
    }

    fn plugin(&self, name: &str) -> Arc<PluginLog> {
        if let Some(log) = self.plugins.get(name) {
            return log.clone();
        }
        self.plugins.entry(name.into()).or_default().clone()
    }
}

impl Lines for LogRoom {
    fn take(&self, line: HostLine) {
        let plugin = line.plugin.as_deref().unwrap_or(HOST_LOG);
        if self.plugins.len() >= LOGS_MAX && !self.plugins.contains_key(plugin) {
            return;
        }
        let log = self.plugin(plugin);
        let Some(dropped) = log.admit_host() else { return };
        let mut fields = line.fields;
        if dropped > 0 {
            fields.push(("linesDroppedBefore".to_owned(), dropped.to_string()));
        }
        let (message, fields) = redact::cleaned(line.message, fields);
        let level = match line.level {
            tracing::Level::ERROR => Level::Error,
            tracing::Level::WARN => Level::Warn,
            tracing::Level::INFO => Level::Info,
            _ => Level::Debug,
        };
        let line = LogLine {
            revision: line.revision.map(Into::into),
            request_id: line.request_id.map(Into::into),
            ..LogLine::of_host(plugin, level, message, fields)
        };
        self.keep(&log, line);
    }
}

/// Hands a line to the host's log, under the target `guest`.
fn emit(line: &LogLine) {
    macro_rules! emit {
        ($level:ident) => {
            tracing::$level!(
                target: "guest",
                plugin = %line.plugin,
                revision = line.revision.as_deref(),
                request_id = line.request_id.as_deref(),
                organization_id = line.organization_id.as_deref(),
                fields = line.fields_text().as_deref(),
                "{}",
                line.message
            )
        };
    }
    match line.level {
        Level::Debug => emit!(debug),
        Level::Info => emit!(info),
        Level::Warn => emit!(warn),
        Level::Error => emit!(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::testing;

    async fn next(follow: &mut Follow) -> Arc<LogLine> {
        match follow.next().await {
            Some(Followed::Line(line)) => line,
            _ => panic!("no line"),
        }
    }

    fn write(room: &LogRoom, guest: &Guest, message: &str, fields: &[(&str, &str)]) {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        room.write(guest, Level::Info, message.to_owned(), fields);
    }

    #[tokio::test]
    async fn a_line_carries_plugin_revision_request_and_organization() {
        let room = LogRoom::default();
        let guest = testing::guest("planning", Some("org-1"));
        write(&room, &guest, "hello", &[("planId", "p1")]);
        let follow = room.follow("planning", None);
        let line = &follow.kept[0];
        assert_eq!((&*line.plugin, line.revision.as_deref()), ("planning", Some("0123456789ab")));
        assert_eq!((line.request_id.as_deref(), line.organization_id.as_deref()), (Some("request-1"), Some("org-1")));
        let shown = serde_json::to_value(&**line).unwrap();
        assert_eq!((&shown["source"], &shown["fields"]), (&"guest".into(), &serde_json::json!({"planId": "p1"})));
        assert_eq!(line.fields, [("planId".to_owned(), "p1".to_owned())]);
        assert!(room.follow("ai-service", None).kept.is_empty(), "another plugin's log is another log");
    }

    #[tokio::test]
    async fn lines_over_the_rate_are_dropped_counted_and_summarised() {
        let room = LogRoom::default();
        let guest = testing::guest("planning", None);
        let mut follow = room.follow("planning", None);
        for _ in 0..LINES_PER_SECOND_MAX + 250 {
            write(&room, &guest, "flood", &[]);
        }
        let kept = room.follow("planning", None).kept;
        assert_eq!(kept.len(), LINES_KEPT);
        // The flood may straddle the turn of a second; then the second window takes some of it.
        let mut last = next(&mut follow).await;
        while last.level == Level::Info {
            last = next(&mut follow).await;
        }
        let dropped: u32 = last.fields[0].1.parse().unwrap();
        assert!((1..=250).contains(&dropped), "{dropped}");
        assert!(last.message.contains("dropped"));
    }

    #[tokio::test]
    async fn what_is_kept_is_bounded_by_bytes_too() {
        let room = LogRoom::default();
        let guest = testing::guest("planning", None);
        for _ in 0..900 {
            write(&room, &guest, &"x".repeat(LINE_BYTES_MAX), &[]);
        }
        let kept = room.follow("planning", None).kept;
        let bytes: usize = kept.iter().map(|line| line.message.len()).sum();
        assert!(bytes <= BYTES_KEPT && bytes > BYTES_KEPT / 2, "{bytes}");
    }

    #[tokio::test]
    async fn one_plugin_in_a_flood_does_not_silence_another() {
        let room = LogRoom::default();
        let loud = testing::guest("planning", None);
        for _ in 0..3000 {
            write(&room, &loud, "flood", &[]);
        }
        write(&room, &testing::guest("ai-service", None), "quiet", &[]);
        assert_eq!(room.follow("ai-service", None).kept.len(), 1);
    }

    #[tokio::test]
    async fn a_follower_sees_what_is_kept_and_then_what_comes() {
        let room = LogRoom::default();
        let guest = testing::guest("planning", None);
        write(&room, &guest, "before", &[]);
        let mut follow = room.follow("planning", None);
        write(&room, &guest, "after", &[]);
        assert_eq!(follow.kept[0].message, "before");
        assert_eq!(next(&mut follow).await.message, "after");
    }

    #[tokio::test]
    async fn who_comes_back_gets_what_is_new_and_is_told_of_a_gap() {
        let room = LogRoom::default();
        let guest = testing::guest("planning", None);
        ["one", "two", "three"].iter().for_each(|message| write(&room, &guest, message, &[]));
        let all = room.follow("planning", None);
        let ids: Vec<u64> = all.kept.iter().map(|line| line.id).collect();
        assert!(ids.is_sorted_by(|left, right| left < right), "{ids:?}");
        let later = room.follow("planning", Some(ids[0]));
        assert_eq!(later.kept.iter().map(|line| line.message.as_str()).collect::<Vec<_>>(), ["two", "three"]);
        assert!(!later.has_gap && !all.has_gap);
        for _ in 0..200 {
            room.plugin("planning").keep(LogLine::of_host("planning", Level::Info, "x".repeat(LINE_BYTES_MAX), vec![]));
        }
        assert!(room.follow("planning", Some(ids[2])).has_gap, "the first of the new lines are gone");
    }

    #[tokio::test]
    async fn a_follower_that_is_too_slow_learns_how_many_lines_it_missed() {
        let room = LogRoom::default();
        let mut follow = room.follow("planning", None);
        let log = room.plugin("planning");
        (0..3_000).for_each(|_| drop(log.keep(LogLine::of_host("planning", Level::Info, "x".into(), vec![]))));
        let Some(Followed::Missed(missed)) = follow.next().await else { panic!("nothing was missed") };
        assert!(missed >= 1_000, "{missed}");
        assert!(matches!(follow.next().await, Some(Followed::Line(_))));
    }

    #[tokio::test]
    async fn the_host_speaks_in_a_plugins_log_without_filling_it() {
        let room = LogRoom::default();
        let say = |plugin: Option<&str>, count: u32| {
            for _ in 0..count {
                room.take(HostLine {
                    level: tracing::Level::WARN,
                    plugin: plugin.map(str::to_owned),
                    revision: Some("3".into()),
                    request_id: None,
                    message: "a guest trapped".into(),
                    fields: vec![("token".into(), "abc".into())],
                });
            }
        };
        say(Some("planning"), HOST_LINES_PER_SECOND_MAX * 3);
        say(None, 1);
        let kept = room.follow("planning", None).kept;
        assert!((HOST_LINES_PER_SECOND_MAX as usize..=2 * HOST_LINES_PER_SECOND_MAX as usize).contains(&kept.len()));
        assert_eq!(
            (kept[0].level, kept[0].source, kept[0].revision.as_deref()),
            (Level::Warn, Source::Host, Some("3"))
        );
        assert_eq!(kept[0].fields, [("token".to_owned(), "[redacted]".to_owned())]);
        assert_eq!(room.follow(HOST_LOG, None).kept.len(), 1, "what is about no plugin is the host's own");
    }
}
