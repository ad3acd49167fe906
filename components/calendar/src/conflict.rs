//! Conflicts: two events that want the same person, agent, room or environment at the same time, or a step before the one it
//! waits for. They are found when an event is written, and kept.

use std::collections::{BTreeMap, BTreeSet};

use berth_sdk::{
    events::Message,
    http::FromRequest,
    prelude::*,
    serde_json::{Map, Value},
};

use crate::{
    environment,
    event::{
        self, Event, EventStatus, EventType,
        attendee::{self, Attendee},
        create::{Extras, rename},
        subject, view,
    },
    recurrence::Span,
};

/// How far ahead of its beginning a series is looked at.
const AHEAD: std::time::Duration = std::time::Duration::from_secs(92 * 24 * 3_600);
/// Other events that one check looks at.
const OTHERS_MAX: i64 = 500;
/// Conflicts that one check gives.
const CONFLICTS_MAX: usize = 100;

/// What both want.
#[choice]
#[derive(PartialOrd, Ord)]
pub enum ConflictType {
    /// A person's time.
    Time,
    /// An agent or a room.
    Resource,
    /// One is to begin before the other, which it waits for, is done.
    Dependency,
    /// An environment.
    Environment,
}

/// How bad it is.
#[choice]
pub enum Severity {
    /// One of them is not sure yet.
    Low,
    /// It can be arranged.
    Medium,
    /// It cannot go as it is.
    High,
}

/// What became of it.
#[choice]
pub enum ConflictStatus {
    /// Nothing yet.
    Open,
    /// It is none any more.
    Resolved,
    /// It may stay.
    Ignored,
}

/// A conflict of two events.
#[entity(table = "calendar_conflicts", name = "conflict", sort = "-createdAt")]
pub struct Conflict {
    /// The event that was written later.
    #[field(readonly)]
    pub event_id: Id,
    /// The other one.
    #[field(readonly)]
    pub other_event_id: Id,
    /// What both want.
    #[field(readonly)]
    pub r#type: ConflictType,
    /// How bad it is.
    #[field(readonly)]
    pub severity: Severity,
    /// What became of it.
    pub status: ConflictStatus,
    /// When they first meet.
    #[field(readonly)]
    pub start_time: Timestamp,
    /// Until when.
    #[field(readonly)]
    pub end_time: Timestamp,
    /// What was done about it.
    #[field(max = 2_000)]
    pub resolution: Option<String>,
}

impl Rules for Conflict {
    fn before_update(&mut self, old: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        let rows = Select::<Event>::new().one_of("id", [&old.event_id, &old.other_event_id]).all(transaction)?;
        if rows.iter().any(|row| event::require_edit(transaction, row).is_ok()) {
            return Ok(());
        }
        Err(Problem::forbidden("A conflict is settled by who may change one of its events."))
    }
}

/// The routes of conflicts.
pub fn routes() -> Router {
    const PATH: &str = "/api/calendar/conflicts";
    Router::new()
        .get(PATH, |query: PageQuery| shown().page(&Pool, &query))
        .summary("List conflicts, but those of private events of others.")
        .row::<Conflict>(PATH)
        // In the place of the rows' own way of reading.
        .get(&format!("{PATH}/{{id}}"), read)
        .summary("Read a conflict.")
        .post(&format!("{PATH}/check"), check)
        .summary("Check an event without writing it.")
        .permission(crate::READ)
}

/// The conflicts that are shown to the caller: what was done about one may say more of a private event than that somebody is
/// busy.
fn shown() -> Select<Conflict> {
    const BOTH: &str = "SELECT 1 FROM calendar_events e WHERE e.id IN (calendar_conflicts.event_id, calendar_conflicts.other_event_id)";
    let user_id = auth::principal().user_id.unwrap_or_default();
    let sql = format!(
        "EXISTS ({BOTH} AND (e.organizer_id = ? OR e.created_by = ? OR e.user_id = ? OR e.id IN (SELECT event_id \
         FROM calendar_attendees WHERE user_id = ?))) OR NOT EXISTS ({BOTH} AND e.visibility = 'private')"
    );
    Select::new().condition(&sql, [&user_id; 4])
}

