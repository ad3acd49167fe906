//! An audit entry: as it is sent, checked, and made ready for the chain.

use std::borrow::Cow;

use berth_sdk::{
    canonical,
    prelude::*,
    router::Route,
    serde_json::{self, Map, Value},
    validate::{FieldError, Path, Rule, Tidy},
};

use super::{chain::Row, configuration::Settings};
use crate::{
    access,
    filter::AHEAD,
    line::{self, CONTEXT_MAX},
    redact,
};

/// Entries of one request.
const ENTRIES_MAX: usize = 1_000;

/// What an entry is about.
#[choice(upper)]
pub(crate) enum Category {
    Action,
    Access,
    Security,
    System,
    Custom,
}

/// How grave it is.
#[choice(upper)]
pub(crate) enum Severity {
    Debug,
    Info,
    Warn,
    Error,
    Critical,
}

/// An entry as it is sent.
#[data]
pub(crate) struct NewEntry {
    /// What was done, such as `invoice.approved`.
    #[field(min = 1, max = 200, plain)]
    pub action: String,
    #[field(default = Category::Action)]
    pub category: Category,
    #[field(default = Severity::Info)]
    pub severity: Severity,
    #[field(max = 100, plain)]
    pub resource_type: Option<String>,
    #[field(max = 200)]
    pub resource_id: Option<String>,
    /// The action when it is left out.
    #[field(raw)]
    pub message: Option<String>,
    #[field(default)]
    pub metadata: Map<String, Value>,
    /// Who did it: the caller. Only other services name somebody else.
    pub user_id: Option<Id>,
    pub session_id: Option<Id>,
    #[field(max = 64)]
    pub ip_address: Option<String>,
    #[field(max = 500)]
    pub user_agent: Option<String>,
    pub timestamp: Option<Timestamp>,
    pub correlation_id: Option<Id>,
}

/// The entries of a request.
pub(crate) struct Report {
    pub entries: Vec<NewEntry>,
    pub is_single: bool,
}

/// The forms of a body, for the API's document.
#[data]
struct ReportBody {
    /// Up to 1 000.
    logs: Option<Vec<NewEntry>>,
}

impl FromRequest for Report {
    fn from_request(request: &mut Request) -> Result<Self> {
        let body: Value =
            serde_json::from_slice(&request.body).map_err(|_| Problem::bad_request("The body must be JSON."))?;
        let (list, is_single) = match body {
            Value::Array(list) => (list, false),
            Value::Object(mut members) => match members.remove("logs").or_else(|| members.remove("entries")) {
                Some(Value::Array(list)) => (list, false),
                Some(_) => return Err(Problem::field("logs", "must be a list")),
                None => (vec![Value::Object(members)], true),
            },
            _ => return Err(Problem::bad_request("The body must be an entry or a list of them.")),
        };
        if list.is_empty() || list.len() > ENTRIES_MAX {
            return Err(Problem::bad_request(format!("A request has 1 to {ENTRIES_MAX} entries.")));
        }
        let mut faults = Faults::default();
        let mut entries = Vec::with_capacity(list.len());
        for (index, value) in list.into_iter().enumerate() {
            match one(value) {
                Ok(entry) => entries.push(entry),
                Err(errors) => {
                    let place = if is_single { String::new() } else { format!("logs[{index}].") };
                    faults.extend(
                        errors
                            .into_iter()
                            .map(|error| FieldError::new(format!("{place}{}", error.field), error.message)),
                    );
                }
            }
        }
        faults.finish()?;
        Ok(Self { entries, is_single })
    }

    fn describe(route: &mut Route) {
        <Json<ReportBody> as FromRequest>::describe(route);
    }
}

