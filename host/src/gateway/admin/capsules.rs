//! `/api/admin/capsules`: failed calls that this host has kept, to be played again elsewhere.
//!
//! They hold what customers sent and stored, so whoever reads one is named in the log.

use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use serde_json::json;

use super::super::respond::ResponseBody;
use super::super::upstream::Upstream;
use super::super::{Gateway, GatewayError, method_not_allowed};
use super::{actor, items, ok, plugin, query};
use crate::capability::capsule::{Capsule, Keeper};
use crate::deploy::DeployError;
use crate::principal::Principal;

/// An id, as the host makes them.
const ID_CHARS: usize = 36;

impl<U: Upstream> Gateway<U> {
    /// Lists, shows and removes capsules, and gives the component that failed.
    pub(super) async fn capsules(
        &self,
        segments: &[&str],
        method: &Method,
        principal: &Principal,
        parts: &Parts,
    ) -> Result<Response<ResponseBody>, GatewayError> {
        let keeper = self.capsules.as_ref().ok_or(GatewayError::NotImplemented(
            "this host keeps no capsules: BERTH_CAPSULES, BERTH_CAPSULES_MIB or BERTH_CAPSULES_DAYS is 0",
        ))?;
        match (segments, method) {
            (["capsules"], &Method::GET) => {
                let about = query(parts, "plugin").map(plugin).transpose()?;
                let capsules = keeper.list(about).await.map_err(unreadable)?;
                Ok(ok(&items(json!(capsules))))
            }
            (["capsules", id], &Method::GET) => {
                let bytes = load(keeper, id).await?;
                tracing::info!(target: "gateway", capsule = id, actor = actor(principal), "a capsule was read");
                Ok(bytes_of("application/json", bytes))
            }
            (["capsules", id], &Method::DELETE) => match keeper.remove(known(id)?).await.map_err(unreadable)? {
                true => {
                    tracing::info!(target: "gateway", capsule = id, actor = actor(principal), "a capsule was removed");
                    let mut response = Response::new(ResponseBody::Empty);
                    *response.status_mut() = StatusCode::NO_CONTENT;
                    Ok(response)
                }
                false => Err(GatewayError::NotFound("capsule")),
            },
            (["capsules", id, "component"], &Method::GET) => {
                let capsule = Capsule::read(&load(keeper, id).await?);
                let sha256 = capsule.map_err(|_| GatewayError::NotFound("capsule"))?.summary.sha256;
                let component = self.administration()?.component(&sha256).await?;
                Ok(bytes_of("application/wasm", component.ok_or(GatewayError::NotFound("component"))?))
            }
            (["capsules"] | ["capsules", _, "component"], _) => Err(method_not_allowed("GET, HEAD")),
            (["capsules", _], _) => Err(method_not_allowed("GET, HEAD, DELETE")),
            _ => Err(GatewayError::RouteNotFound),
        }
    }
}

async fn load(keeper: &Keeper, id: &str) -> Result<Vec<u8>, GatewayError> {
    keeper.load(known(id)?).await.map_err(unreadable)?.ok_or(GatewayError::NotFound("capsule"))
}

/// What cannot be an id is that of no capsule.
fn known(id: &str) -> Result<&str, GatewayError> {
    let is_id = id.len() == ID_CHARS && id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    if is_id { Ok(id) } else { Err(GatewayError::NotFound("capsule")) }
}

fn unreadable(error: std::io::Error) -> GatewayError {
    GatewayError::Deploy(DeployError::Unavailable(
        "the folder of capsules cannot be used".to_owned(),
        Some(error.into()),
    ))
}

fn bytes_of(media_type: &'static str, bytes: impl Into<bytes::Bytes>) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::full(bytes));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}
