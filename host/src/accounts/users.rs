//! Users: profiles within an organization, the own account, and accounts across organizations for the platform.
//!
//! It must never show a password hash, and never a user to somebody who shares no organization with them.

use serde_json::{Map, Value as Json, json};

use super::context::{Change, Context, Event, entity_reply, no_content, ok};
use super::dispatch::denied;
use super::error::AccountsError;
use super::input::{Text, is_id};
use super::list::{Select, contains, page, timestamp};
use super::organizations::differences;
use super::roles::show_permissions;
use super::{Accounts, Reply, api_keys, memberships, organizations, sessions};
use crate::database::{DatabaseError, Row, values};

/// The largest `preferences` or `competencies`, in bytes.
const DOCUMENT_BYTES_MAX: usize = 32 * 1_024;
/// Memberships that a deactivation looks at.
const MEMBERSHIPS_MAX: usize = 1_000;

pub(super) const COLUMNS: &str = "u.id, u.email, u.name, u.first_name, u.last_name, u.username, u.avatar_url, u.is_active, \
    u.is_email_verified, u.competencies, u.preferences, u.last_login_at, u.created_at, u.updated_at, u.version";

/// What its list is sorted by: names in JSON with their columns.
pub(super) const SORTS: [(&str, &str); 4] =
    [("name", "u.name"), ("email", "u.email"), ("createdAt", "u.created_at"), ("lastLoginAt", "u.last_login_at")];

/// `GET /api/users`
pub(super) async fn list(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let query = &context.query;
    let paging = query.paging(&SORTS, false)?;
    let select = Select::new(
        "u.id, u.email, u.name, u.first_name, u.last_name, u.username, u.avatar_url, u.is_active, u.is_email_verified, \
         u.competencies, u.preferences, u.last_login_at, u.created_at, u.updated_at, u.version, \
         m.role_id, m.status, r.name AS role_name",
        "users u JOIN organization_memberships m ON m.user_id = u.id JOIN roles r ON r.id = m.role_id",
    )
    .and("m.organization_id = ?", context.organization_id()?)
    .and_sql("m.deleted_at IS NULL AND u.deleted_at IS NULL")
    .and_if("(u.email LIKE ? ESCAPE '\\' OR LOWER(u.name) LIKE ? ESCAPE '\\')", query.filter("search")?.map(contains));
    page(&context.accounts.database, select, &paging, member_json).await
}

/// `GET /api/users/{id}`
pub(super) async fn read(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let sql = format!(
        "SELECT {COLUMNS}, m.role_id, m.status, r.name AS role_name \
         FROM users u JOIN organization_memberships m ON m.user_id = u.id JOIN roles r ON r.id = m.role_id \
         WHERE u.id = $1 AND m.organization_id = $2 AND m.deleted_at IS NULL AND u.deleted_at IS NULL"
    );
    let row =
        context.accounts.database.query_one(&sql, &values![context.id("id")?, context.organization_id()?]).await?;
    Ok(entity_reply(member_json(&row.ok_or(AccountsError::NotFound("user"))?)?))
}

