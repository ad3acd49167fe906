//! Answers a guest from what was kept of another build's call: in order, and by function and arguments.
//!
//! What the other build did not ask has no answer here. A write that is not on the tape is taken as done, and told; a read
//! ends the replay, because nobody knows what would have been read. Nothing here reaches any store or network.

use std::collections::VecDeque;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use regex::Regex;
use serde_json::{Value, json};

use super::hide::{HIDDEN, Hider};
use super::{Asked, Kept, Readings, TapedCall};

/// Characters that tell of one call.
const CALL_CHARS_MAX: usize = 240;
/// Calls that are told of a kind.
const TOLD_MAX: usize = 20;
/// Between two looks at a clock that was looked at less often when it was kept.
const CLOCK_STEP_NANOSECONDS: u64 = 1_000_000;

/// Ids and moments: a guest may have made them itself, and makes others the next time.
static MADE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let id = "[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}";
    Regex::new(&format!(r"{id}|\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z")).ok()
});

/// What a replay is made from.
pub(crate) struct PlayerNotes {
    pub calls: Vec<TapedCall>,
    /// Whether there were more calls than are on the tape.
    pub is_cut: bool,
    pub readings: Readings,
    pub seed: u128,
    /// When the call began, in nanoseconds since 1970.
    pub began: u64,
    /// Everything the guest was given at the beginning, as text.
    pub given: String,
    pub hides_values: bool,
}

/// Plays one capsule to one guest.
pub(crate) struct Player {
    is_running: AtomicBool,
    seed: u128,
    is_cut: bool,
    hides_values: bool,
    state: Mutex<State>,
}

struct State {
    calls: Vec<Step>,
    /// The first call that is still to come, when all goes as it did.
    next: usize,
    /// What the guest was given, and then every answer, in order.
    known: String,
    asked: usize,
    taken_as_done: Vec<String>,
    /// Ids and moments of this build, and those that stand for them on the tape.
    aliases: Vec<(String, String)>,
    clock: VecDeque<u64>,
    last_clock: u64,
    numbers: VecDeque<u64>,
    random: StdRng,
    end: Option<End>,
}

struct Step {
    call: TapedCall,
    is_used: bool,
    /// How much of what is known was known before it.
    known: usize,
}

/// Why a replay could not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It asks what is not on the tape.
    Diverged {
        /// Which call of a host function, from 1.
        number: usize,
        /// What the kept build asked then; none where it asked nothing more.
        kept: Option<String>,
        asked: String,
    },
    /// It goes on where the tape ends because there was no more room.
    Cut { number: usize, asked: String },
    /// It waits for what was not answered then either.
    Unanswered { number: usize, asked: String },
}

/// What a replay has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Played {
    /// Host functions that the guest called.
    pub asked: usize,
    /// Of those, how many were answered from the tape.
    pub answered: usize,
    /// Writes that are not on the tape, in words.
    pub taken_as_done: Vec<String>,
    /// Calls on the tape that the guest did not make, in words: the first of them.
    pub unused: Vec<String>,
    pub end: Option<End>,
}

impl Player {
    /// Plays `notes`, once.
    pub(crate) fn new(notes: PlayerNotes) -> Self {
        let PlayerNotes { calls, is_cut, readings, seed, began, given, hides_values } = notes;
        let mut known = given;
        let step = |call: TapedCall| {
            let until = known.len();
            if let Some(answer) = &call.answer {
                known.push_str(&answer.to_string());
            }
            Step { call, is_used: false, known: until }
        };
        let calls = calls.into_iter().map(step).collect();
        let state = State {
            calls,
            next: 0,
            known,
            asked: 0,
            taken_as_done: Vec::new(),
            aliases: Vec::new(),
            clock: readings.clock.into(),
            last_clock: began,
            numbers: readings.numbers.into(),
            // Any will do, as long as it is always the same.
            random: StdRng::seed_from_u64(began),
            end: None,
        };
        Self { is_running: AtomicBool::new(false), seed, is_cut, hides_values, state: Mutex::new(state) }
    }

    /// The call to be played begins.
    pub(super) fn begin(&self) {
        self.is_running.store(true, Ordering::Release);
    }

    /// Whether it has begun: before, a guest is only made ready.
    pub(super) fn is_running(&self) -> bool {
        self.is_running.load(Ordering::Acquire)
    }

