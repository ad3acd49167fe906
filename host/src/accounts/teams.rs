//! Teams of an organization and their members.
//!
//! A team's members must be active members of its organization, and a team is never its own ancestor.

use serde_json::{Value as Json, json};

use super::Reply;
use super::context::{Change, Context, created, entity_reply, new_id, no_content, ok};
use super::error::AccountsError;
use super::input::{Fields, Text, slug_from};
use super::list::{Select, contains, page, timestamp};
use super::organizations::{differences, lock};
use crate::database::{DatabaseError, Row, values};

/// Members added in one request.
const ADDED_MAX: usize = 200;
/// How deep teams nest.
const DEPTH_MAX: usize = 10;
/// The longest description, in characters.
/// What somebody may be in a team.
pub(super) const ROLES: [&str; 2] = ["maintainer", "member"];
const DESCRIPTION_CHARACTERS_MAX: usize = 1_000;

const COLUMNS: &str = "t.id, t.organization_id, t.name, t.slug, t.description, t.parent_team_id, t.created_at, t.updated_at, \
    t.version, (SELECT COUNT(*) FROM team_members tm WHERE tm.team_id = t.id) AS member_count";

/// What its list is sorted by: names in JSON with their columns.
pub(super) const SORTS: [(&str, &str); 3] = [("name", "t.name"), ("createdAt", "t.created_at"), ("slug", "t.slug")];

/// `GET /api/teams`
pub(super) async fn list(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let query = &context.query;
    let paging = query.paging(&SORTS, false)?;
    let member = match query.filter("mine")? {
        Some("true") => Some(context.user_id()?),
        None | Some("false") => None,
        Some(_) => return Err(AccountsError::field("mine", "must be true or false")),
    };
    if query.get("role").is_some_and(|role| !ROLES.contains(&role)) {
        return Err(AccountsError::field("role", format!("must be one of {}", ROLES.join(", "))));
    }
    let select = Select::new(COLUMNS, "teams t")
        .and("t.organization_id = ?", context.organization_id()?)
        .and_if("EXISTS (SELECT 1 FROM team_members tm WHERE tm.team_id = t.id AND tm.user_id = ?)", member)
        .and_if(
            "EXISTS (SELECT 1 FROM team_members tm WHERE tm.team_id = t.id AND tm.user_id = ? AND tm.role = 'maintainer')",
            member.filter(|_| query.filter("role").is_ok_and(|role| role == Some("maintainer"))),
        )
        .and_if("t.parent_team_id = ?", query.filter("parentTeamId")?)
        .and_if("LOWER(t.name) LIKE ? ESCAPE '\\'", query.filter("search")?.map(contains));
    page(&context.accounts.database, select, &paging, to_json).await
}

/// `GET /api/users/me/teams`
pub(super) async fn list_own(context: &Context<'_>) -> Result<Reply, AccountsError> {
    list_of(context, context.user_id()?).await
}

/// `GET /api/users/{id}/teams`: of a member of the organization.
pub(super) async fn list_of_user(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let user_id = context.id("id")?;
    let sql =
        "SELECT id FROM organization_memberships WHERE user_id = $1 AND organization_id = $2 AND deleted_at IS NULL";
    let member = context.accounts.database.query_one(sql, &values![user_id, context.organization_id()?]).await?;
    member.ok_or(AccountsError::NotFound("user"))?;
    list_of(context, user_id).await
}

async fn list_of(context: &Context<'_>, user_id: &str) -> Result<Reply, AccountsError> {
    let paging = context.query.paging(&SORTS, false)?;
    let select = Select::new(COLUMNS, "teams t")
        .and("t.organization_id = ?", context.organization_id()?)
        .and("EXISTS (SELECT 1 FROM team_members own WHERE own.team_id = t.id AND own.user_id = ?)", user_id);
    page(&context.accounts.database, select, &paging, to_json).await
}

