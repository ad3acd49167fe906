//! A constant load: keep-alive connections that send one request after the other until they are told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::task::JoinHandle;

use crate::wire::{Wire, WireAnswer};

/// Failures that a report lists; a connection ends with its first.
const FAILURES_SHOWN: usize = 8;
/// Significant digits of a latency.
const LATENCY_DIGITS: u8 = 3;
/// The longest latency that is told apart, in microseconds: a minute.
const LATENCY_US_MAX: u64 = 60_000_000;

/// What one connection came to: how long its answers took, and its first failure.
type Lane = (Histogram<u64>, Result<(), String>);

/// A load that runs.
pub struct Load {
    is_over: Arc<AtomicBool>,
    requests: Arc<AtomicU64>,
    lanes: Vec<JoinHandle<Lane>>,
}

/// What a load came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// Requests that were answered as they should be.
    pub requests: u64,
    /// What went wrong, in words.
    pub failures: Vec<String>,
    /// How long the answers took, in microseconds; slow uploads are not in it.
    pub latencies_us: Histogram<u64>,
}

/// How each request of a lane is made.
#[derive(Clone, Debug)]
enum Kind {
    Get { path: String, headers: String, pause: Duration },
    SlowPost { path: String, headers: String, body: String, is_echoed: bool, pieces: usize, pause: Duration },
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
        let kind = Kind::Get { path: path.to_owned(), headers: headers.to_owned(), pause: Duration::ZERO };
        self.lanes(address, connections, &kind, Arc::new(judge))
    }

    /// Adds connections that GET `path` with a pause after each answer, as somebody does who is not in a hurry: their
    /// latencies say how long one waits and not how much the machine can do.
    #[must_use]
    pub fn getting_calmly(self, address: &str, connections: usize, path: &str, pause: Duration) -> Self {
        let kind = Kind::Get { path: path.to_owned(), headers: String::new(), pause };
        self.lanes(address, connections, &kind, Arc::new(|_| Ok(())))
    }

    /// Adds connections that POST a JSON object in slow pieces and want it back.
    #[must_use]
    pub fn echoing_slowly(self, address: &str, connections: usize, path: &str, pieces: usize, pause: Duration) -> Self {
        let body = serde_json::json!({ "words": "slow ".repeat(200) }).to_string();
        let kind =
            Kind::SlowPost { path: path.to_owned(), headers: String::new(), body, is_echoed: true, pieces, pause };
        self.lanes(address, connections, &kind, Arc::new(|_| Ok(())))
    }

    /// Adds connections that POST `body` over and over in ten slow pieces, and want 200.
    #[must_use]
    pub fn posting_slowly(self, address: &str, connections: usize, path: &str, headers: &str, body: &str) -> Self {
        let kind = Kind::SlowPost {
            path: path.to_owned(),
            headers: headers.to_owned(),
            body: body.to_owned(),
            is_echoed: false,
            pieces: 10,
            pause: Duration::from_millis(100),
        };
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
        let mut latencies_us = histogram();
        for lane in self.lanes {
            let (latencies, outcome) = lane.await.expect("a connection's task");
            latencies_us.add(latencies).expect("histograms of one shape");
            if let Err(failure) = outcome
                && failures.len() < FAILURES_SHOWN
            {
                failures.push(failure);
            }
        }
        Report { requests: self.requests.load(Ordering::Relaxed), failures, latencies_us }
    }

    fn lanes(mut self, address: &str, connections: usize, kind: &Kind, judge: Judge) -> Self {
        for _ in 0..connections {
            let (is_over, requests) = (Arc::clone(&self.is_over), Arc::clone(&self.requests));
            let (address, kind, judge) = (address.to_owned(), kind.clone(), Arc::clone(&judge));
            self.lanes.push(tokio::spawn(async move {
                let mut latencies = histogram();
                let mut wire = match Wire::connect(&address).await {
                    Ok(wire) => wire,
                    Err(error) => return (latencies, Err(format!("{error:#}"))),
                };
                while !is_over.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    if let Err(failure) = one(&mut wire, &kind, &judge).await {
                        return (latencies, Err(failure));
                    }
                    if matches!(kind, Kind::Get { .. }) {
                        let microseconds = u64::try_from(began.elapsed().as_micros()).unwrap_or(LATENCY_US_MAX);
                        latencies.saturating_record(microseconds);
                    }
                    requests.fetch_add(1, Ordering::Relaxed);
                    if let Kind::Get { pause, .. } = kind
                        && !pause.is_zero()
                    {
                        tokio::time::sleep(pause).await;
                    }
                }
                (latencies, Ok(()))
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

fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(LATENCY_US_MAX, LATENCY_DIGITS).expect("a histogram's bounds")
}

async fn one(wire: &mut Wire, kind: &Kind, judge: &Judge) -> Result<(), String> {
    let (path, answer, wanted) = match kind {
        Kind::Get { path, headers, .. } => (path, wire.get(path, headers).await, None),
        Kind::SlowPost { path, headers, body, is_echoed, pieces, pause } => {
            (path, wire.post_slowly(path, headers, body, *pieces, *pause).await, is_echoed.then_some(body))
        }
    };
    let answer = answer.map_err(|error| format!("{path}: {error:#}"))?;
    if answer.status != 200 || answer.closes || wanted.is_some_and(|wanted| *wanted != answer.body) {
        return Err(format!("{path}: {answer:?}"));
    }
    judge(&answer)
}
