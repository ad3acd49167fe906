//! Organizations: made with their system roles and a first Super Admin, read and changed only by their members.
//!
//! An organization the caller is no active member of does not exist for the caller.

use serde_json::{Map, Value as Json, json};

use super::access::{SUPER_ADMIN, SYSTEM_ROLES};
use super::context::{Change, Context, Event, created, entity_reply, new_id, no_content, ok};
use super::error::AccountsError;
use super::input::{Fields, Text, slug_from};
use super::list::{Select, contains, page, timestamp};
use super::{Accounts, Reply};
use crate::database::{DatabaseError, Row, values};

/// The most members a limit can name.
const MEMBER_LIMIT_MAX: i64 = 1_000_000;
/// The longest description, in characters.
const DESCRIPTION_CHARACTERS_MAX: usize = 1_000;
/// The longest URL, in characters.
pub(super) const URL_CHARACTERS_MAX: usize = 2_048;
/// The largest settings document, in bytes.
const SETTINGS_BYTES_MAX: usize = 64 * 1_024;
/// How many slugs are tried for a name before giving up.
const SLUG_ATTEMPTS_MAX: usize = 5;
/// The fact that names the operator organization.
pub(super) const OPERATOR_FACT: &str = "operator_organization";

const COLUMNS: &str = "o.id, o.name, o.slug, o.description, o.logo_url, o.owner_user_id, o.is_active, o.member_limit, \
    o.created_at, o.updated_at, o.version";

/// What a new organization is to be.
pub(super) struct NewOrganization {
    pub name: String,
    /// Made from the name when absent.
    pub slug: Option<String>,
    pub description: Option<String>,
    pub logo_url: Option<String>,
}

/// What has been made.
pub(super) struct Made {
    pub id: String,
    pub is_operator: bool,
}

/// Makes an organization, its system roles, and its first Super Admin. The first one of an installation becomes the
/// operator's.
pub(super) async fn make(
    change: &mut Change<'_>,
    accounts: &Accounts,
    owner_id: &str,
    new: NewOrganization,
) -> Result<Made, AccountsError> {
    let (id, now) = (new_id(), accounts.now());
    let slug = insert(change, &id, owner_id, &new, now).await?;
    let super_admin_role_id = insert_system_roles(change, &id, owner_id, now).await?;
    let membership_id = new_id();
    change
        .execute(
            "INSERT INTO organization_memberships (id, user_id, organization_id, role_id, status, joined_at, created_by, \
                 created_at, updated_at, version) VALUES ($1, $2, $3, $4, 'active', $5, $2, $5, $5, 1)",
            &values![&membership_id, owner_id, &id, &super_admin_role_id, now],
        )
        .await?;
    // Two first registrations at once: the row decides which of them it was.
    let is_operator = change
        .execute(
            "INSERT INTO berth_facts (name, value, created_at) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING",
            &values![OPERATOR_FACT, &id, now],
        )
        .await?
        == 1;
    let organization = Some(id.as_str());
    let data = json!({ "organizationId": id, "name": new.name, "slug": slug, "ownerUserId": owner_id });
    change
        .event(Event {
            kind: "organization.created",
            organization_id: organization,
            user_id: Some(owner_id),
            key: &id,
            data,
        })
        .await?;
    let data = json!({ "organizationId": id, "userId": owner_id, "membershipId": membership_id, "roleId": super_admin_role_id });
    change
        .event(Event {
            kind: "organization.member_joined",
            organization_id: organization,
            user_id: Some(owner_id),
            key: &id,
            data,
        })
        .await?;
    let changes = json!({ "name": new.name, "slug": slug });
    change.audit_as(Some(owner_id), organization, "organization.created", ("organization", &id), changes).await?;
    Ok(Made { id, is_operator })
}

