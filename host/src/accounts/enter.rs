//! Letting somebody in who has proved who they are: a session, tokens, and the same tokens as cookies for browsers.
//!
//! It must never be reached before a password, a login provider or a registration proved the user.

use http::HeaderValue;
use serde_json::{Value as Json, json};

use super::access::Access;
use super::context::{Change, Context, Event, ok};
use super::error::AccountsError;
use super::sessions::{self, NewSession, Opened, REFRESH_DAYS};
use super::token::{ACCESS_SECONDS, Claims};
use super::{Accounts, Reply};
use crate::database::values;

pub(super) const ACCESS_COOKIE: &str = "accessToken";
pub(super) const REFRESH_COOKIE: &str = "refreshToken";
/// Where the refresh cookie is sent: nowhere but to the routes that use it.
pub(super) const REFRESH_PATH: &str = "/api/auth";

/// Tokens for a client.
pub(super) struct Issued {
    pub token: String,
    pub refresh_token: String,
    pub remember_me: bool,
}

/// Who comes in, and how.
pub(super) struct Entering<'a> {
    pub user_id: &'a str,
    /// None for a user without an active membership.
    pub organization_id: Option<&'a str>,
    pub remember_me: bool,
    /// `password`, or the login provider's name.
    pub means: &'a str,
}

/// Opens a session within a change, and tells of it.
pub(super) async fn enter(
    change: &mut Change<'_>,
    context: &Context<'_>,
    who: &Entering<'_>,
) -> Result<Opened, AccountsError> {
    let Entering { user_id, organization_id, remember_me, means } = *who;
    // The row's lock keeps sessions that begin at once from being counted past each other.
    // The account may have been deactivated since whoever asks has proved who they are.
    let sql = "UPDATE users SET last_login_at = $2 WHERE id = $1 AND is_active = $3 AND deleted_at IS NULL";
    if change.execute(sql, &values![user_id, context.accounts.now(), true]).await? == 0 {
        return Err(AccountsError::Forbidden("the account is deactivated".into()));
    }
    let opened = sessions::open(change, context, NewSession { user_id, organization_id, remember_me }).await?;
    let data = json!({ "userId": user_id, "sessionId": opened.session_id, "provider": means });
    change
        .event(Event { kind: "auth.login.success", organization_id, user_id: Some(user_id), key: user_id, data })
        .await?;
    let changes = json!({ "provider": means });
    change.audit_as(Some(user_id), organization_id, "auth.login.success", ("user", user_id), changes).await?;
    Ok(opened)
}

/// The organization a session begins in: the wanted one, or the one used last. One that somebody has never worked in
/// comes after all others: others may add them to theirs, and what they do next must not happen there unasked.
pub(super) async fn choose_organization(
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
             ORDER BY m.last_access_at IS NULL, COALESCE(m.last_access_at, m.joined_at) DESC, m.id LIMIT 1",
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

/// The tokens of a session that was opened for somebody.
pub(super) async fn issue_for(
    accounts: &Accounts,
    who: &Entering<'_>,
    opened: Opened,
) -> Result<Issued, AccountsError> {
    let access = accounts.access_if(who.user_id, who.organization_id).await?;
    let token = accounts.issue(who.user_id, &opened.session_id, access.as_ref())?;
    Ok(Issued { token, refresh_token: opened.refresh_token, remember_me: who.remember_me })
}

impl Accounts {
    /// An access token for a session.
    pub(super) fn issue(
        &self,
        user_id: &str,
        session_id: &str,
        access: Option<&Access>,
    ) -> Result<String, AccountsError> {
        let mut claims = Claims::new(user_id, session_id, self.now());
        if let Some(access) = access {
            claims.organization_id = Some(access.organization_id.clone());
            claims.role_id = Some(access.role_id.clone());
            claims.is_super_admin = access.is_super_admin;
        }
        self.keyring.load().sign(&claims)
    }

    /// The rights in an organization, where there is one.
    pub(super) async fn access_if(
        &self,
        user_id: &str,
        organization_id: Option<&str>,
    ) -> Result<Option<Access>, AccountsError> {
        match organization_id {
            Some(organization_id) => Ok(self.access_of(user_id, organization_id).await?),
            None => Ok(None),
        }
    }
}

/// The body with the tokens in front, and the same tokens as cookies for browsers.
pub(super) fn with_tokens(accounts: &Accounts, issued: Issued, body: Json) -> Reply {
    let mut members = serde_json::Map::new();
    members.insert("token".into(), issued.token.clone().into());
    members.insert("refreshToken".into(), issued.refresh_token.clone().into());
    members.insert("expiresIn".into(), ACCESS_SECONDS.into());
    if let Json::Object(body) = body {
        members.extend(body);
    }
    let mut reply = ok(Json::Object(members));
    set_token_cookies(accounts, &mut reply, &issued);
    reply
}

/// The tokens as cookies.
pub(super) fn set_token_cookies(accounts: &Accounts, reply: &mut Reply, issued: &Issued) {
    set_access_cookie(accounts, reply, &issued.token);
    let age_seconds = issued.remember_me.then_some(REFRESH_DAYS * 24 * 3_600);
    let refresh = Cookie { name: REFRESH_COOKIE, value: &issued.refresh_token, path: REFRESH_PATH, age_seconds };
    refresh.set(accounts, reply, "Strict");
}

/// The access token as a cookie.
pub(super) fn set_access_cookie(accounts: &Accounts, reply: &mut Reply, token: &str) {
    let cookie = Cookie { name: ACCESS_COOKIE, value: token, path: "/", age_seconds: Some(ACCESS_SECONDS) };
    cookie.set(accounts, reply, "Strict");
}

/// A cookie of the host.
pub(super) struct Cookie<'a> {
    pub name: &'a str,
    pub value: &'a str,
    pub path: &'a str,
    /// None: as long as the browser is open. 0 removes it.
    pub age_seconds: Option<i64>,
}

impl Cookie<'_> {
    /// Sets it so that scripts cannot read it; `same_site` says what other sites may send it with.
    pub(super) fn set(&self, accounts: &Accounts, reply: &mut Reply, same_site: &str) {
        let Self { name, value, path, age_seconds } = self;
        let age = age_seconds.map_or(String::new(), |seconds| format!("; Max-Age={seconds}"));
        let secure = if accounts.options.cookies_secure { "; Secure" } else { "" };
        let text = format!("{name}={value}; Path={path}; HttpOnly; SameSite={same_site}{age}{secure}");
        if let Ok(mut value) = HeaderValue::from_str(&text) {
            value.set_sensitive(true);
            reply.headers.append(http::header::SET_COOKIE, value);
        }
    }
}

/// A cookie that the browser sent, of at most `characters_max` characters.
pub(super) fn cookie(context: &Context<'_>, name: &str, characters_max: usize) -> Option<String> {
    let headers = context.headers.get_all(http::header::COOKIE);
    let pairs = headers.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(';'));
    let mut values = pairs.filter_map(|pair| pair.trim().split_once('=')).filter(|(key, _)| *key == name);
    let (_, value) = values.next()?;
    (!value.is_empty() && value.len() <= characters_max).then(|| value.to_owned())
}
