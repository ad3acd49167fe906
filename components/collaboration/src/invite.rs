//! Telling people that a session is planned with them: a work message in the transaction that plans it, then
//! notification-manager.

use std::time::Duration;

use berth_sdk::{
    notice::{Criticality, Notice},
    prelude::*,
};

use crate::{access, session::Session};

/// The work message.
pub const INVITE: &str = "pairing.session.invite";

#[data]
struct Work {
    session_id: Id,
    user_ids: Vec<Id>,
}

/// Those who are named by `new` and were not by `old`.
fn newly_named(old: Option<&Session>, new: &Session) -> Vec<Id> {
    let mut ids: Vec<Id> =
        new.named().filter(|id| !old.is_some_and(|old| old.named().any(|known| known == *id))).cloned().collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Asks everybody who is newly named, but whoever names them.
pub fn ask(transaction: &Transaction, old: Option<&Session>, new: &Stored<Session>) -> Result<()> {
    let mut user_ids = newly_named(old, new);
    user_ids.retain(|id| !access::is_caller(id));
    if !user_ids.is_empty() {
        transaction.enqueue(INVITE, &Work { session_id: new.id.clone(), user_ids }, Duration::ZERO)?;
    }
    Ok(())
}

/// `pairing.session.invite`.
pub fn deliver(envelope: &Envelope) -> Result<()> {
    let work: Work = envelope.data()?;
    let Some(session) = entity::find::<Session>(&Pool, &work.session_id)? else { return Ok(()) };
    if session.status.is_over() {
        return Ok(());
    }
    let title = format!("You are asked to a session: {}", session.title);
    let body = session.scheduled_at.map(|at| format!("It begins at {at}.")).unwrap_or_default();
    Notice::new("pairing.session.scheduled", &title, Criticality::Low)
        .to(work.user_ids)
        .body(&body)
        .about("session", &session.id)
        .with("category", "COLLABORATION")
        .with("projectId", json!(session.project_id))
        .with("actionUrl", format!("/pairing/{}", session.id))
        .deliver(envelope)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_was_asked_already_is_not_asked_again() {
        let old = Session { driver_id: Some("a".into()), ..Session::titled("t".into()) };
        let new = Session {
            driver_id: Some("b".into()),
            navigator_id: Some("a".into()),
            invitee_ids: vec!["c".into(), "b".into()],
            ..old.clone()
        };
        assert_eq!(newly_named(Some(&old), &new), ["b".into(), "c".into()] as [Id; 2]);
        assert_eq!(newly_named(None, &old), ["a".into()] as [Id; 1]);
    }
}