    /// See [`super::Tape::seed`].
    pub(super) fn seed(&self) -> u128 {
        self.seed
    }

    /// How it went.
    pub(crate) fn played(&self) -> Played {
        let state = self.state.lock();
        let unused = state.calls.iter().filter(|step| !step.is_used);
        Played {
            asked: state.asked,
            answered: state.calls.iter().filter(|step| step.is_used).count(),
            taken_as_done: state.taken_as_done.clone(),
            unused: unused.take(TOLD_MAX).map(|step| told(&step.call.function, &step.call.arguments)).collect(),
            end: state.end.clone(),
        }
    }

    /// What the host answers to `function`.
    pub(crate) fn answer(&self, function: &str, arguments: &dyn Kept) -> Asked {
        let arguments = arguments.show(&Hider::new(self.hides_values));
        self.state.lock().answer(function, arguments, self.is_cut)
    }

    /// Says that a body that is read on was not kept whole.
    pub(crate) fn reads_too_far(&self, function: &str) {
        let mut state = self.state.lock();
        let number = state.asked;
        state.end.get_or_insert_with(|| End::Cut { number, asked: format!("the rest of an answer of {function}") });
    }

    pub(super) fn clock(&self, _now: impl FnOnce() -> Duration) -> Duration {
        let mut state = self.state.lock();
        let next = state.last_clock.saturating_add(CLOCK_STEP_NANOSECONDS);
        state.last_clock = state.clock.pop_front().unwrap_or(next);
        Duration::from_nanos(state.last_clock)
    }

    pub(super) fn number(&self) -> u64 {
        let mut state = self.state.lock();
        state.numbers.pop_front().unwrap_or_else(|| state.random.next_u64())
    }

    pub(super) fn fill(&self, bytes: &mut [u8]) {
        self.state.lock().random.fill_bytes(bytes);
    }
}

impl State {
    fn answer(&mut self, function: &str, arguments: Value, is_cut: bool) -> Asked {
        self.asked += 1;
        if self.end.is_some() {
            return Asked::Ended;
        }
        let arguments = self.in_words_of_the_tape(arguments);
        if let Some(at) = self.find(function, &arguments) {
            return self.play(at);
        }
        let asked = told(function, &arguments);
        if let Some(answer) = taken_as_done(function, &arguments) {
            if self.taken_as_done.len() < TOLD_MAX {
                self.taken_as_done.push(asked);
            }
            return Asked::Answered(answer);
        }
        let kept = self.calls.iter().skip(self.next).find(|step| !step.is_used);
        let kept = kept.map(|step| told(&step.call.function, &step.call.arguments));
        self.end = Some(match kept {
            None if is_cut => End::Cut { number: self.asked, asked },
            kept => End::Diverged { number: self.asked, kept, asked },
        });
        Asked::Ended
    }

    /// The call on the tape that this one is: the next, else a later, else an earlier one that nobody has made yet; the
    /// same to the letter, else but for what the guest has made itself.
    fn find(&mut self, function: &str, arguments: &Value) -> Option<usize> {
        let (earlier, later) = (0..self.next, self.next..self.calls.len());
        let order: Vec<usize> = later.chain(earlier).collect();
        let is_open = |step: &Step| !step.is_used && step.call.function == function;
        let same =
            |at: &usize| self.calls.get(*at).is_some_and(|step| is_open(step) && step.call.arguments == *arguments);
        if let Some(at) = order.iter().copied().find(|at| same(at)) {
            return Some(at);
        }
        let text = arguments.to_string();
        let alike = |at: &usize| {
            let step = self.calls.get(*at).filter(|step| is_open(step))?;
            let known = self.known.get(..step.known).unwrap_or_default();
            let (plain, made) = without_made(&text, known);
            let (kept, kept_made) = without_made(&step.call.arguments.to_string(), known);
            (plain == kept).then(|| (*at, made.into_iter().zip(kept_made).collect::<Vec<_>>()))
        };
        let (at, aliases) = order.iter().find_map(alike)?;
        self.aliases.extend(aliases);
        Some(at)
    }

