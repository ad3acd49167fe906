//! Signing up, in and out: the routes under `/api/auth`.
//!
//! An unknown user and a wrong password must look alike, in text and in time.

use http::HeaderValue;
use serde_json::{Value as Json, json};

use super::access::Access;
use super::context::{Change, Context, Event, new_id, ok};
use super::error::AccountsError;
use super::input::Text;
use super::organizations::NewOrganization;
use super::password::{self, HISTORY_LENGTH};
use super::roles::show_permissions;
use super::sessions::{self, NewSession, REFRESH_DAYS};
use super::token::{ACCESS_SECONDS, Claims};
use super::{Accounts, Reply, attempts, invitations, organizations, recovery, users};
use crate::database::{Row, values};

/// The longest refresh token or invitation token that is looked at, in characters: ours have 43.
const TOKEN_CHARACTERS_MAX: usize = 256;
/// What both an unknown user and a wrong password are told.
const WRONG_CREDENTIALS: &str = "the e-mail address or the password is wrong";
const ACCESS_COOKIE: &str = "accessToken";
const REFRESH_COOKIE: &str = "refreshToken";

/// Tokens for a client.
struct Issued {
    token: String,
    refresh_token: String,
    remember_me: bool,
}

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
    if accounts.database.query_one("SELECT id FROM users WHERE email = $1", &values![&email]).await?.is_some() {
        return Err(AccountsError::Conflict("the e-mail address is taken".into()));
    }
    let hash = accounts.passwords.hash(&secret).await?;

    let mut change = context.begin().await?;
    let user_id = insert_user(&mut change, accounts, &email, &name, &hash).await?;
    let (organization_id, made) = match invitation {
        Some(token) => (invitations::accept_in(&mut change, accounts, &token, &user_id, &email).await?, None),
        None => {
            let name = organization_name.unwrap_or_else(|| name.clone());
            let new = NewOrganization { name, slug: None, description: None, logo_url: None };
            let made = organizations::make(&mut change, accounts, &user_id, new).await?;
            (made.id.clone(), Some(made))
        }
    };
    let data = json!({ "userId": user_id, "email": email, "organizationId": organization_id });
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
    change.audit_as(Some(&user_id), organization, "user.registered", ("user", &user_id), Json::Null).await?;
    let new = NewSession { user_id: &user_id, organization_id: organization, remember_me };
    let opened = sessions::open(&mut change, context, new).await?;
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
    let access = accounts.access_of(&user_id, &organization_id).await?;
    let token = accounts.issue(&user_id, &opened.session_id, access.as_ref())?;
    let issued = Issued { token, refresh_token: opened.refresh_token, remember_me };
    let body = json!({
        "user": users::read_json(accounts, &user_id).await?,
        "organization": organizations::read_json(accounts, &organization_id).await?,
    });
    Ok(Reply { status: http::StatusCode::CREATED, ..with_tokens(accounts, issued, body) })
}

