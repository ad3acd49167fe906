//! Whether this caller may send this request to this build, judged before the build sees it.
//!
//! A route is public only when the manifest and the component both say so. What a component does not describe needs a
//! signed-in caller.

use std::sync::Arc;

use http::{HeaderValue, Method};

use super::error::GatewayError;
use super::path;
use super::upstream::Upstream;
use crate::bindings::lifecycle::Route;
use crate::deploy::Slot;
use crate::engine::RouteMatch;
use crate::principal::Principal;

/// What authentication found.
pub(super) enum Identity {
    /// No credential.
    Anonymous,
    Known(Arc<Principal>),
    /// A credential that did not prove anything; it matters only where one is needed.
    Refused(GatewayError),
}

/// Why somebody was let in.
pub(super) struct Admitted<'build> {
    pub principal: Arc<Principal>,
    /// What the build describes; none where it describes nothing of the kind.
    pub route: Option<&'build Route>,
    /// No credential was needed.
    pub is_public: bool,
}

/// Refuses a caller, or says as whom and to which described route the request goes.
pub(super) fn admit<'build, U: Upstream>(
    slot: &Slot<U>,
    build: &'build U,
    method: &Method,
    path: &str,
    identity: &Identity,
    anonymous: &Arc<Principal>,
) -> Result<Admitted<'build>, GatewayError> {
    let route = describe(build, method, path)?;
    let is_public = match route {
        Some(route) => route.is_public && slot.is_public(method.as_str(), path),
        None => build.description().is_none() && slot.is_public(method.as_str(), path),
    };
    let principal = match identity {
        Identity::Known(principal) => Arc::clone(principal),
        _ if is_public => Arc::clone(anonymous),
        Identity::Refused(error) => return Err(error.again()),
        Identity::Anonymous => {
            let allowed = public_methods(slot, build, method, path)?;
            return Err(allowed.map_or(GatewayError::Unauthorized, GatewayError::MethodNotAllowed));
        }
    };
    let Some(route) = route.filter(|_| !is_public) else { return Ok(Admitted { principal, route, is_public }) };
    if route.needs_organization && principal.organization_id.is_none() {
        return Err(GatewayError::OrganizationRequired);
    }
    match &route.permission {
        Some(permission) if !principal.has_permission(permission) => {
            Err(GatewayError::Forbidden(format!("the permission {permission} is missing")))
        }
        _ => Ok(Admitted { principal, route: Some(route), is_public }),
    }
}

/// What a path has, where the method is none of it and anybody may call one that is: no token would help.
fn public_methods<U: Upstream>(
    slot: &Slot<U>,
    build: &U,
    method: &Method,
    path: &str,
) -> Result<Option<HeaderValue>, GatewayError> {
    let RouteMatch::OtherMethods(methods) = find(build, method.as_str(), path)? else { return Ok(None) };
    let is_open = methods.iter().any(|method| slot.is_public(method, path));
    Ok(HeaderValue::try_from(methods.join(", ")).ok().filter(|_| is_open))
}

/// The described route of a request. `HEAD` is what `GET` is.
///
/// The build's own router may read an escaped path differently from ours; where that would make it another route, the
/// path is refused, so that no permission is judged for the wrong one.
fn describe<'build, U: Upstream>(
    build: &'build U,
    method: &Method,
    path: &str,
) -> Result<Option<&'build Route>, GatewayError> {
    let method = if *method == Method::HEAD { "GET" } else { method.as_str() };
    let found = find(build, method, path)?;
    if path.contains('%') {
        let decoded = path::decode_segments(path);
        let other = decoded.as_deref().map(|path| find(build, method, path)).transpose()?;
        if !other.is_some_and(|other| is_same(&found, &other)) {
            return Err(GatewayError::Malformed("the path encodes characters that need no encoding"));
        }
    }
    Ok(match found {
        RouteMatch::Described(route) => Some(route),
        RouteMatch::OtherMethods(_) | RouteMatch::Unknown => None,
    })
}

/// What a method and a path are to a build. A slash at the end makes no other route, as it makes none in the SDK's router:
/// nobody gets around a permission by adding one.
///
/// # Errors
/// `Malformed` where the path is described with the slash and without it, and not as the same route.
pub(super) fn find<'build, U: Upstream>(
    build: &'build U,
    method: &str,
    path: &str,
) -> Result<RouteMatch<'build>, GatewayError> {
    let found = build.match_route(method, path);
    let Some(plain) = path.strip_suffix('/').filter(|plain| !plain.is_empty()) else { return Ok(found) };
    let other = build.match_route(method, plain);
    if matches!(found, RouteMatch::Unknown) {
        return Ok(other);
    }
    if matches!(other, RouteMatch::Unknown) || is_same(&found, &other) {
        return Ok(found);
    }
    Err(GatewayError::Malformed("the path ends in a slash, and means another route without it"))
}

fn is_same(left: &RouteMatch<'_>, right: &RouteMatch<'_>) -> bool {
    match (left, right) {
        (RouteMatch::Described(left), RouteMatch::Described(right)) => std::ptr::eq(*left, *right),
        (RouteMatch::OtherMethods(left), RouteMatch::OtherMethods(right)) => std::ptr::eq(*left, *right),
        (RouteMatch::Unknown, RouteMatch::Unknown) => true,
        _ => false,
    }
}
