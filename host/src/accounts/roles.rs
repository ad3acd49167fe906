//! Roles and permission codes: the four system roles are fixed, custom ones are made by a Super Admin.
//!
//! A system role must never change, and a role that somebody has must never vanish.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::access::{SELECT_CODES, permissions_of};
use super::context::{Change, Context, created, entity_reply, new_id, no_content};
use super::error::AccountsError;
use super::input::{Fields, Text};
use super::list::{Select, contains, page, timestamp};
use super::{Accounts, Reply};
use crate::database::{Database, DatabaseError, Row, Rows, Value, values};
use crate::principal::PermissionSet;

/// The most codes one role may hold.
const CODES_MAX: usize = 200;
/// The most custom roles of one organization.
const CUSTOM_ROLES_MAX: i64 = 100;
/// Codes that are looked for with one question.
const CODES_AT_ONCE: usize = 200;
/// The longest code, in characters.
const CODE_CHARACTERS_MAX: usize = 150;
/// The longest description, in characters.
const DESCRIPTION_CHARACTERS_MAX: usize = 500;

/// The main app's own permission codes, with what they are for.
pub(super) const CODES: &[(&str, &str)] = &[
    ("audit.logs.read", "Read the audit log"),
    ("organizations.api-key.manage", "See and end the API keys of everybody"),
    ("organizations.invitation.manage", "Invite people and cancel invitations"),
    ("organizations.invitation.read", "See invitations"),
    ("organizations.member.manage", "Add, change and remove members"),
    ("organizations.member.read", "See members"),
    ("organizations.organization.manage", "Change the organization"),
    ("organizations.organization.read", "See the organization"),
    ("organizations.role.read", "See roles"),
    ("organizations.settings.manage", "Change the organization's settings"),
    ("organizations.settings.read", "See the organization's settings"),
    ("permissions.permission.read", "See the catalogue of permissions"),
    ("teams.team.create", "Create teams"),
    ("teams.team.delete", "Delete teams"),
    ("teams.team.read", "See teams"),
    ("teams.team.update", "Change teams and their members"),
    ("users.user.manage", "See what others may do"),
    ("users.user.read", "See users"),
];

const COLUMNS: &str = "id, organization_id, name, description, is_system_role, is_custom_role, is_super_admin, \
    created_by_user_id, created_at, updated_at, version";

impl Accounts {
    /// Puts the codes that a plugin's routes demand into the catalogue: (code, what it is for). Known ones stay.
    pub(crate) async fn register_permissions(&self, codes: &[(String, String)]) -> Result<(), AccountsError> {
        let codes: Vec<(&str, &str)> = codes
            .iter()
            .map(|(code, text)| (code.as_str(), text.as_str()))
            .filter(|(code, _)| is_code(code) && !code.contains('*'))
            .collect();
        register(&self.database, &codes, self.now()).await
    }
}

/// Adds codes to the catalogue. What custom roles name does not count: it is only theirs.
pub(super) async fn register(
    database: &Database,
    codes: &[(&str, &str)],
    now: chrono::DateTime<chrono::Utc>,
) -> Result<(), AccountsError> {
    // Many routes share a permission, and at most starts all are there.
    let mut fresh: BTreeMap<&str, &str> = BTreeMap::new();
    for (code, text) in codes {
        fresh.entry(code).or_insert(text);
    }
    let wanted: Vec<&str> = fresh.keys().copied().collect();
    for some in wanted.chunks(CODES_AT_ONCE) {
        let places: Vec<String> = (2..some.len() + 2).map(|number| format!("${number}")).collect();
        let places = places.join(", ");
        let sql = format!("SELECT code FROM permissions WHERE is_system_permission = $1 AND code IN ({places})");
        let parameters: Vec<Value> = values![true].into_iter().chain(some.iter().map(|code| (*code).into())).collect();
        for row in &database.query(&sql, &parameters).await? {
            fresh.remove(row.text("code")?.as_str());
        }
    }
    if fresh.is_empty() {
        return Ok(());
    }
    let mut transaction = database.begin().await?;
    // A custom role may have named it before there was a plugin that has it.
    let sql = format!(
        "{INSERT_CODE} DO UPDATE SET display_name = excluded.display_name, \
             is_system_permission = excluded.is_system_permission, updated_at = excluded.updated_at"
    );
    for (code, text) in fresh {
        transaction.execute(&sql, &code_row(code, text, true, now)).await?;
    }
    Ok(transaction.commit().await?)
}

