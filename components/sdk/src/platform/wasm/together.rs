//! Several outgoing requests at once over `wasi:http`: one wait for all of them, each with its own deadline.

use std::time::{Duration, Instant};

use super::outgoing::{self, Incoming};
use crate::{
    Fault,
    bindings::wasi::{
        clocks::monotonic_clock,
        http::types::FutureIncomingResponse,
        io::poll::{self, Pollable},
    },
    http_out::{Call, Head, Part, Reply, Together},
};

/// A request that is under way.
struct Flight {
    /// Which of the calls it is.
    index: usize,
    deadline: Instant,
    stage: Stage,
}

enum Stage {
    Head(FutureIncomingResponse),
    Body { head: Head, body: Incoming, bytes: Vec<u8> },
}

impl Flight {
    fn pollable(&self) -> Pollable {
        match &self.stage {
            Stage::Head(future) => future.subscribe(),
            Stage::Body { body, .. } => body.subscribe(),
        }
    }

    /// Takes what is there. The answer or the fault when it is over, else the flight as far as it is.
    fn advance(mut self, bytes_max: usize) -> Result<Self, (usize, Result<Reply, Fault>)> {
        loop {
            self.stage = match self.stage {
                Stage::Head(future) => match outgoing::ready(&future) {
                    None => return Ok(Self { stage: Stage::Head(future), ..self }),
                    Some(Err(fault)) => return Err((self.index, Err(fault))),
                    Some(Ok(response)) => match outgoing::opened(response) {
                        Err(fault) => return Err((self.index, Err(fault))),
                        Ok((head, body)) => Stage::Body { head, body, bytes: Vec::new() },
                    },
                },
                Stage::Body { head, mut body, mut bytes } => match body.take() {
                    Err(fault) => return Err((self.index, Err(fault))),
                    Ok(Part::End) => {
                        return Err((
                            self.index,
                            Ok(Reply { status: head.status, headers: head.headers, body: bytes }),
                        ));
                    }
                    Ok(Part::Waiting) => return Ok(Self { stage: Stage::Body { head, body, bytes }, ..self }),
                    Ok(Part::Chunk(chunk)) => {
                        bytes.extend_from_slice(&chunk);
                        if bytes.len() > bytes_max {
                            return Err((self.index, Err(outgoing::too_large(bytes_max))));
                        }
                        Stage::Body { head, body, bytes }
                    }
                },
            };
        }
    }
}

/// Sends all of them and returns their answers in the same order.
pub(crate) fn http_send_all(calls: &[Call], together: Together) -> Vec<Result<Reply, Fault>> {
    let end = Instant::now() + together.patience;
    // What never begins has had no time.
    let mut answers: Vec<Result<Reply, Fault>> = calls.iter().map(|_| Err(Fault::Timeout)).collect();
    let mut settle = |index: usize, answer: Result<Reply, Fault>| {
        if let Some(place) = answers.get_mut(index) {
            *place = answer;
        }
    };
    let mut waiting = calls.iter().enumerate();
    let mut flights: Vec<Flight> = Vec::new();
    loop {
        while flights.len() < together.at_once.max(1) && Instant::now() < end {
            let Some((index, call)) = waiting.next() else { break };
            match outgoing::begin(call) {
                Err(fault) => settle(index, Err(fault)),
                Ok(future) => {
                    let deadline = end.min(Instant::now() + call.timeout);
                    flights.push(Flight { index, deadline, stage: Stage::Head(future) });
                }
            }
        }
        let Some(first) = flights.iter().map(|flight| flight.deadline).min() else { break };
        wait(&flights, first.saturating_duration_since(Instant::now()));
        let now = Instant::now();
        flights = flights
            .into_iter()
            .filter_map(|flight| match flight.advance(together.bytes_max) {
                Ok(flight) if flight.deadline <= now => {
                    settle(flight.index, Err(Fault::Timeout));
                    None
                }
                Ok(flight) => Some(flight),
                Err((index, answer)) => {
                    settle(index, answer);
                    None
                }
            })
            .collect();
    }
    answers
}

/// Returns when one of them can go on, or `patience` is over. What is waited for is let go before anything is read from it.
fn wait(flights: &[Flight], patience: Duration) {
    let mut pollables: Vec<Pollable> = flights.iter().map(Flight::pollable).collect();
    pollables.push(monotonic_clock::subscribe_duration(outgoing::nanos(patience)));
    poll::poll(&pollables.iter().collect::<Vec<_>>());
}
