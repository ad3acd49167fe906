//! The composition root: builds the rooms bottom-up, opens the ports last, and stops everything top-down.
//!
//! Nothing here decides anything about a request; it only hands each room what it stands on.

mod administration;
mod consumers;
mod data;
mod feed;
mod foundations;
mod hooks;
mod replay;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

use crate::accounts::Accounts;
use crate::deploy::{DeployError, Deployer, DeployerOptions, HostIdentity, Registry, SlotOptions, Standing};
use crate::engine::{Engine, EngineOptions};
use crate::gateway::{
    Crowd, Door, Gateway, GatewayOptions, GatewayRooms, Handshake, Listener, ListenerOptions, PER_ADDRESS_MAX, Server,
    Tls,
};
use crate::plugins_file::{Manifest, ManifestFile};
use crate::settings::{Settings, WithoutCache};
use crate::tasks::Tasks;
use crate::telemetry::lines::HostLines;
use crate::telemetry::{self, LogFormat, TelemetryOptions};
use crate::trace;
use crate::worker::{Feed, FeedRooms, OBSERVABILITY, Worker};
use foundations::Foundations;
pub(crate) use replay::{Outcome, Replayed, replay};

/// How long requests in flight may take to end when the host stops.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(25);
/// When streams are told that the host stops, so that they end with an event and not with a broken connection.
const STREAMS_END_AFTER: Duration = Duration::from_secs(20);
/// How long a stream may take to say so.
const STREAM_END_TIME_MAX: Duration = Duration::from_secs(1);
/// How often expired invitations, sessions and the like are removed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(3600);
/// Where the metrics are when nothing else is said.
const METRICS_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 3090);
/// Connections to the operator's door at once.
const OPERATORS_CONNECTIONS_MAX: usize = 64;
/// How often signing keys are looked after.
const SIGNING_KEYS_INTERVAL: Duration = Duration::from_secs(60);
/// How long background work may take to end after that.
const STOP_TIME_MAX: Duration = Duration::from_secs(5);

/// Runs the host until it is told to stop; `say` gets the lines for the person who started it.
///
/// # Errors
/// What kept it from starting, as one sentence that names the setting.
pub(crate) fn run(settings: Settings, manifest: Manifest, say: fn(&[String])) -> anyhow::Result<()> {
    let lines = HostLines::default();
    let _telemetry = start_telemetry(&settings, lines.clone())?;
    // Libraries that bring no provider of their own take the process's.
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("a TLS provider was chosen twice"))?;
    let runtime = runtime().context("the runtime could not start")?;
    let outcome = runtime.block_on(async {
        let app = App::start(&settings, &manifest, &lines).await?;
        say(&app.beginning(&settings));
        app.live(&settings).await?;
        app.stop().await;
        Ok(())
    });
    runtime.shutdown_timeout(STOP_TIME_MAX);
    outcome
}

/// On one core a scheduler for several threads only costs.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let has_one_core = std::thread::available_parallelism().is_ok_and(|cores| cores.get() == 1);
    let mut builder = match has_one_core {
        true => tokio::runtime::Builder::new_current_thread(),
        false => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.enable_all().thread_name("berth").build()
}

/// A running host.
struct App {
    servers: Vec<Server>,
    gateway: Arc<Gateway>,
    worker: Worker,
    deployer: Deployer,
    accounts: Arc<Accounts>,
    traces: trace::Exporter,
    tasks: Tasks,
    operator_token: data::OperatorToken,
    /// How long it answers on after it was told to stop.
    stop_delay: Duration,
    /// Held for the life of the process: one host a data folder.
    _lock: data::Lock,
}

