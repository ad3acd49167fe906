//! `/api/admin/…`: plugins, builds and queues, and what is to be seen of them. Only for the platform role.

mod capsules;
mod entries;
mod events;
mod multipart;
mod request;
mod seeing;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::request::Parts;
use http::{Method, Response, StatusCode};
use http_body::Body as HttpBody;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::authorize::Identity;
use super::error::GatewayError;
use super::exchange::Exchange;
use super::receive::{self, IDLE_TIME_MAX};
use super::respond::{self, ResponseBody};
use super::upstream::Upstream;
use super::{Gateway, method_not_allowed, signed_in};
use crate::body::BodyError;
use crate::deploy::{DeployError, DeployOptions, EntryChange};
use crate::principal::{Principal, PrincipalKind};
pub(super) use events::Streams;

/// Components that may be read into memory at once; one more is told to come again.
const UPLOADS_MAX: usize = 4;
/// Lines of a plugin's history, where nothing is said, and at most.
const HISTORY_LINES: i64 = 50;
const HISTORY_LINES_MAX: i64 = 200;
/// The name of a plugin.
const NAME_CHARS_MAX: usize = 64;
/// Body of an administration request that is no component.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// How a deploy or a rollback ended: what happened, and whether the old build has drained too.
#[derive(Clone, Debug)]
pub(crate) struct DeployAnswer {
    pub report: Value,
    pub has_drained: bool,
}

/// How a trial ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TrialEnd {
    Promote,
    Abort,
}

/// What the gateway needs of the deployer. One implementation outside tests.
#[async_trait]
pub(crate) trait Administration: Send + Sync {
    /// Every plugin as it stands: a JSON array.
    fn plugins(&self) -> Value;
    /// Every host on the database and what it runs: a JSON array.
    async fn hosts(&self) -> Result<Value, DeployError>;
    /// Every build as it fares: a JSON array.
    fn status(&self) -> Value;
    /// What every plugin may do, in words: a JSON array.
    fn grants(&self) -> Value;
    /// The effective route table: a JSON array.
    fn routes(&self) -> Value;
    /// Deploys `component`; answers after the switch, or after the drain when it waits for it.
    async fn deploy(&self, plugin: &str, component: Bytes, options: DeployOptions)
    -> Result<DeployAnswer, DeployError>;
    /// What a deploy of `component` would do; nothing changes.
    async fn plan(&self, plugin: &str, component: Bytes, options: DeployOptions) -> Result<Value, DeployError>;
    /// Goes back to `revision`, or to the build before the present one.
    async fn rollback(
        &self,
        plugin: &str,
        revision: Option<i64>,
        options: DeployOptions,
    ) -> Result<DeployAnswer, DeployError>;
    /// Ends the trial of a build: it takes over, or it goes.
    async fn end_trial(&self, plugin: &str, end: TrialEnd, options: DeployOptions)
    -> Result<DeployAnswer, DeployError>;
    /// A plugin's entry in the manifest, as TOML.
    async fn entry(&self, plugin: &str) -> Result<String, DeployError>;
    /// Adds a plugin with its first build.
    async fn add(
        &self,
        plugin: &str,
        entry: String,
        component: Bytes,
        options: DeployOptions,
    ) -> Result<DeployAnswer, DeployError>;
    /// Changes or removes a plugin.
    async fn change(
        &self,
        plugin: &str,
        change: EntryChange,
        options: DeployOptions,
    ) -> Result<DeployAnswer, DeployError>;
    /// The component of a build that is still kept.
    async fn component(&self, sha256: &str) -> Result<Option<Bytes>, DeployError>;
    /// The newest builds first: a JSON array.
    async fn history(&self, plugin: &str, limit: i64) -> Result<Value, DeployError>;
}

/// Bounds what deploys hold in memory.
pub(super) struct Uploads {
    bytes_max: usize,
    permits: Semaphore,
}

impl Uploads {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, permits: Semaphore::new(UPLOADS_MAX) }
    }
}

