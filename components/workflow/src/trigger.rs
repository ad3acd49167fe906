//! Triggers: what starts a workflow by itself. Events are compared with an index of the active triggers, which is cached for
//! half a minute and forgotten when a workflow changes.

use std::time::Duration;

use berth_sdk::{cache, events::Message, prelude::*, serde_json::Value, validate::FieldError};

use crate::{
    audience::{self, Audience, Circle},
    behalf,
    condition::Condition,
    expression::{self, Path},
    guard, resume,
    run_row::{RunRow, TriggerType},
    schedule, sight,
    start::{self, Order, Started},
    workflow::{Workflow, WorkflowStatus},
};

/// The work message that brings an event of a workflow to the triggers of others.
pub const OWN_EVENT: &str = "workflow.event";
/// Where the index lies in the cache.
const CACHE_KEY: &str = "triggers";
/// For how long.
const CACHED: Duration = Duration::from_secs(30);
/// Event triggers of one organization that are looked at.
const TRIGGERS_MAX: i64 = 1_000;
/// The longest event type or pattern.
const PATTERN_MAX: usize = 200;

/// Names for types.
const PRESETS: [(&str, &str); 5] = [
    ("plan_validated", "planning.plan.validated"),
    ("incident_declared", "incident.created"),
    ("code_committed", "custom.code.committed"),
    ("test_failed", "custom.test.failed"),
    ("deployment_started", "custom.deployment.started"),
];

/// What an author needs for triggers by events that tell of people, and whoever sees the runs that these start.
pub const MANAGE: &str = "workflows.workflow.manage";

/// What starts a workflow.
#[data]
pub struct Trigger {
    /// Which kind.
    #[field(default = TriggerType::Manual)]
    pub r#type: TriggerType,
    /// For `event`: a type, or a pattern such as `incident.*`.
    #[field(max = 200)]
    pub event_type: Option<String>,
    /// For `event`: a name for a type.
    #[field(max = 100)]
    pub preset: Option<String>,
    /// For `event` and `webhook`: conditions that must all hold.
    #[field(default, max = 20)]
    pub conditions: Vec<Condition>,
    /// For `event` and `webhook`: an expression that must hold as well.
    #[field(max = 2_000, raw)]
    pub filter: Option<String>,
    /// For `schedule`: minute, hour, day, month, weekday.
    #[field(max = 100, format = "cron")]
    pub cron: Option<String>,
    /// For `schedule`: the IANA name of a time zone; UTC when absent.
    #[field(max = 64, format = "timezone")]
    pub timezone: Option<String>,
}

impl Default for Trigger {
    fn default() -> Self {
        Self {
            r#type: TriggerType::Manual,
            event_type: None,
            preset: None,
            conditions: Vec::new(),
            filter: None,
            cron: None,
            timezone: None,
        }
    }
}

impl Trigger {
    /// The type or pattern of events that start it.
    pub fn pattern(&self) -> Option<String> {
        if self.r#type != TriggerType::Event {
            return None;
        }
        if let Some(pattern) = self.event_type.as_ref().filter(|pattern| !pattern.is_empty()) {
            return Some(pattern.clone());
        }
        let preset = self.preset.as_deref()?;
        PRESETS.iter().find(|(name, _)| *name == preset).map(|(_, kind)| (*kind).to_string())
    }

    /// Whether the events that it waits for are not for everybody to see.
    pub fn is_confidential(&self) -> bool {
        self.pattern().is_some_and(|pattern| audience::is_confidential(&pattern))
    }

    /// Whether what came is what it waits for.
    pub fn holds(&self, payload: &Value) -> bool {
        let scope = json!({ "trigger": payload });
        let filter = self.filter.as_deref().filter(|text| !text.is_empty()).map(expression::parse);
        self.conditions.iter().all(|condition| condition.holds(&scope))
            && filter.is_none_or(|read| read.is_ok_and(|expression| expression.holds(&scope)))
    }
}

