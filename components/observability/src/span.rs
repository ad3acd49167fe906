//! Spans: what they must look like, and how they are stored. They may come late, in any order, and twice.

mod room;

use std::collections::{BTreeMap, BTreeSet};

use berth_sdk::{
    database::{Bulk, Value as Stored},
    prelude::*,
    router::Route,
    serde_json::{self, Map, Value},
};

use crate::{
    error::{self, Occurrence},
    service,
};

pub(crate) use room::SPANS_MAX;

/// Events of one span.
pub(crate) const EVENTS_MAX: usize = 128;
/// Spans of one transaction.
const STORED: usize = 1_000;
/// Spans of one request in our own form.
const SENT_MAX: usize = 1_000;
/// Bytes of the attributes and of the events of a span; where they have more, they are left out.
const ATTRIBUTES_MAX: usize = 32 * 1024;
const EVENTS_BYTES_MAX: usize = 64 * 1024;
const NAME_MAX: usize = 300;

/// What a span is in its trace.
#[choice]
pub(crate) enum Kind {
    Internal,
    Server,
    Client,
    Producer,
    Consumer,
}

/// How a span ended.
#[choice]
pub(crate) enum Status {
    Unset,
    Ok,
    Error,
}

/// A span.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub trace_id: String,
    pub span_id: String,
    pub parent_span_id: Option<String>,
    pub service: String,
    pub name: String,
    pub kind: Kind,
    pub start_us: i64,
    pub duration_us: i64,
    pub status: Status,
    pub status_message: Option<String>,
    pub attributes: Map<String, Value>,
    pub events: Vec<Value>,
}

/// Whether a text is an id of so many hexadecimal digits, and not all zero.
pub(crate) fn is_id(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit()) && text.bytes().any(|byte| byte != b'0')
}

fn cut(text: &str, most: usize) -> String {
    text.chars().filter(|letter| *letter != '\0').take(most).collect()
}

impl Span {
    /// The span as it can be stored, or why it cannot.
    pub fn fit(mut self) -> Result<Self, String> {
        self.trace_id.make_ascii_lowercase();
        self.span_id.make_ascii_lowercase();
        if !is_id(&self.trace_id, 32) {
            return Err("traceId must be 32 hexadecimal digits".into());
        }
        if !is_id(&self.span_id, 16) {
            return Err("spanId must be 16 hexadecimal digits".into());
        }
        if let Some(parent) = &mut self.parent_span_id {
            parent.make_ascii_lowercase();
            if !is_id(parent, 16) {
                return Err("parentSpanId must be 16 hexadecimal digits".into());
            }
        }
        if self.start_us <= 0 {
            return Err("startTime is required".into());
        }
        self.start_us = self.start_us.min(253_402_300_799_000_000);
        self.duration_us = self.duration_us.clamp(0, 400 * 86_400 * 1_000_000);
        self.service = cut(&self.service, 200);
        self.name = cut(if self.name.is_empty() { "(unnamed)" } else { &self.name }, NAME_MAX);
        self.status_message = self.status_message.map(|message| cut(&message, 1_000));
        if json!(self.attributes).to_string().len() > ATTRIBUTES_MAX {
            self.attributes = [("isCut".to_string(), Value::Bool(true))].into_iter().collect();
        }
        self.events.truncate(EVENTS_MAX);
        if json!(self.events).to_string().len() > EVENTS_BYTES_MAX {
            self.events = vec![json!({ "name": "isCut", "attributes": {} })];
        }
        Ok(self)
    }

    fn start(&self) -> Timestamp {
        Timestamp::from_millis(self.start_us / 1_000)
    }

    fn values(&self) -> Vec<Stored> {
        vec![
            (&self.trace_id).into(),
            (&self.span_id).into(),
            (&self.parent_span_id).into(),
            (&self.service).into(),
            (&self.name).into(),
            self.kind.into(),
            self.start().into(),
            self.start_us.into(),
            self.duration_us.into(),
            self.status.into(),
            (&self.status_message).into(),
            json!(self.attributes).into(),
            json!(self.events).into(),
        ]
    }