/// `GET /api/calendar/conflicts/{id}`.
fn read(Params(id): Params<Id>) -> Result<Stored<Conflict>> {
    shown().equal("id", &id).first(&Pool)?.ok_or_else(|| Problem::missing("conflict"))
}

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What both want.
    pub kind: ConflictType,
    /// How bad it is.
    pub severity: Severity,
}

/// One event as it is judged.
struct Side<'event> {
    event: &'event Event,
    people: BTreeSet<String>,
    /// Those without whom it does not go.
    needed: BTreeSet<String>,
}

impl<'event> Side<'event> {
    fn new(event: &'event Event, attendees: &[Stored<Attendee>]) -> Self {
        let needed = attendees.iter().filter(|attendee| attendee.is_required);
        let needed = needed.filter_map(|attendee| attendee.user_id.as_ref().map(ToString::to_string));
        let needed = needed.chain(event.holder().map(ToString::to_string)).collect();
        Self { event, people: subject::people(event, attendees), needed }
    }
}

/// What two events that overlap are in conflict about.
fn judge(one: &Side<'_>, other: &Side<'_>) -> Vec<Verdict> {
    let (a, b) = (one.event, other.event);
    if !a.is_blocking() || !b.is_blocking() {
        return Vec::new();
    }
    let is_sure = a.status == EventStatus::Confirmed && b.status == EventStatus::Confirmed;
    let grade = |severity| if is_sure { severity } else { Severity::Low };
    let mut found = Vec::new();
    let shared: Vec<&String> = one.people.intersection(&other.people).collect();
    if !shared.is_empty() {
        let is_needed = shared.iter().any(|id| one.needed.contains(*id) && other.needed.contains(*id));
        let severity = grade(if is_needed { Severity::High } else { Severity::Medium });
        found.push(Verdict { kind: ConflictType::Time, severity });
    }
    if a.agent_id.is_some() && a.agent_id == b.agent_id {
        found.push(Verdict { kind: ConflictType::Resource, severity: grade(Severity::High) });
    } else if a.room.is_some() && a.room == b.room {
        found.push(Verdict { kind: ConflictType::Resource, severity: grade(Severity::Medium) });
    }
    let is_same_place = a.environment_name.is_some()
        && a.environment_name == b.environment_name
        && a.project_id.is_some()
        && a.project_id == b.project_id;
    if is_same_place {
        let are_deployments = a.event_type == EventType::Deployment && b.event_type == EventType::Deployment;
        let severity = grade(if are_deployments { Severity::High } else { Severity::Medium });
        found.push(Verdict { kind: ConflictType::Environment, severity });
    }
    found
}

/// A step begins before one that it waits for is done.
fn is_too_early(waiting: &Event, awaited: &Event) -> bool {
    let Some(step) = &awaited.plan_step_id else { return false };
    let waits = waiting.metadata.get("dependsOn").and_then(Value::as_array);
    waiting.plan_id.is_some()
        && waiting.plan_id == awaited.plan_id
        && waits.into_iter().flatten().any(|id| id.as_str() == Some(step.as_str()))
        && waiting.start_time < awaited.end_time
}

/// A conflict that was found.
pub struct Hit {
    /// The other event.
    pub other: Stored<Event>,
    /// About what.
    pub verdict: Verdict,
    /// When they first meet.
    pub span: Span,
}

