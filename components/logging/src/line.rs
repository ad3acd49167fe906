//! A log line: as it is sent, checked, and stored.

use std::time::Duration;

use berth_sdk::{
    database::Value as Stored,
    prelude::*,
    serde_json::{self, Map, Value},
    validate::FieldError,
};

use crate::{filter::AHEAD, redact};

/// Bytes of a message; a longer one is cut.
const MESSAGE_MAX: usize = 16 * 1024;
/// Bytes of a context; a line with a larger one is refused.
pub(crate) const CONTEXT_MAX: usize = 32 * 1024;
/// Characters of the name of a service or a host.
const NAME_MAX: usize = 100;
/// How old a line may be: nothing is kept longer.
const OLD: Duration = Duration::from_secs(3_650 * 86_400);

/// How important a line is.
#[choice]
#[derive(PartialOrd, Ord)]
pub(crate) enum Level {
    Debug,
    Info,
    Warn,
    Error,
    Fatal,
}

impl Level {
    /// A level however it is written: `WARNING` is `warn`.
    pub fn read(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "trace" => Some(Self::Debug),
            "warning" => Some(Self::Warn),
            "critical" => Some(Self::Fatal),
            known => Self::parse(known),
        }
    }

    /// This level and those above it.
    pub fn and_above(self) -> impl Iterator<Item = &'static str> {
        const ALL: [Level; 5] = [Level::Debug, Level::Info, Level::Warn, Level::Error, Level::Fatal];
        ALL.into_iter().filter(move |level| *level >= self).map(|level| level.as_str())
    }
}

/// A line as it is sent.
#[data]
pub(crate) struct NewLine {
    /// debug, info, warn, error or fatal.
    #[field(default = String::from("info"))]
    pub level: String,
    pub service: Option<String>,
    #[field(raw)]
    pub message: Option<String>,
    #[field(default)]
    pub context: Map<String, Value>,
    pub trace_id: Option<String>,
    pub span_id: Option<String>,
    pub user_id: Option<String>,
    pub project_id: Option<String>,
    pub request_id: Option<String>,
    pub host: Option<String>,
    /// When it was said; `loggedAt` means the same.
    pub timestamp: Option<Timestamp>,
    pub logged_at: Option<Timestamp>,
}

/// A line that can be stored.
#[derive(Debug)]
pub(crate) struct Line {
    pub level: Level,
    pub service: String,
    pub message: String,
    /// A JSON object as text.
    pub context: Option<String>,
    pub trace_id: Option<String>,
    pub span_id: Option<String>,
    pub user_id: Option<String>,
    pub project_id: Option<String>,
    pub request_id: Option<String>,
    pub host: Option<String>,
    pub logged_at: Timestamp,
    /// The message was longer.
    pub is_truncated: bool,
    /// It claimed to be from the future.
    pub is_clamped: bool,
}

impl Line {
    /// The columns of [`Line::values`].
    pub const COLUMNS: [&'static str; 16] = [
        "id",
        "sequence",
        "level",
        "service",
        "message",
        "context",
        "trace_id",
        "span_id",
        "user_id",
        "project_id",
        "request_id",
        "host",
        "logged_at",
        "logged_ms",
        "is_truncated",
        "is_clamped",
    ];

