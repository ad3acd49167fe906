//! Prompts: what a text is for, whose it is, and which of its versions counts.

pub mod api;

use berth_sdk::{
    auth::PrincipalKind,
    prelude::*,
    serde_json::{Map, Value},
};

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
    /// Those who see one project.
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
    /// A user's own prompts are nobody else's, and a project's are there for those who see the project.
    fn scope() -> Option<Condition> {
        reach()
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

/// The condition under which a prompt exists for the caller; none: every one does.
fn reach() -> Option<Condition> {
    let principal = auth::principal();
    if principal.kind == PrincipalKind::System {
        return None;
    }
    let own = Condition::new("scope <> 'USER' OR owner_id = ?", [principal.user_id.unwrap_or_default()]);
    // Other prompts may name a project as well; that is a label.
    Some(people::scope::and_within(own, "CASE WHEN scope = 'PROJECT' THEN project_id END"))
}

/// The condition under which what hangs on a prompt, by its column `prompt_id`, exists for the caller: as the prompt does.
pub fn reach_of_prompt() -> Option<Condition> {
    let Condition { sql, values } = reach()?;
    Some(Condition { sql: format!("prompt_id IN (SELECT id FROM prompt_prompts WHERE {sql})"), values })
}

/// What an event tells of a prompt, or of what hangs on it, with who may hear of it: events are everybody's, and whoever passes
/// one on has to know.
pub fn with_reach(mut facts: Value, scope: PromptScope, project_id: Option<&Id>) -> Value {
    if let Some(facts) = facts.as_object_mut() {
        facts.insert("isPrivate".into(), (scope == PromptScope::User).into());
        facts.insert("projectId".into(), json!(project_id.filter(|_| scope == PromptScope::Project)));
    }
    facts
}

/// The same where only the prompt's id is at hand.
pub fn with_reach_of(database: &dyn Executor, prompt_id: &Id, facts: Value) -> Result<Value> {
    let row = database.query_one("SELECT scope, project_id FROM prompt_prompts WHERE id = $1", params![prompt_id])?;
    let Some(row) = row else { return Ok(facts) };
    Ok(with_reach(facts, row.get("scope")?, row.get::<Option<Id>>("project_id")?.as_ref()))
}

/// A transaction in which prompts are looked up. Planning is asked before it begins which projects the caller sees: no call may
/// keep a transaction waiting.
pub fn transaction<T>(work: impl FnOnce(&Transaction) -> Result<T>) -> Result<T> {
    people::project::seen();
    database::transaction(work)
}

/// 404 unless the caller sees the project that a body names, where it is another one than before; 503 when planning does not say.
fn require_project(fields: &Map<String, Value>, before: Option<&Id>) -> Result<()> {
    match fields.get("projectId").and_then(Value::as_str) {
        Some(id) if before.is_none_or(|before| before.as_str() != id) => people::project::require_anew(&Id::parse(id)?),
        _ => Ok(()),
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

#[cfg(test)]
mod tests {
    use berth_sdk::testing;

    use super::*;

    #[test]
    fn what_is_private_is_its_owners_and_what_hangs_on_it_too() {
        testing::sign_in("u1", "o1");
        let reach = reach_of_prompt().unwrap();
        assert_eq!(
            reach.sql,
            "prompt_id IN (SELECT id FROM prompt_prompts WHERE (scope <> 'USER' OR owner_id = ?) AND \
             (CASE WHEN scope = 'PROJECT' THEN project_id END IS NULL))",
            "natively nobody says which projects there are"
        );
        assert_eq!(reach.values, ["u1".into()]);
        testing::handle_message("o1");
        assert!(reach_of_prompt().is_none() && Prompt::scope().is_none());
    }

    #[test]
    fn a_project_is_asked_for_when_it_is_another_one() {
        testing::sign_in("u1", "o1");
        let fields = |value: Value| Map::from_iter([("projectId".to_string(), value)]);
        assert_eq!(require_project(&fields(json!("p1")), None).unwrap_err().status, 503, "natively nobody answers");
        assert_eq!(require_project(&fields(json!("p/1")), None).unwrap_err().status, 400);
        assert!(require_project(&fields(json!("p1")), Some(&"p1".into())).is_ok());
        assert!(require_project(&fields(Value::Null), Some(&"p1".into())).is_ok());
        assert!(require_project(&Map::new(), None).is_ok());
    }
}
