//! What somebody sees of an event: all of it, or that somebody is busy.

use std::{cell::OnceCell, collections::BTreeSet};

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use super::{Event, attendee::Attendee};
use crate::recurrence::Span;

/// Members that a busy event keeps.
const BUSY: [&str; 17] = [
    "id",
    "organizationId",
    "calendarId",
    "userId",
    "organizerId",
    "startTime",
    "endTime",
    "allDay",
    "timezone",
    "status",
    "visibility",
    "recurrenceParentId",
    "recurrenceId",
    "isRecurring",
    "createdAt",
    "updatedAt",
    "version",
];

/// One event, or one occurrence of a series, with everything that is known of it.
#[data]
pub struct Entry {
    /// The row's id.
    pub event_id: Id,
    /// When it begins.
    pub start: Timestamp,
    /// When it is over.
    pub end: Timestamp,
    /// As it is shown to who takes part.
    pub event: Map<String, Value>,
    /// Whom the visibility `team` means.
    pub team_ids: Vec<String>,
}

impl Entry {
    /// The row itself.
    pub fn of(row: &Stored<Event>, attendees: &[Stored<Attendee>]) -> Self {
        let mut event = row.shown();
        event.insert("attendees".into(), json!(attendees));
        Self {
            event_id: row.id.clone(),
            start: row.start_time,
            end: row.end_time,
            event,
            team_ids: row.team_ids.clone(),
        }
    }

    /// One occurrence of the row.
    pub fn occurrence(row: &Stored<Event>, span: Span, attendees: &[Stored<Attendee>]) -> Self {
        let mut entry = Self::of(row, attendees);
        if row.is_recurring {
            entry.start = span.start;
            entry.end = span.end;
            entry.event.insert("id".into(), occurrence_id(&row.id, span.start).into());
            entry.event.insert("recurrenceParentId".into(), row.id.as_str().into());
            entry.event.insert("recurrenceId".into(), json!(span.start));
            entry.event.insert("startTime".into(), json!(span.start));
            entry.event.insert("endTime".into(), json!(span.end));
        }
        entry
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.event.get(name).and_then(Value::as_str)
    }

    fn takes_part(&self, user_id: &str) -> bool {
        let is_named = ["organizerId", "createdBy", "userId"].iter().any(|name| self.text(name) == Some(user_id));
        let attendees = self.event.get("attendees").and_then(Value::as_array);
        is_named
            || attendees
                .into_iter()
                .flatten()
                .any(|attendee| attendee.get("userId").and_then(Value::as_str) == Some(user_id))
    }
}

/// Who looks.
#[derive(Clone, Debug, Default)]
pub struct Viewer {
    /// The user, where it is one.
    pub user_id: Option<String>,
    /// The teams the user is in.
    pub team_ids: Vec<String>,
    /// The projects that the user sees, once they have been asked for; none: every one.
    projects: OnceCell<Option<BTreeSet<Id>>>,
}

impl Viewer {
    /// Who calls.
    pub fn caller() -> Self {
        Self { user_id: auth::principal().user_id, team_ids: auth::teams(), projects: OnceCell::new() }
    }

    /// The projects that the viewer sees; none: every one. Planning is asked the first time, so not in a transaction.
    pub fn projects(&self) -> Option<&BTreeSet<Id>> {
        self.projects.get_or_init(people::project::seen).as_ref()
    }

    /// Whether there is more to see than that somebody is busy: who takes part sees everything, others what they are meant to
    /// see and, where it belongs to a project, what belongs to those that they see.
    pub fn sees(&self, entry: &Entry) -> bool {
        if self.user_id.as_deref().is_some_and(|user_id| entry.takes_part(user_id)) {
            return true;
        }
        if let Some(project_id) = entry.text("projectId")
            && self.projects().is_some_and(|projects| !projects.contains(&Id::from(project_id)))
        {
            return false;
        }
        match entry.text("visibility") {
            Some("organization") => true,
            Some("team") => entry.team_ids.iter().any(|team| self.team_ids.contains(team)),
            _ => false,
        }
    }

