//! What becomes of a request to another plugin: the callee's call, and a request without the guest's claims.

use std::time::Instant;

use http::HeaderName;
use http::header::{
    AUTHORIZATION, CONNECTION, COOKIE, FORWARDED, HOST, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
};

use crate::body::Body;
use crate::capability::Guest;
use crate::principal::Call;
use crate::trace::Trace;

/// Headers that say who calls or where from; only the host may say that.
const IDENTITY: &[HeaderName] =
    &[AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE, FORWARDED, HOST, CONNECTION, TE, TRANSFER_ENCODING, UPGRADE];
/// Prefixes of such headers.
const IDENTITY_PREFIXES: &[&str] = &[
    "x-user",
    "x-organization",
    "x-org-",
    "x-tenant",
    "x-role",
    "x-permission",
    "x-source",
    "x-berth",
    "x-forwarded",
    "x-real-ip",
    "x-request-id",
    "traceparent",
    "tracestate",
];

/// The call as the callee sees it: same principal and request, one deeper, within the caller's remaining time.
pub(super) fn call(guest: &Guest, deadline: Instant, trace: Trace) -> Call {
    Call {
        source_service: Some(guest.plugin.name.clone()),
        depth: guest.call.depth.saturating_add(1),
        deadline: Some(deadline),
        trace,
        ..guest.call.clone()
    }
}

/// The request without anything that could be taken for an identity.
pub(super) fn cleaned(mut request: http::Request<Body>) -> http::Request<Body> {
    let headers = request.headers_mut();
    for name in IDENTITY {
        headers.remove(name);
    }
    let claims: Vec<HeaderName> = headers
        .keys()
        .filter(|name| IDENTITY_PREFIXES.iter().any(|prefix| name.as_str().starts_with(prefix)))
        .cloned()
        .collect();
    for name in claims {
        headers.remove(name);
    }
    request
}
