//! Everything there is to ask, as the caller's organization sees it: providers with their settings, models with theirs.
//! Kept in the cache for five minutes and forgotten with every change.

use std::time::Duration;

use berth_sdk::{
    cache,
    prelude::*,
    serde::{Deserialize, Serialize},
    types::Health,
};

use crate::{
    model::{Category, Model, ModelConfiguration, Tier},
    provider::{Provider, ProviderConfiguration, ProviderType},
};

/// Where it is kept, without what users have set for themselves: that is kept for each of them apart.
pub const KEY: &str = "catalog";
/// For how long.
const TTL: Duration = Duration::from_secs(300);
/// Providers of an organization, with everybody's.
pub const PROVIDERS_MAX: i64 = 100;
/// Models of an organization, with everybody's.
pub const MODELS_MAX: i64 = 1_000;

/// A provider as the organization uses it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(crate = "berth_sdk::serde", rename_all = "camelCase")]
pub struct KnownProvider {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// How to speak to it.
    pub kind: ProviderType,
    /// Where it is.
    pub base_url: Option<String>,
    /// Of its interface.
    pub api_version: Option<String>,
    /// The secret with its key.
    pub secret_id: Option<String>,
    /// The organization's settings, where it has some.
    pub configuration_id: Option<String>,
    /// What these say.
    pub is_configured_enabled: bool,
    /// Of two it is the one.
    pub is_default: bool,
    /// The smallest first.
    pub priority: i64,
    /// How it did lately.
    pub health: Health,
    /// It is the organization's own, and not everybody's.
    #[serde(default)]
    pub is_own: bool,
    /// Its settings are everybody's.
    #[serde(default)]
    pub is_shared: bool,
    /// Why it cannot be asked.
    pub why_not: Option<String>,
}

/// A model as the organization sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(crate = "berth_sdk::serde", rename_all = "camelCase")]
pub struct KnownModel {
    /// Its id.
    pub id: String,
    /// None: everybody's.
    pub organization_id: Option<String>,
    /// Whose it is.
    pub provider_id: String,
    /// As the provider calls it.
    pub name: String,
    /// For people.
    pub display_name: String,
    /// Tokens of question and answer.
    pub context_window: i64,
    /// Tokens of the longest answer.
    pub max_output_tokens: Option<i64>,
    /// Micro-cents for a million tokens.
    pub input_price_per_1m_micro: Option<i64>,
    /// Micro-cents for a million tokens.
    pub output_price_per_1m_micro: Option<i64>,
    /// Answers piece by piece.
    pub supports_streaming: bool,
    /// Calls tools.
    pub supports_functions: bool,
    /// Sees images.
    pub supports_vision: bool,
    /// Keeps to JSON.
    pub supports_json: bool,
    /// What it is good at.
    pub category: Category,
    /// How dear it is.
    pub tier: Tier,
    /// Whether its row says that it is used.
    pub is_enabled: bool,
    /// Whether its row says that it is the default.
    pub is_default: bool,
    /// No longer recommended.
    pub deprecated_at: Option<Timestamp>,
    /// When it was registered.
    pub created_at: Timestamp,
    /// Its row's version.
    pub version: i64,
}

/// What somebody has set for a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(crate = "berth_sdk::serde", rename_all = "camelCase")]
pub struct Setting {
    model_id: String,
    user_id: Option<String>,
    is_enabled: bool,
    is_default: bool,
    temperature: Option<f64>,
    max_tokens: Option<i64>,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(crate = "berth_sdk::serde", rename_all = "camelCase")]
pub struct Catalog {
    /// Providers.
    pub providers: Vec<KnownProvider>,
    /// Models.
    pub models: Vec<KnownModel>,
    /// Settings of models.
    pub settings: Vec<Setting>,
}

/// Why a model cannot be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WhyNot {
    /// It is switched off, for all or for the organization or for the user.
    Disabled,
    /// It makes vectors.
    NoAnswers,
    /// Its provider cannot be asked.
    Provider(String),
}

impl std::fmt::Display for WhyNot {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Disabled => formatter.write_str("The model is disabled."),
            Self::NoAnswers => formatter.write_str("The model makes vectors, not answers."),
            Self::Provider(why) => formatter.write_str(why),
        }
    }
}

/// The catalog of the caller's organization, with what the caller has set.
pub fn load() -> Result<Catalog> {
    let mut catalog: Catalog = cache::remember(KEY, TTL, read)?;
    if let Some(user_id) = auth::principal().user_id {
        let own: Vec<Setting> = cache::remember(&own_key(&user_id), TTL, || settings(Some(&user_id)))?;
        catalog.settings.extend(own);
    }
    Ok(catalog)
}

fn own_key(user_id: &str) -> String {
    format!("catalog:{user_id}")
}

