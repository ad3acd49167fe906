//! Collections: documents that are cut and embedded in one way, and searched together.

pub mod api;

use berth_sdk::{
    auth::PrincipalKind,
    database::Value,
    prelude::*,
    serde_json::{Map, Value as Json},
    types::Scope,
};
use people::{project, scope};

use crate::{model, purge};

/// How near two vectors are.
#[choice(upper)]
pub enum DistanceMetric {
    /// By their angle.
    Cosine,
    /// By their distance.
    L2,
    /// By their product.
    InnerProduct,
}

/// A collection.
#[entity(table = "emb_collections", name = "collection", global, sort = "name")]
pub struct Collection {
    /// Unique for its owner.
    #[field(min = 1, max = 200, plain, filter)]
    pub name: String,
    /// Whose it is.
    #[field(default = Scope::Organization, immutable)]
    pub scope: Scope,
    /// The project, for PROJECT.
    #[field(immutable)]
    pub project_id: Option<Id>,
    /// Whose it is, for USER; the caller's own.
    #[field(immutable)]
    pub user_id: Option<Id>,
    /// What makes its vectors; none: only vectors that come with their documents.
    pub embedding_model_id: Option<Id>,
    /// Members of its vectors; those of the model when nothing is said.
    #[field(default = 0, min = 0, max = model::DIMENSIONS_MAX)]
    pub dimensions: i64,
    /// Characters of a passage.
    #[field(default = 512, min = 64, max = 20_000)]
    pub chunk_size: i64,
    /// Characters that two passages share at most.
    #[field(default = 50, min = 0, max = 5_000)]
    pub chunk_overlap: i64,
    /// How near two vectors are.
    #[field(default = DistanceMetric::Cosine)]
    pub distance_metric: DistanceMetric,
    /// What its documents are; those of `knowledge` come by themselves.
    #[field(min = 1, max = 100, plain, filter)]
    pub source_type: Option<String>,
    /// How many documents it has.
    #[field(readonly, default = 0)]
    pub document_count: i64,
    /// How many passages they have.
    #[field(readonly, default = 0)]
    pub chunk_count: i64,
}

impl Rules for Collection {
    /// What is a user's is nobody else's, and what is a project's is there for those who see the project.
    fn scope() -> Option<Condition> {
        own()
    }

    fn check(&self, faults: &mut Faults) {
        if self.chunk_overlap >= self.chunk_size {
            faults.add("chunkOverlap", "must be less than chunkSize");
        }
        match self.scope {
            Scope::Project if self.project_id.is_none() => faults.add("projectId", "is required for the scope PROJECT"),
            Scope::Team => faults.add("scope", "must be one of GLOBAL, ORGANIZATION, PROJECT, USER"),
            _ => {}
        }
    }

    /// Who sees its project, and which ones the caller does, planning is asked here.
    fn before_transaction(fields: &Map<String, Json>) -> Result<()> {
        project::seen();
        scope::require_named(fields.get("projectId").and_then(Json::as_str))
    }

    fn before_create(&mut self, transaction: &Transaction) -> Result<()> {
        self.user_id = match self.scope {
            Scope::User => auth::principal().user_id.map(Id::from),
            _ => None,
        };
        self.fit_model(transaction)
    }

    fn before_update(&mut self, old: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        self.fit_model(transaction)?;
        if self.dimensions != old.dimensions && old.document_count > 0 {
            let text = "Its documents have vectors of other dimensions; make a new collection.";
            return Err(Problem::conflict(text).with_code("COLLECTION_IN_USE"));
        }
        let is_other = self.embedding_model_id != old.embedding_model_id
            || self.chunk_size != old.chunk_size
            || self.chunk_overlap != old.chunk_overlap;
        if is_other {
            // They are found as they are until the collection is indexed again.
            transaction.execute(
                "UPDATE emb_documents SET status = 'STALE', version = version + 1
                 WHERE collection_id = $1 AND status = 'COMPLETED' AND is_supplied = FALSE",
                params![&old.id],
            )?;
        }
        Ok(())
    }

    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        transaction.execute(
            "UPDATE emb_jobs SET status = 'CANCELLED', completed_at = $2, version = version + 1
             WHERE collection_id = $1 AND status IN ('PENDING', 'RUNNING')",
            params![&row.id, clock::now()],
        )?;
        // Without their collection nobody sees the documents any more; they go in turns of their own.
        purge::begin(transaction, &row.id)
    }
}

impl Collection {
    /// The model exists and its vectors are as long as the collection says.
    fn fit_model(&mut self, database: &dyn Executor) -> Result<()> {
        if self.embedding_model_id.is_none() {
            if self.dimensions > 0 {
                return Ok(());
            }
            self.embedding_model_id = Some(model::usual(database)?.id);
        }
        let id = self.embedding_model_id.clone().unwrap_or_else(|| Id::from(""));
        let model = entity::find::<model::Model>(database, &id)?.ok_or_else(|| Problem::missing("embedding model"))?;
        if self.dimensions == 0 {
            self.dimensions = model.dimensions;
        }
        if self.dimensions != model.dimensions {
            let text = format!("The model makes vectors of {} members, not {}.", model.dimensions, self.dimensions);
            return Err(mismatch(text));
        }
        Ok(())
    }
}

/// 422 for a vector of the wrong length.
pub fn mismatch(detail: impl Into<String>) -> Problem {
    Problem::unprocessable(detail).with_code("DIMENSION_MISMATCH")
}

/// 403 for what belongs to everybody, unless the platform asks: the row names no organization.
pub fn require_writable(organization_id: Option<&Id>) -> Result<()> {
    if organization_id.is_some() || auth::principal().is_platform {
        return Ok(());
    }
    Err(Problem::forbidden("Only the platform's administrators change what belongs to everybody."))
}

/// The collections that the caller sees; none: all.
fn own() -> Option<Condition> {
    let principal = auth::principal();
    if principal.kind == PrincipalKind::System {
        return None;
    }
    let user_id = principal.user_id.unwrap_or_default();
    Some(scope::and_within(Condition::new("scope <> 'USER' OR user_id = ?", [user_id]), "project_id"))
}

/// SQL that holds of rows whose collection the caller sees, with the values of its `?`. `alias` is the table's.
pub fn visible(alias: &str) -> Condition {
    let dot = if alias.is_empty() { String::new() } else { format!("{alias}.") };
    let seen = format!("{dot}collection_id IS NULL OR {dot}collection_id IN (SELECT id FROM emb_collections");
    match own() {
        None => Condition::new(format!("{seen})"), [] as [Value; 0]),
        Some(own) => Condition::new(format!("{seen} WHERE {})", own.sql), own.values),
    }
}