/// What an event is in the way of.
pub fn find(
    database: &dyn Executor,
    own: Option<&Id>,
    event: &Event,
    attendees: &[Stored<Attendee>],
) -> Result<Vec<Hit>> {
    if event.status == EventStatus::Cancelled {
        return Ok(Vec::new());
    }
    let organization_id = auth::organization_id()?;
    let mine = Side::new(event, attendees);
    let to = if event.is_recurring { event.until_time.min(event.start_time.plus(AHEAD)) } else { event.end_time };
    let others = others(database, &organization_id, own, event, &mine.people, to)?;
    let coming = attendee::of_events(database, &organization_id, others.iter().map(|row| &row.id))?;
    let mine_spans = spans(event, event.start_time, to);
    let mut hits = Vec::new();
    for other in others {
        if hits.len() >= CONFLICTS_MAX {
            break;
        }
        let theirs = Side::new(&other, coming.get(&other.id).map(Vec::as_slice).unwrap_or_default());
        let whole = Span { start: event.start_time, end: event.end_time };
        let waits = is_too_early(event, &other) || is_too_early(&other, event);
        let mut verdicts = Vec::new();
        if let Some(span) = first_meeting(&mine_spans, &spans(&other, event.start_time, to)) {
            verdicts.extend(judge(&mine, &theirs).into_iter().map(|verdict| (verdict, span)));
        }
        if waits {
            verdicts.push((Verdict { kind: ConflictType::Dependency, severity: Severity::High }, whole));
        }
        hits.extend(verdicts.into_iter().map(|(verdict, span)| Hit { other: other.clone(), verdict, span }));
    }
    Ok(hits)
}

fn spans(event: &Event, from: Timestamp, to: Timestamp) -> Vec<Span> {
    if event.is_recurring {
        return event.series().between(from, to, 400).occurrences;
    }
    vec![Span { start: event.start_time, end: event.end_time }]
}

/// The first time that two lists of spans, each in its order, meet.
fn first_meeting(one: &[Span], other: &[Span]) -> Option<Span> {
    let (mut left, mut right) = (one.iter().peekable(), other.iter().peekable());
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        if a.overlaps(**b) {
            return Some(Span { start: a.start.max(b.start), end: a.end.min(b.end) });
        }
        if a.end <= b.end {
            left.next();
        } else {
            right.next();
        }
    }
    None
}

/// The events that want something of the same.
fn others(
    database: &dyn Executor,
    organization_id: &Id,
    own: Option<&Id>,
    event: &Event,
    people: &BTreeSet<String>,
    to: Timestamp,
) -> Result<Vec<Stored<Event>>> {
    let mut parts: Vec<String> = Vec::new();
    let mut values: Vec<String> = Vec::new();
    let people: Vec<&String> = people.iter().take(attendee::ATTENDEES_MAX + 1).collect();
    if !people.is_empty() && event.is_blocking() {
        let places = vec!["?"; people.len()].join(", ");
        parts.push(format!("user_id IN ({places}) OR organizer_id IN ({places})"));
        values.extend(people.iter().chain(&people).map(ToString::to_string));
        parts.push(format!(
            "id IN (SELECT event_id FROM calendar_attendees WHERE organization_id = ? AND user_id IN ({places}) AND response <> 'declined')"
        ));
        values.push(organization_id.to_string());
        values.extend(people.iter().map(ToString::to_string));
    }
    if let Some(agent_id) = &event.agent_id {
        parts.push("agent_id = ?".into());
        values.push(agent_id.to_string());
    }
    if let (Some(project_id), Some(name)) = (&event.project_id, &event.environment_name) {
        parts.push("(project_id = ? AND environment_name = ?)".into());
        values.extend([project_id.to_string(), name.to_lowercase()]);
    }
    if let Some(room) = &event.room {
        parts.push("room = ?".into());
        values.push(room.clone());
    }
    let near = "start_time < ? AND until_time > ?";
    let mut select = Select::<Event>::new().condition("status <> ?", ["cancelled"]).limit(OTHERS_MAX);
    if let Some(own) = own {
        select =
            select.condition("id <> ? AND (recurrence_parent_id IS NULL OR recurrence_parent_id <> ?)", [own, own]);
    }
    if let Some(parent) = &event.recurrence_parent_id {
        // The series without this occurrence is the same event.
        select = select
            .condition("id <> ? AND (recurrence_parent_id IS NULL OR recurrence_parent_id <> ?)", [parent, parent]);
    }
    let wanted = |parts: &[String]| format!("({near}) AND ({})", parts.join(" OR "));
    let mut all: Vec<database::Value> = vec![to.into(), event.start_time.into()];
    all.extend(values.into_iter().map(database::Value::from));
    let sql = match (&event.plan_id, parts.is_empty()) {
        (None, true) => return Ok(Vec::new()),
        (None, false) => wanted(&parts),
        (Some(plan_id), is_empty) => {
            if is_empty {
                all.clear();
            }
            all.push(plan_id.into());
            if is_empty { "plan_id = ?".to_string() } else { format!("({}) OR plan_id = ?", wanted(&parts)) }
        }
    };
    select.condition(&sql, all).all(database)
}

