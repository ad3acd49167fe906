//! The whole pipeline over real sockets, with the real main app on SQLite and builds that do what a test wants.

mod admin;
mod edge;
mod internal;
mod plugin;
mod webdav;

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::accounts::{AccountsOptions, Cost, Foundations};
use crate::bindings::handler;
use crate::bindings::lifecycle::{Description, Route};
use crate::body::{self, Body};
use crate::capability::Plugin;
use crate::capability::grant::{Grant, Isolation, Limits};
use crate::capability::mail::MailRoom;
use crate::capability::queue::QueueOptions;
use crate::capability::secrets::backend::{KeyStore, VaultError, WrappedKey};
use crate::capability::secrets::{MasterKey, Vault};
use crate::database::HOST_MIGRATIONS;
use crate::deploy::{DeployError, Prefix, PublicRoute, Slot, SlotOptions};
use crate::engine::{Answer, CallError, Exports, PackedRequest, RevisionStatistics, RouteMatch};
use crate::principal::Call;
use crate::telemetry::meter::Meter;

const OPERATOR: &str = "operator-token-of-the-tests";

type Answering<T> = Pin<Box<dyn Future<Output = Result<T, CallError>> + Send>>;
type Handle = dyn Fn(Call, handler::Request) -> Answering<handler::Response> + Send + Sync;
type Stream = dyn Fn(Call, http::Request<Body>) -> Answering<http::Response<Body>> + Send + Sync;

/// A build made of closures.
struct FakeBuild {
    number: i64,
    digest: Arc<str>,
    description: Option<Arc<Description>>,
    handle: Option<Box<Handle>>,
    stream: Option<Box<Stream>>,
    calls: AtomicU64,
    meter: Meter,
}

impl FakeBuild {
    fn new(number: i64) -> Self {
        let digest = format!("{number:0>64}").into();
        Self {
            number,
            digest,
            description: None,
            handle: None,
            stream: None,
            calls: AtomicU64::new(0),
            meter: Meter::default(),
        }
    }

    /// Answers whole requests.
    fn handling<F>(mut self, handle: impl Fn(Call, handler::Request) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<handler::Response, CallError>> + Send + 'static,
    {
        self.handle = Some(Box::new(move |call, request| Box::pin(handle(call, request))));
        self
    }

    /// Answers through `wasi:http`.
    fn streaming<F>(mut self, stream: impl Fn(Call, http::Request<Body>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<http::Response<Body>, CallError>> + Send + 'static,
    {
        self.stream = Some(Box::new(move |call, request| Box::pin(stream(call, request))));
        self
    }

    fn described(mut self, routes: Vec<Route>) -> Self {
        self.description = Some(Arc::new(Description {
            name: "fake".into(),
            version: "1.2.3".into(),
            routes,
            bindings: vec![],
            timers: vec![],
            migrations: vec![],
            required_config: vec![],
        }));
        self
    }

    fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }
}

impl Upstream for FakeBuild {
    fn exports(&self) -> Exports {
        Exports {
            handler: self.handle.is_some(),
            consumer: false,
            lifecycle: self.description.is_some(),
            http_02: self.stream.is_some(),
            http_03: false,
        }
    }

    fn description(&self) -> Option<&Arc<Description>> {
        self.description.as_ref()
    }

    fn match_route(&self, method: &str, path: &str) -> RouteMatch<'_> {
        let fits = |route: &&Route| {
            let (own, sent): (Vec<&str>, Vec<&str>) = (route.path.split('/').collect(), path.split('/').collect());
            let mut pairs = own.iter().zip(&sent);
            route.method == method
                && own.len() == sent.len()
                && pairs.all(|(own, sent)| own.starts_with('{') || own == sent)
        };
        // Literals are listed first in these tests, as a router would prefer them.
        let route = self.description.iter().flat_map(|description| &description.routes).find(fits);
        route.map_or(RouteMatch::Unknown, RouteMatch::Described)
    }

    fn number(&self) -> i64 {
        self.number
    }

    fn digest(&self) -> &Arc<str> {
        &self.digest
    }

    fn short_digest(&self) -> &Arc<str> {
        &self.digest
    }

    fn statistics(&self) -> RevisionStatistics {
        RevisionStatistics {
            calls: self.calls(),
            traps: 2,
            last_trap: Some("unreachable".into()),
            ..Default::default()
        }
    }

    fn meter(&self) -> &Meter {
        &self.meter
    }

    async fn handle(self: &Arc<Self>, call: Call, request: PackedRequest) -> Result<Answer, CallError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        match &self.handle {
            Some(handle) => handle(call, request.unpack().unwrap()).await.map(Answer::Record),
            None => Err(CallError::NotExported("berth:platform/handler")),
        }
    }

