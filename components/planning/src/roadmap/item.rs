//! What a roadmap is made of: milestones hold epics, epics hold stories, and tasks hang on any of them. Every item names
//! all that is above it, so that a roadmap is read by levels and not row by row.

use berth_sdk::prelude::*;

use super::{Roadmap, tree_key};
use crate::project;

/// How an item stands, as somebody says; how far it is follows from its tasks.
#[choice]
pub(crate) enum ItemStatus {
    Planned,
    InProgress,
    Completed,
}

/// A milestone of a roadmap.
#[entity(table = "project_milestones", sort = "position")]
pub(crate) struct Milestone {
    #[field(readonly)]
    pub project_id: Id,
    #[field(readonly)]
    pub roadmap_id: Id,
    #[field(min = 1, max = 200, plain)]
    pub name: String,
    pub description: Option<String>,
    pub target_date: Option<Timestamp>,
    pub status: ItemStatus,
    #[field(min = 0, max = 1_000_000)]
    pub position: i64,
}

/// An epic of a milestone.
#[entity(table = "project_epics", sort = "position")]
pub(crate) struct Epic {
    #[field(readonly)]
    pub project_id: Id,
    #[field(readonly)]
    pub roadmap_id: Id,
    #[field(parent = Milestone)]
    pub milestone_id: Id,
    #[field(min = 1, max = 200, plain)]
    pub name: String,
    pub description: Option<String>,
    pub status: ItemStatus,
    #[field(min = 0, max = 1_000_000)]
    pub position: i64,
}

/// A story of an epic.
#[entity(table = "project_stories", sort = "position")]
pub(crate) struct Story {
    #[field(readonly)]
    pub project_id: Id,
    #[field(readonly)]
    pub roadmap_id: Id,
    #[field(readonly)]
    pub milestone_id: Id,
    #[field(parent = Epic)]
    pub epic_id: Id,
    #[field(min = 1, max = 200, plain)]
    pub name: String,
    pub description: Option<String>,
    pub status: ItemStatus,
    #[field(min = 0, max = 1_000_000)]
    pub position: i64,
}

impl Rules for Milestone {
    fn scope() -> Option<Condition> {
        Some(project::within("project_milestones"))
    }

    fn before_create(&mut self, transaction: &Transaction) -> Result<()> {
        may_change(transaction, &self.project_id, &self.roadmap_id)
    }

    fn before_update(&mut self, old: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        may_change(transaction, &old.project_id, &old.roadmap_id)
    }

    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        may_change(transaction, &row.project_id, &row.roadmap_id)?;
        for table in ["project_stories", "project_epics"] {
            transaction.execute(&format!("DELETE FROM {table} WHERE milestone_id = $1"), params![&row.id])?;
        }
        unlink(transaction, "milestone_id = NULL, epic_id = NULL, story_id = NULL", "milestone_id", &row.id)
    }
}

impl Rules for Epic {
    fn scope() -> Option<Condition> {
        Some(project::within("project_epics"))
    }

    fn before_create(&mut self, transaction: &Transaction) -> Result<()> {
        may_change(transaction, &self.project_id, &self.roadmap_id)
    }

    fn before_update(&mut self, old: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        may_change(transaction, &old.project_id, &old.roadmap_id)?;
        if self.milestone_id != old.milestone_id {
            let milestone = entity::read::<Milestone>(transaction, &self.milestone_id)?;
            require_same_project(&milestone.project_id, &old.project_id)?;
            self.roadmap_id = milestone.roadmap_id.clone();
            transaction.forget(tree_key(&self.roadmap_id));
        }
        Ok(())
    }

    fn after_update(old: &Stored<Self>, new: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        if old.milestone_id == new.milestone_id {
            return Ok(());
        }
        transaction.execute(
            "UPDATE project_stories SET milestone_id = $2, roadmap_id = $3, updated_at = $4, version = version + 1 WHERE epic_id = $1",
            params![&new.id, &new.milestone_id, &new.roadmap_id, new.updated_at],
        )?;
        transaction.execute(
            "UPDATE project_tasks SET milestone_id = $2, updated_at = $3, version = version + 1 WHERE epic_id = $1",
            params![&new.id, &new.milestone_id, new.updated_at],
        )?;
        Ok(())
    }

    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        may_change(transaction, &row.project_id, &row.roadmap_id)?;
        transaction.execute("DELETE FROM project_stories WHERE epic_id = $1", params![&row.id])?;
        unlink(transaction, "epic_id = NULL, story_id = NULL", "epic_id", &row.id)
    }
}

impl Rules for Story {
    fn scope() -> Option<Condition> {
        Some(project::within("project_stories"))
    }