    /// The errors it tells of: its exceptions, or itself where it failed without one.
    fn occurrences(&self) -> Vec<Occurrence> {
        let sample = json!({ "traceId": self.trace_id, "spanId": self.span_id, "name": self.name });
        let one = |kind: String, message: String, stack| Occurrence {
            service: self.service.clone(),
            kind,
            message,
            stack,
            at: self.start(),
            sample: sample.clone(),
        };
        let exceptions: Vec<Occurrence> = self
            .events
            .iter()
            .filter(|event| event.get("name").and_then(Value::as_str) == Some("exception"))
            .take(10)
            .map(|event| {
                let text = |name: &str| {
                    event
                        .get("attributes")
                        .and_then(|members| members.get(name))
                        .and_then(Value::as_str)
                        .map(Into::into)
                };
                let kind: String = text("exception.type").unwrap_or_else(|| "exception".into());
                one(kind, text("exception.message").unwrap_or_default(), text("exception.stacktrace"))
            })
            .collect();
        if !exceptions.is_empty() || self.status != Status::Error {
            return exceptions;
        }
        // A failure that only passes on another's is told where it began: that one has a message.
        let message = self.status_message.clone();
        message.map(|message| one("error".into(), message, Some(format!("at {}", self.name)))).into_iter().collect()
    }
}

/// What became of spans.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Stored now, or known already.
    pub accepted: usize,
    /// Of traces that are full.
    pub over: usize,
}

/// A trace as new spans change it.
#[derive(Debug)]
struct Change<'a> {
    /// The span that is the root, or the earliest one, and which of these it is.
    root: (i64, &'a Span),
    started_us: i64,
    ended_us: i64,
    spans: i64,
    errors: i64,
}

impl<'a> Change<'a> {
    fn of(span: &'a Span) -> Self {
        let rank = i64::from(span.parent_span_id.is_some());
        Self {
            root: (rank, span),
            started_us: span.start_us,
            ended_us: span.start_us.saturating_add(span.duration_us),
            spans: 1,
            errors: i64::from(span.status == Status::Error),
        }
    }

    fn merge(&mut self, other: Self) {
        if (other.root.0, other.root.1.start_us) < (self.root.0, self.root.1.start_us) {
            self.root = other.root;
        }
        self.started_us = self.started_us.min(other.started_us);
        self.ended_us = self.ended_us.max(other.ended_us);
        self.spans += other.spans;
        self.errors += other.errors;
    }
}

/// Stores spans, their traces and the errors they tell of; each transaction a thousand.
pub(crate) fn store(organization_id: &str, spans: Vec<Span>) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for chunk in spans.chunks(STORED) {
        // One order for everybody: two who store spans of the same traces wait for each other and never in a circle.
        let ordered: BTreeMap<(&str, &str), &Span> =
            chunk.iter().map(|span| ((span.trace_id.as_str(), span.span_id.as_str()), span)).collect();
        outcome.over += database::transaction(|transaction| store_within(transaction, organization_id, &ordered))?;
        outcome.accepted += chunk.len();
    }
    outcome.accepted -= outcome.over;
    Ok(outcome)
}