async fn insert_user(
    change: &mut Change<'_>,
    accounts: &Accounts,
    email: &str,
    name: &str,
    hash: &str,
) -> Result<String, AccountsError> {
    let (id, now) = (new_id(), accounts.now());
    let inserted = change
        .execute(
            "INSERT INTO users (id, email, password_hash, name, is_active, is_email_verified, auth_providers, last_login_at, \
                 created_by, created_at, updated_at, version) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $1, $8, $8, 1) ON CONFLICT (email) DO NOTHING",
            &values![&id, email, hash, name, true, false, json!(["password"]), now],
        )
        .await?;
    if inserted == 0 {
        return Err(AccountsError::Conflict("the e-mail address is taken".into()));
    }
    remember_password(change, &id, hash, now).await?;
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

    let sql = "SELECT id, password_hash, is_active FROM users WHERE email = $1 AND deleted_at IS NULL";
    let user = accounts.database.query_one(sql, &values![&email]).await?;
    let stored = user.as_ref().map(|row| row.optional_text("password_hash")).transpose()?.flatten();
    let is_right = accounts.passwords.matches(&secret, stored.as_deref()).await?;
    let user_id = user.as_ref().map(|row| row.text("id")).transpose()?;

    let mut change = context.begin().await?;
    attempts::refuse_locked_in(&mut change, &email, accounts.now()).await?;
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
    change.execute("UPDATE users SET last_login_at = $2 WHERE id = $1", &values![user_id, accounts.now()]).await?;
    let organization = organization_id.as_deref();
    let new = NewSession { user_id, organization_id: organization, remember_me };
    let opened = sessions::open(&mut change, context, new).await?;
    let data = json!({ "userId": user_id, "sessionId": opened.session_id });
    change
        .event(Event {
            kind: "auth.login.success",
            organization_id: organization,
            user_id: Some(user_id),
            key: user_id,
            data,
        })
        .await?;
    change.audit_as(Some(user_id), organization, "auth.login.success", ("user", user_id), Json::Null).await?;
    change.commit().await?;

    let access = accounts.access_if(user_id, organization).await?;
    let token = accounts.issue(user_id, &opened.session_id, access.as_ref())?;
    let issued = Issued { token, refresh_token: opened.refresh_token, remember_me };
    Ok(with_tokens(accounts, issued, json!({ "user": users::read_json(accounts, user_id).await? })))
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

/// The organization a session begins in: the wanted one, or the one used last.
async fn choose_organization(
    change: &mut Change<'_>,
    accounts: &Accounts,
    user_id: &str,
    wanted: Option<&str>,
) -> Result<Option<String>, AccountsError> {
    let row = change
        .query_one(
            "SELECT m.organization_id FROM organization_memberships m JOIN organizations o ON o.id = m.organization_id \
             WHERE m.user_id = $1 AND m.status = 'active' AND m.deleted_at IS NULL AND o.is_active = $2 \
                 AND o.deleted_at IS NULL AND (m.expires_at IS NULL OR m.expires_at > $3) \
                 AND (m.organization_id = $4 OR $4 = '') \
             ORDER BY COALESCE(m.last_access_at, m.joined_at) DESC, m.id LIMIT 1",
            &values![user_id, true, accounts.now(), wanted.unwrap_or_default()],
        )
        .await?;
    match row {
        Some(row) => Ok(Some(row.text("organization_id")?)),
        None if wanted.is_some() => {
            Err(AccountsError::Forbidden("you are no active member of this organization".into()))
        }
        None => Ok(None),
    }
}

/// `POST /api/auth/refresh`
pub(super) async fn refresh(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let accounts = context.accounts;
    let mut fields = context.fields()?;
    let sent = if fields.has("refreshToken") {
        Some(fields.required_secret("refreshToken", TOKEN_CHARACTERS_MAX))
    } else {
        cookie(context, REFRESH_COOKIE)
    };
    if sent.is_none() {
        fields.fault("refreshToken", "is required");
    }
    fields.finish()?;
    let rotated = sessions::rotate(context, &sent.unwrap_or_default()).await?;
    let user_id = &rotated.user_id;
    let mut access = accounts.access_if(user_id, rotated.organization_id.as_deref()).await?;
    if access.is_none() {
        // The membership has ended since: go on where the user still belongs.
        let mut change = context.begin().await?;
        let organization_id = choose_organization(&mut change, accounts, user_id, None).await?;
        let sql = "UPDATE sessions SET organization_id = $2 WHERE id = $1";
        change.execute(sql, &values![&rotated.session_id, organization_id.clone()]).await?;
        change.commit().await?;
        access = accounts.access_if(user_id, organization_id.as_deref()).await?;
    }
    let token = accounts.issue(user_id, &rotated.session_id, access.as_ref())?;
    let issued = Issued { token, refresh_token: rotated.refresh_token, remember_me: rotated.remember_me };
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
    for (name, path) in [(ACCESS_COOKIE, "/"), (REFRESH_COOKIE, "/api/auth")] {
        set_cookie(context.accounts, &mut reply, name, "", path, Some(0));
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
    let permissions = access.as_ref().map(|access| show_permissions(&access.permissions, access.is_super_admin));
    Ok(ok(json!({
        "user": user,
        "organization": organization,
        "role": role,
        "permissions": permissions.unwrap_or_default(),
        "isPlatform": principal.is_platform,
        "sessionId": principal.session_id.as_deref(),
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
    if !accounts.passwords.matches(&current, user.optional_text("password_hash")?.as_deref()).await? {
        // Counted like a failed sign-in: a stolen access token is no licence to guess.
        let mut change = context.begin().await?;
        fail(&mut change, context, &email, Some(user_id)).await?;
        change.commit().await?;
        return Err(AccountsError::field("currentPassword", "is not the present password"));
    }
    let hash = accounts.new_password_hash(user_id, &user, "newPassword", &new).await?;
    let mut change = context.begin().await?;
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

/// Stores a new password and ends every session. Returns how many.
pub(super) async fn store_password(
    change: &mut Change<'_>,
    accounts: &Accounts,
    user_id: &str,
    hash: &str,
) -> Result<usize, AccountsError> {
    let now = accounts.now();
    let sql = "UPDATE users SET password_hash = $2, updated_at = $3, version = version + 1 WHERE id = $1";
    change.execute(sql, &values![user_id, hash, now]).await?;
    remember_password(change, user_id, hash, now).await?;
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
    set_cookie(accounts, &mut reply, ACCESS_COOKIE, &token, "/", Some(ACCESS_SECONDS));
    Ok(reply)
}

impl Accounts {
    /// An access token for a session.
    fn issue(&self, user_id: &str, session_id: &str, access: Option<&Access>) -> Result<String, AccountsError> {
        let mut claims = Claims::new(user_id, session_id, self.now());
        if let Some(access) = access {
            claims.organization_id = Some(access.organization_id.clone());
            claims.role_id = Some(access.role_id.clone());
            claims.is_super_admin = access.is_super_admin;
        }
        self.keyring.load().sign(&claims)
    }

    /// The rights in an organization, where there is one.
    async fn access_if(&self, user_id: &str, organization_id: Option<&str>) -> Result<Option<Access>, AccountsError> {
        match organization_id {
            Some(organization_id) => Ok(self.access_of(user_id, organization_id).await?),
            None => Ok(None),
        }
    }

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

/// The body with the tokens in front, and the same tokens as cookies for browsers.
fn with_tokens(accounts: &Accounts, issued: Issued, body: Json) -> Reply {
    let mut members = serde_json::Map::new();
    members.insert("token".into(), issued.token.clone().into());
    members.insert("refreshToken".into(), issued.refresh_token.clone().into());
    members.insert("expiresIn".into(), ACCESS_SECONDS.into());
    if let Json::Object(body) = body {
        members.extend(body);
    }
    let mut reply = ok(Json::Object(members));
    set_cookie(accounts, &mut reply, ACCESS_COOKIE, &issued.token, "/", Some(ACCESS_SECONDS));
    let age = issued.remember_me.then_some(REFRESH_DAYS * 24 * 3_600);
    set_cookie(accounts, &mut reply, REFRESH_COOKIE, &issued.refresh_token, "/api/auth", age);
    reply
}

/// A cookie that scripts cannot read and other sites cannot send.
fn set_cookie(accounts: &Accounts, reply: &mut Reply, name: &str, value: &str, path: &str, age_seconds: Option<i64>) {
    let age = age_seconds.map_or(String::new(), |seconds| format!("; Max-Age={seconds}"));
    let secure = if accounts.options.cookies_secure { "; Secure" } else { "" };
    let text = format!("{name}={value}; Path={path}; HttpOnly; SameSite=Strict{age}{secure}");
    if let Ok(mut value) = HeaderValue::from_str(&text) {
        value.set_sensitive(true);
        reply.headers.append(http::header::SET_COOKIE, value);
    }
}

fn cookie(context: &Context<'_>, name: &str) -> Option<String> {
    let headers = context.headers.get_all(http::header::COOKIE);
    let pairs = headers.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(';'));
    let mut values = pairs.filter_map(|pair| pair.trim().split_once('=')).filter(|(key, _)| *key == name);
    values
        .next()
        .map(|(_, value)| value.to_owned())
        .filter(|value| !value.is_empty() && value.len() <= TOKEN_CHARACTERS_MAX)
}
