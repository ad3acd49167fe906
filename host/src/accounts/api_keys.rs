//! API keys: how programs call. A key acts for the user who made it, in one organization, within its own scope.
//!
//! A key must never allow more than its maker may do at the moment of use, never manage keys, sessions or the account,
//! and its secret is shown once and stored as a hash only.

use std::sync::Arc;

use chrono::{DateTime, Duration, Utc};
use serde_json::{Value as Json, json};

use super::context::{Change, Context, created, new_id, no_content};
use super::error::{AccountsError, AuthenticationError};
use super::identity::unavailable;
use super::input::{Fields, Text};
use super::list::{Select, page, timestamp};
use super::roles::is_code;
use super::token::{hash_of, random_secret};
use super::{Accounts, Reply, sessions};
use crate::database::{DatabaseError, Row, values};
use crate::principal::PermissionSet;

/// What every key begins with: it tells a key from a token, and lets scanners find lost ones.
const PREFIX: &str = "berth_";
/// The permission to see and end the keys of others.
pub(super) const MANAGE: &str = "organizations.api-key.manage";
/// Keys of one user in one organization that are good at the same time.
const KEYS_MAX: i64 = 50;
/// How long a key is good, in days: where nothing is said, and at most.
const DAYS_DEFAULT: i64 = 90;
const DAYS_MAX: i64 = 366;
/// The most codes of one key.
const CODES_MAX: usize = 100;
/// The longest key that is looked up: ours have 49 characters.
const KEY_CHARACTERS_MAX: usize = 128;
/// Characters of a key that are kept in the clear, to tell keys apart by.
const HINT_CHARACTERS: usize = 12;
/// `last_used_at` is written at most this often.
const USE_NOTED_EVERY: Duration = Duration::seconds(60);
/// Beginning of a code that allows one action in every module.
const ANY_MODULE: &str = "*.*.";

const COLUMNS: &str = "k.id, k.organization_id, k.user_id, k.name, k.hint, k.permissions, k.expires_at, k.last_used_at, \
    k.created_at, k.updated_at, k.version, u.email, u.name AS user_name";
const TABLES: &str = "berth_api_keys k JOIN users u ON u.id = k.user_id AND u.deleted_at IS NULL";

/// A key that exists: what of it never changes.
pub(super) struct KnownKey {
    pub id: String,
    pub user_id: String,
    pub organization_id: String,
    /// Unix seconds.
    pub expires_at: i64,
}

/// A key that is good now.
pub(super) struct LiveKey {
    pub scope: Arc<PermissionSet>,
    pub email: Option<String>,
    pub name: Option<String>,
}

/// Whether a text has the form of a key; not whether there is such a one.
pub(crate) fn is_api_key(text: &str) -> bool {
    text.starts_with(PREFIX)
}

impl Accounts {
    /// Finds the key that this secret is.
    pub(super) async fn find_key(&self, secret: &str) -> Result<KnownKey, AuthenticationError> {
        if secret.len() > KEY_CHARACTERS_MAX {
            return Err(AuthenticationError::Invalid);
        }
        let sql = "SELECT id, user_id, organization_id, expires_at FROM berth_api_keys WHERE secret_hash = $1";
        let row = self.database.query_one(sql, &values![hash_of(secret)]).await.map_err(unavailable)?;
        let row = row.ok_or(AuthenticationError::Invalid)?;
        let known = || {
            Ok(KnownKey {
                id: row.text("id")?,
                user_id: row.text("user_id")?,
                organization_id: row.text("organization_id")?,
                expires_at: row.timestamp("expires_at")?.timestamp(),
            })
        };
        known().map_err(unavailable)
    }

    /// The key as it is now; none when it was ended.
    pub(super) async fn read_live_key(&self, key: &KnownKey) -> Result<Option<LiveKey>, AuthenticationError> {
        let sql = "SELECT k.permissions, k.last_used_at, u.email, u.name FROM berth_api_keys k \
             JOIN users u ON u.id = k.user_id WHERE k.id = $1 AND k.revoked_at IS NULL AND k.expires_at > $2";
        let now = self.now();
        let row = self.database.query_one(sql, &values![&key.id, now]).await.map_err(unavailable)?;
        let Some(row) = row else { return Ok(None) };
        let read = || {
            let codes: Vec<String> = row.json("permissions")?;
            let live = LiveKey {
                scope: Arc::new(scope_of(&codes)),
                email: row.optional_text("email")?,
                name: row.optional_text("name")?,
            };
            Ok((live, row.optional_timestamp("last_used_at")?))
        };
        let (live, last_used_at) = read().map_err(unavailable)?;
        let before = now - USE_NOTED_EVERY;
        if last_used_at.is_none_or(|at| at <= before) {
            let sql = "UPDATE berth_api_keys SET last_used_at = $2 \
                 WHERE id = $1 AND (last_used_at IS NULL OR last_used_at <= $3)";
            self.note_later(sql, values![&key.id, now, before]);
        }
        Ok(Some(live))
    }
}

