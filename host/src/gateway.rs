//! The one way in: every HTTP request comes through here, in one direction, stage by stage.
//!
//! request id → path → credential → throttle → route → authorize → idempotency → forward → respond → access log. Every
//! error of every room becomes an answer in `problem.rs` and nowhere else. No stage trusts a header for an identity.

mod admin;
mod authenticate;
mod authorize;
mod compress;
mod cors;
mod directory;
mod docs;
mod error;
mod exchange;
mod forward;
mod health;
pub(crate) mod idempotency;
mod internal;
mod listener;
mod load;
mod main_app;
mod metrics;
mod mirror;
mod openapi;
mod path;
mod problem;
mod proxy;
mod receive;
mod request_id;
mod respond;
mod route;
mod throttle;
mod unread;
mod upstream;
mod webdav;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::header::{CACHE_CONTROL, HOST, HeaderMap, UPGRADE, USER_AGENT};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use ipnet::IpNet;

use crate::accounts::{Accounts, AuthenticationError};
use crate::capability::cache::CacheRoom;
use crate::capability::capsule::Keeper;
use crate::capability::logging::LogRoom;
use crate::capability::queue::QueueRoom;
use crate::database::Database;
use crate::deploy::Registry;
use crate::engine::{Revision, RouteMatch};
use crate::principal::Principal;
use crate::tasks::Tasks;
use crate::trace::Tracer;
pub(crate) use admin::{Administration, DeployAnswer, TrialEnd};
use authenticate::Credential;
use authorize::Identity;
use cors::Cors;
pub(crate) use error::GatewayError;
use exchange::Exchange;
use idempotency::Idempotency;
pub(crate) use listener::{
    Crowd, Door, Handshake, Listener, ListenerOptions, PER_ADDRESS_MAX, Peer, Serve, Server, Tls,
};
pub(crate) use load::IN_FLIGHT_DEFAULT;
use load::Load;
use metrics::Metrics;
use problem::Problem;
use proxy::Proxies;
use request_id::X_REQUEST_ID;
use respond::ResponseBody;
use route::Target;
pub(crate) use throttle::RateLimits;
use throttle::{Caller, Throttle};
pub(crate) use unread::UNREAD_TIME_MAX;
pub(crate) use upstream::Upstream;

/// Administration that is the main app's.
const SIGNING_KEYS: &str = "/api/admin/signing-keys";
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
    pub rate_limits: RateLimits,
    /// Whether requests that cannot be counted because the cache is lost are refused.
    pub refuses_uncounted: bool,
    /// Whether the administration has a listener of its own, and is not to be found on the gateway's.
    pub has_admin_door: bool,
    /// Requests under way before one more is turned away.
    pub in_flight_max: usize,
    /// Whose word about the client's address counts.
    pub trusted_proxies: Vec<IpNet>,
    /// How long a client may leave a part of an answer untaken.
    pub unread_time_max: Duration,
    /// The largest component that may be deployed, in bytes.
    pub deploy_bytes_max: usize,
}

impl Default for GatewayOptions {
    fn default() -> Self {
        Self {
            allowed_origins: Vec::new(),
            rate_limits: RateLimits::default(),
            refuses_uncounted: false,
            has_admin_door: false,
            in_flight_max: IN_FLIGHT_DEFAULT,
            trusted_proxies: Vec::new(),
            unread_time_max: UNREAD_TIME_MAX,
            deploy_bytes_max: 64 << 20,
        }
    }
}

/// What the gateway passes requests to.
pub(crate) struct GatewayRooms<U: Upstream = Revision> {
    pub registry: Arc<Registry<U>>,
    pub accounts: Arc<Accounts>,
    pub cache: CacheRoom,
    pub database: Database,
    pub queue: QueueRoom,
    /// What plugins log.
    pub logs: LogRoom,
    /// Failed calls; none where none are kept.
    pub capsules: Option<Arc<Keeper>>,
    /// None only while nothing can be deployed: the routes then answer 501.
    pub administration: Option<Arc<dyn Administration>>,
    pub tracer: Tracer,
}