fn store_within(
    transaction: &Transaction,
    organization_id: &str,
    spans: &BTreeMap<(&str, &str), &Span>,
) -> Result<usize> {
    let now = clock::now();
    let over = room::over(transaction, organization_id, spans)?;
    let is_open = |span: &&&Span| !over.contains(&(span.trace_id.as_str(), span.span_id.as_str()));
    let rows = Bulk::into("trace_spans")
        .shared("organization_id", organization_id)
        .shared("received_ms", now.millis())
        .columns(&[
            "trace_id",
            "span_id",
            "parent_span_id",
            "service",
            "name",
            "kind",
            "start_time",
            "start_us",
            "duration_us",
            "status",
            "status_message",
            "attributes",
            "events",
        ])
        .then("ON CONFLICT (organization_id, trace_id, span_id) DO NOTHING RETURNING trace_id, span_id")
        .query(transaction, spans.values().filter(is_open).map(|span| span.values()))?;
    let mut changes: BTreeMap<&str, Change<'_>> = BTreeMap::new();
    let mut occurrences = Vec::new();
    let mut services: BTreeSet<(&str, &str)> = BTreeSet::new();
    for row in rows {
        let (trace_id, span_id): (String, String) = (row.get("trace_id")?, row.get("span_id")?);
        let Some(span) = spans.get(&(trace_id.as_str(), span_id.as_str())) else { continue };
        occurrences.extend(span.occurrences());
        services.insert((&span.trace_id, &span.service));
        let change = Change::of(span);
        match changes.get_mut(span.trace_id.as_str()) {
            Some(known) => known.merge(change),
            None => {
                changes.insert(&span.trace_id, change);
            }
        }
    }
    summarize(transaction, organization_id, &changes, now)?;
    Bulk::into("trace_services")
        .shared("organization_id", organization_id)
        .shared("received_ms", now.millis())
        .columns(&["trace_id", "service"])
        .then("ON CONFLICT (organization_id, trace_id, service) DO NOTHING")
        .insert(transaction, services.iter().map(|(trace_id, service)| vec![(*trace_id).into(), (*service).into()]))?;
    service::seen(transaction, organization_id, services.iter().map(|(_, service)| *service).collect(), now)?;
    error::note(transaction, organization_id, occurrences)?;
    Ok(over.len())
}

/// Adds what is new to the summaries of the traces.
fn summarize(
    transaction: &Transaction,
    organization_id: &str,
    changes: &BTreeMap<&str, Change<'_>>,
    now: Timestamp,
) -> Result<()> {
    const THEN: &str = "ON CONFLICT (organization_id, trace_id) DO UPDATE SET \
        root_service = CASE WHEN excluded.root_rank < trace_traces.root_rank OR (excluded.root_rank = trace_traces.root_rank AND \
            excluded.root_us < trace_traces.root_us) THEN excluded.root_service ELSE trace_traces.root_service END, \
        root_name = CASE WHEN excluded.root_rank < trace_traces.root_rank OR (excluded.root_rank = trace_traces.root_rank AND \
            excluded.root_us < trace_traces.root_us) THEN excluded.root_name ELSE trace_traces.root_name END, \
        root_us = CASE WHEN excluded.root_rank < trace_traces.root_rank OR (excluded.root_rank = trace_traces.root_rank AND \
            excluded.root_us < trace_traces.root_us) THEN excluded.root_us ELSE trace_traces.root_us END, \
        root_rank = CASE WHEN excluded.root_rank < trace_traces.root_rank THEN excluded.root_rank ELSE trace_traces.root_rank END, \
        started_us = CASE WHEN excluded.started_us < trace_traces.started_us THEN excluded.started_us ELSE trace_traces.started_us END, \
        ended_us = CASE WHEN excluded.ended_us > trace_traces.ended_us THEN excluded.ended_us ELSE trace_traces.ended_us END, \
        span_count = trace_traces.span_count + excluded.span_count, \
        error_count = trace_traces.error_count + excluded.error_count, \
        updated_at = excluded.updated_at, version = trace_traces.version + 1";
    let rows = changes.iter().map(|(trace_id, change)| {
        let (rank, root) = change.root;
        vec![
            (*trace_id).into(),
            (&root.service).into(),
            (&root.name).into(),
            rank.into(),
            root.start_us.into(),
            change.started_us.into(),
            change.ended_us.into(),
            change.spans.into(),
            change.errors.into(),
        ]
    });
    Bulk::into("trace_traces")
        .shared("organization_id", organization_id)
        .shared("created_at", now)
        .shared("updated_at", now)
        .shared("received_ms", now.millis())
        .shared("version", 1)
        .columns(&[
            "trace_id",
            "root_service",
            "root_name",
            "root_rank",
            "root_us",
            "started_us",
            "ended_us",
            "span_count",
            "error_count",
        ])
        .then(THEN)
        .insert(transaction, rows)?;
    Ok(())
}

