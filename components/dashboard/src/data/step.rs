//! How a widget comes by its data: questions to services, and what becomes of their answers. Many widgets ask at once, each with
//! time of its own, and what one of them fails with concerns nobody else.

use std::time::{Duration, Instant};

use super::raw::Raw;
use berth_sdk::{
    Fault, http_out,
    http_out::{Call, Reply, Together},
    prelude::*,
    serde_json,
    serde_json::Value,
};

/// How long a widget may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// How long all of a dashboard may take; what has not begun by then is given up.
const PATIENCE_OF_ALL: Duration = Duration::from_secs(20);
/// Questions that are under way at once.
const AT_ONCE: usize = 8;
/// The largest answer of a service.
const ANSWER_BYTES_MAX: usize = 512 * 1024;
/// The largest data of a widget, as JSON.
const DATA_BYTES_MAX: usize = 256 * 1024;
/// Rounds of questions: a widget may ask again for what the first answers name.
const ROUNDS_MAX: usize = 2;

/// A question to a service.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    service: String,
    call: Call,
}

impl Ask {
    /// Reads something.
    pub fn get(service: &str, path: &str) -> Self {
        Self { service: service.into(), call: http_out::plugin(service).get(path).header("accept", "application/json") }
    }

    /// Reads something that needs a body to be asked for; it changes nothing.
    pub fn post(service: &str, path: &str, body: &Value) -> Self {
        Self { service: service.into(), call: http_out::plugin(service).post(path).json(body) }
    }

    /// A parameter.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.call = self.call.query(name, value.as_ref());
        self
    }

    /// A parameter, where there is something to say.
    #[must_use]
    pub fn with_some(self, name: &str, value: Option<impl AsRef<str>>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// Both ends of a time.
    #[must_use]
    pub fn during(self, (from, to): (Timestamp, Timestamp)) -> Self {
        self.with("from", from.to_string()).with("to", to.to_string())
    }

    /// The first and the last day of a time, in UTC.
    #[must_use]
    pub fn on_days(self, (from, to): (Timestamp, Timestamp)) -> Self {
        let day =
            |moment: Timestamp| moment.to_string().chars().take_while(|letter| *letter != 'T').collect::<String>();
        self.with("from", day(from)).with("to", day(to))
    }

    #[cfg(test)]
    pub fn url(&self) -> &str {
        &self.call.url
    }
}

type Then = Box<dyn FnOnce(Vec<Value>) -> Result<Step>>;

/// Where a widget is on the way to its data.
pub(crate) enum Step {
    Done(Value),
    /// Questions, and what follows from all their answers. The number says how many rounds there may be, this one included.
    Ask(Vec<Ask>, usize, Then),
}

impl Step {
    /// One question whose answer is the data.
    pub fn read(ask: Ask) -> Result<Self> {
        Self::made(ask, Ok)
    }

    /// One question, of whose answer the data is made.
    pub fn made(ask: Ask, make: impl FnOnce(Value) -> Result<Value> + 'static) -> Result<Self> {
        Ok(Self::Ask(
            vec![ask],
            1,
            Box::new(|answers| Ok(Self::Done(make(answers.into_iter().next().unwrap_or_default())?))),
        ))
    }

    /// Several questions at once, of whose answers, in their order, the data is made.
    pub fn made_of_all(asks: Vec<Ask>, make: impl FnOnce(Vec<Value>) -> Result<Value> + 'static) -> Result<Self> {
        if asks.is_empty() {
            return Ok(Self::Done(make(Vec::new())?));
        }
        Ok(Self::Ask(asks, 1, Box::new(|answers| Ok(Self::Done(make(answers)?)))))
    }

    /// One question whose answer leads to others.
    pub fn leading(ask: Ask, then: impl FnOnce(Value) -> Result<Self> + 'static) -> Result<Self> {
        Ok(Self::Ask(vec![ask], ROUNDS_MAX, Box::new(|answers| then(answers.into_iter().next().unwrap_or_default()))))
    }
}

