//! Usage events: what is reported, checked, and shown.

use std::{collections::BTreeMap, time::Duration};

use berth_sdk::{
    prelude::*,
    serde_json::{self, Map, Value},
};

use crate::{access, category, ingest};

/// Events in one request.
pub(crate) const EVENTS_MAX: usize = 1_000;
/// Metrics and dimensions of one event.
const ENTRIES_MAX: usize = 20;
/// How late an event may come.
pub(crate) const LATE: Duration = Duration::from_secs(7 * 86_400);
/// How far the reporter's clock may be ahead.
pub(crate) const AHEAD: Duration = Duration::from_secs(300);
/// The largest quantity: whole numbers up to it are exact.
const QUANTITY_MAX: f64 = 9_007_199_254_740_991.0;

/// An event as it is stored.
#[entity(table = "usage_events", name = "usage event", sort = "-occurredAt")]
pub(crate) struct UsageEvent {
    #[field(hidden)]
    pub event_key: String,
    #[field(filter)]
    pub event_id: String,
    #[field(filter)]
    pub user_id: Option<String>,
    #[field(filter)]
    pub project_id: Option<String>,
    #[field(filter)]
    pub team_id: Option<String>,
    #[field(filter)]
    pub category_code: String,
    #[field(filter)]
    pub source_module: String,
    #[field(filter)]
    pub source_resource_id: Option<String>,
    pub source_action: Option<String>,
    pub metrics: BTreeMap<String, f64>,
    pub dimensions: BTreeMap<String, String>,
    pub cost_micro: i64,
    pub metadata: Option<Value>,
    pub occurred_at: Timestamp,
    pub received_at: Timestamp,
}

impl Rules for UsageEvent {
    fn scope() -> Option<Condition> {
        access::only_user().map(|user_id| Condition::new("\"user_id\" = ?", [user_id]))
    }
}

/// An event as it is reported.
#[data]
pub(crate) struct NewEvent {
    /// Unique with the source: the same event reported twice counts once. Made here when absent.
    #[field(max = 128)]
    pub event_id: Option<String>,
    pub user_id: Option<Id>,
    pub project_id: Option<Id>,
    pub team_id: Option<Id>,
    #[field(min = 1, max = 100)]
    pub category_code: String,
    #[field(max = 100)]
    pub source_module: Option<String>,
    #[field(max = 128)]
    pub source_resource_id: Option<String>,
    #[field(max = 100)]
    pub source_action: Option<String>,
    pub metrics: BTreeMap<String, f64>,
    #[field(default)]
    pub dimensions: BTreeMap<String, String>,
    pub metadata: Option<Value>,
    pub occurred_at: Option<Timestamp>,
}

/// Why an event was not counted as it was meant.
#[data]
pub(crate) struct Rejection {
    pub index: i64,
    pub event_id: Option<String>,
    pub code: String,
    pub message: String,
    /// `uncategorized` where it was stored all the same.
    pub stored_as: Option<String>,
}

/// What became of a report.
#[data]
pub(crate) struct Reported {
    pub accepted: i64,
    pub duplicates: i64,
    pub rejected: Vec<Rejection>,
}

/// A report: the events, and whether hard limits shall be kept to the unit.
pub(crate) struct Report {
    pub events: Vec<NewEvent>,
    pub enforce: bool,
    /// One event, not a list of one.
    pub is_single: bool,
}

/// The forms of a body, for the API's document.
#[data]
pub(crate) struct ReportBody {
    /// Up to 1 000; or the members of one event instead.
    pub events: Option<Vec<NewEvent>>,
    /// Refuse what would go over a hard limit: exact, whoever else reports at the same moment.
    #[field(default)]
    pub enforce: bool,
}