impl<U: Upstream> Gateway<U> {
    /// Answers an administration route.
    pub(super) async fn admin<B>(
        &self,
        exchange: &mut Exchange,
        identity: &Identity,
        parts: Parts,
        body: B,
    ) -> Result<Response<ResponseBody>, GatewayError>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BodyError>,
    {
        let principal = signed_in(identity)?;
        if !principal.is_platform {
            let error = GatewayError::Forbidden("the platform role is needed".to_owned());
            self.audit_denial(exchange, principal, "admin", &parts, &error);
            return Err(error);
        }
        let rest = parts.uri.path().strip_prefix("/api/admin").unwrap_or_default();
        let segments: Vec<&str> = rest.split('/').skip(1).collect();
        let method = if parts.method == Method::HEAD { Method::GET } else { parts.method.clone() };
        match (segments.as_slice(), &method) {
            (["plugins"], &Method::GET) => Ok(ok(&items(self.administration()?.plugins()))),
            (["routes"], &Method::GET) => Ok(ok(&items(self.administration()?.routes()))),
            (["hosts"], &Method::GET) => Ok(ok(&items(self.administration()?.hosts().await?))),
            (["queues"], &Method::GET) => self.queues().await,
            (["plugins" | "routes" | "hosts" | "queues"], _) => Err(method_not_allowed("GET, HEAD")),
            (["status" | "events" | "grants"] | ["plugins", _, "logs" | "grants"], _) => {
                self.see(exchange, &segments, &method, &parts).await
            }
            (["capsules", ..], _) => self.capsules(&segments, &method, principal, &parts).await,
            (["plugins", name], _) => self.entry(plugin(name)?, &method, actor(principal), &parts, body).await,
            (["plugins", name, "history"], &Method::GET) => self.history(plugin(name)?, &parts).await,
            (["plugins", _, "history"], _) => Err(method_not_allowed("GET, HEAD")),
            (["plugins", name, "deploy"], &Method::POST) => {
                self.deploy(plugin(name)?, actor(principal), &parts, body).await
            }
            (["plugins", name, "rollback"], &Method::POST) => {
                self.roll_back(plugin(name)?, actor(principal), &parts, body).await
            }
            (["plugins", name, "promote"], &Method::POST) => {
                self.end_trial(plugin(name)?, TrialEnd::Promote, actor(principal), &parts).await
            }
            (["plugins", name, "abort"], &Method::POST) => {
                self.end_trial(plugin(name)?, TrialEnd::Abort, actor(principal), &parts).await
            }
            (["queues", name, "redrive"], &Method::POST) => self.redrive(name).await,
            (["plugins", _, "deploy" | "rollback" | "promote" | "abort"] | ["queues", _, "redrive"], _) => {
                Err(method_not_allowed("POST"))
            }
            _ => Err(GatewayError::RouteNotFound),
        }
    }

    fn administration(&self) -> Result<&Arc<dyn Administration>, GatewayError> {
        self.administration.as_ref().ok_or(GatewayError::NotImplemented("this host deploys nothing"))
    }

    async fn deploy<B>(
        &self,
        plugin: &str,
        actor: String,
        parts: &Parts,
        body: B,
    ) -> Result<Response<ResponseBody>, GatewayError>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BodyError>,
    {
        let administration = self.administration()?;
        if self.registry.slot(plugin).is_none() {
            return Err(GatewayError::NotFound("plugin"));
        }
        if is_json(parts) {
            return Err(GatewayError::NotImplemented(
                "deploying a reference is not available here; send the component",
            ));
        }
        receive::check_length(&parts.headers, self.uploads.bytes_max)?;
        let permit = self.uploads.permits.try_acquire().map_err(|_| GatewayError::Busy)?;
        let whole = receive::read_whole(body, &self.budget, self.uploads.bytes_max, IDLE_TIME_MAX).await?;
        let (component, _held) = whole.into_parts();
        if component.is_empty() {
            return Err(GatewayError::Deploy(DeployError::Invalid("the body holds no component".to_owned())));
        }
        let options = request::deploy_options(parts, actor)?;
        if is_set(parts, "plan")? {
            return Ok(ok(&administration.plan(plugin, component, options).await?));
        }
        let answer = administration.deploy(plugin, component, options).await?;
        drop(permit);
        Ok(deployed(&answer))
    }

    async fn roll_back<B>(
        &self,
        plugin: &str,
        actor: String,
        parts: &Parts,
        body: B,
    ) -> Result<Response<ResponseBody>, GatewayError>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BodyError>,
    {
        let bytes = receive::read_whole(body, &self.budget, BODY_BYTES_MAX, IDLE_TIME_MAX).await?.bytes;
        let revision = match query(parts, "revision") {
            Some(text) => Some(positive(text).ok_or(GatewayError::Malformed("`revision` must be a positive integer"))?),
            None => revision_of(&bytes)?,
        };
        let options = DeployOptions { waits_for_drain: is_set(parts, "wait")?, ..DeployOptions::by(actor) };
        Ok(deployed(&self.administration()?.rollback(plugin, revision, options).await?))
    }

