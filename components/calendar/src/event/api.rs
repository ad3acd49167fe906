//! The routes of events.

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use super::{
    Event, EventStatus, EventType, attendee,
    attendee::{Answer, Attendee},
    create::{self, Extras, Whole, rename},
    forget, range,
    range::Filter,
    require_edit, require_seen,
    scope::{Target, Which},
    subject,
    view::{Entry, Viewer, parse_id},
};
use crate::{conflict, environment, plan, reminder};

const PATH: &str = "/api/calendar/events";

/// The routes.
pub fn routes() -> Router {
    let row = format!("{PATH}/{{id}}");
    Router::new()
        .get(PATH, list)
        .summary("List the events of a range, series expanded.")
        .sorts(&["startTime"])
        .post(PATH, make)
        .summary("Create an event.")
        .post(&format!("{PATH}/from-plan"), plan::propose::from_plan)
        .summary("Propose events for the steps of a plan.")
        .get(&row, read)
        .summary("Read an event, or one occurrence of a series.")
        .put(&row, change)
        .summary("Update an event: this occurrence, the following, or all.")
        .delete(&row, remove)
        .summary("Delete an event: this occurrence, the following, or all.")
        // One's own event is one's own to delete; the others are judged there.
        .permission(crate::WRITE)
        .post(&format!("{row}/respond"), respond)
        .summary("Answer an invitation.")
        .permission(crate::READ)
        .get(&format!("{row}/conflicts"), conflict::list)
        .summary("List the conflicts of an event.")
        .get(&format!("{row}/reminders"), reminder::list)
        .summary("List one's own reminders of an event.")
        .put(&format!("{row}/reminders"), reminder::replace)
        .summary("Replace one's own reminders of an event.")
        .permission(crate::READ)
        .get(&format!("{row}/export.ics"), export)
        .summary("Read an event as iCalendar.")
}

/// Which events are wanted.
#[data]
struct Wanted {
    /// From when on; RFC 3339.
    from: Timestamp,
    /// Until when, at most 366 days later.
    to: Timestamp,
    calendar_id: Option<Id>,
    project_id: Option<Id>,
    /// Whose events.
    user_id: Option<Id>,
    agent_id: Option<Id>,
    plan_id: Option<Id>,
    /// Kinds of events.
    #[field(max = 10)]
    r#type: Option<Vec<EventType>>,
    /// Without it, everything that is not cancelled.
    status: Option<EventStatus>,
}

/// A page of a range.
#[data]
pub struct Events {
    /// The events and occurrences, in the order of time.
    items: Vec<Map<String, Value>>,
    /// How many there are in the range.
    total: usize,
    limit: i64,
    offset: i64,
    /// A series has more occurrences than are given.
    is_truncated: bool,
}

fn list(Query(wanted): Query<Wanted>, page: PageQuery) -> Result<Json<Events>> {
    range::require_range(wanted.from, wanted.to, range::DAYS_MAX)?;
    let organization_id = auth::organization_id()?;
    let filter = Filter {
        calendar_id: wanted.calendar_id,
        outside: Vec::new(),
        project_id: wanted.project_id,
        user_id: wanted.user_id,
        agent_id: wanted.agent_id,
        plan_id: wanted.plan_id,
        types: wanted.r#type.unwrap_or_default(),
        status: wanted.status,
    };
    let viewer = Viewer::caller();
    let rows = range::rows(&Pool, &organization_id, &filter, wanted.from, wanted.to)?;
    let rows = range::unveiled(&Pool, &organization_id, &filter, &viewer, rows)?;
    let (mut spans, is_truncated) = range::expand(&rows, wanted.from, wanted.to);
    match (page.sort_by.as_deref(), page.descending) {
        (None | Some("startTime"), Some(true)) => spans.reverse(),
        (None | Some("startTime"), _) => {}
        (Some(_), _) => return Err(Problem::field("sortBy", "must be startTime")),
    }
    let total = spans.len();
    let (offset, limit) = (usize::try_from(page.offset).unwrap_or(0), usize::try_from(page.limit).unwrap_or(0));
    let spans: Vec<_> = spans.into_iter().skip(offset).take(limit).collect();
    let ids: std::collections::BTreeSet<&Id> =
        spans.iter().filter_map(|(index, _)| rows.get(*index).map(|row| &row.id)).collect();
    let attendees = attendee::of_events(&Pool, &organization_id, ids)?;
    let items = range::made(&rows, &spans, &attendees).into_iter().map(|entry| viewer.show(entry)).collect();
    Ok(Json(Events { items, total, limit: page.limit, offset: page.offset, is_truncated }))
}

