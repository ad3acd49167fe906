//! Roadmaps: milestones, epics and stories, and the tasks below them; how far they are, and what decides when they end.

mod api;
mod critical;
mod generate;
mod item;
mod outline;
mod progress;

use item::{Epic, Milestone, Story};
pub(crate) use item::{Place, forget_tree, place_of};

use berth_sdk::prelude::*;

use crate::project::{self, Project};

/// A roadmap of a project.
#[entity(table = "project_roadmaps")]
pub(crate) struct Roadmap {
    #[field(immutable, parent = Project)]
    pub project_id: Id,
    #[field(min = 1, max = 200, plain)]
    pub name: String,
    pub description: Option<String>,
}

impl Rules for Roadmap {
    fn scope() -> Option<Condition> {
        Some(project::within("project_roadmaps"))
    }

    fn before_create(&mut self, transaction: &Transaction) -> Result<()> {
        project::require_edit(transaction, &self.project_id)
    }

    fn before_update(&mut self, old: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        transaction.forget(tree_key(&old.id));
        project::require_edit(transaction, &old.project_id)
    }

    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        project::require_edit(transaction, &row.project_id)?;
        transaction.forget(tree_key(&row.id));
        item::clear_roadmap(transaction, &row.id)
    }
}

/// Where the tree of a roadmap is cached.
pub(crate) fn tree_key(roadmap_id: &str) -> String {
    format!("roadmap:{roadmap_id}:tree")
}

/// The routes of roadmaps.
pub(crate) fn routes() -> Router {
    Router::new()
        .entity::<Roadmap>("/api/roadmaps")
        .get("/api/roadmaps/{id}/hierarchy", api::hierarchy)
        .summary("Read a roadmap with everything in it.")
        .get("/api/roadmaps/{id}/progress", api::progress)
        .summary("Read how far a roadmap is.")
        .get("/api/roadmaps/{id}/tree", api::tree)
        .summary("Read the tree of a roadmap: ids, names and progress.")
        .get("/api/roadmaps/{id}/dependencies", api::dependencies)
        .summary("List the dependencies between a roadmap's tasks.")
        .get("/api/roadmaps/{id}/critical-path", api::critical_path)
        .summary("Read the critical path of a roadmap's open tasks.")
        .get("/api/roadmaps/{id}/milestones", api::milestones)
        .summary("List the milestones of a roadmap.")
        .post("/api/roadmaps/{id}/milestones", item::add_milestone)
        .summary("Create a milestone.")
        .row::<Milestone>("/api/roadmaps/milestones")
        .get("/api/roadmaps/milestones/{id}/epics", api::epics)
        .summary("List the epics of a milestone.")
        .post("/api/roadmaps/milestones/{id}/epics", item::add_epic)
        .summary("Create an epic.")
        .row::<Epic>("/api/roadmaps/epics")
        .get("/api/roadmaps/epics/{id}/stories", api::stories)
        .summary("List the stories of an epic.")
        .post("/api/roadmaps/epics/{id}/stories", item::add_story)
        .summary("Create a story.")
        .post("/api/roadmaps/epics/{id}/stories/generate", generate::stories)
        .summary("Propose stories of an epic.")
        .row::<Story>("/api/roadmaps/stories")
        .get("/api/roadmaps/stories/{id}/tasks", api::tasks)
        .summary("List the tasks of a story.")
        .post("/api/roadmaps/stories/{id}/tasks/generate", generate::tasks)
        .summary("Generate the tasks of a story.")
}
