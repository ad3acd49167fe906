//! Everything at a glance: experiments, checks, certifications and the latest scores.

use berth_sdk::{prelude::*, serde_json::Value};

use crate::{
    certification::expiry,
    check::{Check, CheckStatus},
    dashboard,
    experiment::{Experiment, ExperimentStatus},
    project,
    score::Score,
};

/// Rows of each kind that are named.
const NAMED_MAX: i64 = 10;
/// Latest scores that are shown.
const SCORES_MAX: i64 = 100;

/// `GET /api/quality/overview`.
pub fn read() -> Result<Json<Value>> {
    expiry::settle();
    let seen = project::seen(Experiment::DEFINITION.table)?;
    let visible = || match &seen {
        Some(Condition { sql, values }) => Select::<Experiment>::new().condition(sql, values.iter().cloned()),
        None => Select::new(),
    };
    let experiments = dashboard::by_status(ExperimentStatus::ALL.iter().map(|one| one.as_str()), visible)?;
    let running = visible().equal("status", ExperimentStatus::Running).limit(NAMED_MAX).all(&Pool)?;
    let checks = dashboard::by_status(CheckStatus::ALL.iter().map(|one| one.as_str()), Select::<Check>::new)?;
    let failing =
        Select::<Check>::new().equal("status", CheckStatus::Fail).sort("-lastRunAt").limit(NAMED_MAX).all(&Pool)?;
    let total: i64 = checks.values().sum();
    let pass = checks.get(CheckStatus::Pass.as_str()).copied().unwrap_or_default();
    Ok(Json(json!({
        "experiments": {
            "total": experiments.values().sum::<i64>(),
            "byStatus": experiments,
            "running": running.iter().map(|row| json!({
                "experimentId": row.id, "name": row.name, "projectId": row.project_id, "startAt": row.start_at, "endAt": row.end_at,
            })).collect::<Vec<_>>(),
        },
        "checks": {
            "total": total,
            "byStatus": checks,
            "score": dashboard::score(pass, total),
            "failing": failing.iter().map(|row| json!({
                "checkId": row.id, "name": row.name, "framework": row.framework, "controlId": row.control_id,
                "lastRunAt": row.last_run_at,
            })).collect::<Vec<_>>(),
        },
        "certifications": dashboard::certifications()?,
        "scores": scores()?,
    })))
}

/// The latest score of each kind of each project that the caller sees.
fn scores() -> Result<Vec<Value>> {
    let mut select = Select::<Score>::new().limit(SCORES_MAX).condition(
        "NOT EXISTS (SELECT 1 FROM compliance_scores AS later WHERE later.organization_id = compliance_scores.organization_id \
         AND later.project_id = compliance_scores.project_id AND later.kind = compliance_scores.kind \
         AND (later.recorded_at > compliance_scores.recorded_at \
         OR (later.recorded_at = compliance_scores.recorded_at AND later.id > compliance_scores.id)))",
        [] as [i64; 0],
    );
    if let Some(Condition { sql, values }) = project::seen(Score::DEFINITION.table)? {
        select = select.condition(&sql, values);
    }
    let rows = select.all(&Pool)?;
    Ok(rows
        .iter()
        .map(|row| {
            json!({ "projectId": row.project_id, "kind": row.kind, "value": row.value, "recordedAt": row.recorded_at })
        })
        .collect())
}
