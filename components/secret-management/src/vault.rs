//! Other places for values: HashiCorp Vault's key-value store, version 2. What lies there is named here by a reference that
//! is sealed like a value. The other backends answer 501.

mod hashicorp;

use berth_sdk::{
    prelude::*,
    secrets,
    serde_json::{Map, Value},
};
use zeroize::Zeroizing;

use crate::{
    audit::{self, Outcome, Subject},
    rights,
    secret::{Scope, Secret, StorageBackend},
};
use hashicorp::{Connection, Kept};

/// How a backend is.
#[choice(upper)]
pub(crate) enum Health {
    Healthy,
    Degraded,
    Unhealthy,
    Unknown,
}

/// A place for values. How it is reached is sealed and never shown.
#[entity(table = "secret_vault_configurations", name = "vault configuration", sort = "name", global)]
pub(crate) struct Vault {
    #[field(min = 1, max = 200, plain)]
    pub name: String,
    #[field(immutable)]
    pub backend: StorageBackend,
    #[field(immutable, default = Scope::Organization)]
    pub scope: Scope,
    #[field(default = true)]
    pub is_active: bool,
    #[field(readonly, default)]
    pub is_default: bool,
    #[field(readonly, default = Health::Unknown)]
    pub health: Health,
    #[field(readonly)]
    pub last_health_check: Option<Timestamp>,
}

impl Rules for Vault {
    fn check(&self, faults: &mut Faults) {
        if !matches!(self.scope, Scope::Global | Scope::Organization) {
            faults.add("scope", "must be GLOBAL or ORGANIZATION");
        }
    }

    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        let sql = "SELECT id FROM secret_secrets WHERE vault_id = $1 LIMIT 1";
        if transaction.query_one(sql, params![&row.id])?.is_some() {
            return Err(Problem::conflict("Secrets lie there; migrate them first."));
        }
        Ok(())
    }
}

/// A body with the fields of a configuration, and how the backend is reached.
#[data]
pub(crate) struct Body {
    config: Option<Connection>,
}

fn allow() -> Result<()> {
    rights::refuse_components()?;
    rights::require_admin()
}

/// `GET /api/vaults`.
pub(crate) fn list(query: PageQuery) -> Result<JsonText<Page<Stored<Vault>>>> {
    rights::require_admin()?;
    Select::new().page(&Pool, &query)
}

/// `GET /api/vaults/{id}`.
pub(crate) fn read(Params(id): Params<Id>) -> Result<Stored<Vault>> {
    rights::require_admin()?;
    entity::read(&Pool, &id)
}

/// `POST /api/vaults`.
pub(crate) fn create(Json(vault): Json<Vault>, Json(body): Json<Body>) -> Result<Response> {
    allow()?;
    require_built(vault.backend)?;
    let config = body.config.ok_or_else(|| Problem::field("config", "is required"))?;
    config.check()?;
    let id = Id::new();
    let sealed = seal(vault.scope, &id, &config)?;
    let stored = database::transaction(|transaction| {
        let mut vault = vault;
        (vault.is_default, vault.health, vault.last_health_check) = (false, Health::Unknown, None);
        let stored = entity::create_as(transaction, id, vault)?;
        keep(transaction, &stored, sealed, "vault.create")?;
        Ok::<_, Problem>(stored)
    })?;
    Ok(Response::json(201, &stored)?.with_version(stored.version))
}

/// `PUT /api/vaults/{id}`.
pub(crate) fn update(
    Params(id): Params<Id>,
    if_match: IfMatch,
    Json(patch): Json<Map<String, Value>>,
    Json(body): Json<Body>,
) -> Result<Stored<Vault>> {
    allow()?;
    let before = entity::read::<Vault>(&Pool, &id)?;
    let sealed = match body.config {
        Some(config) => {
            config.check()?;
            Some(seal(before.scope, &id, &config)?)
        }
        None => None,
    };
    database::transaction(|transaction| {
        let stored = entity::update::<Vault>(transaction, &id, &patch, if_match)?;
        if let Some(sealed) = sealed {
            keep(transaction, &stored, sealed, "vault.update")?;
        }
        Ok(stored)
    })
}

fn keep(transaction: &Transaction, vault: &Stored<Vault>, sealed: Vec<u8>, action: &str) -> Result<()> {
    let sql = "UPDATE secret_vault_configurations SET sealed_config = $2 WHERE id = $1";
    transaction.execute(sql, params![&vault.id, sealed])?;
    note(transaction, vault, action)
}

