//! Where compliance stands: checks by framework, policies, certifications and retention.

use std::{collections::BTreeMap, time::Duration};

use berth_sdk::{prelude::*, serde_json::Value};

use crate::{
    certification::{Certification, CertificationStatus, expiry},
    check::{CheckStatus, Framework},
    policy::EnforcementMode,
};

/// `GET /api/compliance/dashboard`.
pub fn read() -> Result<Json<Value>> {
    expiry::settle();
    figures().map(Json)
}

/// The share of checks that pass, in percent; none without any.
pub(crate) fn score(pass: i64, total: i64) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "checks are few")]
    let share = pass as f64 * 100.0 / total as f64;
    (total > 0).then(|| (share * 10.0).round() / 10.0)
}

/// The figures of the caller's organization.
pub(crate) fn figures() -> Result<Value> {
    let organization_id = auth::organization_id()?;
    Ok(json!({
        "frameworks": frameworks(&organization_id)?,
        "policies": policies(&Pool, &organization_id)?,
        "certifications": certifications()?,
        "retention": retention(&Pool, &organization_id)?,
    }))
}

#[data]
struct Line {
    framework: Framework,
    status: CheckStatus,
    total: i64,
    last_run_at: Option<Timestamp>,
}

/// Every framework that has checks, in the order in which they are declared.
fn frameworks(organization_id: &Id) -> Result<Vec<Value>> {
    let lines: Vec<Line> = database::query_as(
        &Pool,
        "SELECT framework, status, COUNT(*) AS total, MAX(last_run_at) AS \"lastRunAt\" FROM compliance_checks \
         WHERE organization_id = $1 GROUP BY framework, status",
        params![organization_id],
    )?;
    let of = |framework: &Framework| {
        let own: Vec<&Line> = lines.iter().filter(|line| line.framework == *framework).collect();
        let count =
            |status: CheckStatus| own.iter().filter(|line| line.status == status).map(|line| line.total).sum::<i64>();
        let total: i64 = own.iter().map(|line| line.total).sum();
        (total > 0).then(|| {
            json!({
                "framework": framework, "total": total, "pass": count(CheckStatus::Pass), "fail": count(CheckStatus::Fail),
                "partial": count(CheckStatus::Partial), "notRun": count(CheckStatus::NotRun),
                "score": score(count(CheckStatus::Pass), total), "lastRunAt": own.iter().filter_map(|line| line.last_run_at).max(),
            })
        })
    };
    Ok(Framework::ALL.iter().filter_map(of).collect())
}

/// How many policies there are.
pub(crate) fn policies(database: &dyn Executor, organization_id: &Id) -> Result<Value> {
    let row = database.query_one(
        "SELECT COUNT(*) AS total, COALESCE(SUM(CASE WHEN enabled = $2 THEN 1 ELSE 0 END), 0) AS enabled, \
         COALESCE(SUM(CASE WHEN enabled = $2 AND enforcement_mode = $3 THEN 1 ELSE 0 END), 0) AS blocking \
         FROM compliance_policies WHERE organization_id = $1",
        params![organization_id, true, EnforcementMode::Block],
    )?;
    let Some(row) = row else { return Err(Problem::internal()) };
    let count = |name: &str| row.get::<i64>(name);
    Ok(json!({ "total": count("total")?, "enabled": count("enabled")?, "blocking": count("blocking")? }))
}

/// How many retention policies there are.
pub(crate) fn retention(database: &dyn Executor, organization_id: &Id) -> Result<Value> {
    let row = database.query_one(
        "SELECT COUNT(*) AS total, COALESCE(SUM(CASE WHEN enabled = $2 THEN 1 ELSE 0 END), 0) AS enabled \
         FROM compliance_retention_policies WHERE organization_id = $1",
        params![organization_id, true],
    )?;
    let Some(row) = row else { return Err(Problem::internal()) };
    Ok(json!({ "total": row.get::<i64>("total")?, "enabled": row.get::<i64>("enabled")? }))
}

/// How many certifications there are by status, and how many end within 90 days.
pub(crate) fn certifications() -> Result<Value> {
    let counts = by_status(CertificationStatus::ALL.iter().map(|one| one.as_str()), Select::<Certification>::new)?;
    let ahead = clock::now().plus(Duration::from_secs(90 * 86_400));
    let soon = Select::<Certification>::new()
        .equal("status", CertificationStatus::Certified)
        .condition("\"expiry_date\" <= ?", [ahead])
        .count(&Pool)?;
    Ok(json!({ "total": counts.values().sum::<i64>(), "byStatus": counts, "expiringSoon": soon }))
}

/// How many rows of a selection there are by status, those of which there are none too.
pub(crate) fn by_status<T: Entity>(
    statuses: impl Iterator<Item = &'static str>,
    select: impl Fn() -> Select<T>,
) -> Result<BTreeMap<&'static str, i64>> {
    statuses.map(|status| Ok((status, select().equal("status", status).count(&Pool)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::score;

    #[test]
    fn a_score_is_of_something() {
        assert_eq!((score(0, 0), score(1, 3), score(4, 4)), (None, Some(33.3), Some(100.0)));
    }
}
