//! Resources: what others have written or filmed, by its address. Nothing is fetched.

pub mod api;

use berth_sdk::{cache, prelude::*, serde_json::Value};

use crate::{
    access,
    standing::{self, Kind},
    words,
};

/// The key of the cache that every change of what is offered deletes; cached lists carry its value.
pub const GENERATION: &str = "catalogue";

/// What a resource is.
#[choice]
pub enum ResourceType {
    /// Several lessons.
    Course,
    /// A text.
    Article,
    /// A film.
    Video,
    /// A guided exercise.
    Tutorial,
    /// A reference.
    Documentation,
}

/// A resource.
#[entity(table = "learning_resources", name = "resource")]
pub struct Resource {
    /// The team it is for; everybody when absent.
    pub team_id: Option<Id>,
    /// Its title.
    #[field(min = 1, max = 200, plain)]
    pub title: String,
    /// What it is about.
    #[field(max = 5_000)]
    pub description: Option<String>,
    /// Where it is: http or https.
    #[field(min = 1, max = 2_048, format = "url")]
    pub url: String,
    /// What it is.
    pub resource_type: ResourceType,
    /// Whose it is.
    #[field(max = 200, plain)]
    pub provider: Option<String>,
    /// Who has put it here.
    #[field(readonly, filter, default = Id::from("nobody"))]
    pub curated_by: Id,
    /// How good it is, as the curators see it: 0 to 100.
    #[field(min = 0, max = 100)]
    pub quality_score: Option<f64>,
    /// Words to find it by.
    #[field(default, max = 20)]
    pub tags: Vec<String>,
    /// What one learns from it.
    #[field(default, max = 20, pattern = r"[^\s\x00-\x1f\x7f-\x9f]")]
    pub skills: Vec<String>,
    /// How often it was looked at.
    #[field(readonly, default)]
    pub view_count: i64,
    /// How many it has helped.
    #[field(readonly, default)]
    pub helpful_count: i64,
}

impl Resource {
    fn tidy_words(&mut self) -> Result<()> {
        let mut faults = Faults::default();
        words::tidy(&mut self.tags, "tags", &mut faults);
        words::tidy(&mut self.skills, "skills", &mut faults);
        faults.finish()
    }
}

impl Rules for Resource {
    fn scope() -> Option<Condition> {
        if access::is_manager(access::MANAGE) {
            return None;
        }
        let (sql, values) = access::in_teams();
        Some(Condition { sql, values })
    }

    fn before_create(&mut self, _: &Transaction) -> Result<()> {
        self.tidy_words()?;
        access::require_team(self.team_id.as_ref(), access::MANAGE)?;
        self.curated_by = auth::user_id()?;
        Ok(())
    }

    fn before_update(&mut self, old: &Stored<Self>, _: &Transaction) -> Result<()> {
        self.tidy_words()?;
        if self.team_id != old.team_id {
            access::require_team(self.team_id.as_ref(), access::MANAGE)?;
        }
        Ok(())
    }

    /// Steps that used it keep their place and their own address.
    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        transaction.execute(
            "UPDATE learning_path_steps SET resource_id = NULL, updated_at = $2, version = version + 1 WHERE resource_id = $1",
            params![&row.id, clock::now()],
        )?;
        for table in ["learning_helpful", "learning_suggestions"] {
            transaction.execute(&format!("DELETE FROM {table} WHERE resource_id = $1"), params![&row.id])?;
        }
        standing::forget(transaction, Kind::Resource, &row.id)
    }

    fn committed(_: &Stored<Self>) {
        cache::del(GENERATION);
    }

    fn event_data(row: &Stored<Self>) -> Value {
        json!({ "resourceId": row.id, "resourceType": row.resource_type })
    }
}