async fn insert(
    change: &mut Change<'_>,
    id: &str,
    owner_id: &str,
    new: &NewOrganization,
    now: chrono::DateTime<chrono::Utc>,
) -> Result<String, AccountsError> {
    let base = new.slug.clone().unwrap_or_else(|| slug_from(&new.name));
    let mut slug = base.clone();
    for _ in 0..SLUG_ATTEMPTS_MAX {
        let inserted = change
            .execute(
                "INSERT INTO organizations (id, name, slug, description, logo_url, owner_user_id, is_active, settings, \
                     created_by, created_at, updated_at, version) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $6, $9, $9, 1) ON CONFLICT (slug) DO NOTHING",
                &values![
                    id,
                    new.name.as_str(),
                    slug.as_str(),
                    new.description.clone(),
                    new.logo_url.clone(),
                    owner_id,
                    true,
                    json!({}),
                    now
                ],
            )
            .await?;
        if inserted == 1 {
            return Ok(slug);
        }
        if new.slug.is_some() {
            break;
        }
        slug = format!("{base}-{}", hex::encode(rand::random::<[u8; 4]>()));
    }
    Err(AccountsError::Conflict("the slug is taken".into()))
}

/// Returns the id of the Super Admin role.
async fn insert_system_roles(
    change: &mut Change<'_>,
    organization_id: &str,
    owner_id: &str,
    now: chrono::DateTime<chrono::Utc>,
) -> Result<String, AccountsError> {
    let mut super_admin = String::new();
    for (name, description, is_super_admin) in SYSTEM_ROLES {
        let id = new_id();
        change
            .execute(
                "INSERT INTO roles (id, organization_id, name, description, is_system_role, is_custom_role, is_super_admin, \
                     created_by_user_id, created_by, created_at, updated_at, version) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9, $9, 1)",
                &values![&id, organization_id, name, description, true, false, is_super_admin, owner_id, now],
            )
            .await?;
        if name == SUPER_ADMIN {
            super_admin = id;
        }
    }
    Ok(super_admin)
}

/// Takes the organization's row for this transaction, so that what is counted stays true until the commit.
/// Returns its member limit.
pub(super) async fn lock(change: &mut Change<'_>, id: &str) -> Result<Option<i64>, AccountsError> {
    let row = change
        .query_one(
            "UPDATE organizations SET updated_at = updated_at WHERE id = $1 AND deleted_at IS NULL RETURNING member_limit",
            &values![id],
        )
        .await?;
    Ok(row.ok_or(AccountsError::NotFound("organization"))?.optional_integer("member_limit")?)
}

/// An organization as the API shows it.
pub(super) async fn read_json(accounts: &Accounts, id: &str) -> Result<Json, AccountsError> {
    let sql = format!("SELECT {COLUMNS} FROM organizations o WHERE o.id = $1 AND o.deleted_at IS NULL");
    let row = accounts.database.query_one(&sql, &values![id]).await?.ok_or(AccountsError::NotFound("organization"))?;
    Ok(to_json(&row)?)
}

pub(super) fn to_json(row: &Row) -> Result<Json, DatabaseError> {
    Ok(json!({
        "id": row.text("id")?,
        "name": row.text("name")?,
        "slug": row.text("slug")?,
        "description": row.optional_text("description")?,
        "logoUrl": row.optional_text("logo_url")?,
        "ownerUserId": row.text("owner_user_id")?,
        "isActive": row.boolean("is_active")?,
        "memberLimit": row.optional_integer("member_limit")?,
        "createdAt": timestamp(row, "created_at")?,
        "updatedAt": timestamp(row, "updated_at")?,
        "version": row.integer("version")?,
    }))
}

/// What its list is sorted by: names in JSON with their columns.
pub(super) const SORTS: [(&str, &str); 3] = [("name", "o.name"), ("createdAt", "o.created_at"), ("slug", "o.slug")];

/// `GET /api/organizations`
pub(super) async fn list(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let query = &context.query;
    let paging = query.paging(&SORTS, false)?;
    let select = Select::new(
        "o.id, o.name, o.slug, o.description, o.logo_url, o.owner_user_id, o.is_active, o.member_limit, \
         o.created_at, o.updated_at, o.version, m.role_id, r.name AS role_name",
        "organizations o JOIN organization_memberships m ON m.organization_id = o.id JOIN roles r ON r.id = m.role_id",
    )
    .and("m.user_id = ?", context.user_id()?)
    .and_sql("m.status = 'active' AND m.deleted_at IS NULL AND o.deleted_at IS NULL")
    .and("(m.expires_at IS NULL OR m.expires_at > ?)", context.accounts.now())
    .and_if("LOWER(o.name) LIKE ? ESCAPE '\\'", query.filter("search")?.map(contains));
    page(&context.accounts.database, select, &paging, |row| {
        let mut organization = to_json(row)?;
        if let Some(members) = organization.as_object_mut() {
            members.insert("roleId".into(), row.text("role_id")?.into());
            members.insert("roleName".into(), row.text("role_name")?.into());
        }
        Ok(organization)
    })
    .await
}

