//! Calling a route for a request: one round where it answers at once, several where somebody is asked in between, and a
//! stream of messages where the client listens.

pub mod plan;
pub mod streamed;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use berth_sdk::{
    http::{Next, Response, Stream},
    prelude::*,
    serde_json::{Map, Value},
};

pub use plan::{Inputs, Plan};

use super::{
    dispatch::told,
    http::{event, stream_answer},
    reply::{self, Turn},
    session::{self, Call, CallStatus},
};
use crate::protocol::message::{self, RpcError};
use streamed::{Progress, Streamed};

/// How long whoever is at a call is not heard of before somebody else may go on.
const LEASE: Duration = Duration::from_secs(20);
/// The same until a route answers.
const LEASE_OF_ROUND: Duration = Duration::from_secs(plan::TIMEOUT.as_secs() + 10);
/// How often the lease is prolonged, and it is looked whether the client still wants it.
const HOLD_EVERY: Duration = Duration::from_secs(1);
/// How long a person may take.
const ANSWER_MAX: Duration = Duration::from_secs(600);
/// How often it is looked for an answer, or for what somebody else says on the stream.
const POLL: Duration = Duration::from_millis(150);
/// How long a stream stays silent before a comment keeps it open.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// When a client that was cut off shall come back.
const RETRY_MS: u64 = 500;
/// Rounds of one call.
const ROUNDS_MAX: usize = 10;

enum Phase {
    /// The route is to be called.
    Run,
    /// Its answer comes.
    Stream(Box<Streamed>),
    /// The client was asked.
    Wait { asked: Vec<(String, String)>, answers: Map<String, Value>, since: Instant },
    /// Somebody else is at it: what they say is repeated.
    Tail,
    /// Nothing more comes.
    Over,
}

/// A call whose messages go out as a stream.
pub struct Flow {
    plan: Plan,
    /// Where the messages are kept, for a client that comes back.
    call: Option<Stored<Call>>,
    sequence: i64,
    ready: VecDeque<Vec<u8>>,
    phase: Phase,
    inputs: Inputs,
    rounds: usize,
    sent: Instant,
    held: Instant,
}

impl Flow {
    /// Begins a call.
    pub fn begin(plan: Plan, inputs: Inputs, call: Option<Stored<Call>>) -> Self {
        let mut ready = VecDeque::new();
        if let Some(call) = &call {
            // It tells the client where to come back to before anything has happened.
            ready.push_back(event(Some(&format!("{}_0", call.id)), Some(RETRY_MS), ""));
        }
        let now = Instant::now();
        Self { plan, call, sequence: 0, ready, phase: Phase::Run, inputs, rounds: 0, sent: now, held: now }
    }

    /// Goes on after a client has come back.
    pub fn resume(plan: Plan, call: Stored<Call>, after: i64) -> Self {
        let mut flow = Self::begin(plan, Inputs::default(), Some(call));
        flow.ready.clear();
        (flow.sequence, flow.phase) = (after, Phase::Tail);
        flow
    }

    /// The answer that this is.
    pub fn response(mut self) -> Response {
        stream_answer(Stream::new("text/event-stream", move || self.next()))
    }

    fn next(&mut self) -> Next<Vec<u8>> {
        if let Some(bytes) = self.ready.pop_front() {
            self.sent = Instant::now();
            return Next::Item(bytes);
        }
        if matches!(self.phase, Phase::Over) {
            return Next::End;
        }
        if let Err(problem) = self.step() {
            self.finish(&Err(told(&problem)));
        }
        if let Some(bytes) = self.ready.pop_front() {
            self.sent = Instant::now();
            return Next::Item(bytes);
        }
        match self.phase {
            Phase::Over => Next::End,
            _ if self.sent.elapsed() >= KEEP_ALIVE => {
                self.sent = Instant::now();
                Next::Item(b": keep-alive\n\n".to_vec())
            }
            // Reading a route's stream waits by itself.
            Phase::Stream(_) => Next::Wait(Duration::from_millis(1)),
            _ => Next::Wait(POLL),
        }
    }