/// What codes allow; `*.*.read` is the action in every module.
fn scope_of(codes: &[String]) -> PermissionSet {
    let (actions, codes): (Vec<&String>, Vec<&String>) = codes.iter().partition(|code| is_action(code));
    PermissionSet {
        codes: codes.into_iter().cloned().collect(),
        actions: actions.iter().filter_map(|code| code.strip_prefix(ANY_MODULE)).map(str::to_owned).collect(),
    }
}

fn is_action(code: &str) -> bool {
    code.strip_prefix(ANY_MODULE).is_some_and(|action| is_code(&format!("any.thing.{action}")) && action != "*")
}

/// `GET /api/users/me/api-keys`
pub(super) async fn list_own(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let own = live_keys(context, context.organization_id()?).and("k.user_id = ?", context.user_id()?);
    show_page(context, own).await
}

/// `GET /api/organizations/{id}/api-keys`
pub(super) async fn list_all(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let all = live_keys(context, context.id("id")?).and_if("k.user_id = ?", context.query.filter("userId")?);
    show_page(context, all).await
}

fn live_keys(context: &Context<'_>, organization_id: &str) -> Select {
    Select::new(COLUMNS, TABLES)
        .and("k.organization_id = ?", organization_id)
        .and_sql("k.revoked_at IS NULL")
        .and("k.expires_at > ?", context.accounts.now())
}

/// What its list is sorted by: names in JSON with their columns.
pub(super) const SORTS: [(&str, &str); 4] = [
    ("createdAt", "k.created_at"),
    ("name", "k.name"),
    ("expiresAt", "k.expires_at"),
    ("lastUsedAt", "k.last_used_at"),
];

async fn show_page(context: &Context<'_>, select: Select) -> Result<Reply, AccountsError> {
    page(&context.accounts.database, select, &context.query.paging(&SORTS, true)?, to_json).await
}

/// `POST /api/users/me/api-keys`: the only answer that holds the key.
pub(super) async fn create(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let (user_id, organization_id, now) = (context.user_id()?, context.organization_id()?, context.accounts.now());
    let mut fields = context.fields()?;
    let name = fields.required_text("name", Text::NAME);
    let codes = codes(&mut fields);
    let expires_at = expiry(&mut fields, now);
    fields.finish()?;
    for code in codes.iter().filter(|code| !code.contains('*')) {
        if !context.caller.principal.has_permission(code) {
            return Err(AccountsError::Forbidden(format!("a key cannot allow {code}: your own role does not")));
        }
    }

    let (id, secret) = (new_id(), format!("{PREFIX}{}", random_secret()));
    let hint: String = secret.chars().take(HINT_CHARACTERS).collect();
    let mut change = context.begin().await?;
    // Taken first, so that of many at once only as many as allowed are made.
    change.execute("UPDATE users SET updated_at = updated_at WHERE id = $1", &values![user_id]).await?;
    sessions::require_live(&mut change, user_id, context.session_id()?, now).await?;
    let sql = "SELECT COUNT(*) AS keys FROM berth_api_keys \
         WHERE user_id = $1 AND organization_id = $2 AND revoked_at IS NULL AND expires_at > $3";
    let row = change.query_one(sql, &values![user_id, organization_id, now]).await?;
    if row.map_or(Ok(0), |row| row.integer("keys"))? >= KEYS_MAX {
        return Err(AccountsError::Conflict(format!("you have {KEYS_MAX} keys in this organization: end one first")));
    }
    change
        .execute(
            "INSERT INTO berth_api_keys (id, organization_id, user_id, name, hint, secret_hash, permissions, expires_at, \
                 created_by, created_at, updated_at, version) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $3, $9, $9, 1)",
            &values![
                &id,
                organization_id,
                user_id,
                &name,
                hint,
                hash_of(&secret),
                json!(codes),
                expires_at,
                now
            ],
        )
        .await?;
    let changes = json!({ "name": name, "permissions": codes, "expiresAt": super::list::show(expires_at) });
    change.audit(Some(organization_id), "api_key.created", ("api_key", &id), changes).await?;
    let row = find(&mut change, organization_id, &id).await?;
    change.commit().await?;
    let mut key = to_json(&row)?;
    if let Some(members) = key.as_object_mut() {
        members.insert("key".into(), secret.into());
    }
    Ok(created(key))
}

/// `DELETE /api/users/me/api-keys/{id}`
pub(super) async fn revoke_own(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let user_id = Some(context.user_id()?);
    revoke(context, context.organization_id()?, context.id("id")?, user_id).await
}

/// `DELETE /api/organizations/{id}/api-keys/{kid}`
pub(super) async fn revoke_any(context: &Context<'_>) -> Result<Reply, AccountsError> {
    revoke(context, context.id("id")?, context.id("kid")?, None).await
}

