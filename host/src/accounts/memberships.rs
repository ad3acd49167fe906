//! Memberships: who belongs to an organization, with which role.
//!
//! An organization must never lose its last Super Admin, and nobody may give or take a right they do not hold.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::{Value as Json, json};

use super::access::{self, Access};
use super::context::{Change, Context, Event, created, entity_reply, new_id, no_content};
use super::dispatch::denied;
use super::error::AccountsError;
use super::list::{Select, contains, page, timestamp};
use super::organizations::lock;
use super::{Accounts, Reply, api_keys, invitations};
use crate::database::{DatabaseError, Row, values};
use crate::principal::PermissionSet;

/// The permission to change who belongs to an organization.
pub(super) const MANAGE: &str = "organizations.member.manage";

/// What its list is sorted by: names in JSON with their columns.
pub(super) const SORTS: [(&str, &str); 4] =
    [("createdAt", "m.created_at"), ("joinedAt", "m.joined_at"), ("email", "u.email"), ("name", "u.name")];
pub(super) const STATUSES: [&str; 4] = ["active", "invited", "suspended", "deactivated"];
const COLUMNS: &str = "m.id, m.user_id, m.organization_id, m.role_id, m.status, m.invited_by_user_id, m.invited_at, \
    m.joined_at, m.last_access_at, m.expires_at, m.created_at, m.updated_at, m.version, \
    r.name AS role_name, r.is_super_admin, r.is_system_role, u.email, u.name AS user_name, u.avatar_url";
const TABLES: &str = "organization_memberships m JOIN roles r ON r.id = m.role_id JOIN users u ON u.id = m.user_id AND u.deleted_at IS NULL";

/// A role that somebody is to get.
pub(super) struct Assignable {
    pub id: String,
    pub name: String,
    pub is_super_admin: bool,
}

/// `GET /api/organizations/{id}/memberships`
pub(super) async fn list(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let query = &context.query;
    let paging = query.paging(&SORTS, false)?;
    if query.get("status").is_some_and(|status| !STATUSES.contains(&status)) {
        return Err(AccountsError::field("status", format!("must be one of {}", STATUSES.join(", "))));
    }
    let select = Select::new(COLUMNS, TABLES)
        .and("m.organization_id = ?", context.id("id")?)
        .and_sql("m.deleted_at IS NULL")
        .and_if("m.status = ?", query.get("status"))
        .and_if("m.role_id = ?", query.filter("roleId")?)
        .and_if(
            "(u.email LIKE ? ESCAPE '\\' OR LOWER(u.name) LIKE ? ESCAPE '\\')",
            query.filter("search")?.map(contains),
        );
    page(&context.accounts.database, select, &paging, to_json).await
}

/// `POST /api/organizations/{id}/memberships`
pub(super) async fn add(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let organization_id = context.id("id")?;
    let mut fields = context.fields()?;
    let user_id = if fields.has("email") && !fields.has("userId") { None } else { Some(fields.required_id("userId")) };
    let email = if user_id.is_none() { Some(fields.required_email("email")) } else { None };
    let role_id = fields.required_id("roleId");
    fields.finish()?;

    let mut change = context.begin().await?;
    let limit = lock(&mut change, organization_id).await?;
    let role = assignable(&mut change, context.access()?, &role_id).await?;
    let (column, key) = match (&user_id, &email) {
        (Some(id), _) => ("id", id),
        (None, Some(email)) => ("email", email),
        (None, None) => return Err(AccountsError::NotFound("user")),
    };
    let sql = format!(
        "SELECT id, is_email_verified FROM users WHERE {column} = $1 AND is_active = $2 AND deleted_at IS NULL"
    );
    let user = change.query_one(&sql, &values![key.as_str(), true]).await?.ok_or(AccountsError::NotFound("user"))?;
    // Whoever names an address means its holder, and anybody can register one. An invitation goes to the mailbox. Where
    // there is no mail, nobody can confirm anything.
    if user_id.is_none() && context.accounts.mail.is_configured() && !user.boolean("is_email_verified")? {
        return Err(AccountsError::Conflict(
            "the account has not confirmed this e-mail address: send an invitation to it instead".into(),
        ));
    }
    let user_id = user.text("id")?;
    let by = context.caller.principal.user_id.as_deref();
    let id =
        join(&mut change, context.accounts, Joining { user_id: &user_id, organization_id, role: &role, by, limit })
            .await?;
    let row = find(&mut change, organization_id, &id).await?;
    change.commit().await?;
    Ok(created(to_json(&row)?))
}

/// Who joins what.
pub(super) struct Joining<'a> {
    pub user_id: &'a str,
    pub organization_id: &'a str,
    pub role: &'a Assignable,
    /// Who added or invited them.
    pub by: Option<&'a str>,
    /// The organization's member limit, read under its lock.
    pub limit: Option<i64>,
}