/// `GET /api/teams/{id}`
pub(super) async fn read(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let (database, id) = (&context.accounts.database, context.id("id")?);
    let row = database.query_one(&find_sql(), &values![id, context.organization_id()?]).await?;
    let mut team = to_json(&row.ok_or(AccountsError::NotFound("team"))?)?;
    let sql = format!("{MEMBERS} LIMIT 1000");
    let members = database.query(&sql, &values![id]).await?;
    let members = members.iter().map(member_json).collect::<Result<Vec<_>, _>>()?;
    if let Some(fields) = team.as_object_mut() {
        fields.insert("members".into(), members.into());
    }
    Ok(entity_reply(team))
}

/// `POST /api/teams`
pub(super) async fn create(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let (organization_id, user_id) = (context.organization_id()?, context.user_id()?);
    let mut fields = context.fields()?;
    let name = fields.required_text("name", Text::NAME);
    let slug = fields.slug("slug");
    let description = fields.text("description", Text::description(DESCRIPTION_CHARACTERS_MAX));
    let parent = fields.id("parentTeamId");
    fields.finish()?;

    let (id, now) = (new_id(), context.accounts.now());
    let mut change = context.begin().await?;
    lock(&mut change, organization_id).await?;
    let slug = slug.unwrap_or_else(|| slug_from(&name));
    refuse_taken_slug(&mut change, organization_id, &slug, "").await?;
    if let Some(parent) = &parent {
        check_parent(&mut change, organization_id, &id, parent).await?;
    }
    change
        .execute(
            "INSERT INTO teams (id, organization_id, name, slug, description, parent_team_id, created_by, created_at, \
                 updated_at, version) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, 1)",
            &values![&id, organization_id, name.as_str(), &slug, description, parent, user_id, now],
        )
        .await?;
    tell(&mut change, "team.created", organization_id, user_id, &id, json!({ "name": name, "slug": slug })).await?;
    let row = find(&mut change, organization_id, &id).await?;
    change.commit().await?;
    Ok(created(to_json(&row)?))
}

/// `PUT /api/teams/{id}`
pub(super) async fn update(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let (organization_id, id, user_id) = (context.organization_id()?, context.id("id")?, context.user_id()?);
    let mut fields = context.fields()?;
    let name = fields.has("name").then(|| fields.required_text("name", Text::NAME));
    let slug = fields.slug("slug");
    let description = fields.nullable_text("description", Text::description(DESCRIPTION_CHARACTERS_MAX));
    let parent = fields.has("parentTeamId").then(|| fields.id("parentTeamId"));
    fields.finish()?;

    let mut change = context.begin().await?;
    lock(&mut change, organization_id).await?;
    let row = find(&mut change, organization_id, id).await?;
    context.if_match(row.integer("version")?)?;
    let before = to_json(&row)?;
    let slug = slug.unwrap_or(row.text("slug")?);
    refuse_taken_slug(&mut change, organization_id, &slug, id).await?;
    if let Some(Some(parent)) = &parent {
        check_parent(&mut change, organization_id, id, parent).await?;
    }
    change
        .execute(
            "UPDATE teams SET name = $2, slug = $3, description = $4, parent_team_id = $5, updated_at = $6, \
                 version = version + 1 WHERE id = $1",
            &values![
                id,
                name.unwrap_or(row.text("name")?),
                slug,
                description.unwrap_or(row.optional_text("description")?),
                parent.unwrap_or(row.optional_text("parent_team_id")?),
                context.accounts.now(),
            ],
        )
        .await?;
    let after = to_json(&find(&mut change, organization_id, id).await?)?;
    tell(&mut change, "team.updated", organization_id, user_id, id, differences(&before, &after)).await?;
    change.commit().await?;
    Ok(entity_reply(after))
}