    /// The event as it is shown.
    pub fn show(&self, entry: Entry) -> Map<String, Value> {
        if self.sees(&entry) {
            return entry.event;
        }
        let mut shown = entry.event;
        shown.retain(|name, _| BUSY.contains(&name.as_str()));
        shown.insert("title".into(), "Busy".into());
        shown.insert("isBusy".into(), true.into());
        shown
    }
}

/// The id of one occurrence of a series: the series', and when it would begin.
///
/// ```
/// use berth_sdk::{Id, clock::Timestamp};
/// use calendar::event::view::{occurrence_id, parse_id};
/// let start = Timestamp::parse("2026-03-30T07:00:00Z").unwrap();
/// let id = occurrence_id(&Id::from("e1"), start);
/// assert_eq!(id, "e1_20260330T070000Z");
/// assert_eq!(parse_id(&Id::from(id)), (Id::from("e1"), Some(start)));
/// ```
pub fn occurrence_id(id: &Id, start: Timestamp) -> String {
    format!("{id}_{}", start.date_time().format("%Y%m%dT%H%M%SZ"))
}

/// The row and the occurrence that an id names.
pub fn parse_id(id: &Id) -> (Id, Option<Timestamp>) {
    let start = |text: &str| {
        let text = text.strip_suffix('Z')?;
        chrono::NaiveDateTime::parse_from_str(text, "%Y%m%dT%H%M%S").ok().map(|local| Timestamp::from(local.and_utc()))
    };
    match id.as_str().rsplit_once('_') {
        Some((row, text)) => match start(text) {
            Some(start) => (Id::from(row), Some(start)),
            None => (id.clone(), None),
        },
        None => (id.clone(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(visibility: &str) -> Entry {
        let event = json!({
            "id": "e1", "title": "Secret", "description": "d", "visibility": visibility, "organizerId": "ada",
            "attendees": [{"userId": "bob"}], "startTime": "2026-01-01T00:00:00.000Z",
        });
        Entry {
            event_id: "e1".into(),
            start: Timestamp::from_millis(0),
            end: Timestamp::from_millis(1),
            event: event.as_object().cloned().unwrap_or_default(),
            team_ids: vec!["t1".into()],
        }
    }

    #[test]
    fn a_private_event_is_busy_to_others() {
        let viewer = |user: &str, team: &str| Viewer {
            user_id: Some(user.into()),
            team_ids: vec![team.into()],
            ..Viewer::default()
        };
        for who in ["ada", "bob"] {
            assert_eq!(viewer(who, "t2").show(entry("private"))["title"], "Secret");
        }
        let busy = viewer("eve", "t1").show(entry("private"));
        assert_eq!(busy["title"], "Busy");
        assert!(!busy.contains_key("description") && !busy.contains_key("attendees"));
        assert!(viewer("eve", "t1").sees(&entry("team")) && !viewer("eve", "t2").sees(&entry("team")));
        assert!(Viewer::default().sees(&entry("organization")) && !Viewer::default().sees(&entry("private")));
    }

    #[test]
    fn what_belongs_to_a_project_is_busy_to_who_does_not_see_that() {
        let of_project = || {
            let mut entry = entry("organization");
            entry.event.insert("projectId".into(), "p1".into());
            entry
        };
        let viewer = |user: &str, projects: Option<BTreeSet<Id>>| Viewer {
            user_id: Some(user.into()),
            projects: OnceCell::from(projects),
            ..Viewer::default()
        };
        assert!(viewer("eve", None).sees(&of_project()), "administrators see every project");
        assert!(viewer("eve", Some(BTreeSet::from(["p1".into()]))).sees(&of_project()));
        let busy = viewer("eve", Some(BTreeSet::from(["p2".into()]))).show(of_project());
        assert_eq!((&busy["title"], busy.contains_key("projectId")), (&json!("Busy"), false));
        assert!(viewer("bob", Some(BTreeSet::new())).sees(&of_project()), "who takes part sees it all the same");
        assert!(viewer("eve", Some(BTreeSet::new())).sees(&entry("organization")));
    }
}
