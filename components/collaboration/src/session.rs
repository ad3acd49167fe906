//! Sessions: two, or a mob, at one screen; or those who look at the same code at times of their own.

pub mod api;
pub mod cast;
pub mod course;
pub mod held;

use berth_sdk::{events::Message, prelude::*, serde_json::Value};

use crate::{access, invite, live, participant::Participant, presence, project};
use cast::{MEMBERS_MAX, Role};

/// How they work together.
#[choice]
pub enum SessionType {
    /// Two at a time.
    Pairing,
    /// Three or more at a time.
    Mob,
    /// Each at their own time.
    Async,
}

impl SessionType {
    /// Whether its people are there at the same time: then they are in no other such session.
    pub fn is_synchronous(self) -> bool {
        self != Self::Async
    }
}

/// Where a session stands.
#[choice]
pub enum Status {
    /// It has not begun.
    Scheduled,
    /// It goes on.
    Active,
    /// It took place.
    Completed,
    /// It did not.
    Cancelled,
}

impl Status {
    /// Nothing changes any more.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Completed | Self::Cancelled)
    }
}

/// Why a session is over.
#[choice]
pub enum EndReason {
    /// Somebody ended it.
    Ended,
    /// The last one left.
    Empty,
    /// Nothing happened for long.
    Idle,
    /// It never began.
    Cancelled,
}

/// A session.
#[entity(table = "pairing_sessions", name = "session")]
pub struct Session {
    /// The project it belongs to; whoever does not see that does not see the session.
    #[field(immutable)]
    pub project_id: Option<Id>,
    /// What it is about.
    #[field(min = 1, max = 200, plain)]
    pub title: String,
    /// More about it.
    #[field(max = 10_000)]
    pub description: Option<String>,
    /// How they work together.
    #[field(default = SessionType::Pairing)]
    pub session_type: SessionType,
    /// Where it stands; written by hand only to cancel it.
    #[field(default = Status::Scheduled)]
    pub status: Status,
    /// Who drives; before it begins, who is to.
    pub driver_id: Option<Id>,
    /// Who navigates; before it begins, who is to. The first one of a mob.
    pub navigator_id: Option<Id>,
    /// Who else is asked to come.
    #[field(default, max = 50)]
    pub invitee_ids: Vec<Id>,
    /// Cursors and files are shared.
    #[field(default = true)]
    pub shared_editor: bool,
    /// A terminal is shared.
    #[field(default)]
    pub shared_terminal: bool,
    /// Media are shared.
    #[field(default = true)]
    pub voice_video_enabled: bool,
    /// It is recorded: everybody who takes part has agreed.
    #[field(default)]
    pub recording_enabled: bool,
    /// The file that is looked at.
    #[field(max = 1_000)]
    pub current_file: Option<String>,
    /// When it is to begin.
    pub scheduled_at: Option<Timestamp>,
    /// When it began.
    #[field(readonly)]
    pub started_at: Option<Timestamp>,
    /// When it was over.
    #[field(readonly)]
    pub ended_at: Option<Timestamp>,
    /// How long it is to take; how long it took once it is over.
    #[field(min = 0)]
    pub duration_minutes: Option<i64>,
    /// Where the recording is.
    #[field(max = 2_000, format = "url")]
    pub recording_url: Option<String>,
    /// The review that it is about.
    #[field(immutable)]
    pub review_id: Option<Id>,
    /// Why it is over.
    #[field(readonly)]
    pub end_reason: Option<EndReason>,
    /// The number of its newest event.
    #[field(readonly, hidden, default)]
    pub last_seq: i64,
    /// When somebody last did something.
    #[field(readonly, hidden)]
    pub active_at: Option<Timestamp>,
}

/// The longest plan, in minutes.
const PLANNED_MINUTES_MAX: i64 = 24 * 60;

impl Rules for Session {
    fn scope() -> Option<Condition> {
        project::within("pairing_sessions")
    }

    fn check(&self, faults: &mut Faults) {
        if self.driver_id.is_some() && self.driver_id == self.navigator_id {
            faults.add("navigatorId", "must be somebody else than the driver");
        }
        let is_plan = self.status == Status::Scheduled;
        if is_plan && self.duration_minutes.is_some_and(|minutes| !(1..=PLANNED_MINUTES_MAX).contains(&minutes)) {
            faults.add("durationMinutes", format!("must be from 1 to {PLANNED_MINUTES_MAX}"));
        }
        if self.invitee_ids.len() > MEMBERS_MAX {
            faults.add("inviteeIds", format!("must have at most {MEMBERS_MAX} entries"));
        }
    }

    fn before_update(&mut self, old: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        let people = Participant::present(transaction, &old.id)?;
        require_caretaker(old, &people)?;
        course::judge_update(old, self, &people)?;
        require_people(Some(old), self)?;
        if self.status == Status::Cancelled && old.status != Status::Cancelled {
            self.ended_at = Some(clock::now());
            self.end_reason = Some(EndReason::Cancelled);
        }
        if *self != old.data {
            self.active_at = Some(clock::now());
        }
        Ok(())
    }