impl FromRequest for Report {
    fn from_request(request: &mut Request) -> Result<Self> {
        let body: Value =
            serde_json::from_slice(&request.body).map_err(|_| Problem::bad_request("The body must be JSON."))?;
        let mut enforce = false;
        let (list, is_single) = match body {
            Value::Array(list) => (list, false),
            Value::Object(mut members) => {
                enforce = members.remove("enforce") == Some(Value::Bool(true));
                match members.remove("events") {
                    Some(Value::Array(list)) => (list, false),
                    Some(_) => return Err(Problem::field("events", "must be a list")),
                    None => (vec![Value::Object(members)], true),
                }
            }
            _ => return Err(Problem::bad_request("The body must be an event or a list of events.")),
        };
        if list.is_empty() || list.len() > EVENTS_MAX {
            return Err(Problem::bad_request(format!("A report has 1 to {EVENTS_MAX} events.")));
        }
        let mut faults = Faults::default();
        let mut events = Vec::with_capacity(list.len());
        for (index, value) in list.into_iter().enumerate() {
            let prefix = if is_single { String::new() } else { format!("events[{index}].") };
            match read(value) {
                Ok(event) => {
                    check(&event, &prefix, &mut faults);
                    events.push(event);
                }
                Err(problem) if problem.errors.is_empty() => faults.add(format!("events[{index}]"), problem.detail),
                Err(problem) => {
                    for error in problem.errors {
                        faults.add(format!("{prefix}{}", error.field), error.message);
                    }
                }
            }
        }
        faults.finish()?;
        Ok(Self { events, enforce, is_single })
    }

    fn describe(route: &mut berth_sdk::router::Route) {
        <Json<ReportBody> as FromRequest>::describe(route);
    }
}

/// The fast way straight into the type; the slow one, which finds every fault, only where that fails.
fn read(value: Value) -> Result<NewEvent> {
    let value = match value {
        Value::Object(members) if members.contains_key("specversion") => of_cloud_event(members),
        value => value,
    };
    if !value.is_object() {
        return Err(Problem::bad_request("must be an object"));
    }
    match serde_json::from_value::<NewEvent>(value.clone()) {
        Ok(mut event) => {
            let mut faults = Faults::default();
            use berth_sdk::validate::{Path, Rule, Tidy};
            event.tidy(&Rule::default(), &Path::default(), &mut faults);
            faults.finish()?;
            Ok(event)
        }
        Err(_) => {
            let mut request = Request::new("POST", "/").with_json(&value);
            match Json::<NewEvent>::from_request(&mut request) {
                Err(problem) => Err(problem),
                Ok(_) => Err(Problem::bad_request("does not fit")),
            }
        }
    }
}

/// An event of CloudEvents 1.0 as one of this service: `type` names the category, `subject` the user where it can be one; of
/// `data` the numbers are metrics, beside a `count` of one, and the texts are dimensions.
fn of_cloud_event(mut members: Map<String, Value>) -> Value {
    let (mut metrics, mut dimensions) = (Map::new(), Map::new());
    if let Some(Value::Object(data)) = members.remove("data") {
        for (name, value) in data {
            match value {
                Value::Number(_) => metrics.insert(name, value),
                Value::String(_) => dimensions.insert(name, value),
                _ => None,
            };
        }
    }
    metrics.entry("count").or_insert_with(|| 1.into());
    let mut event = Map::new();
    for (name, own) in [("id", "eventId"), ("source", "sourceModule"), ("type", "categoryCode"), ("time", "occurredAt")]
    {
        event.extend(members.remove(name).map(|value| (own.to_string(), value)));
    }
    if let Some(Value::String(subject)) = members.remove("subject") {
        let is_user = validate::id(&subject).is_ok();
        let place = if is_user { &mut event } else { &mut dimensions };
        place.insert(if is_user { "userId" } else { "subject" }.into(), subject.into());
    }
    event.insert("metrics".into(), metrics.into());
    event.insert("dimensions".into(), dimensions.into());
    event.into()
}

