//! Whose account a provider's person is: the linked one, one with the same confirmed address, or a new one.
//!
//! An address that one of the two sides has not confirmed links nothing: whoever registers somebody else's address first
//! would otherwise share that person's account.

use serde_json::{Value as Json, json};

use super::super::auth::{NewUser, SignedUp, sign_up};
use super::super::context::{Change, Context, new_id};
use super::super::enter::{self, Entering, Issued, choose_organization};
use super::super::error::AccountsError;
use super::super::{providers, recovery, sessions};
use super::GOOGLE;
use super::flow::{Flow, Link};
use super::provider::Identity;
use crate::database::values;

/// The longest name of a new account, in characters.
const NAME_CHARACTERS_MAX: usize = 200;

/// Signs somebody in whom a provider has recognised. Returns the user and the tokens.
pub(super) async fn sign_in(
    context: &Context<'_>,
    flow: &Flow,
    provider: &str,
    identity: &Identity,
) -> Result<(String, Issued), AccountsError> {
    let accounts = context.accounts;
    let mut change = context.begin().await?;
    let known = match find_linked(&mut change, provider, &identity.subject).await? {
        Some(user_id) => {
            // Read again under the lock: the link may be ending.
            providers::lock(&mut change, &user_id).await?;
            find_linked(&mut change, provider, &identity.subject).await?
        }
        None => None,
    };
    let known = match known {
        Some(user_id) => Some(user_id),
        None => adopt(&mut change, context, provider, identity).await?,
    };
    let mut made = None;
    let (user_id, organization_id) = match known {
        Some(user_id) => {
            let organization_id = choose_organization(&mut change, accounts, &user_id, None).await?;
            (user_id, organization_id)
        }
        None => {
            let new = register(&mut change, context, flow, provider, identity).await?;
            made = new.made;
            (new.user_id, Some(new.organization_id))
        }
    };
    let who = Entering {
        user_id: &user_id,
        organization_id: organization_id.as_deref(),
        remember_me: flow.remember_me,
        means: provider,
    };
    let opened = enter::enter(&mut change, context, &who).await?;
    change.commit().await?;
    if let Some(made) = &made {
        accounts.note_operator(made);
    }
    let issued = enter::issue_for(accounts, &who, opened).await?;
    Ok((user_id, issued))
}

/// The user whom this person was linked with. Somebody deactivated does not get in by another door.
async fn find_linked(change: &mut Change<'_>, provider: &str, subject: &str) -> Result<Option<String>, AccountsError> {
    let sql = "SELECT u.id, u.is_active, u.deleted_at FROM accounts a JOIN users u ON u.id = a.user_id \
         WHERE a.provider = $1 AND a.provider_account_id = $2";
    let Some(row) = change.query_one(sql, &values![provider, subject]).await? else { return Ok(None) };
    if row.optional_timestamp("deleted_at")?.is_some() || !row.boolean("is_active")? {
        return Err(AccountsError::Forbidden("the account is deactivated".into()));
    }
    Ok(Some(row.text("id")?))
}

/// Links the account that has the same address, confirmed on both sides; none where nobody has the address.
async fn adopt(
    change: &mut Change<'_>,
    context: &Context<'_>,
    provider: &str,
    identity: &Identity,
) -> Result<Option<String>, AccountsError> {
    let Some(email) = &identity.confirmed_email else {
        return Err(AccountsError::Forbidden("the login provider has not confirmed your e-mail address".into()));
    };
    // Taken and read in one statement: nobody changes it until the commit.
    let sql = "UPDATE users SET updated_at = updated_at WHERE email = $1 \
         RETURNING id, is_active, is_email_verified, deleted_at";
    let Some(row) = change.query_one(sql, &values![email]).await? else { return Ok(None) };
    if row.optional_timestamp("deleted_at")?.is_some() || !row.boolean("is_active")? {
        return Err(AccountsError::Forbidden("the account is deactivated".into()));
    }
    if !row.boolean("is_email_verified")? {
        return Err(AccountsError::Conflict(
            "an account has this e-mail address but has not confirmed it: sign in to it and link the provider there"
                .into(),
        ));
    }
    let user_id = row.text("id")?;
    attach(change, context, &user_id, provider, identity).await?;
    Ok(Some(user_id))
}

