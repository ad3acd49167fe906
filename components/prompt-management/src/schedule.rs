//! Schedules: prompts that run by themselves.

pub mod cron;
pub mod run;

use std::time::Duration;

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use crate::prompt::{self, Prompt};

const PATH: &str = "/api/prompts/schedules";

/// A prompt that runs by itself.
#[entity(table = "prompt_schedules", name = "schedule", sort = "name")]
pub struct Schedule {
    /// The prompt.
    #[field(immutable, parent = Prompt)]
    pub prompt_id: Id,
    /// For people.
    #[field(min = 1, max = 200, plain)]
    pub name: String,
    /// Five fields: minute, hour, day, month, weekday.
    #[field(min = 1, max = 100, format = "cron")]
    pub cron: String,
    /// IANA name: whose wall clock the fields mean.
    #[field(default = "UTC", min = 1, max = 64, format = "timezone")]
    pub timezone: String,
    /// The values the prompt is filled with.
    #[field(default)]
    pub variables: Map<String, Value>,
    /// Instead of the preferred one.
    #[field(min = 1, max = 200)]
    pub model: Option<String>,
    /// What the answer is for; passed on with the run's event.
    #[field(default)]
    pub target: Map<String, Value>,
    /// Whether it runs.
    #[field(default = true)]
    pub is_active: bool,
    /// When it runs next.
    #[field(readonly)]
    pub next_run_at: Option<Timestamp>,
    /// When it last ran.
    #[field(readonly)]
    pub last_run_at: Option<Timestamp>,
    /// How that went.
    #[field(readonly)]
    pub last_status: Option<String>,
    /// Failures since it last went well.
    #[field(readonly, default = 0)]
    pub consecutive_failures: i64,
}

impl Rules for Schedule {
    fn scope() -> Option<Condition> {
        prompt::reach_of_prompt()
    }

    fn before_transaction(_: &Map<String, Value>) -> Result<()> {
        people::project::seen();
        Ok(())
    }

    fn before_create(&mut self, _: &Transaction) -> Result<()> {
        self.consecutive_failures = 0;
        self.plan()
    }

    fn before_update(&mut self, old: &Stored<Self>, _: &Transaction) -> Result<()> {
        let is_moved = self.cron != old.cron || self.timezone != old.timezone || self.is_active != old.is_active;
        if self.is_active && !old.is_active {
            self.consecutive_failures = 0;
        }
        if is_moved { self.plan() } else { Ok(()) }
    }
}

impl Schedule {
    /// Judges the expression and sets the next run: 422 for one that makes no sense or comes too often.
    fn plan(&mut self) -> Result<()> {
        self.next_run_at = Some(cron::next(&self.cron, &self.timezone, clock::now())?);
        Ok(())
    }
}

/// The routes of schedules.
pub fn routes() -> Router {
    let row = format!("{PATH}/{{id}}");
    Router::new()
        .entity::<Schedule>(PATH)
        .post(PATH, create)
        .summary("Create a schedule.")
        .makes::<Schedule>()
        .answers::<Stored<Schedule>>(201)
        .post(&format!("{row}/run-now"), run_now)
        .summary("Run once at once.")
        .post(&format!("{row}/pause"), pause)
        .summary("Pause a schedule.")
        .post(&format!("{row}/resume"), resume)
        .summary("Resume a schedule, which forgets its failures.")
}

/// `POST /api/prompts/schedules`: the prompt by its id or name.
fn create(Json(mut fields): Json<Map<String, Value>>) -> Result<Response> {
    if let Some(id) = fields.get("promptId").and_then(Value::as_str) {
        let prompt = prompt::named(&Pool, id)?;
        fields.insert("promptId".into(), json!(prompt.id));
    }
    let row = prompt::transaction(|transaction| entity::create_from::<Schedule>(transaction, fields))?;
    Ok(Response::json(201, &row)?.with_version(row.version))
}

/// What was begun.
#[data]
struct Begun {
    schedule_id: Id,
    /// The run's key; its execution carries the schedule's id.
    run_key: String,
}

fn run_now(Params(id): Params<Id>) -> Result<Accepted<Begun>> {
    prompt::transaction(|transaction| {
        let row = entity::read::<Schedule>(transaction, &id)?;
        let run_key = format!("{}:now:{}", row.id, Id::new());
        let work = json!({ "scheduleId": row.id, "runKey": run_key, "isManual": true });
        transaction.enqueue(run::RUN, &work, Duration::ZERO)?;
        Ok(Accepted(Begun { schedule_id: row.id.clone(), run_key }))
    })
}

fn pause(Params(id): Params<Id>, if_match: IfMatch) -> Result<Stored<Schedule>> {
    set_active(&id, if_match, false)
}

fn resume(Params(id): Params<Id>, if_match: IfMatch) -> Result<Stored<Schedule>> {
    set_active(&id, if_match, true)
}

fn set_active(id: &Id, if_match: IfMatch, is_active: bool) -> Result<Stored<Schedule>> {
    prompt::transaction(|transaction| {
        let mut row = entity::read::<Schedule>(transaction, id)?;
        if_match.check(row.version)?;
        row.is_active = is_active;
        if is_active {
            row.consecutive_failures = 0;
            row.data.plan()?;
        }
        entity::save(transaction, &mut row)?;
        Ok(row)
    })
}
