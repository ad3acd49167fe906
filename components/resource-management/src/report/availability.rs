//! `GET /api/resources/{userId}/availability`: how much somebody can work, day by day; and when their calendar has them busy,
//! where it answers.

use std::time::Duration;

use berth_sdk::{http_out, prelude::*};
use time_rules::{
    day::{Day, Span},
    zone,
};

use super::figures::{DayFigures, Figures, WeekFigures, days, weeks};
use crate::load;

/// The longest range.
const DAYS_MAX: u64 = 366;
/// The days of an answer when nothing is said: four weeks.
const DAYS_USUAL: u64 = 28;
/// The longest range that the calendar is asked for.
const CALENDAR_DAYS_MAX: u64 = 90;
/// How long the calendar may take.
const ASKED: Duration = Duration::from_secs(3);

/// Which days.
#[data]
pub struct Question {
    /// The first; today when absent.
    from: Option<Day>,
    /// The last; four weeks when absent, at most 366 days.
    to: Option<Day>,
}

/// A span in which the calendar has somebody busy.
#[data]
struct Slot {
    start: Timestamp,
    end: Timestamp,
}

/// What is answered.
#[data]
pub struct Availability {
    user_id: Id,
    /// Whose days they are.
    timezone: String,
    from: Day,
    to: Day,
    /// Of all of them.
    hours: Figures,
    /// The first day with something left.
    first_available: Option<Day>,
    days: Vec<DayFigures>,
    weeks: Vec<WeekFigures>,
    /// What the calendar has; null when it does not answer, or the range is longer than 90 days.
    busy: Option<Vec<Slot>>,
}

/// The route.
pub fn answer(Params(user_id): Params<Id>, Query(question): Query<Question>) -> Result<Json<Availability>> {
    super::require_known(&user_id)?;
    let today = crate::profile::Profile::or_usual(&Pool, &user_id)?.today();
    let from = question.from.unwrap_or(today);
    let span = Span::new(from, question.to.unwrap_or_else(|| from.plus(DAYS_USUAL - 1)));
    super::require_days(span, DAYS_MAX)?;
    let whole_weeks = Span::new(span.first.monday(), span.last.monday().plus(6));
    let person = load::person(&Pool, &user_id, whole_weeks)?;
    let days = days(&person.workload, span);
    let first_available = days.iter().find(|day| day.hours.available > 0.0).map(|day| day.date);
    let busy = busy(&user_id, span, &person.profile.timezone);
    Ok(Json(Availability {
        user_id,
        timezone: person.profile.timezone,
        from: span.first,
        to: span.last,
        hours: person.workload.sum(span).into(),
        first_available,
        days,
        weeks: weeks(&person.workload, span),
        busy,
    }))
}

/// When somebody is busy, as the calendar knows it.
fn busy(user_id: &Id, span: Span, timezone: &str) -> Option<Vec<Slot>> {
    #[data]
    struct Answer {
        users: Vec<Person>,
    }
    #[data]
    struct Person {
        busy: Vec<Slot>,
    }
    if span.days() > CALENDAR_DAYS_MAX {
        return None;
    }
    let zone = zone::parse(timezone)?;
    let (from, to) = (zone::midnight(zone, span.first.date()), zone::midnight(zone, span.last.plus(1).date()));
    let call = http_out::plugin("calendar")
        .get("/api/calendar/availability")
        .query("userIds", user_id)
        .query("from", &from.to_string())
        .query("to", &to.to_string())
        .timeout(ASKED);
    match call.fetch::<Answer>() {
        Ok(answer) => answer.users.into_iter().next().map(|person| person.busy),
        Err(problem) => {
            logging::warn!("the calendar does not say when somebody is busy", problem = problem);
            None
        }
    }
}
