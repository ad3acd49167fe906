//! Invitations: a secret for one address, good once and for seven days.
//!
//! Only the holder of the invited address may use one. The secret is mailed, or handed to who invites when it cannot be,
//! so that it can be passed on; it is never stored and never shown again.

use chrono::{DateTime, Duration, Utc};
use serde_json::{Map, Value as Json, json};

use super::context::{Change, Context, created, new_id, no_content, ok};
use super::error::AccountsError;
use super::input::{Fields, Text};
use super::list::{Select, contains, page, show, timestamp};
use super::memberships::{self, Assignable, Joining, assignable};
use super::organizations::lock;
use super::token::{hash_of, random_secret};
use super::{Accounts, Reply};
use crate::capability::mail::Mail;
use crate::database::{Database, DatabaseError, Row, values};

/// The permission to invite people.
pub(super) const MANAGE: &str = "organizations.invitation.manage";
/// How long an invitation is good.
const VALID_FOR: Duration = Duration::days(7);
/// How often one may be sent again.
const RESENDS_MAX: i64 = 5;
/// Invitations in one bulk request.
const BULK_MAX: usize = 100;
/// The longest message, in characters.
const MESSAGE_CHARACTERS_MAX: usize = 500;
/// Expired invitations that one sweep closes.
const SWEPT_AT_ONCE_MAX: usize = 500;

/// What its list is sorted by: names in JSON with their columns.
pub(super) const SORTS: [(&str, &str); 3] =
    [("createdAt", "i.created_at"), ("email", "i.email"), ("expiresAt", "i.expires_at")];
pub(super) const STATUSES: [&str; 5] = ["pending", "accepted", "expired", "cancelled", "declined"];
const COLUMNS: &str = "i.id, i.organization_id, i.email, i.role_id, i.invited_by_user_id, i.message, i.status, i.expires_at, \
    i.accepted_at, i.resend_count, i.last_resent_at, i.cancelled_at, i.created_at, i.updated_at, i.version, r.name AS role_name";
const TABLES: &str = "invitations i JOIN roles r ON r.id = i.role_id";

/// `GET /api/organizations/{id}/invitations`
pub(super) async fn list(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let query = &context.query;
    let paging = query.paging(&SORTS, true)?;
    if query.get("status").is_some_and(|status| !STATUSES.contains(&status)) {
        return Err(AccountsError::field("status", format!("must be one of {}", STATUSES.join(", "))));
    }
    let now = context.accounts.now();
    // One whose time has passed is expired, whether or not a sweep has been there.
    let is_open = "i.status = 'pending' AND i.expires_at > ?";
    let is_expired = "(i.status = 'expired' OR i.status = 'pending' AND i.expires_at <= ?)";
    let status = query.get("status");
    let select = Select::new(COLUMNS, TABLES)
        .and("i.organization_id = ?", context.id("id")?)
        .and_if(is_open, (status == Some("pending")).then_some(now))
        .and_if(is_expired, (status == Some("expired")).then_some(now))
        .and_if("i.status = ?", status.filter(|status| !matches!(*status, "pending" | "expired")))
        .and_if("i.email LIKE ? ESCAPE '\\'", query.filter("search")?.map(contains));
    page(&context.accounts.database, select, &paging, |row| to_json(row, now)).await
}

/// One invitation that is wanted.
struct Wanted {
    email: String,
    role_id: String,
    message: Option<String>,
}

fn wanted(mut fields: Fields) -> Result<Wanted, AccountsError> {
    let wanted = Wanted {
        email: fields.required_email("email"),
        role_id: fields.required_id("roleId"),
        message: fields.text("message", Text::description(MESSAGE_CHARACTERS_MAX)),
    };
    fields.finish()?;
    Ok(wanted)
}

/// `POST /api/organizations/{id}/invitations`
pub(super) async fn create(context: &Context<'_>) -> Result<Reply, AccountsError> {
    Ok(created(invite(context, wanted(context.fields()?)?).await?))
}

