//! Credentials that a guest only names: secrets by their id, put into its outgoing requests and used for its
//! signatures by the host.
//!
//! The plugin secret-management keeps them, judges who may use which, and records each use; the host asks it in process,
//! by a call that no guest and no client can make. A value goes into a request on its way out, or into one HMAC, and
//! nowhere else: it is never logged, never kept, and never handed to the guest. Asking every time means that a rotation
//! and a revoked grant count at once.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::Guest;
use super::http_out::InternalDispatch;
use crate::body::{self, Body};
use crate::principal::{Call, Principal, PrincipalKind};

/// The plugin that keeps secrets.
pub(crate) const KEEPER: &str = "secret-management";
/// Its route for the host; it answers nobody else.
const ADDRESS: &str = "http://secret-management.internal/api/secrets/host/use";
/// Who calls there. No plugin can have this name.
pub(crate) const HOST_CALLER: &str = "host";
/// The header by which a guest names the secret that authenticates a request.
const AUTH_SECRET: HeaderName = HeaderName::from_static("berth-auth-secret-id");
/// The header by which it lets a secret become the value of a header: `<header>=<secretId>`, as often as needed.
const HEADER_SECRET: HeaderName = HeaderName::from_static("berth-header-secret-id");
/// The header by which a call without an organization says for which one it acts.
const ORGANIZATION: HeaderName = HeaderName::from_static("berth-auth-organization-id");
/// Secrets in one request.
const REFERENCES_MAX: usize = 8;
/// The longest answer of the keeper.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Headers that a secret must not become: they would make another request of it.
const FORBIDDEN: [&str; 8] =
    ["host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "expect"];

/// Why a credential could not be used. It never says whether the secret exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CredentialError {
    /// Unknown, foreign, forbidden, expired, or not fit for this use.
    #[error("the secret cannot be used here")]
    Refused,
    /// The guest named it wrongly.
    #[error("the reference to a secret is malformed")]
    Malformed,
    /// Whoever keeps the secrets does not answer.
    #[error("the secrets cannot be reached")]
    Unreachable,
}

/// Asks the keeper of secrets. One a host.
#[derive(Default)]
pub(crate) struct Credentials {
    dispatch: OnceLock<Arc<dyn InternalDispatch>>,
}

/// What a guest's request names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct References {
    list: Vec<Reference>,
    organization: Option<String>,
}

/// One secret, and the header it shall become; none: where the secret itself says.
#[derive(Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
struct Reference {
    secret_id: String,
    header: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Question<'a> {
    service: &'a str,
    /// `http` or `hmac`.
    purpose: &'static str,
    /// Where the request goes: `host:port`, with `http://` before it where it goes in the clear.
    destination: Option<&'a str>,
    references: &'a [Reference],
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    #[serde(default)]
    placements: Vec<Placement>,
    /// The key of an HMAC, in Base64.
    key: Option<String>,
}

