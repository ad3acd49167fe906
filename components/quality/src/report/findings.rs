//! What a report finds: of each check its last run in the period, the certifications, and what the organization has laid down.

use std::collections::BTreeMap;

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use super::ReportStatus;
use crate::{
    certification::{Certification, CertificationStatus},
    check::{Check, CheckStatus, Framework},
    dashboard,
};

/// Checks and certifications of a report.
const ROWS_MAX: i64 = 1_000;

/// The runs of one check in the period.
#[data]
struct Runs {
    check_id: Id,
    runs: i64,
    failures: i64,
    last_run_id: Id,
}

/// How the last one of them ended.
#[data]
struct LastRun {
    check_id: Id,
    status: CheckStatus,
    created_at: Timestamp,
}

/// Gathers the findings and what they come to.
pub(super) fn gather(
    transaction: &Transaction,
    framework: Option<Framework>,
    start: Timestamp,
    end: Timestamp,
) -> Result<(Map<String, Value>, ReportStatus)> {
    let organization_id = auth::organization_id()?;
    let mut select = Select::<Check>::new().limit(ROWS_MAX).sort("controlId");
    if let Some(framework) = framework {
        select = select.equal("framework", framework);
    }
    let checks = select.all(transaction)?;
    let (runs, last) = runs(transaction, &organization_id, start, end)?;
    let mut counts: BTreeMap<&str, i64> = CheckStatus::ALL.iter().map(|status| (status.as_str(), 0)).collect();
    let mut rows = Vec::new();
    for check in &checks {
        let own = runs.get(&check.id);
        let last = last.get(&check.id);
        let status = last.map_or(CheckStatus::NotRun, |last| last.status);
        *counts.entry(status.as_str()).or_default() += 1;
        rows.push(json!({
            "checkId": check.id, "name": check.name, "framework": check.framework, "controlId": check.control_id,
            "status": status, "runs": own.map_or(0, |own| own.runs), "failures": own.map_or(0, |own| own.failures),
            "lastRunId": own.map(|own| &own.last_run_id), "lastRunAt": last.map(|last| last.created_at),
        }));
    }
    let certifications = Select::<Certification>::new().limit(ROWS_MAX).all(transaction)?;
    let has_expired = certifications.iter().any(|row| row.status == CertificationStatus::Expired);
    let count = |status: CheckStatus| counts.get(status.as_str()).copied().unwrap_or_default();
    let status = status(
        [count(CheckStatus::Pass), count(CheckStatus::Fail), count(CheckStatus::Partial), count(CheckStatus::NotRun)],
        // A certificate says nothing of one framework alone.
        has_expired && framework.is_none(),
    );
    let total = i64::try_from(checks.len()).unwrap_or(i64::MAX);
    let findings = json!({
        "summary": {
            "checks": total, "pass": count(CheckStatus::Pass), "fail": count(CheckStatus::Fail),
            "partial": count(CheckStatus::Partial), "notRun": count(CheckStatus::NotRun),
            "score": dashboard::score(count(CheckStatus::Pass), total),
        },
        "checks": rows,
        "certifications": certifications.iter().map(|row| json!({
            "certificationId": row.id, "certificationType": row.certification_type, "status": row.status,
            "issuedDate": row.issued_date, "expiryDate": row.expiry_date,
        })).collect::<Vec<_>>(),
        "policies": dashboard::policies(transaction, &organization_id)?,
        "retention": dashboard::retention(transaction, &organization_id)?,
    });
    match findings {
        Value::Object(findings) => Ok((findings, status)),
        _ => Err(Problem::internal()),
    }
}

/// What pass, fail, partial and not run come to. Nothing that was looked at shows no compliance.
fn status([pass, fail, partial, not_run]: [i64; 4], has_expired: bool) -> ReportStatus {
    if fail > 0 || has_expired {
        ReportStatus::NonCompliant
    } else if pass > 0 && partial == 0 && not_run == 0 {
        ReportStatus::Compliant
    } else {
        ReportStatus::Partial
    }
}

type Found = (BTreeMap<Id, Runs>, BTreeMap<Id, LastRun>);

fn runs(database: &dyn Executor, organization_id: &Id, start: Timestamp, end: Timestamp) -> Result<Found> {
    // Ids are ordered by time, so the largest one is the last.
    let runs: Vec<Runs> = database::query_as(
        database,
        "SELECT check_id AS \"checkId\", COUNT(*) AS runs, SUM(CASE WHEN status = 'fail' THEN 1 ELSE 0 END) AS failures, \
         MAX(id) AS \"lastRunId\" FROM compliance_check_runs WHERE organization_id = $1 AND created_at >= $2 AND created_at < $3 \
         GROUP BY check_id",
        params![organization_id, start, end],
    )?;
    let last: Vec<LastRun> = database::query_as(
        database,
        "SELECT check_id AS \"checkId\", status, created_at AS \"createdAt\" FROM compliance_check_runs WHERE organization_id = $1 \
         AND id IN (SELECT MAX(id) FROM compliance_check_runs WHERE organization_id = $1 AND created_at >= $2 AND created_at < $3 \
         GROUP BY check_id)",
        params![organization_id, start, end],
    )?;
    Ok((
        runs.into_iter().map(|row| (row.check_id.clone(), row)).collect(),
        last.into_iter().map(|row| (row.check_id.clone(), row)).collect(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_looked_at_is_no_compliance() {
        assert_eq!(status([0, 0, 0, 0], false), ReportStatus::Partial);
        assert_eq!(status([3, 0, 0, 0], false), ReportStatus::Compliant);
        assert_eq!(status([3, 0, 0, 1], false), ReportStatus::Partial);
        assert_eq!(status([3, 0, 1, 0], false), ReportStatus::Partial);
        assert_eq!(status([3, 1, 0, 0], false), ReportStatus::NonCompliant);
        assert_eq!(status([3, 0, 0, 0], true), ReportStatus::NonCompliant);
    }
}
