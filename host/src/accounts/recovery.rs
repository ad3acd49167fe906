//! Lost passwords and unconfirmed addresses.
//!
//! Whether an address has an account must not be told: not by an answer, and not by how long it takes.

use std::sync::Arc;

use chrono::{DateTime, Duration, Utc};
use serde_json::{Value as Json, json};

use super::auth::store_password;
use super::context::{Change, Context, Event, new_id, ok};
use super::error::AccountsError;
use super::token::{hash_of, random_secret};
use super::{Accounts, Caller, Reply, api_keys, password, providers};
use crate::capability::mail::Mail;
use crate::database::{Row, values};

const RESET: &str = "password_reset";
const VERIFY: &str = "verify_email";
/// How long a reset link is good.
const RESET_VALID_FOR: Duration = Duration::hours(1);
/// How long a verification link is good.
const VERIFY_VALID_FOR: Duration = Duration::hours(24);
/// Links of one kind that a user may ask for within the time one is good.
const TOKENS_MAX: i64 = 5;
const TOKEN_CHARACTERS_MAX: usize = 256;
/// Mails that may be under way at once; one more is not sent, and logged.
pub(super) const MAILS_AT_ONCE_MAX: usize = 32;

const NO_MAIL: AccountsError = AccountsError::NotConfigured("this host has no mail server");

/// `POST /api/auth/forgot-password`: one answer for every address, at once; what follows happens beside it.
pub(super) async fn forgot_password(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let accounts = context.accounts;
    let mut fields = context.fields()?;
    let email = fields.required_email("email");
    fields.finish()?;
    let can_mail = accounts.mail.is_configured();
    if can_mail {
        match Arc::clone(&accounts.mails).try_acquire_owned() {
            Ok(permit) => {
                let (accounts, caller) = (Arc::clone(accounts), context.caller.clone());
                tokio::spawn(async move {
                    let _permit = permit;
                    if let Err(error) = mail_reset_link(&accounts, &caller, email).await {
                        tracing::warn!(%error, "no reset link was sent");
                    }
                });
            }
            Err(_) => tracing::warn!("a reset link was not sent: too many are under way"),
        }
    }
    // Without a mail server nobody gets a link, whoever asks: that is said, and says nothing about the address.
    Ok(ok(json!({ "accepted": true, "canMail": can_mail })))
}

async fn mail_reset_link(accounts: &Arc<Accounts>, caller: &Caller, email: String) -> Result<(), AccountsError> {
    let sql = "SELECT id FROM users WHERE email = $1 AND is_active = $2 AND deleted_at IS NULL";
    let Some(user) = accounts.database.query_one(sql, &values![&email, true]).await? else { return Ok(()) };
    let (headers, body) = (http::HeaderMap::new(), bytes::Bytes::new());
    let context = Context::bare(accounts, caller, &headers, &body);
    let kind = "user.password_reset_requested";
    let Some(token) = issue(&context, &user.text("id")?, RESET, RESET_VALID_FOR, kind).await? else { return Ok(()) };
    let link = accounts.link("reset-password", &token);
    let text = format!(
        "Somebody, hopefully you, asked for a new password.\n\nSet it here within one hour:\n{link}\n\n\
         If it was not you, do nothing."
    );
    let mail = Mail { to: vec![email], subject: "Set a new password".to_owned(), text, ..Mail::default() };
    accounts.mail.send(mail).await.map(|_| ()).map_err(AccountsError::internal)
}

/// `POST /api/auth/reset-password`: ends every session. Where mailbox and account were never seen in one hand before, it ends
/// linked login providers and API keys too: somebody else may have registered the address, and would keep their way in.
pub(super) async fn reset_password(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let accounts = context.accounts;
    let mut fields = context.fields()?;
    let token = fields.required_secret("token", TOKEN_CHARACTERS_MAX);
    let new = fields.required_secret("newPassword", password::CHARACTERS_MAX);
    fields.finish()?;
    // Looked up first and taken after the hashing, so that no transaction waits for Argon2.
    let user = accounts.database.query_one(FIND_USER, &values![hash_of(&token), RESET, accounts.now(), true]).await?;
    let user = user.ok_or_else(invalid_token)?;
    let user_id = user.text("id")?;
    let hash = accounts.new_password_hash(&user_id, &user, "newPassword", &new).await?;
    let mut change = context.begin().await?;
    // The user before the token, as in every change of a password: of two links at once the second finds itself ended.
    providers::lock(&mut change, &user_id).await?;
    take(&mut change, accounts, &token, RESET).await?;
    store_password(&mut change, accounts, &user_id, &hash).await?;
    // Who can read the mailbox has shown that it is theirs, and has the account from now on.
    confirm(&mut change, &user_id, accounts.now()).await?;
    if know_holder(&mut change, &user_id, accounts.now()).await? {
        end_unproven(&mut change, &user_id, accounts.now()).await?;
    }
    tell(&mut change, "user.password_reset_success", &user_id).await?;
    change.commit().await?;
    Ok(ok(json!({ "reset": true })))
}

