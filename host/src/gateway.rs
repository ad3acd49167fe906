//! The one way in: every HTTP request comes through here, in one direction, stage by stage.
//!
//! request id → path → credential → throttle → route → authorize → idempotency → forward → respond → access log. Every
//! error of every room becomes an answer in `problem.rs` and nowhere else. No stage trusts a header for an identity.

mod admin;
mod authenticate;
mod authorize;
mod cors;
mod error;
mod exchange;
mod forward;
mod health;
pub(crate) mod idempotency;
mod internal;
mod listener;
mod main_app;
mod openapi;
mod path;
mod problem;
mod receive;
mod request_id;
mod respond;
mod route;
mod throttle;
mod upstream;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::header::{HeaderMap, USER_AGENT};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use crate::accounts::{Accounts, AuthenticationError};
use crate::capability::cache::CacheRoom;
use crate::capability::queue::QueueRoom;
use crate::database::Database;
use crate::deploy::Registry;
use crate::engine::Revision;
use crate::principal::Principal;
use crate::tasks::Tasks;
pub(crate) use admin::{Administration, DeployAnswer};
use authenticate::Credential;
use authorize::Identity;
use cors::Cors;
pub(crate) use error::GatewayError;
use exchange::Exchange;
use idempotency::Idempotency;
pub(crate) use listener::{Handshake, Listener, ListenerOptions, Peer, Serve, Server, Tls};
use problem::Problem;
use request_id::X_REQUEST_ID;
use respond::ResponseBody;
use route::Target;
pub(crate) use throttle::PER_PRINCIPAL_DEFAULT;
use throttle::{Caller, Throttle};
pub(crate) use upstream::Upstream;

/// How often answers older than a day are removed.
const PURGE_INTERVAL: Duration = Duration::from_secs(3600);
/// What the host's own read-only routes allow.
const READ_ONLY: HeaderValue = HeaderValue::from_static("GET, HEAD");
/// Characters of a user agent that go into an audit row.
const USER_AGENT_CHARS_MAX: usize = 256;

/// What the gateway is told by the settings.
#[derive(Clone, Debug)]
pub(crate) struct GatewayOptions {
    /// Origins that browsers may call from.
    pub allowed_origins: Vec<String>,
    /// Requests a minute of one caller; 0 turns every limit off.
    pub rate_limit_per_minute: u32,
    /// The largest component that may be deployed, in bytes.
    pub deploy_bytes_max: usize,
}

impl Default for GatewayOptions {
    fn default() -> Self {
        Self { allowed_origins: Vec::new(), rate_limit_per_minute: PER_PRINCIPAL_DEFAULT, deploy_bytes_max: 64 << 20 }
    }
}

/// What the gateway passes requests to.
pub(crate) struct GatewayRooms<U: Upstream = Revision> {
    pub registry: Arc<Registry<U>>,
    pub accounts: Arc<Accounts>,
    pub cache: CacheRoom,
    pub database: Database,
    pub queue: QueueRoom,
    /// None only while nothing can be deployed: the routes then answer 501.
    pub administration: Option<Arc<dyn Administration>>,
}

/// The pipeline. One a host, behind an `Arc`; it serves every listener and every internal call.
pub(crate) struct Gateway<U: Upstream = Revision> {
    registry: Arc<Registry<U>>,
    accounts: Arc<Accounts>,
    cache: CacheRoom,
    database: Database,
    queue: QueueRoom,
    administration: Option<Arc<dyn Administration>>,
    anonymous: Arc<Principal>,
    cors: Cors,
    throttle: Throttle,
    idempotency: Idempotency,
    document: openapi::Document,
    readiness: health::Readiness,
    uploads: admin::Uploads,
    budget: receive::Budget,
    is_stopping: AtomicBool,
}

