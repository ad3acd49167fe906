//! When an environment may be changed. The rules are kept here for each project and environment; planning's own count too.

use berth_sdk::{
    http_out,
    prelude::*,
    serde_json::{self, Map, Value},
};
use time_rules::TimeRules;

use crate::{
    MANAGE,
    event::Event,
    recurrence::{OCCURRENCES_MAX, Span},
};

const PATH: &str = "/api/calendar/time-rules";
/// How long planning may take to say what an environment is.
const ASKED: std::time::Duration = std::time::Duration::from_secs(5);
/// How fine a whole event is looked at.
const STEP_MILLIS: i64 = 5 * 60 * 1_000;
/// Occurrences of a series that are looked at, and how far ahead.
const JUDGED_MAX: usize = 200;
const JUDGED_DAYS: u64 = 366;
/// Windows that are tried for a suggestion.
const TRIES_MAX: usize = 200;

/// The rules of an environment.
#[entity(table = "calendar_time_rules", name = "time rule", sort = "environment")]
pub struct TimeRule {
    /// The project.
    #[field(immutable)]
    pub project_id: Id,
    /// The environment's name, such as `production`.
    #[field(immutable, min = 1, max = 100, plain, filter)]
    pub environment: String,
    /// `09:00-17:00`; `22:00-06:00` goes over midnight. None: every hour.
    #[field(default, max = 48)]
    pub allowed_hours: Vec<String>,
    /// `saturday`, or a date such as `2026-12-24`.
    #[field(default, max = 400)]
    pub blocked_days: Vec<String>,
    /// A name of the IANA database.
    #[field(default = "UTC", max = 64, format = "timezone")]
    pub timezone: String,
}

impl Rules for TimeRule {
    fn check(&self, faults: &mut Faults) {
        let mut found = Faults::default();
        self.rules().faults("r", &mut found);
        for error in found.errors() {
            faults.add(error.field.trim_start_matches("r.").to_string(), error.message.clone());
        }
    }
}

impl TimeRule {
    fn rules(&self) -> TimeRules {
        TimeRules {
            allowed_hours: self.allowed_hours.clone(),
            blocked_days: self.blocked_days.clone(),
            timezone: self.timezone.clone(),
        }
    }
}

/// The routes of time rules.
pub fn routes() -> Router {
    Router::new()
        .get(PATH, list)
        .summary("List the time rules of environments.")
        .put(PATH, replace)
        .summary("Set the time rules of an environment.")
        .permission(MANAGE)
}

/// `GET /api/calendar/time-rules`: of the projects that the caller sees. Planning sees every rule: it asks before each
/// deployment, in the name of whoever deploys, and a rule that it is not told of keeps nobody from deploying.
fn list(query: PageQuery) -> Result<JsonText<Page<Stored<TimeRule>>>> {
    let mut query = query;
    for (name, value) in &mut query.pairs {
        if name == "environment" {
            *value = value.to_lowercase();
        }
    }
    let select = Select::<TimeRule>::new();
    if is_planning() {
        return select.page(&Pool, &query);
    }
    for (name, value) in &query.pairs {
        // One that is newer than what is remembered is asked for anew.
        if let ("projectId", Ok(id)) = (name.as_str(), Id::parse(value))
            && let Err(problem) = people::scope::require(&id)
            && problem.status >= 500
        {
            return Err(problem);
        }
    }
    match people::scope::within("project_id") {
        Some(within) => select.meets(within).page(&Pool, &query),
        None => select.page(&Pool, &query),
    }
}

/// Whether planning itself calls, which the host vouches for.
fn is_planning() -> bool {
    auth::principal().source_service.as_deref() == Some("planning")
}

/// `PUT /api/calendar/time-rules`: by project and environment; 404 for a project that the caller does not see.
fn replace(if_match: IfMatch, Json(mut rule): Json<TimeRule>) -> Result<Stored<TimeRule>> {
    people::scope::require(&rule.project_id)?;
    rule.environment = rule.environment.trim().to_lowercase();
    database::transaction(|transaction| {
        let known = Select::<TimeRule>::new()
            .equal("project_id", &rule.project_id)
            .equal("environment", rule.environment.as_str())
            .first(transaction)?;
        match known {
            None => entity::create(transaction, rule),
            Some(known) => {
                let Ok(Value::Object(patch)) = serde_json::to_value(&rule) else { return Err(Problem::internal()) };
                entity::update(transaction, &known.id, &patch, if_match)
            }
        }
    })
}

