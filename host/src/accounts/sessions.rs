//! Sessions: families of refresh tokens. A token is good once; one that comes back a second time was stolen, and ends
//! the family.
//!
//! It must never store a refresh token, only its hash.

use chrono::{DateTime, Duration, Utc};
use serde_json::{Value as Json, json};

use super::Reply;
use super::context::{Change, Context, Event, new_id, no_content, ok};
use super::error::AccountsError;
use super::list::{Select, page, timestamp};
use super::token::{hash_of, random_secret};
use crate::database::{DatabaseError, Row, values};

/// How long a refresh token is good.
pub(super) const REFRESH_DAYS: i64 = 30;
/// Sessions a user may have at once; the one that was used longest ago gives way.
const SESSIONS_MAX: usize = 10;
/// Sessions that one sweep over a user's sessions ends; there are never more than `SESSIONS_MAX` but for races.
const REVOKED_AT_ONCE_MAX: usize = 1_000;

/// A session that begins.
pub(super) struct NewSession<'a> {
    pub user_id: &'a str,
    pub organization_id: Option<&'a str>,
    pub remember_me: bool,
}

/// What a client gets of a session.
pub(super) struct Opened {
    pub session_id: String,
    pub refresh_token: String,
}

/// A session that a refresh token is good for.
pub(super) struct Refreshable {
    pub session_id: String,
    pub user_id: String,
    pub organization_id: Option<String>,
    pub remember_me: bool,
}

/// Opens a session and ends the oldest one when there are too many.
pub(super) async fn open(
    change: &mut Change<'_>,
    context: &Context<'_>,
    new: NewSession<'_>,
) -> Result<Opened, AccountsError> {
    let now = context.accounts.now();
    let (session_id, refresh_token) = (new_id(), random_secret());
    change
        .execute(
            "INSERT INTO sessions (id, user_id, organization_id, refresh_token_hash, ip_address, user_agent, remember_me, \
                 expires_at, last_used_at, created_at, updated_at, version) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $9, 1)",
            &values![
                &session_id,
                new.user_id,
                new.organization_id,
                hash_of(&refresh_token),
                context.ip(),
                context.user_agent(),
                new.remember_me,
                now + Duration::days(REFRESH_DAYS),
                now,
            ],
        )
        .await?;
    let sql = format!(
        "UPDATE sessions SET revoked_at = $2, updated_at = $2, version = version + 1 WHERE id IN (\
             SELECT id FROM sessions WHERE user_id = $1 AND revoked_at IS NULL AND expires_at > $2 \
             ORDER BY last_used_at DESC, id DESC LIMIT {REVOKED_AT_ONCE_MAX} OFFSET {SESSIONS_MAX}) RETURNING id"
    );
    let ended = change.query(&sql, &values![new.user_id, now]).await?;
    announce(change, new.user_id, &ids(&ended)?, "too_many_sessions").await?;
    Ok(Opened { session_id, refresh_token })
}

/// The session of a refresh token, which stays good: what else may fail comes before [`rotate`].
///
/// # Errors
/// `ReauthenticationRequired` for a token that is good no more; one that was rotated already ends its family.
pub(super) async fn find(context: &Context<'_>, refresh_token: &str) -> Result<Refreshable, AccountsError> {
    let (now, hash) = (context.accounts.now(), hash_of(refresh_token));
    let sql = "SELECT id, user_id, organization_id, remember_me FROM sessions \
         WHERE refresh_token_hash = $1 AND revoked_at IS NULL AND expires_at > $2";
    let row = context.accounts.database.query_one(sql, &values![&hash, now]).await?;
    let Some(row) = row else { return Err(refuse(context.begin().await?, &hash, now).await?) };
    Ok(Refreshable {
        session_id: row.text("id")?,
        user_id: row.text("user_id")?,
        organization_id: row.optional_text("organization_id")?,
        remember_me: row.boolean("remember_me")?,
    })
}

