//! Versions: texts that never change once they are written; one of them is published.

pub mod diff;

use berth_sdk::prelude::*;

use crate::{
    prompt::{self, Prompt, PromptScope, require_writable},
    render::{self, Template},
    resolve,
};

/// What a version is worth.
#[choice(upper)]
pub enum VersionStatus {
    /// Not published yet.
    Draft,
    /// The one that counts.
    Published,
    /// Was published.
    Deprecated,
    /// Put away.
    Archived,
}

/// A version of a prompt.
#[entity(table = "prompt_versions", name = "version", global, sort = "-version")]
pub struct Version {
    /// The prompt.
    pub prompt_id: Id,
    /// From 1.
    pub version: i64,
    /// For people.
    pub label: Option<String>,
    /// The text.
    #[field(raw)]
    pub content: String,
    /// About how many tokens it has before it is filled.
    pub estimated_tokens: i64,
    /// What it is worth.
    pub status: VersionStatus,
    /// When it was first published.
    pub published_at: Option<Timestamp>,
    /// What has changed.
    pub change_notes: Option<String>,
    /// Whose the prompt is.
    #[field(hidden, default = PromptScope::Organization)]
    pub scope: PromptScope,
}

impl Rules for Version {}

/// A version that is to be.
#[data]
pub struct NewVersion {
    /// The text, with `{{name}}` and `{{name|filter}}`.
    #[field(min = 1, max = 100_000, raw)]
    pub content: String,
    /// For people.
    #[field(max = 100, plain)]
    pub label: Option<String>,
    /// What has changed.
    #[field(max = 2_000)]
    pub change_notes: Option<String>,
}

impl NewVersion {
    /// Only a text.
    pub fn of(content: String) -> Self {
        Self { content, label: None, change_notes: None }
    }
}

/// Writes a draft with the next number.
pub fn add(transaction: &Transaction, prompt: &Stored<Prompt>, new: NewVersion) -> Result<Stored<Version>> {
    if let Err(message) = validate::string(&new.content, 1, render::CONTENT_CHARACTERS_MAX) {
        return Err(Problem::field("content", message));
    }
    Template::parse(&new.content)?;
    let row = transaction.query_one(
        "SELECT COALESCE(MAX(version), 0) AS last FROM prompt_versions WHERE prompt_id = $1",
        params![&prompt.id],
    )?;
    let last: i64 = row.map_or(Ok(0), |row| row.get("last"))?;
    let version = Version {
        prompt_id: prompt.id.clone(),
        version: last + 1,
        label: new.label,
        estimated_tokens: render::estimated_tokens(&new.content),
        content: new.content,
        status: VersionStatus::Draft,
        published_at: None,
        change_notes: new.change_notes,
        scope: prompt.scope,
    };
    entity::create(transaction, version)
}

/// The version of a number; 404.
pub fn numbered(database: &dyn Executor, prompt_id: &str, number: i64) -> Result<Stored<Version>> {
    let row = Select::<Version>::new().equal("prompt_id", prompt_id).equal("version", number).first(database)?;
    row.ok_or_else(|| Problem::missing("version"))
}

/// The newest version with a label that was not put away; 404.
pub fn labelled(database: &dyn Executor, prompt_id: &str, label: &str) -> Result<Stored<Version>> {
    let row = Select::<Version>::new()
        .equal("prompt_id", prompt_id)
        .equal("label", label)
        .condition("\"status\" <> ?", [VersionStatus::Archived])
        .sort("-version")
        .first(database)?;
    row.ok_or_else(|| Problem::missing("version"))
}

/// The published version, or the newest one where none is.
pub fn latest(database: &dyn Executor, prompt: &Stored<Prompt>) -> Result<Option<Stored<Version>>> {
    match prompt.published_version {
        Some(number) => numbered(database, &prompt.id, number).map(Some),
        None => Select::<Version>::new().equal("prompt_id", &prompt.id).sort("-version").first(database),
    }
}

