//! The routes of sessions.

use berth_sdk::{database::like, prelude::*};

use super::{
    EndReason, Session, SessionType, Status, announce,
    cast::Role,
    course,
    held::{Held, Planned, Whole},
    require_caretaker, require_people,
};
use crate::{
    invite,
    participant::{self, Participant},
    presence,
};

const PATH: &str = "/api/pairing/sessions";

/// The routes of sessions and of who takes part in them.
pub fn routes() -> Router {
    let row = format!("{PATH}/{{id}}");
    Router::new()
        .entity::<Session>(PATH)
        .get(PATH, list)
        .summary("List sessions; mine=true for those that concern the caller.")
        .post(PATH, create)
        .summary("Plan a session.")
        .get(&row, read)
        .summary("Read a session with who takes part.")
        .put(&format!("{row}/join"), participant::join)
        .summary("Join with a role, or change one's role or consent.")
        .put(&format!("{row}/leave"), participant::leave)
        .summary("Leave; a driver hands over to the navigator.")
        .post(&format!("{row}/start"), start)
        .summary("Begin.")
        .post(&format!("{row}/end"), end)
        .summary("End it for everybody.")
        .post(&format!("{row}/switch-roles"), switch)
        .summary("Let the navigator drive, or the participant named.")
        .get("/api/pairing/history", history)
        .summary("List sessions that are over, the newest first.")
}

/// The body of `POST /api/pairing/sessions`.
#[data]
pub struct NewSession {
    /// The project it belongs to.
    project_id: Option<Id>,
    /// What it is about.
    #[field(min = 1, max = 200, plain)]
    title: String,
    /// More about it.
    #[field(max = 10_000)]
    description: Option<String>,
    /// How they work together.
    #[field(default = SessionType::Pairing)]
    session_type: SessionType,
    /// Who is to drive.
    driver_id: Option<Id>,
    /// Who is to navigate.
    navigator_id: Option<Id>,
    /// Who else is asked to come.
    #[field(default, max = 50)]
    invitee_ids: Vec<Id>,
    /// Cursors and files are shared.
    #[field(default = true)]
    shared_editor: bool,
    /// A terminal is shared.
    #[field(default)]
    shared_terminal: bool,
    /// Media are shared.
    #[field(default = true)]
    voice_video_enabled: bool,
    /// It is recorded: whoever joins has to agree.
    #[field(default)]
    recording_enabled: bool,
    /// The file that is looked at first.
    #[field(max = 1_000)]
    current_file: Option<String>,
    /// When it is to begin.
    scheduled_at: Option<Timestamp>,
    /// How long it is to take.
    #[field(min = 1, max = 1_440)]
    duration_minutes: Option<i64>,
    /// The review that it is about.
    review_id: Option<Id>,
}

impl From<NewSession> for Session {
    fn from(new: NewSession) -> Self {
        Self {
            project_id: new.project_id,
            description: new.description,
            session_type: new.session_type,
            driver_id: new.driver_id,
            navigator_id: new.navigator_id,
            invitee_ids: new.invitee_ids,
            shared_editor: new.shared_editor,
            shared_terminal: new.shared_terminal,
            voice_video_enabled: new.voice_video_enabled,
            recording_enabled: new.recording_enabled,
            current_file: new.current_file,
            scheduled_at: new.scheduled_at,
            duration_minutes: new.duration_minutes,
            review_id: new.review_id,
            ..Self::titled(new.title)
        }
    }
}

/// `POST /api/pairing/sessions`.
pub fn create(Json(new): Json<NewSession>) -> Result<Planned> {
    let session = Session::from(new);
    require_people(None, &session)?;
    if let Some(id) = &session.project_id {
        people::project::require_anew(id)?;
    }
    let session = database::transaction(|transaction| {
        let row = entity::create(transaction, session)?;
        announce(transaction, "pairing.session.scheduled", &row, &[], &json!({}))?;
        invite::ask(transaction, None, &row)?;
        Ok::<_, Problem>(row)
    })?;
    Ok(Planned(Whole { session, participants: Vec::new() }))
}

/// `GET /api/pairing/sessions`.
pub fn list(query: PageQuery) -> Result<JsonText<Page<Stored<Session>>>> {
    mine(Select::new(), &query)?.page(&Pool, &query)
}