/// `DELETE /api/teams/{id}`; the teams below move up to its parent.
pub(super) async fn delete(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let (organization_id, id, user_id) = (context.organization_id()?, context.id("id")?, context.user_id()?);
    let mut change = context.begin().await?;
    lock(&mut change, organization_id).await?;
    let row = find(&mut change, organization_id, id).await?;
    context.if_match(row.integer("version")?)?;
    change
        .execute(
            "UPDATE teams SET parent_team_id = $2, updated_at = $3, version = version + 1 WHERE parent_team_id = $1",
            &values![id, row.optional_text("parent_team_id")?, context.accounts.now()],
        )
        .await?;
    change.execute("DELETE FROM team_members WHERE team_id = $1", &values![id]).await?;
    change.execute("DELETE FROM teams WHERE id = $1", &values![id]).await?;
    tell(&mut change, "team.deleted", organization_id, user_id, id, json!({ "name": row.text("name")? })).await?;
    change.touch(organization_id);
    change.commit().await?;
    Ok(no_content())
}

/// `POST /api/teams/{id}/members`: `{userId,role}`, or several as `{members:[{userId,role}]}`. A known member gets the role.
pub(super) async fn add_members(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let (organization_id, id, user_id) = (context.organization_id()?, context.id("id")?, context.user_id()?);
    let added = wanted_members(context.fields()?)?;
    let now = context.accounts.now();
    let mut change = context.begin().await?;
    lock(&mut change, organization_id).await?;
    find(&mut change, organization_id, id).await?;
    for (member_id, role) in &added {
        let sql = "SELECT id FROM organization_memberships \
             WHERE user_id = $1 AND organization_id = $2 AND status = 'active' AND deleted_at IS NULL";
        if change.query_one(sql, &values![member_id, organization_id]).await?.is_none() {
            return Err(AccountsError::field("userId", "names no active member of the organization"));
        }
        change
            .execute(
                "INSERT INTO team_members (team_id, user_id, role, created_by, created_at) VALUES ($1, $2, $3, $4, $5) \
                 ON CONFLICT (team_id, user_id) DO UPDATE SET role = excluded.role",
                &values![id, member_id, *role, user_id, now],
            )
            .await?;
        change.touch(member_id);
    }
    let members: Vec<Json> = added.iter().map(|(user, role)| json!({ "userId": user, "role": role })).collect();
    tell(&mut change, "team.members_added", organization_id, user_id, id, json!({ "members": members })).await?;
    let rows = change.query(&format!("{MEMBERS} LIMIT 1000"), &values![id]).await?;
    change.commit().await?;
    let members = rows.iter().map(member_json).collect::<Result<Vec<_>, _>>()?;
    Ok(ok(json!({ "teamId": id, "members": members })))
}

/// `DELETE /api/teams/{id}/members/{userId}`
pub(super) async fn remove_member(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let (organization_id, id, user_id) = (context.organization_id()?, context.id("id")?, context.user_id()?);
    let member_id = context.id("userId")?;
    let mut change = context.begin().await?;
    find(&mut change, organization_id, id).await?;
    let sql = "DELETE FROM team_members WHERE team_id = $1 AND user_id = $2";
    if change.execute(sql, &values![id, member_id]).await? == 0 {
        return Err(AccountsError::NotFound("team member"));
    }
    tell(&mut change, "team.member_removed", organization_id, user_id, id, json!({ "userId": member_id })).await?;
    change.touch(member_id);
    change.commit().await?;
    Ok(no_content())
}

const MEMBERS: &str = "SELECT tm.user_id, tm.role, tm.created_at, u.email, u.name, u.avatar_url \
    FROM team_members tm JOIN users u ON u.id = tm.user_id WHERE tm.team_id = $1 AND u.deleted_at IS NULL ORDER BY tm.user_id";

