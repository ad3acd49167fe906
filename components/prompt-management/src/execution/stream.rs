//! An answer that goes on to the client as it comes. The row is closed at its end; where the client leaves before, the
//! assistant's own event closes it.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use berth_sdk::{
    http::{Event, Next},
    http_out::{Call, Incoming, Part, Reply},
    prelude::*,
    serde_json::{self, Value},
};

use super::{
    Execution, Filled,
    run::{Answer, OUTPUT_BYTES_MAX, close, tokens, within},
};

/// How long a stream lasts.
const LASTING: Duration = Duration::from_secs(150);
/// How long one look at the assistant lasts.
const LOOK: Duration = Duration::from_millis(400);
/// Bytes of a line of the assistant's stream, and of an answer that says why there is none.
const LINE_BYTES_MAX: usize = 1 << 20;
const REASON_BYTES_MAX: usize = 64 * 1024;
const REASON_TIMEOUT: Duration = Duration::from_secs(2);

/// What the assistant's stream has said so far.
#[derive(Debug, Default)]
struct Heard {
    line: Vec<u8>,
    is_error: bool,
    output: String,
    model: Option<String>,
    input_tokens: Option<i64>,
    output_tokens: Option<i64>,
    /// How it has ended, once it has.
    end: Option<Result<()>>,
}

/// Opens the assistant's stream. What fails before the first piece is an ordinary problem, and closes the row.
pub fn answer(filled: &Filled, row: Stored<Execution>, call: &Call) -> Result<Sse> {
    let began = Instant::now();
    let incoming = match open(call) {
        Ok(incoming) => incoming,
        Err(problem) => {
            close(&row.id, &filled.known.name, began.elapsed(), &Err(problem.clone()), None)?;
            return Err(problem);
        }
    };
    let name = filled.known.name.clone();
    let facts = filled.rendered(row.id.clone()).without_content();
    let mut ready = VecDeque::from([Event::new("started").json(&facts)]);
    let (mut incoming, mut heard, mut is_over) = (incoming, Heard::default(), false);
    Ok(Sse::new(move || {
        loop {
            if let Some(event) = ready.pop_front() {
                return Next::Item(event);
            }
            if is_over {
                return Next::End;
            }
            let is_late = began.elapsed() > LASTING;
            match incoming.read(LOOK) {
                Ok(Part::Waiting) if !is_late => return Next::Wait(Duration::ZERO),
                Ok(Part::Chunk(bytes)) if !is_late => ready.extend(heard.push(&bytes)),
                Ok(Part::End) => heard.broke_off(),
                Ok(Part::Waiting | Part::Chunk(_)) => heard.fail(Problem::timeout("The answer took too long.")),
                Err(_) => heard.fail(Problem::bad_gateway("The assistant's answer broke off.")),
            }
            if let Some(end) = heard.end.take() {
                is_over = true;
                let answer = end.map(|()| heard.answer());
                ready.push_back(ended(&row.id, &name, began.elapsed(), &answer));
            }
        }
    })
    .lasting(LASTING + Duration::from_secs(10)))
}

fn open(call: &Call) -> Result<Incoming> {
    let incoming = call.open().map_err(|fault| match fault {
        Fault::Timeout => Problem::timeout("The service called took too long."),
        _ => Problem::unavailable("The service called is not available."),
    })?;
    if (200..300).contains(&incoming.head.status) {
        return Ok(incoming);
    }
    let (status, headers) = (incoming.head.status, incoming.head.headers.clone());
    let body = incoming.rest(REASON_BYTES_MAX, REASON_TIMEOUT);
    Err(Reply { status, headers, body }.problem())
}

/// Closes the row, and says how it has ended.
fn ended(id: &Id, name: &str, elapsed: Duration, answer: &Result<Answer>) -> Event {
    let closed = close(id, name, elapsed, answer, None);
    if let Err(problem) = &closed {
        logging::error!("an execution could not be closed", execution = id, problem = problem);
    }
    match answer {
        Ok(answer) => Event::new("completed").json(&json!({
            "executionId": id, "model": answer.model, "inputTokens": answer.input_tokens,
            "outputTokens": answer.output_tokens, "latencyMs": closed.ok().and_then(|row| row.latency_ms),
        })),
        Err(problem) => Event::new("error").json(&json!({
            "executionId": id, "status": problem.status, "code": problem.code, "detail": problem.detail,
        })),
    }
}