/// What no type says.
pub(crate) fn check(event: &NewEvent, prefix: &str, faults: &mut Faults) {
    let is_name = |name: &str| {
        !name.is_empty()
            && name.len() <= 100
            && name.bytes().all(|letter| letter.is_ascii_alphanumeric() || b"-_.".contains(&letter))
    };
    let is_credit = event.category_code == category::ADJUSTMENT;
    if event.metrics.is_empty() || event.metrics.len() > ENTRIES_MAX {
        faults.add(format!("{prefix}metrics"), format!("must have 1 to {ENTRIES_MAX} entries"));
    }
    for (name, quantity) in &event.metrics {
        let field = || format!("{prefix}metrics.{name}");
        if !is_name(name) {
            faults.add(field(), "must be named by letters, digits, ., - and _");
        } else if !quantity.is_finite() || quantity.abs() > QUANTITY_MAX {
            faults.add(field(), "must be a number up to 2^53");
        } else if *quantity < 0.0 && !is_credit {
            faults.add(field(), "must not be negative");
        }
    }
    if event.dimensions.len() > ENTRIES_MAX {
        faults.add(format!("{prefix}dimensions"), format!("must have at most {ENTRIES_MAX} entries"));
    }
    for (name, value) in &event.dimensions {
        if !is_name(name) || value.is_empty() || value.chars().count() > 200 {
            faults.add(format!("{prefix}dimensions.{name}"), "must be a name with 1 to 200 characters");
        }
    }
    if event.event_id.as_deref().is_some_and(|id| id.is_empty() || id.contains('|')) {
        faults.add(format!("{prefix}eventId"), "must not be empty or hold a bar");
    }
}

/// `POST /api/usage/events`.
pub(crate) fn report(report: Report) -> Result<Accepted<Reported>> {
    let principal = auth::principal();
    if !access::is_admin() {
        let own = principal.user_id.as_deref();
        let is_foreign = |event: &NewEvent| event.user_id.as_deref().is_some_and(|user_id| Some(user_id) != own);
        // Another service reports for whoever it acts for, and that is the caller.
        if report.events.iter().any(is_foreign) {
            return Err(Problem::forbidden("Only administrators report the usage of others."));
        }
        if report.events.iter().any(|event| event.category_code == category::ADJUSTMENT) {
            return Err(Problem::forbidden("Credits are for administrators."));
        }
    }
    let source = principal.source_service.clone().unwrap_or_else(|| "api".into());
    let outcome = ingest::run(report.events, &source, report.enforce)?;
    if report.is_single
        && outcome.reported.accepted == 0
        && let Some(rejection) = outcome.reported.rejected.first()
    {
        match rejection.code.as_str() {
            ingest::TOO_LATE => return Err(Problem::unprocessable(rejection.message.clone())),
            ingest::OVER_LIMIT => return Err(over_limit(&outcome)),
            _ => {}
        }
    }
    Ok(Accepted(outcome.reported))
}

/// 429 `QUOTA_EXCEEDED` with the moment from which there is room again.
fn over_limit(outcome: &ingest::Outcome) -> Problem {
    let now = clock::now();
    let reset = outcome.reset_at.unwrap_or(now);
    let seconds = reset.since(now).as_secs().max(1);
    Problem::new(429, "QUOTA_EXCEEDED", "Quota exceeded", "A hard limit is reached.")
        .with("resetAt", reset.to_string())
        .with("retryAfter", seconds)
        .with_header("retry-after", seconds.to_string())
}

/// `GET /api/usage/events`, `?from&to` and the fields.
pub(crate) fn list(query: PageQuery) -> Result<JsonText<Page<Stored<UsageEvent>>>> {
    let mut select = Select::new();
    for (name, sql) in [("from", "\"occurred_at\" >= ?"), ("to", "\"occurred_at\" < ?")] {
        if let Some(text) = query.filter(name) {
            select = select.condition(sql, [moment(name, &text)?]);
        }
    }
    select.page(&Pool, &query)
}

