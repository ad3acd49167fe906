//! The logging room: a guest's lines, cleaned, counted and handed to the host's log, and kept for a while to be read.
//!
//! It must never let a guest fill the host's log: lines over the rate are counted and dropped, long ones cut. Values of
//! fields whose names look like secrets never leave it.

mod host;
mod redact;
mod stream;

pub(crate) use host::link;
pub(crate) use stream::{Follow, LogLine};

use std::fmt;
use std::sync::Arc;

use dashmap::DashMap;

use super::Guest;
use stream::{Admission, PluginLog};

/// Lines a second from one plugin; more are counted and dropped.
pub(crate) const LINES_PER_SECOND_MAX: u32 = 1000;
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

/// The logs of all plugins. Cheap to clone. Plugins come from the manifest, so the map is as large as that.
#[derive(Clone, Default)]
pub(crate) struct LogRoom {
    plugins: Arc<DashMap<Arc<str>, Arc<PluginLog>>>,
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

impl LogRoom {
    /// Takes one line of a guest.
    pub(crate) fn write(&self, guest: &Guest, level: Level, message: String, fields: Vec<(String, String)>) {
        let log = self.plugin(&guest.plugin.name);
        match log.admit() {
            Admission::Taken => {}
            Admission::Dropped => return,
            Admission::DroppedFirst => return summarise_later(log, guest),
        }
        let (message, fields) = redact::cleaned(message, fields);
        let line = LogLine::new(guest, level, message, fields);
        emit(&line);
        log.keep(Arc::new(line));
    }

    /// The last lines of a plugin, oldest first, and those still to come. The caller knows that there is such a plugin:
    /// its log is made when it has written nothing yet.
    pub(crate) fn follow(&self, plugin: &str) -> Follow {
        self.plugin(plugin).follow()
    }

    fn plugin(&self, name: &str) -> Arc<PluginLog> {
        if let Some(log) = self.plugins.get(name) {
            return log.clone();
        }
        self.plugins.entry(name.into()).or_default().clone()
    }
}

/// Says how many lines were dropped once the present second is over, even when the plugin has fallen silent.
fn summarise_later(log: Arc<PluginLog>, guest: &Guest) {
    let guest = guest.clone();
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
        log.keep(Arc::new(line));
    });
}

/// Hands a line to the host's log, under the target `guest`.
fn emit(line: &LogLine) {
    macro_rules! emit {
        ($level:ident) => {
            tracing::$level!(
                target: "guest",
                plugin = %line.plugin,
                revision = %line.revision,
                request_id = %line.request_id,
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

    fn write(room: &LogRoom, guest: &Guest, message: &str, fields: &[(&str, &str)]) {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        room.write(guest, Level::Info, message.to_owned(), fields);
    }

    #[tokio::test]
    async fn a_line_carries_plugin_revision_request_and_organization() {
        let room = LogRoom::default();
        let guest = testing::guest("planning", Some("org-1"));
        write(&room, &guest, "hello", &[("planId", "p1")]);
        let follow = room.follow("planning");
        let line = &follow.kept[0];
        assert_eq!((&*line.plugin, &*line.revision), ("planning", "0123456789ab"));
        assert_eq!((&*line.request_id, line.organization_id.as_deref()), ("request-1", Some("org-1")));
        assert_eq!(line.fields, [("planId".to_owned(), "p1".to_owned())]);
        assert!(room.follow("ai-service").kept.is_empty(), "another plugin's log is another log");
    }

    #[tokio::test]
    async fn lines_over_the_rate_are_dropped_counted_and_summarised() {
        let room = LogRoom::default();
        let guest = testing::guest("planning", None);
        let mut follow = room.follow("planning");
        for _ in 0..LINES_PER_SECOND_MAX + 250 {
            write(&room, &guest, "flood", &[]);
        }
        let kept = room.follow("planning").kept;
        assert_eq!(kept.len(), LINES_KEPT);
        // The flood may straddle the turn of a second; then the second window takes some of it.
        let mut last = follow.next().await.unwrap();
        while last.level == Level::Info {
            last = follow.next().await.unwrap();
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
        let kept = room.follow("planning").kept;
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
        assert_eq!(room.follow("ai-service").kept.len(), 1);
    }

    #[tokio::test]
    async fn a_follower_sees_what_is_kept_and_then_what_comes() {
        let room = LogRoom::default();
        let guest = testing::guest("planning", None);
        write(&room, &guest, "before", &[]);
        let mut follow = room.follow("planning");
        write(&room, &guest, "after", &[]);
        assert_eq!(follow.kept[0].message, "before");
        assert_eq!(follow.next().await.unwrap().message, "after");
    }
}