/// `POST /api/organizations`
pub(super) async fn create(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let user_id = context.user_id()?;
    let mut fields = context.fields()?;
    let new = NewOrganization {
        name: fields.required_text("name", Text::NAME),
        slug: fields.slug("slug"),
        description: fields.text("description", Text::description(DESCRIPTION_CHARACTERS_MAX)),
        logo_url: url(&mut fields, "logoUrl").flatten(),
    };
    fields.finish()?;
    let mut change = context.begin().await?;
    let made = make(&mut change, context.accounts, user_id, new).await?;
    change.commit().await?;
    context.accounts.note_operator(&made);
    Ok(created(read_json(context.accounts, &made.id).await?))
}

/// `GET /api/organizations/{id}`
pub(super) async fn read(context: &Context<'_>) -> Result<Reply, AccountsError> {
    Ok(entity_reply(read_json(context.accounts, context.id("id")?).await?))
}

/// `PUT /api/organizations/{id}`
pub(super) async fn update(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let id = context.id("id")?;
    let mut fields = context.fields()?;
    let name = fields.has("name").then(|| fields.required_text("name", Text::NAME));
    let slug = fields.has("slug").then(|| fields.slug("slug")).flatten();
    let description = fields.nullable_text("description", Text::description(DESCRIPTION_CHARACTERS_MAX));
    let logo_url = url(&mut fields, "logoUrl");
    let member_limit = fields.nullable_integer("memberLimit", 1, MEMBER_LIMIT_MAX);
    fields.finish()?;

    let mut change = context.begin().await?;
    lock(&mut change, id).await?;
    let sql = format!("SELECT {COLUMNS} FROM organizations o WHERE o.id = $1");
    let row = change.query_one(&sql, &values![id]).await?.ok_or(AccountsError::NotFound("organization"))?;
    context.if_match(row.integer("version")?)?;
    let before = to_json(&row)?;
    let slug = slug.unwrap_or(row.text("slug")?);
    if slug != row.text("slug")? {
        let taken = change.query_one("SELECT id FROM organizations WHERE slug = $1", &values![slug.as_str()]).await?;
        if taken.is_some() {
            return Err(AccountsError::Conflict("the slug is taken".into()));
        }
    }
    change
        .execute(
            "UPDATE organizations SET name = $2, slug = $3, description = $4, logo_url = $5, member_limit = $6, \
                 updated_at = $7, version = version + 1 WHERE id = $1",
            &values![
                id,
                name.unwrap_or(row.text("name")?),
                slug,
                description.unwrap_or(row.optional_text("description")?),
                logo_url.unwrap_or(row.optional_text("logo_url")?),
                member_limit.unwrap_or(row.optional_integer("member_limit")?),
                context.accounts.now(),
            ],
        )
        .await?;
    let row = change.query_one(&sql, &values![id]).await?.ok_or(AccountsError::NotFound("organization"))?;
    let after = to_json(&row)?;
    tell(&mut change, context, "organization.updated", id, differences(&before, &after)).await?;
    change.commit().await?;
    Ok(entity_reply(after))
}

/// `DELETE /api/organizations/{id}`
pub(super) async fn delete(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let (id, now) = (context.id("id")?, context.accounts.now());
    if context.accounts.operator_organization().await?.is_some_and(|operator| *operator == *id) {
        return Err(AccountsError::Conflict("the operator organization cannot be deleted".into()));
    }
    let mut change = context.begin().await?;
    lock(&mut change, id).await?;
    let row = change.query_one("SELECT version FROM organizations WHERE id = $1", &values![id]).await?;
    context.if_match(row.ok_or(AccountsError::NotFound("organization"))?.integer("version")?)?;
    change
        .execute(
            "UPDATE organizations SET deleted_at = $2, is_active = $3, updated_at = $2, version = version + 1 WHERE id = $1",
            &values![id, now, false],
        )
        .await?;
    tell(&mut change, context, "organization.deleted", id, Json::Null).await?;
    change.touch(id);
    change.commit().await?;
    Ok(no_content())
}

