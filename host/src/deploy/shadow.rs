//! What the answers of a shadow come to: how many were compared with those that clients got, and where they differ.
//!
//! It keeps statuses and the places where documents differ, never what stands there: an answer is its caller's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Copies of requests that may run at once; what comes beyond is not copied, and counted.
const COPIES_MAX: usize = 8;
/// Differences that are kept as examples.
const EXAMPLES_MAX: usize = 20;
/// Places named for one example.
const PLACES_MAX: usize = 10;
/// Bytes of an answer that is compared.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// How deep documents are compared.
const DEPTH_MAX: usize = 32;

/// The tally of one shadow.
#[derive(Debug)]
pub(crate) struct Comparison {
    equal: AtomicU64,
    different: AtomicU64,
    skipped: AtomicU64,
    examples: Mutex<Vec<Difference>>,
    permits: Arc<Semaphore>,
}

/// The tally at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ComparisonReport {
    pub compared: u64,
    pub equal: u64,
    pub different: u64,
    /// Safe requests that were not copied: too many at once, streams, or answers that are too large.
    pub skipped: u64,
    pub examples: Vec<Difference>,
}

/// One request that was answered differently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Difference {
    /// Method and described path.
    pub request: String,
    /// The status that the client got, and that of the shadow.
    pub status: u16,
    pub shadow_status: u16,
    /// Places in a JSON document, as pointers; `body` where it is no document.
    pub places: Vec<String>,
}

/// One side of a comparison.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered<'a> {
    pub status: u16,
    pub body: &'a [u8],
}

impl Default for Comparison {
    fn default() -> Self {
        Self {
            equal: AtomicU64::new(0),
            different: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            examples: Mutex::default(),
            permits: Arc::new(Semaphore::new(COPIES_MAX)),
        }
    }
}

impl Comparison {
    /// A place for one more copy; none when there are enough, which is counted.
    pub(crate) fn place(&self) -> Option<OwnedSemaphorePermit> {
        let permit = Arc::clone(&self.permits).try_acquire_owned().ok();
        if permit.is_none() {
            self.skip();
        }
        permit
    }

    /// Counts a request that could not be compared.
    pub(crate) fn skip(&self) {
        self.skipped.fetch_add(1, Relaxed);
    }

    /// Compares what the client got with what the shadow answered. `request` is for the report.
    pub(crate) fn compare(&self, request: &str, client: Answered<'_>, shadow: Answered<'_>) {
        if client.body.len().max(shadow.body.len()) > ANSWER_BYTES_MAX {
            return self.skip();
        }
        let places = differences(client.body, shadow.body);
        if client.status == shadow.status && places.is_empty() {
            self.equal.fetch_add(1, Relaxed);
            return;
        }
        self.different.fetch_add(1, Relaxed);
        let difference =
            Difference { request: request.to_owned(), status: client.status, shadow_status: shadow.status, places };
        let mut examples = self.examples.lock();
        if examples.len() < EXAMPLES_MAX && !examples.contains(&difference) {
            examples.push(difference);
        }
    }

    /// The tally so far.
    pub(crate) fn report(&self) -> ComparisonReport {
        let (equal, different) = (self.equal.load(Relaxed), self.different.load(Relaxed));
        ComparisonReport {
            compared: equal + different,
            equal,
            different,
            skipped: self.skipped.load(Relaxed),
            examples: self.examples.lock().clone(),
        }
    }
}

impl ComparisonReport {
    /// The tally in one sentence, for the history.
    pub(super) fn sentence(&self) -> String {
        let mut text = format!("{} of {} compared answers differed", self.different, self.compared);
        for example in self.examples.iter().take(PLACES_MAX) {
            text.push_str(&format!("; {} answered {} and {}", example.request, example.status, example.shadow_status));
            if !example.places.is_empty() {
                text.push_str(&format!(" ({})", example.places.join(", ")));
            }
        }
        text
    }
}

/// Where two bodies differ.
fn differences(left: &[u8], right: &[u8]) -> Vec<String> {
    if left == right {
        return Vec::new();
    }
    let mut places = Vec::new();
    match (serde_json::from_slice::<Value>(left), serde_json::from_slice::<Value>(right)) {
        (Ok(left), Ok(right)) => walk(&left, &right, "", 0, &mut places),
        _ => places.push("body".to_owned()),
    }
    places
}

fn walk(left: &Value, right: &Value, place: &str, depth: usize, places: &mut Vec<String>) {
    if places.len() >= PLACES_MAX || left == right {
        return;
    }
    match (left, right) {
        (Value::Object(ours), Value::Object(theirs)) if depth < DEPTH_MAX => {
            for (name, value) in ours {
                let at = format!("{place}/{name}");
                walk(value, theirs.get(name).unwrap_or(&Value::Null), &at, depth + 1, places);
            }
            for name in theirs.keys().filter(|name| !ours.contains_key(*name)) {
                push(places, format!("{place}/{name}"));
            }
        }
        (Value::Array(ours), Value::Array(theirs)) if depth < DEPTH_MAX && ours.len() == theirs.len() => {
            for (index, (left, right)) in ours.iter().zip(theirs).enumerate() {
                walk(left, right, &format!("{place}/{index}"), depth + 1, places);
            }
        }
        _ => push(places, if place.is_empty() { "body".to_owned() } else { place.to_owned() }),
    }
}

fn push(places: &mut Vec<String>, place: String) {
    if places.len() < PLACES_MAX {
        places.push(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, body: &str) -> Answered<'_> {
        Answered { status, body: body.as_bytes() }
    }

    #[test]
    fn equal_documents_are_equal_whatever_the_order_and_differences_are_named() {
        let comparison = Comparison::default();
        comparison.compare("GET /a", answered(200, r#"{"a":1,"b":[1,2]}"#), answered(200, r#"{"b":[1,2],"a":1}"#));
        let other = r#"{"a":1,"b":[1,3],"c":"secret"}"#;
        comparison.compare("GET /a", answered(200, r#"{"a":1,"b":[1,2]}"#), answered(200, other));
        comparison.compare("GET /b", answered(200, "plain"), answered(502, "broken"));
        comparison.compare("GET /b", answered(200, "plain"), answered(502, "broken"));
        let report = comparison.report();
        assert_eq!((report.compared, report.equal, report.different), (4, 1, 3));
        assert_eq!(report.examples.len(), 2, "the same difference is one example");
        assert_eq!(report.examples[0].places, ["/b/1", "/c"]);
        assert_eq!((report.examples[1].shadow_status, report.examples[1].places[0].as_str()), (502, "body"));
        assert!(!report.sentence().contains("secret"), "{}", report.sentence());
    }

    #[test]
    fn only_so_many_copies_run_at_once() {
        let comparison = Comparison::default();
        let places: Vec<_> = (0..COPIES_MAX).map(|_| comparison.place().unwrap()).collect();
        assert!(comparison.place().is_none());
        drop(places);
        assert!(comparison.place().is_some());
        assert_eq!(comparison.report().skipped, 1);
    }
}