impl Heard {
    /// Reads on; the pieces of the answer that these bytes complete.
    fn push(&mut self, bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        for byte in bytes {
            if self.end.is_some() {
                break;
            }
            if *byte != b'\n' {
                self.line.push(*byte);
                if self.line.len() > LINE_BYTES_MAX {
                    self.fail(Problem::bad_gateway("The assistant answered with a line without end."));
                }
                continue;
            }
            let line = std::mem::take(&mut self.line);
            events.extend(self.line(String::from_utf8_lossy(&line).trim_end_matches('\r')));
        }
        events
    }

    fn line(&mut self, line: &str) -> Option<Event> {
        if let Some(name) = line.strip_prefix("event:") {
            self.is_error = name.trim() == "error";
            return None;
        }
        let data = line.strip_prefix("data:")?.trim();
        if data == "[DONE]" {
            self.end = Some(Ok(()));
            return None;
        }
        let value: Value = serde_json::from_str(data).ok()?;
        if self.is_error {
            let status = value.get("status").and_then(Value::as_u64).and_then(|status| u16::try_from(status).ok());
            let reply = Reply { status: status.unwrap_or(502), headers: Vec::new(), body: data.into() };
            self.fail(reply.problem());
            return None;
        }
        if let Some(model) = value.get("model").and_then(Value::as_str) {
            self.model.get_or_insert_with(|| model.to_string());
        }
        let (input, output) = tokens(&value);
        (self.input_tokens, self.output_tokens) = (input.or(self.input_tokens), output.or(self.output_tokens));
        let piece = value.pointer("/choices/0/delta/content").and_then(Value::as_str)?;
        let room = OUTPUT_BYTES_MAX.saturating_sub(self.output.len());
        self.output.push_str(within(piece, room));
        Some(Event::new("delta").json(&json!({ "content": piece })))
    }

    fn fail(&mut self, problem: Problem) {
        self.end.get_or_insert(Err(problem));
    }

    /// The body is over: fine after the last word, and a failure before it.
    fn broke_off(&mut self) {
        self.fail(Problem::bad_gateway("The assistant's answer broke off."));
    }

    fn answer(&mut self) -> Answer {
        Answer {
            output: std::mem::take(&mut self.output),
            model: self.model.take(),
            input_tokens: self.input_tokens,
            output_tokens: self.output_tokens,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(events: &[Event]) -> String {
        events.iter().map(|event| String::from_utf8(event.to_bytes()).unwrap()).collect()
    }

    #[test]
    fn pieces_go_on_as_they_come_whatever_the_cuts() {
        let stream = "data: {\"model\":\"m\",\"choices\":[{\"delta\":{\"content\":\"é\"}}]}\n\n: keep-alive\n\n\
            data: {\"choices\":[{\"delta\":{\"content\":\"b\"}}]}\r\n\r\n\
            data: {\"choices\":[{\"delta\":{}}],\"usage\":{\"promptTokens\":2,\"completionTokens\":0}}\n\ndata: [DONE]\n\n";
        for length in [1, 7, 1_000] {
            let mut heard = Heard::default();
            let events: Vec<Event> = stream.as_bytes().chunks(length).flat_map(|bytes| heard.push(bytes)).collect();
            assert_eq!(
                text(&events),
                "event: delta\ndata: {\"content\":\"é\"}\n\nevent: delta\ndata: {\"content\":\"b\"}\n\n"
            );
            assert!(matches!(heard.end, Some(Ok(()))));
            let answer = heard.answer();
            assert_eq!((answer.output.as_str(), answer.model.as_deref()), ("éb", Some("m")));
            assert_eq!((answer.input_tokens, answer.output_tokens), (Some(2), Some(0)));
        }
    }

    #[test]
    fn an_error_and_an_early_end_are_failures() {
        let mut heard = Heard::default();
        heard.push(b"event: error\ndata: {\"status\":422,\"code\":\"CONTEXT_TOO_LONG\",\"detail\":\"d\"}\n\n");
        let problem = heard.end.unwrap().unwrap_err();
        assert_eq!((problem.status, problem.code.as_ref()), (422, "CONTEXT_TOO_LONG"));
        let mut heard = Heard::default();
        heard.push(b"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n");
        heard.broke_off();
        assert_eq!(heard.end.unwrap().unwrap_err().status, 502);
    }
}
