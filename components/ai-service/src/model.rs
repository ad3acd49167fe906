//! Models: what there is to ask, what it costs and can do, and what an organization or a user has set for it.

use berth_sdk::{
    cache,
    prelude::*,
    serde_json::{Map, Value},
    types::Scope,
};

use crate::{
    HOLDS, access, catalog,
    provider::{self, Provider},
    wire::Usage,
};

/// What a model is good at.
#[choice(upper)]
pub enum Category {
    /// Anything.
    General,
    /// Programs.
    Code,
    /// Long thoughts.
    Reasoning,
    /// Quick answers.
    Fast,
    /// Images.
    Vision,
    /// Vectors; no answers.
    Embedding,
}

/// How dear it is.
#[choice(upper)]
pub enum Tier {
    /// Cheap.
    Economy,
    /// In between.
    Standard,
    /// Dear.
    Premium,
}

/// A model of a provider.
#[entity(table = "ai_models", name = "model", sort = "name", global)]
pub struct Model {
    /// Whose.
    #[field(parent = Provider, immutable)]
    pub provider_id: Id,
    /// As the provider calls it.
    #[field(min = 1, max = 150, plain, filter)]
    pub name: String,
    /// For people.
    #[field(min = 1, max = 200, plain)]
    pub display_name: String,
    /// Tokens of question and answer together.
    #[field(min = 16, max = 100_000_000)]
    pub context_window: i64,
    /// Tokens of the longest answer.
    #[field(min = 1, max = 100_000_000)]
    pub max_output_tokens: Option<i64>,
    /// For a million tokens of questions.
    #[field(min = 0)]
    pub input_price_per_1m_micro: Option<i64>,
    /// For a million tokens of answers.
    #[field(min = 0)]
    pub output_price_per_1m_micro: Option<i64>,
    /// Answers piece by piece.
    #[field(default = true)]
    pub supports_streaming: bool,
    /// Calls tools.
    #[field(default = true)]
    pub supports_functions: bool,
    /// Sees images.
    #[field(default = false)]
    pub supports_vision: bool,
    /// Keeps to JSON.
    #[field(default = true)]
    pub supports_json: bool,
    /// What it is good at.
    #[field(default = Category::General)]
    pub category: Category,
    /// How dear it is.
    #[field(default = Tier::Standard)]
    pub tier: Tier,
    /// Whether it is used.
    #[field(default = true)]
    pub is_enabled: bool,
    /// Asked when nobody says which.
    #[field(default = false)]
    pub is_default: bool,
    /// No longer recommended from then on.
    pub deprecated_at: Option<Timestamp>,
    /// Whose it is.
    #[field(immutable, default = Scope::Organization)]
    pub scope: Scope,
}

impl Rules for Model {
    fn check(&self, faults: &mut Faults) {
        provider::check_scope(self.scope, faults);
        if self.max_output_tokens.is_some_and(|tokens| tokens > self.context_window) {
            faults.add("maxOutputTokens", "must not be above contextWindow");
        }
    }

    fn before_create(&mut self, transaction: &Transaction) -> Result<()> {
        access::require_manager(self.scope == Scope::Global)?;
        transaction.hold(HOLDS, "models")?;
        if Select::<Self>::new().count(transaction)? >= catalog::MODELS_MAX {
            return Err(Problem::unprocessable(format!("There are at most {} models.", catalog::MODELS_MAX)));
        }
        if self.scope == Scope::Global {
            let provider = entity::read::<Provider>(transaction, &self.provider_id)?;
            if provider.organization_id.is_some() {
                return Err(Problem::field("providerId", "must be everybody's as well"));
            }
        }
        self.hold_default(self.scope == Scope::Global, transaction)
    }

    fn after_create(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        only_default(row, transaction)
    }

    fn before_update(&mut self, old: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        access::require_manager(old.organization_id.is_none())?;
        self.hold_default(old.organization_id.is_none(), transaction)
    }

