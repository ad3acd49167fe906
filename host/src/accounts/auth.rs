//! Signing up, in and out: the routes under `/api/auth`.
//!
//! An unknown user and a wrong password must look alike, in text and in time.

use serde_json::{Value as Json, json};

use super::context::{Change, Context, Event, new_id, ok};
use super::enter::{self, Cookie, Entering, Issued, choose_organization, cookie, with_tokens};
use super::error::AccountsError;
use super::input::Text;
use super::organizations::{Made, NewOrganization};
use super::password::{self, HISTORY_LENGTH};
use super::roles::show_permissions;
use super::sessions;
use super::token::ACCESS_SECONDS;
use super::{Accounts, Reply, attempts, invitations, organizations, recovery, users};
use crate::database::{DatabaseError, Row, values};

/// The provider that is no provider: a password of this host.
pub(super) const PASSWORD: &str = "password";
/// The longest refresh token or invitation token that is looked at, in characters: ours have 43.
pub(super) const TOKEN_CHARACTERS_MAX: usize = 256;
/// What both an unknown user and a wrong password are told.
const WRONG_CREDENTIALS: &str = "the e-mail address or the password is wrong";

/// `POST /api/auth/register`
pub(super) async fn register(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let accounts = context.accounts;
    let mut fields = context.fields()?;
    let email = fields.required_email("email");
    let secret = fields.required_secret("password", password::CHARACTERS_MAX);
    let name = fields.required_text("name", Text::NAME);
    let organization_name = fields.text("organizationName", Text::NAME);
    let invitation = fields.secret("invitationToken", TOKEN_CHARACTERS_MAX);
    let remember_me = fields.boolean("rememberMe").unwrap_or(false);
    if !secret.is_empty()
        && let Err(reason) = password::judge(&secret, &email, Some(&name))
    {
        fields.fault("password", reason);
    }
    fields.finish()?;
    accounts.count_visit(context.caller.ip, attempts::Visit::Registration).await?;
    if accounts.database.query_one("SELECT id FROM users WHERE email = $1", &values![&email]).await?.is_some() {
        return Err(AccountsError::Conflict("the e-mail address is taken".into()));
    }
    let hash = accounts.passwords.hash(&secret).await?;

    let mut change = context.begin().await?;
    let new = NewUser { email: &email, name: &name, password_hash: Some(&hash), provider: PASSWORD, picture: None };
    let signed_up = sign_up(&mut change, context, &new, organization_name, invitation.as_deref()).await?;
    let SignedUp { user_id, organization_id, made } = signed_up;
    let who = Entering { user_id: &user_id, organization_id: Some(&organization_id), remember_me, means: PASSWORD };
    let opened = enter::enter(&mut change, context, &who).await?;
    change.commit().await?;
    if let Some(made) = &made {
        accounts.note_operator(made);
    }
    if accounts.mail.is_configured() {
        // The account is there already: a mail that fails is asked for again, and fails no registration.
        if let Err(error) = recovery::send_verification(context, &user_id, email.clone()).await {
            tracing::warn!(%error, "no verification mail was sent");
        }
    }
    let issued = enter::issue_for(accounts, &who, opened).await?;
    let body = json!({
        "user": users::read_json(accounts, &user_id).await?,
        "organization": organizations::read_json(accounts, &organization_id).await?,
    });
    Ok(Reply { status: http::StatusCode::CREATED, ..with_tokens(accounts, issued, body) })
}

/// An account that is to be.
pub(super) struct NewUser<'a> {
    pub email: &'a str,
    pub name: &'a str,
    /// None for somebody who only comes by a login provider.
    pub password_hash: Option<&'a str>,
    /// The first way in: `password`, or the login provider, which has confirmed the address.
    pub provider: &'a str,
    pub picture: Option<&'a str>,
}

/// What has been made.
pub(super) struct SignedUp {
    pub user_id: String,
    pub organization_id: String,
    /// The organization, where it is a new one.
    pub made: Option<Made>,
}