/// Reads one entry; the slow way, which finds every fault, only where the fast one fails.
fn one(value: Value) -> Result<NewEntry, Vec<FieldError>> {
    let Ok(mut entry) = serde_json::from_value::<NewEntry>(value.clone()) else {
        return Err(match Json::<NewEntry>::from_request(&mut Request::new("POST", "/").with_json(&value)) {
            Err(problem) if !problem.errors.is_empty() => problem.errors,
            Err(problem) => vec![FieldError::new("", problem.detail)],
            Ok(_) => vec![FieldError::new("", "does not fit")],
        });
    };
    let mut faults = Faults::default();
    entry.tidy(&Rule::default(), &Path::default(), &mut faults);
    let metadata = canonical::text(&Value::Object(entry.metadata.clone()));
    if metadata.len() > CONTEXT_MAX {
        faults.add("metadata", format!("must have at most {CONTEXT_MAX} bytes"));
    }
    if metadata.contains("\\u0000") {
        faults.add("metadata", "must not contain the character U+0000");
    }
    if faults.is_empty() { Ok(entry) } else { Err(faults.errors().to_vec()) }
}

/// Who writes an entry, and when.
pub(crate) struct Writer {
    pub organization_id: Option<String>,
    pub created_by: Option<String>,
    pub source: String,
    pub now: Timestamp,
}

impl Writer {
    /// The caller of a request.
    pub fn caller(source: Option<String>) -> Self {
        let principal = auth::principal();
        Self {
            organization_id: principal.organization_id,
            created_by: principal.user_id,
            source: source.unwrap_or_else(|| "api".into()),
            now: clock::now(),
        }
    }

    /// The chain it writes to: the organization's, or that of what concerns none.
    pub fn chain(&self) -> &str {
        self.organization_id.as_deref().unwrap_or_default()
    }
}

/// Fills in what the caller's request says, and refuses what the caller may not say: a user writes in nobody's name but
/// their own.
pub(crate) fn complete(entry: &mut NewEntry, request: &Request) -> Result<()> {
    let principal = auth::principal();
    let is_service = principal.source_service.is_some();
    if let (Some(named), false) = (&entry.user_id, is_service)
        && principal.user_id.as_deref() != Some(named.as_str())
        && !(principal.user_id.is_none() && access::is_admin())
    {
        return Err(Problem::forbidden("Only other services write in somebody else's name."));
    }
    if entry.user_id.is_none() {
        entry.user_id = principal.user_id.map(Id::from);
    }
    if !is_service {
        // A session is known; address and browser are what the caller says, like the rest of the entry.
        entry.session_id = principal.session_id.map(Id::from).or(entry.session_id.take());
        if entry.user_agent.is_none() {
            entry.user_agent = request.header("user-agent").map(|agent| line::cut(agent, 500).to_string());
        }
    }
    if entry.correlation_id.is_none() && validate::id(&request.request_id).is_ok() {
        entry.correlation_id = Some(request.request_id.as_str().into());
    }
    Ok(())
}

/// The row of an entry, but for its place in the chain; without what the organization does not want to keep.
pub(crate) fn row(mut entry: NewEntry, writer: &Writer, settings: &Settings) -> Row {
    if !settings.capture_geolocation {
        for name in ["geolocation", "geoLocation", "location", "geo"] {
            entry.metadata.remove(name);
        }
    }
    let message = entry.message.filter(|message| !message.is_empty()).unwrap_or_else(|| entry.action.clone());
    let message = if settings.redact_sensitive_data {
        redact::members(&mut entry.metadata);
        line::message_of(&message).0
    } else {
        line::cut(&message, 16 * 1024).replace('\0', "")
    };
    let metadata = canonical::text(&Value::Object(entry.metadata));
    let (message, metadata) = settings.redact(message, metadata);
    let said_at = entry.timestamp.unwrap_or(writer.now);
    let said_at = if said_at > writer.now.plus(AHEAD) { writer.now } else { said_at };
    let text = |id: Option<Id>| id.map(Id::into_string);
    Row {
        id: Id::new().into_string(),
        organization_id: writer.organization_id.clone(),
        created_by: writer.created_by.clone(),
        chain: writer.chain().into(),
        sequence: 0,
        timestamp: said_at.to_string(),
        time_ms: said_at.millis(),
        received_at: writer.now.to_string(),
        received_ms: writer.now.millis(),
        user_id: text(entry.user_id),
        session_id: text(entry.session_id),
        ip_address: entry.ip_address.filter(|_| settings.capture_ip),
        user_agent: entry.user_agent.filter(|_| settings.capture_user_agent),
        action: entry.action,
        category: entry.category.as_str().into(),
        severity: entry.severity.as_str().into(),
        resource_type: entry.resource_type,
        resource_id: entry.resource_id,
        message,
        metadata,
        source: writer.source.clone(),
        correlation_id: text(entry.correlation_id),
        previous_hash: None,
        hash: String::new(),
    }
}

