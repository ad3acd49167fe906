//! One plugin's log: how many lines it may still write in this second, the last lines, and whoever follows them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use tokio::sync::broadcast;
use tokio::time::Instant;

use super::{BYTES_KEPT, HOST_LINES_PER_SECOND_MAX, LINES_KEPT, LINES_PER_SECOND_MAX, Level, Source};
use crate::capability::Guest;
use crate::database::format_timestamp;

/// Lines a slow follower may lag behind before it loses some.
const FOLLOW_LAG_MAX: usize = 1024;

/// One line as it is kept: cleaned, cut, with everything the host adds.
#[derive(Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LogLine {
    /// Rises from line to line of one plugin, also over restarts: the microsecond of the line, or the next free one.
    pub id: u64,
    #[serde(serialize_with = "milliseconds")]
    pub time: DateTime<Utc>,
    pub level: Level,
    pub source: Source,
    pub plugin: Arc<str>,
    /// The build's short digest, or its number where the host speaks of it.
    pub revision: Option<Arc<str>>,
    pub request_id: Option<Arc<str>>,
    pub organization_id: Option<Arc<str>>,
    pub user_id: Option<Arc<str>>,
    pub trace_id: Option<String>,
    pub message: String,
    #[serde(serialize_with = "object")]
    pub fields: Vec<(String, String)>,
}

/// A plugin's last lines, oldest first, and those to come.
pub(crate) struct Follow {
    pub kept: Vec<Arc<LogLine>>,
    /// Whether lines between the asked place and the first of these are kept no longer.
    pub has_gap: bool,
    lines: broadcast::Receiver<Arc<LogLine>>,
}

/// What a follower gets.
pub(crate) enum Followed {
    Line(Arc<LogLine>),
    /// It was too slow: so many lines went by.
    Missed(u64),
}

/// Whether a line is within the rate.
pub(super) enum Admission {
    Taken,
    /// Over the rate, and the first such line of its second.
    DroppedFirst,
    Dropped,
}

/// What may still be written within the present second.
struct Window {
    started: Instant,
    taken: u32,
    dropped: u64,
    /// Someone waits to say how many were dropped.
    summary_due: bool,
}

#[derive(Default)]
struct Kept {
    lines: VecDeque<Arc<LogLine>>,
    bytes: usize,
    /// The id of the newest line.
    last_id: u64,
    /// The id of the newest line that is kept no longer.
    gone_id: u64,
}

/// See the file's head.
pub(super) struct PluginLog {
    window: Mutex<Window>,
    host_window: Mutex<Window>,
    kept: Mutex<Kept>,
    followers: broadcast::Sender<Arc<LogLine>>,
}

impl Default for Window {
    fn default() -> Self {
        Self { started: Instant::now(), taken: 0, dropped: 0, summary_due: false }
    }
}

impl Window {
    /// Whether one more line fits into the present second, of which it may have `max`.
    fn admit(&mut self, max: u32) -> bool {
        if self.started.elapsed() >= Duration::from_secs(1) {
            self.started = Instant::now();
            self.taken = 0;
        }
        let fits = self.taken < max;
        if fits {
            self.taken += 1;
        } else {
            self.dropped += 1;
        }
        fits
    }
}

impl LogLine {
    /// A line of a guest's call; it gets its id when it is kept.
    pub(super) fn new(guest: &Guest, level: Level, message: String, fields: Vec<(String, String)>) -> Self {
        let principal = &guest.call.principal;
        Self {
            source: Source::Guest,
            plugin: guest.plugin.name.clone(),
            revision: Some(guest.revision.clone()),
            request_id: Some(guest.call.request_id.clone()),
            organization_id: principal.organization_id.clone(),
            user_id: principal.user_id.clone(),
            trace_id: guest.call.trace.id(),
            ..Self::of_host("", level, message, fields)
        }
    }

    /// A line of the host about a plugin.
    pub(super) fn of_host(plugin: &str, level: Level, message: String, fields: Vec<(String, String)>) -> Self {
        Self {
            id: 0,
            time: Utc::now(),
            level,
            source: Source::Host,
            plugin: plugin.into(),
            revision: None,
            request_id: None,
            organization_id: None,
            user_id: None,
            trace_id: None,
            message,
            fields,
        }
    }

