//! What a release changes: the tasks completed since the one before it.

use std::fmt::Write;

use berth_sdk::prelude::*;

use super::{Release, rules::ReleaseStatus};
use crate::task::TaskType;

/// The most tasks of a changelog.
const ENTRIES_MAX: usize = 1_000;

/// What a release changes.
#[data]
pub(crate) struct Changelog {
    release_id: Id,
    name: String,
    version: String,
    /// When the release before it was out; none for the first one.
    since: Option<Timestamp>,
    /// When this one was out; none while it is not.
    until: Option<Timestamp>,
    release_notes: Option<String>,
    sections: Vec<Section>,
    /// All of it as Markdown.
    markdown: String,
}

/// The tasks of one type.
#[data]
pub(crate) struct Section {
    r#type: TaskType,
    title: String,
    entries: Vec<Entry>,
}

/// A completed task.
#[data]
pub(crate) struct Entry {
    task_id: Id,
    identifier: Option<String>,
    title: String,
    r#type: TaskType,
    completed_at: Timestamp,
}

/// `GET /api/releases/{id}/changelog`.
pub(super) fn read(Params(id): Params<Id>) -> Result<Json<Changelog>> {
    let release = entity::read::<Release>(&Pool, &id)?;
    let until = release.actual_end;
    let before = Select::<Release>::new()
        .equal("project_id", &release.project_id)
        .equal("status", ReleaseStatus::Deployed)
        .condition("id <> ?", [&id])
        .condition("actual_end < ?", [until.unwrap_or_else(clock::now)])
        .sort("-actualEnd")
        .first(&Pool)?;
    let since = before.and_then(|before| before.data.actual_end);
    let from = since.unwrap_or_else(|| Timestamp::from_millis(0));
    let entries: Vec<Entry> = database::query_as(
        &Pool,
        &format!(
            "SELECT t.id AS \"taskId\", t.identifier AS identifier, t.title AS title, t.type AS type, \
             MAX(h.\"at\") AS \"completedAt\" FROM project_tasks t JOIN project_task_history h ON h.task_id = t.id \
             WHERE t.project_id = $1 AND t.deleted_at IS NULL AND t.status = 'completed' AND h.field = 'status' \
             AND h.\"new\" = 'completed' AND h.\"at\" > $2 AND h.\"at\" <= $3 \
             GROUP BY t.id, t.identifier, t.title, t.type ORDER BY MAX(h.\"at\"), t.id LIMIT {ENTRIES_MAX}"
        ),
        params![&release.project_id, from, until.unwrap_or_else(clock::now)],
    )?;
    let sections = sections(entries);
    let Release { name, version, release_notes, .. } = release.data;
    let markdown = markdown(&name, &version, release_notes.as_deref(), &sections);
    Ok(Json(Changelog { release_id: release.id, name, version, since, until, release_notes, sections, markdown }))
}

/// The entries by type, in the order people read them.
fn sections(entries: Vec<Entry>) -> Vec<Section> {
    let titles = [
        (TaskType::Feature, "New"),
        (TaskType::Bug, "Fixed"),
        (TaskType::Refactor, "Improved"),
        (TaskType::Documentation, "Documentation"),
        (TaskType::Test, "Tests"),
    ];
    let section = |(r#type, title): (TaskType, &str)| {
        let entries: Vec<Entry> = entries.iter().filter(|entry| entry.r#type == r#type).cloned().collect();
        (!entries.is_empty()).then(|| Section { r#type, title: title.into(), entries })
    };
    titles.into_iter().filter_map(section).collect()
}

fn markdown(name: &str, version: &str, notes: Option<&str>, sections: &[Section]) -> String {
    let mut text = format!("# {name} {version}\n");
    if let Some(notes) = notes {
        let _ = write!(text, "\n{notes}\n");
    }
    for section in sections {
        let _ = write!(text, "\n## {}\n\n", section.title);
        for entry in &section.entries {
            let identifier = entry.identifier.as_ref().map(|identifier| format!(" ({identifier})")).unwrap_or_default();
            let _ = writeln!(text, "- {}{identifier}", entry.title);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_comes_before_what_is_fixed() {
        let entry = |title: &str, r#type| Entry {
            task_id: title.into(),
            identifier: Some("Q-1".into()),
            title: title.into(),
            r#type,
            completed_at: Timestamp::from_millis(0),
        };
        let sections = sections(vec![entry("Leak", TaskType::Bug), entry("Pier", TaskType::Feature)]);
        let text = markdown("Quay", "1.0.0", Some("Enjoy."), &sections);
        assert_eq!(text, "# Quay 1.0.0\n\nEnjoy.\n\n## New\n\n- Pier (Q-1)\n\n## Fixed\n\n- Leak (Q-1)\n");
    }
}
