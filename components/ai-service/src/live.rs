//! A provider's answer as it comes: bytes in, pieces out, without waiting longer than asked to.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use berth_sdk::http_out::{Call, Incoming, Part};

use crate::{
    answer::{Prepared, is_stream},
    echo,
    failure::{Failure, FailureKind},
    wire::{Delta, Dialect, Gathered, lines::Decoder},
};

/// Bytes of an answer that says why there is none.
const REASON_BYTES_MAX: usize = 64 * 1024;
/// How long such an answer may take.
const REASON_TIMEOUT: Duration = Duration::from_secs(2);
/// How long one look at the provider lasts.
const LOOK: Duration = Duration::from_millis(500);

/// What a look found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The next piece.
    Delta(Delta),
    /// Nothing yet.
    Waiting,
    /// All of it has come.
    End,
    /// It went wrong.
    Failed(Failure),
}

/// An answer that is coming.
#[derive(Debug)]
pub struct Live {
    source: Option<(Incoming, Decoder)>,
    ready: VecDeque<Delta>,
    failure: Option<Failure>,
}

impl Live {
    /// An answer that is there already.
    pub fn ready(deltas: impl IntoIterator<Item = Delta>) -> Self {
        Self { source: None, ready: deltas.into_iter().collect(), failure: None }
    }

    /// Whether more of it has to come from outside.
    pub fn is_waiting(&self) -> bool {
        self.source.is_some()
    }

    /// Asks a model, and waits for the first piece that says something: until then another one may be asked instead.
    pub fn open(prepared: &Prepared, index: usize, timeout: Duration) -> Result<Self, Failure> {
        let began = Instant::now();
        let candidate = prepared.candidates.get(index).ok_or_else(|| Failure::invalid("There is no such model."))?;
        let Some(dialect) = Dialect::of(candidate.provider.kind) else {
            return Ok(Self::ready(echo::answer(&candidate.turns, candidate.max_tokens)));
        };
        if !candidate.model.supports_streaming {
            return prepared.ask_whole(index, timeout).map(|gathered| Self::ready(pieces(&gathered)));
        }
        let call = dialect.call(&candidate.question(&prepared.ask, true))?.timeout(timeout);
        let answer = opened(&call)?;
        let kind = answer.head.header("content-type").unwrap_or_default().to_string();
        if kind.contains("json") && !is_stream(Some(&kind)) && dialect != Dialect::Ollama {
            // A plain answer, though a stream was asked for.
            let body = whole(answer, timeout.saturating_sub(began.elapsed()))?;
            return dialect.read(&body).map(|gathered| Self::ready(pieces(&gathered)));
        }
        let mut live = Self { source: Some((answer, Decoder::new(dialect))), ready: VecDeque::new(), failure: None };
        live.until_first(timeout.saturating_sub(began.elapsed()))?;
        Ok(live)
    }

    /// The next piece, when it comes within `patience`.
    pub fn next(&mut self, patience: Duration) -> Step {
        if let Some(delta) = self.ready.pop_front() {
            return Step::Delta(delta);
        }
        if let Some(failure) = self.failure.take() {
            return Step::Failed(failure);
        }
        self.pull(patience);
        match (self.ready.pop_front(), self.failure.take()) {
            (Some(delta), failure) => {
                self.failure = failure;
                Step::Delta(delta)
            }
            (None, Some(failure)) => Step::Failed(failure),
            (None, None) if self.source.is_none() => Step::End,
            (None, None) => Step::Waiting,
        }
    }

    /// Reads once.
    fn pull(&mut self, patience: Duration) {
        let Some((answer, decoder)) = &mut self.source else { return };
        let mut deltas = Vec::new();
        let read = match answer.read(patience) {
            Ok(Part::Waiting) => return,
            Ok(Part::Chunk(bytes)) => decoder.push(&bytes, &mut deltas),
            Ok(Part::End) => decoder.end(&mut deltas),
            Err(fault) => Err(Failure::of_body(&fault)),
        };
        let is_over = decoder.is_over;
        self.ready.extend(deltas);
        self.failure = read.err();
        if is_over || self.failure.is_some() {
            self.source = None;
        }
    }

    fn until_first(&mut self, timeout: Duration) -> Result<(), Failure> {
        let began = Instant::now();
        loop {
            let says_something = |delta: &Delta| !matches!(delta, Delta::Usage { .. });
            if self.ready.iter().any(says_something) || (self.source.is_none() && self.failure.is_none()) {
                return Ok(());
            }
            if let Some(failure) = self.failure.take() {
                return Err(failure);
            }
            let left = timeout.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Err(Failure::new(FailureKind::Timeout, "The provider did not answer in time."));
            }
            self.pull(left.min(LOOK));
        }
    }
}

/// The pieces of an answer that came whole.
fn pieces(gathered: &Gathered) -> Vec<Delta> {
    let mut deltas = Vec::new();
    if !gathered.text.is_empty() {
        deltas.push(Delta::Text(gathered.text.clone()));
    }
    for (index, call) in gathered.calls.iter().enumerate() {
        let (id, name) = (Some(call.id.clone()), Some(call.name.clone()));
        deltas.push(Delta::Call { index, id, name, arguments: call.arguments.clone() });
    }
    deltas.push(Delta::Finish(gathered.reason().to_string()));
    deltas.extend(gathered.counted());
    deltas
}

/// Asks, and waits for the head of an answer; what has another status than 2xx is none.
pub fn opened(call: &Call) -> Result<Incoming, Failure> {
    let answer = call.open().map_err(|fault| Failure::of_fault(&fault))?;
    if (200..300).contains(&answer.head.status) {
        return Ok(answer);
    }
    let head = answer.head.clone();
    Err(Failure::of_status(&head, &answer.rest(REASON_BYTES_MAX, REASON_TIMEOUT)))
}

/// The whole body of an answer, within this time.
pub fn whole(mut answer: Incoming, timeout: Duration) -> Result<Vec<u8>, Failure> {
    let began = Instant::now();
    let mut body = Vec::new();
    loop {
        match answer.read(timeout.saturating_sub(began.elapsed())).map_err(|fault| Failure::of_body(&fault))? {
            Part::Chunk(bytes) => body.extend_from_slice(&bytes),
            Part::End => return Ok(body),
            Part::Waiting if began.elapsed() >= timeout => {
                return Err(Failure::new(FailureKind::Timeout, "The provider did not answer in time."));
            }
            Part::Waiting => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_there_comes_piece_by_piece() {
        let mut gathered = Gathered::default();
        gathered.push(&Delta::Text("Hi".into()));
        gathered.push(&Delta::Usage { input: Some(1), output: None });
        let mut live = Live::ready(pieces(&gathered));
        assert_eq!(live.next(LOOK), Step::Delta(Delta::Text("Hi".into())));
        assert_eq!(live.next(LOOK), Step::Delta(Delta::Finish("stop".into())));
        assert_eq!(live.next(LOOK), Step::Delta(Delta::Usage { input: Some(1), output: None }));
        assert_eq!(live.next(LOOK), Step::End);
        assert!(!live.is_waiting());
    }
}
