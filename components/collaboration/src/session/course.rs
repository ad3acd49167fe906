//! How a session may change. Pure.

use berth_sdk::prelude::*;

use super::{Session, Status, cast::Role};
use crate::participant::Participant;

/// 409 for anything that comes too late.
pub fn over(status: Status) -> Problem {
    Problem::conflict(format!("The session is {status}; nothing changes any more.")).with_code("SESSION_ENDED")
}

/// 422 that names who has not agreed to be recorded.
pub fn require_consent<'a>(people: impl IntoIterator<Item = &'a Participant>) -> Result<()> {
    let missing: Vec<&Id> =
        people.into_iter().filter(|person| !person.recording_consent).map(|person| &person.user_id).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let detail = "Everybody who takes part has to agree to be recorded.";
    Err(Problem::unprocessable(detail).with_code("RECORDING_CONSENT_REQUIRED").with("userIds", json!(missing)))
}

/// Whether somebody who takes care of it may write these changes.
pub fn judge_update(old: &Session, new: &Session, people: &[Stored<Participant>]) -> Result<()> {
    if old.status.is_over() {
        // A recording is there only after the session.
        let allowed = Session { recording_url: new.recording_url.clone(), active_at: new.active_at, ..old.clone() };
        return if *new == allowed { Ok(()) } else { Err(over(old.status)) };
    }
    match (old.status, new.status) {
        (one, other) if one == other => {}
        (Status::Scheduled, Status::Cancelled) => {}
        _ => {
            let detail = "A session is begun and ended by its routes start and end; here it is only cancelled.";
            return Err(Problem::conflict(detail).with_code("ILLEGAL_TRANSITION"));
        }
    }
    if old.status == Status::Active {
        judge_while_active(old, new)?;
    } else {
        judge_plan(old, new, people)?;
    }
    if new.recording_enabled && !old.recording_enabled {
        require_consent(people.iter().map(|person| &person.data))?;
    }
    Ok(())
}

fn judge_while_active(old: &Session, new: &Session) -> Result<()> {
    let frozen = [
        ("sessionType", old.session_type != new.session_type),
        ("driverId", old.driver_id != new.driver_id),
        ("navigatorId", old.navigator_id != new.navigator_id),
        ("scheduledAt", old.scheduled_at != new.scheduled_at),
        ("durationMinutes", old.duration_minutes != new.duration_minutes),
    ];
    match frozen.into_iter().find(|(_, is_changed)| *is_changed) {
        Some((name, _)) => {
            let detail = format!("The session goes on: {name} stays; roles are changed by joining and switching.");
            Err(Problem::conflict(detail).with_code("SESSION_ACTIVE"))
        }
        None => Ok(()),
    }
}

/// Who is there keeps the seat, whatever is planned anew.
fn judge_plan(old: &Session, new: &Session, people: &[Stored<Participant>]) -> Result<()> {
    let sits = |role: Role| people.iter().any(|person| person.role == role);
    let is_moved = (old.driver_id != new.driver_id && sits(Role::Driver))
        || (old.navigator_id != new.navigator_id && sits(Role::Navigator));
    if is_moved || (old.session_type != new.session_type && !people.is_empty()) {
        let detail = "Somebody has joined with that role; whoever is there changes it by joining anew.";
        return Err(Problem::conflict(detail).with_code("ROLE_TAKEN"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::SessionType;

    fn session() -> Session {
        Session::titled("t".into())
    }

    #[test]
    fn what_is_over_takes_the_recording_and_nothing_else() {
        for status in [Status::Completed, Status::Cancelled] {
            let old = Session { status, ..session() };
            let recorded = Session { recording_url: Some("https://example.com/r".into()), ..old.clone() };
            assert!(judge_update(&old, &recorded, &[]).is_ok());
            for changed in [
                Session { title: "x".into(), ..old.clone() },
                Session { status: Status::Active, ..old.clone() },
                Session { status: Status::Scheduled, ..recorded },
            ] {
                let problem = judge_update(&old, &changed, &[]).unwrap_err();
                assert_eq!((problem.status, &*problem.code), (409, "SESSION_ENDED"));
            }
        }
    }

    #[test]
    fn a_plan_may_be_cancelled_and_a_session_that_goes_on_may_not() {
        let plan = session();
        let with = |status| Session { status, ..session() };
        assert!(judge_update(&plan, &with(Status::Cancelled), &[]).is_ok());
        for to in [Status::Active, Status::Completed] {
            assert_eq!(judge_update(&plan, &with(to), &[]).unwrap_err().code, "ILLEGAL_TRANSITION");
        }
        let active = with(Status::Active);
        assert_eq!(judge_update(&active, &with(Status::Cancelled), &[]).unwrap_err().code, "ILLEGAL_TRANSITION");
        let retyped = Session { session_type: SessionType::Mob, ..active.clone() };
        assert_eq!(judge_update(&active, &retyped, &[]).unwrap_err().code, "SESSION_ACTIVE");
        let titled = Session { title: "y".into(), shared_terminal: true, ..active.clone() };
        assert!(judge_update(&active, &titled, &[]).is_ok());
    }

    #[test]
    fn nobody_is_recorded_unasked() {
        let person = |user: &str, recording_consent| Participant {
            session_id: "s1".into(),
            user_id: user.into(),
            role: Role::Observer,
            recording_consent,
            joined_at: clock::now(),
            left_at: None,
        };
        let (yes, no) = (person("a", true), person("b", false));
        assert!(require_consent([&yes]).is_ok());
        let problem = require_consent([&yes, &no]).unwrap_err();
        assert_eq!((problem.status, problem.member("userIds").cloned()), (422, Some(json!(["b"]))));
    }
}