/// Forgets what this user has set; with none, the catalog of the organization.
pub fn forget(user_id: Option<&str>) {
    match user_id {
        Some(user_id) => cache::del(&own_key(user_id)),
        None => cache::del(KEY),
    }
}

/// What the organization, or one of its users, has set: at most once for each model, so that however many users set something,
/// what the organization says is never left out.
fn settings(user_id: Option<&str>) -> Result<Vec<Setting>> {
    let select = Select::<ModelConfiguration>::new().limit(MODELS_MAX * 2);
    let select = match user_id {
        Some(user_id) => select.equal("user_id", user_id),
        None => select.condition("\"user_id\" IS NULL", [] as [database::Value; 0]),
    };
    let setting = |row: Stored<ModelConfiguration>| Setting {
        model_id: row.model_id.to_string(),
        user_id: row.user_id.as_ref().map(ToString::to_string),
        is_enabled: row.is_enabled,
        is_default: row.is_default,
        temperature: row.default_temperature,
        max_tokens: row.default_max_tokens,
    };
    Ok(select.all(&Pool)?.into_iter().map(setting).collect())
}

/// The organization's as it is this moment: the clock, which looks at providers, has no organization whose cache it could empty.
pub fn read() -> Result<Catalog> {
    let providers = Select::<Provider>::new().limit(PROVIDERS_MAX * 2).all(&Pool)?;
    let configurations = Select::<ProviderConfiguration>::new().limit(PROVIDERS_MAX * 4).all(&Pool)?;
    let models = Select::<Model>::new().limit(MODELS_MAX * 2).all(&Pool)?;
    Ok(Catalog {
        providers: providers.iter().map(|provider| known_provider(provider, &configurations)).collect(),
        models: models.into_iter().map(known_model).collect(),
        settings: settings(None)?,
    })
}

fn known_provider(provider: &Stored<Provider>, configurations: &[Stored<ProviderConfiguration>]) -> KnownProvider {
    let of = |is_global: bool| {
        configurations.iter().find(|row| *row.provider_id == *provider.id && row.organization_id.is_none() == is_global)
    };
    let configuration = of(false).or_else(|| of(true));
    let custom = configuration.and_then(|row| row.custom_base_url.clone());
    let own_key = configuration.and_then(|row| row.api_key_secret_id.as_ref().map(ToString::to_string));
    // The platform's key goes to the provider's own address and nowhere else: not where an organization points.
    let may_use_hosts = custom.is_none() && provider.organization_id.is_none();
    let hosts_key = || config::get::<String>(&format!("secret_{}", provider.r#type.as_str().to_lowercase()));
    let secret_id = own_key.or_else(|| if may_use_hosts { hosts_key() } else { None });
    let base_url = custom.or_else(|| provider.base_url.clone());
    let is_configured_enabled = configuration.is_none_or(|row| row.is_enabled);
    let name = &provider.name;
    let why_not = if !provider.is_enabled || !is_configured_enabled {
        Some(format!("The provider {name} is disabled."))
    } else if provider.r#type == ProviderType::Echo {
        None
    } else if base_url.is_none() {
        Some(format!("The provider {name} has no address: configure a base URL."))
    } else if secret_id.is_none() && !provider.r#type.is_free() {
        Some(format!("The provider {name} has no key: configure a secret."))
    } else {
        None
    };
    KnownProvider {
        id: provider.id.to_string(),
        name: name.clone(),
        kind: provider.r#type,
        base_url,
        api_version: provider.api_version.clone(),
        secret_id,
        configuration_id: configuration.map(|row| row.id.to_string()),
        is_configured_enabled,
        is_default: provider.is_default,
        priority: configuration.map_or(100, |row| row.priority),
        health: configuration.map_or(provider.health, |row| row.health),
        is_own: provider.organization_id.is_some(),
        is_shared: configuration.is_some_and(|row| row.organization_id.is_none()),
        why_not,
    }
}

fn known_model(row: Stored<Model>) -> KnownModel {
    KnownModel {
        id: row.id.to_string(),
        organization_id: row.organization_id.as_ref().map(ToString::to_string),
        created_at: row.created_at,
        version: row.version,
        provider_id: row.data.provider_id.into_string(),
        name: row.data.name,
        display_name: row.data.display_name,
        context_window: row.data.context_window,
        max_output_tokens: row.data.max_output_tokens,
        input_price_per_1m_micro: row.data.input_price_per_1m_micro,
        output_price_per_1m_micro: row.data.output_price_per_1m_micro,
        supports_streaming: row.data.supports_streaming,
        supports_functions: row.data.supports_functions,
        supports_vision: row.data.supports_vision,
        supports_json: row.data.supports_json,
        category: row.data.category,
        tier: row.data.tier,
        is_enabled: row.data.is_enabled,
        is_default: row.data.is_default,
        deprecated_at: row.data.deprecated_at,
    }
}

