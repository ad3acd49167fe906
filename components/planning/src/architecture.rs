//! Architecture: designs as graphs, their versions, and their reviews.

mod analysis;
mod graph;
mod review;

use berth_sdk::prelude::*;

use crate::project::{self, Project};
use graph::ArchitectureData;

/// Where a design stands.
#[choice]
pub(crate) enum DesignStatus {
    Draft,
    Review,
    Approved,
    Deprecated,
}

impl DesignStatus {
    /// What somebody may say without a review: a design is withdrawn, or given up.
    fn may_be_set(self, to: Self) -> bool {
        use DesignStatus::{Approved, Deprecated, Draft, Review};
        matches!((self, to), (Review, Draft) | (Draft | Review | Approved, Deprecated))
    }
}

/// A design.
#[entity(table = "architecture_designs", name = "diagram")]
pub(crate) struct Design {
    #[field(immutable, parent = Project)]
    pub project_id: Id,
    #[field(min = 1, max = 200, plain)]
    pub title: String,
    pub description: Option<String>,
    #[field(default = DesignStatus::Draft)]
    pub status: DesignStatus,
    #[field(default)]
    pub architecture_data: ArchitectureData,
    /// The design that this one is a new version of.
    #[field(readonly)]
    pub parent_version_id: Option<Id>,
    #[field(default, max = 50)]
    pub tags: Vec<String>,
}

impl Rules for Design {
    fn scope() -> Option<Condition> {
        Some(project::within("architecture_designs"))
    }

    fn check(&self, faults: &mut Faults) {
        self.architecture_data.faults("architectureData", faults);
    }

    fn before_create(&mut self, transaction: &Transaction) -> Result<()> {
        project::require_edit(transaction, &self.project_id)?;
        if self.status == DesignStatus::Draft {
            return Ok(());
        }
        Err(Problem::unprocessable("A new diagram begins as draft."))
    }

    fn before_update(&mut self, old: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        project::require_edit(transaction, &old.project_id)?;
        if self.status != old.status && !old.status.may_be_set(self.status) {
            let detail = format!("A diagram that is {} does not become {}.", old.status, self.status);
            return Err(Problem::conflict(detail).with_code("ILLEGAL_TRANSITION"));
        }
        if self.architecture_data != old.architecture_data && old.status != DesignStatus::Draft {
            let detail = format!("A diagram that is {} is not changed; make a new version of it.", old.status);
            return Err(Problem::conflict(detail).with_code("DESIGN_CLOSED"));
        }
        Ok(())
    }

    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        project::require_edit(transaction, &row.project_id)?;
        transaction.execute("DELETE FROM architecture_reviews WHERE design_id = $1", params![&row.id])?;
        transaction.execute(
            "UPDATE architecture_designs SET parent_version_id = NULL WHERE parent_version_id = $1",
            params![&row.id],
        )?;
        Ok(())
    }
}

/// What is different in a new version; everything else is taken over.
#[data]
pub(crate) struct NewVersion {
    #[field(min = 1, max = 200, plain)]
    title: Option<String>,
    description: Option<String>,
    architecture_data: Option<ArchitectureData>,
    #[field(max = 50)]
    tags: Option<Vec<String>>,
}

/// `POST /api/architecture/diagrams/{id}/versions`: a draft whose version number follows that of its parent.
fn add_version(Params(id): Params<Id>, input: Option<Json<NewVersion>>) -> Result<Created<Stored<Design>>> {
    database::transaction(|transaction| {
        let parent = entity::read::<Design>(transaction, &id)?;
        let mut data = parent.data.clone();
        data.status = DesignStatus::Draft;
        data.parent_version_id = Some(parent.id.clone());
        if let Some(Json(input)) = input {
            data.title = input.title.unwrap_or(data.title);
            data.description = input.description.or(data.description);
            data.architecture_data = input.architecture_data.unwrap_or(data.architecture_data);
            data.tags = input.tags.unwrap_or(data.tags);
        }
        let mut made = entity::create(transaction, data)?;
        made.version = parent.version + 1;
        transaction
            .execute("UPDATE architecture_designs SET version = $2 WHERE id = $1", params![&made.id, made.version])?;
        Ok(Created(made))
    })
}

/// The routes of architecture.
pub(crate) fn routes() -> Router {
    Router::new()
        .entity::<Design>("/api/architecture/diagrams")
        .post("/api/architecture/diagrams/{id}/versions", add_version)
        .summary("Make a new version of a diagram.")
        .get("/api/architecture/diagrams/{id}/reviews", review::list)
        .summary("List the reviews of a diagram.")
        .post("/api/architecture/diagrams/{id}/review", review::request)
        .summary("Request a review of a diagram.")
        .put("/api/architecture/reviews/{id}/decision", review::decide)
        .summary("Decide a review.")
        .post("/api/architecture/analyze", analysis::analyze)
        .summary("Analyse a design.")
}

#[cfg(test)]
mod tests {
    use super::DesignStatus;

    #[test]
    fn only_a_review_approves() {
        for from in DesignStatus::ALL {
            assert!(!from.may_be_set(DesignStatus::Approved) && !from.may_be_set(DesignStatus::Review), "{from}");
            assert!(!DesignStatus::Deprecated.may_be_set(*from), "{from}");
        }
        assert!(DesignStatus::Review.may_be_set(DesignStatus::Draft));
    }
}