/// Makes an active membership, or revives one that has ended. Returns its id. The organization must be locked.
pub(super) async fn join(
    change: &mut Change<'_>,
    accounts: &Accounts,
    new: Joining<'_>,
) -> Result<String, AccountsError> {
    let now = accounts.now();
    let sql = "SELECT id, status, deleted_at FROM organization_memberships WHERE user_id = $1 AND organization_id = $2";
    let existing = change.query_one(sql, &values![new.user_id, new.organization_id]).await?;
    let ended = match &existing {
        Some(row) if row.optional_timestamp("deleted_at")?.is_none() && row.text("status")? != "invited" => {
            return Err(AccountsError::Conflict("the user is a member already".into()));
        }
        Some(row) => Some(row.text("id")?),
        None => None,
    };
    require_room(change, new.organization_id, new.limit).await?;
    if ended.is_some() {
        // They ended with the membership; keys of one that ended before that was so would come back with it.
        api_keys::end(change, new.user_id, Some(new.organization_id), new.by, now).await?;
    }
    let (id, sql) = match ended {
        Some(id) => (
            id,
            "UPDATE organization_memberships SET role_id = $4, status = 'active', invited_by_user_id = $5, joined_at = $6, \
                 left_at = NULL, deleted_at = NULL, expires_at = NULL, updated_at = $6, version = version + 1 \
             WHERE id = $1 AND user_id = $2 AND organization_id = $3",
        ),
        None => (
            new_id(),
            "INSERT INTO organization_memberships (id, user_id, organization_id, role_id, status, invited_by_user_id, \
                 joined_at, created_by, created_at, updated_at, version) \
             VALUES ($1, $2, $3, $4, 'active', $5, $6, $5, $6, $6, 1)",
        ),
    };
    change.execute(sql, &values![&id, new.user_id, new.organization_id, &new.role.id, new.by, now]).await?;
    let data = json!({
        "organizationId": new.organization_id, "userId": new.user_id, "membershipId": id, "roleId": new.role.id,
    });
    tell(change, "organization.member_joined", new.organization_id, new.by.or(Some(new.user_id)), &id, data).await?;
    change.touch(new.user_id);
    Ok(id)
}

/// `PUT /api/organizations/{id}/memberships/{mid}`
pub(super) async fn update(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let (organization_id, id) = (context.id("id")?, context.id("mid")?);
    let mut fields = context.fields()?;
    let role_id = fields.id("roleId");
    let status = fields.one_of("status", &["active", "suspended", "deactivated"]);
    fields.finish()?;

    let mut change = context.begin().await?;
    let limit = lock(&mut change, organization_id).await?;
    let row = find(&mut change, organization_id, id).await?;
    context.if_match(row.integer("version")?)?;
    let before = to_json(&row)?;
    let was_super_admin = row.boolean("is_super_admin")?;
    let access = context.access()?;
    let (old_role_id, old_status) = (row.text("role_id")?, row.text("status")?);
    require_cover(&mut change, access, &old_role_id, &row).await?;
    let status = status.map_or(old_status.clone(), str::to_owned);
    let becomes_active = old_status != "active" && status == "active";
    let role = match role_id.filter(|role_id| *role_id != old_role_id) {
        Some(role_id) => assignable(&mut change, access, &role_id).await?,
        // Who is let back in gets the role anew.
        None if becomes_active => assignable(&mut change, access, &old_role_id).await?,
        None => Assignable { id: old_role_id, name: row.text("role_name")?, is_super_admin: was_super_admin },
    };
    if was_super_admin && (!role.is_super_admin || status != "active") {
        keep_a_super_admin(&mut change, organization_id, id).await?;
    }
    if becomes_active {
        require_room(&mut change, organization_id, limit).await?;
    }
    change
        .execute(
            "UPDATE organization_memberships SET role_id = $2, status = $3, updated_at = $4, version = version + 1 WHERE id = $1",
            &values![id, &role.id, status, context.accounts.now()],
        )
        .await?;
    let row = find(&mut change, organization_id, id).await?;
    let after = to_json(&row)?;
    let user_id = row.text("user_id")?;
    let changes = super::organizations::differences(&before, &after);
    let data = json!({
        "organizationId": organization_id, "userId": user_id, "membershipId": id, "roleId": role.id, "changes": changes,
    });
    let by = context.caller.principal.user_id.as_deref();
    tell(&mut change, "organization.member_role_changed", organization_id, by, id, data).await?;
    change.touch(&user_id);
    change.commit().await?;
    Ok(entity_reply(after))
}

