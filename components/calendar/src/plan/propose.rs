//! Proposing events for the steps of a plan: tentative ones, once for each step, moved when they are proposed again.

use std::collections::BTreeMap;

use berth_sdk::{
    http_out,
    prelude::*,
    serde_json::{self, Map, Value},
};
use time_rules::TimeRules;

use super::{
    Prediction, predictions,
    schedule::{Placed, Step, place},
};
use crate::{
    calendar, environment,
    event::{
        Event, EventStatus, EventType, Visibility, create, forget,
        view::{Entry, Viewer},
    },
    recurrence::LAST_MILLIS,
};

/// The most steps of a plan, and what planning answers at once.
const STEPS_MAX: usize = 500;
const PAGE: usize = 200;

/// What the events have to keep to.
#[data]
#[derive(Default)]
pub struct Constraints {
    /// Nothing begins earlier; now when absent.
    start_after: Option<Timestamp>,
    /// Everything is over by then, or it is a 422.
    end_before: Option<Timestamp>,
    /// As in `09:00-17:00`.
    #[field(default, max = 48)]
    allowed_hours: Vec<String>,
    /// `saturday`, or a date.
    #[field(default, max = 400)]
    blocked_days: Vec<String>,
    /// Whose wall clock.
    #[field(default = "UTC", max = 64, format = "timezone")]
    timezone: String,
    /// Whose rules count as well.
    #[field(max = 100)]
    environment: Option<String>,
    /// Who does what people do.
    user_id: Option<Id>,
    calendar_id: Option<Id>,
}

/// What is asked.
#[data]
pub struct Wish {
    plan_id: Id,
    constraints: Option<Constraints>,
    /// Only shown, not kept.
    #[field(default)]
    dry_run: bool,
}

/// What is proposed.
#[data]
pub struct Proposal {
    plan_id: Id,
    /// The events; without ids where nothing is kept.
    items: Vec<Map<String, Value>>,
    start: Option<Timestamp>,
    end: Option<Timestamp>,
    is_kept: bool,
}

/// A plan as planning tells it.
#[data]
struct Plan {
    id: Id,
    project_id: Option<Id>,
    #[field(default = "")]
    title: String,
    estimated_time: Option<u64>,
}

/// `POST /api/calendar/events/from-plan`.
pub fn from_plan(Json(wish): Json<Wish>) -> Result<Json<Proposal>> {
    let constraints = wish.constraints.unwrap_or_default();
    propose(&wish.plan_id, &constraints, wish.dry_run).map(Json)
}

/// The consumer of `planning.plan.approved`.
pub fn approved(envelope: &Envelope) -> Result<()> {
    #[data]
    struct Approved {
        plan_id: Id,
    }
    let approved: Approved = envelope.data()?;
    match propose(&approved.plan_id, &Constraints::default(), false) {
        // What planning refuses will not come right by waiting; a planning that is away will.
        Err(problem) if problem.status < 500 => {
            logging::info!("nothing is proposed for a plan", plan = approved.plan_id, problem = problem);
            Ok(())
        }
        result => result.map(|_| ()),
    }
}

