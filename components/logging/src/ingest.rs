//! Taking log lines in: over HTTP, and from the host's own feed.

use berth_sdk::{
    database::Bulk,
    prelude::*,
    router::Route,
    serde_json::{Map, Value},
    validate::FieldError,
};

use crate::line::{self, FieldErrorShown, Level, Line, Lines, NewLine, Rejection};

/// Lines of one request.
const LINES_MAX: usize = 1_000;
/// Lines of one transaction of the feed.
const FED_MAX: usize = 1_000;
/// The plugin itself: its own lines are not stored, so that storing lines makes no lines.
const SELF: &str = "logging";

/// The lines of a request.
pub(crate) struct Report {
    lines: Lines,
    is_single: bool,
}

/// The forms of a body, for the API's document.
#[data]
struct ReportBody {
    /// Up to 1 000; or the members of one line instead, or a list.
    logs: Option<Vec<NewLine>>,
}

impl FromRequest for Report {
    fn from_request(request: &mut Request) -> Result<Self> {
        let (lines, is_single) = line::read(&request.body, LINES_MAX)?;
        Ok(Self { lines, is_single })
    }

    fn describe(route: &mut Route) {
        <Json<ReportBody> as FromRequest>::describe(route);
    }
}

/// What became of a report.
#[data]
pub(crate) struct Reported {
    accepted: i64,
    rejected: Vec<Rejection>,
}

/// `POST /api/logs`.
pub(crate) fn report(report: Report) -> Result<Accepted<Reported>> {
    let organization_id = auth::organization_id()?;
    let principal = auth::principal();
    let now = clock::now();
    let mut lines = Vec::with_capacity(report.lines.len());
    let mut rejected = Vec::new();
    for (index, sent) in report.lines.into_iter().enumerate() {
        match sent.and_then(|sent| Line::new(sent, principal.source_service.as_deref(), now)) {
            Ok(line) => lines.push(line),
            Err(errors) if report.is_single => return Err(Problem::validation(errors)),
            Err(errors) => rejected.push(rejection(index, errors)),
        }
    }
    let accepted = i64::try_from(lines.len()).unwrap_or(i64::MAX);
    store(&organization_id, &principal.user_id, lines, now)?;
    Ok(Accepted(Reported { accepted, rejected }))
}

fn rejection(index: usize, errors: Vec<FieldError>) -> Rejection {
    let shown = |error: FieldError| FieldErrorShown { field: error.field, message: error.message };
    Rejection {
        index: i64::try_from(index).unwrap_or(i64::MAX),
        errors: errors.into_iter().take(10).map(shown).collect(),
    }
}

/// Stores lines in one transaction. The number of the last line is taken first and stays locked until the end, so that
/// lines become visible in the order of their numbers and no tail misses one.
fn store(organization_id: &str, created_by: &Option<String>, lines: Vec<Line>, now: Timestamp) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let mut services: Vec<String> = lines.iter().map(|line| line.service.clone()).collect();
    services.sort_unstable();
    services.dedup();
    database::transaction(|transaction| {
        let count = i64::try_from(lines.len()).unwrap_or(i64::MAX);
        let row = transaction.query_one(
            "INSERT INTO log_heads (organization_id, last_sequence) VALUES ($1, $2) \
             ON CONFLICT (organization_id) DO UPDATE SET last_sequence = log_heads.last_sequence + $2 \
             RETURNING last_sequence",
            params![organization_id, count],
        )?;
        let last: i64 = row.ok_or_else(Problem::internal)?.get("last_sequence")?;
        let rows = lines.into_iter().zip(last - count + 1..).map(|(line, sequence)| line.values(sequence));
        Bulk::into("log_logs")
            .shared("organization_id", organization_id)
            .shared("created_by", created_by)
            .shared("received_at", now)
            .columns(&Line::COLUMNS)
            .insert(transaction, rows)?;
        // A bar stands in no id of an organization.
        let known = services.into_iter().map(|name| vec![format!("{organization_id}|{name}").into(), name.into()]);
        Bulk::into("log_services")
            .shared("organization_id", organization_id)
            .shared("first_at", now)
            .shared("last_at", now)
            .columns(&["service_key", "service"])
            .then("ON CONFLICT (service_key) DO UPDATE SET last_at = excluded.last_at")
            .insert(transaction, known)?;
        Ok(())
    })
}

