//! Providers, and how an organization uses them: its own key, address and priority. Keys are named and never seen.

pub mod health;

use berth_sdk::{
    cache,
    prelude::*,
    serde_json::{Map, Value},
    types::{Health, Scope},
};

use crate::{HOLDS, access, catalog, model::Model};

/// In whose form a provider speaks.
#[choice(upper)]
pub enum ProviderType {
    /// `/chat/completions` at OpenAI.
    Openai,
    /// `/v1/messages`.
    Anthropic,
    /// OpenAI's at Azure.
    AzureOpenai,
    /// Google's, in OpenAI's form.
    GoogleGemini,
    /// `/api/chat`.
    Ollama,
    /// Chutes, in OpenAI's form.
    Chutes,
    /// Anything that speaks OpenAI's form.
    Custom,
    /// Built in.
    Echo,
}

impl ProviderType {
    /// Whether it answers without a key.
    pub fn is_free(self) -> bool {
        matches!(self, Self::Ollama | Self::Custom | Self::Echo)
    }
}

/// A provider.
#[entity(table = "ai_providers", name = "provider", sort = "name", global)]
pub struct Provider {
    /// As in `provider/model`.
    #[field(min = 1, max = 100, plain, filter)]
    pub name: String,
    /// How to speak to it.
    #[field(immutable)]
    pub r#type: ProviderType,
    /// Where it is, with what comes before `/chat/completions`.
    #[field(max = 500, format = "url")]
    pub base_url: Option<String>,
    /// Of its interface, where it wants one.
    #[field(max = 50, plain)]
    pub api_version: Option<String>,
    /// Whether it is used.
    #[field(default = true)]
    pub is_enabled: bool,
    /// Of two that offer a model it is the one.
    #[field(default = false)]
    pub is_default: bool,
    /// How it did lately.
    #[field(readonly, default = Health::Unknown)]
    pub health: Health,
    /// Whose it is.
    #[field(immutable, default = Scope::Organization)]
    pub scope: Scope,
}

impl Rules for Provider {
    fn check(&self, faults: &mut Faults) {
        check_scope(self.scope, faults);
        check_address(self.base_url.as_deref(), "baseUrl", faults);
        if self.name.contains('/') {
            faults.add("name", "must not hold a slash");
        }
        if self.r#type == ProviderType::Custom && self.base_url.is_none() {
            faults.add("baseUrl", "is required for this type");
        }
    }

    fn before_create(&mut self, transaction: &Transaction) -> Result<()> {
        access::require_manager(self.scope == Scope::Global)?;
        transaction.hold(HOLDS, "providers")?;
        if Select::<Self>::new().count(transaction)? >= catalog::PROVIDERS_MAX {
            return Err(Problem::unprocessable(format!("There are at most {} providers.", catalog::PROVIDERS_MAX)));
        }
        Ok(())
    }

    fn before_update(&mut self, old: &Stored<Self>, _: &Transaction) -> Result<()> {
        access::require_manager(old.organization_id.is_none())
    }

    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        access::require_manager(row.organization_id.is_none())?;
        if Select::<Model>::new().equal("provider_id", &row.id).count(transaction)? > 0 {
            return Err(Problem::conflict("It has models; remove them first."));
        }
        transaction.execute("DELETE FROM ai_provider_configurations WHERE provider_id = $1", params![&row.id])?;
        Ok(())
    }

    fn committed(_: &Stored<Self>) {
        cache::del(catalog::KEY);
    }
}

/// How an organization uses a provider.
#[entity(table = "ai_provider_configurations", name = "provider configuration", sort = "priority", global)]
pub struct ProviderConfiguration {
    /// Which.
    #[field(parent = Provider, immutable)]
    pub provider_id: Id,
    /// Whose it is.
    #[field(immutable, default = Scope::Organization)]
    pub scope: Scope,
    /// The secret with its key; the host puts it in.
    pub api_key_secret_id: Option<Id>,
    /// Instead of the provider's own address.
    #[field(max = 500, format = "url")]
    pub custom_base_url: Option<String>,
    /// Whether the organization uses it.
    #[field(default = true)]
    pub is_enabled: bool,
    /// Of two that offer a model the smallest is the one.
    #[field(default = 100, min = 0, max = 10_000)]
    pub priority: i64,
    /// How it did lately, with this key.
    #[field(readonly, default = Health::Unknown)]
    pub health: Health,
    /// What was wrong.
    #[field(readonly)]
    pub health_error: Option<String>,
    /// When somebody last looked.
    #[field(readonly)]
    pub checked_at: Option<Timestamp>,
}

