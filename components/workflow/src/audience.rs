//! For whom an event is, and with it the run that it starts and what this run starts in turn. One that tells of people's
//! inboxes, sign-ins, rights and secrets is for whoever may manage workflows; one that its publisher marks as private is for
//! the people and teams whom it names. Pure.

use berth_sdk::{prelude::*, serde_json::Value};

use crate::run_row::RunRow;

/// Who sees a run, among those who see its project.
#[choice]
pub enum Audience {
    /// Whoever may read workflows.
    Organization,
    /// Whoever may manage workflows.
    Managers,
    /// For whom the run acts, and nobody else, whatever their role.
    Person,
}

/// What the types of events begin with that tell of people's inboxes, sign-ins, rights and secrets.
const CONFIDENTIAL: [&str; 11] = [
    "audit",
    "auth",
    "invitation",
    "notification",
    "organization",
    "role",
    "secret",
    "session",
    "sessions",
    "team",
    "user",
];
/// Members of a payload that name people.
const PEOPLE: [&str; 9] = [
    "actsFor",
    "attendeeIds",
    "authorId",
    "createdBy",
    "organizerId",
    "ownerId",
    "participantIds",
    "senderId",
    "userId",
];
/// Members that name teams; of what is marked as private and not as a team's they say nothing.
const TEAMS: [&str; 2] = ["teamId", "scopeId"];
/// People and teams that are looked at.
const NAMED_MAX: usize = 200;

/// Whether a type, or a pattern of types, tells of what administrators decide about. Its first word is never a wildcard.
///
/// ```
/// use workflow::audience::is_confidential;
/// assert!(is_confidential("secret.#") && is_confidential("notification.created"));
/// assert!(!is_confidential("custom.secret"));
/// ```
pub fn is_confidential(kind: &str) -> bool {
    CONFIDENTIAL.contains(&kind.split('.').next().unwrap_or_default())
}

/// Those whom something is for that is not everybody's.
#[data]
pub struct Circle {
    /// Who sees the run.
    pub audience: Audience,
    /// People and teams who may know, where it is somebody's own.
    pub ids: Vec<Id>,
}

impl Circle {
    /// For whom an event is; none: everybody's. Whoever caused it knows of it.
    ///
    /// ```
    /// use berth_sdk::json;
    /// use workflow::audience::{Audience, Circle};
    /// assert_eq!(Circle::of("incident.created", &json!({"userId": "u1"}), None), None);
    /// let own = Circle::of("ai.agent.completed", &json!({"userId": "u1", "isPrivate": true}), Some("u2")).unwrap();
    /// assert_eq!((own.audience, own.ids), (Audience::Person, vec!["u1".into(), "u2".into()]));
    /// ```
    pub fn of(kind: &str, data: &Value, caused_by: Option<&str>) -> Option<Self> {
        if is_confidential(kind) || is_managers(data) {
            return Some(Self { audience: Audience::Managers, ids: Vec::new() });
        }
        let is_own = says(data, "isPrivate", true);
        let names = PEOPLE.iter().chain(TEAMS.iter().filter(|_| !is_own));
        let is_private = is_own || is_marked(kind, data);
        is_private.then(|| Self { audience: Audience::Person, ids: named(data, names, caused_by) })
    }

    /// For whom it is what a run causes; none: everybody.
    pub fn of_run(run: &RunRow) -> Option<Self> {
        let is_open = run.audience == Audience::Organization;
        (!is_open).then(|| Self { audience: run.audience, ids: run.acts_for.clone().into_iter().collect() })
    }

    /// Whether somebody may know, by their teams and whether they may manage workflows.
    ///
    /// ```
    /// use workflow::audience::{Audience, Circle};
    /// let team = Circle { audience: Audience::Person, ids: vec!["t1".into()] };
    /// assert!(team.admits("u1", &["t1".into()], false) && !team.admits("u1", &[], true));
    /// let managers = Circle { audience: Audience::Managers, ids: vec!["u1".into()] };
    /// assert!(managers.admits("u2", &[], true) && !managers.admits("u1", &[], false));
    /// ```
    pub fn admits(&self, user_id: &str, teams: &[String], is_manager: bool) -> bool {
        match self.audience {
            Audience::Organization => true,
            Audience::Managers => is_manager,
            Audience::Person => {
                self.ids.iter().any(|id| id.as_str() == user_id || teams.iter().any(|team| team == id.as_str()))
            }
        }
    }
}