fn note(transaction: &Transaction, vault: &Stored<Vault>, action: &str) -> Result<()> {
    let subject = Subject { organization_id: vault.organization_id.as_deref(), secret_id: None, secret_name: None };
    audit::note(transaction, &subject, action, Outcome::Success, json!({ "vaultId": vault.id, "name": vault.name }))
}

/// `DELETE /api/vaults/{id}`.
pub(crate) fn remove(Params(id): Params<Id>, if_match: IfMatch) -> Result<NoContent> {
    allow()?;
    database::transaction(|transaction| {
        let vault = entity::read::<Vault>(transaction, &id)?;
        entity::delete::<Vault>(transaction, &id, if_match)?;
        note(transaction, &vault, "vault.delete")?;
        Ok(NoContent)
    })
}

/// `POST /api/vaults/{id}/health`.
pub(crate) fn check_health(Params(id): Params<Id>) -> Result<Stored<Vault>> {
    allow()?;
    let vault = entity::read::<Vault>(&Pool, &id)?;
    let health = hashicorp::health(&connection(&vault)?);
    database::transaction(|transaction| {
        let mut vault = entity::read::<Vault>(transaction, &id)?;
        vault.health = health;
        vault.last_health_check = Some(clock::now());
        entity::save(transaction, &mut vault)?;
        Ok(vault)
    })
}

/// `POST /api/vaults/{id}/default`: none but this one of the organization, or of everybody's, is the default from then on.
pub(crate) fn make_default(Params(id): Params<Id>) -> Result<Stored<Vault>> {
    allow()?;
    database::transaction(|transaction| {
        let owner = entity::read::<Vault>(transaction, &id)?.organization_id;
        if owner.is_none() {
            rights::require_platform()?;
        }
        let owner = owner.map(Id::into_string).unwrap_or_default();
        // Of two at once the later one waits here, and finds what the other has made the default.
        let all = "SELECT id FROM secret_vault_configurations WHERE COALESCE(organization_id, '') = $1 ORDER BY id FOR UPDATE";
        transaction.query(all, params![owner.as_str()])?;
        let mut vault = entity::read::<Vault>(transaction, &id)?;
        // The version grows, so that whoever has read the old default does not write it back as one.
        transaction.execute(
            "UPDATE secret_vault_configurations SET is_default = FALSE, updated_at = $3, version = version + 1 \
             WHERE is_default = TRUE AND id <> $2 AND COALESCE(organization_id, '') = $1",
            params![owner.as_str(), &id, clock::now()],
        )?;
        vault.is_default = true;
        entity::save(transaction, &mut vault)?;
        note(transaction, &vault, "vault.default")?;
        Ok(vault)
    })
}

fn require_built(backend: StorageBackend) -> Result<()> {
    match backend {
        StorageBackend::HashicorpVault => Ok(()),
        StorageBackend::LocalEncrypted => Err(Problem::field("backend", "needs no configuration")),
        other => Err(Problem::not_implemented(format!("The backend {other} is not built."))),
    }
}

fn seal(scope: Scope, id: &Id, config: &Connection) -> Result<Vec<u8>> {
    let text = Zeroizing::new(berth_sdk::serde_json::to_vec(config).map_err(|_| Problem::internal())?);
    let context = format!("vault|{id}");
    Ok(if scope == Scope::Global { secrets::seal_shared(&text, &context) } else { secrets::seal(&text, &context) }?)
}

fn connection(vault: &Stored<Vault>) -> Result<Connection> {
    let sql = "SELECT sealed_config FROM secret_vault_configurations WHERE id = $1";
    let row = database::query_one(sql, params![&vault.id])?.ok_or_else(not_configured)?;
    let sealed: Vec<u8> = row.get::<Option<Vec<u8>>>("sealed_config")?.ok_or_else(not_configured)?;
    let context = format!("vault|{}", vault.id);
    let opened = if vault.scope == Scope::Global {
        secrets::open_shared(&sealed, &context)
    } else {
        secrets::open(&sealed, &context)
    };
    let text = Zeroizing::new(opened.map_err(|fault| match fault {
        Fault::Invalid(_) => Problem::new(
            500,
            "DECRYPTION_FAILED",
            "Decryption failed",
            "The configuration of the vault cannot be opened.",
        ),
        fault => fault.into(),
    })?);
    berth_sdk::serde_json::from_slice(&text).map_err(|_| Problem::internal())
}