    fn play(&mut self, at: usize) -> Asked {
        let Some(step) = self.calls.get_mut(at) else { return Asked::Ended };
        step.is_used = true;
        self.next = self.next.max(at + 1);
        match &step.call.answer {
            Some(answer) => Asked::Answered(answer.clone()),
            None => {
                let asked = told(&step.call.function, &step.call.arguments);
                self.end = Some(End::Unanswered { number: self.asked, asked });
                Asked::Ended
            }
        }
    }

    /// With the tape's own ids and moments in the place of those that this build made.
    fn in_words_of_the_tape(&self, arguments: Value) -> Value {
        let mut text = arguments.to_string();
        if !self.aliases.iter().any(|(made, _)| text.contains(made.as_str())) {
            return arguments;
        }
        for (made, kept) in &self.aliases {
            text = text.replace(made.as_str(), kept);
        }
        serde_json::from_str(&text).unwrap_or(arguments)
    }
}

/// The text with a mark for every id and moment that was not known before, and these.
fn without_made(text: &str, known: &str) -> (String, Vec<String>) {
    let Some(pattern) = &*MADE else { return (text.to_owned(), Vec::new()) };
    let mut made = Vec::new();
    let plain = pattern.replace_all(text, |found: &regex::Captures<'_>| {
        let word = found.get(0).map_or("", |found| found.as_str());
        if known.contains(word) {
            return word.to_owned();
        }
        made.push(word.to_owned());
        "\u{0}".to_owned()
    });
    (plain.into_owned(), made)
}

/// What a write answers when all goes well, and a cache that has nothing; none for what reads.
fn taken_as_done(function: &str, arguments: &Value) -> Option<Value> {
    let argument = |at: usize| arguments.get(at);
    let answer = match function {
        "database.execute" | "transaction.execute" => json!(1),
        "transaction.begin"
        | "transaction.commit"
        | "transaction.rollback"
        | "cache.set"
        | "cache.delete"
        | "cache.get" => Value::Null,
        "transaction.once" | "cache.add-if-absent" => json!(true),
        "cache.expire" => json!(false),
        "cache.increment" => argument(1)?.clone(),
        "cache.get-many" => Value::Array(vec![Value::Null; argument(0)?.as_array()?.len()]),
        "queue.publish" | "queue.publish-delayed" | "queue.enqueue" | "transaction.publish" | "transaction.enqueue" => {
            match argument(0)?.get("id") {
                Some(Value::String(id)) => json!(id),
                _ => json!(uuid::Uuid::now_v7().to_string()),
            }
        }
        "mail.send" => json!(uuid::Uuid::now_v7().to_string()),
        "secrets.seal" | "secrets.seal-shared" => json!({ "redacted": HIDDEN.len() }),
        "secrets.hmac" | "secrets.hmac-with-secret" => json!({ "redacted": 32 }),
        "secrets.random" => json!({ "redacted": argument(0)? }),
        _ => return None,
    };
    Some(json!({ "ok": answer }))
}