impl App {
    async fn start(settings: &Settings, manifest: &Manifest, lines: &HostLines) -> anyhow::Result<Self> {
        let lock = data::prepare(&settings.data)?;
        let operator_token = data::operator_token(settings)?;
        let tasks = Tasks::new();
        let foundations = Foundations::open(settings, &tasks).await?;
        lines.connect(Arc::new(foundations.rooms.logging.clone()));
        let accounts = foundations.accounts(settings, &operator_token).await?;
        let engine = Engine::new(
            EngineOptions {
                compiled: settings.data.join("compiled"),
                cache_key: foundations.compiled_key,
                compiler: std::env::current_exe().context("the path of this program is unknown")?,
            },
            foundations.rooms.clone(),
        )?;
        let (standing, manifest) = stand(settings, manifest, &foundations).await?;
        let registry = Arc::new(Registry::new(slots(settings, &manifest)?)?);
        let feed = feed(settings, &accounts, &foundations).await?;
        let traces = traces(settings, feed.as_ref().map(|(feed, _)| feed))?;
        let consumers = Arc::new(consumers::Deployed::new(registry.clone(), accounts.clone()));
        let worker = Worker::start(foundations.rooms.queue.clone(), consumers.clone(), traces.tracer());
        let mut options = DeployerOptions::new(settings.data.join("artifacts"));
        options.component_bytes_max = manifest.host.deploy_mib as usize * 1024 * 1024;
        options.trusted_keys = settings.trusted_keys.clone().unwrap_or_else(|| manifest.host.trusted_keys.clone());
        let background = Arc::new(hooks::Background::start(
            foundations.rooms.queue.clone(),
            worker.clone(),
            accounts.clone(),
            &tasks,
        ));
        let deployer = Deployer::new(
            engine,
            registry.clone(),
            foundations.database.clone(),
            foundations.rooms.queue.clone(),
            options,
            vec![background.clone()],
        );
        deployer.stand_on(standing).await;
        let gateway = Gateway::new(
            &gateway_options(settings, &manifest),
            GatewayRooms {
                registry: registry.clone(),
                accounts: accounts.clone(),
                cache: foundations.rooms.cache.clone(),
                database: foundations.database.clone(),
                queue: foundations.rooms.queue.clone(),
                logs: foundations.rooms.logging.clone(),
                capsules: foundations.rooms.tapes.keeper().cloned(),
                administration: Some(Arc::new(administration::Deploying(deployer.clone()))),
                tracer: traces.tracer(),
            },
        );
        foundations.rooms.http_out.set_dispatch(gateway.clone());
        foundations.rooms.acting.set_members(accounts.clone());
        // Everything is judged and loaded; only now does the host answer anybody.
        let tls = tls(settings)?;
        let listeners = bind(settings, &registry, tls.clone()).await?;
        deployer.start().await?;
        background.settled().await;
        let port =
            listeners.first().and_then(|listener| listener.local_address().ok()).map_or(0, |address| address.port());
        let name = format!("{}:{port}", data::machine_name());
        if let Some((feed, owner)) = feed {
            let (queue, host) = (foundations.rooms.queue.clone(), name.clone());
            feed.start(
                FeedRooms { consumers, owner: Arc::new(owner), registry: registry.clone(), queue, host },
                &tasks,
            );
        }
        deployer.follow(HostIdentity { instance: Arc::clone(foundations.rooms.queue.instance()), name }, &tasks);
        gateway.maintain(&tasks);
        maintain(&accounts, &tasks);
        if let Some(tls) = tls {
            tls.watch(&tasks);
        }
        let servers = listeners
            .into_iter()
            .map(|listener| listener.serve(gateway.clone()).context("a port could not be served"))
            .collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Self {
            servers,
            gateway,
            worker,
            deployer,
            accounts,
            traces,
            tasks,
            operator_token,
            stop_delay: settings.stop_delay,
            _lock: lock,
        })
    }

    /// What a person needs to begin.
    fn beginning(&self, settings: &Settings) -> Vec<String> {
        let address = self.servers.first().map_or(settings.listen, Server::address);
        let scheme = if settings.tls.is_some() { "https" } else { "http" };
        let mut lines = vec![
            format!("Berth {} listens on {scheme}://{address}", env!("CARGO_PKG_VERSION")),
            format!("  database  {}", foundations::database_name(settings)),
            format!("  cache     {}", foundations::cache_name(settings)),
            format!("  queue     {}", foundations::queue_name(settings)),
        ];
        for plugin in self.deployer.plugins() {
            let revision = plugin.revision.map_or_else(|| "no build".into(), |number| format!("revision {number}"));
            let digest: String = plugin.sha256.unwrap_or_default().chars().take(12).collect();
            let state = plugin.state.to_string();
            lines.push(format!("  plugin    {:<22} {revision:<12} {digest:<12} {state}", plugin.name));
        }
        if let Some(server) = self.servers.iter().find(|server| matches!(server.door(), Door::Admin | Door::Metrics)) {
            let what = if *server.door() == Door::Admin { "admin, metrics" } else { "metrics" };
            lines.push(format!("  {what:<9} http://{}", server.address()));
        }
        lines.push(format!("  operator  {}", self.operator_token.place));
        lines
    }

    /// Lives until an interrupt or a termination; a hangup takes a changed manifest.
    async fn live(&self, settings: &Settings) -> anyhow::Result<()> {
        const UNHEARD: &str = "signals cannot be received";
        let mut interrupt = signal(SignalKind::interrupt()).context(UNHEARD)?;
        let mut terminate = signal(SignalKind::terminate()).context(UNHEARD)?;
        let mut hangup = signal(SignalKind::hangup()).context(UNHEARD)?;
        loop {
            tokio::select! {
                _ = interrupt.recv() => return Ok(()),
                _ = terminate.recv() => return Ok(()),
                _ = hangup.recv() => tokio::select! {
                    () = self.reload(settings) => {}
                    _ = interrupt.recv() => return Ok(()),
                    _ = terminate.recv() => return Ok(()),
                },
            }
        }
    }

    /// Takes `plugins.toml` as it is now, whole or not at all. `[host]` and direct ports are read at start only.
    async fn reload(&self, settings: &Settings) {
        let outcome = match ManifestFile::read(&settings.config) {
            Ok(file) => self.deployer.reload(file).await,
            Err(faults) => Err(DeployError::Faulty(faults)),
        };
        match outcome {
            Ok(()) => tracing::info!(plugins = self.deployer.plugins().len(), "the manifest was taken"),
            Err(DeployError::Faulty(faults)) => {
                for fault in faults {
                    tracing::error!(%fault, "the changed manifest is refused");
                }
            }
            Err(error) => tracing::error!(%error, "the changed manifest is refused"),
        }
    }

    /// Stops top-down: ports first, then work in flight, then what is underneath.
    async fn stop(self) {
        self.gateway.begin_shutdown();
        if !self.stop_delay.is_zero() {
            tracing::info!(
                delay_seconds = self.stop_delay.as_secs(),
                "stopping soon: no longer ready, still answering"
            );
            tokio::time::sleep(self.stop_delay).await;
        }
        tracing::info!("stopping: no new connections, requests in flight may end");
        let closing = futures_util::future::join_all(self.servers.iter().map(|server| server.shutdown(DRAIN_TIME_MAX)));
        let mut closing = std::pin::pin!(closing);
        tokio::select! {
            _ = &mut closing => {}
            () = tokio::time::sleep(STREAMS_END_AFTER) => {
                self.deployer.stop(STREAM_END_TIME_MAX).await;
                closing.await;
            }
        }
        self.worker.stop(STOP_TIME_MAX).await;
        self.deployer.stop(STOP_TIME_MAX).await;
        self.tasks.stop(STOP_TIME_MAX).await;
        self.accounts.close().await;
        self.traces.stop().await;
        tracing::info!("stopped");
    }
}