impl Rules for ProviderConfiguration {
    fn check(&self, faults: &mut Faults) {
        check_scope(self.scope, faults);
        check_address(self.custom_base_url.as_deref(), "baseUrl", faults);
    }

    fn before_create(&mut self, _: &Transaction) -> Result<()> {
        access::require_manager(self.scope == Scope::Global)
    }

    fn before_update(&mut self, old: &Stored<Self>, _: &Transaction) -> Result<()> {
        let is_other = self.api_key_secret_id != old.api_key_secret_id || self.custom_base_url != old.custom_base_url;
        if is_other {
            (self.health, self.health_error, self.checked_at) = (Health::Unknown, None, None);
        }
        access::require_manager(old.organization_id.is_none())
    }

    fn committed(_: &Stored<Self>) {
        cache::del(catalog::KEY);
    }
}

/// Only everybody's and an organization's are told apart here.
pub fn check_scope(scope: Scope, faults: &mut Faults) {
    if !matches!(scope, Scope::Global | Scope::Organization) {
        faults.add("scope", "must be one of GLOBAL, ORGANIZATION");
    }
}

/// An address must not lead to another plugin: it would be called with the caller's rights.
fn check_address(address: Option<&str>, field: &str, faults: &mut Faults) {
    let Some(address) = address else { return };
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default().to_lowercase();
    let host = authority.rsplit('@').next().unwrap_or_default().split(':').next().unwrap_or_default();
    let host = host.trim_end_matches('.');
    if host == "internal" || host.ends_with(".internal") {
        faults.add(field, "must not be a plugin of this host");
    }
    if authority.contains('@') || rest.contains(['?', '#']) {
        faults.add(field, "must be a plain address, without user, query or fragment");
    }
}

/// The body of `configure`; what is not named stays as it is.
#[data]
pub struct ConfigureInput {
    /// The secret with the key; null removes it.
    pub secret_id: Option<Id>,
    /// The same under its other name.
    pub api_key_secret_id: Option<Id>,
    /// Instead of the provider's own address; null for that one.
    #[field(max = 500)]
    pub base_url: Option<String>,
    /// The same under its other name.
    #[field(max = 500)]
    pub custom_base_url: Option<String>,
    /// Whether the organization uses it.
    pub is_enabled: Option<bool>,
    /// The smallest is the one.
    #[field(min = 0, max = 10_000)]
    pub priority: Option<i64>,
    /// GLOBAL: for every organization that has no configuration of its own.
    pub scope: Option<Scope>,
}

/// What the body names, under the names of the row.
pub struct Settings(Map<String, Value>);

impl FromRequest for Settings {
    fn from_request(request: &mut Request) -> Result<Self> {
        Json::<ConfigureInput>::from_request(request)?;
        let body: Map<String, Value> = berth_sdk::serde_json::from_slice(&request.body).unwrap_or_default();
        let mut settings = Map::new();
        for (name, value) in body {
            let own = match name.as_str() {
                "secretId" | "apiKeySecretId" => "apiKeySecretId",
                "baseUrl" | "customBaseUrl" => "customBaseUrl",
                "isEnabled" | "priority" | "scope" => name.as_str(),
                _ => continue,
            };
            settings.insert(own.to_string(), value);
        }
        Ok(Self(settings))
    }

    fn describe(route: &mut berth_sdk::router::Route) {
        <Json<ConfigureInput> as FromRequest>::describe(route);
    }
}

