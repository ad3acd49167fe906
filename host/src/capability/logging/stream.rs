//! One plugin's log: how many lines it may still write in this second, the last lines, and whoever follows them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use tokio::sync::broadcast;
use tokio::time::Instant;

use super::{BYTES_KEPT, LINES_KEPT, LINES_PER_SECOND_MAX, Level};
use crate::capability::Guest;

/// Lines a slow follower may lag behind before it loses some.
const FOLLOW_LAG_MAX: usize = 1024;

/// One line as it is kept: cleaned, cut, with everything the host adds.
#[derive(Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LogLine {
    pub time: DateTime<Utc>,
    pub level: Level,
    pub plugin: Arc<str>,
    pub revision: Arc<str>,
    pub request_id: Arc<str>,
    pub organization_id: Option<Arc<str>>,
    pub message: String,
    pub fields: Vec<(String, String)>,
}

/// A plugin's last lines, oldest first, and those to come.
pub(crate) struct Follow {
    pub kept: Vec<Arc<LogLine>>,
    lines: broadcast::Receiver<Arc<LogLine>>,
}

/// Whether a line is within the rate.
pub(super) enum Admission {
    Taken,
    /// Over the rate, and the first such line of its second.
    DroppedFirst,
    Dropped,
}

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
}

/// See the file's head.
pub(super) struct PluginLog {
    window: Mutex<Window>,
    kept: Mutex<Kept>,
    followers: broadcast::Sender<Arc<LogLine>>,
}

impl LogLine {
    pub(super) fn new(guest: &Guest, level: Level, message: String, fields: Vec<(String, String)>) -> Self {
        Self {
            time: Utc::now(),
            level,
            plugin: guest.plugin.name.clone(),
            revision: guest.revision.clone(),
            request_id: guest.call.request_id.clone(),
            organization_id: guest.call.principal.organization_id.clone(),
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
        let object: serde_json::Map<String, serde_json::Value> =
            self.fields.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
        Some(serde_json::Value::Object(object).to_string())
    }
}

impl Follow {
    /// The next line; none when the log is gone. A follower that is too slow misses lines and goes on.
    pub(crate) async fn next(&mut self) -> Option<Arc<LogLine>> {
        loop {
            match self.lines.recv().await {
                Ok(line) => return Some(line),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

impl Default for PluginLog {
    fn default() -> Self {
        Self {
            window: Mutex::new(Window { started: Instant::now(), taken: 0, dropped: 0, summary_due: false }),
            kept: Mutex::default(),
            followers: broadcast::channel(FOLLOW_LAG_MAX).0,
        }
    }
}

impl PluginLog {
    /// Counts one line against the present second.
    pub(super) fn admit(&self) -> Admission {
        let mut window = self.window.lock();
        if window.started.elapsed() >= Duration::from_secs(1) {
            window.started = Instant::now();
            window.taken = 0;
        }
        if window.taken < LINES_PER_SECOND_MAX {
            window.taken += 1;
            return Admission::Taken;
        }
        window.dropped += 1;
        if std::mem::replace(&mut window.summary_due, true) { Admission::Dropped } else { Admission::DroppedFirst }
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

    /// Keeps a line and shows it to the followers.
    pub(super) fn keep(&self, line: Arc<LogLine>) {
        // Kept and shown under one lock, so that a follower sees each line exactly once.
        let mut kept = self.kept.lock();
        kept.bytes += line.bytes();
        kept.lines.push_back(line.clone());
        while kept.lines.len() > LINES_KEPT || kept.bytes > BYTES_KEPT {
            let Some(oldest) = kept.lines.pop_front() else { break };
            kept.bytes -= oldest.bytes();
        }
        // Nobody following is the usual case.
        let _ = self.followers.send(line);
    }

    /// See [`Follow`].
    pub(super) fn follow(&self) -> Follow {
        let kept = self.kept.lock();
        Follow { lines: self.followers.subscribe(), kept: kept.lines.iter().cloned().collect() }
    }
}
