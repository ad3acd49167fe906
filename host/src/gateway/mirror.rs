//! Copies of safe requests for a build that is on trial as a shadow: it answers them as well, nobody gets its answers, and
//! nothing it does has an effect.
//!
//! The client never waits for a copy, and a copy never runs before the client has its answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Response};
use tokio::sync::OwnedSemaphorePermit;

use super::error::GatewayError;
use super::exchange::Exchange;
use super::forward::{self, Way};
use super::problem::Problem;
use super::respond::ResponseBody;
use super::upstream::Upstream;
use crate::deploy::{Answered, Comparison, Slot, Trial};
use crate::engine::RouteMatch;

/// One request that is to be sent to the shadow.
pub(super) struct Copy<U> {
    trial: Arc<Trial<U>>,
    exchange: Exchange,
    way: Way,
    parts: Parts,
    time_max: Duration,
    /// What the report calls it.
    name: String,
    permit: OwnedSemaphorePermit,
}

/// Takes a copy of a safe request, where a shadow wants one.
pub(super) fn copy<U: Upstream>(
    exchange: &Exchange,
    slot: &Slot<U>,
    build: &U,
    way: &Way,
    parts: &Parts,
    time_max: Duration,
) -> Option<Box<Copy<U>>> {
    let trial = slot.shadow()?;
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        return None;
    }
    // A copy of a stream would have to be read to an end that may never come.
    if way.is_streaming || forward::streams(build, way) {
        trial.comparison.skip();
        return None;
    }
    let permit = trial.comparison.place()?;
    let path = match build.match_route("GET", parts.uri.path()) {
        RouteMatch::Described(route) => route.path.as_str(),
        // What is not described may hold anything.
        _ => "(a path that is not described)",
    };
    let name = format!("{} {path}", parts.method);
    let (exchange, way, parts) = (exchange.shadow(), way.clone(), parts.clone());
    Some(Box::new(Copy { trial, exchange, way, parts, time_max, name, permit }))
}

impl<U: Upstream> Copy<U> {
    /// Asks the shadow in a task of its own and compares. `answer` is what the client gets; none when it gets a problem of
    /// the host's, which says nothing of the build.
    pub(super) fn compare(self: Box<Self>, answer: Option<&Response<ResponseBody>>) {
        let Some((status, body)) = answer.and_then(whole) else { return self.trial.comparison.skip() };
        tokio::spawn(async move {
            let Self { trial, exchange, way, parts, time_max, name, permit } = *self;
            let result = forward::run(&exchange, &trial.build, way, &parts, Bytes::new(), time_max).await;
            judge(&trial.comparison, &name, Answered { status, body: &body }, &result);
            drop(permit);
        });
    }
}

fn judge(
    comparison: &Comparison,
    name: &str,
    client: Answered<'_>,
    result: &Result<Response<ResponseBody>, GatewayError>,
) {
    match result {
        Ok(response) => match whole(response) {
            Some((status, body)) => comparison.compare(name, client, Answered { status, body: &body }),
            None => comparison.skip(),
        },
        Err(error) => {
            let status = Problem::from(error).kind.status.as_u16();
            comparison.compare(name, client, Answered { status, body: &[] });
        }
    }
}

/// Status and body of an answer that is there whole.
fn whole(response: &Response<ResponseBody>) -> Option<(u16, Bytes)> {
    let body = match response.body() {
        ResponseBody::Empty => Bytes::new(),
        ResponseBody::Full(bytes) => bytes.clone().unwrap_or_default(),
        ResponseBody::Stream(_) | ResponseBody::Encoded(_) | ResponseBody::Watched(_) => return None,
    };
    Some((response.status().as_u16(), body))
}