/// Makes an account for somebody new.
async fn register(
    change: &mut Change<'_>,
    context: &Context<'_>,
    flow: &Flow,
    provider: &str,
    identity: &Identity,
) -> Result<SignedUp, AccountsError> {
    let email = identity.confirmed_email.as_deref().unwrap_or_default();
    let local = email.split('@').next().unwrap_or(email);
    let given = identity.name.as_deref().unwrap_or(local);
    let name: String = given.chars().filter(|c| !c.is_control() && !matches!(c, '<' | '>')).collect();
    let name: String = name.trim().chars().take(NAME_CHARACTERS_MAX).collect();
    let name = if name.is_empty() { local.to_owned() } else { name };
    let new = NewUser { email, name: &name, password_hash: None, provider, picture: identity.picture.as_deref() };
    let made = sign_up(change, context, &new, None, flow.invitation.as_deref()).await?;
    attach(change, context, &made.user_id, provider, identity).await?;
    Ok(made)
}

/// Links a provider's account with the one of the user who asked for it. Returns the user's providers.
pub(super) async fn link(
    context: &Context<'_>,
    link: &Link,
    provider: &str,
    identity: &Identity,
) -> Result<Vec<String>, AccountsError> {
    let mut change = context.begin().await?;
    // The browser came back; whether its session still lives is asked of the session.
    providers::lock(&mut change, &link.user_id).await?;
    sessions::require_live(&mut change, &link.user_id, &link.session_id, context.accounts.now()).await?;
    let providers = attach(&mut change, context, &link.user_id, provider, identity).await?;
    if let Some(email) = &identity.confirmed_email {
        recovery::confirm_by_provider(&mut change, &link.user_id, email, context.accounts.now()).await?;
    }
    change.commit().await?;
    Ok(providers)
}

/// Refuses before the browser is sent away when the user has an account of this provider already.
pub(super) async fn refuse_linked(context: &Context<'_>, user_id: &str, provider: &str) -> Result<(), AccountsError> {
    let sql = "SELECT id FROM accounts WHERE user_id = $1 AND provider = $2";
    match context.accounts.database.query_one(sql, &values![user_id, provider]).await? {
        Some(_) => Err(AccountsError::Conflict(format!("an account of {provider} is linked already"))),
        None => Ok(()),
    }
}

/// Writes the link. Returns the user's providers.
async fn attach(
    change: &mut Change<'_>,
    context: &Context<'_>,
    user_id: &str,
    provider: &str,
    identity: &Identity,
) -> Result<Vec<String>, AccountsError> {
    let now = context.accounts.now();
    let mut linked = providers::lock(change, user_id).await?;
    let sql = "SELECT user_id FROM accounts \
         WHERE provider = $1 AND (provider_account_id = $2 OR user_id = $3) ORDER BY user_id LIMIT 1";
    if change.query_one(sql, &values![provider, &identity.subject, user_id]).await?.is_some() {
        return Err(AccountsError::Conflict(format!("an account of {provider} is linked already")));
    }
    change
        .execute(
            "INSERT INTO accounts (id, user_id, provider, provider_account_id, created_at, updated_at, version) \
             VALUES ($1, $2, $3, $4, $5, $5, 1)",
            &values![new_id(), user_id, provider, &identity.subject, now],
        )
        .await?;
    if !linked.iter().any(|name| name == provider) {
        linked.push(provider.to_owned());
    }
    let google_id = (provider == GOOGLE).then_some(identity.subject.as_str());
    let sql = "UPDATE users SET auth_providers = $2, google_id = COALESCE($3, google_id), \
             picture = COALESCE(picture, $4), updated_at = $5, version = version + 1 WHERE id = $1";
    change.execute(sql, &values![user_id, json!(linked), google_id, identity.picture.clone(), now]).await?;
    let changes: Json = json!({ "provider": provider });
    change.audit_as(Some(user_id), None, "user.provider_linked", ("user", user_id), changes).await?;
    Ok(linked)
}