    /// Checks what was sent, cuts what is too long and takes out secrets.
    pub fn new(sent: NewLine, default_service: Option<&str>, now: Timestamp) -> Result<Self, Vec<FieldError>> {
        let mut faults = Faults::default();
        let level = Level::read(&sent.level);
        if level.is_none() {
            faults.add("level", "must be one of debug, info, warn, error, fatal");
        }
        let service = sent.service.filter(|name| !name.is_empty()).or_else(|| default_service.map(Into::into));
        match &service {
            Some(name) if name.chars().count() <= NAME_MAX => {}
            Some(_) => faults.add("service", format!("must have at most {NAME_MAX} characters")),
            None => faults.add("service", "is required"),
        }
        let message = sent.message.unwrap_or_default();
        if message.is_empty() {
            faults.add("message", "is required");
        }
        if sent.host.as_ref().is_some_and(|host| host.chars().count() > NAME_MAX) {
            faults.add("host", format!("must have at most {NAME_MAX} characters"));
        }
        let ids = [
            ("traceId", &sent.trace_id),
            ("spanId", &sent.span_id),
            ("userId", &sent.user_id),
            ("projectId", &sent.project_id),
            ("requestId", &sent.request_id),
        ];
        for (name, id) in ids {
            if let Some(id) = id {
                faults.check(name, validate::id(id));
            }
        }
        let context = context(sent.context, &mut faults);
        let said_at = sent.timestamp.or(sent.logged_at).unwrap_or(now);
        if said_at < now.minus(OLD) {
            faults.add("timestamp", "is more than ten years ago");
        }
        if !faults.is_empty() {
            return Err(faults.errors().to_vec());
        }
        let is_clamped = said_at > now.plus(AHEAD);
        let (message, is_truncated) = message_of(&message);
        Ok(Self {
            level: level.unwrap_or(Level::Info),
            service: service.unwrap_or_default(),
            message,
            context,
            trace_id: sent.trace_id,
            span_id: sent.span_id,
            user_id: sent.user_id,
            project_id: sent.project_id,
            request_id: sent.request_id,
            host: sent.host,
            logged_at: if is_clamped { now } else { said_at },
            is_truncated,
            is_clamped,
        })
    }

    /// As a row, under a number.
    pub fn values(self, sequence: i64) -> Vec<Stored> {
        vec![
            Id::new().into(),
            sequence.into(),
            self.level.into(),
            self.service.into(),
            self.message.into(),
            self.context.map_or(Stored::Null, Stored::Json),
            self.trace_id.into(),
            self.span_id.into(),
            self.user_id.into(),
            self.project_id.into(),
            self.request_id.into(),
            self.host.into(),
            self.logged_at.into(),
            self.logged_at.millis().into(),
            self.is_truncated.into(),
            self.is_clamped.into(),
        ]
    }
}

/// The message without secrets, cut where it is too long.
pub(crate) fn message_of(message: &str) -> (String, bool) {
    // Cut first: a secret that the cut goes through is found by what is before it.
    let kept = cut(message, MESSAGE_MAX);
    let clean = redact::text(kept).replace('\0', "");
    let is_truncated = kept.len() < message.len();
    (cut(&clean, MESSAGE_MAX).to_string(), is_truncated)
}

fn context(mut members: Map<String, Value>, faults: &mut Faults) -> Option<String> {
    if members.is_empty() {
        return None;
    }
    redact::members(&mut members);
    let text = Value::Object(members).to_string();
    if text.len() > CONTEXT_MAX {
        faults.add("context", format!("must have at most {CONTEXT_MAX} bytes"));
    } else if text.contains("\\u0000") {
        faults.add("context", "must not contain the character U+0000");
    }
    Some(text)
}

