//! What follows an incident: its postmortem and the action items.

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use super::Incident;
use crate::task::Priority;

/// What was learned.
#[entity(table = "project_postmortems")]
pub(crate) struct Postmortem {
    #[field(immutable, parent = Incident)]
    pub incident_id: Id,
    #[field(min = 1)]
    pub summary: String,
    #[field(default, max = 100)]
    pub root_causes: Vec<String>,
    #[field(default)]
    pub impact: String,
    #[field(default, max = 100)]
    pub lessons: Vec<String>,
    /// One question and its answer after the other; texts or `{question, answer}`.
    #[field(default, max = 20)]
    pub five_whys: Vec<Value>,
}

impl Rules for Postmortem {}

/// Something to be done so that it does not happen again.
#[entity(table = "project_action_items", sort = "createdAt")]
pub(crate) struct ActionItem {
    #[field(immutable, parent = Incident)]
    pub incident_id: Id,
    #[field(min = 1, max = 200, plain)]
    pub title: String,
    pub assigned_to: Option<Id>,
    #[field(default = ActionStatus::Open)]
    pub status: ActionStatus,
    #[field(default = Priority::Medium)]
    pub priority: Priority,
    pub due_date: Option<Timestamp>,
}

/// Where an action item stands.
#[choice]
pub(crate) enum ActionStatus {
    Open,
    InProgress,
    Completed,
    Cancelled,
}

impl Rules for ActionItem {
    fn before_create(&mut self, transaction: &Transaction) -> Result<()> {
        may_change(transaction, &self.incident_id)
    }

    fn before_update(&mut self, old: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        may_change(transaction, &old.incident_id)
    }

    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        may_change(transaction, &row.incident_id)
    }
}

fn may_change(database: &dyn Executor, incident_id: &Id) -> Result<()> {
    entity::read::<Incident>(database, incident_id)?.require_edit(database)
}

fn find(database: &dyn Executor, incident_id: &Id) -> Result<Option<Stored<Postmortem>>> {
    Select::new().equal("incident_id", incident_id).first(database)
}

/// 409 without a postmortem.
pub(super) fn require_postmortem(database: &dyn Executor, incident_id: &Id) -> Result<()> {
    match find(database, incident_id)? {
        Some(_) => Ok(()),
        None => {
            let problem = Problem::conflict("An incident this severe closes only with a postmortem.");
            Err(problem.with_code("POSTMORTEM_REQUIRED"))
        }
    }
}

/// `GET /api/incidents/{id}/postmortem`.
pub(super) fn read(Params(id): Params<Id>) -> Result<Stored<Postmortem>> {
    let incident = entity::read::<Incident>(&Pool, &id)?;
    find(&Pool, &incident.id)?.ok_or_else(|| Problem::missing("postmortem"))
}

/// The body of `PUT /api/incidents/{id}/postmortem`.
#[data]
pub(crate) struct Draft {
    /// Needed when it is written for the first time.
    summary: Option<String>,
    root_causes: Option<Vec<String>>,
    impact: Option<String>,
    lessons: Option<Vec<String>>,
    five_whys: Option<Vec<Value>>,
}

/// `PUT /api/incidents/{id}/postmortem`: writes it, or changes what is named.
pub(super) fn write(Params(id): Params<Id>, if_match: IfMatch, Json(draft): Json<Draft>) -> Result<Stored<Postmortem>> {
    let mut fields: Map<String, Value> = json!(draft).as_object().cloned().unwrap_or_default();
    fields.retain(|_, value| !value.is_null());
    database::transaction(|transaction| {
        let incident = entity::read::<Incident>(transaction, &id)?;
        incident.require_edit(transaction)?;
        match find(transaction, &incident.id)? {
            Some(known) => entity::update(transaction, &known.id, &fields, if_match),
            None => {
                fields.insert("incidentId".into(), incident.id.as_str().into());
                entity::create_from(transaction, fields)
            }
        }
    })
}