/// Makes an account within a change: with an organization of its own, or in the one that invited it.
pub(super) async fn sign_up(
    change: &mut Change<'_>,
    context: &Context<'_>,
    new: &NewUser<'_>,
    organization_name: Option<String>,
    invitation: Option<&str>,
) -> Result<SignedUp, AccountsError> {
    let accounts = context.accounts;
    let user_id = insert_user(change, accounts, new).await?;
    let (organization_id, made) = match invitation {
        Some(token) => (invitations::accept_in(change, accounts, token, &user_id, new.email).await?, None),
        None => {
            let name = organization_name.unwrap_or_else(|| new.name.to_owned());
            let organization = NewOrganization { name, slug: None, description: None, logo_url: None };
            let made = organizations::make(change, accounts, &user_id, organization).await?;
            (made.id.clone(), Some(made))
        }
    };
    let data = json!({
        "userId": user_id, "email": new.email, "organizationId": organization_id, "provider": new.provider,
    });
    let organization = Some(organization_id.as_str());
    change
        .event(Event {
            kind: "user.registered",
            organization_id: organization,
            user_id: Some(&user_id),
            key: &user_id,
            data,
        })
        .await?;
    let changes = json!({ "provider": new.provider });
    change.audit_as(Some(&user_id), organization, "user.registered", ("user", &user_id), changes).await?;
    Ok(SignedUp { user_id, organization_id, made })
}

async fn insert_user(change: &mut Change<'_>, accounts: &Accounts, new: &NewUser<'_>) -> Result<String, AccountsError> {
    let (id, now) = (new_id(), accounts.now());
    // A login provider has confirmed the address, and whoever comes by it has it.
    let is_proven = new.provider != PASSWORD;
    let inserted = change
        .execute(
            "INSERT INTO users (id, email, password_hash, name, picture, is_active, is_email_verified, auth_providers, \
                 holder_known_at, last_login_at, created_by, created_at, updated_at, version) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $1, $10, $10, 1) ON CONFLICT (email) DO NOTHING",
            &values![
                &id,
                new.email,
                new.password_hash,
                new.name,
                new.picture,
                true,
                is_proven,
                json!([new.provider]),
                is_proven.then_some(now),
                now
            ],
        )
        .await?;
    if inserted == 0 {
        return Err(AccountsError::Conflict("the e-mail address is taken".into()));
    }
    if let Some(hash) = new.password_hash {
        remember_password(change, &id, hash, now).await?;
    }
    Ok(id)
}

/// `POST /api/auth/login`
pub(super) async fn login(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let accounts = context.accounts;
    let mut fields = context.fields()?;
    let email = fields.required_email("email");
    let secret = fields.required_secret("password", password::CHARACTERS_MAX);
    let remember_me = fields.boolean("rememberMe").unwrap_or(false);
    let wanted = fields.id("organizationId");
    fields.finish()?;
    accounts.count_login(context.caller.ip, &email).await?;
    accounts.refuse_locked(&email).await?;

    let sql = "SELECT password_hash FROM users WHERE email = $1 AND deleted_at IS NULL";
    let stored = stored_hash(accounts.database.query_one(sql, &values![&email]).await?.as_ref())?;
    let is_right = accounts.passwords.matches(&secret, stored.as_deref()).await?;

    let mut change = context.begin().await?;
    let user = lock(&mut change, accounts, &email).await?;
    let is_right = is_right && stored_hash(user.as_ref())? == stored;
    let user_id = user.as_ref().map(|row| row.text("id")).transpose()?;
    let is_active = user.as_ref().map_or(Ok(false), |row| row.boolean("is_active"))?;
    let (Some(user_id), true) = (&user_id, is_right) else {
        fail(&mut change, context, &email, user_id.as_deref()).await?;
        change.commit().await?;
        return Err(AccountsError::Unauthorized(WRONG_CREDENTIALS));
    };
    if !is_active {
        // Only who knows the password learns that the account exists and rests.
        return Err(AccountsError::Forbidden("the account is deactivated".into()));
    }
    let organization_id = choose_organization(&mut change, accounts, user_id, wanted.as_deref()).await?;
    attempts::note(&mut change, context, &email, Some(user_id), true).await?;
    let who = Entering { user_id, organization_id: organization_id.as_deref(), remember_me, means: PASSWORD };
    let opened = enter::enter(&mut change, context, &who).await?;
    change.commit().await?;
    let issued = enter::issue_for(accounts, &who, opened).await?;
    Ok(with_tokens(accounts, issued, json!({ "user": users::read_json(accounts, user_id).await? })))
}