    fn after_update(_: &Stored<Self>, new: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        only_default(new, transaction)
    }

    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        access::require_manager(row.organization_id.is_none())?;
        let used = transaction.query_one(
            "SELECT (SELECT COUNT(*) FROM ai_routing_rules WHERE model_id = $1) \
             + (SELECT COUNT(*) FROM ai_fallback_chains WHERE primary_model_id = $1) AS used",
            params![&row.id],
        )?;
        if used.map_or(Ok(0), |row| row.get::<i64>("used"))? > 0 {
            return Err(Problem::conflict("Routing rules or fallback chains name it; change them first."));
        }
        transaction.execute("DELETE FROM ai_model_configurations WHERE model_id = $1", params![&row.id])?;
        transaction.execute("DELETE FROM ai_cache WHERE model_id = $1", params![&row.id])?;
        Ok(())
    }

    fn committed(_: &Stored<Self>) {
        cache::del(catalog::KEY);
    }
}

impl Model {
    /// Of two models that become the default at once the later one finds the other. To be called before anything is written: who
    /// waits here keeps nobody waiting.
    fn hold_default(&self, is_global: bool, transaction: &Transaction) -> Result<()> {
        if self.is_default { transaction.hold_for(HOLDS, "default", is_global) } else { Ok(()) }
    }
}

/// There is one default among an organization's models, and one among everybody's. The others get another version, so that who
/// has read one of them as the default does not write it as one.
fn only_default(row: &Stored<Model>, transaction: &Transaction) -> Result<()> {
    if row.is_default {
        transaction.execute(
            "UPDATE ai_models SET is_default = $3, version = version + 1 \
             WHERE COALESCE(organization_id, '') = $2 AND id <> $1 AND is_default <> $3",
            params![&row.id, row.organization_id.as_deref().unwrap_or_default(), false],
        )?;
    }
    Ok(())
}

/// What so many tokens cost, in whole micro-cents; what is less than one is not counted.
pub fn cost(usage: Usage, input_price: Option<i64>, output_price: Option<i64>) -> i64 {
    let part = |tokens: i64, price: Option<i64>| i128::from(tokens.max(0)) * i128::from(price.unwrap_or(0).max(0));
    let micro = (part(usage.input, input_price) + part(usage.output, output_price)) / 1_000_000;
    i64::try_from(micro).unwrap_or(i64::MAX)
}

/// What an organization, or one of its users, has set for a model.
#[entity(table = "ai_model_configurations", name = "model configuration")]
pub struct ModelConfiguration {
    /// Which.
    #[field(parent = Model, immutable)]
    pub model_id: Id,
    /// For whom; none: the organization.
    #[field(immutable)]
    pub user_id: Option<Id>,
    /// Whether it may be asked.
    #[field(default = true)]
    pub is_enabled: bool,
    /// Asked when nobody says which.
    #[field(default = false)]
    pub is_default: bool,
    /// When the question says none.
    #[field(min = 0, max = 2)]
    pub default_temperature: Option<f64>,
    /// When the question says none.
    #[field(min = 1, max = 100_000_000)]
    pub default_max_tokens: Option<i64>,
}

impl Rules for ModelConfiguration {
    fn committed(row: &Stored<Self>) {
        catalog::forget(row.user_id.as_deref());
    }
}

/// The body of `configure`; what is not named stays as it is.
#[data]
pub struct ConfigureInput {
    /// One's own id, for settings of one's own; none for the organization's.
    pub user_id: Option<Id>,
    /// Whether it may be asked.
    pub is_enabled: Option<bool>,
    /// Asked when nobody says which.
    pub is_default: Option<bool>,
    /// When the question says none; null removes it.
    #[field(min = 0, max = 2)]
    pub default_temperature: Option<f64>,
    /// When the question says none; null removes it.
    #[field(min = 1, max = 100_000_000)]
    pub default_max_tokens: Option<i64>,
}

/// What the body names.
pub struct Settings(Map<String, Value>);

impl FromRequest for Settings {
    fn from_request(request: &mut Request) -> Result<Self> {
        Json::<ConfigureInput>::from_request(request)?;
        let body: Map<String, Value> = berth_sdk::serde_json::from_slice(&request.body).unwrap_or_default();
        let known = ["userId", "isEnabled", "isDefault", "defaultTemperature", "defaultMaxTokens"];
        Ok(Self(body.into_iter().filter(|(name, _)| known.contains(&name.as_str())).collect()))
    }

    fn describe(route: &mut berth_sdk::router::Route) {
        <Json<ConfigureInput> as FromRequest>::describe(route);
    }
}