impl Catalog {
    /// The provider of a model.
    pub fn provider_of(&self, model: &KnownModel) -> Option<&KnownProvider> {
        self.providers.iter().find(|provider| provider.id == model.provider_id)
    }

    /// The model of an id.
    pub fn model(&self, id: &str) -> Option<&KnownModel> {
        self.models.iter().find(|model| model.id == id)
    }

    fn setting(&self, model: &KnownModel, user_id: Option<&str>) -> Option<&Setting> {
        self.settings.iter().find(|setting| setting.model_id == model.id && setting.user_id.as_deref() == user_id)
    }

    /// Why a model cannot be asked by a user; none when it can.
    pub fn why_not(&self, model: &KnownModel, user_id: Option<&str>) -> Option<WhyNot> {
        let is_off = |setting: Option<&Setting>| setting.is_some_and(|setting| !setting.is_enabled);
        let is_off_for_user = user_id.is_some() && is_off(self.setting(model, user_id));
        if !model.is_enabled || is_off(self.setting(model, None)) || is_off_for_user {
            return Some(WhyNot::Disabled);
        }
        if model.category == Category::Embedding {
            return Some(WhyNot::NoAnswers);
        }
        match self.provider_of(model) {
            Some(provider) => provider.why_not.clone().map(WhyNot::Provider),
            None => Some(WhyNot::Provider("The model's provider is not there.".into())),
        }
    }

    /// The model that somebody means: by id, by name, or by `provider/name`; of several that which can be asked, the
    /// organization's own, that of the preferred provider.
    pub fn find(&self, wanted: &str, user_id: Option<&str>) -> Option<&KnownModel> {
        if let Some(model) = self.model(wanted) {
            return Some(model);
        }
        let means = |model: &&KnownModel| {
            model.name == wanted
                || self.provider_of(model).is_some_and(|provider| {
                    let rest =
                        [&provider.name, &provider.id].into_iter().find_map(|name| wanted.strip_prefix(name.as_str()));
                    rest.and_then(|rest| rest.strip_prefix('/')) == Some(model.name.as_str())
                })
        };
        self.models.iter().filter(means).min_by_key(|model| self.rank(model, user_id))
    }

    fn rank(&self, model: &KnownModel, user_id: Option<&str>) -> (bool, bool, i64, bool, bool) {
        let provider = self.provider_of(model);
        (
            self.why_not(model, user_id).is_some(),
            provider.is_some_and(|provider| provider.health == Health::Unhealthy),
            provider.map_or(i64::MAX, |provider| provider.priority),
            model.organization_id.is_none(),
            !provider.is_some_and(|provider| provider.is_default),
        )
    }

    /// The models in the order in which they stand in when nobody says which: the user's default, the organization's,
    /// everybody's, then any.
    pub fn defaults(&self, user_id: Option<&str>) -> Vec<&KnownModel> {
        let is_default = |model: &KnownModel, user: Option<&str>| {
            self.setting(model, user).is_some_and(|setting| setting.is_default)
        };
        let place = |model: &KnownModel| -> u8 {
            if user_id.is_some() && is_default(model, user_id) {
                0
            } else if is_default(model, None) {
                1
            } else if model.is_default && model.organization_id.is_some() {
                2
            } else if model.is_default {
                3
            } else {
                4
            }
        };
        let mut models: Vec<&KnownModel> =
            self.models.iter().filter(|model| self.why_not(model, user_id).is_none()).collect();
        models.sort_by_key(|model| (place(model), self.rank(model, user_id)));
        models
    }

    /// The model that is asked when nobody says which.
    pub fn default_for(&self, user_id: Option<&str>) -> Option<&KnownModel> {
        self.defaults(user_id).into_iter().next()
    }

    /// The temperature of a question that says none.
    pub fn temperature(&self, model: &KnownModel, user_id: Option<&str>) -> Option<f64> {
        let of = |user: Option<&str>| self.setting(model, user).and_then(|setting| setting.temperature);
        user_id.and_then(|id| of(Some(id))).or_else(|| of(None))
    }

    /// The length of an answer to a question that says none.
    pub fn max_tokens(&self, model: &KnownModel, user_id: Option<&str>) -> Option<i64> {
        let of = |user: Option<&str>| self.setting(model, user).and_then(|setting| setting.max_tokens);
        user_id.and_then(|id| of(Some(id))).or_else(|| of(None))
    }
}

/// A catalog for tests: models `name` of providers `p<number>`.
#[cfg(test)]
pub mod sample {
    use super::*;

