//! Models: who makes vectors, of how many members, at what price. One is built in and belongs to everybody.

use berth_sdk::prelude::*;

/// The right to add and change models: administrators hold it.
pub const MANAGE: &str = "embeddings.embedding.manage";
/// Members of a vector.
pub const DIMENSIONS_MAX: i64 = 4_096;
/// What is similar enough when neither the request nor the model says.
pub const THRESHOLD: f64 = 0.7;
/// Which names are held: of what there is one of, and where two would be the first.
pub const HOLDS: &str = "emb_holds";

/// Who makes the vectors.
#[choice]
pub enum Provider {
    /// The built-in embedder.
    Builtin,
    /// A service with the API of OpenAI.
    Openai,
    /// Ollama.
    Ollama,
}

/// Whose it is.
#[choice(upper)]
pub enum ModelScope {
    /// Everybody's; set up by the platform.
    Global,
    /// One organization's.
    Organization,
}

/// A model.
#[entity(table = "emb_models", name = "embedding model", global, sort = "name")]
pub struct Model {
    /// Who makes the vectors.
    #[field(immutable)]
    pub provider: Provider,
    /// What the provider calls it.
    #[field(min = 1, max = 200, plain, filter)]
    pub name: String,
    /// What it is good for.
    #[field(max = 2_000)]
    pub description: Option<String>,
    /// Whose it is.
    #[field(default = ModelScope::Organization, immutable)]
    pub scope: ModelScope,
    /// Members of its vectors.
    #[field(min = 1, max = DIMENSIONS_MAX, immutable)]
    pub dimensions: i64,
    /// Tokens of one text.
    #[field(default = 8_192, min = 1, max = 10_000_000)]
    pub max_input_tokens: i64,
    /// The price of a million tokens, in micro-cents.
    #[field(min = 0)]
    pub price_per_1m_micro: Option<i64>,
    /// What is similar enough where a search does not say.
    #[field(min = -1, max = 1)]
    pub default_threshold: Option<f64>,
    /// Where the provider is, when not at its usual place.
    #[field(max = 500, format = "url")]
    pub base_url: Option<String>,
    /// The secret with its credentials; the host puts them in.
    pub secret_id: Option<Id>,
    /// Whether it is used.
    #[field(default = true)]
    pub is_enabled: bool,
    /// It is used where nobody names another.
    #[field(default = false)]
    pub is_default: bool,
}

impl Rules for Model {
    fn check(&self, faults: &mut Faults) {
        if self.base_url.as_deref().is_some_and(is_internal) {
            faults.add("baseUrl", "must not be a service of this host");
        }
    }

    fn before_create(&mut self, transaction: &Transaction) -> Result<()> {
        auth::require(MANAGE)?;
        if self.provider == Provider::Builtin {
            return Err(Problem::field("provider", "must be one of openai, ollama: the built-in one is there"));
        }
        self.hold_default(self.scope == ModelScope::Global, transaction)
    }

    fn after_create(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        row.be_the_only_default(transaction)
    }

    fn before_update(&mut self, old: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        auth::require(MANAGE)?;
        self.hold_default(old.organization_id.is_none(), transaction)
    }

    fn after_update(_: &Stored<Self>, new: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        new.be_the_only_default(transaction)
    }

    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        auth::require(MANAGE)?;
        if row.provider == Provider::Builtin {
            return Err(Problem::conflict("The built-in model stays; disable it instead."));
        }
        let used = transaction
            .query_one("SELECT id FROM emb_collections WHERE embedding_model_id = $1 LIMIT 1", params![&row.id])?;
        match used {
            Some(_) => Err(Problem::conflict("A collection uses it.").with_code("MODEL_IN_USE")),
            None => Ok(()),
        }
    }
}

impl Model {
    /// Of two models that become the default at once the later one finds the other. To be called before anything is written: who
    /// waits here keeps nobody waiting.
    fn hold_default(&self, is_global: bool, transaction: &Transaction) -> Result<()> {
        if self.is_default { transaction.hold_for(HOLDS, "default", is_global) } else { Ok(()) }
    }
}

/// What a model that was made or changed as the default does to the others of its owner.
trait Only {
    fn be_the_only_default(&self, transaction: &Transaction) -> Result<()>;
}

impl Only for Stored<Model> {
    fn be_the_only_default(&self, transaction: &Transaction) -> Result<()> {
        if self.is_default {
            transaction.execute(
                "UPDATE emb_models SET is_default = FALSE, version = version + 1
                 WHERE COALESCE(organization_id, '') = COALESCE($1, '') AND id <> $2 AND is_default = TRUE",
                params![&self.organization_id, &self.id],
            )?;
        }
        Ok(())
    }
}

/// Whether an address is that of a plugin.
fn is_internal(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default().split(':').next().unwrap_or_default();
    host.trim_end_matches('.').to_ascii_lowercase().ends_with(".internal")
}

/// The model of an id or a name, the organization's own before everybody's; none when there is none.
pub fn named(database: &dyn Executor, id_or_name: &str) -> Result<Option<Stored<Model>>> {
    let rows = Select::<Model>::new()
        .condition("\"id\" = ? OR \"name\" = ?", [id_or_name, id_or_name])
        .limit(3)
        .all(database)?;
    let rank = |model: &Stored<Model>| (model.id.as_str() != id_or_name, model.organization_id.is_none());
    Ok(rows.into_iter().min_by_key(rank))
}

/// The model that is used where nobody names one: the organization's default, else everybody's.
pub fn usual(database: &dyn Executor) -> Result<Stored<Model>> {
    let rows = Select::<Model>::new().equal("is_default", true).equal("is_enabled", true).limit(10).all(database)?;
    let found = rows.into_iter().min_by_key(|model| model.organization_id.is_none());
    found.ok_or_else(|| {
        Problem::unprocessable("No embedding model is enabled as the default; name one.").with_code("NO_MODEL")
    })
}

/// The enabled model that was named, or the usual one; 422 otherwise.
pub fn chosen(database: &dyn Executor, id_or_name: Option<&str>) -> Result<Stored<Model>> {
    let Some(id_or_name) = id_or_name else { return usual(database) };
    let model = named(database, id_or_name)?
        .ok_or_else(|| Problem::unprocessable("There is no such embedding model.").with_code("NO_MODEL"))?;
    usable(model)
}

/// The model, when it is enabled; 422 otherwise.
pub fn usable(model: Stored<Model>) -> Result<Stored<Model>> {
    if model.is_enabled {
        Ok(model)
    } else {
        Err(Problem::unprocessable("The embedding model is disabled.").with_code("MODEL_DISABLED"))
    }
}

#[cfg(test)]
mod tests {
    use super::is_internal;

    #[test]
    fn a_plugin_is_no_provider() {
        for url in ["http://ai-service.internal/v1", "http://a@x.Internal.:80/", "https://x.internal?y"] {
            assert!(is_internal(url), "{url}");
        }
        assert!(!is_internal("https://internal.example.com/v1"));
    }
}
