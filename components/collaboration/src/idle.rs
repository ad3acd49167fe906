//! Sessions in which nothing happens end by themselves: a tick finds them, and a work message ends each one.
//!
//! Those of people who are there at the same time end after half an hour, others after a week.

use std::time::Duration;

use berth_sdk::{events::Message, prelude::*};

use crate::{
    live::event::MEDIA,
    review,
    session::{EndReason, Status, held::Held},
};

/// The work message.
pub const END: &str = "pairing.session.idle";
/// Settings, in seconds, and what holds without them.
const IDLE: (&str, u64) = ("idle_seconds", 30 * 60);
const ASYNC_IDLE: (&str, u64) = ("async_idle_seconds", 7 * 24 * 60 * 60);
/// Sessions that one tick ends; the next one goes on.
const DUE_MAX: usize = 500;
/// How long what happened is kept after a session, and signals of media at all.
const EVENTS_KEPT: Duration = Duration::from_secs(24 * 60 * 60);
const MEDIA_KEPT: Duration = Duration::from_secs(60 * 60);
/// Events that one statement removes, and statements of one tick.
const REMOVED_MAX: usize = 2_000;
const ROUNDS_MAX: usize = 5;

#[data]
struct Due {
    id: Id,
    organization_id: Id,
    active_at: Option<Timestamp>,
}

#[data]
struct Work {
    session_id: Id,
}

/// Since when nothing has happened in a session that is idle.
fn cutoff((name, seconds): (&str, u64), now: Timestamp) -> Timestamp {
    now.minus(Duration::from_secs(config::get_or(name, seconds)))
}

/// `idle`, every five minutes: over all organizations.
pub fn tick(_: &Envelope) -> Result<()> {
    let now = clock::now();
    let sql = format!(
        "SELECT id, organization_id AS \"organizationId\", active_at AS \"activeAt\" FROM pairing_sessions \
         WHERE status = 'active' AND ((session_type <> 'async' AND active_at <= $1) \
         OR (session_type = 'async' AND active_at <= $2)) ORDER BY active_at LIMIT {DUE_MAX}"
    );
    let due: Vec<Due> = database::query_as(&Pool, &sql, params![cutoff(IDLE, now), cutoff(ASYNC_IDLE, now)])?;
    if !due.is_empty() {
        database::transaction(|transaction| {
            for due in &due {
                let work = Work { session_id: due.id.clone() };
                // The same silence is asked for once, however many ticks hear it.
                let since = due.active_at.map_or(0, Timestamp::millis);
                let name: String = format!("idle-{since}-{}", due.id).chars().take(64).collect();
                let message = Message::new(END, &work)?.for_organization(due.organization_id.as_str()).with_id(name);
                transaction.enqueue_message(&message)?;
            }
            Ok::<_, Problem>(())
        })?;
    }
    forget(now)?;
    // Reviews come and go.
    Ok(database::forget_holds(review::HOLDS)?)
}

/// Removes what nobody follows any more.
fn forget(now: Timestamp) -> Result<()> {
    let sql = format!(
        "DELETE FROM pairing_events WHERE id IN (SELECT pairing_events.id FROM pairing_events JOIN pairing_sessions \
         ON pairing_sessions.id = pairing_events.session_id WHERE (pairing_events.kind = $1 \
         AND pairing_events.created_at < $2) OR pairing_sessions.ended_at < $3 LIMIT {REMOVED_MAX})"
    );
    for _ in 0..ROUNDS_MAX {
        let removed = database::execute(&sql, params![MEDIA, now.minus(MEDIA_KEPT), now.minus(EVENTS_KEPT)])?;
        if removed < u64::try_from(REMOVED_MAX).unwrap_or(u64::MAX) {
            break;
        }
    }
    Ok(())
}

/// `pairing.session.idle`.
pub fn end(envelope: &Envelope) -> Result<()> {
    let work: Work = envelope.data()?;
    let result = database::transaction(|transaction| {
        if !transaction.once(&envelope.id)? {
            return Ok(());
        }
        let mut held = Held::take(transaction, &work.session_id)?;
        let limit = if held.session.session_type.is_synchronous() { IDLE } else { ASYNC_IDLE };
        // Something may have happened since.
        let is_idle = held.session.active_at.is_none_or(|at| at <= cutoff(limit, held.now));
        if held.session.status == Status::Active && is_idle {
            held.end(EndReason::Idle)?;
            held.keep()?;
        }
        Ok::<_, Problem>(())
    });
    match result {
        // It was deleted.
        Err(problem) if problem.status == 404 => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use berth_sdk::testing;

    use super::*;

    #[test]
    fn half_an_hour_is_idle_unless_it_is_set() {
        let now = clock::now();
        assert_eq!(now.since(cutoff(IDLE, now)), Duration::from_secs(1_800));
        testing::set_config("idle_seconds", "5");
        assert_eq!(now.since(cutoff(IDLE, now)), Duration::from_secs(5));
    }
}