/// What is done about a code that is there already follows.
const INSERT_CODE: &str = "INSERT INTO permissions (id, code, display_name, module, resource, action, is_system_permission, \
    created_at, updated_at, version) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, 1) ON CONFLICT (code)";

fn code_row(code: &str, text: &str, is_system: bool, now: chrono::DateTime<chrono::Utc>) -> Vec<Value> {
    let mut segments = code.splitn(3, '.');
    let mut segment = || segments.next().unwrap_or_default().to_owned();
    let (module, resource, action) = (segment(), segment(), segment());
    values![new_id(), code, text, module, resource, action, is_system, now]
}

/// What its list is sorted by: names in JSON with their columns.
pub(super) const PERMISSION_SORTS: [(&str, &str); 2] = [("code", "code"), ("module", "module")];

/// `GET /api/permissions`
pub(super) async fn list_permissions(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let query = &context.query;
    let paging = query.paging(&PERMISSION_SORTS, false)?;
    let select = Select::new(
        "id, code, display_name, description, module, resource, action, scope, is_system_permission",
        "permissions",
    )
    .and("is_system_permission = ?", true)
    .and_if("module = ?", query.filter("module")?)
    .and_if("LOWER(code) LIKE ? ESCAPE '\\'", query.filter("search")?.map(contains));
    page(&context.accounts.database, select, &paging, |row| {
        Ok(json!({
            "id": row.text("id")?,
            "code": row.text("code")?,
            "displayName": row.text("display_name")?,
            "description": row.optional_text("description")?,
            "module": row.text("module")?,
            "resource": row.text("resource")?,
            "action": row.text("action")?,
            "scope": row.optional_text("scope")?,
            "isSystemPermission": row.boolean("is_system_permission")?,
        }))
    })
    .await
}

/// What its list is sorted by: names in JSON with their columns.
pub(super) const SORTS: [(&str, &str); 2] = [("createdAt", "created_at"), ("name", "name")];

/// `GET /api/organizations/{id}/roles`
pub(super) async fn list(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let paging = context.query.paging(&SORTS, false)?;
    let select = Select::new(COLUMNS, "roles")
        .and("organization_id = ?", context.id("id")?)
        .and_sql("archived_at IS NULL")
        .and_if("LOWER(name) LIKE ? ESCAPE '\\'", context.query.filter("search")?.map(contains));
    page(&context.accounts.database, select, &paging, to_json).await
}

/// `GET /api/organizations/{id}/roles/{rid}`
pub(super) async fn read(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let (database, id) = (&context.accounts.database, context.id("rid")?);
    let row = database
        .query_one(&find_sql(), &values![id, context.id("id")?])
        .await?
        .ok_or(AccountsError::NotFound("role"))?;
    let codes = database.query(SELECT_CODES, &values![id]).await?;
    Ok(entity_reply(with_permissions(&row, &codes)?))
}

/// `POST /api/organizations/{id}/roles`
pub(super) async fn create(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let (organization_id, user_id) = (context.id("id")?, context.user_id()?);
    let mut fields = context.fields()?;
    let name = fields.required_text("name", Text::NAME);
    let description = fields.text("description", Text::description(DESCRIPTION_CHARACTERS_MAX));
    let codes = codes(&mut fields).unwrap_or_default();
    fields.finish()?;

    let (id, now) = (new_id(), context.accounts.now());
    let mut change = context.begin().await?;
    super::organizations::lock(&mut change, organization_id).await?;
    let sql = "SELECT COUNT(*) AS roles FROM roles WHERE organization_id = $1 AND is_custom_role = $2 AND archived_at IS NULL";
    let count = change.query_one(sql, &values![organization_id, true]).await?;
    if count.map_or(Ok(0), |row| row.integer("roles"))? >= CUSTOM_ROLES_MAX {
        return Err(AccountsError::Conflict(format!("an organization has at most {CUSTOM_ROLES_MAX} custom roles")));
    }
    refuse_taken_name(&mut change, organization_id, &name, "").await?;
    change
        .execute(
            "INSERT INTO roles (id, organization_id, name, description, is_system_role, is_custom_role, is_super_admin, \
                 created_by_user_id, created_by, created_at, updated_at, version) \
             VALUES ($1, $2, $3, $4, $5, $6, $5, $7, $7, $8, $8, 1)",
            &values![&id, organization_id, name.as_str(), description, false, true, user_id, now],
        )
        .await?;
    set_codes(&mut change, &id, &codes, now).await?;
    tell(&mut change, "role.created", organization_id, user_id, &id, json!({ "name": name, "permissions": codes }))
        .await?;
    let role = read_json(&mut change, organization_id, &id).await?;
    change.commit().await?;
    Ok(created(role))
}