/// A time in a query.
pub(crate) fn moment(name: &str, text: &str) -> Result<Timestamp> {
    Timestamp::parse(text).ok_or_else(|| Problem::field(name, "must be a time such as 2026-01-31T08:15:00.000Z"))
}

/// `GET /api/usage/events/{id}`.
pub(crate) fn read_one(Params(id): Params<Id>) -> Result<Stored<UsageEvent>> {
    entity::read(&Pool, &id)
}

/// The numbers of an object.
pub(crate) fn numbers(data: &Map<String, Value>, names: &[&str]) -> BTreeMap<String, f64> {
    let number = |name: &&str| {
        let number = data.get(*name)?.as_f64().filter(|number| number.is_finite() && *number >= 0.0)?;
        Some(((*name).to_string(), number.min(QUANTITY_MAX)))
    };
    names.iter().filter_map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(body: Value) -> Result<Report> {
        Report::from_request(&mut Request::new("POST", "/api/usage/events").with_json(&body))
    }

    fn fields(body: Value) -> Vec<String> {
        match report(body) {
            Err(problem) => problem.errors.into_iter().map(|error| error.field).collect(),
            Ok(_) => Vec::new(),
        }
    }

    #[test]
    fn one_event_a_list_and_an_object_of_them_are_taken() {
        let event = json!({"categoryCode": "ai.completion", "metrics": {"count": 1}});
        assert!(report(event.clone()).unwrap().is_single);
        assert_eq!(report(json!([event, event])).unwrap().events.len(), 2);
        assert!(report(json!({"events": [event], "enforce": true})).unwrap().enforce);
        assert_eq!(report(json!([])).err().unwrap().status, 400);
        assert_eq!(report(json!(vec![event; 1_001])).err().unwrap().status, 400);
    }

    #[test]
    fn a_cloud_event_is_an_event() {
        let event = json!({"specversion": "1.0", "id": "c1", "source": "my-app", "type": "ai.completion", "subject": "u1",
            "time": "2026-01-31T08:15:00Z", "data": {"totalTokens": 12, "model": "large", "nested": {"x": 1}, "none": null}});
        let read = report(event).unwrap().events.remove(0);
        assert_eq!((read.event_id.as_deref(), read.source_module.as_deref()), (Some("c1"), Some("my-app")));
        assert_eq!((read.category_code.as_str(), read.user_id.as_deref()), ("ai.completion", Some("u1")));
        assert_eq!(read.metrics, [("count".to_string(), 1.0), ("totalTokens".to_string(), 12.0)].into());
        assert_eq!(read.dimensions, [("model".to_string(), "large".to_string())].into());
        assert_eq!(read.occurred_at, Timestamp::parse("2026-01-31T08:15:00Z"));
        let faulty = json!({"specversion": "1.0", "id": "c1", "source": "a", "type": "ai.completion", "subject": "a b",
            "data": {"totalTokens": -1}});
        assert_eq!(fields(faulty), ["metrics.totalTokens"]);
    }

    #[test]
    fn every_faulty_field_is_named() {
        let event = |metrics: Value| json!({"categoryCode": "ai.completion", "metrics": metrics});
        assert_eq!(fields(event(json!({"count": -1}))), ["metrics.count"]);
        assert_eq!(fields(json!({"categoryCode": "adjustment", "metrics": {"amountMicro": -1}})), [] as [&str; 0]);
        assert_eq!(fields(event(json!({"a b": 1}))), ["metrics.a b"]);
        assert_eq!(fields(event(json!({}))), ["metrics"]);
        assert_eq!(fields(event(json!({"count": "NaN"}))), ["metrics.count"]);
        assert_eq!(
            fields(json!([event(json!({"count": 1})), event(json!({"count": 1e300}))])),
            ["events[1].metrics.count"]
        );
        assert_eq!(fields(json!({"metrics": {"count": 1}})), ["categoryCode"]);
    }
}
