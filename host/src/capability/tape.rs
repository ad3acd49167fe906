//! The tape: what one call of a guest asks of its host and is answered, kept until the call has ended.
//!
//! While a call runs its arguments and answers are copied here as they are, within bounds; nothing is written out. When the
//! call fails, a capsule is made of them, and a [`Player`] can answer another build from it. A call that asks nothing of its
//! host pays nothing but an empty tape. What the guest's call does must never depend on whether it is kept.

pub(crate) mod hide;
mod host;
mod player;
mod shape;

pub(crate) use host::{Taped, TapedClock, TapedRandom};
pub(crate) use player::{End, Played, Player, PlayerNotes};
pub(crate) use shape::{Kept, Private, Shape};

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::capsule::Keeper;
use hide::Hider;

/// Calls of host functions on one tape.
pub(crate) const CALLS_MAX: usize = 1_000;
/// Bytes of them together, as they are in memory.
pub(crate) const BYTES_MAX: usize = 1 << 20;
/// Times the clock was read and numbers were drawn, each.
const READINGS_MAX: usize = 1_000;

/// Where the tapes of a host's instances come from.
#[derive(Clone, Default)]
pub(crate) enum Tapes {
    /// Nothing is kept.
    #[default]
    Off,
    /// Every call is kept until it has ended well.
    Kept(Arc<Keeper>),
    /// Every call is answered from a capsule, and by nothing else.
    Played(Arc<Player>),
}

/// The tape of one instance, for one call after another.
pub(crate) struct Tape {
    mode: Mode,
    /// What `wasi:random/insecure-seed` answers, which decides the order of hash maps.
    pub seed: u128,
}

enum Mode {
    Off,
    Kept { is_running: AtomicBool, recording: Mutex<Recording> },
    Played(Arc<Player>),
}

/// What one call has asked so far.
#[derive(Default)]
pub(crate) struct Recording {
    calls: Vec<KeptCall>,
    /// All of them, also those that found no room.
    count: usize,
    bytes: usize,
    readings: Readings,
    /// Counts calls of the guest, so that a late answer does not get into the next one's.
    turn: u64,
}

struct KeptCall {
    function: &'static str,
    arguments: Box<dyn Kept>,
    answer: Option<Box<dyn Kept>>,
    began: Instant,
    took: Duration,
}

/// What the clock said, in nanoseconds since 1970, and the 64-bit numbers that were drawn, each in its order. Random bytes
/// are not among them: a guest may make keys of those.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Readings {
    pub clock: Vec<u64>,
    pub numbers: Vec<u64>,
}

/// One call of a host function as it stands in a capsule.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TapedCall {
    pub function: String,
    pub arguments: Value,
    /// None: the call had ended before there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Value>,
    /// How long it took, or had taken when the call ended, in milliseconds.
    pub took_ms: u64,
}

/// What becomes of a call of a host function.
pub(crate) enum Asked {
    /// It goes its way; the answer belongs to this place on the tape, if any.
    Live(Option<Place>),
    /// This is its answer.
    Answered(Value),
    /// There is no answer, and so no way on.
    Ended,
}

/// Where an answer belongs.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    turn: u64,
    at: usize,
}

impl Tapes {
    /// A tape for a fresh instance.
    pub(crate) fn tape(&self) -> Arc<Tape> {
        let (mode, seed) = match self {
            Self::Off => (Mode::Off, rand::random()),
            Self::Kept(_) => {
                (Mode::Kept { is_running: AtomicBool::new(false), recording: Mutex::default() }, rand::random())
            }
            Self::Played(player) => (Mode::Played(Arc::clone(player)), player.seed()),
        };
        Arc::new(Tape { mode, seed })
    }

    /// Who keeps what has failed; none when nothing is kept.
    pub(crate) fn keeper(&self) -> Option<&Arc<Keeper>> {
        match self {
            Self::Kept(keeper) => Some(keeper),
            Self::Off | Self::Played(_) => None,
        }
    }
}

impl Tape {
    /// A call of the guest begins.
    pub(crate) fn begin(&self) {
        match &self.mode {
            Mode::Off => {}
            Mode::Kept { is_running, .. } => is_running.store(true, Ordering::Release),
            Mode::Played(player) => player.begin(),
        }
    }

    /// It has ended: the tape is empty again, and nothing is kept until the next one.
    pub(crate) fn end(&self) -> Recording {
        let Mode::Kept { is_running, recording } = &self.mode else { return Recording::default() };
        is_running.store(false, Ordering::Release);
        let mut recording = recording.lock();
        if recording.count == 0 && recording.readings == Readings::default() {
            return Recording::default();
        }
        let turn = recording.turn + 1;
        std::mem::replace(&mut *recording, Recording { turn, ..Recording::default() })
    }