fn not_configured() -> Problem {
    Problem::not_found("No such vault is configured.").with_code("VAULT_NOT_CONFIGURED")
}

/// The default configuration for a secret of this scope, of those with whether they are everybody's: the organization's own
/// before everybody's. What is GLOBAL can only lie where everybody reaches it.
fn default_for<T>(scope: Scope, defaults: impl IntoIterator<Item = (bool, T)>) -> Option<T> {
    let fits = |(is_everybodys, _): &(bool, T)| *is_everybodys || scope != Scope::Global;
    defaults.into_iter().filter(fits).min_by_key(|(is_everybodys, _)| *is_everybodys).map(|(_, vault)| vault)
}

/// The configuration that a secret uses: its own, or the default one, which becomes its own.
fn vault_of(secret: &mut Secret) -> Result<Connection> {
    let vault = match &secret.vault_id {
        Some(id) => entity::find::<Vault>(&Pool, id)?,
        None => {
            let defaults = Select::<Vault>::new()
                .condition("is_default = TRUE AND is_active = TRUE AND backend = ?", [StorageBackend::HashicorpVault])
                .all(&Pool)?;
            default_for(secret.scope, defaults.into_iter().map(|vault| (vault.organization_id.is_none(), vault)))
        }
    };
    let vault = vault.filter(|vault| vault.is_active).ok_or_else(not_configured)?;
    secret.vault_id = Some(vault.id.clone());
    connection(&vault)
}

/// Stores the first value of a secret where it shall lie. What it returns is sealed here in the value's place; none: the
/// value itself is.
pub(crate) fn store_new(id: &Id, secret: &mut Secret, value: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>> {
    match secret.storage_backend {
        StorageBackend::LocalEncrypted => {
            secret.vault_id = None;
            Ok(None)
        }
        StorageBackend::HashicorpVault => {
            let connection = vault_of(secret)?;
            let reference = hashicorp::reference(auth::organization_id()?.as_str(), id);
            secret.vault_secret_ref = Some(reference.clone());
            hashicorp::write(&connection, &reference, value).and_then(|kept| sealed_form(&kept)).map(Some)
        }
        other => Err(Problem::not_implemented(format!("The backend {other} is not built."))),
    }
}

/// The same for a further value of a secret.
pub(crate) fn store(secret: &Stored<Secret>, value: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>> {
    if secret.storage_backend == StorageBackend::LocalEncrypted {
        return Ok(None);
    }
    let mut data = secret.data.clone();
    let connection = vault_of(&mut data)?;
    let reference = data.vault_secret_ref.ok_or_else(not_configured)?;
    hashicorp::write(&connection, &reference, value).and_then(|kept| sealed_form(&kept)).map(Some)
}

/// Fetches a value by what was sealed in its place.
pub(crate) fn load(secret: &Stored<Secret>, sealed_form: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
    let kept: Kept = berth_sdk::serde_json::from_slice(sealed_form).map_err(|_| Problem::internal())?;
    let mut data = secret.data.clone();
    let connection = vault_of(&mut data)?;
    hashicorp::read(&connection, &kept)
}

/// Removes a secret from where it lies. What cannot be removed is noted; the secret goes here all the same.
pub(crate) fn destroy(secret: &Stored<Secret>) {
    if secret.storage_backend == StorageBackend::LocalEncrypted {
        return;
    }
    let mut data = secret.data.clone();
    let outcome = vault_of(&mut data).and_then(|connection| match data.vault_secret_ref {
        Some(reference) => hashicorp::destroy(&connection, &reference),
        None => Ok(()),
    });
    if let Err(problem) = outcome {
        logging::warn!("a secret was not removed from its vault", secret = secret.id, problem = problem);
    }
}

fn sealed_form(kept: &Kept) -> Result<Zeroizing<Vec<u8>>> {
    berth_sdk::serde_json::to_vec(kept).map(Zeroizing::new).map_err(|_| Problem::internal())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_organizations_own_default_comes_before_everybodys() {
        let both = || [(true, "everybody's"), (false, "own")];
        assert_eq!(default_for(Scope::Organization, both()), Some("own"));
        assert_eq!(default_for(Scope::User, both().into_iter().rev()), Some("own"));
        assert_eq!(default_for(Scope::Project, [(true, "everybody's")]), Some("everybody's"));
        assert_eq!(default_for(Scope::Global, both()), Some("everybody's"));
        assert_eq!(default_for(Scope::Global, [(false, "own")]), None);
    }
}