/// `PUT /api/users/me`
pub(super) async fn update_me(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let user_id = context.user_id()?;
    let mut fields = context.fields()?;
    let name = fields.has("name").then(|| fields.required_text("name", Text::NAME));
    let first_name = fields.nullable_text("firstName", Text::NAME);
    let last_name = fields.nullable_text("lastName", Text::NAME);
    let username = fields.nullable_text("username", Text { characters_min: 3, characters_max: 32, ..Text::NAME });
    if username.as_ref().and_then(Option::as_deref).is_some_and(|username| !is_id(username)) {
        fields.fault("username", "must have only A-Z, a-z, 0-9, _ and -");
    }
    let avatar_url = organizations::url(&mut fields, "avatarUrl");
    let preferences = fields.has("preferences").then(|| fields.object("preferences", DOCUMENT_BYTES_MAX));
    let competencies = fields.has("competencies").then(|| fields.document("competencies", DOCUMENT_BYTES_MAX));
    fields.finish()?;

    let mut change = context.begin().await?;
    let row = find(&mut change, user_id).await?;
    context.if_match(row.integer("version")?)?;
    if let Some(Some(username)) = &username {
        let sql = "SELECT id FROM users WHERE LOWER(username) = LOWER($1) AND id <> $2";
        if change.query_one(sql, &values![username, user_id]).await?.is_some() {
            return Err(AccountsError::Conflict("the username is taken".into()));
        }
    }
    let updated = change
        .execute(
            "UPDATE users SET name = $2, first_name = $3, last_name = $4, username = $5, avatar_url = $6, preferences = $7, \
                 competencies = $8, updated_at = $9, version = version + 1 WHERE id = $1 AND version = $10",
            &values![
                user_id,
                name.map_or(row.optional_text("name")?, Some),
                first_name.unwrap_or(row.optional_text("first_name")?),
                last_name.unwrap_or(row.optional_text("last_name")?),
                username.unwrap_or(row.optional_text("username")?),
                avatar_url.unwrap_or(row.optional_text("avatar_url")?),
                preferences.unwrap_or(row.optional_json("preferences")?),
                competencies.unwrap_or(row.optional_json("competencies")?),
                context.accounts.now(),
                row.integer("version")?,
            ],
        )
        .await?;
    if updated == 0 {
        return Err(AccountsError::Conflict("the profile was changed at the same time".into()));
    }
    let before = to_json(&row)?;
    let after = to_json(&find(&mut change, user_id).await?)?;
    let names: Vec<String> =
        differences(&before, &after).as_object().map(|o| o.keys().cloned().collect()).unwrap_or_default();
    let organization = context.caller.principal.organization_id.as_deref();
    let data = json!({ "userId": user_id, "changed": names });
    change.audit(organization, "user.profile_updated", ("user", user_id), data.clone()).await?;
    change
        .event(Event {
            kind: "user.profile_updated",
            organization_id: None,
            user_id: Some(user_id),
            key: user_id,
            data,
        })
        .await?;
    change.touch(user_id);
    change.commit().await?;
    Ok(entity_reply(after))
}

/// What its list is sorted by: names in JSON with their columns.
pub(super) const OWN_SORTS: [(&str, &str); 2] = [("joinedAt", "m.joined_at"), ("name", "o.name")];

/// `GET /api/users/me/organizations`
pub(super) async fn organizations_of_me(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let paging = context.query.paging(&OWN_SORTS, false)?;
    let select = Select::new(
        "m.id, m.organization_id, m.role_id, m.status, m.joined_at, m.last_access_at, o.name, o.slug, o.logo_url, \
         r.name AS role_name, r.is_super_admin",
        "organization_memberships m JOIN organizations o ON o.id = m.organization_id JOIN roles r ON r.id = m.role_id",
    )
    .and("m.user_id = ?", context.user_id()?)
    .and_sql("m.deleted_at IS NULL AND o.deleted_at IS NULL");
    let current = context.caller.principal.organization_id.clone();
    page(&context.accounts.database, select, &paging, |row| {
        let organization_id = row.text("organization_id")?;
        Ok(json!({
            "id": row.text("id")?,
            "isCurrent": current.as_deref() == Some(organization_id.as_str()),
            "organizationId": organization_id,
            "organization": {
                "id": row.text("organization_id")?,
                "name": row.text("name")?,
                "slug": row.text("slug")?,
                "logoUrl": row.optional_text("logo_url")?,
            },
            "roleId": row.text("role_id")?,
            "roleName": row.text("role_name")?,
            "isSuperAdmin": row.boolean("is_super_admin")?,
            "status": row.text("status")?,
            "joinedAt": timestamp(row, "joined_at")?,
            "lastAccessAt": timestamp(row, "last_access_at")?,
        }))
    })
    .await
}

