//! Prompts: what a text is for, whose it is, and which of its versions counts.

pub mod api;

use berth_sdk::{auth::PrincipalKind, prelude::*};

use crate::{resolve, version};

/// The right to create and publish: whoever holds `prompts.prompt.*` holds it, as administrators do.
pub const PUBLISH: &str = "prompts.prompt.manage";
/// Names that are words of the routes.
const RESERVED: &[&str] = &["overrides", "experiments", "schedules", "executions", "render", "health"];

/// What a prompt is in a conversation.
#[choice(upper)]
pub enum PromptCategory {
    /// Says who the model is.
    System,
    /// What a user says.
    User,
    /// What the model says.
    Assistant,
    /// Describes a function.
    Function,
    /// Part of a chain.
    Chain,
}

/// How far a prompt reaches.
#[choice(upper)]
pub enum PromptScope {
    /// Everybody; written by the platform.
    Global,
    /// One organization.
    Organization,
    /// One project.
    Project,
    /// Its owner alone.
    User,
}

/// What a prompt is used for.
#[choice]
pub enum Usage {
    /// A conversation.
    Chat,
    /// Something about selected code.
    CodeSelection,
    /// Runs by a schedule.
    Recurring,
}

/// A prompt.
#[entity(table = "prompt_prompts", name = "prompt", global, created = "prompt.template.created", sort = "name")]
pub struct Prompt {
    /// As in `summarize-incident`; unique in the organization.
    #[field(min = 1, max = 64, filter)]
    pub name: String,
    /// For people.
    #[field(min = 1, max = 200, plain)]
    pub display_name: String,
    /// What it is for.
    #[field(max = 2_000)]
    pub description: Option<String>,
    /// What it is in a conversation.
    #[field(default = PromptCategory::User)]
    pub category: PromptCategory,
    /// The part of the system that uses it.
    #[field(default = "general", min = 1, max = 100, plain, filter)]
    pub module: String,
    /// How far it reaches.
    #[field(default = PromptScope::Organization, immutable)]
    pub scope: PromptScope,
    /// The project, for PROJECT.
    pub project_id: Option<Id>,
    /// The owner; the creator when nothing is said.
    pub owner_id: Option<Id>,
    /// The models it works best with, the best first.
    #[field(default, max = 20)]
    pub preferred_models: Vec<String>,
    /// Words to find it by.
    #[field(default, max = 50)]
    pub tags: Vec<String>,
    /// What it is used for.
    #[field(default, max = 3)]
    pub usage: Vec<Usage>,
    /// Whether it can be rendered.
    #[field(default = true)]
    pub is_active: bool,
    /// Belongs to the platform: nobody else changes it, and nobody removes it.
    #[field(default = false)]
    pub is_system: bool,
    /// The version that counts.
    #[field(readonly)]
    pub published_version: Option<i64>,
}

impl Rules for Prompt {
    /// A user's own prompts are nobody else's.
    fn scope() -> Option<Condition> {
        let principal = auth::principal();
        match principal.kind {
            PrincipalKind::System => None,
            _ => {
                Some(Condition::new("\"scope\" <> 'USER' OR \"owner_id\" = ?", [principal.user_id.unwrap_or_default()]))
            }
        }
    }

    fn check(&self, faults: &mut Faults) {
        let fits = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || matches!(letter, '-' | '_');
        let begins_well = self.name.starts_with(|letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit());
        if !begins_well || !self.name.chars().all(fits) {
            faults.add("name", "must have 1 to 64 characters of a-z, 0-9, - and _, and begin with a letter or digit");
        } else if RESERVED.contains(&self.name.as_str()) {
            faults.add("name", "is a word of the routes");
        }
        if self.scope == PromptScope::Project && self.project_id.is_none() {
            faults.add("projectId", "is required for the scope PROJECT");
        }
        if self.preferred_models.iter().chain(&self.tags).any(|text| text.is_empty() || text.len() > 200) {
            faults.add("tags", "tags and models must have 1 to 200 characters");
        }
    }

    fn before_create(&mut self, _: &Transaction) -> Result<()> {
        let principal = auth::principal();
        if self.is_system && !principal.is_platform {
            return Err(Problem::forbidden("Only the platform's administrators make system prompts."));
        }
        if self.scope == PromptScope::User || self.owner_id.is_none() {
            self.owner_id = principal.user_id.map(Id::from);
        }
        self.published_version = None;
        Ok(())
    }

    fn before_update(&mut self, old: &Stored<Self>, _: &Transaction) -> Result<()> {
        require_writable(old)?;
        if self.is_system != old.is_system && !auth::principal().is_platform {
            return Err(Problem::forbidden("Only the platform's administrators make system prompts."));
        }
        if old.scope == PromptScope::User {
            self.owner_id.clone_from(&old.owner_id);
        }
        Ok(())
    }

    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        if row.is_system {
            return Err(Problem::forbidden("A system prompt stays."));
        }
        // In whichever organization: a global prompt has experiments everywhere.
        let running = transaction.query_one(
            "SELECT id FROM prompt_experiments WHERE prompt_id = $1 AND status = 'RUNNING' LIMIT 1",
            params![&row.id],
        )?;
        if running.is_some() {
            return Err(Problem::conflict("An experiment with it is running.").with_code("EXPERIMENT_RUNNING"));
        }
        version::remove_all(transaction, &row.id)
    }
}

/// 403 unless the caller may change the prompt at all: global and system ones are the platform's.
pub fn require_writable(prompt: &Stored<Prompt>) -> Result<()> {
    let is_platforms = prompt.organization_id.is_none() || prompt.is_system;
    if is_platforms && !auth::principal().is_platform {
        return Err(Problem::forbidden("Only the platform's administrators change global and system prompts."));
    }
    Ok(())
}

/// The prompt of an id or a name, the organization's own before a global one; 404.
pub fn named(database: &dyn Executor, id_or_name: &str) -> Result<Stored<Prompt>> {
    let rows = Select::<Prompt>::new()
        .condition("\"id\" = ? OR \"name\" = ?", [id_or_name, id_or_name])
        .limit(3)
        .all(database)?;
    let rank = |prompt: &Stored<Prompt>| (prompt.id.as_str() != id_or_name, prompt.organization_id.is_none());
    rows.into_iter().min_by_key(rank).ok_or_else(|| Problem::missing("prompt"))
}

/// What hangs on a prompt in the cache goes.
pub fn forget(row: &Stored<Prompt>) {
    resolve::forget(row);
}
