//! Which variant a subject gets: drawn once, kept as a row, and the same for good.

use std::time::Duration;

use berth_sdk::{cache, prelude::*, serde_json::Value};

use super::{
    ExperimentStatus,
    running::{self, Arm, Running},
};
use crate::project;

/// How long an assignment is kept at hand. It never changes.
const KEPT: Duration = Duration::from_secs(3_600);

/// Who asks.
#[data]
pub struct Subject {
    /// A user, a session, a device: whatever the experiment is about.
    pub subject_id: Id,
}

/// What a subject gets.
#[data]
pub struct Assignment {
    /// The experiment.
    pub experiment_id: Id,
    /// Who.
    pub subject_id: Id,
    /// Whether what the subject does counts.
    pub in_experiment: bool,
    /// The variant.
    pub variant_id: Id,
    /// Its name.
    pub variant_name: String,
    /// Whether it is the control.
    pub is_control: bool,
    /// What programs make of it.
    pub config: Value,
}

/// `POST /api/experiments/{id}/assign`. Who is outside the rollout, or comes before the experiment runs or after it, gets the
/// control (after a decision the winner) and does not count; 409 when there is no control either.
pub fn assign(Params(id): Params<Id>, Json(Subject { subject_id }): Json<Subject>) -> Result<Json<Assignment>> {
    let running = running::of(&id)?;
    project::require(running.experiment.project_id.as_ref(), "experiment")?;
    let own = chosen(&running, &subject_id)?;
    let (arm, in_experiment) = match own.as_ref().and_then(|id| running.arm(id)) {
        Some(arm) => (arm, true),
        None => (running.fallback().ok_or_else(without_control)?, false),
    };
    Ok(Json(answer(&running, subject_id, arm, in_experiment)))
}

fn answer(running: &Running, subject_id: Id, arm: &Arm, in_experiment: bool) -> Assignment {
    Assignment {
        experiment_id: running.id.clone(),
        subject_id,
        in_experiment,
        variant_id: arm.id.clone(),
        variant_name: arm.name.clone(),
        is_control: arm.is_control,
        config: arm.config.clone(),
    }
}

fn without_control() -> Problem {
    Problem::conflict("The experiment has no variants yet.").with_code("EXPERIMENT_NOT_RUNNING")
}

/// The variant of a subject that takes part.
fn chosen(running: &Running, subject_id: &Id) -> Result<Option<Id>> {
    if !matches!(running.experiment.status, ExperimentStatus::Running | ExperimentStatus::Paused) {
        return Ok(None);
    }
    let key = format!("assignment:{}:{subject_id}", running.id);
    if let Some(id) = cache::get::<Id>(&key).filter(|id| running.arm(id).is_some()) {
        return Ok(Some(id));
    }
    let found = match kept(&Pool, &running.id, subject_id)? {
        Some(id) => Some(id),
        None if running.experiment.is_open(clock::now()) => match running.draw(subject_id) {
            Some(arm) => keep(&running.id, subject_id, &arm.id)?,
            None => None,
        },
        None => None,
    };
    if let Some(id) = &found {
        cache::set_ttl(&key, id, KEPT);
    }
    Ok(found)
}

fn kept(database: &dyn Executor, experiment_id: &Id, subject_id: &Id) -> Result<Option<Id>> {
    let row = database.query_one(
        "SELECT variant_id FROM experiment_assignments WHERE organization_id = $1 AND experiment_id = $2 AND subject_id = $3",
        params![auth::organization_id()?, experiment_id, subject_id],
    )?;
    Ok(row.map(|row| row.get("variant_id")).transpose()?)
}

/// Writes what was drawn, unless somebody was faster or the experiment does not run any more; returns what counts.
fn keep(experiment_id: &Id, subject_id: &Id, variant_id: &Id) -> Result<Option<Id>> {
    let (organization_id, now) = (auth::organization_id()?, clock::now());
    database::transaction(|transaction| {
        // What was kept of the experiment may be half a minute old.
        let open = transaction.query_one(
            "SELECT id FROM experiment_experiments WHERE id = $1 AND organization_id = $2 AND status = $3",
            params![experiment_id, &organization_id, ExperimentStatus::Running],
        )?;
        if open.is_none() {
            transaction.forget(running::key(experiment_id));
            return Ok(None);
        }
        transaction.execute(
            "INSERT INTO experiment_assignments (id, organization_id, created_by, created_at, updated_at, version, experiment_id, \
             subject_id, variant_id) VALUES ($1, $2, $3, $4, $4, 1, $5, $6, $7) ON CONFLICT (experiment_id, subject_id) DO NOTHING",
            params![
                Id::new(),
                &organization_id,
                auth::principal().user_id,
                now,
                experiment_id,
                subject_id,
                variant_id
            ],
        )?;
        kept(transaction, experiment_id, subject_id)
    })
}