/// Takes the row of whoever has this address for a change, and reads it as it is now: of many guesses at once each sees
/// the failures before it, and a password that has been changed since it was compared proves nothing.
async fn lock(change: &mut Change<'_>, accounts: &Accounts, email: &str) -> Result<Option<Row>, AccountsError> {
    let sql = "UPDATE users SET last_login_at = last_login_at WHERE email = $1 AND deleted_at IS NULL \
         RETURNING id, password_hash, is_active";
    let user = change.query_one(sql, &values![email]).await?;
    attempts::refuse_locked_in(change, email, accounts.now()).await?;
    Ok(user)
}

/// The hash of a user that was found; none for somebody without a password.
fn stored_hash(user: Option<&Row>) -> Result<Option<String>, DatabaseError> {
    user.map_or(Ok(None), |row| row.optional_text("password_hash"))
}

/// Notes a failed sign-in. The event does not name the address: it may be a mistyped password.
async fn fail(
    change: &mut Change<'_>,
    context: &Context<'_>,
    email: &str,
    user_id: Option<&str>,
) -> Result<(), AccountsError> {
    attempts::note(change, context, email, user_id, false).await?;
    change.audit_as(user_id, None, "auth.login.failed", ("user", user_id.unwrap_or_default()), Json::Null).await?;
    let data = json!({ "userId": user_id, "reason": "invalid_credentials" });
    let key = user_id.unwrap_or("unknown");
    change.event(Event { kind: "auth.login.failed", organization_id: None, user_id, key, data }).await
}

/// `POST /api/auth/refresh`
pub(super) async fn refresh(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let accounts = context.accounts;
    let mut fields = context.fields()?;
    let sent = if fields.has("refreshToken") {
        Some(fields.required_secret("refreshToken", TOKEN_CHARACTERS_MAX))
    } else {
        cookie(context, enter::REFRESH_COOKIE, TOKEN_CHARACTERS_MAX)
    };
    if sent.is_none() {
        fields.fault("refreshToken", "is required");
    }
    fields.finish()?;
    accounts.count_visit(context.caller.ip, attempts::Visit::Refresh).await?;
    let sent = sent.unwrap_or_default();
    let session = sessions::find(context, &sent).await?;
    let user_id = &session.user_id;
    let mut access = accounts.access_if(user_id, session.organization_id.as_deref()).await?;
    if access.is_none() {
        // The membership has ended since: go on where the user still belongs.
        let mut change = context.begin().await?;
        let organization_id = choose_organization(&mut change, accounts, user_id, None).await?;
        let sql = "UPDATE sessions SET organization_id = $2 WHERE id = $1";
        change.execute(sql, &values![&session.session_id, organization_id.clone()]).await?;
        change.commit().await?;
        access = accounts.access_if(user_id, organization_id.as_deref()).await?;
    }
    let token = accounts.issue(user_id, &session.session_id, access.as_ref())?;
    // Last: where something failed before, the client comes again with the same token.
    let refresh_token = sessions::rotate(context, &sent).await?;
    let issued = Issued { token, refresh_token, remember_me: session.remember_me };
    Ok(with_tokens(accounts, issued, json!({})))
}

