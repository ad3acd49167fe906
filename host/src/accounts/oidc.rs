//! Sign-in by OpenID Connect: start, come back, link. Google is the provider of that name, on routes of its own.
//!
//! What comes back is believed only from the browser that began, once, for the provider it was begun with; an account is
//! found by the provider's own id of the person, or by an e-mail address that both sides have confirmed.

mod fetch;
mod flow;
mod person;
mod provider;

pub(crate) use provider::ProviderOptions;
pub(super) use provider::Providers;

use http::{HeaderValue, StatusCode};
use serde_json::json;

use super::auth::TOKEN_CHARACTERS_MAX;
use super::context::{Context, ok};
use super::enter::{set_token_cookies, with_tokens};
use super::error::AccountsError;
use super::{Accounts, Reply, users};
use flow::{Flow, Link};
use provider::Provider;

/// The provider behind the routes `/api/auth/google` and `/api/auth/link-google`.
pub(super) const GOOGLE: &str = "google";
/// The longest code of a provider, in characters.
const CODE_CHARACTERS_MAX: usize = 4_096;
/// The longest place to go to afterwards, in characters.
const REDIRECT_CHARACTERS_MAX: usize = 1_024;

/// `GET /api/auth/google`, `GET /api/auth/oidc/{provider}`: sends the browser to the provider.
pub(super) async fn start(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let provider = provider_of(context)?;
    let redirect_to = context.query.get("redirectTo").map(|to| place(context.accounts, to)).transpose()?;
    let invitation = context.query.get("invitationToken").map(str::to_owned);
    if invitation.as_ref().is_some_and(|token| token.len() > TOKEN_CHARACTERS_MAX) {
        return Err(AccountsError::field("invitationToken", "is too long"));
    }
    let remember_me = context.query.get("rememberMe") == Some("true");
    let flow = Flow::begin(provider.name(), context.accounts.now());
    let flow = Flow { redirect_to, remember_me, invitation, ..flow };
    let url = provider.authorization_url(context.accounts, &flow).await?;
    let mut reply = redirect(&url)?;
    flow.remember(context.accounts, &mut reply).await?;
    Ok(reply)
}

/// `POST /api/auth/link-google`, `POST /api/auth/oidc/{provider}/link`: where the browser has to go to link an account.
pub(super) async fn link(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let provider = provider_of(context)?;
    let (user_id, session_id) = (context.user_id()?.to_owned(), context.session_id()?.to_owned());
    let mut fields = context.fields()?;
    let redirect_to = fields.secret("redirectTo", REDIRECT_CHARACTERS_MAX);
    let remember_me = fields.boolean("rememberMe").unwrap_or(false);
    fields.finish()?;
    let redirect_to = redirect_to.map(|to| place(context.accounts, &to)).transpose()?;
    person::refuse_linked(context, &user_id, provider.name()).await?;
    let flow = Flow::begin(provider.name(), context.accounts.now());
    let flow = Flow { redirect_to, remember_me, link: Some(Link { user_id, session_id }), ..flow };
    let url = provider.authorization_url(context.accounts, &flow).await?;
    let mut reply = ok(json!({ "authorizationUrl": url }));
    flow.remember(context.accounts, &mut reply).await?;
    Ok(reply)
}

/// `GET /api/auth/google/callback`, `GET /api/auth/oidc/{provider}/callback`: what the provider says.
pub(super) async fn finish(context: &Context<'_>) -> Result<Reply, AccountsError> {
    let (accounts, query) = (context.accounts, &context.query);
    let provider = provider_of(context)?;
    let flow = Flow::recall(context, provider.name()).await?;
    provider.check_issuer(accounts, query.get("iss")).await?;
    if query.get("error").is_some() {
        return Err(AccountsError::Unauthorized("the login provider refused the sign-in"));
    }
    let code = query.get("code").filter(|code| code.len() <= CODE_CHARACTERS_MAX);
    let code = code.ok_or_else(|| AccountsError::field("code", "is required"))?;
    let identity = provider.identify(accounts, code, &flow).await?;
    let mut reply = match &flow.link {
        Some(link) => {
            let providers = person::link(context, link, provider.name(), &identity).await?;
            let body = json!({ "linked": provider.name(), "providers": providers });
            afterwards(&flow, ok(body))?
        }
        None => {
            let (user_id, issued) = person::sign_in(context, &flow, provider.name(), &identity).await?;
            match &flow.redirect_to {
                Some(to) => {
                    let mut reply = redirect(to)?;
                    set_token_cookies(accounts, &mut reply, &issued);
                    reply
                }
                None => with_tokens(accounts, issued, json!({ "user": users::read_json(accounts, &user_id).await? })),
            }
        }
    };
    flow::forget(accounts, &mut reply);
    Ok(reply)
}

/// The provider of the path. Google's own routes exist always; another name that is not configured does not.
fn provider_of<'a>(context: &'a Context<'_>) -> Result<&'a Provider, AccountsError> {
    let providers = &context.accounts.providers;
    match context.parameter("provider") {
        "" => {
            providers.get(GOOGLE).ok_or(AccountsError::NotConfigured("Google sign-in is not configured on this host"))
        }
        name => providers.get(name).ok_or(AccountsError::NotFound("login provider")),
    }
}

/// A redirect where one was asked for, else the answer.
fn afterwards(flow: &Flow, otherwise: Reply) -> Result<Reply, AccountsError> {
    match &flow.redirect_to {
        Some(to) => redirect(to),
        None => Ok(otherwise),
    }
}

fn redirect(to: &str) -> Result<Reply, AccountsError> {
    let place = HeaderValue::from_str(to).map_err(AccountsError::internal)?;
    let mut reply = Reply { status: StatusCode::FOUND, headers: http::HeaderMap::new(), body: None };
    reply.headers.insert(http::header::LOCATION, place);
    Ok(reply)
}

/// Judges where a browser may be sent afterwards: a path of this host, or a URL of an origin the operator allows.
fn place(accounts: &Accounts, to: &str) -> Result<String, AccountsError> {
    let refused =
        || AccountsError::field("redirectTo", "must be a path that begins with /, or a URL of an allowed origin");
    let is_plain =
        to.len() <= REDIRECT_CHARACTERS_MAX && to.bytes().all(|byte| byte.is_ascii_graphic()) && !to.contains('\\');
    if !is_plain {
        return Err(refused());
    }
    let own = accounts.options.public_url.as_deref().unwrap_or_default().trim_end_matches('/');
    if to.starts_with('/') {
        return if to.starts_with("//") { Err(refused()) } else { Ok(format!("{own}{to}")) };
    }
    let uri: http::Uri = to.parse().map_err(|_| refused())?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return Err(refused()) };
    let origin = format!("{scheme}://{authority}").to_ascii_lowercase();
    let allowed = accounts.options.allowed_origins.iter().map(String::as_str).chain([own]);
    let is_allowed = matches!(scheme, "http" | "https")
        && !authority.as_str().contains('@')
        && allowed.map(origin_of).any(|allowed| allowed == origin);
    if is_allowed { Ok(to.to_owned()) } else { Err(refused()) }
}

/// Scheme and authority of a URL.
fn origin_of(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return String::new() };
    let authority = rest.split('/').next().unwrap_or_default();
    format!("{scheme}://{authority}").to_ascii_lowercase()
}