fn is_pattern(text: &str) -> bool {
    let is_word = |word: &str| {
        matches!(word, "*" | "#")
            || !word.is_empty()
                && word
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-'))
    };
    let mut words = text.split('.');
    // Everything at once is nothing that anybody wants to react to.
    let begins = words.next().is_some_and(|word| is_word(word) && !matches!(word, "*" | "#"));
    text.len() <= PATTERN_MAX && begins && words.all(is_word)
}

/// What is wrong with a trigger.
pub fn faults(trigger: &Trigger) -> Vec<FieldError> {
    let mut faults = Vec::new();
    let mut add = |field: &str, message: String| faults.push(FieldError::new(format!("trigger.{field}"), message));
    match trigger.r#type {
        TriggerType::Event => match trigger.pattern() {
            None if trigger.preset.is_some() => {
                let names: Vec<&str> = PRESETS.iter().map(|(name, _)| *name).collect();
                add("preset", format!("must be one of {}", names.join(", ")));
            }
            None => add("eventType", "is required for an event trigger".into()),
            Some(pattern) if !is_pattern(&pattern) => {
                add("eventType", "must be a dotted type in lower case, such as incident.created or incident.*".into());
            }
            Some(_) => {}
        },
        TriggerType::Schedule => match &trigger.cron {
            None => add("cron", "is required for a schedule".into()),
            Some(cron) => {
                if let Err(problem) = schedule::next(cron, trigger.timezone.as_deref(), clock::now()) {
                    let field = problem.errors.first().map_or("cron", |error| error.field.as_str()).to_string();
                    add(&field, problem.errors.first().map_or(problem.detail.clone(), |error| error.message.clone()));
                }
            }
        },
        TriggerType::Manual | TriggerType::Webhook => {}
    }
    let mut look = |field: &str, path: &Path| {
        if path.name(0) != Some("trigger") {
            add(field, format!("{path}: only trigger is known here"));
        }
    };
    let mut wrong = Vec::new();
    for (number, condition) in trigger.conditions.iter().enumerate() {
        let field = format!("conditions[{number}]");
        match condition.path() {
            Ok(path) => look(&field, &path),
            Err(message) => wrong.push((field, message)),
        }
    }
    match trigger.filter.as_deref().filter(|text| !text.is_empty()).map(expression::parse) {
        Some(Ok(expression)) => expression.paths().into_iter().for_each(|path| look("filter", path)),
        Some(Err(message)) => wrong.push(("filter".into(), message)),
        None => {}
    }
    faults.extend(wrong.into_iter().map(|(field, message)| FieldError::new(format!("trigger.{field}"), message)));
    faults
}

/// One active event trigger.
#[data]
pub struct Entry {
    workflow_id: Id,
    pattern: String,
    trigger: Trigger,
}

/// Nothing is started by what is no trigger any more.
pub fn forget(transaction: &Transaction) {
    transaction.forget(CACHE_KEY);
}

fn index(database: &dyn Executor) -> Result<Vec<Entry>> {
    #[data]
    struct Active {
        id: Id,
        trigger: Trigger,
    }
    // Every one of the organization, whoever calls at this moment: what they may know is judged when a run is to start.
    let sql = format!(
        "SELECT id AS \"id\", \"trigger\" AS \"trigger\" FROM workflow_workflows WHERE organization_id = $1 \
         AND status = $2 AND trigger_type = $3 ORDER BY created_at LIMIT {TRIGGERS_MAX}"
    );
    cache::remember(CACHE_KEY, CACHED, || {
        let values = params![auth::organization_id()?, WorkflowStatus::Active, TriggerType::Event];
        let rows: Vec<Active> = database::query_as(database, &sql, values)?;
        let entry = |Active { id, trigger }| {
            let pattern = trigger.pattern()?;
            Some(Entry { workflow_id: id, pattern, trigger })
        };
        Ok(rows.into_iter().filter_map(entry).collect())
    })
}

