//! The pattern library: pieces of code with places to fill, in versions.

pub mod api;
pub mod extract;
pub mod instantiate;
pub mod parameter;
pub mod rating;
pub mod search;
pub mod sight;
pub mod version;

use berth_sdk::{events::Message, prelude::*, serde_json::Value};

use crate::{access, words};
use version::PatternVersion;

/// Characters of a pattern's code.
pub const CODE_CHARACTERS_MAX: usize = 200_000;

/// What a pattern is about.
#[choice(kebab)]
pub enum PatternType {
    /// How code is laid out.
    CodeStructure,
    /// How parts work together.
    Architecture,
    /// How others call it.
    ApiDesign,
    /// How it is tested.
    Testing,
    /// What things are called.
    Naming,
    /// Where things are.
    Organization,
    /// How it looks.
    Style,
}

/// A pattern.
#[entity(table = "pattern_patterns", name = "pattern", created = "pattern.created", updated = "pattern.updated")]
pub struct Pattern {
    /// Its name.
    #[field(min = 1, max = 200, plain)]
    pub name: String,
    /// What it is for.
    #[field(default, max = 5_000)]
    pub description: String,
    /// What it is about.
    pub pattern_type: PatternType,
    /// A word of the library's own order.
    #[field(min = 1, max = 100, plain, filter, default = "general")]
    pub category: String,
    /// The code, with `{{name}}` where something is filled in. A change of it is a new version.
    #[field(min = 1, max = CODE_CHARACTERS_MAX, raw)]
    pub code: String,
    /// The language of the code.
    #[field(min = 1, max = 60, plain, filter)]
    pub language: Option<String>,
    /// What is filled in: names, or `{name, description?, required?, default?}`, in a list or by name.
    pub parameters: Option<Value>,
    /// Words to find it by.
    #[field(default, max = 20)]
    pub tags: Vec<String>,
    /// Everybody in the organization sees it; otherwise its author, its team and its project. When absent: what has
    /// neither team nor project.
    #[field(default = true)]
    pub is_public: bool,
    /// The team it is of.
    pub team_id: Option<Id>,
    /// The project it is of.
    pub project_id: Option<Id>,
    /// How often it was used.
    #[field(readonly, default)]
    pub usage_count: i64,
    /// The sum of its ratings.
    #[field(readonly, default)]
    pub rating_sum: i64,
    /// How many have rated it.
    #[field(readonly, default)]
    pub rating_count: i64,
    /// The version of `code`.
    #[field(immutable, min = 1, max = version::CHARACTERS_MAX, default = "1.0.0")]
    pub current_version: String,
    /// Tags and language as words, for the search.
    #[field(readonly, hidden, default)]
    pub words: String,
}

impl Pattern {
    fn tidy_words(&mut self) -> Result<()> {
        let mut faults = Faults::default();
        words::tidy(&mut self.tags, "tags", &mut faults);
        faults.finish()?;
        let words = self.tags.iter().map(String::as_str).chain(self.language.as_deref());
        self.words = words.collect::<Vec<_>>().join(" ");
        Ok(())
    }
}

impl Rules for Pattern {
    fn check(&self, faults: &mut Faults) {
        faults.check("currentVersion", version::parse(&self.current_version).map(|_| ()));
        if let Err(errors) = parameter::declared(self.parameters.as_ref()) {
            faults.extend(errors);
        }
    }

    fn before_create(&mut self, _: &Transaction) -> Result<()> {
        self.tidy_words()?;
        access::require_team(self.team_id.as_ref(), access::MANAGE_PATTERNS)
    }

    fn after_create(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        PatternVersion::note(transaction, row, None, None).map(|_| ())
    }

    fn before_update(&mut self, old: &Stored<Self>, _: &Transaction) -> Result<()> {
        self.tidy_words()?;
        if self.team_id != old.team_id {
            access::require_team(self.team_id.as_ref(), access::MANAGE_PATTERNS)?;
        }
        if self.code != old.code {
            self.current_version = version::after(&old.current_version)?;
        }
        Ok(())
    }

    fn after_update(old: &Stored<Self>, new: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        if new.current_version == old.current_version {
            return Ok(());
        }
        let parent = version::find(transaction, &old.id, &old.current_version)?.map(|version| version.id);
        PatternVersion::note(transaction, new, None, parent).map(|_| ())
    }

    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        for table in ["pattern_versions", "pattern_ratings", "pattern_usages"] {
            transaction.execute(&format!("DELETE FROM {table} WHERE pattern_id = $1"), params![&row.id])?;
        }
        Ok(())
    }

    fn event_data(row: &Stored<Self>) -> Value {
        // What not everybody sees has no name outside.
        let name = row.is_public.then_some(&row.name);
        json!({
            "id": row.id, "patternId": row.id, "name": name, "patternType": row.pattern_type, "category": row.category,
            "language": row.language, "version": row.current_version, "isPublic": row.is_public, "teamId": row.team_id,
            "projectId": row.project_id,
        })
    }
}

/// Holds a pattern until the transaction ends; 404 when it has gone meanwhile.
pub fn hold(transaction: &Transaction, id: &Id) -> Result<Stored<Pattern>> {
    transaction.query_one("SELECT id FROM pattern_patterns WHERE id = $1 FOR UPDATE", params![id])?;
    entity::read(transaction, id)
}

/// Publishes something about a pattern, in its order.
pub fn say(transaction: &Transaction, kind: &str, row: &Stored<Pattern>, more: Value) -> Result<()> {
    let mut data = Pattern::event_data(row);
    if let (Some(members), Value::Object(more)) = (data.as_object_mut(), more) {
        members.extend(more);
    }
    transaction.send(&Message::new(kind, &data)?.with_key(row.id.as_str()))?;
    Ok(())
}
