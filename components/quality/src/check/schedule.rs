//! When checks run by themselves.

use berth_sdk::prelude::*;

/// Checks that one tick sends off.
const DUE_MAX: i64 = 300;

/// The minute's tick: moves what is due on to its next time and sends a message for it, each in one transaction, so that it
/// runs once however many hosts tick; what was missed runs once.
pub fn tick(_: &Envelope) -> Result<()> {
    let now = clock::now();
    let rows = database::query(
        "SELECT id, organization_id, schedule_cron, next_run_at FROM compliance_checks WHERE next_run_at <= $1 \
         ORDER BY next_run_at LIMIT $2",
        params![now, DUE_MAX],
    )?;
    for row in rows {
        let (id, organization_id): (Id, Id) = (row.get("id")?, row.get("organization_id")?);
        let (cron, due): (Option<String>, Timestamp) = (row.get("schedule_cron")?, row.get("next_run_at")?);
        send(&id, &organization_id, cron, due, now)?;
    }
    Ok(())
}

fn send(id: &Id, organization_id: &Id, cron: Option<String>, due: Timestamp, now: Timestamp) -> Result<()> {
    let next = next(cron, now);
    database::transaction(|transaction| {
        let moved = transaction.execute(
            "UPDATE compliance_checks SET next_run_at = $3 WHERE id = $1 AND next_run_at = $2",
            params![id, due, next],
        )?;
        if moved == 1 {
            let message = events::Message::new("quality.check.run", &json!({ "checkId": id }))?;
            transaction.enqueue_message(&message.for_organization(organization_id.as_str()).with_key(id.as_str()))?;
        }
        Ok(())
    })
}

/// The next time; none where the schedule is gone.
fn next(cron: Option<String>, now: Timestamp) -> Option<Timestamp> {
    let next = time_rules::cron::next(&cron?, "UTC", now, super::INTERVAL_MIN);
    next.inspect_err(|problem| logging::warn!("a schedule comes to its end", problem = problem)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_missed_comes_once() {
        let now = Timestamp::parse("2026-03-05T12:34:00Z").unwrap();
        assert_eq!(next(Some("0 3 * * *".into()), now).unwrap().to_string(), "2026-03-06T03:00:00.000Z");
        assert_eq!(next(Some("broken".into()), now), None);
        assert_eq!(next(None, now), None);
    }
}