/// Makes a version the one that counts. The prompt's row is changed too, so that of two at once one fails.
pub fn publish(transaction: &Transaction, prompt: &mut Stored<Prompt>, number: i64) -> Result<Stored<Version>> {
    require_writable(prompt)?;
    let mut version = numbered(transaction, &prompt.id, number)?;
    match version.status {
        VersionStatus::Published => return Ok(version),
        VersionStatus::Archived => return Err(Problem::conflict("The version was put away.")),
        VersionStatus::Draft | VersionStatus::Deprecated => {}
    }
    transaction.execute(
        "UPDATE prompt_versions SET status = 'DEPRECATED', updated_at = $2, lock_version = lock_version + 1 \
         WHERE prompt_id = $1 AND status = 'PUBLISHED'",
        params![&prompt.id, clock::now()],
    )?;
    version.status = VersionStatus::Published;
    version.published_at.get_or_insert(clock::now());
    entity::save(transaction, &mut version)?;
    let former = prompt.published_version.replace(number);
    entity::save(transaction, prompt)?;
    let facts = json!({
        "id": version.id, "promptId": prompt.id, "name": prompt.name, "versionId": version.id, "version": number,
        "formerVersion": former,
    });
    let facts = prompt::with_reach(facts, prompt.scope, prompt.project_id.as_ref());
    transaction.send(&events::Message::new("prompt.version.published", &facts)?.with_key(prompt.id.as_str()))?;
    Ok(version)
}

/// Everything of a prompt that goes with it.
pub fn remove_all(transaction: &Transaction, prompt_id: &Id) -> Result<()> {
    transaction.execute(
        "DELETE FROM prompt_variants WHERE experiment_id IN (SELECT id FROM prompt_experiments WHERE prompt_id = $1)",
        params![prompt_id],
    )?;
    let tables = [
        "prompt_versions",
        "prompt_variables",
        "prompt_overrides",
        "prompt_experiments",
        "prompt_schedules",
        "prompt_executions",
    ];
    for table in tables {
        transaction.execute(&format!("DELETE FROM {table} WHERE prompt_id = $1"), params![prompt_id])?;
    }
    Ok(())
}

fn number(text: &str) -> Result<i64> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| Problem::field("n", "must be a version's number"))
}

/// `GET /api/prompts/{id}/versions`.
pub fn list(Params(id): Params<Id>, query: PageQuery) -> Result<JsonText<Page<Stored<Version>>>> {
    let prompt = prompt::named(&Pool, &id)?;
    Select::<Version>::new().equal("prompt_id", &prompt.id).page(&Pool, &query)
}

/// `POST /api/prompts/{id}/versions`.
pub fn create(Params(id): Params<Id>, Json(new): Json<NewVersion>) -> Result<Created<Stored<Version>>> {
    prompt::transaction(|transaction| {
        let prompt = prompt::named(transaction, &id)?;
        require_writable(&prompt)?;
        add(transaction, &prompt, new).map(Created)
    })
}

/// `GET /api/prompts/{id}/versions/{n}`.
pub fn read(Params((id, n)): Params<(Id, Id)>) -> Result<Stored<Version>> {
    let prompt = prompt::named(&Pool, &id)?;
    numbered(&Pool, &prompt.id, number(&n)?)
}

/// `POST /api/prompts/{id}/versions/{n}/publish`.
pub fn publish_route(Params((id, n)): Params<(Id, Id)>) -> Result<Stored<Version>> {
    to_publish(&id, number(&n)?)
}

/// Where to go back to.
#[data]
pub struct RollbackInput {
    /// A version that was published before.
    #[field(min = 1)]
    target_version: i64,
}

/// `POST /api/prompts/{id}/rollback`.
pub fn rollback(Params(id): Params<Id>, Json(input): Json<RollbackInput>) -> Result<Stored<Version>> {
    let prompt = prompt::named(&Pool, &id)?;
    if numbered(&Pool, &prompt.id, input.target_version)?.published_at.is_none() {
        return Err(Problem::conflict("That version was never published; publish it instead."));
    }
    to_publish(&id, input.target_version)
}

fn to_publish(id: &str, number: i64) -> Result<Stored<Version>> {
    let (prompt, version) = prompt::transaction(|transaction| {
        let mut prompt = prompt::named(transaction, id)?;
        let version = publish(transaction, &mut prompt, number)?;
        Ok::<_, Problem>((prompt, version))
    })?;
    resolve::forget(&prompt);
    Ok(version)
}
