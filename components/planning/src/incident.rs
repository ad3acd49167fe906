//! Incidents: what is broken for people right now, what was done about it, and what was learned.

mod followup;
mod rules;

use berth_sdk::{events::Message, prelude::*, serde_json::Value};

use crate::project::{self, Project};
use followup::ActionItem;
use rules::{IncidentStatus, Severity};

/// The most entries of a timeline.
const TIMELINE_MAX: usize = 500;

/// An entry of a timeline.
#[data]
pub(crate) struct Entry {
    pub at: Timestamp,
    pub by: Option<Id>,
    /// `declared`, `comment`, `status` or `severity`.
    pub kind: String,
    pub text: String,
}

/// An incident.
#[entity(table = "project_incidents", created = "incident.created")]
pub(crate) struct Incident {
    #[field(immutable, parent = Project)]
    pub project_id: Option<Id>,
    #[field(min = 1, max = 200, plain)]
    pub title: String,
    pub description: Option<String>,
    #[field(default = Severity::Medium)]
    pub severity: Severity,
    #[field(default = IncidentStatus::Open)]
    pub status: IncidentStatus,
    #[field(default = clock::now())]
    pub declared_at: Timestamp,
    #[field(readonly)]
    pub resolved_at: Option<Timestamp>,
    #[field(readonly, default)]
    pub timeline: Vec<Entry>,
}

impl Rules for Incident {
    fn scope() -> Option<Condition> {
        Some(project::within_or_none("project_incidents"))
    }

    fn before_create(&mut self, transaction: &Transaction) -> Result<()> {
        self.require_edit(transaction)?;
        if !matches!(self.status, IncidentStatus::Open | IncidentStatus::Investigating) {
            return Err(Problem::unprocessable("A new incident is open or investigating."));
        }
        self.note("declared", format!("Declared with severity {}.", self.severity))
    }

    fn before_update(&mut self, old: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        self.require_edit(transaction)?;
        if self.severity != old.severity {
            self.note("severity", format!("{} → {}", old.severity, self.severity))?;
        }
        if self.status == old.status {
            return Ok(());
        }
        rules::require_move(old.status, self.status)?;
        if self.status == IncidentStatus::Closed && rules::needs_postmortem(self.severity) {
            followup::require_postmortem(transaction, &old.id)?;
        }
        self.resolved_at = match self.status {
            IncidentStatus::Resolved | IncidentStatus::Closed => old.resolved_at.or_else(|| Some(clock::now())),
            IncidentStatus::Open | IncidentStatus::Investigating => None,
        };
        self.note("status", format!("{} → {}", old.status, self.status))
    }

    fn after_update(old: &Stored<Self>, new: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        announce(transaction, "incident.updated", new, json!({ "from": old.status }))?;
        if new.severity < old.severity {
            announce(transaction, "incident.escalated", new, json!({ "fromSeverity": old.severity }))?;
        }
        if new.resolved_at.is_some() && old.resolved_at.is_none() {
            announce(transaction, "incident.resolved", new, json!({}))?;
        }
        Ok(())
    }

    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        row.require_edit(transaction)?;
        for table in ["project_postmortems", "project_action_items"] {
            transaction.execute(&format!("DELETE FROM {table} WHERE incident_id = $1"), params![&row.id])?;
        }
        Ok(())
    }

    fn event_data(row: &Stored<Self>) -> Value {
        json!({
            "id": row.id, "incidentId": row.id, "projectId": row.project_id, "title": row.title,
            "description": row.description.as_ref().map(|text| text.chars().take(2000).collect::<String>()),
            "severity": row.severity, "status": row.status, "declaredAt": row.declared_at,
            "resolvedAt": row.resolved_at, "declaredBy": row.created_by,
        })
    }
}

impl Incident {
    fn require_edit(&self, database: &dyn Executor) -> Result<()> {
        self.project_id.as_ref().map_or(Ok(()), |project_id| project::require_edit(database, project_id))
    }

    /// Appends to the timeline; 422 when it is full.
    fn note(&mut self, kind: &str, text: String) -> Result<()> {
        if self.timeline.len() >= TIMELINE_MAX {
            return Err(Problem::unprocessable(format!("A timeline has at most {TIMELINE_MAX} entries.")));
        }
        let by = auth::principal().user_id.map(Id::from);
        self.timeline.push(Entry { at: clock::now(), by, kind: kind.into(), text });
        Ok(())
    }
}

fn announce(transaction: &Transaction, kind: &str, incident: &Stored<Incident>, more: Value) -> Result<()> {
    let mut data = Incident::event_data(incident);
    if let (Some(data), Some(more)) = (data.as_object_mut(), more.as_object()) {
        data.extend(more.clone());
    }
    transaction.send(&Message::new(kind, &data)?.with_key(incident.id.as_str()))?;
    Ok(())
}

/// What is said on the way.
#[data]
pub(crate) struct Remark {
    #[field(max = 4000)]
    comment: Option<String>,
}

/// `PUT /api/incidents/{id}/resolve`; 409 when it is resolved or closed.
fn resolve(Params(id): Params<Id>, if_match: IfMatch, input: Option<Json<Remark>>) -> Result<Stored<Incident>> {
    database::transaction(|transaction| {
        let mut incident = entity::read::<Incident>(transaction, &id)?;
        if_match.check(incident.version)?;
        let old = incident.clone();
        rules::require_move(old.status, IncidentStatus::Resolved)?;
        if let Some(comment) = input.and_then(|Json(input)| input.comment).filter(|text| !text.is_empty()) {
            incident.note("comment", comment)?;
        }
        incident.status = IncidentStatus::Resolved;
        incident.data.before_update(&old, transaction)?;
        entity::save(transaction, &mut incident)?;
        Incident::after_update(&old, &incident, transaction)?;
        Ok(incident)
    })
}

/// The body of `POST /api/incidents/{id}/comments`.
#[data]
pub(crate) struct NewComment {
    #[field(min = 1, max = 4000)]
    body: String,
}

/// `POST /api/incidents/{id}/comments`: appends to the timeline.
fn comment(Params(id): Params<Id>, Json(input): Json<NewComment>) -> Result<Stored<Incident>> {
    database::transaction(|transaction| {
        let mut incident = entity::read::<Incident>(transaction, &id)?;
        incident.require_edit(transaction)?;
        incident.note("comment", input.body)?;
        entity::save(transaction, &mut incident)?;
        announce(transaction, "incident.updated", &incident, json!({ "from": incident.status }))?;
        Ok(incident)
    })
}

/// The routes of incidents.
pub(crate) fn routes() -> Router {
    Router::new()
        .entity::<Incident>("/api/incidents")
        .put("/api/incidents/{id}/resolve", resolve)
        .summary("Resolve an incident.")
        .post("/api/incidents/{id}/comments", comment)
        .summary("Append to the timeline of an incident.")
        .get("/api/incidents/{id}/postmortem", followup::read)
        .summary("Read the postmortem.")
        .put("/api/incidents/{id}/postmortem", followup::write)
        .summary("Write the postmortem.")
        .nested::<ActionItem>("/api/incidents/{id}/action-items", "incidentId")
}
