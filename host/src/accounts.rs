//! The main app: auth, users, organizations, memberships, roles, permissions and audit, and who a bearer token is.
//!
//! It must never trust a header for an identity, never tell an unknown user from a wrong password, and never let a row
//! of one organization be seen from another.

mod error;

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;

use crate::principal::Principal;

pub(crate) use error::{AccountsError, AuthenticationError, FieldError};

/// The main app. One a host, behind an `Arc`.
pub(crate) struct Accounts {}

/// Who calls a main-app route, and from where. The principal is anonymous where there is no token.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub principal: Arc<Principal>,
    pub request_id: Arc<str>,
    pub ip: Option<IpAddr>,
    pub user_agent: Option<String>,
}

/// An answer of a main-app route: problems are errors, so this is always a success.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub status: http::StatusCode,
    /// `ETag`, `Set-Cookie`, `Location`; content type and length are the gateway's.
    pub headers: http::HeaderMap,
    pub body: Option<serde_json::Value>,
}

/// What happened, for `berth_audit_logs`.
#[derive(Clone, Debug, Default)]
pub(crate) struct AuditEntry {
    pub organization_id: Option<String>,
    pub user_id: Option<String>,
    /// Dotted, as in `request.denied`.
    pub action: String,
    pub resource_type: String,
    pub resource_id: Option<String>,
    pub metadata: Option<serde_json::Value>,
    pub ip: Option<IpAddr>,
    pub user_agent: Option<String>,
}

impl Accounts {
    /// Who `bearer` is: a user's access token or the operator's token.
    pub(crate) async fn authenticate(&self, _bearer: &str) -> Result<Arc<Principal>, AuthenticationError> {
        Err(AuthenticationError::Invalid)
    }

    /// Answers a request whose path is one of the main app's. It checks identity, organization and permission itself,
    /// and audits its own denials.
    pub(crate) async fn handle(
        &self,
        _caller: &Caller,
        _request: http::Request<Bytes>,
    ) -> Result<Reply, AccountsError> {
        Err(AccountsError::NotImplemented("the main app is being connected"))
    }

    /// Notes an audit row. Never waits: it goes into a bounded queue, and what does not fit is counted and dropped.
    pub(crate) fn audit(&self, _entry: AuditEntry) {}

    /// For whom a message or a tick is handled: with the user's present rights where the user is known, and as the
    /// host itself otherwise.
    pub(crate) async fn principal_for_message(
        &self,
        _organization_id: Option<&str>,
        _user_id: Option<&str>,
    ) -> Result<Arc<Principal>, AuthenticationError> {
        Err(AuthenticationError::Invalid)
    }
}

/// Every route of the main app, for the API's document and the route table.
pub(crate) fn routes() -> Vec<crate::bindings::lifecycle::Route> {
    Vec::new()
}