/// `GET /api/users/{id}/permissions`; the own ones, or with the right to see what others may do.
pub(super) async fn permissions(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let (id, organization_id) = (context.id("id")?, context.organization_id()?);
    if context.caller.principal.user_id.as_deref() != Some(id)
        && !context.caller.principal.has_permission("users.user.manage")
    {
        return Err(denied("users.user.manage"));
    }
    let access = context.accounts.access_of(id, organization_id).await?.ok_or(AccountsError::NotFound("user"))?;
    Ok(ok(json!({
        "userId": id,
        "organizationId": organization_id,
        "roleId": access.role_id,
        "roleName": access.role_name,
        "isSuperAdmin": access.is_super_admin,
        "permissions": show_permissions(&access.permissions, access.is_super_admin),
    })))
}

/// `POST /api/users/me/deactivate`
pub(super) async fn deactivate_me(context: &Context<'_>) -> Result<Reply, AccountsError> {
    set_active(context, context.user_id()?, false, Guarded::Every).await
}

/// `POST /api/users/{id}/deactivate`
pub(super) async fn deactivate(context: &Context<'_>) -> Result<Reply, AccountsError> {
    set_active(context, context.id("id")?, false, Guarded::Operator).await
}

/// `POST /api/users/{id}/reactivate`
pub(super) async fn reactivate(context: &Context<'_>) -> Result<Reply, AccountsError> {
    set_active(context, context.id("id")?, true, Guarded::Operator).await
}

/// `DELETE /api/users/{id}`
pub(super) async fn delete(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let (id, now) = (context.id("id")?, context.accounts.now());
    let operator = context.accounts.operator_organization().await?;
    let mut change = context.begin().await?;
    let row = find(&mut change, id).await?;
    context.if_match(row.integer("version")?)?;
    refuse_last_super_admin(&mut change, operator.as_deref(), id, Guarded::Operator).await?;
    change
        .execute(
            "UPDATE users SET deleted_at = $2, is_active = $3, updated_at = $2, version = version + 1 WHERE id = $1",
            &values![id, now, false],
        )
        .await?;
    // After the row is taken: a sign-in that was under way has ended before, and its session ends with the others.
    sessions::end_all(&mut change, id, None, "account_deleted", now).await?;
    let by = context.caller.principal.user_id.as_deref();
    api_keys::end(&mut change, id, None, by, now).await?;
    memberships::end_every(&mut change, id, by, now).await?;
    change.audit(None, "user.account_deleted", ("user", id), Json::Null).await?;
    let data = json!({ "userId": id });
    change
        .event(Event { kind: "user.account_deleted", organization_id: None, user_id: Some(id), key: id, data })
        .await?;
    change.commit().await?;
    Ok(no_content())
}

/// Which organizations must keep a Super Admin.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Guarded {
    /// All of them: nobody leaves their own behind.
    Every,
    /// The operator's: the platform may shut out whom it must, but never itself.
    Operator,
}

async fn set_active(
    context: &Context<'_>,
    id: &str,
    is_active: bool,
    guarded: Guarded,
) -> Result<Reply, AccountsError> {
    let now = context.accounts.now();
    let operator = context.accounts.operator_organization().await?;
    let mut change = context.begin().await?;
    let row = find(&mut change, id).await?;
    context.if_match(row.integer("version")?)?;
    if row.boolean("is_active")? == is_active {
        let state = if is_active { "active" } else { "deactivated" };
        return Err(AccountsError::Conflict(format!("the account is {state} already")));
    }
    if !is_active {
        refuse_last_super_admin(&mut change, operator.as_deref(), id, guarded).await?;
    }
    change
        .execute(
            "UPDATE users SET is_active = $2, updated_at = $3, version = version + 1 WHERE id = $1",
            &values![id, is_active, now],
        )
        .await?;
    if !is_active {
        // After the row is taken: a sign-in that was under way has ended before, and its session ends with the others.
        sessions::end_all(&mut change, id, None, "account_deactivated", now).await?;
    }
    let action = if is_active { "user.reactivated" } else { "user.deactivated" };
    change.audit(context.caller.principal.organization_id.as_deref(), action, ("user", id), Json::Null).await?;
    let after = to_json(&find(&mut change, id).await?)?;
    change.touch(id);
    change.commit().await?;
    Ok(entity_reply(after))
}