/// The beginning of a text, of at most so many bytes.
pub(crate) fn cut(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// Why a line was not taken.
#[data]
pub(crate) struct Rejection {
    /// Its place in the request.
    pub index: i64,
    pub errors: Vec<FieldErrorShown>,
}

/// A fault of a field.
#[data]
pub(crate) struct FieldErrorShown {
    pub field: String,
    pub message: String,
}

/// The lines of a body, each as it is or with what is wrong with it.
pub(crate) type Lines = Vec<Result<NewLine, Vec<FieldError>>>;

/// Reads the lines of a body: one, a list, or `{logs}`. What does not fit is told with its place.
pub(crate) fn read(body: &[u8], lines_max: usize) -> Result<(Lines, bool)> {
    // The fast way for the usual body; only where it fails each line is read by itself.
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[')
        && let Ok(lines) = serde_json::from_slice::<Vec<NewLine>>(body)
    {
        within(lines.len(), lines_max)?;
        return Ok((lines.into_iter().map(Ok).collect(), false));
    }
    let body: Value = serde_json::from_slice(body).map_err(|_| Problem::bad_request("The body must be JSON."))?;
    let (list, is_single) = match body {
        Value::Array(list) => (list, false),
        Value::Object(mut members) => match members.remove("logs") {
            Some(Value::Array(list)) => (list, false),
            Some(_) => return Err(Problem::field("logs", "must be a list")),
            None => (vec![Value::Object(members)], true),
        },
        _ => return Err(Problem::bad_request("The body must be a log line or a list of them.")),
    };
    within(list.len(), lines_max)?;
    Ok((list.into_iter().map(one).collect(), is_single))
}

fn within(count: usize, lines_max: usize) -> Result<()> {
    if (1..=lines_max).contains(&count) {
        Ok(())
    } else {
        Err(Problem::bad_request(format!("A request has 1 to {lines_max} lines.")))
    }
}

fn one(value: Value) -> Result<NewLine, Vec<FieldError>> {
    if !value.is_object() {
        return Err(vec![FieldError::new("", "must be an object")]);
    }
    match serde_json::from_value::<NewLine>(value.clone()) {
        Ok(line) => Ok(line),
        // The slow way finds every fault.
        Err(error) => Err(match Json::<NewLine>::from_request(&mut Request::new("POST", "/").with_json(&value)) {
            Err(problem) if !problem.errors.is_empty() => problem.errors,
            _ => vec![FieldError::new("", error.to_string())],
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(value: Value) -> Result<Line, Vec<FieldError>> {
        one(value).and_then(|sent| Line::new(sent, None, Timestamp::parse("2026-01-31T12:00:00Z").unwrap()))
    }

    fn faulty(value: Value) -> Vec<String> {
        line(value).unwrap_err().into_iter().map(|error| error.field).collect()
    }

    #[test]
    fn a_line_is_cut_clamped_and_cleaned() {
        let long = line(json!({"service": "api", "message": "ü".repeat(10_000), "level": "WARNING"})).unwrap();
        assert!(long.is_truncated && long.message.len() <= MESSAGE_MAX && long.level == Level::Warn);
        let early = line(json!({"service": "api", "message": "m", "timestamp": "2026-01-31T12:05:01Z"})).unwrap();
        assert!(early.is_clamped && early.logged_at.to_string() == "2026-01-31T12:00:00.000Z");
        let near = line(json!({"service": "api", "message": "m", "loggedAt": "2026-01-31T12:04:59Z"})).unwrap();
        assert!(!near.is_clamped && near.logged_at.to_string() == "2026-01-31T12:04:59.000Z");
        let secret = line(json!({"service": "api", "message": "token=abc", "context": {"password": "x"}})).unwrap();
        assert_eq!(secret.message, "token=[redacted]");
        assert_eq!(secret.context.unwrap(), r#"{"password":"[redacted]"}"#);
    }

    #[test]
    fn every_fault_of_a_line_is_named() {
        assert_eq!(faulty(json!({})), ["service", "message"]);
        assert_eq!(
            faulty(
                json!({"service": "a", "message": "m", "level": "loud", "traceId": "a b", "timestamp": "1990-01-01T00:00:00Z"})
            ),
            ["level", "traceId", "timestamp"]
        );
        assert_eq!(faulty(json!({"service": "a", "message": 7})), ["message"]);
        assert_eq!(
            faulty(json!({"service": "a", "message": "m", "context": {"a": "x".repeat(CONTEXT_MAX)}})),
            ["context"]
        );
        assert_eq!(faulty(json!(7)), [""]);
    }

    #[test]
    fn a_body_is_a_line_or_up_to_a_thousand() {
        let line = json!({"service": "a", "message": "m"});
        let count =
            |body: Value| read(body.to_string().as_bytes(), 3).map(|(lines, is_single)| (lines.len(), is_single));
        assert_eq!(count(line.clone()).unwrap(), (1, true));
        assert_eq!(count(json!([line, 7])).unwrap(), (2, false));
        assert_eq!(count(json!({"logs": [line, line]})).unwrap(), (2, false));
        assert_eq!(count(json!([])).unwrap_err().status, 400);
        assert_eq!(count(json!([line, line, line, line])).unwrap_err().status, 400);
        assert_eq!(Level::Warn.and_above().collect::<Vec<_>>(), ["warn", "error", "fatal"]);
    }
}