/// `PUT /api/organizations/{id}/roles/{rid}`
pub(super) async fn update(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let (organization_id, id, user_id) = (context.id("id")?, context.id("rid")?, context.user_id()?);
    let mut fields = context.fields()?;
    let name = fields.has("name").then(|| fields.required_text("name", Text::NAME));
    let description = fields.nullable_text("description", Text::description(DESCRIPTION_CHARACTERS_MAX));
    let codes = codes(&mut fields);
    fields.finish()?;

    let now = context.accounts.now();
    let mut change = context.begin().await?;
    super::organizations::lock(&mut change, organization_id).await?;
    let row = find(&mut change, organization_id, id).await?;
    refuse_system_role(&row)?;
    context.if_match(row.integer("version")?)?;
    if let Some(name) = &name {
        refuse_taken_name(&mut change, organization_id, name, id).await?;
    }
    change
        .execute(
            "UPDATE roles SET name = $2, description = $3, updated_at = $4, version = version + 1 WHERE id = $1",
            &values![
                id,
                name.clone().unwrap_or(row.text("name")?),
                description.unwrap_or(row.optional_text("description")?),
                now
            ],
        )
        .await?;
    if let Some(codes) = &codes {
        set_codes(&mut change, id, codes, now).await?;
    }
    tell(&mut change, "role.updated", organization_id, user_id, id, json!({ "name": name, "permissions": codes }))
        .await?;
    let role = read_json(&mut change, organization_id, id).await?;
    change.touch(organization_id);
    change.commit().await?;
    Ok(entity_reply(role))
}

/// `DELETE /api/organizations/{id}/roles/{rid}`
pub(super) async fn delete(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let (organization_id, id, user_id) = (context.id("id")?, context.id("rid")?, context.user_id()?);
    let mut change = context.begin().await?;
    super::organizations::lock(&mut change, organization_id).await?;
    let row = find(&mut change, organization_id, id).await?;
    refuse_system_role(&row)?;
    context.if_match(row.integer("version")?)?;
    for sql in [
        "SELECT id FROM organization_memberships WHERE role_id = $1 AND deleted_at IS NULL LIMIT 1",
        "SELECT id FROM invitations WHERE role_id = $1 AND status = 'pending' LIMIT 1",
    ] {
        if change.query_one(sql, &values![id]).await?.is_some() {
            return Err(AccountsError::Conflict("the role is still assigned".into()));
        }
    }
    // Kept for the rows of the past that name it; the name becomes free.
    change
        .execute(
            "UPDATE roles SET archived_at = $2, name = $3, updated_at = $2, version = version + 1 WHERE id = $1",
            &values![id, context.accounts.now(), format!("{} ({id})", row.text("name")?)],
        )
        .await?;
    tell(&mut change, "role.deleted", organization_id, user_id, id, json!({ "name": row.text("name")? })).await?;
    change.commit().await?;
    Ok(no_content())
}

/// What somebody may do, as the API shows it: codes and wildcards; an action of a system role is `*.*.<action>`.
pub(super) fn show_permissions(permissions: &PermissionSet, is_super_admin: bool) -> Vec<String> {
    if is_super_admin {
        return vec!["*".to_owned()];
    }
    permissions.shown()
}

async fn read_json(change: &mut Change<'_>, organization_id: &str, id: &str) -> Result<Json, AccountsError> {
    let row = find(change, organization_id, id).await?;
    let codes = change.query(SELECT_CODES, &values![id]).await?;
    Ok(with_permissions(&row, &codes)?)
}

fn with_permissions(row: &Row, codes: &Rows) -> Result<Json, DatabaseError> {
    let permissions = if row.boolean("is_system_role")? {
        show_permissions(&permissions_of(&row.text("name")?), row.boolean("is_super_admin")?)
    } else {
        codes.iter().map(|row| row.text("code")).collect::<Result<Vec<_>, _>>()?
    };
    let mut role = to_json(row)?;
    if let Some(members) = role.as_object_mut() {
        members.insert("permissions".into(), json!(permissions));
    }
    Ok(role)
}

fn find_sql() -> String {
    format!("SELECT {COLUMNS} FROM roles WHERE id = $1 AND organization_id = $2 AND archived_at IS NULL")
}