/// Finds the conflicts of an event that was written, and keeps them: new ones are told of, and what is none any more is
/// resolved. Returns those that are open.
pub fn refresh(
    transaction: &Transaction,
    row: &Stored<Event>,
    attendees: &[Stored<Attendee>],
) -> Result<Vec<Stored<Conflict>>> {
    let hits = find(transaction, Some(&row.id), row, attendees)?;
    let known = of_event(transaction, &row.id)?;
    let mut open = Vec::new();
    let mut met: BTreeMap<(Id, ConflictType), ()> = BTreeMap::new();
    for hit in hits {
        met.insert((hit.other.id.clone(), hit.verdict.kind), ());
        let before = known.iter().find(|old| other_of(old, &row.id) == hit.other.id && old.r#type == hit.verdict.kind);
        let conflict = match before {
            None => made(transaction, row, &hit)?,
            Some(old) => {
                let mut old = old.clone();
                old.severity = hit.verdict.severity;
                old.start_time = hit.span.start;
                old.end_time = hit.span.end;
                if old.status == ConflictStatus::Resolved {
                    old.status = ConflictStatus::Open;
                    old.resolution = None;
                }
                entity::save(transaction, &mut old)?;
                old
            }
        };
        if conflict.status == ConflictStatus::Open {
            open.push(conflict);
        }
    }
    for old in known {
        let is_met = met.contains_key(&(other_of(&old, &row.id), old.r#type));
        if !is_met && old.status == ConflictStatus::Open {
            let mut old = old;
            old.status = ConflictStatus::Resolved;
            old.resolution = Some("They no longer meet.".into());
            entity::save(transaction, &mut old)?;
        }
    }
    Ok(open)
}

fn other_of(conflict: &Conflict, event_id: &Id) -> Id {
    if conflict.event_id == *event_id { conflict.other_event_id.clone() } else { conflict.event_id.clone() }
}

fn made(transaction: &Transaction, row: &Stored<Event>, hit: &Hit) -> Result<Stored<Conflict>> {
    let conflict = Conflict {
        event_id: row.id.clone(),
        other_event_id: hit.other.id.clone(),
        r#type: hit.verdict.kind,
        severity: hit.verdict.severity,
        status: ConflictStatus::Open,
        start_time: hit.span.start,
        end_time: hit.span.end,
        resolution: None,
    };
    let conflict = entity::create(transaction, conflict)?;
    let data = json!({
        "id": conflict.id, "conflictId": conflict.id, "eventId": row.id, "otherEventId": hit.other.id,
        "type": conflict.r#type, "severity": conflict.severity, "startTime": conflict.start_time,
        "endTime": conflict.end_time, "organizerId": row.organizer_id, "otherOrganizerId": hit.other.organizer_id,
    });
    transaction.send(&Message::new("calendar.conflict", &data)?.with_key(row.id.as_str()))?;
    Ok(conflict)
}

/// Every conflict that an event has or had.
pub fn of_event(database: &dyn Executor, id: &Id) -> Result<Vec<Stored<Conflict>>> {
    Select::<Conflict>::new().condition("event_id = ? OR other_event_id = ?", [id, id]).limit(1_000).all(database)
}

/// `GET /api/calendar/events/{id}/conflicts`.
pub fn list(Params(id): Params<Id>, query: PageQuery) -> Result<JsonText<berth_sdk::page::Page<Stored<Conflict>>>> {
    let (id, _) = view::parse_id(&id);
    entity::read::<Event>(&Pool, &id)?;
    shown().condition("event_id = ? OR other_event_id = ?", [&id, &id]).page(&Pool, &query)
}

/// The event that is itself and not in its own way.
#[data]
struct Except {
    /// An event that is to be changed.
    exclude_event_id: Option<Id>,
}

/// `POST /api/calendar/conflicts/check`: an event as it would be sent, without a title.
fn check(
    Json(mut fields): Json<Map<String, Value>>,
    Json(extras): Json<Extras>,
    Json(except): Json<Except>,
) -> Result<Json<Value>> {
    rename(&mut fields);
    extras.check()?;
    fields.entry("title").or_insert_with(|| "?".into());
    let known = environment::ask(&fields, None)?;
    if let Some(known) = &known {
        known.complete(&mut fields);
    }
    let mut request = Request::new("POST", "/").with_json(&Value::Object(fields));
    let Json(mut event) = Json::<Event>::from_request(&mut request)?;
    let mut faults = Faults::default();
    event.check(&mut faults);
    faults.finish()?;
    event.organizer_id = auth::user_id()?.into_string();
    event.settle();
    let coming = extras.attendees.unwrap_or_default().into_iter().map(would_come).collect::<Vec<_>>();
    let hits = find(&Pool, except.exclude_event_id.as_ref(), &event, &coming)?;
    let refused = environment::require(&Pool, &event, known.as_ref()).err().filter(|problem| problem.status == 422);
    let viewer = view::Viewer::caller();
    let organization_id = auth::organization_id()?;
    let attendees = attendee::of_events(&Pool, &organization_id, hits.iter().map(|hit| &hit.other.id))?;
    let shown = |hit: &Hit| {
        let coming = attendees.get(&hit.other.id).map(Vec::as_slice).unwrap_or_default();
        json!({
            "otherEventId": hit.other.id, "type": hit.verdict.kind, "severity": hit.verdict.severity,
            "startTime": hit.span.start, "endTime": hit.span.end, "event": viewer.show(view::Entry::of(&hit.other, coming)),
        })
    };
    Ok(Json(json!({
        "hasConflicts": !hits.is_empty(),
        "conflicts": hits.iter().map(shown).collect::<Vec<_>>(),
        "isAllowed": refused.is_none(),
        "suggestedTime": refused.as_ref().and_then(|problem| problem.member("suggestedTime").cloned()),
    })))
}

/// An invitation as it would be.
fn would_come(invitation: attendee::Invitation) -> Stored<Attendee> {
    let data = Attendee {
        event_id: Id::from("none"),
        user_id: invitation.user_id,
        email: invitation.email,
        response: attendee::Answer::Pending,
        is_required: invitation.is_required,
    };
    let now = clock::now();
    Stored {
        id: Id::new(),
        organization_id: None,
        created_by: None,
        created_at: now,
        updated_at: now,
        version: 1,
        data,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::propose::blank;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_millis(minute * 60_000)
    }

    fn span(start: i64, end: i64) -> Span {
        Span { start: at(start), end: at(end) }
    }

    /// An hour of somebody's.
    fn hour(user: &str) -> Event {
        Event { organizer_id: user.into(), event_type: EventType::Meeting, ..blank("x".into(), at(0)) }
    }

    fn invited(user: &str, is_required: bool) -> Vec<Stored<Attendee>> {
        vec![would_come(attendee::Invitation { user_id: Some(user.into()), email: None, is_required })]
    }

    fn verdicts(one: &Side<'_>, other: &Side<'_>) -> Vec<(ConflictType, Severity)> {
        judge(one, other).into_iter().map(|verdict| (verdict.kind, verdict.severity)).collect()
    }

    #[test]
    fn what_both_want_and_how_bad_that_is() {
        use ConflictType::{Environment, Resource, Time};
        let (ada, bob) = (hour("ada"), hour("bob"));
        let (needed, welcome) = (invited("bob", true), invited("bob", false));
        let others = Side::new(&bob, &[]);
        assert_eq!(verdicts(&Side::new(&ada, &[]), &others), []);
        assert_eq!(verdicts(&Side::new(&ada, &needed), &others), [(Time, Severity::High)]);
        assert_eq!(verdicts(&Side::new(&ada, &welcome), &others), [(Time, Severity::Medium)], "it goes without them");
        let unsure = Event { status: EventStatus::Tentative, ..ada.clone() };
        assert_eq!(verdicts(&Side::new(&unsure, &needed), &others), [(Time, Severity::Low)]);
        let deadline = Event { event_type: EventType::Deadline, ..ada.clone() };
        assert_eq!(verdicts(&Side::new(&deadline, &needed), &others), [], "a deadline takes nobody's time");
        let of = |user, agent: Option<&str>, room: Option<&str>, project: Option<&str>| Event {
            agent_id: agent.map(Id::from),
            room: room.map(ToString::to_string),
            project_id: project.map(Id::from),
            environment_name: Some("production".into()),
            ..hour(user)
        };
        let meet = |one: &Event, other: &Event| verdicts(&Side::new(one, &[]), &Side::new(other, &[]));
        assert_eq!(
            meet(&of("a", Some("x"), None, None), &of("b", Some("x"), None, None)),
            [(Resource, Severity::High)]
        );
        assert_eq!(
            meet(&of("a", None, Some("r"), None), &of("b", None, Some("r"), None)),
            [(Resource, Severity::Medium)]
        );
        let (one, other) = (of("a", None, None, Some("p")), of("b", None, None, Some("p")));
        assert_eq!(meet(&one, &other), [(Environment, Severity::Medium)]);
        assert_eq!(meet(&one, &of("b", None, None, Some("q"))), [], "another project's");
        let deploys = |event: Event| Event { event_type: EventType::Deployment, ..event };
        assert_eq!(meet(&deploys(one), &deploys(other)), [(Environment, Severity::High)]);
    }

    #[test]
    fn a_step_waits_for_the_steps_of_its_own_plan() {
        let step = |id: &str, waits: &[&str], start| {
            let mut event =
                Event { plan_id: Some("p".into()), plan_step_id: Some(id.into()), ..blank("s".into(), at(start)) };
            event.metadata.insert("dependsOn".into(), json!(waits));
            event
        };
        let first = step("one", &[], 0);
        assert!(is_too_early(&step("two", &["zero", "one"], 59), &first));
        assert!(!is_too_early(&step("two", &["one"], 60), &first), "it begins when the other is done");
        assert!(!is_too_early(&step("two", &["zero"], 0), &first), "it waits for another");
        assert!(!is_too_early(&first, &step("two", &["one"], 0)), "what is waited for waits for nothing");
        let elsewhere = Event { plan_id: Some("q".into()), ..step("two", &["one"], 0) };
        assert!(!is_too_early(&elsewhere, &first));
        assert!(
            !is_too_early(&Event { plan_id: None, ..elsewhere }, &Event { plan_id: None, ..first }),
            "no plan at all"
        );
    }

    #[test]
    fn series_meet_where_they_first_overlap() {
        let (one, other) = ([span(0, 10), span(20, 30), span(40, 50)], [span(10, 20), span(25, 45)]);
        assert_eq!(first_meeting(&one, &other), Some(span(25, 30)));
        assert_eq!(first_meeting(&other, &one), Some(span(25, 30)));
        assert_eq!(first_meeting(&one, &[span(10, 20), span(30, 40)]), None, "what touches does not overlap");
        assert_eq!(first_meeting(&one, &[]), None);
    }
}
