//! Streamed answers: each piece goes to the client when it comes. After the first one nobody else is asked; whatever
//! happens then is said within the stream, and what has come is counted.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use berth_sdk::{
    http::{Event, Next},
    prelude::*,
    serde_json::Value,
};

use crate::{
    answer::{self, Candidate, Done, Prepared},
    ask::Ask,
    attempt::{self, World},
    cached,
    completion::{self, End, Open, Status},
    failure::{Failure, FailureKind},
    live::{Live, Step},
    openai,
    wire::{Delta, Gathered, Usage},
};

/// How long a stream lasts.
const LASTING: Duration = Duration::from_secs(120);
/// How long one look at the provider lasts.
const LOOK: Duration = Duration::from_millis(400);
/// How often the row learns what has come.
const BEAT: Duration = Duration::from_secs(1);
/// How often it learns that somebody is still there.
const BEAT_IDLE: Duration = Duration::from_secs(5);

/// In which form a client wants its pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// This service's.
    Native,
    /// OpenAI's.
    OpenAi {
        /// With a last piece that says what was used.
        with_usage: bool,
    },
}

struct Opening<'a> {
    prepared: &'a Prepared,
    open: &'a mut Open,
}

impl World<Live> for Opening<'_> {
    fn left(&self) -> Duration {
        self.prepared.left()
    }
    fn pause(&self, duration: Duration) {
        clock::sleep(duration);
    }
    fn attempt(&mut self, index: usize, timeout: Duration) -> Result<Live, Failure> {
        let result = Live::open(self.prepared, index, timeout);
        if let Some(candidate) = self.prepared.candidates.get(index) {
            answer::note(&candidate.provider, &result);
        }
        result
    }
    fn moves(&mut self, index: usize, failure: &Failure) {
        answer::moved(self.prepared, self.open, index, failure);
    }
}

/// A stream to a client.
struct Streaming {
    prepared: Prepared,
    index: usize,
    live: Live,
    open: Option<Open>,
    gathered: Gathered,
    ready: VecDeque<Event>,
    form: Form,
    id: Id,
    at: Timestamp,
    request_id: String,
    began: Instant,
    last_beat: Instant,
    has_beaten: bool,
    is_new: bool,
    has_begun: bool,
    is_over: bool,
}

/// Asks, and answers piece by piece. What fails before the first piece is an ordinary problem.
pub fn answer(ask: Ask, form: Form) -> Result<Sse> {
    let prepared = answer::prepare(ask)?;
    if let Some(done) = answer::from_cache(&prepared)? {
        return Ok(replay(&done, form));
    }
    let first = prepared.first()?;
    let hash = prepared.hash.clone();
    let mut open = completion::open(&prepared.ask, &first.model, &first.provider, hash, Status::Pending)?;
    let models = prepared.candidates.len();
    let opened = attempt::through(models, prepared.triggers, &mut Opening { prepared: &prepared, open: &mut open });
    let (index, live) = match opened {
        Ok(opened) => opened,
        Err((index, failure)) => {
            let candidate = prepared.candidates.get(index).ok_or_else(Problem::internal)?;
            let id = open.id.clone();
            let error = Some(answer::told(&failure));
            open.close(
                End { status: failure.status(), usage: Usage::default(), response: None, error },
                &candidate.model,
            )?;
            return Err(failure.problem().with("completionId", id.as_str()));
        }
    };
    let mut streaming = Streaming {
        index,
        live,
        id: open.id.clone(),
        open: Some(open),
        gathered: Gathered::default(),
        ready: VecDeque::new(),
        form,
        at: clock::now(),
        request_id: auth::principal().request_id,
        began: Instant::now(),
        last_beat: Instant::now(),
        has_beaten: false,
        is_new: true,
        has_begun: false,
        is_over: false,
        prepared,
    };
    Ok(Sse::new(move || streaming.pull()).lasting(LASTING + Duration::from_secs(30)))
}