#[derive(Deserialize)]
struct Placement {
    place: Place,
    name: String,
    value: String,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Place {
    Header,
    Query,
}

impl Drop for Placement {
    fn drop(&mut self) {
        self.value.zeroize();
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl References {
    /// Takes what a request names off its headers, so that nothing of it leaves the process.
    pub(crate) fn take(headers: &mut HeaderMap) -> Result<Self, CredentialError> {
        let text = |value: &HeaderValue| value.to_str().map(str::to_owned).map_err(|_| CredentialError::Malformed);
        let mut list = Vec::new();
        for value in headers.get_all(AUTH_SECRET) {
            list.push(Reference { secret_id: text(value)?, header: None });
        }
        for value in headers.get_all(HEADER_SECRET) {
            let value = text(value)?;
            let (header, secret_id) = value.split_once('=').ok_or(CredentialError::Malformed)?;
            let header = header.trim().to_ascii_lowercase();
            if HeaderName::from_bytes(header.as_bytes()).is_err() || is_forbidden(&header) {
                return Err(CredentialError::Malformed);
            }
            list.push(Reference { secret_id: secret_id.trim().to_owned(), header: Some(header) });
        }
        let organization = headers.get(ORGANIZATION).map(text).transpose()?;
        for name in [AUTH_SECRET, HEADER_SECRET, ORGANIZATION] {
            headers.remove(name);
        }
        if list.len() > REFERENCES_MAX || list.iter().any(|reference| !is_id(&reference.secret_id)) {
            return Err(CredentialError::Malformed);
        }
        Ok(Self { list, organization })
    }

    /// Whether it names none.
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

impl Credentials {
    /// Connects it to the gateway; once, at the start. Until then nothing can be used.
    pub(crate) fn set_dispatch(&self, dispatch: Arc<dyn InternalDispatch>) {
        // Egress, which is connected with it, warns about a second connection.
        let _ = self.dispatch.set(dispatch);
    }

    /// Puts what `references` names into a request that goes to `destination` (`host:port`, or `http://host:port` in the
    /// clear), and returns the values as they now stand in it, for whoever must not write them down.
    pub(crate) async fn put_in<B>(
        &self,
        guest: &Guest,
        references: &References,
        destination: &str,
        deadline: Instant,
        request: &mut http::Request<B>,
    ) -> Result<Vec<Zeroizing<String>>, CredentialError> {
        let question = Question {
            service: &guest.plugin.name,
            purpose: "http",
            destination: Some(destination),
            references: &references.list,
        };
        let answer = self.ask(guest, references.organization.as_deref(), Some(deadline), &question).await?;
        if answer.placements.is_empty() {
            return Err(CredentialError::Refused);
        }
        let mut values = Vec::with_capacity(answer.placements.len());
        for placement in &answer.placements {
            match placement.place {
                Place::Header => put_header(request.headers_mut(), placement)?,
                Place::Query => {
                    *request.uri_mut() = with_parameter(request.uri(), placement)?;
                    values.push(Zeroizing::new(escaped(&placement.value)));
                }
            }
            values.push(Zeroizing::new(placement.value.clone()));
        }
        Ok(values)
    }

    /// The key of an HMAC. `organization` counts only for a call that has none of its own.
    pub(crate) async fn key(
        &self,
        guest: &Guest,
        secret_id: &str,
        organization: Option<&str>,
    ) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
        if !is_id(secret_id) {
            return Err(CredentialError::Malformed);
        }
        let references = [Reference { secret_id: secret_id.to_owned(), header: None }];
        let question =
            Question { service: &guest.plugin.name, purpose: "hmac", destination: None, references: &references };
        let answer = self.ask(guest, organization, guest.call.deadline, &question).await?;
        let key = answer.key.as_deref().ok_or(CredentialError::Refused)?;
        let key = Zeroizing::new(STANDARD.decode(key).map_err(|_| CredentialError::Unreachable)?);
        if key.is_empty() { Err(CredentialError::Refused) } else { Ok(key) }
    }

    async fn ask(
        &self,
        guest: &Guest,
        organization: Option<&str>,
        deadline: Option<Instant>,
        question: &Question<'_>,
    ) -> Result<Answer, CredentialError> {
        let dispatch = self.dispatch.get().ok_or(CredentialError::Unreachable)?;
        let content = serde_json::to_vec(question).map_err(|_| CredentialError::Unreachable)?;
        let request = http::Request::post(ADDRESS)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body::full(content))
            .map_err(|_| CredentialError::Unreachable)?;
        let call = host_call(guest, organization, deadline)?;
        let response = dispatch.dispatch(KEEPER, call, request).await.map_err(|error| {
            tracing::warn!(plugin = %guest.plugin.name, request_id = %guest.call.request_id, %error,
                "a credential was needed, and secret-management does not answer");
            CredentialError::Unreachable
        })?;
        match response.status().as_u16() {
            200 => read(response.into_body()).await,
            400..500 => Err(CredentialError::Refused),
            status => {
                tracing::warn!(plugin = %guest.plugin.name, request_id = %guest.call.request_id, status,
                    "a credential was needed, and secret-management failed");
                Err(CredentialError::Unreachable)
            }
        }
    }
}

/// The host's own call: for whom the guest acts, but nobody's session, and from a caller that no guest can be.
fn host_call(guest: &Guest, organization: Option<&str>, deadline: Option<Instant>) -> Result<Call, CredentialError> {
    let present = &guest.call.principal;
    let organization = match (&present.organization_id, organization) {
        (Some(own), _) => Arc::clone(own),
        (None, Some(other)) if is_id(other) => other.into(),
        _ => return Err(CredentialError::Refused),
    };
    let principal = Principal {
        kind: PrincipalKind::System,
        organization_id: Some(organization),
        session_id: None,
        ..Principal::clone(present)
    };
    Ok(Call {
        principal: Arc::new(principal),
        source_service: Some(HOST_CALLER.into()),
        depth: guest.call.depth.saturating_add(1),
        deadline,
        ..guest.call.clone()
    })
}

/// Into a buffer that is wiped.
async fn read(mut content: Body) -> Result<Answer, CredentialError> {
    let mut bytes = Zeroizing::new(Vec::new());
    while let Some(frame) = content.frame().await {
        let Ok(frame) = frame else { return Err(CredentialError::Unreachable) };
        if let Ok(data) = frame.into_data() {
            bytes.extend_from_slice(&data);
        }
        if bytes.len() > ANSWER_BYTES_MAX {
            return Err(CredentialError::Unreachable);
        }
    }
    serde_json::from_slice(&bytes).map_err(|_| CredentialError::Unreachable)
}

fn put_header(headers: &mut HeaderMap, placement: &Placement) -> Result<(), CredentialError> {
    if is_forbidden(&placement.name.to_ascii_lowercase()) {
        return Err(CredentialError::Refused);
    }
    let name = HeaderName::from_bytes(placement.name.as_bytes()).map_err(|_| CredentialError::Refused)?;
    let mut value = HeaderValue::from_str(&placement.value).map_err(|_| CredentialError::Refused)?;
    // Neither a log line nor the compression table of HTTP/2 shows it.
    value.set_sensitive(true);
    headers.insert(name, value);
    Ok(())
}

fn with_parameter(uri: &Uri, placement: &Placement) -> Result<Uri, CredentialError> {
    let refused = |_| CredentialError::Refused;
    let mut parts = uri.clone().into_parts();
    let present = parts.path_and_query.as_ref().map_or("/", http::uri::PathAndQuery::as_str);
    let sign = if present.contains('?') { '&' } else { '?' };
    let text = Zeroizing::new(format!("{present}{sign}{}={}", escaped(&placement.name), escaped(&placement.value)));
    parts.path_and_query = Some(text.parse().map_err(|_| CredentialError::Refused)?);
    Uri::from_parts(parts).map_err(refused)
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

fn is_forbidden(header: &str) -> bool {
    FORBIDDEN.contains(&header) || header.starts_with("berth-")
}

fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_taken_off_and_nothing_of_them_leaves() {
        let mut headers = HeaderMap::new();
        headers.insert("berth-auth-secret-id", "s1".parse().unwrap());
        headers.append("berth-header-secret-id", "X-Key=s2".parse().unwrap());
        headers.insert("accept", "text/plain".parse().unwrap());
        let references = References::take(&mut headers).unwrap();
        assert_eq!(references.list.len(), 2);
        assert_eq!(references.list[1], Reference { secret_id: "s2".into(), header: Some("x-key".into()) });
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["accept"]);
        assert!(References::take(&mut headers).unwrap().is_empty());
        for value in ["host=s", "content-length=s", "no equals", "a b=s", "x=../etc", "berth-auth-secret-id=s"] {
            let mut headers = HeaderMap::new();
            headers.insert("berth-header-secret-id", value.parse().unwrap());
            assert_eq!(References::take(&mut headers), Err(CredentialError::Malformed), "{value}");
        }
    }