impl<U: Upstream> Gateway<U> {
    pub(crate) fn new(options: &GatewayOptions, rooms: GatewayRooms<U>) -> Arc<Self> {
        let GatewayRooms { registry, accounts, cache, database, queue, administration } = rooms;
        Arc::new(Self {
            cors: Cors::new(&options.allowed_origins),
            throttle: Throttle::new(cache.clone(), options.rate_limit_per_minute),
            idempotency: Idempotency::new(database.clone()),
            document: openapi::Document::default(),
            readiness: health::Readiness::default(),
            uploads: admin::Uploads::new(options.deploy_bytes_max),
            budget: receive::Budget::default(),
            anonymous: Arc::new(Principal::anonymous()),
            is_stopping: AtomicBool::new(false),
            registry,
            accounts,
            cache,
            database,
            queue,
            administration,
        })
    }

    /// Starts what has to be done now and then.
    pub(crate) fn maintain(&self, tasks: &Tasks) {
        let idempotency = self.idempotency.clone();
        tasks.supervise("idempotency-purge", move |stop| {
            let idempotency = idempotency.clone();
            async move {
                while stop.run_until_cancelled(tokio::time::sleep(PURGE_INTERVAL)).await.is_some() {
                    match idempotency.purge().await {
                        Ok(removed) => tracing::debug!(target: "gateway", removed, "kept answers have expired"),
                        Err(error) => tracing::warn!(target: "gateway", %error, "expired answers were not removed"),
                    }
                }
            }
        });
    }

    /// From now on `/ready` says that no new requests are wanted.
    pub(crate) fn begin_shutdown(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }

    /// Takes one request through every stage.
    async fn answer<B>(&self, peer: &Peer, request: Request<B>) -> Response<ResponseBody>
    where
        B: http_body::Body<Data = bytes::Bytes> + Send + Unpin + 'static,
        B::Error: Into<crate::body::BodyError>,
    {
        let (parts, body) = request.into_parts();
        let request_id = request_id::of(&parts.headers);
        let mut exchange = Exchange::begin(peer, &parts, Arc::clone(&request_id));
        let is_head = parts.method == Method::HEAD;
        let if_none_match = respond::if_none_match(&parts.method, &parts.headers);
        let origin = self.cors.allowed_origin(&parts.headers);
        let result = match parts.method {
            Method::OPTIONS => Ok(cors::preflight(origin.is_some(), &parts.headers)),
            Method::CONNECT | Method::TRACE => Err(GatewayError::MethodNotAllowed(cors::METHODS)),
            _ => self.pass(&mut exchange, peer, parts, body).await,
        };
        let mut response = match result {
            Ok(response) => response,
            Err(error) => refuse(&error, &request_id),
        };
        respond::not_modified(if_none_match.as_ref(), &mut response);
        if is_head {
            respond::without_body(&mut response);
        }
        let headers = response.headers_mut();
        if let Ok(request_id) = HeaderValue::from_str(&request_id) {
            headers.insert(X_REQUEST_ID, request_id);
        }
        if let Some(rate) = &exchange.rate {
            rate.decorate(headers);
        }
        respond::harden(headers, peer.is_tls);
        self.cors.decorate(origin, headers);
        exchange.end(response.status());
        response
    }

    /// From the path to the one who answers.
    async fn pass<B>(
        &self,
        exchange: &mut Exchange,
        peer: &Peer,
        parts: Parts,
        body: B,
    ) -> Result<Response<ResponseBody>, GatewayError>
    where
        B: http_body::Body<Data = bytes::Bytes> + Send + Unpin + 'static,
        B::Error: Into<crate::body::BodyError>,
    {
        path::check(parts.uri.path(), parts.uri.query())?;
        let identity = self.identify(&parts).await?;
        if let Identity::Known(principal) = &identity {
            exchange.is_called_by(principal);
        }
        let target = route::find(&self.registry, parts.uri.path(), peer.plugin.as_deref());
        if !target.is_probe() {
            self.count(exchange, peer, &identity, &target, parts.uri.path()).await?;
        }
        match target {
            Target::Plugin(slot) => self.forward(exchange, &slot, &identity, parts, body).await,
            Target::MainApp => self.main_app(exchange, identity, parts, body).await,
            Target::Admin => self.admin(exchange, &identity, parts, body).await,
            Target::Nowhere => Err(GatewayError::RouteNotFound),
            own => {
                let is_read = matches!(parts.method, Method::GET | Method::HEAD);
                if !is_read { Err(GatewayError::MethodNotAllowed(READ_ONLY)) } else { self.own(own, &identity).await }
            }
        }
    }