    fn after_update(old: &Stored<Self>, new: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        if new.current_file != old.current_file {
            live::event::append(transaction, new, "file.changed", &json!({ "filePath": new.current_file }))?;
        }
        let is_cancelled = new.status == Status::Cancelled && old.status != Status::Cancelled;
        let kind = if is_cancelled { "session.ended" } else { "session.updated" };
        live::event::append(transaction, new, kind, &json!({ "session": new }))?;
        if is_cancelled {
            let people = Participant::present(transaction, &new.id)?;
            announce(transaction, "pairing.session.ended", new, &people, &json!({}))?;
            Participant::part(transaction, &new.id, clock::now())?;
            return Ok(());
        }
        if new.scheduled_at != old.scheduled_at && new.status == Status::Scheduled {
            let people = Participant::present(transaction, &new.id)?;
            announce(transaction, "pairing.session.scheduled", new, &people, &json!({}))?;
        }
        invite::ask(transaction, Some(old), new)
    }

    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        if row.status == Status::Active {
            return Err(Problem::conflict("The session goes on; end it first.").with_code("SESSION_ACTIVE"));
        }
        if row.status == Status::Scheduled {
            let mut gone = row.clone();
            gone.status = Status::Cancelled;
            gone.ended_at = Some(clock::now());
            gone.end_reason = Some(EndReason::Cancelled);
            announce(transaction, "pairing.session.ended", &gone, &[], &json!({}))?;
        }
        presence::release(transaction, &row.id, None)?;
        for table in ["pairing_events", "pairing_annotations", "pairing_participants"] {
            let sql = format!("DELETE FROM {table} WHERE session_id = $1 AND organization_id = $2");
            transaction.execute(&sql, params![&row.id, auth::organization_id()?])?;
        }
        Ok(())
    }

    fn committed(row: &Stored<Self>) {
        live::state::forget(&row.id);
    }

    fn event_data(row: &Stored<Self>) -> Value {
        json!({
            "id": row.id, "sessionId": row.id, "projectId": row.project_id, "title": row.title,
            "sessionType": row.session_type, "status": row.status, "driverId": row.driver_id,
            "navigatorId": row.navigator_id, "scheduledAt": row.scheduled_at, "startedAt": row.started_at,
            "endedAt": row.ended_at, "durationMinutes": row.duration_minutes, "reviewId": row.review_id,
            "reason": row.end_reason, "createdBy": row.created_by,
        })
    }
}

impl Session {
    /// A session that is planned, with nothing else said.
    pub fn titled(title: String) -> Self {
        Self {
            project_id: None,
            title,
            description: None,
            session_type: SessionType::Pairing,
            status: Status::Scheduled,
            driver_id: None,
            navigator_id: None,
            invitee_ids: Vec::new(),
            shared_editor: true,
            shared_terminal: false,
            voice_video_enabled: true,
            recording_enabled: false,
            current_file: None,
            scheduled_at: None,
            started_at: None,
            ended_at: None,
            duration_minutes: None,
            recording_url: None,
            review_id: None,
            end_reason: None,
            last_seq: 0,
            active_at: None,
        }
    }

    /// Everybody who is to come.
    pub fn named(&self) -> impl Iterator<Item = &Id> {
        self.driver_id.iter().chain(&self.navigator_id).chain(&self.invitee_ids)
    }

    /// What was planned for somebody.
    pub fn planned(&self, user_id: &str) -> Option<Role> {
        let is = |id: &Option<Id>| id.as_ref().is_some_and(|id| id.as_str() == user_id);
        match (is(&self.driver_id), is(&self.navigator_id)) {
            (true, _) => Some(Role::Driver),
            (_, true) => Some(Role::Navigator),
            _ => None,
        }
    }
}

/// Publishes what became of a session, with the people it concerns.
pub fn announce(
    transaction: &Transaction,
    kind: &str,
    row: &Stored<Session>,
    people: &[Stored<Participant>],
    more: &Value,
) -> Result<()> {
    let mut ids: Vec<&Id> = people.iter().map(|person| &person.user_id).collect();
    ids.extend(row.named());
    ids.sort_unstable();
    ids.dedup();
    let mut data = Session::event_data(row);
    if let (Some(data), Some(more)) = (data.as_object_mut(), more.as_object()) {
        data.insert("participantIds".into(), json!(ids));
        data.extend(more.clone());
    }
    transaction.send(&Message::new(kind, &data)?.with_key(row.id.as_str()))?;
    Ok(())
}

/// 400 that names everybody who is newly named and does not belong to the organization.
pub fn require_people(old: Option<&Session>, new: &Session) -> Result<()> {
    let mut faults = Faults::default();
    let mut require = |field: String, id: Option<&Id>, is_known: bool| {
        if let Some(id) = id.filter(|_| !is_known)
            && !people::is_member(id)?
        {
            faults.add(field, "is nobody of this organization");
        }
        Ok::<_, Problem>(())
    };
    require("driverId".into(), new.driver_id.as_ref(), old.is_some_and(|old| old.driver_id == new.driver_id))?;
    let keeps_navigator = old.is_some_and(|old| old.navigator_id == new.navigator_id);
    require("navigatorId".into(), new.navigator_id.as_ref(), keeps_navigator)?;
    for (index, id) in new.invitee_ids.iter().enumerate() {
        require(format!("inviteeIds[{index}]"), Some(id), old.is_some_and(|old| old.invitee_ids.contains(id)))?;
    }
    faults.finish()
}

/// 403 unless the caller looks after the session: made it, takes part or is to, or administers.
pub fn require_caretaker(session: &Stored<Session>, people: &[Stored<Participant>]) -> Result<()> {
    let user_id = auth::principal().user_id.unwrap_or_default();
    let made = session.created_by.as_deref() == Some(user_id.as_str());
    let takes_part = people.iter().any(|person| person.user_id.as_str() == user_id);
    if made || takes_part || session.planned(&user_id).is_some() || access::administers_sessions() {
        return Ok(());
    }
    Err(Problem::forbidden("Only who made the session or takes part in it does this."))
}
