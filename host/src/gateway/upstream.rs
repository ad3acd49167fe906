//! What the gateway needs of a build, and no more. The engine's revision is the only one outside tests.

use std::future::Future;
use std::sync::Arc;

use crate::bindings::lifecycle::Description;
use crate::body::Body;
use crate::engine::{Answer, CallError, Exports, PackedRequest, Revision, RevisionStatistics, RouteMatch};
use crate::principal::Call;
use crate::telemetry::meter::Meter;

/// A build that can answer requests.
pub(crate) trait Upstream: Send + Sync + 'static {
    fn exports(&self) -> Exports;
    /// What it says of itself; none when it does not describe itself.
    fn description(&self) -> Option<&Arc<Description>>;
    fn match_route(&self, method: &str, path: &str) -> RouteMatch<'_>;
    /// The number of the revision, for `/api/<prefix>/health` and the API's document.
    fn number(&self) -> i64;
    /// The whole digest.
    fn digest(&self) -> &Arc<str>;
    /// The digest, shortened for log lines.
    fn short_digest(&self) -> &Arc<str>;
    fn statistics(&self) -> RevisionStatistics;
    /// What requests to it came to.
    fn meter(&self) -> &Meter;
    /// One whole request through `berth:platform/packed-handler` or `handler`.
    fn handle(
        self: &Arc<Self>,
        call: Call,
        request: PackedRequest,
    ) -> impl Future<Output = Result<Answer, CallError>> + Send;
    /// One request through `wasi:http`; bodies stream.
    fn serve(
        self: &Arc<Self>,
        call: Call,
        request: http::Request<Body>,
    ) -> impl Future<Output = Result<http::Response<Body>, CallError>> + Send;
}

impl Upstream for Revision {
    fn exports(&self) -> Exports {
        Revision::exports(self)
    }

    fn description(&self) -> Option<&Arc<Description>> {
        Revision::description(self)
    }

    fn match_route(&self, method: &str, path: &str) -> RouteMatch<'_> {
        Revision::match_route(self, method, path)
    }

    fn number(&self) -> i64 {
        self.number
    }

    fn digest(&self) -> &Arc<str> {
        &self.digest
    }

    fn short_digest(&self) -> &Arc<str> {
        Revision::short_digest(self)
    }

    fn statistics(&self) -> RevisionStatistics {
        Revision::statistics(self)
    }

    fn meter(&self) -> &Meter {
        &self.meter
    }

    fn handle(
        self: &Arc<Self>,
        call: Call,
        request: PackedRequest,
    ) -> impl Future<Output = Result<Answer, CallError>> + Send {
        Revision::handle(self, call, request)
    }

    async fn serve(
        self: &Arc<Self>,
        call: Call,
        request: http::Request<Body>,
    ) -> Result<http::Response<Body>, CallError> {
        Revision::serve(self, call, request).await
    }
}
