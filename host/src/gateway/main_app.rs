//! The main app's routes: the body is read whole and the answer is made of its reply. Accounts judges the caller itself.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, SET_COOKIE};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response};
use http_body::Body as HttpBody;

use super::authorize::Identity;
use super::error::GatewayError;
use super::exchange::Exchange;
use super::idempotency::{self, Attempt, Begun, Keyed};
use super::receive::{self, IDLE_TIME_MAX};
use super::respond::ResponseBody;
use super::upstream::Upstream;
use super::{Gateway, is_undecided};
use crate::accounts::{Accounts, Caller, Reply};
use crate::body::BodyError;

/// A body of the main app: it has no large ones.
const BODY_BYTES_MAX: usize = 1 << 20;
/// How long a request with an idempotency key may take.
const TIME_MAX: std::time::Duration = std::time::Duration::from_secs(30);
/// Answers here hold tokens: they are never kept for a replay.
const TOKEN_PREFIX: &str = "/api/auth/";
/// What follows lets whoever holds it in: it stays out of the log.
const INVITATION_PREFIX: &str = "/api/invitations/";
const INVITATION_TEMPLATE: &str = "/api/invitations/{token}";

impl<U: Upstream> Gateway<U> {
    /// Answers a main-app route.
    pub(super) async fn main_app<B>(
        &self,
        exchange: &Exchange,
        identity: Identity,
        mut parts: Parts,
        body: B,
    ) -> Result<Response<ResponseBody>, GatewayError>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BodyError>,
    {
        // 401 would sign the user out; whether it is one, nobody can say at present.
        if let (true, Identity::Refused(error)) = (is_undecided(&identity), &identity) {
            return Err(error.again());
        }
        let principal = match identity {
            Identity::Known(principal) => principal,
            Identity::Refused(GatewayError::Forbidden(reason)) if !parts.uri.path().starts_with(TOKEN_PREFIX) => {
                return Err(GatewayError::Forbidden(reason));
            }
            _ => Arc::clone(&self.anonymous),
        };
        let is_forged = self.cors.is_forged(&parts);
        if is_forged {
            // No cookie of such a request counts: neither the access token's nor those that the routes read themselves.
            parts.headers.remove(http::header::COOKIE);
        }
        let key = idempotency::key(&parts.method, &parts.headers)?.map(str::to_owned);
        let key = key.filter(|_| !holds_secrets(parts.uri.path()));
        receive::check_length(&parts.headers, BODY_BYTES_MAX)?;
        let (bytes, _held) = receive::read_whole(body, &self.budget, BODY_BYTES_MAX, IDLE_TIME_MAX).await?.into_parts();
        if parts.method == Method::HEAD {
            parts.method = Method::GET;
        }
        let keyed = key.and_then(|key| Keyed::new(&key, &principal, &parts, &bytes));
        let caller = Caller {
            principal,
            request_id: Arc::clone(&exchange.request_id),
            ip: exchange.ip,
            user_agent: super::user_agent(&parts.headers),
        };
        let request = Request::from_parts(parts, bytes);
        let Some(keyed) = keyed else {
            let mut response = response(self.accounts.handle(&caller, request).await?);
            if is_forged {
                // Nor does it leave one: a page of somebody else's must not sign a browser in, least of all to an account of theirs.
                response.headers_mut().remove(SET_COOKIE);
            }
            return Ok(response);
        };
        match self.idempotency.begin(&keyed, TIME_MAX).await? {
            Begun::Replay(response) => Ok(response),
            Begun::First(attempt) => {
                let running = tokio::spawn(run_keyed(Arc::clone(&self.accounts), caller, request, attempt));
                running.await.map_err(|error| GatewayError::Internal(error.into()))?
            }
        }
    }
}

/// What is logged instead of a path that is a secret.
pub(super) fn template_of(path: &str) -> Option<&'static str> {
    path.starts_with(INVITATION_PREFIX).then_some(INVITATION_TEMPLATE)
}

/// Whether an answer below this path may hold a token, a key or an invitation's secret.
fn holds_secrets(path: &str) -> bool {
    path.starts_with(TOKEN_PREFIX) || path.split('/').any(|segment| matches!(segment, "invitations" | "api-keys"))
}

/// Runs to its end even when the client hangs up: it will ask again with the same key.
async fn run_keyed(
    accounts: Arc<Accounts>,
    caller: Caller,
    request: Request<Bytes>,
    attempt: Attempt,
) -> Result<Response<ResponseBody>, GatewayError> {
    match accounts.handle(&caller, request).await {
        Ok(reply) => {
            let response = response(reply);
            let body = match response.body() {
                ResponseBody::Full(Some(bytes)) => bytes.clone(),
                _ => Bytes::new(),
            };
            attempt.finish(response.status(), response.headers(), Some(&body)).await;
            Ok(response)
        }
        Err(error) => {
            attempt.release().await;
            Err(error.into())
        }
    }
}

/// A reply as it goes out.
pub(super) fn response(reply: Reply) -> Response<ResponseBody> {
    let body = reply.body.map_or(ResponseBody::Empty, |body| ResponseBody::full(body.to_string()));
    let mut response = Response::new(body);
    *response.status_mut() = reply.status;
    *response.headers_mut() = reply.headers;
    let headers = response.headers_mut();
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if matches!(response.body(), ResponseBody::Full(_)) {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    response
}