/// `GET /api/organizations/{id}/settings`
pub(super) async fn read_settings(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let sql = "SELECT settings, version FROM organizations WHERE id = $1 AND deleted_at IS NULL";
    let row = context.accounts.database.query_one(sql, &values![context.id("id")?]).await?;
    settings_reply(&row.ok_or(AccountsError::NotFound("organization"))?)
}

/// `PUT /api/organizations/{id}/settings`
pub(super) async fn update_settings(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let id = context.id("id")?;
    let sent = context.fields()?.into_members();
    let mut change = context.begin().await?;
    lock(&mut change, id).await?;
    let sql = "SELECT settings, version FROM organizations WHERE id = $1";
    let row = change.query_one(sql, &values![id]).await?.ok_or(AccountsError::NotFound("organization"))?;
    context.if_match(row.integer("version")?)?;
    let mut settings: Map<String, Json> = row.json("settings")?;
    let names: Vec<String> = sent.keys().cloned().collect();
    for (name, value) in sent {
        match value {
            Json::Null => settings.remove(&name),
            value => settings.insert(name, value),
        };
    }
    let settings = Json::Object(settings);
    if settings.to_string().len() > SETTINGS_BYTES_MAX {
        return Err(AccountsError::field(
            "body",
            format!("the settings must be at most {SETTINGS_BYTES_MAX} bytes of JSON"),
        ));
    }
    change
        .execute(
            "UPDATE organizations SET settings = $2, updated_at = $3, version = version + 1 WHERE id = $1",
            &values![id, settings, context.accounts.now()],
        )
        .await?;
    // The names only: a setting's value may be nobody else's business.
    tell(&mut change, context, "organization.settings_updated", id, json!({ "names": names })).await?;
    let row = change.query_one(sql, &values![id]).await?.ok_or(AccountsError::NotFound("organization"))?;
    change.commit().await?;
    settings_reply(&row)
}

/// `GET /api/organizations/{id}/member-count`
pub(super) async fn member_count(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let sql = "SELECT o.member_limit, (SELECT COUNT(*) FROM organization_memberships m WHERE m.organization_id = o.id \
             AND m.status = 'active' AND m.deleted_at IS NULL) AS members \
         FROM organizations o WHERE o.id = $1 AND o.deleted_at IS NULL";
    let row = context.accounts.database.query_one(sql, &values![context.id("id")?]).await?;
    let row = row.ok_or(AccountsError::NotFound("organization"))?;
    Ok(ok(json!({ "count": row.integer("members")?, "limit": row.optional_integer("member_limit")? })))
}

impl Accounts {
    /// Remembers that the operator organization exists now.
    pub(super) fn note_operator(&self, made: &Made) {
        if made.is_operator {
            // Set before only by another start-up that read the same row.
            let _ = self.operator_organization.set(made.id.as_str().into());
        }
    }
}

/// One event and one audit row about the organization itself.
async fn tell(
    change: &mut Change<'_>,
    context: &Context<'_>,
    kind: &'static str,
    id: &str,
    changes: Json,
) -> Result<(), AccountsError> {
    let by = context.caller.principal.user_id.as_deref();
    change.tell(kind, "organization", id, by, id, changes).await
}

/// The members that differ, by name, with what they became.
pub(super) fn differences(before: &Json, after: &Json) -> Json {
    let changed = after.as_object().into_iter().flatten().filter(|(name, value)| {
        !matches!(name.as_str(), "updatedAt" | "version") && before.get(name.as_str()) != Some(*value)
    });
    Json::Object(changed.map(|(name, value)| (name.clone(), value.clone())).collect())
}

fn settings_reply(row: &Row) -> Result<Reply, AccountsError> {
    let settings: Json = row.json("settings")?;
    let tagged = entity_reply(json!({ "version": row.integer("version")? }));
    Ok(Reply { body: Some(settings), ..tagged })
}

/// A web address that a merge may leave alone or clear.
pub(super) fn url(fields: &mut Fields, name: &str) -> Option<Option<String>> {
    let rule = Text { characters_min: 0, characters_max: URL_CHARACTERS_MAX, is_title: false, is_multiline: false };
    let url = fields.nullable_text(name, rule)?;
    let url = url.filter(|url| !url.is_empty());
    if url.as_deref().is_some_and(|url| !url.starts_with("https://") && !url.starts_with("http://")) {
        fields.fault(name, "must be a URL that starts with https:// or http://");
    }
    Some(url)
}