impl Streaming {
    fn pull(&mut self) -> Next<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Next::Item(event);
            }
            if self.is_over {
                return Next::End;
            }
            if self.began.elapsed() > LASTING {
                self.fail(&Failure::new(FailureKind::Timeout, "The answer took too long."));
                continue;
            }
            match self.live.next(LOOK) {
                Step::Delta(delta) => self.take(&delta),
                Step::End => self.finish(),
                Step::Failed(failure) => self.fail(&failure),
                Step::Waiting => {
                    if !self.beat() {
                        continue;
                    }
                    // Asking for room to write shows that the client has left.
                    return Next::Wait(Duration::ZERO);
                }
            }
        }
    }

    fn candidate(&self) -> Option<&Candidate> {
        self.prepared.candidates.get(self.index)
    }

    fn usage(&self) -> Usage {
        self.gathered.usage(self.candidate().map_or(0, |candidate| candidate.input))
    }

    fn take(&mut self, delta: &Delta) {
        self.gathered.push(delta);
        let piece = match (delta, self.form) {
            (Delta::Text(text), _) => Some(json!({ "content": text })),
            (Delta::Call { index, id, name, arguments }, form) => {
                let mut function = json!({ "arguments": arguments });
                let mut call = json!({ "index": index });
                if let (Some(members), Some(name)) = (function.as_object_mut(), name) {
                    members.insert("name".into(), name.as_str().into());
                }
                if let Some(members) = call.as_object_mut() {
                    if let Some(known) = self.gathered.calls.get(*index).filter(|_| name.is_some() || id.is_some()) {
                        members.insert("id".into(), known.id.as_str().into());
                        members.insert("type".into(), "function".into());
                    }
                    members.insert("function".into(), function);
                }
                Some(if form == Form::Native {
                    json!({ "toolCalls": [call] })
                } else {
                    json!({ "tool_calls": [call] })
                })
            }
            (Delta::Finish(_) | Delta::Usage { .. }, _) => None,
        };
        if let Some(mut piece) = piece {
            if let (false, Some(members)) = (self.has_begun, piece.as_object_mut()) {
                members.insert("role".into(), "assistant".into());
            }
            self.has_begun = true;
            self.ready.push_back(Event::new("").json(&self.chunk(piece, None)));
        }
        self.is_new = true;
        if self.live.is_waiting() {
            self.beat();
        }
    }

    /// Lets the row know; false when somebody has cancelled it, which ends the stream.
    fn beat(&mut self) -> bool {
        let since = self.last_beat.elapsed();
        if self.has_beaten && since < if self.is_new { BEAT } else { BEAT_IDLE } {
            return true;
        }
        self.has_beaten = true;
        self.last_beat = Instant::now();
        self.is_new = false;
        let usage = self.usage();
        let Some(model) = self.candidate().map(|candidate| candidate.model.clone()) else { return true };
        let noted = self.open.as_mut().map(|open| open.beat(usage, &model));
        if matches!(noted, Some(Ok(_))) {
            self.prepared.counted.spend(usage.total());
        }
        match noted {
            Some(Ok(false)) => {
                self.fail(&Failure::new(FailureKind::Cancelled, "It was cancelled."));
                false
            }
            Some(Err(problem)) => {
                // The next beat may be luckier.
                logging::warn!("a stream could not say how far it is", problem = problem);
                true
            }
            _ => true,
        }
    }

    fn finish(&mut self) {
        let reason = self.gathered.reason().to_string();
        let usage = self.usage();
        let closed = self.close(Status::Completed, None);
        if let Err(problem) = closed {
            logging::error!("a stream could not be closed; the sweep will do it", problem = problem);
        }
        self.ready.push_back(Event::new("").json(&self.chunk(json!({}), Some((&reason, usage)))));
        if let Form::OpenAi { with_usage: true } = self.form {
            let chunk = openai::usage_chunk(&self.id, self.at, self.names(), usage);
            self.ready.push_back(Event::new("").json(&chunk));
        }
        self.ready.push_back(Event::new("").data("[DONE]"));
        self.is_over = true;
    }

    /// Says within the stream what went wrong, and ends it.
    fn fail(&mut self, failure: &Failure) {
        if let Some(candidate) = self.candidate() {
            answer::note(&candidate.provider, &Err::<(), _>(failure.clone()));
        }
        if let Err(problem) = self.close(failure.status(), Some(answer::told(failure))) {
            logging::error!("a stream could not be closed; the sweep will do it", problem = problem);
        }
        let problem = failure.problem().with("completionId", self.id.as_str());
        let data = match self.form {
            Form::Native => problem.to_json(&self.request_id),
            Form::OpenAi { .. } => openai::error(&problem),
        };
        self.ready.push_back(Event::new("error").json(&data));
        self.is_over = true;
    }

    fn close(&mut self, status: Status, error: Option<(String, String)>) -> Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let Some(candidate) = self.candidate().cloned() else { return Ok(()) };
        let usage = self.usage();
        let kept = json!({
            "turn": self.gathered.turn(), "finish": self.gathered.reason(), "input": usage.input, "output": usage.output,
        });
        let response = open.stores().then(|| kept.clone());
        open.close(End { status, usage, response, error }, &candidate.model)?;
        self.prepared.counted.spend(usage.total());
        if let (Status::Completed, Some(hash), 0) = (status, &self.prepared.hash, self.index) {
            cached::keep(hash, &candidate.model, &kept);
        }
        Ok(())
    }

    fn chunk(&self, delta: Value, end: Option<(&str, Usage)>) -> Value {
        chunk(self.form, &self.id, self.at, self.names(), delta, end)
    }

    /// Of the model and its provider.
    fn names(&self) -> (&str, &str) {
        self.candidate().map_or(("", ""), |candidate| (candidate.model.name.as_str(), candidate.provider.name.as_str()))
    }
}