fn wanted_members(mut fields: Fields) -> Result<Vec<(String, &'static str)>, AccountsError> {
    let Some(items) = fields.array("members", ADDED_MAX) else {
        let one = (fields.required_id("userId"), fields.one_of("role", &ROLES).unwrap_or("member"));
        fields.finish()?;
        return Ok(vec![one]);
    };
    let mut wanted = Vec::with_capacity(items.len());
    for (index, item) in items.into_iter().enumerate() {
        let Json::Object(members) = item else {
            fields.fault(&format!("members[{index}]"), "must be an object");
            continue;
        };
        let mut member = Fields::of(members);
        wanted.push((member.required_id("userId"), member.one_of("role", &ROLES).unwrap_or("member")));
        if let Err(AccountsError::Validation(errors)) = member.finish() {
            for error in errors {
                fields.fault(&format!("members[{index}].{}", error.field), error.message);
            }
        }
    }
    if wanted.is_empty() {
        fields.fault("members", "must not be empty");
    }
    fields.finish()?;
    Ok(wanted)
}

async fn refuse_taken_slug(
    change: &mut Change<'_>,
    organization_id: &str,
    slug: &str,
    own_id: &str,
) -> Result<(), AccountsError> {
    let sql = "SELECT id FROM teams WHERE organization_id = $1 AND slug = $2 AND id <> $3";
    if change.query_one(sql, &values![organization_id, slug, own_id]).await?.is_some() {
        return Err(AccountsError::Conflict("the organization has a team with this slug".into()));
    }
    Ok(())
}

/// The parent must be a team of the organization and not lie below the team itself.
async fn check_parent(
    change: &mut Change<'_>,
    organization_id: &str,
    id: &str,
    parent: &str,
) -> Result<(), AccountsError> {
    let mut ancestor = Some(parent.to_owned());
    for _ in 0..DEPTH_MAX {
        let Some(present) = ancestor else { return Ok(()) };
        if present == id {
            return Err(AccountsError::Conflict("a team cannot be below itself".into()));
        }
        let sql = "SELECT parent_team_id FROM teams WHERE id = $1 AND organization_id = $2";
        let row = change.query_one(sql, &values![&present, organization_id]).await?;
        let row = row.ok_or_else(|| AccountsError::field("parentTeamId", "names no team of this organization"))?;
        ancestor = row.optional_text("parent_team_id")?;
    }
    if ancestor.is_none() {
        Ok(())
    } else {
        Err(AccountsError::Conflict(format!("teams nest at most {DEPTH_MAX} deep")))
    }
}

fn find_sql() -> String {
    format!("SELECT {COLUMNS} FROM teams t WHERE t.id = $1 AND t.organization_id = $2")
}

async fn find(change: &mut Change<'_>, organization_id: &str, id: &str) -> Result<Row, AccountsError> {
    change.query_one(&find_sql(), &values![id, organization_id]).await?.ok_or(AccountsError::NotFound("team"))
}

async fn tell(
    change: &mut Change<'_>,
    kind: &'static str,
    organization_id: &str,
    user_id: &str,
    id: &str,
    changes: Json,
) -> Result<(), AccountsError> {
    change.tell(kind, "team", organization_id, Some(user_id), id, changes).await
}

fn to_json(row: &Row) -> Result<Json, DatabaseError> {
    Ok(json!({
        "id": row.text("id")?,
        "organizationId": row.text("organization_id")?,
        "name": row.text("name")?,
        "slug": row.text("slug")?,
        "description": row.optional_text("description")?,
        "parentTeamId": row.optional_text("parent_team_id")?,
        "memberCount": row.integer("member_count")?,
        "createdAt": timestamp(row, "created_at")?,
        "updatedAt": timestamp(row, "updated_at")?,
        "version": row.integer("version")?,
    }))
}

fn member_json(row: &Row) -> Result<Json, DatabaseError> {
    Ok(json!({
        "userId": row.text("user_id")?,
        "role": row.text("role")?,
        "email": row.text("email")?,
        "name": row.optional_text("name")?,
        "avatarUrl": row.optional_text("avatar_url")?,
        "addedAt": timestamp(row, "created_at")?,
    }))
}