/// A line of the host's feed.
#[data]
struct FedLine {
    timestamp: Timestamp,
    level: String,
    plugin: Option<String>,
    revision: Option<Value>,
    user_id: Option<String>,
    request_id: Option<String>,
    trace_id: Option<String>,
    span_id: Option<String>,
    source: Option<String>,
    #[field(raw)]
    message: String,
    #[field(default)]
    fields: Map<String, Value>,
}

/// The payload of `feed.logs`.
#[data]
struct Feed {
    #[field(default)]
    lines: Vec<FedLine>,
    #[field(default)]
    dropped: i64,
}

/// Handles `feed.logs`: lines of the host and of plugins. A batch is delivered once and never again.
pub(crate) fn feed(envelope: &Envelope) -> Result<()> {
    let organization_id = auth::organization_id()?;
    let feed: Feed = envelope.data()?;
    let now = clock::now();
    let mut lines: Vec<Line> = Vec::with_capacity(feed.lines.len());
    for fed in feed.lines {
        if let Some(line) = fed_line(fed, now) {
            lines.push(line);
        }
    }
    if feed.dropped > 0 {
        let told = NewLine {
            level: Level::Warn.as_str().into(),
            message: Some(format!("{} log lines came too fast and were dropped", feed.dropped)),
            ..nothing("host")
        };
        lines.extend(Line::new(told, None, now).ok());
    }
    while !lines.is_empty() {
        let rest = lines.split_off(lines.len().min(FED_MAX));
        store(&organization_id, &None, std::mem::replace(&mut lines, rest), now)?;
    }
    Ok(())
}

fn nothing(service: &str) -> NewLine {
    NewLine {
        level: String::new(),
        service: Some(service.into()),
        message: None,
        context: Map::new(),
        trace_id: None,
        span_id: None,
        user_id: None,
        project_id: None,
        request_id: None,
        host: None,
        timestamp: None,
        logged_at: None,
    }
}

/// A line of the feed as one to store; none for this plugin's own.
fn fed_line(fed: FedLine, now: Timestamp) -> Option<Line> {
    let service = fed.plugin.unwrap_or_else(|| "host".into());
    let is_about_self = service == SELF || fed.fields.get("plugin").and_then(Value::as_str) == Some(SELF);
    if is_about_self {
        return None;
    }
    let fit = |id: Option<String>| id.filter(|id| validate::id(id).is_ok());
    let mut context = fed.fields;
    for (name, value) in [("source", fed.source.map(Value::from)), ("revision", fed.revision)] {
        if let Some(value) = value {
            context.entry(name).or_insert(value);
        }
    }
    let message = if fed.message.is_empty() { "(no message)".into() } else { fed.message };
    let sent = NewLine {
        level: fed.level,
        message: Some(message),
        trace_id: fit(fed.trace_id),
        span_id: fit(fed.span_id),
        user_id: fit(fed.user_id),
        request_id: fit(fed.request_id),
        timestamp: Some(fed.timestamp),
        context,
        ..nothing(line::cut(&service, 100))
    };
    Line::new(sent, None, now).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_sdk::serde_json;

    fn fed(value: Value) -> Option<Line> {
        fed_line(serde_json::from_value(value).unwrap(), clock::now())
    }

    #[test]
    fn the_hosts_lines_are_taken_and_those_of_this_plugin_are_not() {
        let line = json!({"timestamp": "2026-01-31T12:00:00.000Z", "level": "warn", "plugin": "planning", "revision": 3,
            "requestId": "r 1", "traceId": "t1", "source": "guest", "message": "token=abc", "fields": {"planId": "p1"}});
        let taken = fed(line.clone()).unwrap();
        assert_eq!((taken.service.as_str(), taken.level), ("planning", Level::Warn));
        assert_eq!((taken.request_id.as_deref(), taken.trace_id.as_deref()), (None, Some("t1")));
        assert_eq!(taken.message, "token=[redacted]");
        assert_eq!(taken.context.as_deref(), Some(r#"{"planId":"p1","source":"guest","revision":3}"#));
        let own =
            json!({"timestamp": "2026-01-31T12:00:00.000Z", "level": "error", "plugin": "logging", "message": "m"});
        assert!(fed(own).is_none());
        let about = json!({"timestamp": "2026-01-31T12:00:00.000Z", "level": "info", "message": "m", "fields": {"plugin": "logging"}});
        assert!(fed(about).is_none());
    }
}
