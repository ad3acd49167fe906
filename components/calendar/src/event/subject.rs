//! Who and what an event takes: people, agents, rooms, environments. Whoever writes an event holds its subjects until the end of the
//! transaction, so that two writers cannot both find the same hour free.

use std::collections::BTreeSet;

use berth_sdk::prelude::*;
use chrono::Timelike;

use super::{
    Event,
    attendee::{Answer, Attendee},
};

/// Which subjects are held.
const TABLE: &str = "calendar_subjects";

/// The people whose time an event takes.
pub fn people(event: &Event, attendees: &[Stored<Attendee>]) -> BTreeSet<String> {
    let coming = attendees.iter().filter(|attendee| attendee.response != Answer::Declined);
    let coming = coming.filter_map(|attendee| attendee.user_id.as_ref().map(ToString::to_string));
    coming.chain(event.holder().map(ToString::to_string)).collect()
}

/// Holds what an event takes.
pub fn hold(transaction: &Transaction, event: &Event, attendees: &[Stored<Attendee>]) -> Result<()> {
    if !event.is_blocking() {
        return Ok(());
    }
    let agent = event.agent_id.as_ref().map(|id| format!("agent:{id}"));
    let environment = event.environment_name.as_ref().zip(event.project_id.as_ref());
    let environment = environment.map(|(name, project_id)| format!("environment:{project_id}:{name}"));
    let room = event.room.as_ref().map(|room| format!("room:{room}"));
    let people = people(event, attendees).into_iter().map(|id| format!("user:{id}"));
    // In one order, so that two writers never wait for each other.
    let subjects: BTreeSet<String> = people.chain(agent).chain(room).chain(environment).collect();
    subjects.iter().try_for_each(|subject| transaction.hold(TABLE, subject))
}

/// Lets imports of one user come one after the other: so each knows what the one before it has made. To be called before anything
/// is written.
pub fn hold_imports(transaction: &Transaction, user_id: &Id) -> Result<()> {
    transaction.hold(TABLE, &format!("import:{user_id}"))
}

/// In the first minute of an hour, forgets subjects that nobody holds any more: rooms have any name.
pub fn sweep(now: Timestamp) -> Result<()> {
    if now.date_time().minute() == 0 {
        database::forget_holds(TABLE)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_swept_once_an_hour() {
        let at = |text: &str| Timestamp::parse(text).unwrap();
        assert_eq!(sweep(at("2026-03-02T09:00:30Z")).unwrap_err().status, 503, "natively there is no database");
        assert!(sweep(at("2026-03-02T09:01:00Z")).is_ok());
    }
}