/// Refuses when a guarded organization would be left without a Super Admin.
async fn refuse_last_super_admin(
    change: &mut Change<'_>,
    operator: Option<&str>,
    user_id: &str,
    guarded: Guarded,
) -> Result<(), AccountsError> {
    let sql = format!(
        "SELECT m.id, m.organization_id FROM organization_memberships m JOIN roles r ON r.id = m.role_id \
             JOIN organizations o ON o.id = m.organization_id \
         WHERE m.user_id = $1 AND m.status = 'active' AND m.deleted_at IS NULL AND r.is_super_admin = $2 \
             AND o.deleted_at IS NULL ORDER BY m.organization_id LIMIT {MEMBERSHIPS_MAX}"
    );
    let rows = change.query(&sql, &values![user_id, true]).await?;
    for row in &rows {
        let organization_id = row.text("organization_id")?;
        if guarded == Guarded::Operator && operator != Some(organization_id.as_str()) {
            continue;
        }
        organizations::lock(change, &organization_id).await?;
        memberships::keep_a_super_admin(change, &organization_id, &row.text("id")?).await?;
    }
    Ok(())
}

/// A user by id, as the API shows the own one.
pub(super) async fn read_json(accounts: &Accounts, id: &str) -> Result<Json, AccountsError> {
    let sql = format!("SELECT {COLUMNS} FROM users u WHERE u.id = $1 AND u.deleted_at IS NULL");
    let row = accounts.database.query_one(&sql, &values![id]).await?.ok_or(AccountsError::NotFound("user"))?;
    Ok(to_json(&row)?)
}

async fn find(change: &mut Change<'_>, id: &str) -> Result<Row, AccountsError> {
    let sql = format!("SELECT {COLUMNS} FROM users u WHERE u.id = $1 AND u.deleted_at IS NULL");
    change.query_one(&sql, &values![id]).await?.ok_or(AccountsError::NotFound("user"))
}

/// A user as the API shows the own one.
pub(super) fn to_json(row: &Row) -> Result<Json, DatabaseError> {
    let mut user = public_json(row)?;
    user.insert("competencies".into(), row.optional_json::<Json>("competencies")?.unwrap_or(Json::Null));
    user.insert("preferences".into(), row.optional_json::<Json>("preferences")?.unwrap_or(Json::Null));
    Ok(Json::Object(user))
}

/// A user as other members see them: preferences are private.
fn member_json(row: &Row) -> Result<Json, DatabaseError> {
    let mut user = public_json(row)?;
    user.insert("competencies".into(), row.optional_json::<Json>("competencies")?.unwrap_or(Json::Null));
    user.insert("roleId".into(), row.text("role_id")?.into());
    user.insert("roleName".into(), row.text("role_name")?.into());
    user.insert("membershipStatus".into(), row.text("status")?.into());
    Ok(Json::Object(user))
}

fn public_json(row: &Row) -> Result<Map<String, Json>, DatabaseError> {
    let user = json!({
        "id": row.text("id")?,
        "email": row.text("email")?,
        "name": row.optional_text("name")?,
        "firstName": row.optional_text("first_name")?,
        "lastName": row.optional_text("last_name")?,
        "username": row.optional_text("username")?,
        "avatarUrl": row.optional_text("avatar_url")?,
        "isActive": row.boolean("is_active")?,
        "isEmailVerified": row.boolean("is_email_verified")?,
        "lastLoginAt": timestamp(row, "last_login_at")?,
        "createdAt": timestamp(row, "created_at")?,
        "updatedAt": timestamp(row, "updated_at")?,
        "version": row.integer("version")?,
    });
    Ok(match user {
        Json::Object(members) => members,
        _ => Map::new(),
    })
}
