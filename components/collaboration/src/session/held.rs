//! A session whose row a transaction holds: what is done to it comes one after another, on every database and every host.

use berth_sdk::{
    prelude::*,
    router::Route,
    serde_json::{Map, Value},
};

use super::{
    EndReason, Session, Status, announce,
    cast::{Cast, Role},
    course,
};
use crate::{live, participant::Participant, presence};

/// A session, held, with those who are there.
pub struct Held<'a> {
    /// The transaction that holds it.
    pub transaction: &'a Transaction,
    /// The session.
    pub session: Stored<Session>,
    /// Who has joined and not left, in the order of joining.
    pub people: Vec<Stored<Participant>>,
    /// Who sits where; written by [`Held::keep`].
    pub cast: Cast,
    /// When.
    pub now: Timestamp,
}

impl<'a> Held<'a> {
    /// Waits for the session's row and holds it to the end of the transaction. 404.
    pub fn take(transaction: &'a Transaction, id: &Id) -> Result<Self> {
        transaction.execute(
            "UPDATE pairing_sessions SET last_seq = last_seq WHERE id = $1 AND organization_id = $2",
            params![id, auth::organization_id()?],
        )?;
        let session = entity::read::<Session>(transaction, id)?;
        let people = Participant::present(transaction, id)?;
        let seats = people.iter().map(|person| (person.user_id.clone(), person.role)).collect();
        let cast = Cast::new(session.session_type, seats);
        Ok(Self { transaction, session, people, cast, now: clock::now() })
    }

    /// 409 when it is over.
    pub fn require_open(&self) -> Result<()> {
        if self.session.status.is_over() { Err(course::over(self.session.status)) } else { Ok(()) }
    }

    /// 409 unless it goes on.
    pub fn require_active(&self) -> Result<()> {
        self.require_open()?;
        if self.session.status == Status::Active {
            return Ok(());
        }
        Err(Problem::conflict("The session has not begun.").with_code("SESSION_NOT_STARTED"))
    }

    /// The caller's role; 409 when the caller has not joined.
    pub fn require_joined(&self) -> Result<(Id, Role)> {
        let user_id = auth::user_id()?;
        match self.cast.role_of(&user_id) {
            Some(role) => Ok((user_id, role)),
            None => Err(Problem::conflict("Join the session first.").with_code("NOT_JOINED")),
        }
    }

    /// Notes what has happened for those who follow.
    pub fn note(&mut self, kind: &str, data: &Value) -> Result<i64> {
        self.note_for(kind, data, None)
    }

    /// The same for one of them.
    pub fn note_for(&mut self, kind: &str, data: &Value, to: Option<&Id>) -> Result<i64> {
        self.session.last_seq += 1;
        live::event::write(self.transaction, &self.session.id, self.session.last_seq, (kind, data), to)?;
        Ok(self.session.last_seq)
    }

    /// Publishes what has become of it.
    pub fn announce(&self, kind: &str, more: &Value) -> Result<()> {
        announce(self.transaction, kind, &self.session, &self.people, more)
    }

    /// Notes and publishes that somebody else drives.
    pub fn note_switch(&mut self, from: &Id, reason: &str) -> Result<()> {
        self.name_drivers(self.session.status == Status::Scheduled);
        let data = json!({
            "sessionId": self.session.id, "driverId": self.session.driver_id, "navigatorId": self.session.navigator_id,
            "previousDriverId": from, "reason": reason, "roles": self.roles(),
        });
        self.note("role.switched", &data)?;
        self.announce("pairing.role.switched", &data)
    }

    fn roles(&self) -> Value {
        self.cast.seats().iter().map(|(id, role)| json!({ "userId": id, "role": role })).collect()
    }