/// What planning says of an environment.
#[derive(Clone, Debug)]
pub struct Known {
    name: Option<String>,
    project_id: Option<String>,
    rules: Option<TimeRules>,
}

impl Known {
    fn of(found: &Value) -> Self {
        let text = |name: &str| found.get(name).and_then(Value::as_str).map(ToString::to_string);
        let rules = found.pointer("/config/timeRules").cloned();
        let rules = rules.and_then(|rules| serde_json::from_value(rules).ok());
        Self { name: text("name"), project_id: text("projectId"), rules }
    }

    /// Fills in what the event does not say itself.
    pub fn complete(&self, fields: &mut Map<String, Value>) {
        for (name, value) in [("environmentName", &self.name), ("projectId", &self.project_id)] {
            let is_open = fields.get(name).is_none_or(Value::is_null);
            if let (true, Some(value)) = (is_open, value) {
                fields.insert(name.into(), value.as_str().into());
            }
        }
    }
}

/// Asks planning for the environment that an event names, by its id or by project and name, or of a change that does not name
/// one, that the event has already: 400 when there is none of this id. While planning is away only the rules that are kept here
/// count.
pub fn ask(fields: &Map<String, Value>, before: Option<&Event>) -> Result<Option<Known>> {
    let named = |name: &str, had: Option<&str>| match fields.get(name) {
        Some(named) => named.as_str().map(ToString::to_string),
        None => had.map(ToString::to_string),
    };
    let had = before.map(concerns);
    let Some(id) = named("environmentId", had.and_then(|had| had.1).map(Id::as_str)) else {
        let project_id = named("projectId", had.and_then(|had| had.0).map(Id::as_str));
        let name = named("environmentName", had.and_then(|had| had.2));
        return Ok(project_id.zip(name).and_then(|(project_id, name)| of_project(&project_id, &name)));
    };
    let id = Id::parse(&id).map_err(|_| Problem::field("environmentId", "must be an id"))?;
    let call = http_out::plugin("planning").get(&format!("/api/environments/{id}")).timeout(ASKED);
    match call.fetch::<Value>() {
        Ok(found) => Ok(Some(Known::of(&found))),
        // One that is gone, or that the caller does not see, has no rules that could be told them.
        Err(problem) if problem.status == 404 && !fields.contains_key("environmentId") => Ok(None),
        Err(problem) if problem.status == 404 => Err(Problem::field("environmentId", "names no environment")),
        Err(problem) => {
            logging::warn!("planning does not say what an environment is", problem = problem);
            Ok(None)
        }
    }
}

/// The environment of this name, where the project has one that the caller sees.
pub fn of_project(project_id: &str, name: &str) -> Option<Known> {
    let call = http_out::plugin("planning").get("/api/environments").timeout(ASKED);
    let call = call.query("projectId", project_id).query("name", &name.to_lowercase()).query("limit", "1");
    match call.fetch::<Value>() {
        Ok(found) => found.pointer("/items/0").map(Known::of),
        // Planning knows a few names alone.
        Err(problem) if problem.status < 500 => None,
        Err(problem) => {
            logging::warn!("planning does not say what an environment is", problem = problem);
            None
        }
    }
}

/// 422 with `suggestedTime` when an event breaks the rules of its environment, or its own.
pub fn require(database: &dyn Executor, event: &Event, known: Option<&Known>) -> Result<()> {
    let rules = rules_of(database, event, known)?;
    let Some((broken, suggested)) = judge(event, &rules) else { return Ok(()) };
    let place = event.environment_name.as_deref().unwrap_or("The event");
    let detail = match suggested {
        Some(time) => format!("{place} may not be used at {}; the next time is {time}.", broken.start),
        None => format!("{place} may not be used at {}, and no time is in sight.", broken.start),
    };
    let problem = Problem::unprocessable(detail).with_code("TIME_RULE_VIOLATION");
    Err(problem.with("suggestedTime", json!(suggested)).with("occurrence", json!(broken.start)))
}

/// What decides which rules concern an event.
pub fn concerns(event: &Event) -> (Option<&Id>, Option<&Id>, Option<&str>, Option<&TimeRules>) {
    let name = event.environment_name.as_deref();
    (event.project_id.as_ref(), event.environment_id.as_ref(), name, event.time_rules.as_ref())
}