    async fn serve(
        self: &Arc<Self>,
        call: Call,
        request: http::Request<Body>,
    ) -> Result<http::Response<Body>, CallError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        match &self.stream {
            Some(stream) => stream(call, request).await,
            None => Err(CallError::NotExported("wasi:http")),
        }
    }
}

/// Answers with what it was sent.
async fn echo(call: Call, request: handler::Request) -> Result<handler::Response, CallError> {
    let headers: BTreeMap<_, _> = request.headers.iter().cloned().collect();
    let body = json!({
        "method": request.method,
        "path": request.path,
        "query": request.query,
        "headers": headers,
        "body": String::from_utf8_lossy(&request.body),
        "requestId": request.request_id,
        "user": call.principal.user_id.as_deref(),
        "source": call.source_service.as_deref(),
        "depth": call.depth,
    });
    Ok(answer(200, &body.to_string()))
}

fn answer(status: u16, body: &str) -> handler::Response {
    handler::Response {
        status,
        headers: vec![("content-type".into(), "application/json".into())],
        body: body.as_bytes().to_vec(),
    }
}

fn route(method: &str, path: &str, permission: Option<&str>) -> Route {
    Route {
        method: method.into(),
        path: path.into(),
        summary: String::new(),
        permission: permission.map(str::to_owned),
        is_public: false,
        is_streaming: false,
        needs_organization: true,
        parameters: vec![],
        request_schema: None,
        request_media_type: None,
        answers: vec![],
        tag: String::new(),
    }
}

/// A host with one plugin, `planning` at `/api/plans`.
struct Host {
    gateway: Arc<Gateway<FakeBuild>>,
    server: Server,
    slot: Arc<Slot<FakeBuild>>,
    deploys: Arc<Deploys>,
    token: String,
}

/// How a test wants its host.
struct Setting {
    rate_limit_per_minute: u32,
    in_flight_max: usize,
    unread_time_max: Duration,
    limits: Limits,
    public: &'static [&'static str],
    build: Option<FakeBuild>,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            rate_limit_per_minute: 0,
            in_flight_max: IN_FLIGHT_DEFAULT,
            unread_time_max: UNREAD_TIME_MAX,
            limits: Limits::default(),
            public: &[],
            build: Some(FakeBuild::new(1).handling(echo)),
        }
    }
}

impl Host {
    async fn start(setting: Setting) -> Self {
        let database = Database::open_in_memory().await;
        database.migrate("host", HOST_MIGRATIONS).await.unwrap();
        let queue = QueueRoom::open(database.clone(), QueueOptions::default()).await.unwrap();
        let cache = CacheRoom::open("memory:").unwrap();
        let master = MasterKey::parse(&"ab".repeat(32)).unwrap();
        let foundations = Foundations {
            queue: queue.clone(),
            cache: cache.clone(),
            vault: Vault::over(Arc::new(KeysInMemory::default()), master).await.unwrap(),
            database: database.clone(),
            mail: MailRoom::unconfigured(),
        };
        let options = AccountsOptions {
            operator_token: Some(OPERATOR.into()),
            logins_per_quarter_hour: 0,
            password_cost: Cost { memory_kib: 16, passes: 1 },
            ..AccountsOptions::default()
        };
        let accounts = Accounts::open(foundations, options).await.unwrap();
        let registry = Arc::new(Registry::new(vec![slot_options(&setting)]).unwrap());
        let slot = registry.slot("planning").unwrap();
        if let Some(build) = setting.build {
            slot.put(Arc::new(build));
        }
        let deploys = Arc::new(Deploys::default());
        let administration: Arc<dyn Administration> = Arc::clone(&deploys) as _;
        let rooms = GatewayRooms {
            registry,
            accounts,
            cache,
            database,
            queue,
            logs: LogRoom::default(),
            capsules: None,
            administration: Some(administration),
            tracer: Tracer::default(),
        };
        let options = GatewayOptions {
            allowed_origins: vec!["https://app.example.com".into()],
            rate_limits: RateLimits { per_principal: setting.rate_limit_per_minute, ..RateLimits::default() },
            deploy_bytes_max: 1024,
            trusted_proxies: vec!["127.0.0.2/32".parse().unwrap()],
            in_flight_max: setting.in_flight_max,
            unread_time_max: setting.unread_time_max,
            ..GatewayOptions::default()
        };
        let gateway = Gateway::new(&options, rooms);
        let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into(), ListenerOptions::default()).await.unwrap();
        let server = listener.serve(Arc::clone(&gateway)).unwrap();
        let mut host = Self { gateway, server, slot, deploys, token: String::new() };
        host.token = host.register("ada@example.com").await;
        host
    }

    /// Signs somebody up and returns the access token.
    async fn register(&self, email: &str) -> String {
        let body = json!({ "email": email, "password": "correct horse battery", "name": "Ada" });
        let reply = self.send("POST", "/api/auth/register", &[], &body.to_string()).await;
        assert_eq!(reply.status, 201, "{}", reply.text);
        let cookies: Vec<_> = reply.headers.get_all("set-cookie").iter().map(|value| value.to_str().unwrap()).collect();
        let token = cookies.iter().find_map(|cookie| cookie.strip_prefix("accessToken=")?.split(';').next());
        let body = reply.json();
        token.or(body["accessToken"].as_str()).expect("no access token").to_owned()
    }

    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        send(self.server.address(), method, path, headers, body.as_bytes()).await
    }

    /// As the signed-up user.
    async fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let authorization = format!("Bearer {}", self.token);
        let mut all = vec![("authorization", authorization.as_str())];
        all.extend_from_slice(headers);
        self.send(method, path, &all, body).await
    }

    async fn operate(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let authorization = format!("Bearer {OPERATOR}");
        let mut all = vec![("authorization", authorization.as_str())];
        all.extend_from_slice(headers);
        self.send(method, path, &all, body).await
    }
}