/// `POST /api/auth/verify-email`
///
/// Who follows the link reads the mailbox; that they made the account is another question. Somebody else may have registered
/// the address, and the link goes to its holder, who follows it unsuspecting. So the link does not bless what lets somebody in
/// beside the password, and which its holder would not miss: login providers linked before, none of which has the address
/// (one that has confirms it by itself), and API keys. With a session of the account it does: then mailbox and account are in
/// one hand. Password and sessions stay either way, because who registers is signed in and stays so; the mail says how to
/// take them from a stranger.
pub(super) async fn verify_email(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let accounts = context.accounts;
    let mut fields = context.fields()?;
    let token = fields.required_secret("token", TOKEN_CHARACTERS_MAX);
    fields.finish()?;
    let mut change = context.begin().await?;
    let user_id = take(&mut change, accounts, &token, VERIFY).await?;
    let principal = &context.caller.principal;
    let is_own = principal.session_id.is_some() && principal.user_id.as_deref() == Some(user_id.as_str());
    if confirm(&mut change, &user_id, accounts.now()).await? {
        if is_own {
            know_holder(&mut change, &user_id, accounts.now()).await?;
        } else {
            end_unproven(&mut change, &user_id, accounts.now()).await?;
        }
        tell(&mut change, "user.email_verified", &user_id).await?;
    }
    change.commit().await?;
    Ok(ok(json!({ "verified": true })))
}

/// Notes that the address is the user's. False when it was known before.
async fn confirm(change: &mut Change<'_>, user_id: &str, now: DateTime<Utc>) -> Result<bool, AccountsError> {
    let sql = "UPDATE users SET is_email_verified = $2, updated_at = $4, version = version + 1 \
         WHERE id = $1 AND is_email_verified = $3";
    Ok(change.execute(sql, &values![user_id, true, false, now]).await? > 0)
}

/// Notes that mailbox and account have been seen in one hand: what the account has from now on, its holder has made. False when
/// that was known before. A confirmed address alone does not say it: its holder may have followed a stranger's link.
async fn know_holder(change: &mut Change<'_>, user_id: &str, now: DateTime<Utc>) -> Result<bool, AccountsError> {
    let sql = "UPDATE users SET holder_known_at = $2 WHERE id = $1 AND holder_known_at IS NULL";
    Ok(change.execute(sql, &values![user_id, now]).await? > 0)
}

/// Ends what was made before anybody had shown that the address is theirs, and needs no password. The user must be locked.
async fn end_unproven(change: &mut Change<'_>, user_id: &str, now: DateTime<Utc>) -> Result<(), AccountsError> {
    providers::unlink_all(change, user_id).await?;
    api_keys::end(change, user_id, None, Some(user_id), now).await
}

/// Notes that the address is the user's where a login provider says so that they have just linked: the mail could say no more,
/// and the link was asked for with a session of the account. The user must be locked.
pub(super) async fn confirm_by_provider(
    change: &mut Change<'_>,
    user_id: &str,
    email: &str,
    now: DateTime<Utc>,
) -> Result<(), AccountsError> {
    let sql = "SELECT id FROM users WHERE id = $1 AND email = $2";
    if change.query_one(sql, &values![user_id, email]).await?.is_none() {
        return Ok(());
    }
    know_holder(change, user_id, now).await?;
    if confirm(change, user_id, now).await? {
        tell(change, "user.email_verified", user_id).await?;
    }
    Ok(())
}

/// `POST /api/auth/resend-verification`
pub(super) async fn resend_verification(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let (accounts, user_id) = (context.accounts, context.user_id()?);
    let sql = "SELECT email, is_email_verified FROM users WHERE id = $1 AND deleted_at IS NULL";
    let user = accounts.database.query_one(sql, &values![user_id]).await?.ok_or(AccountsError::NotFound("user"))?;
    if user.boolean("is_email_verified")? {
        return Err(AccountsError::Conflict("the e-mail address is confirmed already".into()));
    }
    if !accounts.mail.is_configured() {
        return Err(NO_MAIL);
    }
    if !send_verification(context, user_id, user.text("email")?).await? {
        return Err(AccountsError::RateLimited { retry_after_seconds: 3_600 });
    }
    Ok(ok(json!({ "accepted": true })))
}