/// `DELETE /api/organizations/{id}/memberships/{mid}`; everybody may leave, others are removed by who may manage them.
pub(super) async fn remove(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let (organization_id, id) = (context.id("id")?, context.id("mid")?);
    let mut change = context.begin().await?;
    lock(&mut change, organization_id).await?;
    let row = find(&mut change, organization_id, id).await?;
    let (user_id, access) = (row.text("user_id")?, context.access()?);
    if context.user_id()? != user_id {
        if !access.allows(MANAGE) {
            return Err(denied(MANAGE));
        }
        require_cover(&mut change, access, &row.text("role_id")?, &row).await?;
    }
    context.if_match(row.integer("version")?)?;
    end(&mut change, context.accounts, &row, context.caller.principal.user_id.as_deref()).await?;
    change.commit().await?;
    Ok(no_content())
}

/// Ends a membership for good: with it go the API keys that were made in it, its places in teams, and what would bring it back,
/// open invitations to its address. The organization must be locked.
pub(super) async fn end(
    change: &mut Change<'_>,
    accounts: &Accounts,
    row: &Row,
    by: Option<&str>,
) -> Result<(), AccountsError> {
    let (id, organization_id, user_id) = (row.text("id")?, row.text("organization_id")?, row.text("user_id")?);
    if row.boolean("is_super_admin")? {
        keep_a_super_admin(change, &organization_id, &id).await?;
    }
    change
        .execute(
            "UPDATE organization_memberships SET status = 'deactivated', left_at = $2, deleted_at = $2, updated_at = $2, \
                 version = version + 1 WHERE id = $1",
            &values![&id, accounts.now()],
        )
        .await?;
    change
        .execute(
            "DELETE FROM team_members WHERE user_id = $1 AND team_id IN (SELECT id FROM teams WHERE organization_id = $2)",
            &values![&user_id, &organization_id],
        )
        .await?;
    api_keys::end(change, &user_id, Some(&organization_id), by, accounts.now()).await?;
    let (email, changes) = (row.text("email")?, json!({ "endedWith": id }));
    invitations::withdraw(change, &organization_id, &email, by, &changes, accounts.now()).await?;
    tell_removed(change, row, by).await?;
    change.touch(&user_id);
    Ok(())
}

/// Ends every membership of an account that is deleted: it takes up no seat, and no role has to be kept for it.
pub(super) async fn end_every(
    change: &mut Change<'_>,
    user_id: &str,
    by: Option<&str>,
    now: DateTime<Utc>,
) -> Result<(), AccountsError> {
    let sql = "UPDATE organization_memberships SET status = 'deactivated', left_at = $2, deleted_at = $2, updated_at = $2, \
         version = version + 1 WHERE user_id = $1 AND deleted_at IS NULL RETURNING id, organization_id, user_id";
    let ended = change.query(sql, &values![user_id, now]).await?;
    change.execute("DELETE FROM team_members WHERE user_id = $1", &values![user_id]).await?;
    for row in &ended {
        tell_removed(change, row, by).await?;
    }
    Ok(())
}

/// Tells that the membership of a row has ended.
async fn tell_removed(change: &mut Change<'_>, row: &Row, by: Option<&str>) -> Result<(), AccountsError> {
    let (id, organization_id) = (row.text("id")?, row.text("organization_id")?);
    let data = json!({ "organizationId": organization_id, "userId": row.text("user_id")?, "membershipId": id });
    tell(change, "organization.member_removed", &organization_id, by, &id, data).await
}