/// The pipeline. One a host, behind an `Arc`; it serves every listener and every internal call.
pub(crate) struct Gateway<U: Upstream = Revision> {
    registry: Arc<Registry<U>>,
    accounts: Arc<Accounts>,
    cache: CacheRoom,
    database: Database,
    queue: QueueRoom,
    logs: LogRoom,
    capsules: Option<Arc<Keeper>>,
    /// Streams of the administration.
    streams: admin::Streams,
    administration: Option<Arc<dyn Administration>>,
    anonymous: Arc<Principal>,
    cors: Cors,
    throttle: Throttle,
    idempotency: Idempotency,
    document: openapi::Document,
    readiness: health::Readiness,
    uploads: admin::Uploads,
    budget: receive::Budget,
    proxies: Proxies,
    load: Load,
    metrics: Metrics,
    has_admin_door: bool,
    unread_time_max: Duration,
    tracer: Tracer,
    is_stopping: AtomicBool,
}

impl<U: Upstream> Gateway<U> {
    pub(crate) fn new(options: &GatewayOptions, rooms: GatewayRooms<U>) -> Arc<Self> {
        // The host is as old as its gateway: the first look starts the clock.
        health::uptime();
        let GatewayRooms { registry, accounts, cache, database, queue, logs, capsules, administration, tracer } = rooms;
        Arc::new(Self {
            cors: Cors::new(&options.allowed_origins),
            throttle: Throttle::new(cache.clone(), options.rate_limits, options.refuses_uncounted),
            idempotency: Idempotency::new(database.clone()),
            document: openapi::Document::default(),
            readiness: health::Readiness::default(),
            uploads: admin::Uploads::new(options.deploy_bytes_max),
            budget: receive::Budget::default(),
            proxies: Proxies::new(options.trusted_proxies.clone()),
            load: Load::new(options.in_flight_max),
            metrics: Metrics::default(),
            has_admin_door: options.has_admin_door,
            unread_time_max: options.unread_time_max,
            anonymous: Arc::new(Principal::anonymous()),
            is_stopping: AtomicBool::new(false),
            streams: admin::Streams::default(),
            registry,
            accounts,
            cache,
            database,
            queue,
            logs,
            capsules,
            administration,
            tracer,
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

    /// From now on `/ready` says that no new requests are wanted, and streams of the administration end.
    pub(crate) fn begin_shutdown(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        self.streams.end();
    }

    /// Takes one request through every stage.
    async fn answer<B>(&self, peer: &Peer, request: Request<B>) -> Response<ResponseBody>
    where
        B: http_body::Body<Data = bytes::Bytes> + Send + Unpin + 'static,
        B::Error: Into<crate::body::BodyError>,
    {
        let (parts, body) = request.into_parts();
        let request_id = request_id::of(&parts.headers);
        let (_place, fits) = self.load.enter();
        let entrance = self.entrance(peer, &parts);
        let peer = match &entrance {
            Ok(Some(client)) => client,
            _ => peer,
        };
        let mut exchange = Exchange::begin(peer, &parts, request_id, &self.tracer);
        if let Some(template) = main_app::template_of(parts.uri.path()) {
            exchange.log_as(template);
        }
        let (is_head, version) = (parts.method == Method::HEAD, parts.version);
        let if_none_match = respond::if_none_match(&parts.method, &parts.headers);
        let coding = compress::wanted(&parts.headers);
        let origin = self.cors.allowed_origin(&parts.headers);
        let result = match (&entrance, &parts.method) {
            (Err(error), _) => Err(error.again()),
            (_, &Method::OPTIONS) if !self.is_answered_by_plugin(peer, &parts) => {
                Ok(cors::preflight(origin.is_some(), &parts.headers, self.methods(peer, parts.uri.path())))
            }
            (_, &Method::CONNECT | &Method::TRACE) => Err(GatewayError::MethodNotAllowed(cors::METHODS)),
            _ => self.pass(&mut exchange, peer, fits, &parts, body).await,
        };
        let mut response = match result {
            Ok(response) => response,
            Err(error) => {
                let mut response = refuse(&error, &exchange.request_id);
                self.challenge(peer, parts.uri.path(), &mut response);
                response
            }
        };
        respond::not_modified(if_none_match.as_ref(), &mut response);
        compress::apply(coding, &mut response);
        if is_head {
            respond::without_body(&mut response);
        }
        if version == Version::HTTP_2 {
            response = response.map(|body| unread::watch(body, self.unread_time_max));
        }
        let headers = response.headers_mut();
        if let Ok(request_id) = HeaderValue::from_str(&exchange.request_id) {
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

    /// The methods of a path, where it is known which it has.
    fn methods(&self, peer: &Peer, path: &str) -> Option<HeaderValue> {
        let mut methods = match route::find(&self.registry, path, &peer.door, self.has_admin_door) {
            // No method has this name: what is found are all that the path has.
            Target::Plugin(slot) => match authorize::find(&*slot.current()?, "", path).ok()? {
                RouteMatch::OtherMethods(methods) => methods.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
                _ => return None,
            },
            Target::MainApp => self.accounts.methods(path)?.join(", "),
            _ => return None,
        };
        for (present, implied) in [("GET", "HEAD"), ("", "OPTIONS")] {
            if methods.contains(present) && !methods.contains(implied) {
                methods.push_str(", ");
                methods.push_str(implied);
            }
        }
        HeaderValue::try_from(methods).ok()
    }

    /// What is judged before anything of the request is used: where it was sent to, and who stands behind a proxy.
    fn entrance(&self, peer: &Peer, parts: &Parts) -> Result<Option<Peer>, GatewayError> {
        let mut hosts = parts.headers.get_all(HOST).iter();
        match (hosts.next(), parts.uri.authority()) {
            (Some(host), Some(authority)) if !authority.as_str().as_bytes().eq_ignore_ascii_case(host.as_bytes()) => {
                return Err(GatewayError::Malformed("the request names two hosts"));
            }
            (None, None) if parts.version == Version::HTTP_11 => {
                return Err(GatewayError::Malformed("the Host header is missing"));
            }
            _ => {}
        }
        if hosts.next().is_some() {
            return Err(GatewayError::Malformed("the request names two hosts"));
        }
        if parts.headers.get(UPGRADE).is_some_and(|wanted| wanted.as_bytes().eq_ignore_ascii_case(b"websocket")) {
            return Err(GatewayError::NotImplemented(
                "there are no WebSockets here; routes that push send server-sent events",
            ));
        }
        self.proxies.behind(peer, &parts.headers)
    }

    /// From the path to the one who answers.
    async fn pass<B>(
        &self,
        exchange: &mut Exchange,
        peer: &Peer,
        fits: bool,
        parts: &Parts,
        body: B,
    ) -> Result<Response<ResponseBody>, GatewayError>
    where
        B: http_body::Body<Data = bytes::Bytes> + Send + Unpin + 'static,
        B::Error: Into<crate::body::BodyError>,
    {
        path::check(parts.uri.path(), parts.uri.query())?;
        let target = route::find(&self.registry, parts.uri.path(), &peer.door, self.has_admin_door);
        exchange.is_counted_by(match &target {
            Target::Plugin(slot) => slot.meter(),
            Target::MainApp => &self.metrics.main_app,
            Target::Admin => &self.metrics.admin,
            _ => &self.metrics.host,
        });
        if !fits && !target.is_probe() {
            self.load.turn_away();
            return Err(GatewayError::Busy);
        }
        let identity = self.identify(peer, &target, parts).await?;
        if let Identity::Known(principal) = &identity {
            exchange.is_called_by(principal);
        }
        if !target.is_probe() {
            self.count(exchange, peer, &identity, &target, parts.uri.path()).await?;
        }
        match target {
            Target::Plugin(slot) => {
                let mut response = self.forward(exchange, &slot, &identity, parts, body).await?;
                if matches!(identity, Identity::Known(_)) {
                    respond::forbid_keeping(response.headers_mut());
                }
                Ok(response)
            }
            // Boxed, as is everything off the way of a plain request: every request moves the space of the largest branch.
            Target::MainApp => Box::pin(self.main_app(exchange, identity, parts.clone(), body)).await,
            Target::Admin if parts.uri.path().starts_with(SIGNING_KEYS) => {
                Box::pin(self.main_app(exchange, identity, parts.clone(), body)).await
            }
            Target::Admin => Box::pin(self.admin(exchange, &identity, parts.clone(), body)).await,
            Target::Nowhere => Err(GatewayError::RouteNotFound),
            Target::Calendars => self.calendars(),
            own => {
                let is_read = matches!(parts.method, Method::GET | Method::HEAD);
                if !is_read {
                    return Err(GatewayError::MethodNotAllowed(READ_ONLY));
                }
                Box::pin(self.own(own, &identity, &parts.uri)).await
            }
        }
    }

    /// The host's own read-only routes.
    async fn own(
        &self,
        target: Target<U>,
        identity: &Identity,
        uri: &Uri,
    ) -> Result<Response<ResponseBody>, GatewayError> {
        match target {
            Target::Root => Ok(health::root(&self.registry)),
            Target::Live => Ok(respond::json(StatusCode::OK, &serde_json::json!({ "status": "ok" }))),
            Target::Ready => self.ready(uri.query()).await,
            Target::Metrics => self.metrics().await,
            Target::Browser => docs::answer(uri.path()),
            // It says nothing about anybody, and tools read it before they have a token.
            Target::Document => Ok(self.document.response(&self.registry, !self.has_admin_door)),
            Target::KeySet => Ok(self.key_set()),
            Target::PluginHealth(slot) => {
                signed_in(identity)?;
                Ok(health::plugin(&slot))
            }
            _ => Ok(health::process()),
        }
    }

    /// The public halves of the keys that sign access tokens.
    fn key_set(&self) -> Response<ResponseBody> {
        let mut response = respond::json(StatusCode::OK, &self.accounts.key_set());
        // A fresh key is announced for longer than this before it signs.
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
        response
    }

    /// Who calls. A credential that proves nothing is refused only where one is needed.
    async fn identify(&self, peer: &Peer, target: &Target<U>, parts: &Parts) -> Result<Identity, GatewayError> {
        let token = match authenticate::credential(&parts.headers)? {
            Credential::None => return Ok(Identity::Anonymous),
            Credential::Unusable => return Ok(Identity::Refused(GatewayError::Unauthorized)),
            Credential::Bearer(token) => token,
            Credential::Basic(_) if !webdav::is_spoken(target, parts.uri.path()) => {
                return Ok(Identity::Refused(GatewayError::Unauthorized));
            }
            // A browser sends the cookie, and a password that it has kept, whoever wrote the page.
            Credential::Cookie(_) | Credential::Basic(_) if self.cors.is_forged(parts) => {
                let reason = "the request comes from a page of another origin".to_owned();
                return Ok(Identity::Refused(GatewayError::Forbidden(reason)));
            }
            Credential::Basic(encoded) => return Ok(Box::pin(self.identify_by_key(peer.ip, encoded)).await),
            Credential::Cookie(token) => token,
        };
        Ok(match Box::pin(self.accounts.authenticate(token, Some(peer.ip))).await {
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
        if self.throttle.is_off() {
            return Ok(());
        }
        let caller = match identity {
            Identity::Known(principal) => Caller::SignedIn(principal),
            _ => Caller::Anonymous(peer.ip),
        };
        let options = match target {
            Target::Plugin(slot) => Some(slot.options()),
            _ => None,
        };
        let own = options.as_deref().and_then(|options| throttle::own_limit(options, path));
        let (rate, result) = Box::pin(self.throttle.count(caller, peer.ip, own)).await;
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
    use AuthenticationError::{TooManyGuesses, Unavailable};
    matches!(identity, Identity::Refused(GatewayError::Authentication(Unavailable(_) | TooManyGuesses { .. })))
}

fn user_agent(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(USER_AGENT)?.to_str().ok()?;
    Some(text.chars().take(USER_AGENT_CHARS_MAX).collect())
}

/// Refuses a method, naming the right ones.
fn method_not_allowed(allowed: &'static str) -> GatewayError {
    GatewayError::MethodNotAllowed(HeaderValue::from_static(allowed))
}