impl std::fmt::Debug for Step {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Done(value) => write!(formatter, "Done({value})"),
            Self::Ask(asks, rounds, _) => write!(formatter, "Ask({asks:?}, {rounds})"),
        }
    }
}

/// Brings all of them to their data, at the same time.
pub(crate) fn run(begun: Vec<Result<Step>>) -> Vec<Result<Raw>> {
    let start = Instant::now();
    run_with(begun, |calls| {
        let patience = PATIENCE_OF_ALL.saturating_sub(start.elapsed());
        http_out::send_all(calls, Together { at_once: AT_ONCE, bytes_max: ANSWER_BYTES_MAX, patience })
    })
}

/// How far a widget is. Its data is kept as text as soon as it is there: the answers of thirty widgets as values would be much.
enum Course {
    Going(Vec<Ask>, usize, Then),
    Over(Result<Raw>),
}

impl From<Result<Step>> for Course {
    fn from(step: Result<Step>) -> Self {
        match step {
            Ok(Step::Ask(asks, rounds, then)) => Self::Going(asks, rounds, then),
            Ok(Step::Done(value)) => Self::Over(finished(&value)),
            Err(problem) => Self::Over(Err(problem)),
        }
    }
}

fn run_with(begun: Vec<Result<Step>>, mut send: impl FnMut(&[Call]) -> Vec<Result<Reply, Fault>>) -> Vec<Result<Raw>> {
    let mut courses: Vec<Course> = begun.into_iter().map(Course::from).collect();
    for _ in 0..ROUNDS_MAX {
        let calls: Vec<Call> = courses
            .iter()
            .filter_map(|course| match course {
                Course::Going(asks, rounds, _) => Some((asks, PATIENCE / u32::try_from(*rounds).unwrap_or(1))),
                Course::Over(_) => None,
            })
            .flat_map(|(asks, patience)| asks.iter().map(move |ask| ask.call.clone().timeout(patience)))
            .collect();
        if calls.is_empty() {
            break;
        }
        let mut replies = send(&calls).into_iter();
        let went_on = courses.into_iter().map(|course| match course {
            Course::Over(result) => Course::Over(result),
            Course::Going(asks, _, then) => {
                // Every reply is taken, whatever the one before it was: the next widget's come after them.
                let own: Vec<Result<Reply, Fault>> = replies.by_ref().take(asks.len()).collect();
                let answers = asks.iter().zip(own).map(|(ask, reply)| answer(&ask.service, reply));
                Course::from(answers.collect::<Result<Vec<Value>>>().and_then(then))
            }
        });
        courses = went_on.collect();
    }
    let ended = courses.into_iter().map(|course| match course {
        Course::Over(result) => result,
        Course::Going(..) => {
            logging::error!("a widget asks without end");
            Err(Problem::internal())
        }
    });
    ended.collect()
}

fn finished(value: &Value) -> Result<Raw> {
    let data = Raw::new(value)?;
    if data.text().len() > DATA_BYTES_MAX {
        return Err(Problem::unprocessable(format!(
            "The data has more than {DATA_BYTES_MAX} bytes: narrow the widget."
        )));
    }
    Ok(data)
}