    /// The recording of the running call, if it is kept.
    fn recording(&self) -> Option<&Mutex<Recording>> {
        match &self.mode {
            Mode::Kept { is_running, recording } if is_running.load(Ordering::Acquire) => Some(recording),
            _ => None,
        }
    }

    /// Who plays, once the call to be played has begun.
    fn player(&self) -> Option<&Arc<Player>> {
        match &self.mode {
            Mode::Played(player) if player.is_running() => Some(player),
            _ => None,
        }
    }

    /// Whether host functions are answered from a capsule.
    pub(crate) fn is_played(&self) -> bool {
        matches!(self.mode, Mode::Played(_))
    }

    /// The guest calls `function`. `keep` copies the arguments, which take about `bytes`.
    pub(crate) fn ask(&self, function: &'static str, bytes: usize, keep: impl FnOnce() -> Box<dyn Kept>) -> Asked {
        match &self.mode {
            Mode::Played(player) if player.is_running() => player.answer(function, &*keep()),
            // Nobody plays outside the call, and there is nothing behind the rooms then.
            Mode::Played(_) => Asked::Ended,
            _ => Asked::Live(self.recording().and_then(|recording| recording.lock().ask(function, bytes, keep))),
        }
    }

    /// The answer to what was asked at `place`.
    pub(crate) fn answered(&self, place: Option<Place>, bytes: usize, keep: impl FnOnce() -> Box<dyn Kept>) {
        if let (Some(place), Some(recording)) = (place, self.recording()) {
            recording.lock().answered(place, bytes, keep);
        }
    }

    /// Takes up `bytes` for something that is kept elsewhere; false when there is no room.
    pub(crate) fn takes(&self, bytes: usize) -> bool {
        self.recording().is_some_and(|recording| recording.lock().takes(bytes))
    }

    /// A replay reads more of an answer than was kept.
    pub(crate) fn reads_too_far(&self, function: &str) {
        if let Some(player) = self.player() {
            player.reads_too_far(function);
        }
    }

    /// What the clock says: as it was, where this is a replay.
    pub(crate) fn clock(&self, now: impl FnOnce() -> Duration) -> Duration {
        if let Some(player) = self.player() {
            return player.clock(now);
        }
        let now = now();
        if let Some(recording) = self.recording() {
            let nanoseconds = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
            push_bounded(&mut recording.lock().readings.clock, nanoseconds);
        }
        now
    }

    /// A number is drawn: the same again, where this is a replay.
    pub(crate) fn number(&self, draw: impl FnOnce() -> u64) -> u64 {
        if let Some(player) = self.player() {
            return player.number();
        }
        let number = draw();
        if let Some(recording) = self.recording() {
            push_bounded(&mut recording.lock().readings.numbers, number);
        }
        number
    }

    /// Random bytes: never kept, and the same in every replay.
    pub(crate) fn fill(&self, bytes: &mut [u8], fill: impl FnOnce(&mut [u8])) {
        match self.player() {
            Some(player) => player.fill(bytes),
            None => fill(bytes),
        }
    }
}

impl Recording {
    fn ask(&mut self, function: &'static str, bytes: usize, keep: impl FnOnce() -> Box<dyn Kept>) -> Option<Place> {
        self.count += 1;
        if self.is_cut() || self.calls.len() >= CALLS_MAX || !self.takes(bytes) {
            return None;
        }
        let began = Instant::now();
        self.calls.push(KeptCall { function, arguments: keep(), answer: None, began, took: Duration::ZERO });
        Some(Place { turn: self.turn, at: self.calls.len() - 1 })
    }

    fn answered(&mut self, place: Place, bytes: usize, keep: impl FnOnce() -> Box<dyn Kept>) {
        if place.turn != self.turn {
            return;
        }
        if !self.takes(bytes) {
            // Without its answer the call is of no use, nor is what came after it.
            self.calls.truncate(place.at);
            return;
        }
        if let Some(call) = self.calls.get_mut(place.at) {
            call.answer = Some(keep());
            call.took = call.began.elapsed();
        }
    }

    fn takes(&mut self, bytes: usize) -> bool {
        let total = self.bytes.saturating_add(bytes);
        let fits = total <= BYTES_MAX;
        if fits {
            self.bytes = total;
        }
        fits
    }