/// `POST /api/ai/providers/{id}/configure`.
pub fn configure(Params(id): Params<Id>, Settings(mut settings): Settings) -> Result<Stored<ProviderConfiguration>> {
    let row = database::transaction(|transaction| {
        let provider = entity::read::<Provider>(transaction, &id)?;
        let is_global = settings.get("scope").and_then(Value::as_str) == Some("GLOBAL");
        let place = if is_global { "organization_id IS NULL" } else { "organization_id IS NOT NULL" };
        let found = Select::<ProviderConfiguration>::new()
            .equal("provider_id", &provider.id)
            .condition(place, [] as [database::Value; 0])
            .first(transaction)?;
        match found {
            Some(row) => {
                settings.remove("scope");
                entity::update::<ProviderConfiguration>(transaction, &row.id, &settings, IfMatch(None))
            }
            None => {
                settings.retain(|_, value| !value.is_null());
                settings.insert("providerId".into(), provider.id.as_str().into());
                entity::create_from(transaction, settings)
            }
        }
    })?;
    ProviderConfiguration::committed(&row);
    Ok(row)
}

/// `GET /api/ai/providers`.
pub fn list(query: PageQuery) -> Result<Json<Page<Map<String, Value>>>> {
    let catalog = catalog::read()?;
    let mut rows = Select::<Provider>::new().limit(catalog::PROVIDERS_MAX * 2).all(&Pool)?;
    if let Some(kind) = query.filter("type") {
        rows.retain(|row| row.r#type.as_str() == kind);
    }
    let total = i64::try_from(rows.len()).unwrap_or(i64::MAX);
    let skip = usize::try_from(query.offset).unwrap_or(usize::MAX);
    let take = usize::try_from(query.limit).unwrap_or(usize::MAX);
    let items = rows.iter().skip(skip).take(take).map(|row| shown(row, &catalog)).collect();
    Ok(Json(query.envelope(items, total)))
}

/// `GET /api/ai/providers/{id}`.
pub fn read(Params(id): Params<Id>) -> Result<Json<Map<String, Value>>> {
    let row = entity::read::<Provider>(&Pool, &id)?;
    Ok(Json(shown(&row, &catalog::read()?)))
}

/// A provider with what the organization has set for it.
fn shown(row: &Stored<Provider>, catalog: &catalog::Catalog) -> Map<String, Value> {
    let mut shown = row.shown();
    if let Some(known) = catalog.providers.iter().find(|known| known.id == *row.id) {
        shown.insert("health".into(), known.health.as_str().into());
        shown.insert("isUsable".into(), known.why_not.is_none().into());
        shown.insert("reason".into(), known.why_not.clone().into());
        shown.insert("effectiveBaseUrl".into(), known.base_url.clone().into());
        let configuration = json!({
            "id": known.configuration_id, "apiKeySecretId": known.secret_id, "isEnabled": known.is_configured_enabled,
            "priority": known.priority,
        });
        shown
            .insert("configuration".into(), if known.configuration_id.is_some() { configuration } else { Value::Null });
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(fields: Value) -> Vec<String> {
        let provider: Provider = berth_sdk::serde_json::from_value(fields).unwrap();
        let mut faults = Faults::default();
        provider.check(&mut faults);
        faults.errors().iter().map(|error| error.field.clone()).collect()
    }

    #[test]
    fn a_provider_never_leads_to_a_plugin() {
        for url in ["http://planning.internal/", "http://x@Planning.Internal:80/", "https://a.internal./v1"] {
            assert!(
                faults(json!({"name": "p", "type": "CUSTOM", "baseUrl": url})).contains(&"baseUrl".to_string()),
                "{url}"
            );
        }
        assert!(faults(json!({"name": "p", "type": "CUSTOM", "baseUrl": "https://api.example.com/v1"})).is_empty());
        assert_eq!(faults(json!({"name": "a/b", "type": "CUSTOM"})), ["name", "baseUrl"]);
        assert_eq!(faults(json!({"name": "p", "type": "ECHO", "scope": "USER"})), ["scope"]);
    }

    #[test]
    fn what_is_not_named_stays_and_null_clears() {
        let mut request =
            Request::new("POST", "/").with_json(&json!({"secretId": null, "baseUrl": "https://a.example", "other": 1}));
        let Settings(settings) = Settings::from_request(&mut request).unwrap();
        assert_eq!(Value::Object(settings), json!({"apiKeySecretId": null, "customBaseUrl": "https://a.example"}));
        let mut request = Request::new("POST", "/").with_json(&json!({"priority": -1}));
        assert_eq!(Settings::from_request(&mut request).err().unwrap().errors[0].field, "priority");
    }
}