fn propose(plan_id: &Id, constraints: &Constraints, is_dry: bool) -> Result<Proposal> {
    let own = TimeRules {
        allowed_hours: constraints.allowed_hours.clone(),
        blocked_days: constraints.blocked_days.clone(),
        timezone: constraints.timezone.clone(),
    };
    let mut faults = Faults::default();
    own.faults("constraints", &mut faults);
    faults.finish()?;
    if let Some(id) = &constraints.calendar_id {
        calendar::of_event(&Pool, id)?;
    }
    let (plan, steps) = fetch(plan_id)?;
    let now = clock::now();
    let begin = constraints.start_after.unwrap_or(now);
    // To the next full five minutes: nobody begins at 10:03:17.
    let step = 5 * 60 * 1_000;
    let begin = Timestamp::from_millis((begin.millis() + step - 1) / step * step);
    let mut probe = draft(&plan, constraints);
    probe.end_time = begin;
    let known = environment::ask(&Map::new(), Some(&probe))?;
    let mut rules = environment::rules_of(&Pool, &probe, known.as_ref())?;
    rules.extend(Some(own).filter(|rules| !rules.is_empty()));
    let placed = place(&steps, begin, &rules, plan.estimated_time).ok_or_else(|| {
        Problem::unprocessable("The steps find no window that is open long enough.").with_code("NO_WINDOW")
    })?;
    let end = placed.iter().map(|placed| placed.span.end).max();
    if let (Some(end), Some(before)) = (end, constraints.end_before)
        && end > before
    {
        let problem = Problem::unprocessable(format!("The plan would be done at {end}, which is too late."));
        return Err(problem.with_code("TOO_LATE").with("suggestedEnd", json!(end)));
    }
    let events: Vec<Event> =
        placed.iter().filter_map(|placed| event(&plan, steps.get(placed.index)?, placed, constraints)).collect();
    let items = if is_dry {
        events.iter().filter_map(|event| serde_json::to_value(event).ok()?.as_object().cloned()).collect()
    } else {
        let viewer = Viewer::caller();
        keep(&plan, &steps, &placed, events)?.into_iter().map(|entry| viewer.show(entry)).collect()
    };
    let start = placed.iter().map(|placed| placed.span.start).min();
    Ok(Proposal { plan_id: plan.id, items, start, end, is_kept: !is_dry })
}

fn fetch(plan_id: &Id) -> Result<(Plan, Vec<Step>)> {
    let planning = http_out::plugin("planning");
    let plan: Plan = planning.get(&format!("/api/plans/{plan_id}")).fetch()?;
    #[data]
    struct Page {
        items: Vec<Step>,
        total: usize,
    }
    let mut steps: Vec<Step> = Vec::new();
    while steps.len() < STEPS_MAX {
        let call = planning
            .get(&format!("/api/plans/{plan_id}/steps"))
            .query("limit", &PAGE.to_string())
            .query("offset", &steps.len().to_string());
        let page: Page = call.fetch()?;
        let is_last = page.items.is_empty();
        steps.extend(page.items);
        if is_last || steps.len() >= page.total {
            break;
        }
    }
    Ok((plan, steps))
}

fn event(plan: &Plan, step: &Step, placed: &Placed, constraints: &Constraints) -> Option<Event> {
    let kind = step.event_type();
    let is_human = matches!(kind, EventType::Approval | EventType::Decision | EventType::HumanAction);
    let metadata = json!({
        "planTitle": plan.title, "stepType": step.r#type, "stepOrder": step.order, "dependsOn": step.dependencies,
        "confidence": placed.confidence,
    });
    Some(Event {
        title: step.title.chars().take(200).collect(),
        event_type: kind,
        plan_step_id: Some(step.id.clone()),
        user_id: constraints.user_id.clone().filter(|_| is_human),
        start_time: placed.span.start,
        end_time: placed.span.end,
        metadata: metadata.as_object()?.clone(),
        origin: Some(origin(&plan.id, &step.id)),
        ..draft(plan, constraints)
    })
}

fn origin(plan_id: &Id, step_id: &Id) -> String {
    format!("plan:{plan_id}:{step_id}")
}

fn draft(plan: &Plan, constraints: &Constraints) -> Event {
    let caller = auth::principal().user_id.unwrap_or_else(|| "system".into());
    Event {
        calendar_id: constraints.calendar_id.clone(),
        project_id: plan.project_id.clone(),
        environment_name: constraints.environment.as_ref().map(|name| name.to_lowercase()),
        // Constraints that nobody has written are empty.
        timezone: Some(constraints.timezone.clone()).filter(|name| !name.is_empty()).unwrap_or_else(|| "UTC".into()),
        plan_id: Some(plan.id.clone()),
        status: EventStatus::Tentative,
        visibility: Visibility::Organization,
        organizer_id: caller,
        ..blank(String::new(), clock::now())
    }
}