    fn step(&mut self) -> Result<()> {
        if !matches!(self.phase, Phase::Tail) && !self.is_wanted(LEASE)? {
            self.phase = Phase::Over;
            return Ok(());
        }
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Run => self.run()?,
            Phase::Stream(streamed) => self.follow(streamed)?,
            Phase::Wait { asked, answers, since } => self.wait(asked, answers, since)?,
            Phase::Tail => self.tail()?,
            Phase::Over => {}
        }
        Ok(())
    }

    /// Calls the route, held for as long as it may take to answer.
    fn run(&mut self) -> Result<()> {
        if let Some(call) = &self.call {
            Call::hold(&call.id, LEASE_OF_ROUND)?;
        }
        if self.plan.is_streaming() {
            match self.plan.open(&self.inputs) {
                Ok(streamed) => self.phase = Phase::Stream(Box::new(streamed)),
                Err(turn) => self.turned(turn)?,
            }
            return Ok(());
        }
        match self.plan.round(&self.inputs) {
            Ok(turn) => self.turned(turn),
            Err(error) => {
                self.finish(&Err(error));
                Ok(())
            }
        }
    }

    /// Says that somebody is at it; false when the client does not want it any more.
    fn is_wanted(&mut self, lease: Duration) -> Result<bool> {
        let Some(call) = &self.call else { return Ok(true) };
        if self.held.elapsed() < HOLD_EVERY && self.rounds > 0 {
            return Ok(true);
        }
        self.held = Instant::now();
        if matches!(self.phase, Phase::Wait { .. }) {
            session::touch(&call.session_id)?;
        }
        Call::hold(&call.id, lease)
    }

    fn follow(&mut self, mut streamed: Box<Streamed>) -> Result<()> {
        self.rounds = self.rounds.max(1);
        match streamed.read() {
            Progress::Nothing => self.phase = Phase::Stream(streamed),
            Progress::Said(notes) => {
                for note in notes {
                    if let Some(message) = self.plan.notification(&note) {
                        self.say(&message, false)?;
                    }
                }
                self.phase = Phase::Stream(streamed);
            }
            Progress::Left => {
                // The client comes back, and whoever answers it goes on.
                if let Some(call) = &self.call {
                    Call::release(&call.id)?;
                }
                self.phase = Phase::Over;
            }
            Progress::Turned(turn) => self.turned(turn)?,
        }
        Ok(())
    }

    fn turned(&mut self, turn: Turn) -> Result<()> {
        self.rounds += 1;
        let (requests, state) = match turn {
            Turn::Done(result) => {
                self.finish(&Ok(self.plan.completed(result)));
                return Ok(());
            }
            Turn::Input { .. } if self.rounds > ROUNDS_MAX => {
                self.finish(&Ok(self.plan.completed(reply::failed("The tool asks again and again."))));
                return Ok(());
            }
            Turn::Input { requests, state } => (requests, state),
        };
        if let Some(lacking) = self.plan.lacking(&requests) {
            let error = self.plan.missing_capability(lacking);
            self.finish(&error);
            return Ok(());
        }
        if self.plan.client.is_modern {
            match self.plan.input_required(requests, state) {
                Ok(result) => self.finish(&Ok(result)),
                Err(problem) => self.finish(&Err(told(&problem))),
            }
            return Ok(());
        }
        self.inputs.state = state;
        let mut asked = Vec::new();
        for (key, request) in requests {
            let id = json!(format!("berth-{}", Id::new()));
            let method = request.get("method").and_then(Value::as_str).unwrap_or_default();
            let params = request.get("params").cloned().unwrap_or_else(|| json!({}));
            if let Some(call) = &self.call {
                session::ask(&call.session_id, &message::key(&id))?;
            }
            self.say(&message::request(&id, method, &params), false)?;
            asked.push((key, message::key(&id)));
        }
        self.phase = Phase::Wait { asked, answers: Map::new(), since: Instant::now() };
        Ok(())
    }

    fn wait(&mut self, asked: Vec<(String, String)>, mut answers: Map<String, Value>, since: Instant) -> Result<()> {
        let Some(call) = &self.call else {
            self.finish(&Ok(self.plan.completed(reply::failed("Without a session nobody can be asked."))));
            return Ok(());
        };
        for (key, request_key) in &asked {
            if answers.contains_key(key) {
                continue;
            }
            if let Some(mut whole) = session::reply(&call.session_id, request_key)? {
                let result = whole.get_mut("result").map(Value::take);
                let answer = result.unwrap_or_else(|| json!({ "error": whole.get("error").cloned() }));
                answers.insert(key.clone(), answer);
            }
        }
        if answers.len() == asked.len() {
            self.inputs.responses = answers;
            self.phase = Phase::Run;
        } else if since.elapsed() > ANSWER_MAX {
            self.finish(&Ok(self.plan.completed(reply::failed("Nobody answered what the tool asks."))));
        } else {
            self.phase = Phase::Wait { asked, answers, since };
        }
        Ok(())
    }

    /// Repeats what was said elsewhere, and goes on where nobody is at it any more.
    fn tail(&mut self) -> Result<()> {
        let Some(call) = self.call.clone() else { return Ok(()) };
        for (sequence, said) in Call::said_after(&call.id, self.sequence)? {
            self.sequence = sequence;
            self.ready.push_back(event(Some(&format!("{}_{sequence}", call.id)), None, &said.to_string()));
        }
        let Some(present) = Call::find(&call.session_id, &call.id)? else { return Ok(()) };
        if !self.ready.is_empty() {
            self.phase = Phase::Tail;
            return Ok(());
        }
        if present.status != CallStatus::Running {
            return Ok(());
        }
        if present.leased_until.millis() < clock::now().millis() && Call::take_over(&call.id, LEASE)? {
            self.inputs.is_resumed = true;
            self.phase = Phase::Run;
        } else {
            self.phase = Phase::Tail;
        }
        Ok(())
    }

    fn say(&mut self, message: &Value, is_last: bool) -> Result<()> {
        let id = match &self.call {
            None => None,
            Some(call) => {
                self.sequence += 1;
                if !Call::say(call, self.sequence, message, is_last)? {
                    self.phase = Phase::Over;
                    return Ok(());
                }
                Some(format!("{}_{}", call.id, self.sequence))
            }
        };
        self.ready.push_back(event(id.as_deref(), None, &message.to_string()));
        Ok(())
    }

    fn finish(&mut self, result: &Result<Value, RpcError>) {
        let id = &self.plan.request.id;
        let message = match result {
            Ok(value) => message::result(id, value),
            Err(error) => error.answer(Some(id)),
        };
        self.phase = Phase::Over;
        if let Err(problem) = self.say(&message, true) {
            logging::warn!("an answer could not be kept", problem = problem);
            self.ready.push_back(event(None, None, &message.to_string()));
        }
    }
}