/// `POST /api/organizations/{id}/invitations/bulk`
pub(super) async fn create_many(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let mut fields = context.fields()?;
    let items = fields.array("invitations", BULK_MAX);
    if items.as_ref().is_none_or(Vec::is_empty) {
        fields.fault("invitations", format!("must be an array of 1 to {BULK_MAX} invitations"));
    }
    fields.finish()?;
    let mut results = Vec::new();
    for item in items.unwrap_or_default() {
        let email = item.get("email").cloned().unwrap_or(Json::Null);
        let members = item.as_object().cloned().unwrap_or_else(Map::new);
        let invited = match wanted(Fields::of(members)) {
            Ok(wanted) => invite(context, wanted).await,
            Err(error) => Err(error),
        };
        results.push(match invited {
            Ok(invitation) => json!({ "email": email, "status": "created", "invitation": invitation }),
            Err(AccountsError::Validation(errors)) => {
                let errors: Vec<Json> =
                    errors.iter().map(|e| json!({ "field": e.field, "message": e.message })).collect();
                json!({ "email": email, "status": "failed", "code": "VALIDATION_ERROR", "errors": errors })
            }
            Err(AccountsError::Conflict(detail)) => {
                json!({ "email": email, "status": "failed", "code": "CONFLICT", "detail": detail })
            }
            Err(AccountsError::Forbidden(detail)) => {
                json!({ "email": email, "status": "failed", "code": "FORBIDDEN", "detail": detail })
            }
            Err(error) => return Err(error),
        });
    }
    Ok(ok(json!({ "results": results })))
}

async fn invite(context: &Context<'_>, wanted: Wanted) -> Result<Json, AccountsError> {
    let (organization_id, user_id) = (context.id("id")?, context.user_id()?);
    let (id, token, now) = (new_id(), random_secret(), context.accounts.now());
    let mut change = context.begin().await?;
    lock(&mut change, organization_id).await?;
    let role = assignable(&mut change, context.access()?, &wanted.role_id).await?;
    let member = change
        .query_one(
            "SELECT m.id FROM organization_memberships m JOIN users u ON u.id = m.user_id \
             WHERE m.organization_id = $1 AND u.email = $2 AND m.deleted_at IS NULL AND m.status <> 'invited'",
            &values![organization_id, &wanted.email],
        )
        .await?;
    if member.is_some() {
        return Err(AccountsError::Conflict("the address belongs to a member already".into()));
    }
    let changes = json!({ "replacedBy": id });
    withdraw(&mut change, organization_id, &wanted.email, Some(user_id), &changes, now).await?;
    change
        .execute(
            "INSERT INTO invitations (id, organization_id, email, role_id, token_hash, invited_by_user_id, message, status, \
                 expires_at, resend_count, created_by, created_at, updated_at, version) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, 'pending', $8, 0, $6, $9, $9, 1)",
            &values![
                &id,
                organization_id,
                &wanted.email,
                &role.id,
                hash_of(&token),
                user_id,
                wanted.message,
                now + VALID_FOR,
                now
            ],
        )
        .await?;
    let data = json!({ "email": wanted.email, "roleId": role.id, "roleName": role.name });
    tell(&mut change, "invitation.created", organization_id, user_id, &id, data).await?;
    let row = find(&mut change, organization_id, &id).await?;
    change.commit().await?;
    Ok(deliver(context, to_json(&row, now)?, &wanted.email, token).await)
}

/// Cancels what is open of an organization's invitations to an address; `changes` says why. The organization must be
/// locked.
pub(super) async fn withdraw(
    change: &mut Change<'_>,
    organization_id: &str,
    email: &str,
    by: Option<&str>,
    changes: &Json,
    now: DateTime<Utc>,
) -> Result<(), AccountsError> {
    let open = change
        .query(
            "UPDATE invitations SET status = 'cancelled', cancelled_at = $3, updated_at = $3, version = version + 1 \
             WHERE organization_id = $1 AND email = $2 AND status = 'pending' RETURNING id",
            &values![organization_id, email, now],
        )
        .await?;
    for row in &open {
        let id = row.text("id")?;
        change.tell("invitation.revoked", "invitation", organization_id, by, &id, changes.clone()).await?;
    }
    Ok(())
}

