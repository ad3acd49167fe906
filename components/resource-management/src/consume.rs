//! What other services tell: absences in the calendar, people and teams that change, and what somebody has learned.

use berth_sdk::prelude::*;
use time_rules::day::Span;

use crate::{
    alert::{Alert, AlertStatus},
    allocation::{Allocation, AllocationStatus, DAYS_MAX, write},
    load,
    profile::{Profile, Skill, skill},
    time_off::{TimeOff, TimeOffKind, TimeOffStatus},
};

/// An event of the calendar, as far as it concerns absences.
#[data]
struct CalendarEvent {
    id: Id,
    event_type: Option<String>,
    r#type: Option<String>,
    status: Option<String>,
    start_time: Timestamp,
    end_time: Timestamp,
    #[field(default)]
    all_day: bool,
    user_id: Option<Id>,
    organizer_id: Option<Id>,
    origin: Option<String>,
}

/// `calendar.event.created` of type `pto`: who puts an absence into their calendar asks for it here. It waits for an answer as
/// every request does, and what the calendar has made of an approved one is nothing new.
pub fn absence(envelope: &Envelope) -> Result<()> {
    #[data]
    struct Kind {
        event_type: Option<String>,
        r#type: Option<String>,
    }
    let kind: Kind = envelope.data()?;
    if kind.event_type.or(kind.r#type).as_deref() != Some("pto") {
        return Ok(());
    }
    let event: CalendarEvent = envelope.data()?;
    let Some(user_id) = asker(&event) else { return Ok(()) };
    database::transaction(|transaction| {
        if !transaction.once(&envelope.id)? {
            return Ok(());
        }
        load::hold(transaction, &user_id)?;
        let profile = Profile::or_usual(transaction, &user_id)?;
        let span = days_of(&event, &profile);
        let known = Select::<TimeOff>::new()
            .equal("user_id", &user_id)
            .condition("status <> ?", ["rejected"])
            .condition("start_date <= ? AND end_date >= ?", [span.first, span.last])
            .first(transaction)?;
        let origin = Some(format!("calendar:{}", event.id));
        if known.is_none() {
            let hours_per_day = part_of_a_day(&event, span);
            let request = TimeOff::requested(user_id.clone(), span.first, span.last);
            entity::create(transaction, TimeOff { kind: TimeOffKind::Other, hours_per_day, origin, ..request })?;
        }
        Ok(())
    })
}

/// Who asks for time off with an event: whose calendar it is in, if they have put it there themselves.
fn asker(event: &CalendarEvent) -> Option<Id> {
    let user_id = event.user_id.as_ref().or(event.organizer_id.as_ref())?;
    let is_own = event.organizer_id.as_ref() == Some(user_id);
    // What the calendar has made of an approved request.
    let is_known = event.origin.as_deref().is_some_and(|origin| origin.starts_with("timeoff:"));
    let takes_place = event.status.as_deref() != Some("cancelled") && event.end_time > event.start_time;
    (is_own && takes_place && !is_known).then(|| user_id.clone())
}

/// The days that an event touches where somebody is; its last moment is not its own.
fn days_of(event: &CalendarEvent, profile: &Profile) -> Span {
    let last = profile.day_of(event.end_time.minus(std::time::Duration::from_millis(1)));
    let first = profile.day_of(event.start_time);
    Span::new(first, last.min(first.plus(DAYS_MAX - 1)))
}

/// The hours of an event within one day; none for whole days.
fn part_of_a_day(event: &CalendarEvent, span: Span) -> Option<f64> {
    let hours = event.end_time.since(event.start_time).as_secs_f64() / 3_600.0;
    (!event.all_day && span.days() == 1 && hours < 24.0).then_some(hours)
}

#[data]
struct Gone {
    user_id: Id,
}

/// `organization.member_removed`: what was planned for somebody who is gone is free again, and nothing of theirs stays open.
pub fn released(envelope: &Envelope) -> Result<()> {
    let Gone { user_id } = envelope.data()?;
    database::transaction(|transaction| {
        if !transaction.once(&envelope.id)? {
            return Ok(());
        }
        load::hold(transaction, &user_id)?;
        let today = Profile::or_usual(transaction, &user_id)?.today();
        let open = Select::<Allocation>::new().equal("user_id", &user_id).one_of("status", ["planned", "active"]);
        for row in open.all(transaction)? {
            let has_begun = row.start_date <= today;
            let status = if has_begun { AllocationStatus::Completed } else { AllocationStatus::Cancelled };
            write::close(transaction, row, status, today, "member removed")?;
        }
        for mut row in
            Select::<TimeOff>::new().equal("user_id", &user_id).equal("status", "requested").all(transaction)?
        {
            row.status = TimeOffStatus::Rejected;
            row.decided_at = Some(clock::now());
            entity::save(transaction, &mut row)?;
        }
        let open = Select::<Alert>::new().equal("user_id", &user_id).condition("status <> ?", ["resolved"]);
        for mut row in open.all(transaction)? {
            row.status = AlertStatus::Resolved;
            entity::save(transaction, &mut row)?;
        }
        if let Some(row) = Profile::find(transaction, &user_id)? {
            entity::delete::<Profile>(transaction, &row.id, IfMatch(None))?;
        }
        load::forget(transaction);
        Ok(())
    })
}

/// What somebody has learned, one skill or several.
#[data]
struct Learned {
    user_id: Id,
    skill: Option<String>,
    level: Option<f64>,
    skills: Option<Vec<OneSkill>>,
}