/// Ends a key, here at once and on every other host with its next request.
async fn revoke(
    context: &Context<'_>,
    organization_id: &str,
    id: &str,
    only_of: Option<&str>,
) -> Result<Reply, AccountsError> {
    let mut change = context.begin().await?;
    let row = find(&mut change, organization_id, id).await?;
    if only_of.is_some_and(|user_id| row.text("user_id").is_ok_and(|owner| owner != user_id)) {
        return Err(AccountsError::NotFound("API key"));
    }
    context.if_match(row.integer("version")?)?;
    let sql = "UPDATE berth_api_keys SET revoked_at = $2, revoked_by_user_id = $3, updated_at = $2, \
         version = version + 1 WHERE id = $1 AND revoked_at IS NULL";
    let by = context.caller.principal.user_id.as_deref();
    if change.execute(sql, &values![id, context.accounts.now(), by]).await? == 0 {
        return Err(AccountsError::NotFound("API key"));
    }
    let changes = json!({ "name": row.text("name")?, "userId": row.text("user_id")? });
    change.audit(Some(organization_id), "api_key.revoked", ("api_key", id), changes).await?;
    change.revoke(id.to_owned());
    change.commit().await?;
    Ok(no_content())
}

/// Ends a user's keys for good: those of one organization, or of all. `by` is who did what ends them.
pub(super) async fn end(
    change: &mut Change<'_>,
    user_id: &str,
    organization_id: Option<&str>,
    by: Option<&str>,
    now: DateTime<Utc>,
) -> Result<(), AccountsError> {
    let sql = "UPDATE berth_api_keys SET revoked_at = $2, revoked_by_user_id = $3, updated_at = $2, \
         version = version + 1 WHERE user_id = $1 AND (organization_id = $4 OR $4 = '') AND revoked_at IS NULL \
         RETURNING id, organization_id, name";
    let ended = change.query(sql, &values![user_id, now, by, organization_id.unwrap_or_default()]).await?;
    for row in &ended {
        let (id, organization_id) = (row.text("id")?, row.text("organization_id")?);
        let changes = json!({ "name": row.text("name")?, "userId": user_id });
        change.audit_as(by, Some(&organization_id), "api_key.revoked", ("api_key", &id), changes).await?;
        change.revoke(id);
    }
    Ok(())
}

/// A key that was not ended.
async fn find(change: &mut Change<'_>, organization_id: &str, id: &str) -> Result<Row, AccountsError> {
    let sql =
        format!("SELECT {COLUMNS} FROM {TABLES} WHERE k.id = $1 AND k.organization_id = $2 AND k.revoked_at IS NULL");
    change.query_one(&sql, &values![id, organization_id]).await?.ok_or(AccountsError::NotFound("API key"))
}

/// The member `permissions`: codes, wildcards below a module, and actions as `*.*.read`. A wildcard stands for whatever
/// the maker may do below it when the key is used.
fn codes(fields: &mut Fields) -> Vec<String> {
    let sent = fields.array("permissions", CODES_MAX).unwrap_or_default();
    let mut codes = Vec::with_capacity(sent.len());
    for (index, code) in sent.iter().enumerate() {
        match code.as_str() {
            Some(code) if is_code(code) || is_action(code) => codes.push(code.to_owned()),
            _ => fields.fault(
                &format!("permissions[{index}]"),
                "must be module.resource.action, a wildcard of it, or an action as *.*.read",
            ),
        }
    }
    if sent.is_empty() && !fields.has_fault("permissions") {
        fields.fault("permissions", "must name what the key may do; * is everything you may do");
    }
    codes.sort_unstable();
    codes.dedup();
    codes
}

/// The member `expiresAt`, else `expiresInDays`, else the usual time.
fn expiry(fields: &mut Fields, now: DateTime<Utc>) -> DateTime<Utc> {
    let days = fields.nullable_integer("expiresInDays", 1, DAYS_MAX).flatten();
    let latest = now + Duration::days(DAYS_MAX);
    match fields.moment("expiresAt") {
        Some(_) if days.is_some() => fields.fault("expiresAt", "must not be combined with expiresInDays"),
        Some(moment) if moment > now && moment <= latest => return moment,
        Some(_) => fields.fault("expiresAt", format!("must be a moment within the next {DAYS_MAX} days")),
        None => {}
    }
    now + Duration::days(days.unwrap_or(DAYS_DEFAULT))
}

fn to_json(row: &Row) -> Result<Json, DatabaseError> {
    Ok(json!({
        "id": row.text("id")?,
        "organizationId": row.text("organization_id")?,
        "userId": row.text("user_id")?,
        "user": { "id": row.text("user_id")?, "email": row.text("email")?, "name": row.optional_text("user_name")? },
        "name": row.text("name")?,
        "hint": row.text("hint")?,
        "permissions": row.json::<Json>("permissions")?,
        "expiresAt": timestamp(row, "expires_at")?,
        "lastUsedAt": timestamp(row, "last_used_at")?,
        "createdAt": timestamp(row, "created_at")?,
        "updatedAt": timestamp(row, "updated_at")?,
        "version": row.integer("version")?,
    }))
}