    fn before_create(&mut self, transaction: &Transaction) -> Result<()> {
        may_change(transaction, &self.project_id, &self.roadmap_id)
    }

    fn before_update(&mut self, old: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        may_change(transaction, &old.project_id, &old.roadmap_id)?;
        if self.epic_id != old.epic_id {
            let epic = entity::read::<Epic>(transaction, &self.epic_id)?;
            require_same_project(&epic.project_id, &old.project_id)?;
            self.roadmap_id = epic.roadmap_id.clone();
            self.milestone_id = epic.milestone_id.clone();
            transaction.forget(tree_key(&self.roadmap_id));
        }
        Ok(())
    }

    fn after_update(old: &Stored<Self>, new: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        if old.epic_id == new.epic_id {
            return Ok(());
        }
        transaction.execute(
            "UPDATE project_tasks SET milestone_id = $2, epic_id = $3, updated_at = $4, version = version + 1 WHERE story_id = $1",
            params![&new.id, &new.milestone_id, &new.epic_id, new.updated_at],
        )?;
        Ok(())
    }

    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        may_change(transaction, &row.project_id, &row.roadmap_id)?;
        unlink(transaction, "story_id = NULL", "story_id", &row.id)
    }
}

fn may_change(transaction: &Transaction, project_id: &Id, roadmap_id: &Id) -> Result<()> {
    transaction.forget(tree_key(roadmap_id));
    project::require_edit(transaction, project_id)
}

fn require_same_project(one: &Id, other: &Id) -> Result<()> {
    if one == other { Ok(()) } else { Err(Problem::unprocessable("That belongs to another project.")) }
}

/// Takes tasks off an item that goes; the tasks stay.
fn unlink(transaction: &Transaction, change: &str, column: &str, id: &Id) -> Result<()> {
    let sql = format!("UPDATE project_tasks SET {change}, updated_at = $2, version = version + 1 WHERE {column} = $1");
    transaction.execute(&sql, params![id, clock::now()])?;
    Ok(())
}

/// Takes everything out of a roadmap that goes.
pub(super) fn clear_roadmap(transaction: &Transaction, roadmap_id: &Id) -> Result<()> {
    transaction.execute(
        "UPDATE project_tasks SET milestone_id = NULL, epic_id = NULL, story_id = NULL, updated_at = $2, version = version + 1 \
         WHERE milestone_id IN (SELECT id FROM project_milestones WHERE roadmap_id = $1)",
        params![roadmap_id, clock::now()],
    )?;
    for table in ["project_stories", "project_epics", "project_milestones"] {
        transaction.execute(&format!("DELETE FROM {table} WHERE roadmap_id = $1"), params![roadmap_id])?;
    }
    Ok(())
}

/// The body that makes a milestone, an epic or a story.
#[data]
pub(crate) struct NewItem {
    #[field(min = 1, max = 200, plain)]
    name: String,
    description: Option<String>,
    #[field(default = ItemStatus::Planned)]
    status: ItemStatus,
    /// Where it stands among its siblings; last when absent.
    #[field(min = 0, max = 1_000_000)]
    position: Option<i64>,
    /// Of a milestone only.
    target_date: Option<Timestamp>,
}

/// The place after the last sibling.
fn last(transaction: &Transaction, wish: Option<i64>, table: &str, column: &str, id: &Id) -> Result<i64> {
    if let Some(position) = wish {
        return Ok(position);
    }
    let sql = format!("SELECT MAX(\"position\") AS last FROM {table} WHERE {column} = $1");
    let row = transaction.query_one(&sql, params![id])?;
    let last: Option<i64> = row.map(|row| row.get("last")).transpose()?.flatten();
    Ok(last.map_or(0, |last| last + 1))
}

/// `POST /api/roadmaps/{id}/milestones`.
pub(crate) fn add_milestone(Params(id): Params<Id>, Json(input): Json<NewItem>) -> Result<Created<Stored<Milestone>>> {
    database::transaction(|transaction| {
        let roadmap = entity::read::<Roadmap>(transaction, &id)?;
        let milestone = Milestone {
            project_id: roadmap.project_id.clone(),
            position: last(transaction, input.position, "project_milestones", "roadmap_id", &roadmap.id)?,
            roadmap_id: roadmap.id,
            name: input.name,
            description: input.description,
            target_date: input.target_date,
            status: input.status,
        };
        entity::create(transaction, milestone).map(Created)
    })
}

