//! Projects and tasks, as planning knows them: which projects exist for the caller, and what a task needs. A private project
//! exists for its people alone, and so does what is planned for it.

use std::{collections::BTreeSet, time::Duration};

use berth_sdk::{
    cache, http_out,
    prelude::*,
    serde_json::{Map, Value},
};

/// How long planning may take.
const ASKED: Duration = Duration::from_secs(5);
/// How long it counts which projects somebody sees.
const KNOWN_FOR: Duration = Duration::from_secs(30);

/// What planning knows of a task.
#[data]
pub struct Task {
    /// The task.
    pub id: Id,
    /// Its project.
    pub project_id: Option<Id>,
    /// What it is called.
    pub title: Option<String>,
    /// Until when it is to be done.
    pub due_date: Option<Timestamp>,
    /// How long it should take.
    pub estimated_hours: Option<f64>,
    /// Words for what it is about.
    #[field(default)]
    pub tags: Vec<String>,
}

/// The task of this id, as the caller sees it: 404 when they see none, 503 when planning does not answer.
pub fn task(id: &Id) -> Result<Task> {
    let call = http_out::plugin("planning").get(&format!("/api/tasks/{id}")).timeout(ASKED);
    call.fetch().map_err(|problem| match problem.status {
        403 | 404 => Problem::missing("task"),
        _ => Problem::unavailable("Planning does not say what the task is."),
    })
}

/// Which projects exist for the caller. That one does is remembered for half a minute, that it does not never.
#[derive(Debug, Default)]
pub struct Visible {
    known: Option<BTreeSet<String>>,
    is_fresh: bool,
}

impl Visible {
    /// Whether the caller sees a project. Planning is asked once at most; while it does not answer they see none.
    pub fn holds(&mut self, project_id: &str) -> bool {
        let key = people::own("projects");
        let known = self.known.get_or_insert_with(|| cache::get(&key).unwrap_or_default());
        if !known.contains(project_id) && !self.is_fresh {
            *known = visible(&key);
            self.is_fresh = true;
        }
        known.contains(project_id)
    }

    /// Takes out of a row what belongs to a project that does not exist for the caller.
    pub fn mask(&mut self, row: &mut Map<String, Value>) {
        let project_id = row.get("projectId").and_then(Value::as_str).map(ToString::to_string);
        if project_id.is_none_or(|id| self.holds(&id)) {
            return;
        }
        for name in ["projectId", "taskId", "note", "title", "origin"] {
            if let Some(value) = row.get_mut(name) {
                *value = Value::Null;
            }
        }
    }
}

fn visible(key: &str) -> BTreeSet<String> {
    let Ok(found) = people::project::visible() else { return BTreeSet::new() };
    let found = found.iter().map(Id::to_string).collect();
    cache::set_ttl(key, &found, KNOWN_FOR);
    found
}