/// Takes a refresh token and gives the next one.
///
/// # Errors
/// As [`find`]: another request may have taken it meanwhile.
pub(super) async fn rotate(context: &Context<'_>, refresh_token: &str) -> Result<String, AccountsError> {
    let now = context.accounts.now();
    let (old, fresh) = (hash_of(refresh_token), random_secret());
    let mut change = context.begin().await?;
    // One statement takes the token, so of two requests with the same one only one can win.
    let taken = change
        .query_one(
            "UPDATE sessions SET refresh_token_hash = $2, last_used_at = $3, expires_at = $4, updated_at = $3, \
                 version = version + 1 \
             WHERE refresh_token_hash = $1 AND revoked_at IS NULL AND expires_at > $3 \
             RETURNING id",
            &values![&old, hash_of(&fresh), now, now + Duration::days(REFRESH_DAYS)],
        )
        .await?;
    let Some(row) = taken else { return Err(refuse(change, &old, now).await?) };
    change
        .execute(
            "INSERT INTO berth_rotated_tokens (token_hash, session_id, rotated_at) VALUES ($1, $2, $3)",
            &values![&old, row.text("id")?, now],
        )
        .await?;
    change.commit().await?;
    Ok(fresh)
}

/// What a token that is good no more is told. Reuse of an old one ends the family, and that stays so although the answer
/// is an error.
async fn refuse(mut change: Change<'_>, old: &str, now: DateTime<Utc>) -> Result<AccountsError, AccountsError> {
    end_family_of(&mut change, old, now).await?;
    change.commit().await?;
    Ok(AccountsError::ReauthenticationRequired("the refresh token is not valid; sign in again"))
}

/// Ends the family whose old token came back. An unknown token changes nothing.
async fn end_family_of(change: &mut Change<'_>, old: &str, now: DateTime<Utc>) -> Result<(), AccountsError> {
    let row = change
        .query_one(
            "UPDATE sessions SET revoked_at = $2, updated_at = $2, version = version + 1 \
             WHERE revoked_at IS NULL AND id IN (SELECT session_id FROM berth_rotated_tokens WHERE token_hash = $1) \
             RETURNING id, user_id",
            &values![old, now],
        )
        .await?;
    let Some(row) = row else { return Ok(()) };
    let (session_id, user_id) = (row.text("id")?, row.text("user_id")?);
    tracing::warn!(session = %session_id, user = %user_id, "a rotated refresh token came back; the session is revoked");
    change
        .audit_as(Some(&user_id), None, "session.token_reused", ("session", &session_id), json!({ "revoked": true }))
        .await?;
    announce(change, &user_id, &[session_id], "token_reused").await
}

/// Refuses when the session that asks for a new way in has ended. The user must be locked, so that none is made behind a
/// change that ends them all.
pub(super) async fn require_live(
    change: &mut Change<'_>,
    user_id: &str,
    session_id: &str,
    now: DateTime<Utc>,
) -> Result<(), AccountsError> {
    let sql = "SELECT s.id FROM sessions s JOIN users u ON u.id = s.user_id \
         WHERE s.id = $1 AND u.id = $2 AND s.revoked_at IS NULL AND s.expires_at > $3 \
             AND u.is_active = $4 AND u.deleted_at IS NULL";
    match change.query_one(sql, &values![session_id, user_id, now, true]).await? {
        Some(_) => Ok(()),
        None => Err(AccountsError::Unauthorized("the session that asked for this has ended")),
    }
}

/// Ends one session of a user. False when there is no such live one.
pub(super) async fn end(
    change: &mut Change<'_>,
    user_id: &str,
    session_id: &str,
    reason: &str,
    now: DateTime<Utc>,
) -> Result<bool, AccountsError> {
    let ended = change
        .query(
            "UPDATE sessions SET revoked_at = $3, updated_at = $3, version = version + 1 \
             WHERE id = $1 AND user_id = $2 AND revoked_at IS NULL RETURNING id",
            &values![session_id, user_id, now],
        )
        .await?;
    let ended = ids(&ended)?;
    announce(change, user_id, &ended, reason).await?;
    Ok(!ended.is_empty())
}

