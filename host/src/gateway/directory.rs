//! `http://host.internal/…`: what a plugin may ask the main app, which is who belongs to the organization it works for and
//! what that has set, and the document of every route, which anybody may read from outside.
//!
//! Reading only, and only with `host` in the grant's `call`. A user's call may read what the user may; a message's call reads
//! as the host, for its organization alone: whoever caused the message decides nothing about who is told of it. What an
//! organization has set is read as the host by every call: it counts for all members alike, whatever each may see of it.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, Uri};

use super::error::GatewayError;
use super::main_app;
use super::respond::ResponseBody;
use super::upstream::Upstream;
use super::{Gateway, path};
use crate::accounts::Caller;
use crate::principal::{Call, Principal, PrincipalKind};

/// The name behind which the main app answers plugins; no plugin can have it.
pub(super) const TARGET: &str = "host";
/// What can be read there.
const READABLE: &[&str] = &["/api/users", "/api/teams", "/api/organizations"];
/// What every route takes and answers.
const DOCUMENT: &str = "/openapi.json";

impl<U: Upstream> Gateway<U> {
    /// Answers a plugin's question.
    pub(super) async fn directory(
        &self,
        call: &Call,
        method: &Method,
        uri: &Uri,
    ) -> Result<Response<ResponseBody>, GatewayError> {
        path::check(uri.path(), uri.query())?;
        let is_document = uri.path() == DOCUMENT;
        if !is_document && !READABLE.iter().any(|prefix| is_below(uri.path(), prefix)) {
            return Err(GatewayError::RouteNotFound);
        }
        if *method != Method::GET && *method != Method::HEAD {
            return Err(GatewayError::MethodNotAllowed(http::HeaderValue::from_static("GET, HEAD")));
        }
        if is_document {
            return Ok(self.document.response(&self.registry, !self.has_admin_door));
        }
        let principal = reader(&call.principal, uri.path());
        let caller = Caller { principal, request_id: Arc::clone(&call.request_id), ip: None, user_agent: None };
        let mut request = Request::new(Bytes::new());
        *request.uri_mut() = uri.clone();
        Ok(main_app::response(self.accounts.handle_internal(&caller, request).await?))
    }
}

/// As whom the main app is asked.
fn reader(principal: &Arc<Principal>, path: &str) -> Arc<Principal> {
    let own = principal.organization_id.as_ref();
    let whose = match settings_of(path) {
        _ if principal.kind == PrincipalKind::System => own.cloned(),
        // The platform's administrators are told of any organization as that organization counts.
        Some(id) if principal.is_platform || own.is_some_and(|own| **own == *id) => Some(id.into()),
        _ => return Arc::clone(principal),
    };
    Arc::new(Principal::system(whose, principal.user_id.clone()))
}

/// The organization whose settings lie at a path.
fn settings_of(path: &str) -> Option<&str> {
    path.strip_prefix("/api/organizations/")?.strip_suffix("/settings")
}

fn is_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
