//! A constant load: keep-alive connections that send one request after the other until they are told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::wire::{Wire, WireAnswer};

/// Failures that a report lists; a connection ends with its first.
const FAILURES_SHOWN: usize = 8;

/// A load that runs.
pub struct Load {
    is_over: Arc<AtomicBool>,
    requests: Arc<AtomicU64>,
    lanes: Vec<JoinHandle<Result<(), String>>>,
}

/// What a load came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// Requests that were answered as they should be.
    pub requests: u64,
    /// What went wrong, in words.
    pub failures: Vec<String>,
}

/// How each request of a lane is made.
#[derive(Clone, Debug)]
enum Kind {
    Get { path: String, headers: String },
    SlowPost { path: String, pieces: usize, pause: Duration },
}

/// Judges an answer; the error is a sentence.
type Judge = Arc<dyn Fn(&WireAnswer) -> Result<(), String> + Send + Sync>;

impl Load {
    /// A load without a request yet.
    #[must_use]
    pub fn new() -> Self {
        Self { is_over: Arc::default(), requests: Arc::default(), lanes: Vec::new() }
    }

    /// Adds connections that GET `path` over and over, with header lines that each end in CRLF.
    #[must_use]
    pub fn getting(
        self,
        address: &str,
        connections: usize,
        path: &str,
        headers: &str,
        judge: impl Fn(&WireAnswer) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        let kind = Kind::Get { path: path.to_owned(), headers: headers.to_owned() };
        self.lanes(address, connections, &kind, Arc::new(judge))
    }

    /// Adds connections that POST a JSON object in slow pieces and want it back.
    #[must_use]
    pub fn echoing_slowly(self, address: &str, connections: usize, path: &str, pieces: usize, pause: Duration) -> Self {
        let kind = Kind::SlowPost { path: path.to_owned(), pieces, pause };
        self.lanes(address, connections, &kind, Arc::new(|_| Ok(())))
    }

    /// How many requests were answered so far.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Lets each connection finish its request and stops.
    ///
    /// # Panics
    /// When a connection's task does.
    pub async fn stop(self) -> Report {
        self.is_over.store(true, Ordering::Relaxed);
        let mut failures = Vec::new();
        for lane in self.lanes {
            if let Err(failure) = lane.await.expect("a connection's task")
                && failures.len() < FAILURES_SHOWN
            {
                failures.push(failure);
            }
        }
        Report { requests: self.requests.load(Ordering::Relaxed), failures }
    }

    fn lanes(mut self, address: &str, connections: usize, kind: &Kind, judge: Judge) -> Self {
        for number in 0..connections {
            let (is_over, requests) = (Arc::clone(&self.is_over), Arc::clone(&self.requests));
            let (address, kind, judge) = (address.to_owned(), kind.clone(), Arc::clone(&judge));
            self.lanes.push(tokio::spawn(async move {
                let mut wire = Wire::connect(&address).await.map_err(|error| format!("{error:#}"))?;
                while !is_over.load(Ordering::Relaxed) {
                    one(&mut wire, &kind, number, &judge).await?;
                    requests.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            }));
        }
        self
    }
}

impl Default for Load {
    fn default() -> Self {
        Self::new()
    }
}

impl Report {
    /// Every request was answered, and there were at least `requests`.
    ///
    /// # Panics
    /// When one was not, or there were fewer.
    pub fn assert_whole(&self, requests: u64) {
        assert!(self.failures.is_empty(), "after {} good answers: {:#?}", self.requests, self.failures);
        assert!(self.requests >= requests, "only {} requests were made, that shows nothing", self.requests);
    }
}

async fn one(wire: &mut Wire, kind: &Kind, number: usize, judge: &Judge) -> Result<(), String> {
    let (answer, wanted) = match kind {
        Kind::Get { path, headers } => (wire.get(path, headers).await, None),
        Kind::SlowPost { path, pieces, pause } => {
            let body = serde_json::json!({ "from": number, "words": "slow ".repeat(200) }).to_string();
            (wire.post_slowly(path, &body, *pieces, *pause).await, Some(body))
        }
    };
    let answer = answer.map_err(|error| format!("{kind:?}: {error:#}"))?;
    if answer.status != 200 || answer.closes || wanted.is_some_and(|wanted| wanted != answer.body) {
        return Err(format!("{kind:?}: {answer:?}"));
    }
    judge(&answer)
}