/// Ends every session of a user but `spared`. Returns how many.
pub(super) async fn end_all(
    change: &mut Change<'_>,
    user_id: &str,
    spared: Option<&str>,
    reason: &str,
    now: DateTime<Utc>,
) -> Result<usize, AccountsError> {
    let ended = change
        .query(
            "UPDATE sessions SET revoked_at = $3, updated_at = $3, version = version + 1 \
             WHERE user_id = $1 AND id <> $2 AND revoked_at IS NULL RETURNING id",
            &values![user_id, spared.unwrap_or_default(), now],
        )
        .await?;
    let ended = ids(&ended)?;
    change.touch(user_id);
    announce(change, user_id, &ended, reason).await?;
    Ok(ended.len())
}

/// Publishes what has ended, and makes it so on every host when the change commits.
async fn announce(change: &mut Change<'_>, user_id: &str, ended: &[String], reason: &str) -> Result<(), AccountsError> {
    for session_id in ended {
        change.revoke(session_id.clone());
    }
    let (kind, data) = match ended {
        [] => return Ok(()),
        [session_id] => ("session.revoked", json!({ "sessionId": session_id, "userId": user_id, "reason": reason })),
        many => ("sessions.bulk_revoked", json!({ "userId": user_id, "count": many.len(), "reason": reason })),
    };
    change.event(Event { kind, organization_id: None, user_id: Some(user_id), key: user_id, data }).await
}

fn ids(rows: &crate::database::Rows) -> Result<Vec<String>, DatabaseError> {
    rows.iter().map(|row| row.text("id")).collect()
}

/// What its list is sorted by: names in JSON with their columns.
pub(super) const SORTS: [(&str, &str); 3] =
    [("lastUsedAt", "last_used_at"), ("createdAt", "created_at"), ("expiresAt", "expires_at")];

/// `GET /api/users/me/sessions`
pub(super) async fn list(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let paging = context.query.paging(&SORTS, true)?;
    let current = context.session_id()?.to_owned();
    let select = Select::new(
        "id, organization_id, ip_address, user_agent, remember_me, created_at, last_used_at, expires_at",
        "sessions",
    )
    .and("user_id = ?", context.user_id()?)
    .and_sql("revoked_at IS NULL")
    .and("expires_at > ?", context.accounts.now());
    page(&context.accounts.database, select, &paging, |row| to_json(row, &current)).await
}

/// `DELETE /api/users/me/sessions/{id}`
pub(super) async fn revoke(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let (user_id, session_id) = (context.user_id()?, context.id("id")?);
    let mut change = context.begin().await?;
    if !end(&mut change, user_id, session_id, "revoked_by_user", context.accounts.now()).await? {
        return Err(AccountsError::NotFound("session"));
    }
    change
        .audit(
            context.caller.principal.organization_id.as_deref(),
            "session.revoked",
            ("session", session_id),
            Json::Null,
        )
        .await?;
    change.commit().await?;
    Ok(no_content())
}

/// `POST /api/users/me/sessions/revoke-all-others`
pub(super) async fn revoke_others(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let (user_id, current) = (context.user_id()?, context.session_id()?);
    let mut change = context.begin().await?;
    let count = end_all(&mut change, user_id, Some(current), "revoked_by_user", context.accounts.now()).await?;
    let organization = context.caller.principal.organization_id.as_deref();
    change.audit(organization, "sessions.bulk_revoked", ("user", user_id), json!({ "count": count })).await?;
    change.commit().await?;
    Ok(ok(json!({ "revoked": count })))
}

fn to_json(row: &Row, current: &str) -> Result<Json, DatabaseError> {
    let id = row.text("id")?;
    Ok(json!({
        "isCurrent": id == current,
        "id": id,
        "organizationId": row.optional_text("organization_id")?,
        "ipAddress": row.optional_text("ip_address")?,
        "userAgent": row.optional_text("user_agent")?,
        "rememberMe": row.boolean("remember_me")?,
        "createdAt": timestamp(row, "created_at")?,
        "lastUsedAt": timestamp(row, "last_used_at")?,
        "expiresAt": timestamp(row, "expires_at")?,
    }))
}
