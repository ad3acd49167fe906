//! A service: everything a component exports, from one value.

use std::sync::OnceLock;

use crate::{
    events::{Envelope, Kind, Outcome, matches},
    http::{Request, Response},
    migrations::Migration,
    problem::Problem,
    router::{BuiltRouter, Router},
};

type Consume = Box<dyn Fn(&Envelope) -> Outcome + Send + Sync>;
type Ready = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// A service, put together once an instance and never changed.
///
/// ```
/// use berth_sdk::{Problem, events::Envelope, http::Request, router::Router, service::Service};
/// fn on_done(envelope: &Envelope) -> Result<(), Problem> { let _ = envelope; Ok(()) }
/// fn service() -> Service {
///     Service::new("notes", "1.0.0")
///         .routes(Router::new().get("/api/notes/ping", || "pong".to_string()).public())
///         .on("execution.#", on_done)
///         .timer("due", "15m", on_done)
/// }
/// assert_eq!(service().handle(Request::new("GET", "/api/notes/ping")).status, 200);
/// assert_eq!(service().bindings(), ["execution.#"]);
/// ```
pub struct Service {
    name: String,
    version: String,
    router: Router,
    built: OnceLock<Result<BuiltRouter, String>>,
    consumers: Vec<(Kind, String, Consume)>,
    timers: Vec<(String, String)>,
    migrations: Vec<Migration>,
    required_config: Vec<String>,
    ready: Option<Ready>,
}

impl Service {
    /// A service of a name and a version.
    pub fn new(name: &str, version: &str) -> Self {
        Self {
            name: name.to_string(),
            version: version.to_string(),
            router: Router::new(),
            built: OnceLock::new(),
            consumers: Vec::new(),
            timers: Vec::new(),
            migrations: Vec::new(),
            required_config: Vec::new(),
            ready: None,
        }
    }

    /// Adds routes.
    #[must_use]
    pub fn routes(mut self, router: Router) -> Self {
        self.router = std::mem::take(&mut self.router).merge(router);
        self.built = OnceLock::new();
        self
    }

    /// Adds migrations.
    #[must_use]
    pub fn migrations(mut self, migrations: impl IntoIterator<Item = Migration>) -> Self {
        self.migrations.extend(migrations);
        self
    }

    /// Handles the events of a type or pattern. The first pattern that matches, in the order of declaration, handles.
    #[must_use]
    pub fn on<R: Into<Outcome>>(self, pattern: &str, handle: impl Fn(&Envelope) -> R + Send + Sync + 'static) -> Self {
        self.consume(Kind::Event, pattern, handle)
    }

    /// Handles the messages of a type from the service's own queue.
    #[must_use]
    pub fn work<R: Into<Outcome>>(self, kind: &str, handle: impl Fn(&Envelope) -> R + Send + Sync + 'static) -> Self {
        self.consume(Kind::Work, kind, handle)
    }

    /// Handles the ticks of a timer; the schedule is an interval (`15m`) or a cron expression, which the manifest may
    /// override.
    #[must_use]
    pub fn timer<R: Into<Outcome>>(
        mut self,
        name: &str,
        schedule: &str,
        handle: impl Fn(&Envelope) -> R + Send + Sync + 'static,
    ) -> Self {
        self.timers.push((name.to_string(), schedule.to_string()));
        self.consume(Kind::Timer, name, handle)
    }

    /// A setting without which a deploy fails.
    #[must_use]
    pub fn required_config(mut self, key: &str) -> Self {
        self.required_config.push(key.to_string());
        self
    }

    /// Runs before the service gets traffic; the text says why it is not ready.
    #[must_use]
    pub fn ready_when(mut self, check: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        self.ready = Some(Box::new(check));
        self
    }

    fn consume<R: Into<Outcome>>(
        mut self,
        kind: Kind,
        pattern: &str,
        handle: impl Fn(&Envelope) -> R + Send + Sync + 'static,
    ) -> Self {
        let consume: Consume = Box::new(move |envelope| handle(envelope).into());
        self.consumers.push((kind, pattern.to_string(), consume));
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Its timers: name and schedule.
    pub fn timers(&self) -> &[(String, String)] {
        &self.timers
    }

    /// Its migrations.
    pub fn embedded_migrations(&self) -> &[Migration] {
        &self.migrations
    }

    /// The settings it needs.
    pub fn needed_config(&self) -> &[String] {
        &self.required_config
    }

    /// The event types and patterns it handles.
    pub fn bindings(&self) -> Vec<&str> {
        self.consumers
            .iter()
            .filter(|(kind, ..)| *kind == Kind::Event)
            .map(|(_, pattern, _)| pattern.as_str())
            .collect()
    }

    /// Its routes; an error when two of them collide.
    pub fn router(&self) -> Result<&BuiltRouter, &str> {
        self.built.get_or_init(|| self.router.clone().build()).as_ref().map_err(String::as_str)
    }

    /// Answers a request.
    pub fn handle(&self, mut request: Request) -> Response {
        self.answer(&mut request)
    }

    /// The same, and leaves what the handler did not take.
    pub(crate) fn answer(&self, request: &mut Request) -> Response {
        match self.router() {
            Ok(router) => router.answer(request),
            Err(_) => Response::problem(&Problem::internal(), &request.request_id),
        }
    }

    /// Handles a message. An event that nothing handles is done; a work message or tick that nothing handles is
    /// rejected, so that it is seen among the dead letters.
    pub fn deliver(&self, envelope: &Envelope) -> Outcome {
        let fits = |(kind, pattern, _): &&(Kind, String, Consume)| {
            *kind == envelope.kind
                && match kind {
                    Kind::Event => matches(pattern, &envelope.message_type),
                    Kind::Work => *pattern == envelope.message_type,
                    Kind::Timer => envelope.message_type.rsplit('.').next() == Some(pattern.as_str()),
                }
        };
        match (self.consumers.iter().find(fits), envelope.kind) {
            (Some((.., consume)), _) => consume(envelope),
            (None, Kind::Event) => Outcome::Acknowledged,
            (None, _) => Outcome::Rejected(format!("{} handles no {}", self.name, envelope.message_type)),
        }
    }

    /// Whether it can take traffic.
    pub fn ready(&self) -> Result<(), String> {
        self.router().map_err(ToString::to_string)?;
        self.ready.as_ref().map_or(Ok(()), |check| check())
    }
}
