//! Who is free when: what people are busy with, put together, and their working hours. Busy times say nothing of what they
//! are.

use std::time::Duration;

use berth_sdk::{
    http_out,
    prelude::*,
    serde_json::{Map, Value},
};
use chrono::{Datelike, NaiveDate, NaiveTime, Weekday};
use chrono_tz::Tz;

use crate::{
    event::{
        EventStatus, attendee,
        range::{self, Filter},
        subject,
    },
    recurrence::Span,
    zone,
};

/// The most people of one question.
const USERS_MAX: usize = 50;
/// The longest range.
const DAYS_MAX: u64 = 92;
/// The most slots of one answer.
const SLOTS_MAX: usize = 500;
/// How long resource-management may take to say when somebody works.
const ASKED: Duration = Duration::from_secs(3);

/// When somebody works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hours {
    /// Whose wall clock.
    pub zone: Tz,
    /// From and to, in minutes of the day.
    pub from: u32,
    /// See `from`.
    pub to: u32,
    /// Days of the week, Monday first.
    pub days: [bool; 7],
}

impl Hours {
    /// Monday to Friday, nine to five.
    pub fn usual(zone: Tz) -> Self {
        Self { zone, from: 9 * 60, to: 17 * 60, days: [true, true, true, true, true, false, false] }
    }

    /// The working times within a range.
    pub fn spans(&self, from: Timestamp, to: Timestamp) -> Vec<Span> {
        let mut day = zone::local(self.zone, from).date().pred_opt().unwrap_or(NaiveDate::MIN);
        let last = zone::local(self.zone, to).date();
        let mut spans = Vec::new();
        while day <= last {
            if self.days.get(day.weekday().num_days_from_monday() as usize) == Some(&true) {
                let (start, end) = (self.at(day, self.from), self.at(day, self.to));
                let span = Span { start: start.max(from), end: end.min(to) };
                if span.start < span.end {
                    spans.push(span);
                }
            }
            let Some(next) = day.succ_opt() else { break };
            day = next;
        }
        spans
    }

    fn at(&self, day: NaiveDate, minutes: u32) -> Timestamp {
        match NaiveTime::from_hms_opt(minutes / 60, minutes % 60, 0) {
            Some(time) => zone::moment(self.zone, day.and_time(time)),
            None => zone::midnight(self.zone, day.succ_opt().unwrap_or(day)),
        }
    }
}

/// Spans put together where they overlap or touch, in their order.
pub fn merge(mut spans: Vec<Span>) -> Vec<Span> {
    spans.retain(|span| span.start < span.end);
    spans.sort_unstable();
    let mut merged: Vec<Span> = Vec::new();
    for span in spans {
        match merged.last_mut() {
            Some(last) if span.start <= last.end => last.end = last.end.max(span.end),
            _ => merged.push(span),
        }
    }
    merged
}

/// What of some spans is left when others are taken away; both merged.
pub fn without(spans: &[Span], taken: &[Span]) -> Vec<Span> {
    let mut left = Vec::new();
    for span in spans {
        let mut start = span.start;
        let first = taken.partition_point(|other| other.end <= span.start);
        for other in taken.iter().skip(first).take_while(|other| other.start < span.end) {
            if other.start > start {
                left.push(Span { start, end: other.start });
            }
            start = start.max(other.end);
        }
        if start < span.end {
            left.push(Span { start, end: span.end });
        }
    }
    left
}

/// What is in both; both merged.
pub fn both(one: &[Span], other: &[Span]) -> Vec<Span> {
    let (mut left, mut right, mut found) = (0, 0, Vec::new());
    while let (Some(a), Some(b)) = (one.get(left), other.get(right)) {
        let span = Span { start: a.start.max(b.start), end: a.end.min(b.end) };
        if span.start < span.end {
            found.push(span);
        }
        if a.end <= b.end { left += 1 } else { right += 1 }
    }
    found
}

/// What is asked.
#[data]
struct Question {
    /// Whose time; the caller's own when absent.
    #[field(max = 50)]
    user_ids: Option<Vec<Id>>,
    from: Timestamp,
    /// At most 92 days later.
    to: Timestamp,
    /// How long a slot must be, in minutes.
    #[field(default = 30, min = 5, max = 1_440)]
    duration: i64,
    /// Whose wall clock the hours are on, for those who have no profile.
    #[field(default = "UTC", max = 64, format = "timezone")]
    timezone: String,
    /// As in `09:00-17:00`, for those who have no profile.
    #[field(max = 11)]
    working_hours: Option<String>,
}

