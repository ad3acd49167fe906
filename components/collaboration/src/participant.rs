//! Who takes part in a session, and with which role.

use berth_sdk::prelude::*;

use crate::{
    presence,
    session::{
        EndReason, Session, Status, api,
        cast::Role,
        course,
        held::{Held, Whole},
    },
};

/// Somebody who takes or took part.
#[entity(table = "pairing_participants", name = "participant", sort = "joinedAt")]
pub struct Participant {
    /// In which session.
    pub session_id: Id,
    /// Who.
    pub user_id: Id,
    /// What they do, or did last.
    pub role: Role,
    /// Whether they agree to be recorded.
    pub recording_consent: bool,
    /// Since when.
    pub joined_at: Timestamp,
    /// Until when; none while they are there.
    pub left_at: Option<Timestamp>,
}

impl Rules for Participant {}

impl Participant {
    /// Who is there, in the order of joining.
    pub fn present(database: &dyn Executor, session_id: &Id) -> Result<Vec<Stored<Self>>> {
        Select::new().equal("session_id", session_id).condition("\"left_at\" IS NULL", [] as [Id; 0]).all(database)
    }

    /// Who is or was there.
    pub fn all(database: &dyn Executor, session_id: &Id) -> Result<Vec<Stored<Self>>> {
        Select::new().equal("session_id", session_id).all(database)
    }

    fn find(database: &dyn Executor, session_id: &Id, user_id: &Id) -> Result<Option<Stored<Self>>> {
        Select::new().equal("session_id", session_id).equal("user_id", user_id).first(database)
    }

    /// Lets everybody go.
    pub fn part(transaction: &Transaction, session_id: &Id, now: Timestamp) -> Result<()> {
        transaction.execute(
            "UPDATE pairing_participants SET left_at = $3, updated_at = $3, version = version + 1 \
             WHERE session_id = $1 AND organization_id = $2 AND left_at IS NULL",
            params![session_id, auth::organization_id()?, now],
        )?;
        Ok(())
    }
}

/// How somebody joins.
#[data]
#[derive(Default)]
pub struct Joining {
    /// As what; the role that was planned, or the first that is free.
    role: Option<Role>,
    /// Whether they agree to be recorded.
    recording_consent: Option<bool>,
}

/// `PUT /api/pairing/sessions/{id}/join`.
pub fn join(Params(id): Params<Id>, if_match: IfMatch, input: Option<Json<Joining>>) -> Result<Whole> {
    let joining = input.map(|Json(input)| input).unwrap_or_default();
    let user_id = auth::user_id()?;
    api::change(&id, if_match, |held| enter(held, &user_id, &joining))
}

/// Lets somebody in, or changes their role or consent.
pub fn enter(held: &mut Held<'_>, user_id: &Id, joining: &Joining) -> Result<()> {
    held.require_open()?;
    let is_active = held.session.status == Status::Active;
    if is_active && held.session.session_type.is_synchronous() {
        presence::claim(held, user_id)?;
    }
    let before = held.cast.role_of(user_id);
    let role = held.cast.join(user_id, joining.role, held.session.planned(user_id), is_active)?;
    let known = Participant::find(held.transaction, &held.session.id, user_id)?;
    let consent = joining.recording_consent.or(known.as_ref().map(|known| known.recording_consent)).unwrap_or(false);
    let is_changed = known.as_ref().is_none_or(|known| known.recording_consent != consent) || before != Some(role);
    let row = seat(held, known, user_id, role, consent)?;
    if held.session.recording_enabled && !consent {
        if before.is_none() {
            course::require_consent([&row.data])?;
        }
        // Whoever takes the consent back is recorded no longer, nor is anybody else.
        held.session.recording_enabled = false;
        let session = json!({ "recordingEnabled": false, "reason": "consent_withdrawn", "userId": user_id });
        held.note("session.updated", &json!({ "session": session }))?;
    }
    let data = json!({ "userId": user_id, "role": role, "recordingConsent": consent });
    match before {
        None => held.note("participant.joined", &data).map(|_| ()),
        Some(_) if is_changed => held.note("participant.updated", &data).map(|_| ()),
        Some(_) => Ok(()),
    }
}

fn seat(
    held: &mut Held<'_>,
    known: Option<Stored<Participant>>,
    user_id: &Id,
    role: Role,
    recording_consent: bool,
) -> Result<Stored<Participant>> {
    let Some(mut row) = known else {
        let participant = Participant {
            session_id: held.session.id.clone(),
            user_id: user_id.clone(),
            role,
            recording_consent,
            joined_at: held.now,
            left_at: None,
        };
        let row = entity::create(held.transaction, participant)?;
        held.people.push(row.clone());
        return Ok(row);
    };
    let comes_back = row.left_at.take().is_some();
    if comes_back {
        row.joined_at = held.now;
    }
    (row.role, row.recording_consent) = (role, recording_consent);
    entity::save(held.transaction, &mut row)?;
    held.people.retain(|person| person.id != row.id);
    held.people.push(row.clone());
    Ok(row)
}

/// `PUT /api/pairing/sessions/{id}/leave`.
pub fn leave(Params(id): Params<Id>, if_match: IfMatch) -> Result<Whole> {
    api::change(&id, if_match, |held| {
        held.require_open()?;
        let (user_id, role) = held.require_joined()?;
        part_with(held, &user_id)?;
        held.note("participant.left", &json!({ "userId": user_id, "role": role }))?;
        let next = held.cast.leave(&user_id);
        let is_active = held.session.status == Status::Active;
        if is_active && held.people.is_empty() {
            return held.end(EndReason::Empty);
        }
        match next {
            Some(_) if is_active => held.note_switch(&user_id, "driver_left"),
            _ => Ok(()),
        }
    })
}

fn part_with(held: &mut Held<'_>, user_id: &Id) -> Result<()> {
    let Some(at) = held.people.iter().position(|person| person.user_id == *user_id) else { return Ok(()) };
    let mut row = held.people.remove(at);
    row.left_at = Some(held.now);
    entity::save(held.transaction, &mut row)?;
    // What was planned for them is not any more.
    let forget = |id: &mut Option<Id>| id.take_if(|id| id.as_str() == user_id.as_str()).is_some();
    if held.session.status == Status::Scheduled {
        let Session { driver_id, navigator_id, .. } = &mut held.session.data;
        forget(driver_id);
        forget(navigator_id);
    }
    presence::release(held.transaction, &held.session.id, Some(user_id))
}