/// Whether its publisher says that it is for administrators, whoever caused it.
fn is_managers(data: &Value) -> bool {
    data.get("audience").and_then(Value::as_str) == Some(Audience::Managers.as_str())
}

fn says(data: &Value, name: &str, is: bool) -> bool {
    data.get(name).and_then(Value::as_bool) == Some(is)
}

/// The other names that publishers have for what is not everybody's. A project says itself who sees it.
fn is_marked(kind: &str, data: &Value) -> bool {
    let is_one_of = |name: &str, words: &[&str]| {
        let word = data.get(name).and_then(Value::as_str);
        word.is_some_and(|word| words.iter().any(|known| known.eq_ignore_ascii_case(word)))
    };
    says(data, "isPublic", false)
        || is_one_of("scope", &["user", "personal", "team"])
        || !kind.starts_with("project.") && is_one_of("visibility", &["private", "team"])
}

fn named<'a>(data: &Value, names: impl Iterator<Item = &'a &'static str>, caused_by: Option<&str>) -> Vec<Id> {
    let texts = names.filter_map(|name| data.get(*name)).flat_map(|value| match value {
        Value::String(text) => vec![text.as_str()],
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    });
    let mut ids: Vec<Id> = Vec::new();
    for id in texts.chain(caused_by).filter_map(|text| Id::parse(text).ok()).take(NAMED_MAX) {
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_publisher_marks_as_private_is_for_whom_it_names() {
        let audience = |kind: &str, data: Value| Circle::of(kind, &data, None).map(|circle| circle.audience);
        for (kind, data) in [
            ("messaging.message.created", json!({"isPrivate": true})),
            ("pattern.created", json!({"isPublic": false})),
            ("calendar.event.created", json!({"visibility": "private"})),
            ("calendar.event.created", json!({"visibility": "team"})),
            ("dashboard.created", json!({"scope": "PERSONAL"})),
            ("ai.ratelimit.exceeded", json!({"scope": "USER"})),
        ] {
            assert_eq!(audience(kind, data.clone()), Some(Audience::Person), "{kind} {data}");
        }
        for (kind, data) in [
            ("messaging.message.created", json!({"isPrivate": false, "isPublic": true})),
            ("calendar.event.created", json!({"visibility": "organization"})),
            ("project.created", json!({"visibility": "private"})),
            ("dashboard.created", json!({"scope": "PROJECT", "scopeId": "p1"})),
            ("capacity.allocated", json!({"userId": "u1"})),
            ("custom.x", json!("isPrivate")),
        ] {
            assert_eq!(audience(kind, data.clone()), None, "{kind} {data}");
        }
        assert_eq!(audience("user.registered", json!({"isPrivate": true})), Some(Audience::Managers));
        let spent = json!({"isPrivate": true, "audience": "managers", "userId": "u1"});
        assert_eq!(audience("usage.budget.warning", spent.clone()), Some(Audience::Managers));
        assert_eq!(Circle::of("usage.budget.warning", &spent, Some("u1")).map(|circle| circle.ids), Some(Vec::new()));
    }

    #[test]
    fn people_and_teams_are_named_once_and_not_without_end() {
        let ids = |data: Value, caused_by: Option<&str>| -> Vec<String> {
            let circle = Circle::of("x.y", &data, caused_by);
            circle.map_or_else(Vec::new, |circle| circle.ids.into_iter().map(Id::into_string).collect())
        };
        let data = json!({"visibility": "team", "userId": "u1", "attendeeIds": ["u2", "u1", 3, "../u4"], "ownerId": null,
            "teamId": "t1"});
        assert_eq!(ids(data, Some("u1")), ["u2", "u1", "t1"]);
        assert_eq!(ids(json!({"isPrivate": true, "userId": "u1", "teamId": "t1"}), None), ["u1"]);
        let many: Vec<String> = (0..NAMED_MAX * 2).map(|number| format!("u{number}")).collect();
        assert_eq!(ids(json!({"isPrivate": true, "participantIds": many}), None).len(), NAMED_MAX);
    }
}