/// A span in our own form.
#[data]
pub(crate) struct NewSpan {
    trace_id: String,
    span_id: String,
    parent_span_id: Option<String>,
    service: String,
    name: String,
    #[field(default = Kind::Internal)]
    kind: Kind,
    start_time: Timestamp,
    /// Or `endTime`.
    duration_us: Option<i64>,
    end_time: Option<Timestamp>,
    #[field(default = Status::Unset)]
    status: Status,
    status_message: Option<String>,
    #[field(default)]
    attributes: Map<String, Value>,
    #[field(default)]
    events: Vec<Value>,
}

impl NewSpan {
    /// As a span, or why it is none.
    pub fn into_span(self) -> Result<Span, String> {
        let start_us = self.start_time.millis().saturating_mul(1_000);
        let until_end = self.end_time.map(|end| (end.millis() - self.start_time.millis()).max(0).saturating_mul(1_000));
        let span = Span {
            trace_id: self.trace_id,
            span_id: self.span_id,
            parent_span_id: self.parent_span_id.filter(|parent| !parent.is_empty()),
            service: self.service,
            name: self.name,
            kind: self.kind,
            start_us,
            duration_us: self.duration_us.or(until_end).unwrap_or(0),
            status: self.status,
            status_message: self.status_message,
            attributes: self.attributes,
            events: self.events,
        };
        span.fit()
    }
}

/// A record that was not taken.
#[data]
pub(crate) struct Rejection {
    pub index: i64,
    pub message: String,
}

/// The answer of a report.
#[data]
pub(crate) struct Reported {
    pub accepted: i64,
    pub rejected: Vec<Rejection>,
}

/// The records of a body: one, a list, or a list under a name.
pub(crate) struct Batch(pub Vec<Value>);

impl FromRequest for Batch {
    fn from_request(request: &mut Request) -> Result<Self> {
        let body: Value =
            serde_json::from_slice(&request.body).map_err(|_| Problem::bad_request("The body must be JSON."))?;
        let list = match body {
            Value::Array(list) => list,
            Value::Object(mut members) => {
                match ["spans", "metrics", "points", "events"].iter().find_map(|name| members.remove(*name)) {
                    // A span and an event have members of these names, too.
                    Some(Value::Array(list)) if members.is_empty() => list,
                    Some(list) => {
                        members.insert("events".into(), list);
                        vec![Value::Object(members)]
                    }
                    None => vec![Value::Object(members)],
                }
            }
            _ => return Err(Problem::bad_request("The body must be a record or a list of them.")),
        };
        if list.is_empty() || list.len() > SENT_MAX {
            return Err(Problem::bad_request(format!("A request has 1 to {SENT_MAX} records.")));
        }
        Ok(Self(list))
    }

    fn describe(route: &mut Route) {
        <Json<BatchBody> as FromRequest>::describe(route);
    }
}

/// The form of a body, for the API's document.
#[data]
struct BatchBody {
    /// Or `metrics`, or `events`.
    spans: Option<Vec<NewSpan>>,
}

impl Batch {
    /// The records as what they shall be, and those that are not.
    pub fn read<T: serde::de::DeserializeOwned, R>(
        self,
        make: impl Fn(T) -> Result<R, String>,
    ) -> (Vec<R>, Vec<Rejection>) {
        let (mut records, mut rejected) = (Vec::with_capacity(self.0.len()), Vec::new());
        for (index, value) in (0..).zip(self.0) {
            let has_null_character = value.to_string().contains("\\u0000");
            let read = if has_null_character {
                Err("must not contain the character U+0000".to_string())
            } else {
                serde_json::from_value::<T>(value).map_err(|error| error.to_string()).and_then(&make)
            };
            match read {
                Ok(record) => records.push(record),
                Err(message) => rejected.push(Rejection { index, message }),
            }
        }
        (records, rejected)
    }
}