    /// The host's own read-only routes.
    async fn own(&self, target: Target<U>, identity: &Identity) -> Result<Response<ResponseBody>, GatewayError> {
        match target {
            Target::Root => Ok(health::root(&self.registry)),
            Target::Live => Ok(respond::json(StatusCode::OK, &serde_json::json!({ "status": "ok" }))),
            Target::Ready => Ok(self.ready().await),
            // It says nothing about anybody, and tools read it before they have a token.
            Target::Document => Ok(self.document.response(&self.registry)),
            Target::PluginHealth(slot) => {
                signed_in(identity)?;
                Ok(health::plugin(&slot))
            }
            _ => Ok(health::process()),
        }
    }

    /// Who calls. A credential that proves nothing is refused only where one is needed.
    async fn identify(&self, parts: &Parts) -> Result<Identity, GatewayError> {
        let token = match authenticate::credential(&parts.headers)? {
            Credential::None => return Ok(Identity::Anonymous),
            Credential::Unusable => return Ok(Identity::Refused(GatewayError::Unauthorized)),
            Credential::Bearer(token) => token,
            // A browser sends the cookie whoever wrote the page.
            Credential::Cookie(_) if self.cors.is_forged(&parts.method, &parts.headers) => {
                let reason = "the request comes from a page of another origin".to_owned();
                return Ok(Identity::Refused(GatewayError::Forbidden(reason)));
            }
            Credential::Cookie(token) => token,
        };
        Ok(match self.accounts.authenticate(token).await {
            Ok(principal) => Identity::Known(principal),
            Err(error) => Identity::Refused(error.into()),
        })
    }

    async fn count(
        &self,
        exchange: &mut Exchange,
        peer: &Peer,
        identity: &Identity,
        target: &Target<U>,
        path: &str,
    ) -> Result<(), GatewayError> {
        let caller = match identity {
            Identity::Known(principal) => Caller::SignedIn(principal),
            _ => Caller::Anonymous(peer.ip),
        };
        let options = match target {
            Target::Plugin(slot) => Some(slot.options()),
            _ => None,
        };
        let own = options.as_deref().and_then(|options| throttle::own_limit(options, path));
        let (rate, result) = self.throttle.count(caller, own).await;
        exchange.rate = rate;
        result
    }
}

impl<U: Upstream> Serve for Gateway<U> {
    async fn serve(&self, peer: &Peer, request: Request<Incoming>) -> Response<ResponseBody> {
        self.answer(peer, request).await
    }
}

/// The one place where a refusal is logged.
fn refuse(error: &GatewayError, request_id: &str) -> Response<ResponseBody> {
    let problem = Problem::from(error);
    if problem.kind.status.is_server_error() {
        let causes = chain(error);
        tracing::warn!(target: "gateway", request_id, status = problem.kind.status.as_u16(), error = causes, "a request failed");
    }
    problem.response(request_id)
}

/// An error with everything below it, for the log.
fn chain(error: &GatewayError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// The caller, who must have proved an identity.
fn signed_in(identity: &Identity) -> Result<&Arc<Principal>, GatewayError> {
    match identity {
        Identity::Known(principal) => Ok(principal),
        Identity::Refused(error) => Err(error.again()),
        Identity::Anonymous => Err(GatewayError::Unauthorized),
    }
}

/// Whether nobody can say at present who calls.
fn is_undecided(identity: &Identity) -> bool {
    matches!(identity, Identity::Refused(GatewayError::Authentication(AuthenticationError::Unavailable(_))))
}

fn user_agent(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(USER_AGENT)?.to_str().ok()?;
    Some(text.chars().take(USER_AGENT_CHARS_MAX).collect())
}

/// Refuses a method, naming the right ones.
fn method_not_allowed(allowed: &'static str) -> GatewayError {
    GatewayError::MethodNotAllowed(HeaderValue::from_static(allowed))
}