/// `POST /api/organizations/{id}/invitations/{iid}/resend`; the secret sent before is worth nothing afterwards.
pub(super) async fn resend(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let (organization_id, id, user_id) = (context.id("id")?, context.id("iid")?, context.user_id()?);
    let (token, now) = (random_secret(), context.accounts.now());
    let mut change = context.begin().await?;
    lock(&mut change, organization_id).await?;
    let row = find(&mut change, organization_id, id).await?;
    require_pending(&row)?;
    // Who sends it again hands the role out, is the one whose rights count from now on, and may be given the secret to pass on.
    assignable(&mut change, context.access()?, &row.text("role_id")?).await?;
    if row.integer("resend_count")? >= RESENDS_MAX {
        let rest = (row.timestamp("expires_at")? - now).num_seconds().max(1).unsigned_abs();
        return Err(AccountsError::RateLimited { retry_after_seconds: rest });
    }
    change
        .execute(
            "UPDATE invitations SET token_hash = $2, expires_at = $3, resend_count = resend_count + 1, last_resent_at = $4, \
                 invited_by_user_id = $5, updated_at = $4, version = version + 1 WHERE id = $1",
            &values![id, hash_of(&token), now + VALID_FOR, now, user_id],
        )
        .await?;
    change.audit(Some(organization_id), "invitation.resent", ("invitation", id), json!({ "by": user_id })).await?;
    let row = find(&mut change, organization_id, id).await?;
    change.commit().await?;
    let email = row.text("email")?;
    Ok(ok(deliver(context, to_json(&row, now)?, &email, token).await))
}

/// `DELETE /api/organizations/{id}/invitations/{iid}`
pub(super) async fn cancel(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let (organization_id, id, user_id) = (context.id("id")?, context.id("iid")?, context.user_id()?);
    let mut change = context.begin().await?;
    lock(&mut change, organization_id).await?;
    let row = find(&mut change, organization_id, id).await?;
    context.if_match(row.integer("version")?)?;
    require_pending(&row)?;
    close(&mut change, id, "cancelled", None, context.accounts.now()).await?;
    tell(&mut change, "invitation.revoked", organization_id, user_id, id, Json::Null).await?;
    change.commit().await?;
    Ok(no_content())
}

/// `GET /api/invitations/{token}`: what the invited person may see before signing in.
pub(super) async fn preview(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let sql = "SELECT i.status, i.expires_at, i.email, i.message, o.name AS organization_name, o.slug, o.logo_url, \
             r.name AS role_name, u.name AS inviter_name \
         FROM invitations i JOIN organizations o ON o.id = i.organization_id AND o.deleted_at IS NULL \
             JOIN roles r ON r.id = i.role_id LEFT JOIN users u ON u.id = i.invited_by_user_id \
         WHERE i.token_hash = $1";
    let row = context.accounts.database.query_one(sql, &values![hash_of(context.parameter("token"))]).await?;
    let row = row.ok_or(AccountsError::NotFound("invitation"))?;
    require_usable(&row, context.accounts.now())?;
    Ok(ok(json!({
        "email": row.text("email")?,
        "message": row.optional_text("message")?,
        "organization": {
            "name": row.text("organization_name")?,
            "slug": row.text("slug")?,
            "logoUrl": row.optional_text("logo_url")?,
        },
        "roleName": row.text("role_name")?,
        "invitedByName": row.optional_text("inviter_name")?,
        "expiresAt": timestamp(&row, "expires_at")?,
        "status": "pending",
    })))
}

/// `POST /api/invitations/{token}/accept`
pub(super) async fn accept(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let user_id = context.user_id()?;
    let email = own_email(context).await?;
    let mut change = context.begin().await?;
    let organization_id = accept_in(&mut change, context.accounts, context.parameter("token"), user_id, &email).await?;
    change.commit().await?;
    Ok(ok(json!({ "accepted": true, "organizationId": organization_id })))
}