async fn find(change: &mut Change<'_>, organization_id: &str, id: &str) -> Result<Row, AccountsError> {
    change.query_one(&find_sql(), &values![id, organization_id]).await?.ok_or(AccountsError::NotFound("role"))
}

fn refuse_system_role(row: &Row) -> Result<(), AccountsError> {
    if row.boolean("is_system_role")? {
        return Err(AccountsError::Forbidden("system roles are immutable".into()));
    }
    Ok(())
}

async fn refuse_taken_name(
    change: &mut Change<'_>,
    organization_id: &str,
    name: &str,
    own_id: &str,
) -> Result<(), AccountsError> {
    let sql = "SELECT id FROM roles WHERE organization_id = $1 AND LOWER(name) = LOWER($2) AND id <> $3";
    if change.query_one(sql, &values![organization_id, name, own_id]).await?.is_some() {
        return Err(AccountsError::Conflict("the organization has a role of this name".into()));
    }
    Ok(())
}

async fn set_codes(
    change: &mut Change<'_>,
    role_id: &str,
    codes: &[String],
    now: chrono::DateTime<chrono::Utc>,
) -> Result<(), AccountsError> {
    change.execute("DELETE FROM role_permissions WHERE role_id = $1", &values![role_id]).await?;
    let insert = format!("{INSERT_CODE} DO NOTHING");
    for code in codes {
        // A wildcard or a code of a plugin that is not loaded: kept, but not shown in the catalogue.
        change.execute(&insert, &code_row(code, code, false, now)).await?;
        let sql =
            "INSERT INTO role_permissions (role_id, permission_id) SELECT $1, id FROM permissions WHERE code = $2";
        change.execute(sql, &values![role_id, code]).await?;
    }
    Ok(())
}

/// The member `permissions`: codes and wildcards, each once.
fn codes(fields: &mut Fields) -> Option<Vec<String>> {
    let sent = fields.array("permissions", CODES_MAX)?;
    let mut codes = Vec::with_capacity(sent.len());
    for (index, code) in sent.iter().enumerate() {
        match code.as_str() {
            Some(code) if is_code(code) => codes.push(code.to_owned()),
            _ => fields.fault(&format!("permissions[{index}]"), "must be module.resource.action or a wildcard of it"),
        }
    }
    codes.sort_unstable();
    codes.dedup();
    Some(codes)
}

/// Whether a text is a code or a wildcard: `*`, `module.*`, `module.resource.*`, `module.resource.action`.
pub(super) fn is_code(text: &str) -> bool {
    let is_word = |word: &str| {
        !word.is_empty()
            && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'))
    };
    let segments: Vec<&str> = text.split('.').collect();
    text.len() <= CODE_CHARACTERS_MAX
        && match segments.as_slice() {
            ["*"] => true,
            [module, "*"] => is_word(module),
            [module, resource, "*"] => is_word(module) && is_word(resource),
            [module, resource, action] => is_word(module) && is_word(resource) && is_word(action),
            _ => false,
        }
}

async fn tell(
    change: &mut Change<'_>,
    kind: &'static str,
    organization_id: &str,
    user_id: &str,
    role_id: &str,
    changes: Json,
) -> Result<(), AccountsError> {
    change.tell(kind, "role", organization_id, Some(user_id), role_id, changes).await
}

fn to_json(row: &Row) -> Result<Json, DatabaseError> {
    Ok(json!({
        "id": row.text("id")?,
        "organizationId": row.optional_text("organization_id")?,
        "name": row.text("name")?,
        "description": row.optional_text("description")?,
        "isSystemRole": row.boolean("is_system_role")?,
        "isCustomRole": row.boolean("is_custom_role")?,
        "isSuperAdmin": row.boolean("is_super_admin")?,
        "createdByUserId": row.optional_text("created_by_user_id")?,
        "createdAt": timestamp(row, "created_at")?,
        "updatedAt": timestamp(row, "updated_at")?,
        "version": row.integer("version")?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_three_segments_or_end_in_a_wildcard() {
        for good in ["*", "ai.*", "ai.models.*", "ai.models.read", "planning.change-set.read"] {
            assert!(is_code(good), "{good}");
        }
        for bad in ["", "ai", "ai.models", "*.read", "ai.*.read", "AI.models.read", "a.b.c.d", "a..c", "a.b.c*"] {
            assert!(!is_code(bad), "{bad}");
        }
        assert!(CODES.iter().all(|(code, _)| is_code(code)));
    }
}