/// An event of which little is known yet.
pub fn blank(title: String, start: Timestamp) -> Event {
    Event {
        calendar_id: None,
        project_id: None,
        user_id: None,
        agent_id: None,
        environment_id: None,
        environment_name: None,
        title,
        description: None,
        location: None,
        start_time: start,
        end_time: start.plus(std::time::Duration::from_secs(3_600)),
        all_day: false,
        timezone: "UTC".into(),
        event_type: EventType::HumanAction,
        status: EventStatus::Confirmed,
        plan_id: None,
        plan_step_id: None,
        time_rules: None,
        rrule: None,
        rdates: Vec::new(),
        exdates: Vec::new(),
        recurrence_parent_id: None,
        recurrence_id: None,
        visibility: Visibility::Organization,
        organizer_id: String::new(),
        metadata: Map::new(),
        uid: String::new(),
        sequence: 0,
        actual_start: None,
        actual_end: None,
        is_recurring: false,
        until_time: Timestamp::from_millis(LAST_MILLIS),
        last_start: None,
        team_ids: Vec::new(),
        origin: None,
        room: None,
    }
}

/// Writes what is proposed: new events, and those that nobody has taken up yet at their new time.
fn keep(plan: &Plan, steps: &[Step], placed: &[Placed], events: Vec<Event>) -> Result<Vec<Entry>> {
    database::transaction(|transaction| {
        let known: BTreeMap<String, Stored<Event>> = Select::<Event>::new()
            .equal("plan_id", &plan.id)
            .limit(2_000)
            .all(transaction)?
            .into_iter()
            .filter_map(|row| Some((row.origin.clone()?, row)))
            .collect();
        let mut items = Vec::new();
        for event in events {
            let before = event.origin.as_ref().and_then(|origin| known.get(origin));
            let entry = match before {
                None => create::create_told(transaction, event, Vec::new())?
                    .map(|whole| Entry::of(&whole.row, &whole.attendees)),
                Some(old) if old.status == EventStatus::Tentative && old.actual_start.is_none() => {
                    let patch = json!({ "startTime": event.start_time, "endTime": event.end_time, "title": event.title,
                        "metadata": event.metadata });
                    let patch = patch.as_object().cloned().unwrap_or_default();
                    let row = entity::update::<Event>(transaction, &old.id, &patch, IfMatch(None))?;
                    create::publish(transaction, "calendar.event.updated", &row, &[], json!({}))?;
                    Some(Entry::of(&row, &[]))
                }
                // Somebody has taken it up: it stays.
                Some(old) => Some(Entry::of(old, &[])),
            };
            items.extend(entry);
        }
        predict(transaction, plan, steps, placed)?;
        forget(transaction);
        Ok(items)
    })
}

/// Writes what is predicted of the plan and of its steps.
fn predict(transaction: &Transaction, plan: &Plan, steps: &[Step], placed: &[Placed]) -> Result<()> {
    let known = predictions(transaction, &plan.id)?;
    let method = if plan.estimated_time.is_some() { "plan_estimate" } else { "usual_length" };
    let mut wanted: Vec<Prediction> = Vec::new();
    for one in placed {
        let Some(step) = steps.get(one.index) else { continue };
        wanted.push(Prediction {
            plan_id: plan.id.clone(),
            plan_step_id: Some(step.id.clone()),
            predicted_start: one.span.start,
            predicted_end: one.span.end,
            confidence: one.confidence,
            basis: json!({ "method": method, "stepType": step.r#type }),
        });
    }
    let start = wanted.iter().map(|one| one.predicted_start).min();
    let end = wanted.iter().map(|one| one.predicted_end).max();
    if let (Some(start), Some(end)) = (start, end) {
        let least = wanted.iter().map(|one| one.confidence).fold(1.0, f64::min);
        wanted.push(Prediction {
            plan_id: plan.id.clone(),
            plan_step_id: None,
            predicted_start: start,
            predicted_end: end,
            confidence: least,
            basis: json!({ "method": method, "steps": placed.len(), "estimatedMinutes": plan.estimated_time }),
        });
    }
    for prediction in wanted {
        match known.iter().find(|row| row.plan_step_id == prediction.plan_step_id) {
            Some(row) => {
                let mut row = row.clone();
                row.data = prediction;
                entity::save(transaction, &mut row)?;
            }
            None => {
                entity::create(transaction, prediction)?;
            }
        }
    }
    Ok(())
}