/// Removes now and then what is over in the main app, and lets signing keys follow each other.
fn maintain(accounts: &Arc<Accounts>, tasks: &Tasks) {
    let keys = Arc::clone(accounts);
    tasks.supervise("signing-keys", move |stop| {
        let accounts = Arc::clone(&keys);
        async move {
            while stop.run_until_cancelled(tokio::time::sleep(SIGNING_KEYS_INTERVAL)).await.is_some() {
                if let Err(error) = accounts.keep_signing_keys().await {
                    tracing::warn!(%error, "the signing keys were not looked after");
                }
            }
        }
    });
    let accounts = Arc::clone(accounts);
    tasks.supervise("accounts-sweep", move |stop| {
        let accounts = Arc::clone(&accounts);
        async move {
            while stop.run_until_cancelled(tokio::time::sleep(SWEEP_INTERVAL)).await.is_some() {
                if let Err(error) = accounts.sweep().await {
                    tracing::warn!(%error, "what is over in the main app was not removed");
                }
            }
        }
    });
}

fn start_telemetry(settings: &Settings, lines: HostLines) -> anyhow::Result<telemetry::Telemetry> {
    use std::io::IsTerminal;
    let is_terminal = std::io::stderr().is_terminal();
    let usual = if is_terminal { LogFormat::Text } else { LogFormat::Json };
    let format = settings.log_format.unwrap_or(usual);
    let ansi = is_terminal && format == LogFormat::Text;
    let options = TelemetryOptions { filter: settings.log.clone(), format, ansi };
    telemetry::start(&options, lines).context("BERTH_LOG")
}

/// What hands the host's own telemetry to the services that keep it, where an organization is named for it.
async fn feed(
    settings: &Settings,
    accounts: &Arc<Accounts>,
    foundations: &Foundations,
) -> anyhow::Result<Option<(Feed, feed::FeedOwner)>> {
    let Some(organization) = settings.feed_organization.clone() else { return Ok(None) };
    let owner = feed::FeedOwner { accounts: Arc::clone(accounts), organization };
    owner.judge().await?;
    let feed = Feed::default();
    let lines = feed.clone();
    foundations.rooms.logging.copy_to(Box::new(move |line| lines.line(line)));
    Ok(Some((feed, owner)))
}

/// Where traces go, if anywhere.
fn traces(settings: &Settings, feed: Option<&Feed>) -> anyhow::Result<trace::Exporter> {
    let options = trace::TraceOptions {
        endpoint: settings.otlp_endpoint.clone(),
        sink: feed.map(|feed| (Arc::new(feed.clone()) as Arc<dyn trace::SpanSink>, OBSERVABILITY)),
        ratio: settings.otlp_sample.unwrap_or(1.0),
        instance: uuid::Uuid::now_v7().to_string(),
    };
    trace::Exporter::start(&options).context("BERTH_OTLP_ENDPOINT")
}

