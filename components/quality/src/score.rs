//! Scores: how good a project is, by whatever measures it.

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use crate::project;

/// The largest details, as JSON.
const DETAILS_BYTES_MAX: usize = 64 * 1024;

/// A score of a project.
#[entity(table = "compliance_scores", name = "score", sort = "-recordedAt")]
pub struct Score {
    /// The project: the score exists for whoever sees it.
    #[field(immutable)]
    pub project_id: Id,
    /// What it is about, such as `coverage` or `maintainability`.
    #[field(filter, min = 1, max = 100, plain)]
    pub kind: String,
    /// How much.
    #[field(min = -1e15, max = 1e15)]
    pub value: f64,
    /// What it is made of.
    #[field(default)]
    pub details: Map<String, Value>,
    /// When; now when it is left out.
    pub recorded_at: Option<Timestamp>,
}

impl Rules for Score {
    fn check(&self, faults: &mut Faults) {
        if json!(self.details).to_string().len() > DETAILS_BYTES_MAX {
            faults.add("details", format!("must have at most {DETAILS_BYTES_MAX} bytes"));
        }
    }

    fn before_create(&mut self, _: &Transaction) -> Result<()> {
        self.recorded_at.get_or_insert(clock::now());
        Ok(())
    }
}

/// The routes of scores.
pub fn routes() -> Router {
    const PATH: &str = "/api/quality/scores";
    Router::new()
        .get(PATH, list)
        .summary("List scores, the latest first; projectId and kind filter them.")
        .post(PATH, record)
        .summary("Record a score of a project.")
}

fn list(query: PageQuery) -> Result<JsonText<Page<Stored<Score>>>> {
    project::narrowed(Select::<Score>::new(), &query)?.page(&Pool, &query)
}

fn record(Json(score): Json<Score>) -> Result<Created<Stored<Score>>> {
    project::require(Some(&score.project_id), "project")?;
    let row = database::transaction(|transaction| entity::create(transaction, score))?;
    Ok(Created(row))
}