/// A call in words, shortened.
fn told(function: &str, arguments: &Value) -> String {
    let arguments: Vec<String> = arguments.as_array().into_iter().flatten().map(Value::to_string).collect();
    let text = format!("{function}({})", arguments.join(", "));
    let mut short: String = text.chars().take(CALL_CHARS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "0190a000-0000-7000-8000-000000000001";
    const SECOND: &str = "0190a000-0000-7000-8000-000000000002";
    const THIRD: &str = "0190a000-0000-7000-8000-000000000003";

    fn call(function: &str, arguments: Value, answer: Option<Value>) -> TapedCall {
        TapedCall { function: function.into(), arguments, answer, took_ms: 1 }
    }

    fn player(calls: Vec<TapedCall>, is_cut: bool) -> Player {
        let notes = PlayerNotes {
            calls,
            is_cut,
            readings: Readings { clock: vec![5, 9], numbers: vec![42] },
            seed: 1,
            began: 1,
            given: format!("the request names {FIRST}"),
            hides_values: false,
        };
        let player = Player::new(notes);
        player.begin();
        player
    }

    fn ask(player: &Player, function: &str, argument: &str) -> Option<Value> {
        match player.answer(function, &(argument.to_owned(),)) {
            Asked::Answered(answer) => Some(answer),
            Asked::Ended => None,
            Asked::Live(_) => panic!("nothing is live here"),
        }
    }

    fn reads(arguments: &[&str]) -> Vec<TapedCall> {
        arguments.iter().map(|argument| call("database.query", json!([argument]), Some(json!(argument)))).collect()
    }

    #[test]
    fn calls_are_answered_in_order_and_by_what_they_ask() {
        let player = player(reads(&["a", "b", "a", "c"]), false);
        assert_eq!(ask(&player, "database.query", "b"), Some(json!("b")), "a later one");
        assert_eq!(ask(&player, "database.query", "a"), Some(json!("a")));
        assert_eq!(ask(&player, "database.query", "a"), Some(json!("a")), "an earlier one");
        let played = player.played();
        assert_eq!((played.asked, played.answered, played.end), (3, 3, None));
        assert_eq!(played.unused, ["database.query(\"c\")"]);
    }

    #[test]
    fn a_read_that_is_not_on_the_tape_ends_the_replay_and_says_where() {
        let player = player(reads(&["a", "b"]), false);
        assert!(ask(&player, "database.query", "a").is_some());
        assert_eq!(ask(&player, "database.query", "x"), None);
        assert_eq!(ask(&player, "database.query", "b"), None, "there is no way on");
        let end = End::Diverged {
            number: 2,
            kept: Some("database.query(\"b\")".into()),
            asked: "database.query(\"x\")".into(),
        };
        assert_eq!(player.played().end, Some(end));
    }

    #[test]
    fn a_read_behind_the_end_is_cut_or_diverged() {
        for (is_cut, expected) in [
            (true, End::Cut { number: 1, asked: "database.query(\"x\")".into() }),
            (false, End::Diverged { number: 1, kept: None, asked: "database.query(\"x\")".into() }),
        ] {
            let player = player(Vec::new(), is_cut);
            assert_eq!(ask(&player, "database.query", "x"), None);
            assert_eq!(player.played().end, Some(expected));
        }
    }

    #[test]
    fn writes_that_are_not_on_the_tape_are_taken_as_done_and_told() {
        let player = player(reads(&["a"]), false);
        assert_eq!(ask(&player, "transaction.execute", "INSERT"), Some(json!({ "ok": 1 })));
        assert_eq!(ask(&player, "cache.get", "key"), Some(json!({ "ok": null })));
        assert_eq!(ask(&player, "database.query", "a"), Some(json!("a")));
        let played = player.played();
        assert_eq!(played.taken_as_done, ["transaction.execute(\"INSERT\")", "cache.get(\"key\")"]);
        assert_eq!(played.end, None);
    }

    #[test]
    fn what_had_no_answer_has_none_again() {
        let player = player(vec![call("http.send", json!(["a"]), None)], false);
        assert_eq!(ask(&player, "http.send", "a"), None);
        assert_eq!(player.played().end, Some(End::Unanswered { number: 1, asked: "http.send(\"a\")".into() }));
    }

    #[test]
    fn ids_that_a_build_makes_itself_may_differ_and_those_it_was_given_may_not() {
        let calls = vec![
            call(
                "database.execute",
                json!([format!("insert {SECOND} at 2026-01-31T08:15:00.000Z")]),
                Some(json!("in")),
            ),
            call("database.query", json!([format!("of {SECOND}")]), Some(json!("made"))),
            call("database.query", json!([format!("of {FIRST}")]), Some(json!("given"))),
        ];
        let player = player(calls, false);
        let inserted = ask(&player, "database.execute", &format!("insert {THIRD} at 2027-01-31T08:15:00.000Z"));
        assert_eq!(inserted, Some(json!("in")));
        assert_eq!(
            ask(&player, "database.query", &format!("of {THIRD}")),
            Some(json!("made")),
            "it is the same by now"
        );
        assert_eq!(ask(&player, "database.query", "of 0190a000-0000-7000-8000-000000000009"), None);
    }

    #[test]
    fn clock_and_chance_say_the_same_again() {
        let (player, again) = (player(Vec::new(), false), player(Vec::new(), false));
        let times: Vec<u128> = (0..3).map(|_| player.clock(|| Duration::MAX).as_nanos()).collect();
        assert_eq!(times, [5, 9, 9 + u128::from(CLOCK_STEP_NANOSECONDS)]);
        assert_eq!(player.number(), 42);
        let (mut bytes, mut others) = ([0; 8], [0; 8]);
        player.fill(&mut bytes);
        again.fill(&mut others);
        assert_eq!(bytes, others);
    }
}