/// `POST /api/calendar/events`. The event is read twice: once whole, for its faults, and once to see what is absent.
fn make(
    Json(mut fields): Json<Map<String, Value>>,
    Json(extras): Json<Extras>,
    Json(_): Json<Event>,
) -> Result<Response> {
    extras.check()?;
    rename(&mut fields);
    require_calendar(&fields)?;
    let known = environment::ask(&fields, None)?;
    let whole = database::transaction(|transaction| create::create(transaction, fields, &extras, known.as_ref()))?;
    answer(201, &whole, &Viewer::caller())
}

/// The calendar that is named is there and the caller's to fill. Who sees its project is asked for here, before the
/// transaction.
fn require_calendar(fields: &Map<String, Value>) -> Result<()> {
    let Some(id) = fields.get("calendarId").and_then(Value::as_str) else { return Ok(()) };
    crate::calendar::of_event(&Pool, &Id::parse(id)?).map(|_| ())
}

fn answer(status: u16, whole: &Whole, viewer: &Viewer) -> Result<Response> {
    Ok(Response::json(status, &whole.shown(&Pool, viewer)?)?.with_version(whole.row.version))
}

fn read(Params(id): Params<Id>, Query(which): Query<Which>) -> Result<Response> {
    let (row_id, start) = parse_id(&id);
    let row = entity::read::<Event>(&Pool, &row_id)?;
    let attendees = attendee::of_event(&Pool, &row.id)?;
    let entry = match start.or(which.recurrence_id) {
        None => Entry::of(&row, &attendees),
        Some(start) => {
            let span = row.series().begins_at(start).filter(|_| row.is_recurring);
            Entry::occurrence(&row, span.ok_or_else(|| Problem::missing("occurrence"))?, &attendees)
        }
    };
    let viewer = Viewer::caller();
    let is_whole = viewer.sees(&entry);
    let mut shown = viewer.show(entry);
    if is_whole {
        shown.insert("reminders".into(), json!(reminder::of_event(&Pool, &row.id)?));
    }
    Ok(Response::json(200, &shown)?.with_version(row.version))
}

fn change(
    Params(id): Params<Id>,
    Query(which): Query<Which>,
    if_match: IfMatch,
    Json(mut fields): Json<Map<String, Value>>,
    Json(extras): Json<Extras>,
) -> Result<Response> {
    extras.check()?;
    rename(&mut fields);
    let named = fields.get("recurrenceId").and_then(Value::as_str).and_then(Timestamp::parse);
    let viewer = Viewer::caller();
    let row = entity::read::<Event>(&Pool, &parse_id(&id).0)?;
    require_edit(&Pool, &row)?;
    require_seen(&Pool, &row, &viewer)?;
    require_calendar(&fields)?;
    let known = environment::ask(&fields, Some(&row))?;
    if let Some(known) = known.as_ref().filter(|_| fields.contains_key("environmentId")) {
        known.complete(&mut fields);
    }
    let whole = database::transaction(|transaction| {
        let target = Target::find(transaction, &id, &which, named)?;
        require_seen(transaction, target.row(), &viewer)?;
        target.change(transaction, fields.clone(), &extras, known.as_ref(), if_match)
    })?;
    answer(200, &whole, &viewer)
}

fn remove(Params(id): Params<Id>, Query(which): Query<Which>, if_match: IfMatch) -> Result<NoContent> {
    database::transaction(|transaction| {
        let target = Target::find(transaction, &id, &which, None)?;
        target.remove(transaction, if_match)
    })?;
    Ok(NoContent)
}

/// An answer to an invitation.
#[data]
struct Reply {
    #[schemars(extend("enum" = ["accepted", "declined", "tentative"]))]
    response: Answer,
}

fn respond(Params(id): Params<Id>, Json(input): Json<Reply>) -> Result<Stored<Attendee>> {
    let (id, _) = parse_id(&id);
    if input.response == Answer::Pending {
        return Err(Problem::field("response", "must be one of accepted, declined, tentative"));
    }
    let user_id = auth::user_id()?;
    database::transaction(|transaction| {
        let row = entity::read::<Event>(transaction, &id)?;
        if row.status == EventStatus::Cancelled {
            return Err(Problem::conflict("The event is cancelled."));
        }
        let mine = Select::<Attendee>::new().equal("event_id", &id).equal("user_id", &user_id).first(transaction)?;
        let Some(mut mine) = mine else {
            return Err(Problem::forbidden("Only who is invited answers."));
        };
        mine.response = input.response;
        entity::save(transaction, &mut mine)?;
        let attendees = attendee::of_event(transaction, &id)?;
        subject::hold(transaction, &row, &attendees)?;
        conflict::refresh(transaction, &row, &attendees)?;
        let more = json!({ "response": { "userId": user_id, "response": input.response } });
        create::publish(transaction, "calendar.event.updated", &row, &attendees, more)?;
        forget(transaction);
        Ok(mine)
    })
}

fn export(Params(id): Params<Id>) -> Result<Response> {
    let (id, _) = parse_id(&id);
    let row = entity::read::<Event>(&Pool, &id)?;
    crate::feed::one(&row)
}