#[data]
struct OneSkill {
    skill: String,
    level: f64,
}

/// `learning.skill.updated`: the profile follows; who has none gets one.
pub fn learned(envelope: &Envelope) -> Result<()> {
    /// Skills of a profile.
    const SKILLS_MAX: usize = 100;
    let told: Learned = envelope.data()?;
    let one = told.skill.zip(told.level).map(|(skill, level)| OneSkill { skill, level });
    let skills: Vec<Skill> = one.into_iter().chain(told.skills.unwrap_or_default()).filter_map(understood).collect();
    database::transaction(|transaction| {
        if skills.is_empty() || !transaction.once(&envelope.id)? {
            return Ok(());
        }
        load::hold(transaction, &told.user_id)?;
        let known = Profile::find(transaction, &told.user_id)?;
        let mut profile = known.as_ref().map_or_else(|| Profile::usual(told.user_id.clone()), |row| row.data.clone());
        let mut has_changed = false;
        for skill in skills {
            has_changed |= skill::learn(&mut profile.skills, skill);
        }
        profile.skills.truncate(SKILLS_MAX);
        match known {
            _ if !has_changed => {}
            None => {
                entity::create(transaction, profile)?;
            }
            Some(mut row) => {
                row.data = profile;
                entity::save(transaction, &mut row)?;
            }
        }
        load::forget(transaction);
        Ok(())
    })
}

/// A skill as profiles keep it; none where its name is none.
fn understood(told: OneSkill) -> Option<Skill> {
    let name: String = validate::clean_plain(&told.skill).chars().take(100).collect();
    #[expect(clippy::cast_possible_truncation, reason = "it is from 0 to 5")]
    let level = told.level.clamp(0.0, 5.0).round() as i64;
    (!name.is_empty()).then_some(Skill { skill: name, level })
}

/// What the main app tells of a team.
#[data]
struct Team {
    team_id: Option<Id>,
    changes: Option<Members>,
}

/// One who has left, or those who have come.
#[data]
struct Members {
    user_id: Option<Id>,
    members: Option<Vec<Gone>>,
}

/// `team.members_added` and `team.member_removed`: profiles name the teams that somebody counts for.
pub fn team(envelope: &Envelope) -> Result<()> {
    let told: Team = envelope.data()?;
    let (Some(team_id), Some(changes)) = (told.team_id, told.changes) else { return Ok(()) };
    let joins = envelope.message_type == "team.members_added";
    let members = changes.members.unwrap_or_default().into_iter().map(|member| member.user_id);
    let users: Vec<Id> = members.chain(changes.user_id).take(load::PEOPLE_MAX).collect();
    database::transaction(|transaction| {
        if !transaction.once(&envelope.id)? {
            return Ok(());
        }
        for mut row in Select::<Profile>::new().one_of("user_id", users).all(transaction)? {
            let is_there = row.team_ids.contains(&team_id);
            match (joins, is_there) {
                (true, false) => row.team_ids.push(team_id.clone()),
                (false, true) => row.team_ids.retain(|id| *id != team_id),
                _ => continue,
            }
            entity::save(transaction, &mut row)?;
        }
        load::forget(transaction);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(start: &str, end: &str, all_day: bool) -> CalendarEvent {
        let at = |text| Timestamp::parse(text).unwrap();
        CalendarEvent {
            id: "e1".into(),
            event_type: Some("pto".into()),
            r#type: None,
            status: None,
            start_time: at(start),
            end_time: at(end),
            all_day,
            user_id: None,
            organizer_id: None,
            origin: None,
        }
    }

    #[test]
    fn an_absence_takes_the_days_it_touches_where_somebody_is() {
        let berlin = Profile { timezone: "Europe/Berlin".into(), ..Profile::usual("u1".into()) };
        let week = event("2026-03-01T23:00:00Z", "2026-03-06T23:00:00Z", true);
        let span = days_of(&week, &berlin);
        assert_eq!((span.first.to_string(), span.days()), ("2026-03-02".into(), 5));
        assert_eq!(part_of_a_day(&week, span), None);
        let afternoon = event("2026-03-02T12:00:00Z", "2026-03-02T16:30:00Z", false);
        assert_eq!(part_of_a_day(&afternoon, days_of(&afternoon, &berlin)), Some(4.5));
    }

    #[test]
    fn nobody_asks_for_the_absence_of_somebody_else() {
        let own = event("2026-03-02T00:00:00Z", "2026-03-03T00:00:00Z", true);
        assert_eq!(asker(&own), None, "it is nobody's");
        let own = CalendarEvent { organizer_id: Some("u1".into()), ..own };
        assert_eq!(asker(&own), Some("u1".into()));
        assert_eq!(asker(&CalendarEvent { user_id: Some("u2".into()), ..own.clone() }), None);
        assert_eq!(asker(&CalendarEvent { origin: Some("timeoff:t1".into()), ..own.clone() }), None);
        assert_eq!(asker(&CalendarEvent { status: Some("cancelled".into()), ..own }), None);
    }

    #[test]
    fn levels_are_held_in_their_bounds() {
        let level = |level: f64| understood(OneSkill { skill: " Rust\n".into(), level }).map(|skill| skill.level);
        assert_eq!((level(-3.0), level(4.4), level(9.0)), (Some(0), Some(4), Some(5)));
        assert!(understood(OneSkill { skill: "<>".into(), level: 3.0 }).is_none());
    }
}