    async fn end_trial(
        &self,
        plugin: &str,
        end: TrialEnd,
        actor: String,
        parts: &Parts,
    ) -> Result<Response<ResponseBody>, GatewayError> {
        let options = DeployOptions {
            waits_for_drain: is_set(parts, "wait")?,
            watch: request::watch(parts)?,
            ..DeployOptions::by(actor)
        };
        Ok(deployed(&self.administration()?.end_trial(plugin, end, options).await?))
    }

    async fn history(&self, plugin: &str, parts: &Parts) -> Result<Response<ResponseBody>, GatewayError> {
        let limit = match query(parts, "limit") {
            None => HISTORY_LINES,
            Some(text) => positive(text)
                .filter(|limit| *limit <= HISTORY_LINES_MAX)
                .ok_or(GatewayError::Malformed("`limit` must be an integer from 1 to 200"))?,
        };
        Ok(ok(&items(self.administration()?.history(plugin, limit).await?)))
    }

    async fn queues(&self) -> Result<Response<ResponseBody>, GatewayError> {
        let queues: Vec<Value> = self
            .queue
            .stats()
            .await?
            .into_iter()
            .map(|queue| {
                json!({
                    "name": queue.plugin,
                    "queue": format!("{}-queue", queue.plugin),
                    "depth": queue.depth,
                    "inFlight": queue.in_flight,
                    "consumers": usize::from(self.consumes(&queue.plugin)),
                    "deadLetters": queue.dead_letters,
                })
            })
            .collect();
        Ok(ok(&items(Value::Array(queues))))
    }

    async fn redrive(&self, name: &str) -> Result<Response<ResponseBody>, GatewayError> {
        let plugin = name.strip_suffix("-queue").or_else(|| name.strip_suffix(".dlq")).unwrap_or(name);
        let redriven = self.queue.redrive(plugin).await?;
        Ok(ok(&json!({ "queue": plugin, "redriven": redriven })))
    }

    fn consumes(&self, plugin: &str) -> bool {
        let build = self.registry.slot(plugin).and_then(|slot| slot.current());
        build.is_some_and(|build| build.exports().consumer)
    }
}

fn ok(body: &Value) -> Response<ResponseBody> {
    respond::json(StatusCode::OK, body)
}

/// The list envelope.
fn items(items: Value) -> Value {
    let total = items.as_array().map_or(0, Vec::len);
    json!({ "items": items, "total": total, "limit": total, "offset": 0 })
}

/// 200 when everything is over, 202 while the old build still drains.
fn deployed(answer: &DeployAnswer) -> Response<ResponseBody> {
    let status = if answer.has_drained { StatusCode::OK } else { StatusCode::ACCEPTED };
    respond::json(status, &answer.report)
}

fn actor(principal: &Principal) -> String {
    match (&principal.user_id, principal.kind) {
        (Some(user), _) => user.to_string(),
        (None, PrincipalKind::Operator) => "operator".to_owned(),
        (None, _) => "host".to_owned(),
    }
}

fn plugin(name: &str) -> Result<&str, GatewayError> {
    let is_name = (1..=NAME_CHARS_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if is_name { Ok(name) } else { Err(GatewayError::NotFound("plugin")) }
}

fn query<'a>(parts: &'a Parts, name: &str) -> Option<&'a str> {
    let pairs = parts.uri.query()?.split('&').filter_map(|pair| pair.split_once('=').or(Some((pair, ""))));
    pairs.filter(|(key, _)| *key == name).map(|(_, value)| value).next()
}

/// A switch in the query: `?wait`, `?wait=true`.
fn is_set(parts: &Parts, name: &'static str) -> Result<bool, GatewayError> {
    match query(parts, name) {
        None | Some("false" | "0") => Ok(false),
        Some("true" | "1" | "") => Ok(true),
        Some(_) => Err(GatewayError::BadParameter(format!("`{name}` must be true or false"))),
    }
}

fn positive(text: &str) -> Option<i64> {
    text.parse().ok().filter(|number| *number > 0)
}

fn is_json(parts: &Parts) -> bool {
    let sent = parts.headers.get(http::header::CONTENT_TYPE).map(|value| value.as_bytes());
    sent.is_some_and(|sent| sent.to_ascii_lowercase().starts_with(b"application/json"))
}

/// `{"revision": 3}`, or nothing.
fn revision_of(bytes: &[u8]) -> Result<Option<i64>, GatewayError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let body: Value = serde_json::from_slice(bytes).map_err(|_| GatewayError::Malformed("the body is not JSON"))?;
    match body.get("revision") {
        None | Some(Value::Null) => Ok(None),
        Some(revision) => match crate::body::integer(revision).filter(|revision| *revision > 0) {
            Some(revision) => Ok(Some(revision)),
            None => Err(GatewayError::Malformed("`revision` must be a positive integer")),
        },
    }
}