/// Sends a link that confirms the address. False when too many were asked for.
pub(super) async fn send_verification(
    context: &Context<'_>,
    user_id: &str,
    email: String,
) -> Result<bool, AccountsError> {
    let kind = "user.email_verification_requested";
    let Some(token) = issue(context, user_id, VERIFY, VERIFY_VALID_FOR, kind).await? else { return Ok(false) };
    let link = context.accounts.link("verify-email", &token);
    let text = format!(
        "Somebody, hopefully you, made an account with this address.\n\nConfirm it within one day:\n{link}\n\n\
         If it was not you, do not follow the link: whoever made the account would keep their password. Ask for a new \
         password instead, and the account is yours alone."
    );
    context.accounts.send_later(email, "Confirm your e-mail address", text);
    Ok(true)
}

/// The user behind an unused token. Parameters: hash, kind, now, true.
const FIND_USER: &str = "SELECT u.id, u.email, u.name FROM one_time_tokens t JOIN users u ON u.id = t.user_id \
    WHERE t.token_hash = $1 AND t.kind = $2 AND t.used_at IS NULL AND t.expires_at > $3 AND u.is_active = $4 AND u.deleted_at IS NULL";

/// A fresh token, or none when too many were asked for.
async fn issue(
    context: &Context<'_>,
    user_id: &str,
    kind: &str,
    valid_for: Duration,
    event: &'static str,
) -> Result<Option<String>, AccountsError> {
    let (token, now) = (random_secret(), context.accounts.now());
    let mut change = context.begin().await?;
    // Taken first, so that of many at once only as many as allowed are made.
    providers::lock(&mut change, user_id).await?;
    let sql = "SELECT COUNT(*) AS tokens FROM one_time_tokens WHERE user_id = $1 AND kind = $2 AND created_at > $3";
    let row = change.query_one(sql, &values![user_id, kind, now - valid_for]).await?;
    if row.map_or(Ok(0), |row| row.integer("tokens"))? >= TOKENS_MAX {
        return Ok(None);
    }
    let sql = "INSERT INTO one_time_tokens (id, user_id, kind, token_hash, expires_at, created_at) VALUES ($1, $2, $3, $4, $5, $6)";
    change.execute(sql, &values![new_id(), user_id, kind, hash_of(&token), now + valid_for, now]).await?;
    tell(&mut change, event, user_id).await?;
    change.commit().await?;
    Ok(Some(token))
}

/// Uses a token up. Returns its user.
async fn take(change: &mut Change<'_>, accounts: &Accounts, token: &str, kind: &str) -> Result<String, AccountsError> {
    let sql = "UPDATE one_time_tokens SET used_at = $3 \
         WHERE token_hash = $1 AND kind = $2 AND used_at IS NULL AND expires_at > $3 RETURNING user_id";
    let row: Option<Row> = change.query_one(sql, &values![hash_of(token), kind, accounts.now()]).await?;
    Ok(row.ok_or_else(invalid_token)?.text("user_id")?)
}

/// Ends every reset link of a user that was not used: who has a new password set it against whoever holds an older link.
pub(super) async fn end_reset_links(
    change: &mut Change<'_>,
    user_id: &str,
    now: DateTime<Utc>,
) -> Result<(), AccountsError> {
    let sql = "UPDATE one_time_tokens SET used_at = $3 WHERE user_id = $1 AND kind = $2 AND used_at IS NULL";
    change.execute(sql, &values![user_id, RESET, now]).await?;
    Ok(())
}

fn invalid_token() -> AccountsError {
    AccountsError::field("token", "is not valid, was used, or has expired")
}

async fn tell(change: &mut Change<'_>, kind: &'static str, user_id: &str) -> Result<(), AccountsError> {
    change.audit_as(Some(user_id), None, kind, ("user", user_id), Json::Null).await?;
    let data = json!({ "userId": user_id });
    change.event(Event { kind, organization_id: None, user_id: Some(user_id), key: user_id, data }).await
}

impl Accounts {
    /// Where a secret is used: below the public address where one is set, and otherwise the secret itself.
    pub(super) fn link(&self, page: &str, secret: &str) -> String {
        match &self.options.public_url {
            Some(url) => format!("{}/{page}?token={secret}", url.trim_end_matches('/')),
            None => secret.to_owned(),
        }
    }

    /// Sends a mail without making the request wait, so that its time tells nothing.
    pub(super) fn send_later(&self, to: String, subject: &'static str, text: String) {
        let Ok(permit) = Arc::clone(&self.mails).try_acquire_owned() else {
            tracing::warn!(subject, "a mail was not sent: too many are under way");
            return;
        };
        let room = self.mail.clone();
        tokio::spawn(async move {
            let _permit = permit;
            let mail = Mail { to: vec![to], subject: subject.to_owned(), text, ..Mail::default() };
            if let Err(error) = room.send(mail).await {
                tracing::warn!(%error, subject, "a mail was not sent");
            }
        });
    }
}