fn chunk(form: Form, id: &Id, at: Timestamp, names: (&str, &str), delta: Value, end: Option<(&str, Usage)>) -> Value {
    let reason = end.map(|(reason, _)| reason);
    match form {
        Form::OpenAi { .. } => openai::chunk(id, at, names, delta, reason),
        Form::Native => {
            let mut chunk = json!({
                "id": id, "model": names.0, "provider": names.1,
                "choices": [{ "index": 0, "delta": delta, "finishReason": reason }],
            });
            if let (Some((_, usage)), Some(members)) = (end, chunk.as_object_mut()) {
                members.insert("usage".into(), answer::native_usage(usage));
            }
            chunk
        }
    }
}

/// An answer from the cache, as a stream.
fn replay(done: &Done, form: Form) -> Sse {
    let names = (done.model.as_str(), done.provider.as_str());
    let mut delta = json!({ "role": "assistant", "content": done.turn.content });
    if let (false, Some(members)) = (done.turn.calls.is_empty(), delta.as_object_mut()) {
        let calls = done.turn.calls.iter().enumerate().map(|(index, call)| {
            let mut call = call.to_openai();
            if let Some(members) = call.as_object_mut() {
                members.insert("index".into(), index.into());
            }
            call
        });
        members.insert(if form == Form::Native { "toolCalls" } else { "tool_calls" }.into(), calls.collect());
    }
    let mut events: VecDeque<Event> = VecDeque::new();
    events.push_back(Event::new("").json(&chunk(form, &done.id, done.at, names, delta, None)));
    let end = Some((done.finish.as_str(), done.usage));
    events.push_back(Event::new("").json(&chunk(form, &done.id, done.at, names, json!({}), end)));
    if let Form::OpenAi { with_usage: true } = form {
        events.push_back(Event::new("").json(&openai::usage_chunk(&done.id, done.at, names, done.usage)));
    }
    events.push_back(Event::new("").data("[DONE]"));
    Sse::new(move || events.pop_front().map_or(Next::End, Next::Item))
}