/// Uses an invitation within a change. Returns the organization that was joined.
pub(super) async fn accept_in(
    change: &mut Change<'_>,
    accounts: &Accounts,
    token: &str,
    user_id: &str,
    email: &str,
) -> Result<String, AccountsError> {
    let now = accounts.now();
    let row = find_by_token(change, token).await?;
    let organization_id = row.text("organization_id")?;
    let limit = lock(change, &organization_id).await?;
    // Read again under the lock: of two that accept at once only one may.
    let row = find_by_token(change, token).await?;
    require_usable(&row, now)?;
    if row.text("email")? != email {
        return Err(AccountsError::Forbidden("the invitation is for another e-mail address".into()));
    }
    let (id, by) = (row.text("id")?, row.text("invited_by_user_id")?);
    if !memberships::may_still_give(change, &organization_id, &by, &row.text("role_id")?, now).await? {
        return Err(AccountsError::Gone("who sent the invitation may not give this role any more: ask for another"));
    }
    let role = Assignable { id: row.text("role_id")?, name: row.text("role_name")?, is_super_admin: false };
    let joining = Joining { user_id, organization_id: &organization_id, role: &role, by: Some(&by), limit };
    memberships::join(change, accounts, joining).await?;
    close(change, &id, "accepted", Some(user_id), now).await?;
    tell(change, "invitation.accepted", &organization_id, user_id, &id, json!({ "userId": user_id })).await?;
    Ok(organization_id)
}

/// `POST /api/invitations/{token}/decline`
pub(super) async fn decline(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let (user_id, now) = (context.user_id()?, context.accounts.now());
    let email = own_email(context).await?;
    let mut change = context.begin().await?;
    let row = find_by_token(&mut change, context.parameter("token")).await?;
    let organization_id = row.text("organization_id")?;
    lock(&mut change, &organization_id).await?;
    let row = find_by_token(&mut change, context.parameter("token")).await?;
    require_usable(&row, now)?;
    if row.text("email")? != email {
        return Err(AccountsError::Forbidden("the invitation is for another e-mail address".into()));
    }
    let id = row.text("id")?;
    close(&mut change, &id, "declined", Some(user_id), now).await?;
    change.audit(Some(&organization_id), "invitation.declined", ("invitation", &id), Json::Null).await?;
    change.commit().await?;
    Ok(ok(json!({ "declined": true })))
}

/// Closes invitations whose time has passed. Returns how many.
pub(super) async fn sweep(
    database: &Database,
    queue: &crate::capability::queue::QueueRoom,
    now: DateTime<Utc>,
) -> Result<usize, AccountsError> {
    let mut transaction = database.begin().await?;
    let sql = format!(
        "UPDATE invitations SET status = 'expired', updated_at = $1, version = version + 1 WHERE id IN (\
             SELECT id FROM invitations WHERE status = 'pending' AND expires_at <= $1 ORDER BY expires_at \
             LIMIT {SWEPT_AT_ONCE_MAX}) RETURNING id, organization_id, email"
    );
    let rows = transaction.query(&sql, &values![now]).await?;
    for row in &rows {
        let (id, organization_id) = (row.text("id")?, row.text("organization_id")?);
        let data = json!({ "invitationId": id, "organizationId": organization_id, "email": row.text("email")? });
        let mut message = crate::capability::queue::OutgoingMessage::event("invitation.expired", &data);
        message.organization_id = Some(organization_id);
        message.key = Some(id);
        queue.publish_in(&mut transaction, message).await?;
    }
    transaction.commit().await?;
    queue.wake();
    Ok(rows.len())
}

async fn own_email(context: &Context<'_>) -> Result<String, AccountsError> {
    let sql = "SELECT email FROM users WHERE id = $1";
    let row = context.accounts.database.query_one(sql, &values![context.user_id()?]).await?;
    Ok(row.ok_or(AccountsError::NotFound("user"))?.text("email")?)
}