fn slot_options(setting: &Setting) -> SlotOptions {
    let plugin = Plugin {
        name: "planning".into(),
        grant: Grant::default(),
        limits: setting.limits.clone(),
        config: BTreeMap::new(),
    };
    let public = setting.public.iter().map(|text| match text.split_once(' ') {
        Some((method, path)) => PublicRoute::new(Some(method), path).unwrap(),
        None => PublicRoute::new(None, text).unwrap(),
    });
    SlotOptions {
        plugin: Arc::new(plugin),
        origin: Default::default(),
        component: None,
        prefixes: vec![Prefix::parse("/api/plans").unwrap()],
        public: public.collect(),
        port: None,
        isolation: Isolation::default(),
        timers: BTreeMap::new(),
        rate_limits: Vec::new(),
    }
}

struct Reply {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Status and code of a problem, whose form is checked.
    #[track_caller]
    fn problem(&self) -> (u16, String) {
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.text);
        let body = self.json();
        let code = body["code"].as_str().unwrap().to_owned();
        let kind = code.to_ascii_lowercase().replace('_', "-");
        assert_eq!(body["type"], format!("urn:berth:problem:{kind}"));
        assert_eq!(body["status"], self.status);
        assert_eq!(body["requestId"], self.header("x-request-id"));
        (self.status, code)
    }
}

/// One request on a connection of its own, read to its end.
async fn send(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: berth.test\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    // A refused body need not be read to its end by the server.
    let _ = stream.write_all(body).await;
    read_reply(stream).await
}

async fn read_reply(mut stream: TcpStream) -> Reply {
    let mut bytes = Vec::new();
    let reading = stream.read_to_end(&mut bytes);
    let _ = tokio::time::timeout(Duration::from_secs(20), reading).await.expect("the answer never ended");
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let name: http::HeaderName = name.parse().unwrap();
        headers.append(name, value.trim().parse().unwrap());
    }
    let is_chunked = headers.get("transfer-encoding").is_some_and(|value| value == "chunked");
    let text = if is_chunked { unchunk(body) } else { body.to_owned() };
    Reply { status, headers, text }
}

fn unchunk(mut body: &str) -> String {
    let mut text = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        if size == 0 || rest.len() < size {
            break;
        }
        text.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
    }
    text
}

/// A deployer that only remembers.
#[derive(Default)]
struct Deploys {
    asked: Mutex<Vec<String>>,
}

#[async_trait]
impl Administration for Deploys {
    fn plugins(&self) -> Value {
        json!([{ "name": "planning" }])
    }

    async fn hosts(&self) -> Result<Value, crate::deploy::DeployError> {
        Ok(json!([{ "name": "here:3000" }]))
    }

