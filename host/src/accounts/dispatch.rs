//! From a request to the function that answers it: path, method, identity, organization, permission, in this order.
//!
//! No handler runs before its route's scope was checked here.

use std::sync::Arc;

use bytes::Bytes;
use http::Method;

use super::access::Access;
use super::context::Context;
use super::error::AccountsError;
use super::input::{Query, is_id};
use super::routes::{Endpoint, Scope, endpoints};
use super::{Accounts, AuditEntry, Caller, Reply};
use crate::principal::PrincipalKind;

/// All endpoints by path.
pub(super) struct Router {
    paths: matchit::Router<Vec<Arc<Endpoint>>>,
}

impl Router {
    pub(super) fn new() -> Result<Self, AccountsError> {
        let mut grouped: Vec<(&'static str, Vec<Arc<Endpoint>>)> = Vec::new();
        for endpoint in endpoints() {
            let endpoint = Arc::new(endpoint);
            match grouped.iter_mut().find(|(path, _)| *path == endpoint.path) {
                Some((_, methods)) => methods.push(endpoint),
                None => grouped.push((endpoint.path, vec![endpoint])),
            }
        }
        let mut paths = matchit::Router::new();
        for (path, methods) in grouped {
            paths.insert(path, methods).map_err(AccountsError::internal)?;
        }
        Ok(Self { paths })
    }
}

impl Accounts {
    /// Answers a request whose path is one of the main app's. It checks identity, organization and permission itself,
    /// and audits its own denials.
    pub(crate) async fn handle(
        self: &Arc<Self>,
        caller: &Caller,
        request: http::Request<Bytes>,
    ) -> Result<Reply, AccountsError> {
        self.answer(caller, request, false).await
    }

    /// The same for a plugin's call: fewer routes exist, and the caller is whoever the plugin works for.
    pub(crate) async fn handle_internal(
        self: &Arc<Self>,
        caller: &Caller,
        request: http::Request<Bytes>,
    ) -> Result<Reply, AccountsError> {
        self.answer(caller, request, true).await
    }

    async fn answer(
        self: &Arc<Self>,
        caller: &Caller,
        request: http::Request<Bytes>,
        only_internal: bool,
    ) -> Result<Reply, AccountsError> {
        let (parts, body) = request.into_parts();
        let matched = self.router.paths.at(parts.uri.path()).map_err(|_| AccountsError::RouteNotFound)?;
        let method = if parts.method == Method::HEAD { &Method::GET } else { &parts.method };
        if only_internal && !matched.value.iter().any(|endpoint| endpoint.is_internal) {
            return Err(AccountsError::RouteNotFound);
        }
        let mut usable = matched.value.iter().filter(|endpoint| !only_internal || endpoint.is_internal);
        let endpoint = usable.find(|endpoint| endpoint.method == *method);
        let endpoint = endpoint.ok_or_else(|| AccountsError::MethodNotAllowed(allowed(matched.value)))?;
        let parameters: Vec<(String, String)> =
            matched.params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let mut context = Context {
            accounts: self,
            caller,
            headers: &parts.headers,
            body: &body,
            query: Query::parse(parts.uri.query()),
            parameters,
            access: None,
        };
        let outcome = match self.admit(caller, endpoint, &context.parameters).await {
            Ok(access) => {
                context.access = access;
                (endpoint.run)(&context).await
            }
            Err(error) => Err(error),
        };
        if let Err(AccountsError::Forbidden(reason)) = &outcome {
            self.note_denial(&context, endpoint, reason);
        }
        outcome
    }

    /// The methods of a path, where the main app has it.
    pub(crate) fn methods(&self, path: &str) -> Option<Vec<&'static str>> {
        self.router.paths.at(path).ok().map(|matched| allowed(matched.value))
    }