/// The rules that concern an event.
pub fn rules_of(database: &dyn Executor, event: &Event, known: Option<&Known>) -> Result<Vec<TimeRules>> {
    let mut rules: Vec<TimeRules> = event.time_rules.clone().into_iter().collect();
    rules.extend(known.and_then(|known| known.rules.clone()));
    if let (Some(project_id), Some(name)) = (&event.project_id, &event.environment_name) {
        let name = name.to_lowercase();
        let kept =
            Select::<TimeRule>::new().equal("project_id", project_id).equal("environment", name).all(database)?;
        rules.extend(kept.iter().map(|row| row.rules()));
    }
    rules.retain(|rules| !rules.is_empty());
    Ok(rules)
}

/// The first occurrence that breaks a rule, and when it might begin instead.
fn judge(event: &Event, rules: &[TimeRules]) -> Option<(Span, Option<Timestamp>)> {
    if rules.is_empty() {
        return None;
    }
    let whole = Span { start: event.start_time, end: event.end_time };
    let spans = if event.is_recurring {
        let to = event.start_time.plus(std::time::Duration::from_secs(JUDGED_DAYS * 24 * 3_600));
        event.series().between(event.start_time, to, OCCURRENCES_MAX.min(JUDGED_MAX)).occurrences
    } else {
        vec![whole]
    };
    let broken = spans.into_iter().find(|span| !fits(*span, rules))?;
    Some((broken, suggest(broken, rules)))
}

/// Whether all of it is allowed.
fn fits(span: Span, rules: &[TimeRules]) -> bool {
    first_refused(span, rules).is_none()
}

fn first_refused(span: Span, rules: &[TimeRules]) -> Option<Timestamp> {
    let last = span.end.millis() - 1;
    let mut at = span.start.millis();
    loop {
        let moment = Timestamp::from_millis(at.min(last.max(span.start.millis())));
        if rules.iter().any(|rules| !rules.allows(moment)) {
            return Some(moment);
        }
        if at >= last {
            return None;
        }
        at += STEP_MILLIS;
    }
}

/// The next beginning at which all of it is allowed; none when the windows are too short or never come.
pub fn suggest(span: Span, rules: &[TimeRules]) -> Option<Timestamp> {
    let length = span.end.since(span.start);
    let mut from = span.start;
    for _ in 0..TRIES_MAX {
        let start = time_rules::next_window(rules, from)?;
        match first_refused(Span { start, end: start.plus(length) }, rules) {
            None => return Some(start),
            Some(refused) => from = refused,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    fn office() -> Vec<TimeRules> {
        let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        vec![TimeRules {
            allowed_hours: texts(&["09:00-17:00"]),
            blocked_days: texts(&["saturday", "sunday"]),
            timezone: "Europe/Berlin".into(),
        }]
    }

    #[test]
    fn the_whole_event_has_to_fit() {
        let span = |start, end| Span { start: at(start), end: at(end) };
        assert!(fits(span("2026-11-20T08:00:00Z", "2026-11-20T16:00:00Z"), &office()));
        let late = span("2026-11-20T15:30:00Z", "2026-11-20T16:30:00Z");
        assert!(!fits(late, &office()));
        assert_eq!(suggest(late, &office()), Some(at("2026-11-23T08:00:00Z")), "Friday evening becomes Monday morning");
        let endless = span("2026-11-20T08:00:00Z", "2026-11-20T17:00:00Z");
        assert_eq!(suggest(endless, &office()), None, "nine hours never fit into eight");
    }

    #[test]
    fn planning_alone_is_told_every_rule() {
        let is_told = |service: Option<&str>| {
            berth_sdk::testing::sign_in("u1", "o1");
            let source_service = service.map(ToString::to_string);
            berth_sdk::testing::become_principal(auth::Principal { source_service, ..auth::principal() });
            is_planning()
        };
        assert!(is_told(Some("planning")));
        assert!(!is_told(Some("workflow")) && !is_told(Some("mcp-server")) && !is_told(None));
    }

    proptest! {
        #[test]
        fn a_suggestion_is_allowed_and_not_earlier(offset in 0_i64..(14 * 24 * 12), steps in 1_i64..90) {
            let start = Timestamp::from_millis(at("2026-11-16T00:00:00Z").millis() + offset * STEP_MILLIS);
            let span = Span { start, end: Timestamp::from_millis(start.millis() + steps * STEP_MILLIS) };
            let found = suggest(span, &office()).unwrap();
            prop_assert!(found >= start);
            let moved = Span { start: found, end: found.plus(span.end.since(span.start)) };
            prop_assert!(fits(moved, &office()));
            prop_assert!(fits(span, &office()) == (found == start));
        }
    }
}
