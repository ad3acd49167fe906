//! What time does to certifications: warnings before the expiry, and the end.

use std::time::Duration;

use berth_sdk::prelude::*;

use super::{Certification, CertificationStatus};

/// A warning is given so many days before the expiry.
const WARNINGS: [i64; 3] = [90, 30, 7];
const DAY_MS: i64 = 86_400_000;
/// Certifications that one call looks at, and organizations that one tick does.
const ROWS_MAX: i64 = 500;
const ORGANIZATIONS_MAX: i64 = 10_000;
/// The message that looks after the certifications of an organization.
pub const REVIEW: &str = "quality.certifications.review";

/// Days that are left, a begun one counted whole; 0 from the expiry on.
fn days_left(expiry: Timestamp, now: Timestamp) -> i64 {
    ((expiry.millis() - now.millis()).max(0) + DAY_MS - 1) / DAY_MS
}

/// The warning that is due: the latest that has been reached, unless it or a later one was given.
fn warning(days_left: i64, warned: Option<i64>) -> Option<i64> {
    let reached = WARNINGS.into_iter().filter(|days| days_left <= *days).min()?;
    warned.is_none_or(|warned| reached < warned).then_some(reached)
}

/// The daily tick: a message for each organization in which something is due.
pub fn tick(_: &Envelope) -> Result<()> {
    let ahead = clock::now().plus(Duration::from_secs(WARNINGS.into_iter().max().unwrap_or(0).unsigned_abs() * 86_400));
    let rows = database::query(
        "SELECT DISTINCT organization_id FROM compliance_certifications WHERE status = $1 AND expiry_date <= $2 LIMIT $3",
        params![CertificationStatus::Certified, ahead, ORGANIZATIONS_MAX],
    )?;
    for row in rows {
        let organization_id: String = row.get("organization_id")?;
        events::enqueue_message(&events::Message::new(REVIEW, &json!({}))?.for_organization(organization_id))?;
    }
    Ok(())
}

/// Handles [`REVIEW`].
pub fn review(_: &Envelope) -> Result<()> {
    let days = WARNINGS.into_iter().max().unwrap_or(0);
    look_after(clock::now().plus(Duration::from_secs(days.unsigned_abs() * 86_400)))
}

/// Ends what has expired since the last tick, so that nobody is shown a certificate that is none. What cannot be written now
/// is left to the timer.
pub(crate) fn settle() {
    if let Err(problem) = look_after(clock::now()) {
        logging::warn!("an expired certification could not be noted", problem = problem);
    }
}

/// Looks after the certified ones of the organization that expire before a moment.
fn look_after(before: Timestamp) -> Result<()> {
    let rows = Select::<Certification>::new()
        .equal("status", CertificationStatus::Certified)
        .condition("\"expiry_date\" <= ?", [before])
        .sort("expiryDate")
        .limit(ROWS_MAX)
        .all(&Pool)?;
    let now = clock::now();
    for row in rows {
        let changed = database::transaction(|transaction| advance(transaction, &row.id, now));
        match changed {
            // Somebody has changed it at the same time: the next look sees what has become of it.
            Err(problem) if problem.status == 409 => {}
            result => result?,
        }
    }
    Ok(())
}

fn advance(transaction: &Transaction, id: &Id, now: Timestamp) -> Result<()> {
    let Some(mut row) = entity::find::<Certification>(transaction, id)? else { return Ok(()) };
    let Some(expiry) = row.expiry_date.filter(|_| row.status == CertificationStatus::Certified) else { return Ok(()) };
    row.settle(now);
    let is_expired = row.status == CertificationStatus::Expired;
    let days_left = days_left(expiry, now);
    let due = warning(days_left, row.warned_days);
    if !is_expired && due.is_none() {
        return Ok(());
    }
    row.warned_days = due.or(row.warned_days);
    entity::save(transaction, &mut row)?;
    let data = json!({
        "id": row.id, "certificationId": row.id, "certificationType": row.certification_type, "status": row.status,
        "expiryDate": expiry, "daysLeft": days_left, "isExpired": is_expired, "certifyingBody": row.certifying_body,
    });
    transaction.send(&events::Message::new("compliance.certification.expiring", &data)?.with_key(row.id.as_str()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_warning_is_given_once() {
        let mut warned = None;
        let mut given = Vec::new();
        for days in (0..=120).rev() {
            if let Some(warning) = warning(days, warned) {
                given.push((days, warning));
                warned = Some(warning);
            }
        }
        assert_eq!(given, [(90, 90), (30, 30), (7, 7)]);
        // What was missed while nobody looked is one warning.
        assert_eq!(warning(5, None), Some(7));
        assert_eq!(warning(5, Some(90)), Some(7));
        assert_eq!(warning(5, Some(7)), None);
    }

    #[test]
    fn a_begun_day_counts() {
        let at = |text: &str| Timestamp::parse(text).unwrap();
        let expiry = at("2026-03-31T00:00:00Z");
        assert_eq!(days_left(expiry, at("2026-03-01T00:00:00Z")), 30);
        assert_eq!(days_left(expiry, at("2026-03-01T00:00:01Z")), 30);
        assert_eq!(days_left(expiry, at("2026-03-30T23:59:59Z")), 1);
        assert_eq!(days_left(expiry, at("2026-04-02T00:00:00Z")), 0);
    }
}