    /// What it counts for: its texts.
    fn bytes(&self) -> usize {
        self.message.len() + self.fields.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
    }

    /// The fields as one JSON object, for the host's log; none when there are none.
    pub(super) fn fields_text(&self) -> Option<String> {
        if self.fields.is_empty() {
            return None;
        }
        Some(as_object(&self.fields).to_string())
    }
}

impl Follow {
    /// What comes next; none when the log is gone. A follower that is too slow misses lines, is told so, and goes on.
    pub(crate) async fn next(&mut self) -> Option<Followed> {
        match self.lines.recv().await {
            Ok(line) => Some(Followed::Line(line)),
            Err(broadcast::error::RecvError::Lagged(lines)) => Some(Followed::Missed(lines)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

impl Default for PluginLog {
    fn default() -> Self {
        Self {
            window: Mutex::default(),
            host_window: Mutex::default(),
            kept: Mutex::default(),
            followers: broadcast::channel(FOLLOW_LAG_MAX).0,
        }
    }
}

impl PluginLog {
    /// Counts one line against the present second.
    pub(super) fn admit(&self) -> Admission {
        let mut window = self.window.lock();
        if window.admit(LINES_PER_SECOND_MAX) {
            return Admission::Taken;
        }
        if std::mem::replace(&mut window.summary_due, true) { Admission::Dropped } else { Admission::DroppedFirst }
    }

    /// The same for a line of the host, which has a second of its own. How many did not fit before; none when it does not.
    pub(super) fn admit_host(&self) -> Option<u64> {
        let mut window = self.host_window.lock();
        window.admit(HOST_LINES_PER_SECOND_MAX).then(|| std::mem::take(&mut window.dropped))
    }

    /// How long the present second still lasts.
    pub(super) fn until_next_second(&self) -> Duration {
        Duration::from_secs(1).saturating_sub(self.window.lock().started.elapsed())
    }

    /// How many lines were dropped since this was asked last.
    pub(super) fn take_dropped(&self) -> u64 {
        let mut window = self.window.lock();
        window.summary_due = false;
        std::mem::take(&mut window.dropped)
    }

    /// Gives a line its id, keeps it and shows it to the followers.
    pub(super) fn keep(&self, mut line: LogLine) -> Arc<LogLine> {
        // Kept and shown under one lock, so that a follower sees each line exactly once.
        let mut kept = self.kept.lock();
        kept.last_id = u64::try_from(line.time.timestamp_micros()).unwrap_or(0).max(kept.last_id + 1);
        line.id = kept.last_id;
        let line = Arc::new(line);
        kept.bytes += line.bytes();
        kept.lines.push_back(line.clone());
        while kept.lines.len() > LINES_KEPT || kept.bytes > BYTES_KEPT {
            let Some(oldest) = kept.lines.pop_front() else { break };
            kept.bytes -= oldest.bytes();
            kept.gone_id = oldest.id;
        }
        // Nobody following is the usual case.
        let _ = self.followers.send(line.clone());
        line
    }

    /// See [`Follow`].
    pub(super) fn follow(&self, after: Option<u64>) -> Follow {
        let kept = self.kept.lock();
        let wanted = kept.lines.iter().filter(|line| after.is_none_or(|after| line.id > after));
        Follow {
            kept: wanted.cloned().collect(),
            has_gap: after.is_some_and(|after| after < kept.gone_id),
            lines: self.followers.subscribe(),
        }
    }
}

/// Fields by name; of several with one name the last counts.
fn as_object(fields: &[(String, String)]) -> serde_json::Value {
    let members = fields.iter().map(|(name, value)| (name.clone(), serde_json::Value::from(value.as_str())));
    serde_json::Value::Object(members.collect())
}

fn object<S: serde::Serializer>(fields: &[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serde::Serialize::serialize(&as_object(fields), serializer)
}

fn milliseconds<S: serde::Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format_timestamp(*time))
}