/// A span as it is answered.
#[data]
struct Slot {
    start: Timestamp,
    end: Timestamp,
}

/// One person.
#[data]
struct Person {
    user_id: Id,
    timezone: String,
    /// When they are busy.
    busy: Vec<Slot>,
    /// When they work and are free.
    free: Vec<Slot>,
}

/// What is answered.
#[data]
struct Availability {
    from: Timestamp,
    to: Timestamp,
    duration: i64,
    users: Vec<Person>,
    /// When all of them are free for that long.
    slots: Vec<Slot>,
    is_truncated: bool,
}

/// The route.
pub fn routes() -> Router {
    Router::new().get("/api/calendar/availability", answer).summary("Find out when people are free.")
}

fn answer(Query(question): Query<Question>) -> Result<Json<Availability>> {
    let (from, to) = (question.from, question.to);
    range::require_range(from, to, DAYS_MAX)?;
    let usual = usual(&question)?;
    let mut users = question.user_ids.unwrap_or_default();
    if users.is_empty() {
        users.push(auth::user_id()?);
    }
    users.sort();
    users.dedup();
    if users.len() > USERS_MAX {
        return Err(Problem::field("userIds", format!("must have at most {USERS_MAX} entries")));
    }
    let organization_id = auth::organization_id()?;
    let busy = busy(&organization_id, &users, from, to)?;
    let mut people = Vec::new();
    let mut common = vec![Span { start: from, end: to }];
    let mut asks = true;
    for (user_id, busy) in users.into_iter().zip(busy) {
        let hours = profile(&user_id, &mut asks).unwrap_or_else(|| usual.clone());
        let free = without(&merge(hours.spans(from, to)), &busy);
        common = both(&common, &free);
        let timezone = hours.zone.name().to_string();
        people.push(Person { user_id, timezone, busy: slots(&busy), free: slots(&free) });
    }
    let length = Duration::from_secs(u64::try_from(question.duration).unwrap_or(30) * 60);
    common.retain(|span| span.end.since(span.start) >= length);
    let is_truncated = common.len() > SLOTS_MAX;
    common.truncate(SLOTS_MAX);
    let slots = slots(&common);
    Ok(Json(Availability { from, to, duration: question.duration, users: people, slots, is_truncated }))
}

fn slots(spans: &[Span]) -> Vec<Slot> {
    spans.iter().map(|span| Slot { start: span.start, end: span.end }).collect()
}

fn usual(question: &Question) -> Result<Hours> {
    let misfit = || Problem::field("timezone", "must be a time zone such as Europe/Berlin");
    let mut hours = Hours::usual(zone::parse(&question.timezone).ok_or_else(misfit)?);
    if let Some(text) = &question.working_hours {
        let minutes = |text: &str| {
            let (hour, minute) = text.split_once(':')?;
            let (hour, minute): (u32, u32) = (hour.parse().ok()?, minute.parse().ok()?);
            (hour < 24 && minute < 60 || hour == 24 && minute == 0).then_some(hour * 60 + minute)
        };
        let read = text.split_once('-').and_then(|(from, to)| Some((minutes(from)?, minutes(to)?)));
        let Some((from, to)) = read.filter(|(from, to)| from < to) else {
            return Err(Problem::field("workingHours", "must be like 09:00-17:00"));
        };
        (hours.from, hours.to) = (from, to);
    }
    Ok(hours)
}

/// What each of them is busy with, in the order they were asked for.
fn busy(organization_id: &Id, users: &[Id], from: Timestamp, to: Timestamp) -> Result<Vec<Vec<Span>>> {
    let mut all = Vec::new();
    // One statement for each person keeps to the index on what they take part in; there are at most fifty.
    for user_id in users {
        let filter = Filter { user_id: Some(user_id.clone()), ..Filter::default() };
        let rows = range::rows(&Pool, organization_id, &filter, from, to)?;
        let attendees = attendee::of_events(&Pool, organization_id, rows.iter().map(|row| &row.id))?;
        let (spans, _) = range::expand(&rows, from, to);
        let takes = |index: usize| {
            let row = rows.get(index)?;
            let coming = attendees.get(&row.id).map(Vec::as_slice).unwrap_or_default();
            let is_busy = row.is_blocking() && row.status != EventStatus::Cancelled;
            (is_busy && subject::people(row, coming).contains(user_id.as_str())).then_some(())
        };
        let spans = spans.into_iter().filter(|(index, _)| takes(*index).is_some());
        let inside = spans.map(|(_, span)| Span { start: span.start.max(from), end: span.end.min(to) });
        all.push(merge(inside.collect()));
    }
    Ok(all)
}