/// The manifest with what was changed since while hosts ran.
async fn stand(
    settings: &Settings,
    manifest: &Manifest,
    foundations: &Foundations,
) -> anyhow::Result<(Standing, Manifest)> {
    let direct_ports = settings.direct_ports.unwrap_or(manifest.host.direct_ports);
    let queue = &foundations.rooms.queue;
    let standing = Standing::open(&foundations.database, queue, Arc::clone(&manifest.file), direct_ports).await;
    standing.map_err(|error| match error {
        DeployError::Faulty(_) => anyhow::Error::new(error).context(
            "the manifest does not fit the changes that were made at run time (an entry that is changed in it takes their place)",
        ),
        error => error.into(),
    })
}

fn slots(settings: &Settings, manifest: &Manifest) -> anyhow::Result<Vec<SlotOptions>> {
    let direct_ports = settings.direct_ports.unwrap_or(manifest.host.direct_ports);
    manifest
        .plugins
        .iter()
        .map(|entry| SlotOptions::new(entry, direct_ports).map_err(|sentence| anyhow::anyhow!(sentence)))
        .collect()
}

fn gateway_options(settings: &Settings, manifest: &Manifest) -> GatewayOptions {
    let mut options = GatewayOptions {
        allowed_origins: settings.allowed_origins.clone(),
        trusted_proxies: settings.trusted_proxies.clone(),
        has_admin_door: settings.admin_listen.is_some(),
        deploy_bytes_max: manifest.host.deploy_mib as usize * 1024 * 1024,
        refuses_uncounted: settings.without_cache == WithoutCache::Closed,
        ..GatewayOptions::default()
    };
    options.rate_limits.per_organization = manifest.host.organization_rate_per_minute;
    options.rate_limits.per_address = manifest.host.address_rate_per_minute;
    if let Some(limit) = settings.rate_limit_per_minute.or(manifest.host.rate_limit_per_minute) {
        options.rate_limits.per_principal = limit;
    }
    if let Some(max) = manifest.host.in_flight_max {
        options.in_flight_max = max as usize;
    }
    options
}

/// The gateway's certificate, where one is named.
fn tls(settings: &Settings) -> anyhow::Result<Option<Arc<Tls>>> {
    let loaded = settings.tls.as_ref().map(|files| Tls::load(&files.certificate, &files.key));
    loaded.transpose().context("BERTH_TLS_CERT, BERTH_TLS_KEY")
}

/// Binds every port before any of them answers, so that a taken one is an error and not half a start.
async fn bind(settings: &Settings, registry: &Registry, tls: Option<Arc<Tls>>) -> anyhow::Result<Vec<Listener>> {
    let handshake = tls.map(|tls| tls as Arc<dyn Handshake>);
    let crowd = Crowd::new(PER_ADDRESS_MAX, settings.trusted_proxies.clone());
    let shared = ListenerOptions { handshake, crowd, ..ListenerOptions::default() };
    let mut listeners = Vec::new();
    let gateway = Listener::bind(settings.listen, shared.clone()).await;
    listeners.push(gateway.with_context(|| format!("BERTH_LISTEN: {} cannot be bound", settings.listen))?);
    for (port, slot) in registry.ports() {
        let address = SocketAddr::new(settings.listen.ip(), port);
        let options = ListenerOptions { door: Door::Direct(slot.name().clone()), ..shared.clone() };
        let listener = Listener::bind(address, options).await;
        listeners.push(listener.with_context(|| format!("the port of {}: {address} cannot be bound", slot.name()))?);
    }
    listeners.extend(bind_operators(settings).await?);
    Ok(listeners)
}

/// The operator's own door: administration and metrics where one is asked for, otherwise metrics on loopback. Only the
/// latter may fail: several hosts on one machine all want that port. It has permits of its own, so that whoever fills the
/// gateway does not blind the operator.
async fn bind_operators(settings: &Settings) -> anyhow::Result<Option<Listener>> {
    let options = |door| ListenerOptions {
        permits: Arc::new(Semaphore::new(OPERATORS_CONNECTIONS_MAX)),
        door,
        ..ListenerOptions::default()
    };
    if let Some(address) = settings.admin_listen {
        let listener = Listener::bind(address, options(Door::Admin)).await;
        return Ok(Some(listener.with_context(|| format!("BERTH_ADMIN_LISTEN: {address} cannot be bound"))?));
    }
    match Listener::bind(METRICS_ADDRESS, options(Door::Metrics)).await {
        Ok(listener) => Ok(Some(listener)),
        Err(error) => {
            tracing::warn!(address = %METRICS_ADDRESS, %error, "no metrics are served: set BERTH_ADMIN_LISTEN to a free address");
            Ok(None)
        }
    }
}