    /// A model of everybody's that can do everything.
    pub fn model(id: &str, provider_id: &str, name: &str) -> KnownModel {
        KnownModel {
            id: id.into(),
            organization_id: None,
            provider_id: provider_id.into(),
            name: name.into(),
            display_name: name.into(),
            context_window: 8_000,
            max_output_tokens: None,
            input_price_per_1m_micro: None,
            output_price_per_1m_micro: None,
            supports_streaming: true,
            supports_functions: true,
            supports_vision: false,
            supports_json: true,
            category: Category::General,
            tier: Tier::Standard,
            is_enabled: true,
            is_default: false,
            deprecated_at: None,
            created_at: Timestamp::from_millis(0),
            version: 1,
        }
    }

    /// A provider that can be asked.
    pub fn provider(id: &str, kind: ProviderType) -> KnownProvider {
        KnownProvider {
            id: id.into(),
            name: id.into(),
            kind,
            base_url: Some("https://api.example.com/v1".into()),
            api_version: None,
            secret_id: Some("s1".into()),
            configuration_id: Some("c1".into()),
            is_configured_enabled: true,
            is_default: false,
            priority: 100,
            health: Health::Healthy,
            is_own: false,
            is_shared: false,
            why_not: None,
        }
    }

    /// A setting.
    pub fn setting(model_id: &str, user_id: Option<&str>, is_enabled: bool, is_default: bool) -> Setting {
        Setting {
            model_id: model_id.into(),
            user_id: user_id.map(Into::into),
            is_enabled,
            is_default,
            temperature: None,
            max_tokens: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog() -> Catalog {
        let mut own = sample::model("m3", "p2", "large");
        own.organization_id = Some("o1".into());
        let mut default = sample::model("m1", "p1", "small");
        default.is_default = true;
        Catalog {
            providers: vec![sample::provider("p1", ProviderType::Openai), sample::provider("p2", ProviderType::Custom)],
            models: vec![default, sample::model("m2", "p1", "large"), own],
            settings: Vec::new(),
        }
    }

    #[test]
    fn a_model_is_found_by_id_name_or_provider_and_name() {
        let mut catalog = catalog();
        let found = |catalog: &Catalog, wanted: &str| catalog.find(wanted, None).map(|model| model.id.clone());
        assert_eq!(found(&catalog, "m2").as_deref(), Some("m2"));
        assert_eq!(found(&catalog, "large").as_deref(), Some("m3"), "the organization's own first");
        assert_eq!(found(&catalog, "p1/large").as_deref(), Some("m2"));
        assert_eq!(found(&catalog, "p1large"), None);
        assert_eq!(found(&catalog, "nothing"), None);
        catalog.providers[0].priority = 1;
        assert_eq!(found(&catalog, "large").as_deref(), Some("m2"), "the preferred provider first");
        catalog.providers[0].why_not = Some("no key".into());
        assert_eq!(found(&catalog, "large").as_deref(), Some("m3"), "what can be asked first");
    }

    #[test]
    fn what_somebody_sets_is_theirs_and_kept_apart_from_what_the_organization_says() {
        berth_sdk::testing::sign_in("u1", "o1");
        let mut shared = catalog();
        shared.settings.push(sample::setting("m1", None, false, false));
        cache::set_ttl(KEY, &shared, TTL);
        cache::set_ttl(&own_key("u1"), &[sample::setting("m3", Some("u1"), true, true)], TTL);
        let loaded = load().unwrap();
        assert_eq!(loaded.default_for(Some("u1")).unwrap().id, "m3");
        assert_eq!(loaded.why_not(&loaded.models[0], Some("u1")), Some(WhyNot::Disabled), "for everybody");
        forget(Some("u1"));
        assert_eq!(load().unwrap_err().status, 503, "natively there is no database to ask anew");
        forget(None);
        assert_eq!(cache::get::<Catalog>(KEY), None);
    }

    #[test]
    fn a_default_is_the_users_then_the_organizations_then_everybodys() {
        let mut catalog = catalog();
        let default = |catalog: &Catalog| catalog.default_for(Some("u1")).map(|model| model.id.clone());
        assert_eq!(default(&catalog).as_deref(), Some("m1"));
        catalog.settings.push(sample::setting("m2", None, true, true));
        assert_eq!(default(&catalog).as_deref(), Some("m2"));
        catalog.settings.push(sample::setting("m3", Some("u1"), true, true));
        assert_eq!(default(&catalog).as_deref(), Some("m3"));
        catalog.settings.push(sample::setting("m3", None, false, false));
        assert_eq!(default(&catalog).as_deref(), Some("m2"), "switched off for the organization");
        for model in &mut catalog.models {
            model.is_enabled = false;
        }
        assert_eq!(default(&catalog), None);
    }
}