async fn close(
    change: &mut Change<'_>,
    id: &str,
    status: &str,
    user_id: Option<&str>,
    now: DateTime<Utc>,
) -> Result<(), AccountsError> {
    let is_accepted = status == "accepted";
    change
        .execute(
            "UPDATE invitations SET status = $2, accepted_at = $3, cancelled_at = $4, invited_user_id = $5, updated_at = $6, \
                 version = version + 1 WHERE id = $1",
            &values![id, status, is_accepted.then_some(now), (status == "cancelled").then_some(now), user_id, now],
        )
        .await?;
    Ok(())
}

async fn find(change: &mut Change<'_>, organization_id: &str, id: &str) -> Result<Row, AccountsError> {
    let sql = format!("SELECT {COLUMNS} FROM {TABLES} WHERE i.id = $1 AND i.organization_id = $2");
    change.query_one(&sql, &values![id, organization_id]).await?.ok_or(AccountsError::NotFound("invitation"))
}

async fn find_by_token(change: &mut Change<'_>, token: &str) -> Result<Row, AccountsError> {
    let sql = format!("SELECT {COLUMNS} FROM {TABLES} WHERE i.token_hash = $1");
    change.query_one(&sql, &values![hash_of(token)]).await?.ok_or(AccountsError::NotFound("invitation"))
}

fn require_pending(row: &Row) -> Result<(), AccountsError> {
    let status = row.text("status")?;
    if status == "pending" { Ok(()) } else { Err(AccountsError::Conflict(format!("the invitation is {status}"))) }
}

fn require_usable(row: &Row, now: DateTime<Utc>) -> Result<(), AccountsError> {
    if row.text("status")? != "pending" {
        return Err(AccountsError::Gone("the invitation was used or withdrawn"));
    }
    if row.timestamp("expires_at")? <= now {
        return Err(AccountsError::Gone("the invitation has expired"));
    }
    Ok(())
}

async fn tell(
    change: &mut Change<'_>,
    kind: &'static str,
    organization_id: &str,
    user_id: &str,
    id: &str,
    changes: Json,
) -> Result<(), AccountsError> {
    change.tell(kind, "invitation", organization_id, Some(user_id), id, changes).await
}

/// Mails the secret to the invited address. When it cannot be mailed, who invites gets it, to pass it on.
async fn deliver(context: &Context<'_>, mut invitation: Json, email: &str, token: String) -> Json {
    let accounts = context.accounts;
    let link = accounts.link("invitation", &token);
    let mail = Mail {
        to: vec![email.to_owned()],
        subject: "You are invited".to_owned(),
        text: format!("You are invited to join an organization.\n\nAccept within seven days:\n{link}"),
        ..Mail::default()
    };
    let is_sent = accounts.mail.is_configured()
        && accounts
            .mail
            .send(mail)
            .await
            .inspect_err(|error| tracing::warn!(%error, "an invitation was not mailed"))
            .is_ok();
    if let Some(members) = invitation.as_object_mut() {
        members.insert("mailSent".into(), is_sent.into());
        if !is_sent {
            members.insert("token".into(), token.into());
        }
    }
    invitation
}

fn to_json(row: &Row, now: DateTime<Utc>) -> Result<Json, DatabaseError> {
    let (status, expires_at) = (row.text("status")?, row.timestamp("expires_at")?);
    let is_over = status == "pending" && expires_at <= now;
    Ok(json!({
        "id": row.text("id")?,
        "organizationId": row.text("organization_id")?,
        "email": row.text("email")?,
        "roleId": row.text("role_id")?,
        "roleName": row.text("role_name")?,
        "invitedByUserId": row.text("invited_by_user_id")?,
        "message": row.optional_text("message")?,
        "status": if is_over { "expired" } else { status.as_str() },
        "expiresAt": show(expires_at),
        "acceptedAt": timestamp(row, "accepted_at")?,
        "resendCount": row.integer("resend_count")?,
        "lastResentAt": timestamp(row, "last_resent_at")?,
        "cancelledAt": timestamp(row, "cancelled_at")?,
        "createdAt": timestamp(row, "created_at")?,
        "updatedAt": timestamp(row, "updated_at")?,
        "version": row.integer("version")?,
    }))
}
