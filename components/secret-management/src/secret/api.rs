//! Routes of secrets that show or change them, but for those that answer with a value.

use std::time::Duration;

use berth_sdk::{
    database::like,
    prelude::*,
    secrets,
    serde_json::{Map, Value},
};

use super::{RECOVERY, Scope, Secret, SecretType, StorageBackend, tell, value, versions};
use crate::{
    access::{self, Grant},
    audit::{self, Outcome, Subject},
    keys, reauthentication, rights, vault,
};

/// Services named at creation.
const SERVICES_MAX: usize = 50;
/// Projects whose secrets one list has; of others with `projectId`.
const PROJECTS_MAX: usize = 500;
/// How long a generated value is when nothing is said.
const GENERATED_CHARACTERS: u32 = 40;
const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The body of a creation: the secret's fields, and its first value.
#[data]
pub(crate) struct NewSecret {
    /// As the type of the secret wants it.
    #[field(raw)]
    value: Value,
    change_reason: Option<String>,
    /// Services that the host may put it in for; `*` for every one. More can be granted later.
    #[field(default)]
    services: Vec<String>,
}

/// A secret that is about to be made: checked, its rights judged, its value sealed.
pub(crate) struct Prepared {
    id: Id,
    secret: Secret,
    sealed: versions::Sealed,
    services: Vec<String>,
    reason: Option<String>,
}

