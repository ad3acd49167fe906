//! One call as a capsule would tell it: what the guest was called with, held until the call has ended.
//!
//! A call that ends well has cost a few counted references; only one that fails is written down, and elsewhere.

use std::sync::Arc;
use std::time::Instant;

use super::Revision;
use super::packed::{Answer, PackedRequest};
use crate::bindings::consumer::Delivery;
use crate::capability::capsule::{ANSWER_BYTES_MAX, BODY_BYTES_MAX, Draft, Failure, Subject};
use crate::capability::tape::Tape;
use crate::capability::tape::hide::show_bytes;
use crate::principal::Call;

/// Below, a status says that all went well, or that the caller is at fault; below the other one it is none.
const FAILED: u16 = 500;
const STATUS_MIN: u16 = 200;

/// What a capsule would be made of.
pub(super) struct Attempt {
    call: Call,
    began: Instant,
    held: Held,
    tape: Arc<Tape>,
}

/// What the guest is called with.
pub(super) enum Held {
    /// Without its body where that is too large to be kept.
    Request {
        request: Arc<PackedRequest>,
        is_whole: bool,
    },
    Delivery(Arc<Delivery>),
}

impl Held {
    /// A request, with its body unless that is too large to be kept.
    pub(super) fn request(request: &Arc<PackedRequest>) -> Self {
        match request.as_bytes().len() {
            0..=BODY_BYTES_MAX => Self::Request { request: Arc::clone(request), is_whole: true },
            _ => Self::Request { request: Arc::new(request.without_body()), is_whole: false },
        }
    }

    fn subject(&self) -> Option<Subject> {
        Some(match self {
            Self::Request { request, is_whole } => {
                Subject::Request { request: PackedRequest::clone(request).unpack()?, is_whole: *is_whole }
            }
            Self::Delivery(delivery) => Subject::Delivery(Arc::clone(delivery)),
        })
    }
}

/// A call before it has an instance.
pub(super) struct Beginning(Option<(Call, Held)>);

impl Beginning {
    /// The call as it begins in an instance with this tape.
    pub(super) fn in_instance(self, tape: &Arc<Tape>) -> Option<Attempt> {
        tape.begin();
        let (call, held) = self.0?;
        Some(Attempt { call, began: Instant::now(), held, tape: Arc::clone(tape) })
    }
}

impl Revision {
    /// A call that may be kept; nothing is held where nothing is kept.
    pub(super) fn beginning(&self, call: &Call, held: impl FnOnce() -> Held) -> Beginning {
        Beginning(self.engine.rooms.tapes.keeper().map(|_| (call.clone(), held())))
    }

    /// Hands a failed call over to be kept; the capsule's id, if it is. A build that fails at every request makes nothing
    /// for those that are not kept.
    pub(super) fn keep(&self, attempt: &Attempt, failure: impl FnOnce() -> Failure) -> Option<Arc<str>> {
        let recording = attempt.tape.end();
        let keeper = self.engine.rooms.tapes.keeper()?;
        keeper.offer(&self.plugin.name, |id| {
            let limit = self.plugin.limits.request_timeout;
            let time = attempt.call.deadline.map_or(limit, |end| end.saturating_duration_since(attempt.began));
            Some(Draft {
                id,
                at: chrono::Utc::now(),
                plugin: Arc::clone(&self.plugin),
                revision: self.number,
                sha256: Arc::clone(&self.digest),
                failure: failure(),
                call: attempt.call.clone(),
                time_ms: u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
                seed: attempt.tape.seed,
                subject: attempt.held.subject()?,
                recording,
            })
        })
    }

    /// Keeps a call whose answer is a failure, and says so.
    pub(super) fn keep_if_failed(&self, attempt: &Attempt, answer: &Answer) {
        let status = match answer.status() {
            Some(STATUS_MIN..FAILED) => return,
            status => status.unwrap_or_default(),
        };
        let failure = || {
            let body = answer.body();
            Failure::Status { status, body: show_bytes(if body.len() <= ANSWER_BYTES_MAX { body } else { b"" }) }
        };
        if let Some(capsule) = self.keep(attempt, failure) {
            let request_id = &attempt.call.request_id;
            tracing::warn!(plugin = %self.plugin.name, revision = %self.short_digest(), %request_id, status, %capsule,
                "a guest answered with a failure");
        }
    }
}