    #[test]
    fn a_parameter_joins_the_query_escaped() {
        let placement = Placement { place: Place::Query, name: "key".into(), value: "a b&c=ü".into() };
        let uri: Uri = "http://api.example.com/x?y=z".parse().unwrap();
        assert_eq!(with_parameter(&uri, &placement).unwrap(), "http://api.example.com/x?y=z&key=a%20b%26c%3D%C3%BC");
        let bare: Uri = "http://api.example.com/".parse().unwrap();
        assert_eq!(with_parameter(&bare, &placement).unwrap(), "http://api.example.com/?key=a%20b%26c%3D%C3%BC");
    }

    #[test]
    fn a_value_cannot_add_a_header_or_change_the_request() {
        let mut headers = HeaderMap::new();
        let place =
            |name: &str, value: &str| Placement { place: Place::Header, name: name.into(), value: value.into() };
        assert!(put_header(&mut headers, &place("authorization", "Bearer x")).is_ok());
        assert!(headers["authorization"].is_sensitive());
        for (name, value) in [("authorization", "a\r\nx: y"), ("host", "evil"), ("Content-Length", "0"), ("a b", "c")] {
            assert_eq!(put_header(&mut headers, &place(name, value)), Err(CredentialError::Refused), "{name}");
        }
    }

    #[test]
    fn the_hosts_call_keeps_the_organization_and_no_session() {
        let guest = crate::capability::testing::guest("planning", Some("org-1"));
        let call = host_call(&guest, Some("org-2"), None).unwrap();
        assert_eq!(call.principal.organization_id.as_deref(), Some("org-1"), "a call's own organization stays");
        assert_eq!(call.source_service.as_deref(), Some(HOST_CALLER));
        let nobody = crate::capability::testing::guest("planning", None);
        assert!(host_call(&nobody, None, None).is_err());
        assert_eq!(
            host_call(&nobody, Some("org-2"), None).unwrap().principal.organization_id.as_deref(),
            Some("org-2")
        );
    }
}