/// When somebody works, as resource-management knows it. Once it does not answer it is not asked again.
fn profile(user_id: &Id, asks: &mut bool) -> Option<Hours> {
    if !*asks {
        return None;
    }
    let call = http_out::plugin("resource-management").get(&format!("/api/resources/{user_id}")).timeout(ASKED);
    match call.fetch::<Map<String, Value>>() {
        Ok(profile) => Some(of_profile(&profile)),
        Err(problem) => {
            *asks = problem.status == 404 && problem.code != "ROUTE_NOT_FOUND";
            None
        }
    }
}

/// Working days and hours a week become hours a day, from nine on.
fn of_profile(profile: &Map<String, Value>) -> Hours {
    let zone = profile.get("timezone").and_then(Value::as_str).and_then(zone::parse).unwrap_or(Tz::UTC);
    let mut hours = Hours::usual(zone);
    let days: Vec<Weekday> = profile
        .get("workingDays")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_u64)
        .filter_map(|day| Weekday::try_from(u8::try_from((day + 6) % 7).ok()?).ok())
        .collect();
    if !days.is_empty() {
        hours.days = [false; 7];
        for day in &days {
            if let Some(works) = hours.days.get_mut(day.num_days_from_monday() as usize) {
                *works = true;
            }
        }
    }
    let weekly = profile.get("weeklyHours").and_then(Value::as_f64).unwrap_or(40.0).clamp(0.0, 168.0);
    let count = hours.days.iter().filter(|works| **works).count().max(1);
    let daily = (weekly / f64::from(u8::try_from(count).unwrap_or(7)) * 60.0).min(f64::from(24 * 60 - hours.from));
    // Cut to whole minutes; it is between nothing and the rest of the day.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 0 to 900")]
    let daily = daily as u32;
    hours.to = hours.from + daily;
    hours
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spans(list: &[(i64, i64)]) -> Vec<Span> {
        let span = |(start, length): &(i64, i64)| Span {
            start: Timestamp::from_millis(*start),
            end: Timestamp::from_millis(start + length),
        };
        list.iter().map(span).collect()
    }

    fn covers(spans: &[Span], at: i64) -> bool {
        spans.iter().any(|span| span.start.millis() <= at && at < span.end.millis())
    }

    proptest! {
        #[test]
        fn sets_of_spans_are_what_they_are_moment_for_moment(
            one in proptest::collection::vec((0_i64..60, 0_i64..15), 0..8),
            other in proptest::collection::vec((0_i64..60, 0_i64..15), 0..8),
        ) {
            let (a, b) = (merge(spans(&one)), merge(spans(&other)));
            let (less, common) = (without(&a, &b), both(&a, &b));
            for at in 0..80 {
                prop_assert_eq!(covers(&a, at), covers(&spans(&one), at));
                prop_assert_eq!(covers(&less, at), covers(&a, at) && !covers(&b, at));
                prop_assert_eq!(covers(&common, at), covers(&a, at) && covers(&b, at));
            }
        }
    }

    #[test]
    fn working_hours_keep_to_the_wall_clock() {
        let at = |text: &str| Timestamp::parse(text).unwrap();
        let hours = Hours::usual(chrono_tz::Europe::Berlin);
        let found = hours.spans(at("2026-03-27T00:00:00Z"), at("2026-03-31T00:00:00Z"));
        let texts: Vec<String> = found.iter().map(|span| span.start.to_string()).collect();
        assert_eq!(texts, ["2026-03-27T08:00:00.000Z", "2026-03-30T07:00:00.000Z"]);
    }

    #[test]
    fn a_profile_says_when_somebody_works() {
        let profile = json!({"timezone": "America/New_York", "workingDays": [1, 2, 7], "weeklyHours": 18.0});
        let hours = of_profile(profile.as_object().unwrap());
        assert_eq!((hours.from, hours.to), (540, 900));
        assert_eq!(hours.days, [true, true, false, false, false, false, true]);
    }
}