/// Everything that must happen before the transaction.
pub(crate) fn prepare(mut fields: Map<String, Value>) -> Result<Prepared> {
    let body: NewSecret = read(Value::Object(fields.clone()))?;
    for name in [
        "userId",
        "currentVersion",
        "mask",
        "deletedAt",
        "deletedBy",
        "recoveryDeadline",
        "lastRotatedAt",
        "nextRotationAt",
        "vaultSecretRef",
        "owner",
        "homeOrganizationId",
        "expiryNotice",
    ] {
        fields.remove(name);
    }
    let mut secret: Secret = read(Value::Object(fields))?;
    let mut faults = Faults::default();
    secret.check(&mut faults);
    if body.services.len() > SERVICES_MAX || body.services.iter().any(|name| name != "*" && validate::id(name).is_err())
    {
        faults.add("services", "must be at most 50 names of services");
    }
    faults.finish()?;
    let plain = value::checked(secret.r#type, &body.value)?;
    if secret.scope == Scope::User {
        secret.user_id = Some(auth::user_id()?);
    }
    allow_creation(&secret)?;
    let organization_id = auth::organization_id()?;
    secret.owner = secret.owner_of(&organization_id);
    secret.home_organization_id = (secret.scope == Scope::Global).then_some(organization_id);
    secret.mask = value::mask(secret.r#type, &body.value);
    secret.next_rotation_at = secret.rotation_after(clock::now());
    let id = Id::new();
    let stored = vault::store_new(&id, &mut secret, &plain)?;
    let owner = keys::owner_of_new(secret.scope)?;
    let key = keys::active(&owner)?;
    let kept = stored.as_deref().map_or(plain.as_slice(), |kept| kept);
    let sealed = versions::seal(&id, 1, &owner, secret.r#type.as_str(), &key, kept)?;
    Ok(Prepared { id, secret, sealed, services: body.services, reason: body.change_reason })
}

/// Reads a value into a type; 400 with every fault.
fn read<T: berth_sdk::serde::de::DeserializeOwned + berth_sdk::schemars::JsonSchema + berth_sdk::validate::Tidy>(
    value: Value,
) -> Result<T> {
    let mut request = Request::new("POST", "/").with_json(&value);
    Json::<T>::from_request(&mut request).map(|Json(read)| read)
}

/// Writes what was prepared. 409 `SECRET_ALREADY_EXISTS`.
pub(crate) fn make(transaction: &Transaction, prepared: Prepared) -> Result<Stored<Secret>> {
    let Prepared { id, secret, sealed, services, reason } = prepared;
    refuse_taken(transaction, &secret.owner, &secret.name)?;
    let stored = entity::create_as(transaction, id, secret).map_err(taken)?;
    versions::insert(transaction, &stored.id, stored.organization_id.as_deref(), sealed, reason)?;
    let details = json!({"type": stored.r#type, "scope": stored.scope});
    audit::note(transaction, &Subject::from(&stored), "create", Outcome::Success, details)?;
    tell(transaction, "secret.created", &stored, json!({}))?;
    for service in services {
        access::add(transaction, &stored, Grant::of_service(&service))?;
    }
    Ok(stored)
}

/// Whether the caller may make a secret of this scope.
fn allow_creation(secret: &Secret) -> Result<()> {
    let caller = rights::Caller::present();
    let mut groups = rights::Groups::default();
    match secret.scope {
        Scope::Team => groups.teams = rights::teams()?,
        Scope::Project => {
            if let Some(project_id) = &secret.project_id {
                groups.projects = rights::projects(&[project_id.as_str().into()]);
            }
        }
        _ => {}
    }
    if rights::judge(secret, &caller, &groups, &[], clock::now()).manage {
        return Ok(());
    }
    let organization_id = auth::principal().organization_id;
    let subject =
        Subject { organization_id: organization_id.as_deref(), secret_id: None, secret_name: Some(&secret.name) };
    audit::note_alone(&subject, "create", Outcome::Denied, json!({ "scope": secret.scope }));
    Err(rights::access_denied())
}

fn refuse_taken(transaction: &Transaction, owner: &str, name: &str) -> Result<()> {
    let sql = "SELECT id FROM secret_secrets WHERE owner = $1 AND name = $2 AND deleted_at IS NULL";
    if transaction.query_one(sql, params![owner, name])?.is_some() { Err(already_exists()) } else { Ok(()) }
}

/// Two at the same moment: the database has the last word.
fn taken(problem: Problem) -> Problem {
    if problem.status == 409 && problem.code == "CONFLICT" { already_exists() } else { problem }
}

fn already_exists() -> Problem {
    Problem::conflict("There is a secret of this name in its scope.").with_code("SECRET_ALREADY_EXISTS")
}

/// `POST /api/secrets`.
pub(crate) fn create(Json(fields): Json<Map<String, Value>>) -> Result<Response> {
    let prepared = prepare(fields)?;
    let secret = database::transaction(|transaction| make(transaction, prepared))?;
    let version = secret.version;
    Ok(Response::json(201, &secret)?.with_version(version))
}

/// `GET /api/secrets`: what the caller may see.
pub(crate) fn list(query: PageQuery) -> Result<JsonText<Page<Stored<Secret>>>> {
    selection(&query)?.page(&Pool, &query)
}

/// The secrets that the caller sees, filtered as the query asks.
pub(crate) fn selection(query: &PageQuery) -> Result<Select<Secret>> {
    let mut select = Select::new();
    let caller = rights::Caller::present();
    let user_id = caller.user_id.clone().unwrap_or_default();
    let mut teams: Vec<String> = vec![String::new()];
    let sql = "SELECT id FROM secret_secrets WHERE organization_id = $1 AND scope = 'TEAM' UNION \
        SELECT id FROM secret_access_grants WHERE organization_id = $1 AND grantee_type = 'TEAM' LIMIT 1";
    if database::query_one(sql, params![auth::organization_id()?])?.is_some() {
        teams.extend(rights::teams()?.into_keys());
    }
    let mut projects: Vec<String> = vec![String::new()];
    if !caller.is_super_admin {
        projects.extend(rights::projects(&projects_with_secrets(query)?).into_keys());
    }
    let places = |list: &[String]| vec!["?"; list.len()].join(", ");
    // The condition is that of `rights::judge`, put as SQL.
    let own = if caller.is_super_admin {
        "scope <> 'USER' OR user_id = ?"
    } else {
        "scope IN ('GLOBAL', 'ORGANIZATION') OR (scope = 'USER' AND user_id = ?)"
    };
    let condition = format!(
        "{own} OR (scope = 'TEAM' AND team_id IN ({teams})) OR (scope = 'PROJECT' AND project_id IN ({projects})) OR id IN \
         (SELECT g.secret_id FROM secret_access_grants g WHERE (g.expires_at IS NULL OR g.expires_at > ?) AND \
         ((g.grantee_type = 'USER' AND g.grantee_id = ?) OR (g.grantee_type = 'ROLE' AND g.grantee_id = ?) OR \
         (g.grantee_type = 'TEAM' AND g.grantee_id IN ({teams}))))",
        teams = places(&teams),
        projects = places(&projects),
    );
    let mut values: Vec<database::Value> = vec![user_id.as_str().into()];
    values.extend(teams.iter().map(Into::into));
    values.extend(projects.iter().map(Into::into));
    values.extend([clock::now().into(), user_id.into(), caller.role_id.unwrap_or_default().into()]);
    values.extend(teams.iter().map(Into::into));
    select = select.condition(&condition, values);
    if query.filter("includeDeleted").as_deref() != Some("true") {
        select = select.condition("deleted_at IS NULL", [] as [String; 0]);
    }
    for tag in query.filter("tags").iter().flat_map(|tags| tags.split(',')).map(str::trim).filter(|tag| !tag.is_empty())
    {
        select = select.condition("CAST(tags AS TEXT) LIKE ? ESCAPE '!'", [like::entry(tag)]);
    }
    if let Some(text) = query.filter("search") {
        select = select.meets(like::in_one_of(&["name", "COALESCE(description, '')"], &text));
    }
    Ok(select)
}

/// The projects that a list may be about: the one that the query names, or all that have secrets.
fn projects_with_secrets(query: &PageQuery) -> Result<Vec<String>> {
    if let Some(project_id) = query.filter("projectId") {
        return Ok(vec![project_id]);
    }
    let rows = database::query(
        &format!(
            "SELECT DISTINCT project_id FROM secret_secrets WHERE organization_id = $1 AND scope = 'PROJECT' \
             ORDER BY project_id LIMIT {PROJECTS_MAX}"
        ),
        params![auth::organization_id()?],
    )?;
    Ok(rows.into_iter().map(|row| row.get("project_id")).collect::<Result<_, Fault>>()?)
}

/// `GET /api/secrets/{id}`.
pub(crate) fn read_one(Params(id): Params<Id>) -> Result<Stored<Secret>> {
    let secret = super::live(&Pool, &id)?;
    rights::require(&secret, "metadata", |rights| rights.see)?;
    Ok(secret)
}

/// `PUT /api/secrets/{id}`: everything but the value.
pub(crate) fn update(
    Params(id): Params<Id>,
    if_match: IfMatch,
    Json(patch): Json<Map<String, Value>>,
) -> Result<Stored<Secret>> {
    let before = super::live(&Pool, &id)?;
    rights::require(&before, "update", |rights| rights.update)?;
    database::transaction(|transaction| {
        if let Some(name) = patch.get("name").and_then(Value::as_str).filter(|name| *name != before.name) {
            refuse_taken(transaction, &before.owner, name)?;
        }
        let mut secret = entity::update::<Secret>(transaction, &id, &patch, if_match).map_err(taken)?;
        let next = secret.rotation_after(secret.last_rotated_at.unwrap_or(secret.created_at));
        let has_new_end = secret.expires_at != before.expires_at;
        if next != secret.next_rotation_at || (has_new_end && secret.expiry_notice.is_some()) {
            secret.next_rotation_at = next;
            if has_new_end {
                // Warnings begin anew.
                secret.expiry_notice = None;
            }
            entity::save(transaction, &mut secret)?;
        }
        if secret.version != before.version {
            let changed: Vec<&String> = patch.keys().collect();
            audit::note(
                transaction,
                &Subject::from(&secret),
                "update",
                Outcome::Success,
                json!({ "fields": changed }),
            )?;
            tell(transaction, "secret.updated", &secret, json!({}))?;
        }
        Ok(secret)
    })
}

/// `DELETE /api/secrets/{id}`: for thirty days it can be restored.
pub(crate) fn remove(Params(id): Params<Id>, if_match: IfMatch) -> Result<NoContent> {
    let secret = super::live(&Pool, &id)?;
    rights::require(&secret, "delete", |rights| rights.delete)?;
    database::transaction(|transaction| {
        let mut secret = super::live(transaction, &id)?;
        if_match.check(secret.version)?;
        let now = clock::now();
        secret.deleted_at = Some(now);
        secret.deleted_by = auth::principal().user_id;
        secret.recovery_deadline = Some(now.plus(RECOVERY));
        entity::save(transaction, &mut secret)?;
        audit::note(transaction, &Subject::from(&secret), "delete", Outcome::Success, json!({}))?;
        tell(transaction, "secret.deleted", &secret, json!({}))?;
        Ok(NoContent)
    })
}

/// `POST /api/secrets/{id}/restore`.
pub(crate) fn restore(Params(id): Params<Id>) -> Result<Stored<Secret>> {
    let secret = super::any(&Pool, &id)?;
    rights::require(&secret, "restore", |rights| rights.delete)?;
    database::transaction(|transaction| {
        let mut secret = super::any(transaction, &id)?;
        if secret.deleted_at.is_none() {
            return Err(Problem::conflict("It is not deleted."));
        }
        if secret.recovery_deadline.is_none_or(|end| end <= clock::now()) {
            return Err(
                Problem::gone("The time in which it could be restored is over.").with_code("RECOVERY_PERIOD_EXPIRED")
            );
        }
        refuse_taken(transaction, &secret.owner, &secret.name)?;
        secret.deleted_at = None;
        secret.deleted_by = None;
        secret.recovery_deadline = None;
        entity::save(transaction, &mut secret).map_err(taken)?;
        audit::note(transaction, &Subject::from(&secret), "restore", Outcome::Success, json!({}))?;
        tell(transaction, "secret.restored", &secret, json!({}))?;
        Ok(secret)
    })
}

/// `DELETE /api/secrets/{id}/permanent`.
pub(crate) fn destroy(Params(id): Params<Id>) -> Result<NoContent> {
    let secret = super::any(&Pool, &id)?;
    rights::require(&secret, "destroy", |rights| rights.delete)?;
    reauthentication::require()?;
    vault::destroy(&secret);
    database::transaction(|transaction| {
        audit::note(transaction, &Subject::from(&secret), "destroy", Outcome::Success, json!({}))?;
        erase(transaction, &secret)?;
        tell(transaction, "secret.deleted", &secret, json!({ "permanent": true }))?;
        Ok(NoContent)
    })
}

/// Removes a secret and everything of it but its audit.
pub(crate) fn erase(transaction: &Transaction, secret: &Stored<Secret>) -> Result<()> {
    for table in ["secret_versions", "secret_access_grants", "secret_usage"] {
        transaction.execute(&format!("DELETE FROM {table} WHERE secret_id = $1"), params![&secret.id])?;
    }
    transaction.execute("DELETE FROM secret_secrets WHERE id = $1", params![&secret.id])?;
    Ok(())
}

/// `GET /api/secrets/{id}/versions`.
pub(crate) fn list_versions(Params(id): Params<Id>, query: PageQuery) -> Result<Json<Page<versions::Version>>> {
    let secret = read_one(Params(id))?;
    versions::list(&secret.id, &query).map(Json)
}

/// `GET /api/secrets/{id}/versions/{v}`.
pub(crate) fn read_version(Params((id, version)): Params<(Id, Id)>) -> Result<Json<versions::Version>> {
    let secret = read_one(Params(id))?;
    let number = version.parse().map_err(|_| Problem::missing("version"))?;
    versions::read(&secret.id, number).map(Json)
}

/// The body of `PUT /api/secrets/{id}/value`.
#[data]
pub(crate) struct NewValue {
    #[field(raw)]
    value: Value,
    change_reason: Option<String>,
    /// The version that it shall replace; 409 when there is a newer one.
    expected_version: Option<i64>,
}

/// `PUT /api/secrets/{id}/value`.
pub(crate) fn change_value(Params(id): Params<Id>, Json(body): Json<NewValue>) -> Result<Stored<Secret>> {
    let secret = super::live(&Pool, &id)?;
    rights::require(&secret, "update", |rights| rights.update)?;
    if body.expected_version.is_some_and(|expected| expected != secret.current_version) {
        return Err(changed_meanwhile(secret.current_version));
    }
    replace(secret, &body.value, body.change_reason, "value.changed")
}

fn changed_meanwhile(version: i64) -> Problem {
    Problem::conflict(format!("Its value has version {version} by now.")).with("currentVersion", version)
}

/// Makes a value the newest version of a secret.
fn replace(secret: Stored<Secret>, value: &Value, reason: Option<String>, action: &str) -> Result<Stored<Secret>> {
    let plain = value::checked(secret.r#type, value)?;
    let sealed = versions::seal_next(&secret, &plain)?;
    let mask = value::mask(secret.r#type, value);
    database::transaction(|transaction| {
        let mut now = super::live(transaction, &secret.id)?;
        if now.current_version != secret.current_version {
            return Err(changed_meanwhile(now.current_version));
        }
        versions::insert(transaction, &secret.id, secret.organization_id.as_deref(), sealed, reason)?;
        let moment = clock::now();
        now.current_version += 1;
        now.mask = mask;
        now.last_rotated_at = Some(moment);
        now.next_rotation_at = now.rotation_after(moment);
        entity::save(transaction, &mut now)?;
        let details = json!({ "version": now.current_version });
        audit::note(transaction, &Subject::from(&now), action, Outcome::Success, details)?;
        tell(transaction, "secret.rotated", &now, json!({}))?;
        Ok(now)
    })
}

/// The body of a rollback.
#[data]
pub(crate) struct Rollback {
    #[field(min = 1)]
    version: i64,
}

/// `POST /api/secrets/{id}/rollback`: the old content as a new version.
pub(crate) fn roll_back(Params(id): Params<Id>, Json(Rollback { version }): Json<Rollback>) -> Result<Stored<Secret>> {
    let secret = super::live(&Pool, &id)?;
    rights::require(&secret, "rollback", |rights| rights.update)?;
    let value = versions::open(&secret, version)?;
    replace(secret, &value, Some(format!("Rolled back to version {version}")), "rollback")
}

/// The body of a rotation: a new value, or none to have one made.
#[data]
pub(crate) struct Rotation {
    #[field(raw)]
    value: Option<Value>,
    /// Of a value that is made, 16 to 256 characters.
    #[field(min = 16, max = 256)]
    length: Option<u32>,
    change_reason: Option<String>,
}

/// `POST /api/secrets/{id}/rotate`.
pub(crate) fn rotate(Params(id): Params<Id>, body: Option<Json<Rotation>>) -> Result<Stored<Secret>> {
    let Json(body) = body.unwrap_or(Json(Rotation { value: None, length: None, change_reason: None }));
    let secret = super::live(&Pool, &id)?;
    rights::require(&secret, "rotate", |rights| rights.update)?;
    let value = match body.value.filter(|value| !value.is_null()) {
        Some(value) => value,
        None => generated(&secret, body.length.unwrap_or(GENERATED_CHARACTERS))?,
    };
    replace(secret, &value, body.change_reason, "rotate")
}

/// A new value of a type that may be any text.
fn generated(secret: &Stored<Secret>, length: u32) -> Result<Value> {
    let text = || -> Result<String> {
        let bytes = secrets::random(length)?;
        // 64 letters: each byte gives one without a bias.
        Ok(bytes
            .iter()
            .filter_map(|byte| ALPHABET.get(usize::from(byte % 64)))
            .map(|letter| char::from(*letter))
            .collect())
    };
    match secret.r#type {
        SecretType::ApiKey | SecretType::Generic => Ok(text()?.into()),
        SecretType::UsernamePassword => {
            let mut value = versions::open(secret, secret.current_version)?;
            if let Some(members) = value.as_object_mut() {
                members.insert("password".into(), text()?.into());
            }
            Ok(value)
        }
        kind => {
            Err(Problem::field("value", format!("is needed: no {kind} can be made here"))
                .with_code("INVALID_SECRET_VALUE"))
        }
    }
}

/// Moves a secret to another backend, as a new version there. Not inside a transaction.
pub(crate) fn relocate(id: &str, backend: StorageBackend, vault_id: Option<&Id>) -> Result<Stored<Secret>> {
    let secret = super::live(&Pool, id)?;
    rights::require(&secret, "migrate", |rights| rights.manage)?;
    if secret.storage_backend == backend && secret.vault_id.as_ref() == vault_id {
        return Ok(secret);
    }
    let value = versions::open(&secret, secret.current_version)?;
    let plain = versions::text(&value);
    let mut moved = secret.clone();
    (moved.storage_backend, moved.vault_id, moved.vault_secret_ref) = (backend, vault_id.cloned(), None);
    let stored = vault::store_new(&secret.id, &mut moved.data, &plain)?;
    let key = keys::active(keys::owner(&secret))?;
    let kept = stored.as_deref().map_or(plain.as_slice(), |kept| kept);
    let version = secret.current_version + 1;
    let sealed = versions::seal(&secret.id, version, keys::owner(&secret), secret.r#type.as_str(), &key, kept)?;
    database::transaction(|transaction| {
        let mut now = super::live(transaction, &secret.id)?;
        if now.current_version != secret.current_version {
            return Err(changed_meanwhile(now.current_version));
        }
        // Older versions lie elsewhere, where nobody will look for them any more.
        transaction.execute(
            "UPDATE secret_versions SET destroyed_at = $2, ciphertext = $3, updated_at = $2 WHERE secret_id = $1",
            params![&secret.id, clock::now(), Vec::<u8>::new()],
        )?;
        versions::insert(transaction, &secret.id, secret.organization_id.as_deref(), sealed, Some("Moved".into()))?;
        now.current_version = version;
        now.storage_backend = moved.storage_backend;
        now.vault_id = moved.vault_id.clone();
        now.vault_secret_ref = moved.vault_secret_ref.clone();
        entity::save(transaction, &mut now)?;
        audit::note(transaction, &Subject::from(&now), "migrate", Outcome::Success, json!({ "backend": backend }))?;
        tell(transaction, "secret.updated", &now, json!({}))?;
        Ok(now)
    })
}

/// How long the answer of a health check may take.
pub(crate) const VAULT_TIMEOUT: Duration = Duration::from_secs(10);
