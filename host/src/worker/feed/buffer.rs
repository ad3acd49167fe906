//! What waits to be handed over: bounded in number and bytes; what does not fit is dropped and counted.

use std::collections::VecDeque;

use parking_lot::Mutex;

use super::{WAITING_BYTES_MAX, WAITING_MAX};

/// Entries of one batch: what the services take in one transaction.
const BATCH_MAX: usize = 1_000;
/// Bytes of one batch: below what a message of the queue may have.
const BATCH_BYTES_MAX: usize = 192 * 1024;

/// Entries that wait, oldest first. Each is the text of a JSON object.
#[derive(Default)]
pub(super) struct Buffer {
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    entries: VecDeque<String>,
    bytes: usize,
    dropped: u64,
}

/// Entries that go together.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Batch {
    entries: Vec<String>,
    /// How many were dropped before them.
    dropped: u64,
}

impl Buffer {
    /// Adds an entry, or counts it where there is no room.
    pub(super) fn push(&self, entry: String) {
        let mut waiting = self.waiting.lock();
        let fits = waiting.entries.len() < WAITING_MAX && waiting.bytes + entry.len() <= WAITING_BYTES_MAX;
        if fits {
            waiting.bytes += entry.len();
            waiting.entries.push_back(entry);
        } else {
            waiting.dropped += 1;
        }
    }

    /// The oldest entries, as many as fit into a batch; none where nothing waits.
    pub(super) fn take(&self) -> Option<Batch> {
        let mut waiting = self.waiting.lock();
        let mut batch = Batch { dropped: std::mem::take(&mut waiting.dropped), ..Batch::default() };
        let mut bytes = 0;
        while let Some(entry) = waiting.entries.front() {
            let is_full = batch.entries.len() == BATCH_MAX || bytes + entry.len() > BATCH_BYTES_MAX;
            // One that is too large for any batch goes alone.
            if is_full && !batch.entries.is_empty() {
                break;
            }
            let Some(entry) = waiting.entries.pop_front() else { break };
            bytes += entry.len();
            waiting.bytes -= entry.len();
            batch.entries.push(entry);
        }
        (!batch.entries.is_empty() || batch.dropped > 0).then_some(batch)
    }

    /// Puts a batch that was not taken back to the front; what came meanwhile may have no room for all of it.
    pub(super) fn put_back(&self, batch: Batch) {
        let mut waiting = self.waiting.lock();
        waiting.dropped += batch.dropped;
        for entry in batch.entries.into_iter().rev() {
            if waiting.entries.len() < WAITING_MAX && waiting.bytes + entry.len() <= WAITING_BYTES_MAX {
                waiting.bytes += entry.len();
                waiting.entries.push_front(entry);
            } else {
                waiting.dropped += 1;
            }
        }
    }

    /// Counts a batch of which nobody knows what became of it.
    pub(super) fn count_lost(&self, batch: &Batch) {
        self.waiting.lock().dropped += batch.dropped + batch.entries.len() as u64;
    }
}

impl Batch {
    pub(super) fn of(entries: impl Iterator<Item = String>) -> Self {
        Self { entries: entries.collect(), dropped: 0 }
    }

    /// `{"<member>": […], "dropped": n}`
    pub(super) fn payload(&self, member: &str) -> String {
        format!("{{\"{member}\":[{}],\"dropped\":{}}}", self.entries.join(","), self.dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_counted_and_told_with_the_next_batch() {
        let buffer = Buffer::default();
        (0..WAITING_MAX + 3).for_each(|number| buffer.push(format!("{{\"n\":{number}}}")));
        let first = buffer.take().unwrap();
        assert_eq!((first.entries.len(), first.dropped), (BATCH_MAX, 3));
        let told: serde_json::Value = serde_json::from_str(&first.payload("lines")).unwrap();
        assert_eq!((&told["lines"][1]["n"], &told["dropped"]), (&1.into(), &3.into()));
        assert_eq!(buffer.take().unwrap().dropped, 0);
        buffer.put_back(first);
        assert_eq!(buffer.take().unwrap().entries[0], "{\"n\":0}", "it comes first again");
    }

    #[test]
    fn a_batch_is_bounded_in_bytes_and_an_entry_that_is_too_large_goes_alone() {
        let buffer = Buffer::default();
        for size in [BATCH_BYTES_MAX + 1, BATCH_BYTES_MAX - 1, 1, 1] {
            buffer.push("x".repeat(size));
        }
        let sizes: Vec<usize> = std::iter::from_fn(|| buffer.take()).map(|batch| batch.entries.len()).collect();
        assert_eq!(sizes, [1, 2, 1]);
        assert_eq!(buffer.waiting.lock().bytes, 0);
        let lost = Batch { entries: vec!["a".into(), "b".into()], dropped: 1 };
        buffer.count_lost(&lost);
        assert_eq!(buffer.take(), Some(Batch { entries: vec![], dropped: 3 }));
    }
}