/// `POST /api/roadmaps/milestones/{id}/epics`.
pub(crate) fn add_epic(Params(id): Params<Id>, Json(input): Json<NewItem>) -> Result<Created<Stored<Epic>>> {
    database::transaction(|transaction| {
        let milestone = entity::read::<Milestone>(transaction, &id)?;
        let epic = Epic {
            project_id: milestone.project_id.clone(),
            roadmap_id: milestone.roadmap_id.clone(),
            position: last(transaction, input.position, "project_epics", "milestone_id", &milestone.id)?,
            milestone_id: milestone.id,
            name: input.name,
            description: input.description,
            status: input.status,
        };
        entity::create(transaction, epic).map(Created)
    })
}

/// `POST /api/roadmaps/epics/{id}/stories`.
pub(crate) fn add_story(Params(id): Params<Id>, Json(input): Json<NewItem>) -> Result<Created<Stored<Story>>> {
    database::transaction(|transaction| {
        let epic = entity::read::<Epic>(transaction, &id)?;
        let story = Story {
            project_id: epic.project_id.clone(),
            roadmap_id: epic.roadmap_id.clone(),
            milestone_id: epic.milestone_id.clone(),
            position: last(transaction, input.position, "project_stories", "epic_id", &epic.id)?,
            epic_id: epic.id,
            name: input.name,
            description: input.description,
            status: input.status,
        };
        entity::create(transaction, story).map(Created)
    })
}

/// Where a task hangs: its milestone, epic and story, the deepest one deciding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub milestone_id: Option<Id>,
    pub epic_id: Option<Id>,
    pub story_id: Option<Id>,
}

/// The place that a wish means, with what lies above it. 404 for an item that is not there, 422 for one of another
/// project.
pub(crate) fn place_of(transaction: &Transaction, project_id: &Id, wish: Place) -> Result<Place> {
    let mut wish = wish;
    if let Some(id) = &wish.story_id {
        let story = entity::read::<Story>(transaction, id)?;
        require_same_project(&story.project_id, project_id)?;
        transaction.forget(tree_key(&story.roadmap_id));
        wish.milestone_id = Some(story.data.milestone_id);
        wish.epic_id = Some(story.data.epic_id);
    } else if let Some(id) = &wish.epic_id {
        let epic = entity::read::<Epic>(transaction, id)?;
        require_same_project(&epic.project_id, project_id)?;
        transaction.forget(tree_key(&epic.roadmap_id));
        wish.milestone_id = Some(epic.data.milestone_id);
    } else if let Some(id) = &wish.milestone_id {
        let milestone = entity::read::<Milestone>(transaction, id)?;
        require_same_project(&milestone.project_id, project_id)?;
        transaction.forget(tree_key(&milestone.roadmap_id));
    }
    Ok(wish)
}

/// Takes the tree with this milestone out of the cache, as a task on it has changed.
pub(crate) fn forget_tree(transaction: &Transaction, milestone_id: Option<&Id>) -> Result<()> {
    let Some(id) = milestone_id else { return Ok(()) };
    if let Some(row) = transaction.query_one("SELECT roadmap_id FROM project_milestones WHERE id = $1", params![id])? {
        transaction.forget(tree_key(&row.get::<String>("roadmap_id")?));
    }
    Ok(())
}

impl Place {
    /// What is wished when some of the three have changed: a level that is changed takes the deeper, unchanged ones off.
    pub(crate) fn after(&self, old: &Self) -> Self {
        let mut wish = self.clone();
        if self.story_id == old.story_id && self.epic_id != old.epic_id {
            wish.story_id = None;
        }
        if self.milestone_id != old.milestone_id && self.epic_id == old.epic_id && self.story_id == old.story_id {
            wish.epic_id = None;
            wish.story_id = None;
        }
        // Taking the item off that decided leaves what is above it.
        wish
    }
}

#[cfg(test)]
mod tests {
    use super::Place;

    fn place(milestone: Option<&str>, epic: Option<&str>, story: Option<&str>) -> Place {
        Place {
            milestone_id: milestone.map(Into::into),
            epic_id: epic.map(Into::into),
            story_id: story.map(Into::into),
        }
    }

    #[test]
    fn the_level_that_changes_takes_the_deeper_ones_off() {
        let old = place(Some("m"), Some("e"), Some("s"));
        assert_eq!(place(Some("m"), Some("f"), Some("s")).after(&old), place(Some("m"), Some("f"), None));
        assert_eq!(place(Some("n"), Some("e"), Some("s")).after(&old), place(Some("n"), None, None));
        assert_eq!(place(Some("m"), Some("e"), None).after(&old), place(Some("m"), Some("e"), None));
        assert_eq!(place(Some("m"), Some("e"), Some("t")).after(&old), place(Some("m"), Some("e"), Some("t")));
        assert_eq!(place(None, None, None).after(&old), place(None, None, None));
        assert_eq!(place(None, Some("e"), Some("s")).after(&old), place(None, None, None));
    }
}