/// `POST /api/auth/logout`
pub(super) async fn logout(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let (user_id, session_id) = (context.user_id()?, context.session_id()?);
    let mut change = context.begin().await?;
    sessions::end(&mut change, user_id, session_id, "logout", context.accounts.now()).await?;
    let organization = context.caller.principal.organization_id.as_deref();
    change.audit(organization, "auth.logout", ("session", session_id), Json::Null).await?;
    change.commit().await?;
    let mut reply = ok(json!({ "loggedOut": true }));
    for (name, path) in [(enter::ACCESS_COOKIE, "/"), (enter::REFRESH_COOKIE, enter::REFRESH_PATH)] {
        Cookie { name, value: "", path, age_seconds: Some(0) }.set(context.accounts, &mut reply, "Strict");
    }
    Ok(reply)
}

/// `GET /api/auth/me`
pub(super) async fn me(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let (accounts, principal) = (context.accounts, &context.caller.principal);
    let user = users::read_json(accounts, context.user_id()?).await?;
    let access = accounts.access_if(context.user_id()?, principal.organization_id.as_deref()).await?;
    let organization = match &access {
        Some(access) => organizations::read_json(accounts, &access.organization_id).await?,
        None => Json::Null,
    };
    let role = access
        .as_ref()
        .map(|access| json!({ "id": access.role_id, "name": access.role_name, "isSuperAdmin": access.is_super_admin }));
    let permissions = match (&principal.scope, &access) {
        (Some(_), _) => principal.held_permissions(),
        (None, Some(access)) => show_permissions(&access.permissions, access.is_super_admin),
        (None, None) => Vec::new(),
    };
    Ok(ok(json!({
        "user": user,
        "organization": organization,
        "role": role,
        "permissions": permissions,
        "isPlatform": principal.is_platform,
        "sessionId": principal.session_id.as_deref(),
        "apiKeyId": principal.api_key_id.as_deref(),
        "teams": principal.teams,
    })))
}

/// `POST /api/auth/change-password`
pub(super) async fn change_password(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let (accounts, user_id) = (context.accounts, context.user_id()?);
    let mut fields = context.fields()?;
    let current = fields.required_secret("currentPassword", password::CHARACTERS_MAX);
    let new = fields.required_secret("newPassword", password::CHARACTERS_MAX);
    fields.finish()?;
    let sql = "SELECT email, name, password_hash FROM users WHERE id = $1 AND deleted_at IS NULL";
    let user = accounts.database.query_one(sql, &values![user_id]).await?.ok_or(AccountsError::NotFound("user"))?;
    let email = user.text("email")?;
    accounts.refuse_locked(&email).await?;
    let stored = stored_hash(Some(&user))?;
    let is_right = accounts.passwords.matches(&current, stored.as_deref()).await?;
    judge_guess(context, &email, is_right).await?;
    let hash = accounts.new_password_hash(user_id, &user, "newPassword", &new).await?;
    let mut change = context.begin().await?;
    if stored_hash(lock(&mut change, accounts, &email).await?.as_ref())? != stored {
        return Err(not_present());
    }
    let revoked = store_password(&mut change, accounts, user_id, &hash).await?;
    let organization = context.caller.principal.organization_id.as_deref();
    change.audit(organization, "user.password_changed", ("user", user_id), Json::Null).await?;
    let data = json!({ "userId": user_id });
    change
        .event(Event {
            kind: "user.password_changed",
            organization_id: None,
            user_id: Some(user_id),
            key: user_id,
            data,
        })
        .await?;
    change.commit().await?;
    Ok(ok(json!({ "changed": true, "sessionsRevoked": revoked })))
}

/// Counts a wrong present password like a failed sign-in: a stolen access token is no licence to guess.
async fn judge_guess(context: &Context<'_>, email: &str, is_right: bool) -> Result<(), AccountsError> {
    let mut change = context.begin().await?;
    lock(&mut change, context.accounts, email).await?;
    if !is_right {
        fail(&mut change, context, email, Some(context.user_id()?)).await?;
    }
    change.commit().await?;
    if is_right { Ok(()) } else { Err(not_present()) }
}

fn not_present() -> AccountsError {
    AccountsError::field("currentPassword", "is not the present password")
}