/// `POST /api/observability/traces`.
pub(crate) fn report(batch: Batch) -> Result<Accepted<Reported>> {
    let organization_id = auth::organization_id()?;
    let (spans, mut rejected) = batch.read(NewSpan::into_span);
    let outcome = store(&organization_id, spans)?;
    if outcome.over > 0 {
        let message = format!("{} spans are of traces that have {SPANS_MAX} already", outcome.over);
        rejected.push(Rejection { index: -1, message });
    }
    Ok(Accepted(Reported { accepted: i64::try_from(outcome.accepted).unwrap_or(i64::MAX), rejected }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(value: Value) -> Result<Span, String> {
        let mut whole = json!({"traceId": "5B8EFFF798038103D269B633813FC60C", "spanId": "eee19b7ec3c1b174", "service": "s",
            "name": "n", "startTime": "2026-01-31T12:00:00.000Z"});
        for (name, member) in value.as_object().unwrap() {
            whole[name] = member.clone();
        }
        serde_json::from_value::<NewSpan>(whole).map_err(|error| error.to_string()).and_then(NewSpan::into_span)
    }

    #[test]
    fn ids_are_hexadecimal_and_not_zero() {
        assert_eq!(span(json!({})).unwrap().trace_id, "5b8efff798038103d269b633813fc60c");
        for wrong in [
            json!({"traceId": "5B8E"}),
            json!({"traceId": "0".repeat(32)}),
            json!({"traceId": "x".repeat(32)}),
            json!({"spanId": "0".repeat(16)}),
            json!({"parentSpanId": "p"}),
        ] {
            assert!(span(wrong.clone()).is_err(), "{wrong}");
        }
        assert_eq!(span(json!({"parentSpanId": ""})).unwrap().parent_span_id, None);
        assert_eq!(span(json!({"endTime": "2026-01-31T12:00:01.500Z"})).unwrap().duration_us, 1_500_000);
    }

    #[test]
    fn what_is_too_large_is_left_out_and_the_span_stays() {
        let large = span(json!({"attributes": {"a": "x".repeat(ATTRIBUTES_MAX)}, "name": "n".repeat(500)})).unwrap();
        assert_eq!((json!(large.attributes), large.name.len()), (json!({"isCut": true}), NAME_MAX));
    }

    #[test]
    fn the_root_is_the_span_without_a_parent_or_else_the_earliest() {
        let at = |id: &str, parent: Option<&str>, start_us: i64| Span {
            span_id: id.into(),
            parent_span_id: parent.map(Into::into),
            start_us,
            duration_us: 10,
            ..span(json!({})).unwrap()
        };
        let (child, early, root) = (at("c", Some("r"), 20), at("e", Some("x"), 5), at("r", None, 10));
        let mut change = Change::of(&child);
        change.merge(Change::of(&early));
        assert_eq!((change.root.1.span_id.as_str(), change.root.0), ("e", 1));
        change.merge(Change::of(&root));
        assert_eq!((change.root.1.span_id.as_str(), change.root.0), ("r", 0));
        assert_eq!((change.started_us, change.ended_us, change.spans), (5, 30, 3));
    }

    #[test]
    fn exceptions_are_errors_and_a_failed_span_is_one_without() {
        let failed = span(json!({"status": "error", "statusMessage": "gone"})).unwrap();
        assert_eq!(failed.occurrences()[0].kind, "error");
        let passing = span(json!({"status": "error"})).unwrap();
        assert!(passing.occurrences().is_empty());
        let event = json!({"name": "exception", "attributes": {"exception.type": "IOError", "exception.message": "m"}});
        let thrown = span(json!({"status": "error", "statusMessage": "gone", "events": [event]})).unwrap();
        assert_eq!(thrown.occurrences().iter().map(|one| one.kind.as_str()).collect::<Vec<_>>(), ["IOError"]);
    }

    #[test]
    fn a_batch_is_a_record_or_a_list() {
        let count = |body: Value| {
            Batch::from_request(&mut Request::new("POST", "/").with_json(&body)).map(|batch| batch.0.len())
        };
        assert_eq!(count(json!([1, 2])).unwrap(), 2);
        assert_eq!(count(json!({"spans": [1, 2, 3]})).unwrap(), 3);
        assert_eq!(count(json!({"name": "n", "events": []})).unwrap(), 1);
        assert!(count(json!([])).is_err());
    }
}