    /// Checks a route's scope. Returns the caller's rights in the organization that the path names, where it names one.
    async fn admit(
        &self,
        caller: &Caller,
        endpoint: &Endpoint,
        parameters: &[(String, String)],
    ) -> Result<Option<Access>, AccountsError> {
        let principal = &caller.principal;
        if endpoint.scope != Scope::Public && principal.kind == PrincipalKind::Anonymous {
            return Err(AccountsError::Unauthorized("a valid access token is needed"));
        }
        let is_key = principal.kind == PrincipalKind::ApiKey;
        match endpoint.scope {
            Scope::Public | Scope::SignedIn => Ok(None),
            // A key works for somebody: it does not become them.
            Scope::Session | Scope::Member(None) if is_key => {
                Err(AccountsError::Forbidden("this route is for signed-in users, not for API keys".into()))
            }
            Scope::Session => Ok(None),
            Scope::Platform if principal.is_platform => Ok(None),
            Scope::Platform => Err(denied("the platform role")),
            Scope::Organization(code) => {
                if principal.organization_id.is_none() {
                    return Err(AccountsError::OrganizationRequired);
                }
                if principal.has_permission(code) { Ok(None) } else { Err(denied(code)) }
            }
            // The host itself, for a plugin: it reads all of the organization that the plugin works for, and of no other.
            Scope::Member(_) if principal.kind == PrincipalKind::System => {
                let is_own = principal.organization_id.as_deref() == Some(organization_of(parameters)?);
                if is_own { Ok(None) } else { Err(AccountsError::NotFound("organization")) }
            }
            Scope::Member(code) => {
                let access = self.access_to_path(caller, parameters).await?;
                match code {
                    Some(code) if !access.allows(code) => Err(denied(code)),
                    _ => Ok(Some(access)),
                }
            }
            Scope::SuperAdmin => {
                let access = self.access_to_path(caller, parameters).await?;
                if access.is_super_admin { Ok(Some(access)) } else { Err(denied("the role Super Admin")) }
            }
        }
    }

    /// The caller's rights in the organization of `{id}`; who has none is told that it does not exist.
    async fn access_to_path(&self, caller: &Caller, parameters: &[(String, String)]) -> Result<Access, AccountsError> {
        let id = organization_of(parameters)?;
        let user_id = caller.principal.user_id.as_deref();
        let user_id = user_id.ok_or_else(|| AccountsError::Forbidden("this route is for signed-in users".into()))?;
        let principal = &caller.principal;
        if principal.kind != PrincipalKind::ApiKey {
            return self.access_of(user_id, id).await?.ok_or(AccountsError::NotFound("organization"));
        }
        // A key knows its own organization only, whatever others its maker is in.
        let is_own = principal.organization_id.as_deref() == Some(id);
        let access = if is_own { self.access_of(user_id, id).await? } else { None };
        let access = access.ok_or(AccountsError::NotFound("organization"))?;
        Ok(Access { is_super_admin: false, scope: principal.scope.clone(), ..access })
    }

    /// Every refusal for want of a right leaves an audit row.
    fn note_denial(&self, context: &Context<'_>, endpoint: &Endpoint, reason: &str) {
        let caller = context.caller;
        let is_about_path = matches!(endpoint.scope, Scope::Member(_) | Scope::SuperAdmin);
        let organization_id = match caller.principal.user_id {
            // Only a member gets so far; a key is refused before that is asked, and its own organization is told.
            Some(_) if is_about_path && caller.principal.kind != PrincipalKind::ApiKey => Some(context.parameter("id")),
            _ => caller.principal.organization_id.as_deref(),
        };
        self.audit(AuditEntry {
            organization_id: organization_id.map(Into::into),
            user_id: caller.principal.user_id.as_deref().map(Into::into),
            action: "request.denied".into(),
            resource_type: "route".into(),
            resource_id: None,
            metadata: Some(serde_json::json!({
                "method": endpoint.method.as_str(),
                "route": endpoint.path,
                "reason": reason,
                "requestId": &*caller.request_id,
                "apiKeyId": caller.principal.api_key_id.as_deref(),
            })),
            ip: caller.ip,
            user_agent: caller.user_agent.clone(),
        });
    }
}

/// The organization that a path names by `{id}`.
fn organization_of(parameters: &[(String, String)]) -> Result<&str, AccountsError> {
    let id = parameters.iter().find(|(name, _)| name == "id").map_or("", |(_, value)| value.as_str());
    if is_id(id) { Ok(id) } else { Err(AccountsError::field("id", "must be an id of 1 to 64 characters")) }
}

/// What somebody without a right is told.
pub(super) fn denied(needed: &str) -> AccountsError {
    AccountsError::Forbidden(format!("this needs {needed}"))
}

/// The methods of a path, for `Allow`.
fn allowed(endpoints: &[Arc<Endpoint>]) -> Vec<&'static str> {
    let mut methods = Vec::new();
    for endpoint in endpoints {
        match endpoint.method {
            Method::GET => methods.extend(["GET", "HEAD"]),
            Method::POST => methods.push("POST"),
            Method::PUT => methods.push("PUT"),
            Method::DELETE => methods.push("DELETE"),
            _ => {}
        }
    }
    methods
}