/// What a run knows of the event that started it.
#[data]
pub struct Incoming {
    /// The event.
    pub id: String,
    /// Its type.
    pub r#type: String,
    /// When it was published.
    pub timestamp: String,
    /// Who published it.
    pub source: String,
    /// Who caused it.
    pub user_id: Option<String>,
    /// Its payload.
    pub data: Value,
}

/// Handles every event: it may end a step that waits for it, and it may start workflows.
pub fn consume(envelope: &Envelope) -> Result<()> {
    if envelope.organization_id.is_none() {
        return Ok(());
    }
    resume::consume(envelope)?;
    let index = index(&Pool)?;
    if index.is_empty() {
        return Ok(());
    }
    let incoming = Incoming {
        id: envelope.id.clone(),
        r#type: envelope.message_type.clone(),
        timestamp: envelope.timestamp.clone(),
        source: envelope.source_service.clone(),
        user_id: envelope.user_id.clone(),
        data: envelope.data()?,
    };
    let mut cause = guard::by_message(envelope)?;
    let found: Vec<&Entry> = index.iter().filter(|entry| fits(entry, &incoming)).collect();
    if !found.is_empty() && cause.is_none() {
        cause = guard::by_thing(envelope, &incoming.data)?;
    }
    let told = Told {
        project_id: sight::project_of(&incoming.r#type, &incoming.data),
        circle: Circle::of(&incoming.r#type, &incoming.data, incoming.user_id.as_deref()),
    };
    start_all(&found, &incoming, &told, cause.as_ref(), envelope.correlation_id.as_deref())
}

/// To whom an event may be told.
struct Told {
    /// To who sees this project.
    project_id: Option<Id>,
    /// To these.
    circle: Option<Circle>,
}

fn fits(entry: &Entry, incoming: &Incoming) -> bool {
    events::matches(&entry.pattern, &incoming.r#type)
}

/// Starts what waits for an event. One that tells of a project is for whoever sees the project, and one that tells of
/// something private for those it is for: that is asked as the user for whom a workflow acts, and as a message acts for one
/// user only, each workflow gets a message of its own.
fn start_all(
    found: &[&Entry],
    incoming: &Incoming,
    told: &Told,
    cause: Option<&guard::Cause>,
    correlation_id: Option<&str>,
) -> Result<()> {
    let payload = json!(incoming);
    for entry in found.iter().filter(|entry| entry.trigger.holds(&payload)) {
        if !guard::allows(&entry.workflow_id, cause, correlation_id)? {
            logging::warn!(
                "a workflow would have triggered itself",
                workflow_id = entry.workflow_id,
                event = incoming.r#type
            );
            continue;
        }
        let message = StartMessage {
            workflow_id: entry.workflow_id.clone(),
            trigger_type: TriggerType::Event,
            payload: payload.clone(),
            trigger_key: format!("event-{}", incoming.id),
            run_id: None,
            project_id: told.project_id.clone(),
            circle: told.circle.clone(),
            depth: cause.map(|cause| cause.depth + 1),
            caused_by: cause.map(|cause| cause.run_id.clone()),
        };
        if told.project_id.is_none() && told.circle.is_none() {
            begin(message, None, correlation_id)?;
            continue;
        }
        match Message::new(schedule::RUN_START, &message) {
            Ok(message) => events::enqueue_message(&message).map(drop)?,
            Err(problem) => {
                logging::warn!("an event starts no run", workflow_id = entry.workflow_id, problem = problem);
            }
        }
    }
    Ok(())
}

/// What `workflow.event` carries.
#[data]
struct OwnEvent {
    run_id: Id,
    workflow_id: Id,
    /// Of the run: whatever it tells, it tells of this.
    project_id: Option<Id>,
    /// Of the run: it is for nobody else either.
    circle: Option<Circle>,
    depth: i64,
    event: Incoming,
}

/// Events of one's own do not come back by the exchange: where another workflow waits for one, it is brought there, together
/// with the run that caused it.
pub fn offer_own(transaction: &Transaction, run: &Stored<RunRow>, kind: &str, data: &Value) -> Result<()> {
    let is_wanted = index(transaction)?
        .iter()
        .any(|entry| entry.workflow_id != run.workflow_id && events::matches(&entry.pattern, kind));
    if !is_wanted {
        return Ok(());
    }
    let event = Incoming {
        id: Id::new().into_string(),
        r#type: kind.to_string(),
        timestamp: clock::now().to_string(),
        source: "workflow".into(),
        user_id: auth::principal().user_id,
        data: data.clone(),
    };
    let own = OwnEvent {
        run_id: run.id.clone(),
        workflow_id: run.workflow_id.clone(),
        project_id: run.project_id.clone(),
        circle: Circle::of_run(run),
        depth: run.depth,
        event,
    };
    transaction.enqueue(OWN_EVENT, &own, Duration::ZERO)?;
    Ok(())
}

/// Handles `workflow.event`.
pub fn consume_own(envelope: &Envelope) -> Result<()> {
    let own: OwnEvent = envelope.data()?;
    let cause = guard::Cause { run_id: own.run_id, workflow_id: own.workflow_id, depth: own.depth };
    let index = index(&Pool)?;
    let found: Vec<&Entry> = index.iter().filter(|entry| fits(entry, &own.event)).collect();
    let event = &own.event;
    let told = Told {
        project_id: own.project_id.or_else(|| sight::project_of(&event.r#type, &event.data)),
        circle: own.circle.or_else(|| Circle::of(&event.r#type, &event.data, event.user_id.as_deref())),
    };
    start_all(&found, event, &told, Some(&cause), envelope.correlation_id.as_deref())
}

/// What `workflow.run.start` carries.
#[data]
struct StartMessage {
    workflow_id: Id,
    trigger_type: TriggerType,
    payload: Value,
    trigger_key: String,
    run_id: Option<Id>,
    /// The project that it tells of.
    project_id: Option<Id>,
    /// Those it is for.
    circle: Option<Circle>,
    /// How many runs led to it, when any did.
    depth: Option<i64>,
    /// The last of them.
    caused_by: Option<Id>,
}

/// Handles `workflow.run.start`: a schedule, a call from outside, or an event that is not everybody's starts a run.
pub fn start_run(envelope: &Envelope) -> Result<()> {
    let message: StartMessage = envelope.data()?;
    let is_everybodys = message.project_id.is_none() && message.circle.is_none();
    let acts_for = if is_everybodys {
        None
    } else {
        behalf::who_may_know(&message.workflow_id, message.project_id.as_ref(), message.circle.as_ref())?
    };
    if acts_for.is_none() && !is_everybodys {
        logging::info!("an event starts no run for who may not know what it says", workflow_id = message.workflow_id);
        return Ok(());
    }
    begin(message, acts_for, envelope.correlation_id.as_deref())
}

fn begin(message: StartMessage, acts_for: Option<Id>, correlation_id: Option<&str>) -> Result<()> {
    let workflow_id = message.workflow_id.clone();
    let order = Order {
        workflow_id: message.workflow_id,
        project_id: message.project_id,
        audience: message.circle.map_or(Audience::Organization, |circle| circle.audience),
        trigger_type: message.trigger_type,
        payload: message.payload,
        trigger_key: Some(message.trigger_key),
        depth: message.depth.unwrap_or(0),
        caused_by: message.caused_by,
        correlation_id: correlation_id.map(ToString::to_string),
        parent: None,
        acts_for,
        run_id: message.run_id,
    };
    let started = database::transaction(|transaction| {
        if is_meant(transaction, &order)? { start::begin(transaction, order).map(Some) } else { Ok(None) }
    })?;
    if let Some(Started::Refused(problem)) = started {
        logging::info!("a trigger starts no run", workflow_id = workflow_id, problem = problem);
    }
    Ok(())
}

/// Whether a workflow still waits for an event: what the cache remembers may be off by now.
fn is_meant(transaction: &Transaction, order: &Order) -> Result<bool> {
    if order.trigger_type != TriggerType::Event {
        return Ok(true);
    }
    let kind = order.payload.get("type").and_then(Value::as_str).unwrap_or_default();
    let pattern = entity::find::<Workflow>(transaction, &order.workflow_id)?.and_then(|row| row.trigger.pattern());
    Ok(pattern.is_some_and(|pattern| events::matches(&pattern, kind)))
}

#[cfg(test)]
mod tests {
    use berth_sdk::{json, serde_json, serde_json::Value};

    use super::{Trigger, faults};

    fn trigger(value: Value) -> Trigger {
        serde_json::from_value(value).unwrap()
    }

    fn fields(value: Value) -> Vec<String> {
        faults(&trigger(value)).into_iter().map(|fault| fault.field).collect()
    }

    #[test]
    fn what_makes_no_trigger_is_named() {
        let none: [&str; 0] = [];
        assert_eq!(fields(json!({"type": "event", "preset": "plan_validated", "filter": "trigger.data.x == 1"})), none);
        assert_eq!(fields(json!({"type": "schedule", "cron": "* * * * *", "timezone": "Europe/Berlin"})), none);
        assert_eq!(fields(json!({"type": "event"})), ["trigger.eventType"]);
        assert_eq!(fields(json!({"type": "event", "eventType": "#"})), ["trigger.eventType"]);
        assert_eq!(fields(json!({"type": "event", "eventType": "A.b"})), ["trigger.eventType"]);
        assert_eq!(fields(json!({"type": "event", "preset": "x"})), ["trigger.preset"]);
        assert_eq!(fields(json!({"type": "schedule"})), ["trigger.cron"]);
        assert_eq!(fields(json!({"type": "schedule", "cron": "x"})), ["trigger.cron"]);
        assert_eq!(fields(json!({"type": "schedule", "cron": "* * * * *", "timezone": "Mars"})), ["trigger.timezone"]);
        let wrong = json!({"filter": "steps.a.output == 1", "conditions": [{"field": "x y", "operator": "=="}]});
        assert_eq!(fields(wrong), ["trigger.filter", "trigger.conditions[0]"]);
    }

    #[test]
    fn what_tells_of_people_is_not_for_every_author() {
        let is_confidential = |kind: &str| trigger(json!({"type": "event", "eventType": kind})).is_confidential();
        assert!(is_confidential("notification.created") && is_confidential("secret.#") && is_confidential("auth.*.*"));
        assert!(!is_confidential("incident.created") && !is_confidential("custom.notification"));
        assert!(!trigger(json!({"type": "webhook", "eventType": "user.registered"})).is_confidential());
    }

    #[test]
    fn a_preset_stands_for_a_type_and_conditions_narrow_it() {
        let fire =
            trigger(json!({"type": "event", "preset": "incident_declared", "filter": "trigger.data.severity > 2",
            "conditions": [{"field": "trigger.type", "operator": "==", "value": "incident.created"}]}));
        assert_eq!(fire.pattern().as_deref(), Some("incident.created"));
        assert!(fire.holds(&json!({"type": "incident.created", "data": {"severity": 3}})));
        assert!(!fire.holds(&json!({"type": "incident.created", "data": {"severity": 1}})));
        let types: Vec<String> = ["plan_validated", "code_committed", "test_failed", "deployment_started"]
            .iter()
            .filter_map(|preset| trigger(json!({"type": "event", "preset": preset})).pattern())
            .collect();
        let custom = ["custom.code.committed", "custom.test.failed", "custom.deployment.started"];
        assert_eq!(types, [&["planning.plan.validated"], &custom[..]].concat());
    }
}
