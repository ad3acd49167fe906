//! The ways in that an account has: its password and the login providers linked with it.
//!
//! The last one must never be taken away.

use serde_json::json;

use super::Reply;
use super::auth::PASSWORD;
use super::context::{Change, Context, ok};
use super::error::AccountsError;
use super::input::Text;
use super::oidc::GOOGLE;
use crate::database::values;

/// `GET /api/auth/providers`: the account's own, and those that this host could link.
pub(super) async fn list(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let sql = "SELECT auth_providers FROM users WHERE id = $1 AND deleted_at IS NULL";
    let row = context.accounts.database.query_one(sql, &values![context.user_id()?]).await?;
    let providers: Vec<String> = row.ok_or(AccountsError::NotFound("user"))?.json("auth_providers")?;
    Ok(ok(json!({ "providers": providers, "available": context.accounts.providers.names() })))
}

/// `POST /api/auth/unlink-provider`
pub(super) async fn unlink(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let user_id = context.user_id()?;
    let mut fields = context.fields()?;
    let provider = fields.required_text("provider", Text::NAME);
    fields.finish()?;
    let mut change = context.begin().await?;
    let linked = lock(&mut change, user_id).await?;
    if !linked.contains(&provider) {
        return Err(AccountsError::NotFound("linked provider"));
    }
    let left: Vec<&String> = linked.iter().filter(|name| **name != provider).collect();
    if left.is_empty() {
        return Err(AccountsError::field("provider", "is the last way to sign in and must stay"));
    }
    if provider == PASSWORD {
        change.execute("UPDATE users SET password_hash = NULL WHERE id = $1", &values![user_id]).await?;
    }
    if provider == GOOGLE {
        change.execute("UPDATE users SET google_id = NULL WHERE id = $1", &values![user_id]).await?;
    }
    change.execute("DELETE FROM accounts WHERE user_id = $1 AND provider = $2", &values![user_id, &provider]).await?;
    let sql = "UPDATE users SET auth_providers = $2, updated_at = $3, version = version + 1 WHERE id = $1";
    change.execute(sql, &values![user_id, json!(left), context.accounts.now()]).await?;
    let organization = context.caller.principal.organization_id.as_deref();
    change.audit(organization, "user.provider_unlinked", ("user", user_id), json!({ "provider": provider })).await?;
    change.commit().await?;
    Ok(ok(json!({ "providers": left })))
}

/// Ends every way in but the password. The user must be locked.
pub(super) async fn unlink_all(change: &mut Change<'_>, user_id: &str) -> Result<(), AccountsError> {
    let sql = "UPDATE users SET auth_providers = $2, google_id = NULL WHERE id = $1";
    change.execute(sql, &values![user_id, json!([PASSWORD])]).await?;
    let sql = "DELETE FROM accounts WHERE user_id = $1 RETURNING provider";
    let unlinked = change.query(sql, &values![user_id]).await?;
    for row in &unlinked {
        let changes = json!({ "provider": row.text("provider")? });
        change.audit_as(Some(user_id), None, "user.provider_unlinked", ("user", user_id), changes).await?;
    }
    Ok(())
}

/// Takes the user's row for this change, and reads the ways in: of two changes at once the second sees the first.
pub(super) async fn lock(change: &mut Change<'_>, user_id: &str) -> Result<Vec<String>, AccountsError> {
    let sql = "UPDATE users SET updated_at = updated_at WHERE id = $1 AND deleted_at IS NULL RETURNING auth_providers";
    let row = change.query_one(sql, &values![user_id]).await?;
    Ok(row.ok_or(AccountsError::NotFound("user"))?.json("auth_providers")?)
}