/// `PUT /api/ai/models/{id}/configure`.
pub fn configure(Params(id): Params<Id>, Settings(mut settings): Settings) -> Result<Stored<ModelConfiguration>> {
    let user_id = settings.remove("userId").and_then(|id| id.as_str().map(ToString::to_string));
    let is_own = user_id.is_some() && user_id == auth::principal().user_id;
    if !is_own {
        access::require_manager(false)?;
    }
    let row = database::transaction(|transaction| {
        // Of two at once the later one finds what the other has set: one row for each model, and one default.
        let owner = user_id.as_deref().unwrap_or_default();
        transaction.hold(HOLDS, &format!("configuration:{owner}"))?;
        let model = entity::read::<Model>(transaction, &id)?;
        let found = Select::<ModelConfiguration>::new()
            .equal("model_id", &model.id)
            .condition("COALESCE(\"user_id\", '') = ?", [user_id.clone().unwrap_or_default()])
            .first(transaction)?;
        let row = match found {
            Some(row) => entity::update::<ModelConfiguration>(transaction, &row.id, &settings, IfMatch(None))?,
            None => {
                settings.retain(|_, value| !value.is_null());
                settings.insert("modelId".into(), model.id.as_str().into());
                settings.insert("userId".into(), user_id.clone().into());
                entity::create_from::<ModelConfiguration>(transaction, settings)?
            }
        };
        if row.is_default {
            transaction.execute(
                "UPDATE ai_model_configurations SET is_default = $4 WHERE organization_id = $2 AND COALESCE(user_id, '') = $3 \
                 AND id <> $1 AND is_default <> $4",
                params![&row.id, auth::organization_id()?, user_id.unwrap_or_default(), false],
            )?;
        }
        Ok::<_, Problem>(row)
    })?;
    ModelConfiguration::committed(&row);
    Ok(row)
}

/// Every model, as it is for the caller.
#[data]
pub struct Models {
    /// At most 1 000.
    pub models: Vec<Map<String, Value>>,
}

/// Which models.
#[data]
pub struct Which {
    category: Option<Category>,
    tier: Option<Tier>,
    provider_id: Option<Id>,
    /// Only those that can be asked, or only those that cannot.
    usable: Option<bool>,
}

/// `GET /api/ai/models`.
pub fn list(Query(which): Query<Which>) -> Result<Json<Models>> {
    let catalog = catalog::load()?;
    let user_id = auth::principal().user_id;
    let default = catalog.default_for(user_id.as_deref()).map(|model| model.id.clone());
    let mut models = Vec::new();
    for model in &catalog.models {
        let why_not = catalog.why_not(model, user_id.as_deref());
        let fits = which.category.is_none_or(|category| category == model.category)
            && which.tier.is_none_or(|tier| tier == model.tier)
            && which.provider_id.as_deref().is_none_or(|id| id == model.provider_id)
            && which.usable.is_none_or(|usable| usable == why_not.is_none());
        if !fits {
            continue;
        }
        let mut shown = json!(model);
        if let Some(members) = shown.as_object_mut() {
            let provider = catalog.provider_of(model);
            members.insert("provider".into(), provider.map(|provider| provider.name.clone()).into());
            members.insert("isUsable".into(), why_not.is_none().into());
            members.insert("reason".into(), why_not.map(|why| why.to_string()).into());
            members.insert("isDefault".into(), (default.as_ref() == Some(&model.id)).into());
        }
        if let Value::Object(members) = shown {
            models.push(members);
        }
    }
    Ok(Json(Models { models }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_price_is_for_a_million_tokens() {
        let usage = Usage { input: 1_000_000, output: 500_000 };
        assert_eq!(cost(usage, Some(300), Some(1_500)), 300 + 750);
        assert_eq!(cost(Usage { input: 1, output: 0 }, Some(999_999), None), 0, "never rounded up");
        assert_eq!(cost(usage, None, None), 0);
    }

    proptest! {
        #[test]
        fn a_cost_is_never_negative_and_never_overflows(input: i64, output: i64, one: Option<i64>, other: Option<i64>) {
            let usage = Usage { input, output };
            prop_assert!(cost(usage, one, other) >= 0);
        }
    }
}