    /// Begins it.
    pub fn begin(&mut self) -> Result<()> {
        self.session.status = Status::Active;
        self.session.started_at = Some(self.now);
        self.name_drivers(false);
        let data = json!({
            "startedAt": self.now, "driverId": self.session.driver_id, "navigatorId": self.session.navigator_id,
            "roles": self.roles(),
        });
        self.note("session.started", &data)?;
        self.announce("pairing.session.started", &json!({}))
    }

    /// Ends it for everybody.
    pub fn end(&mut self, reason: EndReason) -> Result<()> {
        let session = &mut self.session;
        session.status = Status::Completed;
        session.ended_at = Some(self.now);
        session.end_reason = Some(reason);
        session.duration_minutes = Some(minutes_between(session.started_at.unwrap_or(self.now), self.now));
        let minutes = session.duration_minutes;
        let id = session.id.clone();
        Participant::part(self.transaction, &id, self.now)?;
        presence::release(self.transaction, &id, None)?;
        self.note("session.ended", &json!({ "reason": reason, "endedAt": self.now, "durationMinutes": minutes }))?;
        self.announce("pairing.session.ended", &json!({}))
    }

    /// Writes it, and who sits where.
    pub fn keep(mut self) -> Result<Whole> {
        self.session.active_at = Some(self.now);
        if !self.session.status.is_over() {
            self.name_drivers(self.session.status == Status::Scheduled);
            for person in &mut self.people {
                if let Some(role) = self.cast.role_of(&person.user_id)
                    && role != person.role
                {
                    person.role = role;
                    entity::save(self.transaction, person)?;
                }
            }
        }
        entity::save(self.transaction, &mut self.session)?;
        live::state::stale(self.transaction, &self.session.id);
        let participants = Participant::all(self.transaction, &self.session.id)?;
        Ok(Whole { session: self.session, participants })
    }

    /// Names who drives and who navigates. In a plan those stay named who have not come yet.
    fn name_drivers(&mut self, is_plan: bool) {
        let kept = |id: &Option<Id>| id.clone().filter(|id| is_plan && self.cast.role_of(id).is_none());
        let driver = self.cast.driver().cloned().or_else(|| kept(&self.session.driver_id));
        let navigator = self.cast.navigator().cloned().or_else(|| kept(&self.session.navigator_id));
        self.session.navigator_id = navigator.filter(|id| Some(id) != driver.as_ref());
        self.session.driver_id = driver;
    }
}

/// Whole minutes, to the nearest one.
fn minutes_between(from: Timestamp, to: Timestamp) -> i64 {
    i64::try_from((to.since(from).as_secs() + 30) / 60).unwrap_or(i64::MAX)
}

/// A session with everybody who takes or took part.
#[derive(Debug)]
pub struct Whole {
    /// The session.
    pub session: Stored<Session>,
    /// Who takes or took part, in the order of joining.
    pub participants: Vec<Stored<Participant>>,
}

impl Whole {
    /// As it is shown.
    pub fn shown(&self) -> Map<String, Value> {
        let mut shown = self.session.shown();
        shown.insert("participants".into(), json!(self.participants));
        shown
    }
}

impl Answer for Whole {
    fn into_response(self) -> Result<Response> {
        Ok(Response::json(200, &self.shown())?.with_version(self.session.version))
    }
    fn describe(route: &mut Route) {
        <Stored<Session> as Answer>::describe(route);
    }
}

/// A session that was just planned.
#[derive(Debug)]
pub struct Planned(pub Whole);

impl Answer for Planned {
    fn into_response(self) -> Result<Response> {
        Ok(Response { status: 201, ..self.0.into_response()? })
    }
    fn describe(route: &mut Route) {
        <Created<Stored<Session>> as Answer>::describe(route);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_counted_in_whole_minutes() {
        let at = Timestamp::from_millis;
        assert_eq!(minutes_between(at(0), at(29_999)), 0);
        assert_eq!(minutes_between(at(0), at(30_000)), 1);
        assert_eq!(minutes_between(at(0), at(3_629_000)), 60);
        assert_eq!(minutes_between(at(60_000), at(0)), 0);
    }
}