impl Settings {
    /// Takes the organization's own patterns out of message and metadata.
    fn redact(&self, message: String, metadata: String) -> (String, String) {
        if !self.redact_sensitive_data || self.redaction_patterns.is_empty() {
            return (message, metadata);
        }
        let (mut message, mut document) = (message, serde_json::from_str::<Value>(&metadata).unwrap_or_default());
        for pattern in self.patterns() {
            if let Cow::Owned(clean) = pattern.replace_all(&message, redact::REDACTED) {
                message = clean;
            }
            replace_within(&mut document, &pattern);
        }
        (message, canonical::text(&document))
    }
}

fn replace_within(value: &mut Value, pattern: &regex::Regex) {
    match value {
        Value::String(text) => {
            if let Cow::Owned(clean) = pattern.replace_all(text, redact::REDACTED) {
                *text = clean;
            }
        }
        Value::Array(entries) => entries.iter_mut().for_each(|entry| replace_within(entry, pattern)),
        Value::Object(members) => members.values_mut().for_each(|member| replace_within(member, pattern)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_sdk::testing;

    fn entry(value: Value) -> NewEntry {
        one(value).unwrap()
    }

    fn writer() -> Writer {
        Writer { organization_id: Some("o1".into()), created_by: None, source: "api".into(), now: clock::now() }
    }

    #[test]
    fn what_an_organization_does_not_keep_is_left_out() {
        let sent = json!({"action": "x.done", "message": "badge B-1234 password=p", "ipAddress": "10.0.0.1", "userAgent": "u",
            "metadata": {"geolocation": "here", "note": "B-1234", "apiKey": "k"}});
        let settings =
            Settings { capture_ip: false, redaction_patterns: vec!["B-[0-9]{4}".into()], ..Settings::default() };
        let row = row(entry(sent.clone()), &writer(), &settings);
        assert_eq!(row.message, "badge [redacted] password=[redacted]");
        assert_eq!(row.metadata, r#"{"apiKey":"[redacted]","note":"[redacted]"}"#);
        assert_eq!((row.ip_address, row.user_agent.as_deref()), (None, Some("u")));
        let open = Settings { redact_sensitive_data: false, ..settings };
        assert_eq!(super::row(entry(sent), &writer(), &open).message, "badge B-1234 password=p");
    }

    #[test]
    fn nobody_writes_in_somebody_elses_name() {
        testing::sign_in("u1", "o1");
        let request = Request::new("POST", "/").with_header("user-agent", "browser");
        let mut own = entry(json!({"action": "a"}));
        complete(&mut own, &request).unwrap();
        assert_eq!((own.user_id.unwrap().as_str(), own.user_agent.as_deref()), ("u1", Some("browser")));
        let mut other = entry(json!({"action": "a", "userId": "u2"}));
        assert_eq!(complete(&mut other, &request).unwrap_err().status, 403);
    }

    #[test]
    fn faults_are_named_with_their_place() {
        let read = |body: Value| Report::from_request(&mut Request::new("POST", "/").with_json(&body));
        let problem = read(json!([{"action": "a"}, {"action": "", "severity": "LOUD"}])).err().unwrap();
        assert!(problem.errors.iter().any(|error| error.field == "logs[1].severity"), "{problem}");
        assert_eq!(read(json!({"message": "m"})).err().unwrap().errors[0].field, "action");
        assert_eq!(read(json!([])).err().unwrap().status, 400);
        assert!(read(json!({"action": "a"})).unwrap().is_single);
        let large = json!({"action": "a", "metadata": {"a": "x".repeat(CONTEXT_MAX)}});
        assert_eq!(read(large).err().unwrap().errors[0].field, "metadata");
    }
}