/// Stores a new password, and ends every session and every link that could set another one. Returns how many sessions.
pub(super) async fn store_password(
    change: &mut Change<'_>,
    accounts: &Accounts,
    user_id: &str,
    hash: &str,
) -> Result<usize, AccountsError> {
    let now = accounts.now();
    let sql = "UPDATE users SET password_hash = $2, updated_at = $3, version = version + 1 WHERE id = $1 \
         RETURNING auth_providers";
    let row = change.query_one(sql, &values![user_id, hash, now]).await?.ok_or(AccountsError::NotFound("user"))?;
    // Somebody who only came by a login provider has a password from now on.
    let mut providers: Vec<String> = row.json("auth_providers")?;
    if !providers.iter().any(|provider| provider == PASSWORD) {
        providers.push(PASSWORD.to_owned());
        let sql = "UPDATE users SET auth_providers = $2 WHERE id = $1";
        change.execute(sql, &values![user_id, json!(providers)]).await?;
    }
    remember_password(change, user_id, hash, now).await?;
    recovery::end_reset_links(change, user_id, now).await?;
    sessions::end_all(change, user_id, None, "password_changed", now).await
}

/// Keeps the latest hashes and forgets the older ones.
async fn remember_password(
    change: &mut Change<'_>,
    user_id: &str,
    hash: &str,
    now: chrono::DateTime<chrono::Utc>,
) -> Result<(), AccountsError> {
    let sql = "INSERT INTO password_history (id, user_id, password_hash, created_at) VALUES ($1, $2, $3, $4)";
    change.execute(sql, &values![new_id(), user_id, hash, now]).await?;
    let sql = format!(
        "DELETE FROM password_history WHERE user_id = $1 AND id NOT IN (\
             SELECT id FROM password_history WHERE user_id = $1 ORDER BY created_at DESC, id DESC LIMIT {HISTORY_LENGTH})"
    );
    change.execute(&sql, &values![user_id]).await?;
    Ok(())
}

/// `POST /api/auth/switch-organization`
pub(super) async fn switch_organization(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let (accounts, user_id, session_id) = (context.accounts, context.user_id()?, context.session_id()?);
    let mut fields = context.fields()?;
    let organization_id = fields.required_id("organizationId");
    fields.finish()?;
    let access = accounts.access_of(user_id, &organization_id).await?;
    let access =
        access.ok_or_else(|| AccountsError::Forbidden("you are no active member of this organization".into()))?;
    let mut change = context.begin().await?;
    let sql = "UPDATE sessions SET organization_id = $2, updated_at = $3, version = version + 1 WHERE id = $1 AND user_id = $4";
    change.execute(sql, &values![session_id, &organization_id, accounts.now(), user_id]).await?;
    change.audit(Some(&organization_id), "auth.organization_switched", ("session", session_id), Json::Null).await?;
    change.commit().await?;
    let token = accounts.issue(user_id, session_id, Some(&access))?;
    let mut reply = ok(json!({
        "token": token,
        "expiresIn": ACCESS_SECONDS,
        "organization": organizations::read_json(accounts, &organization_id).await?,
        "role": { "id": access.role_id, "name": access.role_name, "isSuperAdmin": access.is_super_admin },
    }));
    enter::set_access_cookie(accounts, &mut reply, &token);
    Ok(reply)
}

impl Accounts {
    /// Judges a new password against the rules and the latest ones, and hashes it.
    pub(super) async fn new_password_hash(
        &self,
        user_id: &str,
        user: &Row,
        field: &str,
        new: &str,
    ) -> Result<String, AccountsError> {
        let name = user.optional_text("name")?;
        if let Err(reason) = password::judge(new, &user.text("email")?, name.as_deref()) {
            return Err(AccountsError::field(field, reason));
        }
        let sql = format!(
            "SELECT password_hash FROM password_history WHERE user_id = $1 ORDER BY created_at DESC, id DESC LIMIT {HISTORY_LENGTH}"
        );
        for row in &self.database.query(&sql, &values![user_id]).await? {
            if self.passwords.matches(new, Some(&row.text("password_hash")?)).await? {
                return Err(AccountsError::field(field, "was used before; the last five do not come back"));
            }
        }
        self.passwords.hash(new).await
    }
}