/// `GET /api/pairing/history`.
pub fn history(query: PageQuery) -> Result<JsonText<Page<Stored<Session>>>> {
    let past = Select::new().one_of("status", [Status::Completed, Status::Cancelled]).sort("-endedAt");
    mine(past, &query)?.page(&Pool, &query)
}

/// With `mine=true` only what the caller made, takes or took part in, or is asked to.
fn mine(select: Select<Session>, query: &PageQuery) -> Result<Select<Session>> {
    match query.filter("mine").as_deref() {
        None | Some("false") => Ok(select),
        Some("true") => {
            let user_id = auth::user_id()?;
            let sql = "created_by = ? OR driver_id = ? OR navigator_id = ? OR EXISTS (SELECT 1 FROM pairing_participants \
                       WHERE pairing_participants.session_id = pairing_sessions.id AND pairing_participants.user_id = ?) \
                       OR CAST(invitee_ids AS TEXT) LIKE ? ESCAPE '!'";
            let mut values = vec![database::Value::from(&user_id); 4];
            values.push(like::entry(&user_id).into());
            Ok(select.condition(sql, values))
        }
        Some(_) => Err(Problem::field("mine", "must be true or false")),
    }
}

/// `GET /api/pairing/sessions/{id}`.
pub fn read(Params(id): Params<Id>) -> Result<Whole> {
    let session = entity::read::<Session>(&Pool, &id)?;
    let participants = Participant::all(&Pool, &id)?;
    Ok(Whole { session, participants })
}

/// `POST /api/pairing/sessions/{id}/start`. Whoever begins a session that nobody has joined takes part in it.
pub fn start(Params(id): Params<Id>, if_match: IfMatch) -> Result<Whole> {
    change(&id, if_match, |held| {
        held.require_open()?;
        if held.session.status == Status::Active {
            return Err(Problem::conflict("The session goes on already.").with_code("SESSION_ACTIVE"));
        }
        require_caretaker(&held.session, &held.people)?;
        if held.people.is_empty() {
            participant::enter(held, &auth::user_id()?, &participant::Joining::default())?;
        }
        held.cast.require_enough()?;
        held.cast.settle();
        if held.session.recording_enabled {
            course::require_consent(held.people.iter().map(|person| &person.data))?;
        }
        if held.session.session_type.is_synchronous() {
            presence::claim_all(held)?;
        }
        held.begin()
    })
}

/// `POST /api/pairing/sessions/{id}/end`.
pub fn end(Params(id): Params<Id>, if_match: IfMatch) -> Result<Whole> {
    change(&id, if_match, |held| {
        held.require_active()?;
        require_hand(held)?;
        held.end(EndReason::Ended)
    })
}

/// Whom to give the keyboard.
#[data]
pub struct Switch {
    /// The next driver; the next navigator when nobody is named.
    driver_id: Option<Id>,
}

/// `POST /api/pairing/sessions/{id}/switch-roles`.
pub fn switch(Params(id): Params<Id>, if_match: IfMatch, input: Option<Json<Switch>>) -> Result<Whole> {
    let to = input.and_then(|Json(input)| input.driver_id);
    change(&id, if_match, |held| {
        held.require_active()?;
        require_hand(held)?;
        let (from, _) = held.cast.switch(to.as_ref())?;
        held.note_switch(&from, "switched")
    })
}

/// 403 for those who only look on: driver, navigators, who made the session and administrators lead it.
fn require_hand(held: &Held<'_>) -> Result<()> {
    let role = held.cast.role_of(&auth::principal().user_id.unwrap_or_default());
    match role {
        Some(Role::Driver | Role::Navigator) => Ok(()),
        Some(Role::Observer) | None => require_caretaker(&held.session, &[]),
    }
}

/// Changes a session that is held, and tells those who follow.
pub fn change(id: &Id, if_match: IfMatch, work: impl FnOnce(&mut Held<'_>) -> Result<()>) -> Result<Whole> {
    // Whether the caller sees it is asked before anything is held.
    entity::read::<Session>(&Pool, id)?;
    database::transaction(|transaction| {
        let mut held = Held::take(transaction, id)?;
        if_match.check(held.session.version)?;
        work(&mut held)?;
        held.keep()
    })
}