    /// Whether something found no room. From then on nothing is kept: a tape with a hole in it tells stories.
    fn is_cut(&self) -> bool {
        // The call that is being noted is counted already.
        self.count > self.calls.len() + 1
    }

    /// Everything on it, as it stands in a capsule, and whether it ends too early.
    pub(crate) fn show(&self, hider: &Hider) -> (Vec<TapedCall>, bool) {
        let shown = self.calls.iter().map(|call| TapedCall {
            function: call.function.to_owned(),
            arguments: call.arguments.show(hider),
            answer: call.answer.as_ref().map(|answer| answer.show(hider)),
            took_ms: u64::try_from(match &call.answer {
                Some(_) => call.took.as_millis(),
                None => call.began.elapsed().as_millis(),
            })
            .unwrap_or(u64::MAX),
        });
        (shown.collect(), self.count > self.calls.len())
    }

    /// How many host functions were called.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// What clock and chance said.
    pub(crate) fn readings(&self) -> &Readings {
        &self.readings
    }
}

fn push_bounded(readings: &mut Vec<u64>, reading: u64) {
    if readings.len() < READINGS_MAX {
        readings.push(reading);
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// A tape as it is while a call runs.
    pub(crate) fn running() -> Tape {
        let mode = Mode::Kept { is_running: AtomicBool::new(true), recording: Mutex::default() };
        Tape { mode, seed: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(tape: &Tape, argument: &str) -> Option<Place> {
        let argument = (argument.to_owned(),);
        match tape.ask("cache.get", argument.bytes(), || Box::new(argument.clone())) {
            Asked::Live(place) => place,
            _ => panic!("nobody plays"),
        }
    }

    fn answer(tape: &Tape, place: Option<Place>, bytes: Vec<u8>) {
        tape.answered(place, bytes.bytes(), || Box::new(bytes.clone()));
    }

    #[test]
    fn calls_are_kept_in_their_order_until_the_end() {
        let tape = testing::running();
        let first = ask(&tape, "a");
        let second = ask(&tape, "b");
        answer(&tape, second, b"2".to_vec());
        answer(&tape, first, b"1".to_vec());
        let late = ask(&tape, "c");
        let recording = tape.end();
        let (calls, is_cut) = recording.show(&Hider::default());
        assert_eq!((calls.len(), recording.count(), is_cut), (3, 3, false));
        assert_eq!(calls[0].answer, Some(serde_json::json!({ "utf8": "1" })));
        assert_eq!(calls[2].answer, None);
        assert!(ask(&tape, "d").is_none(), "nothing is kept between two calls");
        tape.begin();
        let place = ask(&tape, "e");
        answer(&tape, late, b"of the call before".to_vec());
        answer(&tape, place, b"5".to_vec());
        let (calls, _) = tape.end().show(&Hider::default());
        assert_eq!(calls.len(), 1);
        assert_eq!(calls[0].answer, Some(serde_json::json!({ "utf8": "5" })));
    }

    #[test]
    fn a_tape_has_an_end_and_says_so() {
        let tape = testing::running();
        for _ in 0..CALLS_MAX + 5 {
            let place = ask(&tape, "a");
            answer(&tape, place, Vec::new());
        }
        let recording = tape.end();
        let (calls, is_cut) = recording.show(&Hider::default());
        assert_eq!((calls.len(), recording.count(), is_cut), (CALLS_MAX, CALLS_MAX + 5, true));
        tape.begin();
        let place = ask(&tape, "small");
        answer(&tape, place, Vec::new());
        let place = ask(&tape, "large");
        answer(&tape, place, vec![0; BYTES_MAX]);
        assert!(ask(&tape, "after the hole").is_none());
        let recording = tape.end();
        let (calls, is_cut) = recording.show(&Hider::default());
        assert_eq!((calls.len(), recording.count(), is_cut), (1, 3, true));
    }

    #[test]
    fn clock_and_chance_are_kept_within_bounds_and_bytes_are_not() {
        let tape = testing::running();
        for number in 0..READINGS_MAX as u64 + 5 {
            assert_eq!(tape.clock(|| Duration::from_nanos(number)), Duration::from_nanos(number));
            assert_eq!(tape.number(|| number), number);
        }
        tape.fill(&mut [0; 32], |bytes| bytes.fill(7));
        let recording = tape.end();
        assert_eq!(
            (recording.readings().clock.len(), recording.readings().numbers.len()),
            (READINGS_MAX, READINGS_MAX)
        );
        assert_eq!(recording.count(), 0);
    }
}
