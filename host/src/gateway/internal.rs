//! `http://<plugin>.internal/…`: one plugin calls another in process, under the same rules as a client of the gateway,
//! except that its caller is known already and is not counted again.

use std::sync::Arc;

use async_trait::async_trait;
use http::uri::PathAndQuery;
use http::{Response, Uri};
use http_body_util::BodyExt;

use super::authorize::Identity;
use super::error::GatewayError;
use super::exchange::Exchange;
use super::problem::Problem;
use super::respond::{self, ResponseBody};
use super::upstream::Upstream;
use super::{Gateway, directory, path};
use crate::body::Body;
use crate::capability::http_out::{DispatchError, InternalDispatch, Refusal};
use crate::engine::CallError;
use crate::principal::{Call, PrincipalKind};

#[async_trait]
impl<U: Upstream> InternalDispatch for Gateway<U> {
    async fn dispatch(
        &self,
        target: &str,
        call: Call,
        request: http::Request<Body>,
    ) -> Result<http::Response<Body>, DispatchError> {
        if target == directory::TARGET {
            return Ok(outgoing(match self.directory(&call, request.method(), request.uri()).await {
                Ok(response) => response,
                Err(error) => super::refuse(&error, &call.request_id),
            }));
        }
        let name = target;
        if self.registry.slot(name).is_none() {
            return Err(DispatchError::NotFound);
        }
        let (mut parts, body) = request.into_parts();
        // The callee sees a path, as it does from outside.
        let target = parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let authority = parts.uri.authority().cloned();
        parts.uri = Uri::from(target);
        if let Some(host) = authority.and_then(|authority| authority.as_str().parse().ok()) {
            parts.headers.insert(http::header::HOST, host);
        }
        let request_id = Arc::clone(&call.request_id);
        let identity = match call.principal.kind {
            PrincipalKind::Anonymous => Identity::Anonymous,
            _ => Identity::Known(Arc::clone(&call.principal)),
        };
        let mut exchange = Exchange::within(call);
        let is_head = parts.method == http::Method::HEAD;
        let result = match path::check(parts.uri.path(), parts.uri.query()) {
            // A path of another plugin does not become this one's by being sent to it.
            Ok(()) => match self.registry.route(parts.uri.path()).filter(|slot| **slot.name() == *name) {
                Some(slot) => self.forward(&mut exchange, &slot, &identity, &parts, body).await,
                None => Err(GatewayError::RouteNotFound),
            },
            Err(error) => Err(error),
        };
        let mut response = match result {
            Ok(response) => response,
            Err(error) => match failure(error) {
                Ok(answer) => super::refuse(&answer, &request_id),
                Err(failure) => return Err(failure),
            },
        };
        if is_head {
            respond::without_body(&mut response);
        }
        Ok(outgoing(response))
    }

    fn refuse(&self, call: &Call, refusal: Refusal) -> http::Response<Body> {
        if refusal == Refusal::TooDeep {
            tracing::warn!(target: "gateway", request_id = &*call.request_id, status = 508, "internal calls go round in a circle");
        }
        outgoing(Problem::from(&GatewayError::NotLoaded).response(&call.request_id))
    }
}

/// What the caller's egress must know as a failure of the target, and what is simply its answer.
fn failure(error: GatewayError) -> Result<GatewayError, DispatchError> {
    match error {
        GatewayError::NotLoaded | GatewayError::Call(CallError::Busy) => Err(DispatchError::Unavailable),
        GatewayError::TimedOut | GatewayError::Call(CallError::TimedOut) => Err(DispatchError::Timeout),
        GatewayError::Call(
            error @ (CallError::Trapped(_) | CallError::OutOfMemory | CallError::Cancelled | CallError::BadAnswer(_)),
        ) => Err(DispatchError::Failed(Some(Box::new(error)))),
        answer => Ok(answer),
    }
}

fn outgoing(response: Response<ResponseBody>) -> http::Response<Body> {
    response.map(BodyExt::boxed_unsync)
}
