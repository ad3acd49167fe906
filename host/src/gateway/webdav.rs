//! What clients of WebDAV (RFC 4918) and CalDAV (RFC 4791) need of a host: a way to sign in that they know, and the address
//! where calendars begin.
//!
//! Paths are theirs where the present build describes `PROPFIND`. There, and nowhere else, a credential by Basic counts: a
//! user's address, and an API key as the password. It must never be a way in with the password of an account.

use std::net::IpAddr;

use http::header::{ACCESS_CONTROL_REQUEST_METHOD, CACHE_CONTROL, LOCATION, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};

use super::authorize::Identity;
use super::error::GatewayError;
use super::listener::Peer;
use super::respond::ResponseBody;
use super::route::{self, Target};
use super::upstream::Upstream;
use super::{Gateway, authenticate, authorize};
use crate::engine::RouteMatch;

/// Where clients begin that know only the name of the host (RFC 6764).
pub(super) const WELL_KNOWN: &str = "/.well-known/caldav";
/// Where it sends them: the root of the calendars, with the slash that collections end in.
const CALENDARS: HeaderValue = HeaderValue::from_static("/api/calendar/dav/");
/// The same as routes are described.
const CALENDARS_ROUTE: &str = "/api/calendar/dav";
const PROPFIND: &str = "PROPFIND";
const BASIC: HeaderValue = HeaderValue::from_static("Basic realm=\"Berth\", charset=\"UTF-8\"");

/// Whether the present build speaks WebDAV at this path.
pub(super) fn is_spoken<U: Upstream>(target: &Target<U>, path: &str) -> bool {
    describes(target, PROPFIND, path)
}

fn describes<U: Upstream>(target: &Target<U>, method: &str, path: &str) -> bool {
    let Target::Plugin(slot) = target else { return false };
    let build = slot.current();
    build.is_some_and(|build| matches!(authorize::find(&*build, method, path), Ok(RouteMatch::Described(_))))
}

impl<U: Upstream> Gateway<U> {
    /// Whether `OPTIONS` goes to a plugin that describes it. A preflight never does.
    pub(super) fn is_answered_by_plugin(&self, peer: &Peer, parts: &Parts) -> bool {
        let path = parts.uri.path();
        !parts.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
            && describes(&self.target(peer, path), Method::OPTIONS.as_str(), path)
    }

    /// Tells clients of WebDAV how they may sign in. The way they know comes first: some look no further.
    pub(super) fn challenge(&self, peer: &Peer, path: &str, response: &mut Response<ResponseBody>) {
        if response.status() == StatusCode::UNAUTHORIZED && is_spoken(&self.target(peer, path), path) {
            let headers = response.headers_mut();
            if let Some(other) = headers.insert(WWW_AUTHENTICATE, BASIC) {
                headers.append(WWW_AUTHENTICATE, other);
            }
        }
    }

    /// Who a user name with an API key is.
    pub(super) async fn identify_by_key(&self, ip: IpAddr, encoded: &str) -> Identity {
        let Some((name, password)) = authenticate::basic(encoded) else {
            return Identity::Refused(GatewayError::Unauthorized);
        };
        match self.accounts.authenticate_by_key(&name, &password, Some(ip)).await {
            Ok(principal) => Identity::Known(principal),
            Err(error) => Identity::Refused(error.into()),
        }
    }

    /// Sends a client to the calendars, where there are some.
    pub(super) fn calendars(&self) -> Result<Response<ResponseBody>, GatewayError> {
        let slot = self.registry.route(CALENDARS_ROUTE).ok_or(GatewayError::RouteNotFound)?;
        if !is_spoken(&Target::Plugin(slot), CALENDARS_ROUTE) {
            return Err(GatewayError::RouteNotFound);
        }
        let mut response = Response::new(ResponseBody::Empty);
        *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
        response.headers_mut().insert(LOCATION, CALENDARS);
        // Not for good: another build may not have any.
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("max-age=300"));
        Ok(response)
    }

    fn target(&self, peer: &Peer, path: &str) -> Target<U> {
        route::find(&self.registry, path, &peer.door, self.has_admin_door)
    }
}