    fn status(&self) -> Value {
        json!([{ "plugin": "planning", "revision": 2 }, { "plugin": "planning", "revision": 1 }])
    }

    fn grants(&self) -> Value {
        json!([{ "plugin": "planning", "may": ["answer requests below /api/plans"] }])
    }

    fn routes(&self) -> Value {
        json!([{ "path": "/api/plans" }])
    }

    async fn deploy(
        &self,
        plugin: &str,
        component: Bytes,
        options: crate::deploy::DeployOptions,
    ) -> Result<DeployAnswer, crate::deploy::DeployError> {
        let crate::deploy::DeployOptions { actor, waits_for_drain, .. } = options;
        if component == "garbage" {
            return Err(crate::deploy::DeployError::Invalid("the bytes are no component".into()));
        }
        self.asked.lock().push(format!("deploy {plugin} {} {actor}", component.len()));
        Ok(DeployAnswer { report: json!({ "revision": 2 }), has_drained: waits_for_drain })
    }

    async fn plan(
        &self,
        plugin: &str,
        component: Bytes,
        options: crate::deploy::DeployOptions,
    ) -> Result<Value, crate::deploy::DeployError> {
        let crate::deploy::DeployOptions { signature, .. } = options;
        self.asked.lock().push(format!("plan {plugin} {} {signature:?}", component.len()));
        Ok(json!({ "action": "plan" }))
    }

    async fn rollback(
        &self,
        plugin: &str,
        revision: Option<i64>,
        options: crate::deploy::DeployOptions,
    ) -> Result<DeployAnswer, crate::deploy::DeployError> {
        let crate::deploy::DeployOptions { actor, waits_for_drain, .. } = options;
        self.asked.lock().push(format!("rollback {plugin} {revision:?} {actor}"));
        Ok(DeployAnswer { report: json!({ "revision": 1 }), has_drained: waits_for_drain })
    }

    async fn end_trial(
        &self,
        plugin: &str,
        end: TrialEnd,
        options: crate::deploy::DeployOptions,
    ) -> Result<DeployAnswer, crate::deploy::DeployError> {
        self.asked.lock().push(format!("{end:?} {plugin} {}", options.actor));
        Ok(DeployAnswer { report: json!({ "revision": 2 }), has_drained: options.waits_for_drain })
    }

    async fn entry(&self, plugin: &str) -> Result<String, crate::deploy::DeployError> {
        Ok(format!("name = {plugin:?}\n"))
    }

    async fn add(
        &self,
        plugin: &str,
        entry: String,
        component: Bytes,
        options: crate::deploy::DeployOptions,
    ) -> Result<DeployAnswer, crate::deploy::DeployError> {
        self.asked.lock().push(format!("add {plugin} {entry} {} {}", component.len(), options.actor));
        Ok(DeployAnswer { report: json!({ "revision": 1 }), has_drained: true })
    }

    async fn change(
        &self,
        plugin: &str,
        change: crate::deploy::EntryChange,
        options: crate::deploy::DeployOptions,
    ) -> Result<DeployAnswer, crate::deploy::DeployError> {
        self.asked.lock().push(format!("{change:?} {plugin} {}", options.actor));
        Ok(DeployAnswer { report: json!({ "action": "set" }), has_drained: options.waits_for_drain })
    }

    async fn component(&self, _sha256: &str) -> Result<Option<Bytes>, DeployError> {
        Ok(None)
    }

    async fn history(&self, plugin: &str, limit: i64) -> Result<Value, crate::deploy::DeployError> {
        Ok(json!([{ "plugin": plugin, "limit": limit }]))
    }
}

#[derive(Default)]
struct KeysInMemory(Mutex<HashMap<String, WrappedKey>>);

#[async_trait]
impl KeyStore for KeysInMemory {
    async fn active(&self, purpose: &str, organization: &str) -> Result<Option<WrappedKey>, VaultError> {
        let keys = self.0.lock();
        Ok(keys.values().find(|key| key.purpose == purpose && key.organization == organization).cloned())
    }

    async fn by_id(&self, id: &str) -> Result<Option<WrappedKey>, VaultError> {
        Ok(self.0.lock().get(id).cloned())
    }

    async fn insert(&self, key: WrappedKey) -> Result<WrappedKey, VaultError> {
        self.0.lock().insert(key.id.clone(), key.clone());
        Ok(key)
    }
}