/// Whether a member may still hand out a role by an invitation, as they stand now.
pub(super) async fn may_still_give(
    change: &mut Change<'_>,
    organization_id: &str,
    user_id: &str,
    role_id: &str,
    now: DateTime<Utc>,
) -> Result<bool, AccountsError> {
    let row = change.query_one(access::SELECT, &values![user_id, organization_id, true, now]).await?;
    let Some(row) = row else { return Ok(false) };
    let own_role_id = row.text("role_id")?;
    let permissions = permissions_of(change, &own_role_id, &row).await?;
    let access = Access::of(&row, own_role_id, permissions)?;
    if !access.allows(invitations::MANAGE) {
        return Ok(false);
    }
    match assignable(change, &access, role_id).await {
        Ok(_) => Ok(true),
        Err(AccountsError::Forbidden(_) | AccountsError::Validation(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The role of this organization, when the caller may hand it out: nobody gives a right they do not hold.
pub(super) async fn assignable(
    change: &mut Change<'_>,
    access: &Access,
    role_id: &str,
) -> Result<Assignable, AccountsError> {
    let sql = "SELECT id, name AS role_name, is_super_admin, is_system_role FROM roles \
         WHERE id = $1 AND organization_id = $2 AND archived_at IS NULL";
    let row = change.query_one(sql, &values![role_id, &access.organization_id]).await?;
    let Some(row) = row else { return Err(AccountsError::field("roleId", "names no role of this organization")) };
    require_cover(change, access, role_id, &row).await?;
    Ok(Assignable { id: row.text("id")?, name: row.text("role_name")?, is_super_admin: row.boolean("is_super_admin")? })
}

/// Refuses who does not hold all that a role allows. `row` holds the role's name and what kind of role it is.
async fn require_cover(
    change: &mut Change<'_>,
    access: &Access,
    role_id: &str,
    row: &Row,
) -> Result<(), AccountsError> {
    if row.boolean("is_super_admin")? && !access.is_super_admin {
        return Err(AccountsError::Forbidden("only a Super Admin may make, change or remove a Super Admin".into()));
    }
    let permissions = permissions_of(change, role_id, row).await?;
    if !access.covers(&permissions) {
        return Err(AccountsError::Forbidden("the role allows what your own role does not".into()));
    }
    Ok(())
}

/// What a role allows; `row` holds its name and what kind of role it is.
async fn permissions_of(
    change: &mut Change<'_>,
    role_id: &str,
    row: &Row,
) -> Result<Arc<PermissionSet>, AccountsError> {
    match access::system_permissions(row)? {
        Some(permissions) => Ok(permissions),
        None => {
            let codes = change.query(access::SELECT_CODES, &values![role_id]).await?;
            Ok(access::custom_permissions(&codes)?)
        }
    }
}

/// Refuses when no other active Super Admin would be left. The organization must be locked.
pub(super) async fn keep_a_super_admin(
    change: &mut Change<'_>,
    organization_id: &str,
    membership_id: &str,
) -> Result<(), AccountsError> {
    let sql = "SELECT COUNT(*) AS others FROM organization_memberships m \
             JOIN roles r ON r.id = m.role_id JOIN users u ON u.id = m.user_id \
         WHERE m.organization_id = $1 AND m.id <> $2 AND m.status = 'active' AND m.deleted_at IS NULL \
             AND r.is_super_admin = $3 AND u.is_active = $3 AND u.deleted_at IS NULL";
    let row = change.query_one(sql, &values![organization_id, membership_id, true]).await?;
    if row.map_or(Ok(0), |row| row.integer("others"))? == 0 {
        return Err(AccountsError::Conflict("the last Super Admin of an organization must stay".into()));
    }
    Ok(())
}

async fn require_room(change: &mut Change<'_>, organization_id: &str, limit: Option<i64>) -> Result<(), AccountsError> {
    let Some(limit) = limit else { return Ok(()) };
    let sql = "SELECT COUNT(*) AS members FROM organization_memberships \
         WHERE organization_id = $1 AND status = 'active' AND deleted_at IS NULL";
    let row = change.query_one(sql, &values![organization_id]).await?;
    if row.map_or(Ok(0), |row| row.integer("members"))? >= limit {
        return Err(AccountsError::Conflict("the member limit is reached".into()));
    }
    Ok(())
}

async fn find(change: &mut Change<'_>, organization_id: &str, id: &str) -> Result<Row, AccountsError> {
    let sql =
        format!("SELECT {COLUMNS} FROM {TABLES} WHERE m.id = $1 AND m.organization_id = $2 AND m.deleted_at IS NULL");
    change.query_one(&sql, &values![id, organization_id]).await?.ok_or(AccountsError::NotFound("membership"))
}

async fn tell(
    change: &mut Change<'_>,
    kind: &'static str,
    organization_id: &str,
    by: Option<&str>,
    membership_id: &str,
    data: Json,
) -> Result<(), AccountsError> {
    change.audit_as(by, Some(organization_id), kind, ("membership", membership_id), data.clone()).await?;
    change.event(Event { kind, organization_id: Some(organization_id), user_id: by, key: organization_id, data }).await
}

fn to_json(row: &Row) -> Result<Json, DatabaseError> {
    Ok(json!({
        "id": row.text("id")?,
        "userId": row.text("user_id")?,
        "organizationId": row.text("organization_id")?,
        "roleId": row.text("role_id")?,
        "roleName": row.text("role_name")?,
        "isSuperAdmin": row.boolean("is_super_admin")?,
        "status": row.text("status")?,
        "user": {
            "id": row.text("user_id")?,
            "email": row.text("email")?,
            "name": row.optional_text("user_name")?,
            "avatarUrl": row.optional_text("avatar_url")?,
        },
        "invitedByUserId": row.optional_text("invited_by_user_id")?,
        "invitedAt": timestamp(row, "invited_at")?,
        "joinedAt": timestamp(row, "joined_at")?,
        "lastAccessAt": timestamp(row, "last_access_at")?,
        "expiresAt": timestamp(row, "expires_at")?,
        "createdAt": timestamp(row, "created_at")?,
        "updatedAt": timestamp(row, "updated_at")?,
        "version": row.integer("version")?,
    }))
}