/// What a service answered as JSON, or the problem that a widget shows.
fn answer(service: &str, reply: Result<Reply, Fault>) -> Result<Value> {
    let problem = match reply {
        Ok(reply) if reply.is_success() => match serde_json::from_slice(&reply.body) {
            Ok(value) => return Ok(value),
            Err(_) => Problem::bad_gateway(format!("{service} answered with something else than JSON.")),
        },
        Ok(reply) => reply.problem(),
        Err(Fault::Timeout) => {
            Problem::timeout(format!("{service} took too long: a widget has {} s.", PATIENCE.as_secs()))
        }
        Err(Fault::TooLarge(_)) => {
            Problem::bad_gateway(format!("{service} answered with more than {ANSWER_BYTES_MAX} bytes."))
        }
        Err(_) => Problem::unavailable(format!("{service} is not installed here, or does not answer.")),
    };
    Err(problem.with("service", service))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, body: &Value) -> Result<Reply, Fault> {
        Ok(Reply { status, headers: vec![], body: body.to_string().into_bytes() })
    }

    #[test]
    fn one_bad_widget_spoils_nothing() {
        let asks = |path: &str| Step::read(Ask::get("planning", path));
        let two = Step::made_of_all(vec![Ask::get("planning", "/a"), Ask::get("planning", "/b")], |answers| {
            Ok(json!(answers))
        });
        let begun =
            vec![asks("/slow"), two, Err(Problem::unprocessable("no")), asks("/good"), Ok(Step::Done(json!("note")))];
        let found = run_with(begun, |calls| {
            let of = |call: &Call| match call.url.rsplit('/').next() {
                Some("slow") => Err(Fault::Timeout),
                Some("a") => reply(404, &json!({"code": "NOT_FOUND", "detail": "gone", "status": 404})),
                Some(last) => reply(200, &json!({"path": last})),
                None => Err(Fault::Unavailable),
            };
            calls.iter().map(of).collect()
        });
        let status = |index: usize| found[index].as_ref().map(Raw::text).map_err(|problem| problem.status);
        assert_eq!(status(0), Err(504));
        assert_eq!(status(1), Err(404));
        assert_eq!(status(2), Err(422));
        assert_eq!(status(3), Ok(r#"{"path":"good"}"#));
        assert_eq!(status(4), Ok("\"note\""));
        assert_eq!(found[0].as_ref().unwrap_err().member("service"), Some(&json!("planning")));
    }

    #[test]
    fn an_answer_may_lead_to_further_questions_once() {
        let lead = || {
            Step::leading(Ask::get("s", "/list"), |list| {
                let names: Vec<Ask> = list["names"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|name| Ask::get("s", name.as_str().unwrap_or("/")))
                    .collect();
                Step::made_of_all(names, |answers| Ok(json!(answers)))
            })
        };
        let mut rounds = 0;
        let found = run_with(vec![lead(), Step::read(Ask::get("s", "/x"))], |calls| {
            rounds += 1;
            assert!(calls.iter().all(|call| call.timeout <= PATIENCE));
            calls
                .iter()
                .map(|call| {
                    if call.url.ends_with("/list") {
                        reply(200, &json!({"names": ["/a", "/b"]}))
                    } else {
                        reply(200, &json!(call.url))
                    }
                })
                .collect()
        });
        assert_eq!(rounds, 2);
        assert_eq!(found[0].as_ref().unwrap().text(), r#"["http://s.internal/a","http://s.internal/b"]"#);
        let nothing =
            Step::leading(Ask::get("s", "/list"), |_| Step::made_of_all(vec![], |answers| Ok(json!(answers))));
        let found = run_with(vec![nothing], |calls| calls.iter().map(|_| reply(200, &json!(1))).collect());
        assert_eq!(found[0].as_ref().unwrap().text(), "[]", "a list of nothing is an answer");
        let endless = Step::leading(Ask::get("s", "/"), |_| {
            Step::leading(Ask::get("s", "/"), |_| Step::read(Ask::get("s", "/")))
        });
        let found = run_with(vec![endless], |calls| calls.iter().map(|_| reply(200, &json!(1))).collect());
        assert_eq!(found[0].as_ref().unwrap_err().status, 500);
    }

    #[test]
    fn what_is_no_data_is_a_clear_error() {
        let status = |reply| answer("logging", reply).unwrap_err().status;
        assert_eq!(status(Err(Fault::Unavailable)), 503);
        assert_eq!(status(Err(Fault::Denied("no".into()))), 503);
        assert_eq!(status(Err(Fault::TooLarge("x".into()))), 502);
        assert_eq!(status(Ok(Reply { status: 200, headers: vec![], body: b"<html>".to_vec() })), 502);
        assert_eq!(status(reply(500, &json!({}))), 502);
        assert_eq!(status(reply(403, &json!({"code": "FORBIDDEN"}))), 403);
        assert_eq!(finished(&json!("x".repeat(DATA_BYTES_MAX))).unwrap_err().status, 422);
    }
}
