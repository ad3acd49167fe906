//! The host's own telemetry on its way to the services that keep it: log lines to `logging`, spans and figures to
//! `observability`, so that Berth is watched in Berth. Off unless an organization is named.
//!
//! It must never hold anybody up: what does not fit is dropped and counted. A batch is handed over once or never. And it
//! must never feed on itself: a batch is delivered without a trace, its call's lines are not fed, and neither are those of
//! the service that keeps lines.

mod buffer;
mod figures;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde_json::json;

use super::{Consumers, DeliveryError};
use crate::bindings::consumer::{Delivery, DeliveryKind, Outcome};
use crate::capability::logging::{HOST_LOG, LogLine, Source};
use crate::capability::queue::QueueRoom;
use crate::database::format_timestamp;
use crate::deploy::Registry;
use crate::principal::Call;
use crate::tasks::Tasks;
use crate::trace::{FinishedSpan, SpanSink, Trace};
use buffer::{Batch, Buffer};

/// Keeps lines.
const LOGGING: &str = "logging";
/// Keeps spans and figures.
pub(crate) const OBSERVABILITY: &str = "observability";
/// The request id of every call that hands a batch over.
const REQUEST_ID: &str = "feed";
/// What may wait of lines, and of spans.
const WAITING_MAX: usize = 8_192;
const WAITING_BYTES_MAX: usize = 4 << 20;
/// How often what waits is handed over.
const EVERY: Duration = Duration::from_secs(1);
/// The longest pause after a batch that could not be.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// How often figures are read.
const FIGURES_EVERY: Duration = Duration::from_secs(15);
/// Batches of one kind in a row; then the others have their turn.
const BATCHES_MAX: usize = 16;
/// How long one batch may take.
const BATCH_TIME_MAX: Duration = Duration::from_secs(30);
/// How long it is believed that the organization is there.
const OWNER_FOR: Duration = Duration::from_secs(60);

/// Says whose the telemetry is.
#[async_trait]
pub(crate) trait Owner: Send + Sync + 'static {
    /// The organization that it belongs to; none while there is none, and then it waits.
    async fn organization(&self) -> Option<Arc<str>>;
}

/// What waits. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Feed {
    waiting: Arc<Waiting>,
}

#[derive(Default)]
struct Waiting {
    lines: Buffer,
    spans: Buffer,
}

/// What the feed needs of its host.
pub(crate) struct FeedRooms {
    pub consumers: Arc<dyn Consumers>,
    pub owner: Arc<dyn Owner>,
    pub registry: Arc<Registry>,
    pub queue: QueueRoom,
    /// What tells this host from others: a label of its figures.
    pub host: String,
}

impl Feed {
    /// Takes a line, where it is not about the feed itself.
    pub(crate) fn line(&self, line: &LogLine) {
        if &*line.plugin == LOGGING || line.request_id.as_deref() == Some(REQUEST_ID) {
            return;
        }
        let mut fields: serde_json::Map<String, serde_json::Value> =
            line.fields.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
        if let Some(organization) = &line.organization_id {
            // Over what a guest says: it may not lay its lines at another's door.
            fields.insert("organizationId".to_owned(), json!(organization));
        }
        let told = json!({
            "timestamp": format_timestamp(line.time),
            "level": line.level,
            "plugin": (&*line.plugin != HOST_LOG).then_some(&line.plugin),
            "revision": line.revision,
            "userId": line.user_id,
            "requestId": line.request_id,
            "traceId": line.trace_id,
            "source": if line.source == Source::Guest { "guest" } else { "host" },
            "message": line.message,
            "fields": fields,
        });
        self.waiting.lines.push(told.to_string());
    }

    /// Hands over what waits, until the host stops.
    pub(crate) fn start(&self, rooms: FeedRooms, tasks: &Tasks) {
        let (waiting, rooms) = (Arc::clone(&self.waiting), Arc::new(rooms));
        tasks.supervise("feed", move |stop| {
            let (waiting, rooms) = (Arc::clone(&waiting), Arc::clone(&rooms));
            async move {
                stop.run_until_cancelled(Runner::new(waiting, rooms).run()).await;
            }
        });
    }
}

impl SpanSink for Feed {
    fn take(&self, span: FinishedSpan) {
        if let Ok(text) = serde_json::to_string(&span) {
            self.waiting.spans.push(text);
        }
    }
}

/// Why a batch did not arrive.
#[derive(Debug, PartialEq, Eq)]
enum Missed {
    /// It was not taken, and may be offered again.
    NotTaken,
    /// Nobody knows what became of it.
    Lost,
}

struct Runner {
    waiting: Arc<Waiting>,
    rooms: Arc<FeedRooms>,
    owner: Option<(Instant, Arc<str>)>,
    told_figures: Option<Instant>,
}

impl Runner {
    fn new(waiting: Arc<Waiting>, rooms: Arc<FeedRooms>) -> Self {
        Self { waiting, rooms, owner: None, told_figures: None }
    }

    async fn run(mut self) {
        let mut pause = EVERY;
        loop {
            tokio::time::sleep(pause).await;
            pause = match self.round().await {
                Ok(()) => EVERY,
                Err(missed) => {
                    // A target of its own: this line is written down, and not fed again.
                    tracing::debug!(target: "feed", ?missed, "the host's telemetry was not taken");
                    (pause * 2).min(PAUSE_MAX)
                }
            };
        }
    }

    /// Hands over what waits of every kind.
    async fn round(&mut self) -> Result<(), Missed> {
        let Some(organization) = self.organization().await else { return Ok(()) };
        let takers = self.rooms.consumers.plugins();
        let takes = |plugin: &str| takers.iter().any(|consumer| &*consumer.plugin == plugin);
        let mut result = Ok(());
        if takes(LOGGING) {
            result = result.and(self.hand_over(LOGGING, "lines", &organization).await);
        }
        if takes(OBSERVABILITY) {
            result = result.and(self.hand_over(OBSERVABILITY, "spans", &organization).await);
            result = result.and(self.tell_figures(&organization).await);
        }
        result
    }

    async fn organization(&mut self) -> Option<Arc<str>> {
        if let Some((at, organization)) = &self.owner
            && at.elapsed() < OWNER_FOR
        {
            return Some(Arc::clone(organization));
        }
        let organization = self.rooms.owner.organization().await?;
        self.owner = Some((Instant::now(), Arc::clone(&organization)));
        Some(organization)
    }

    async fn hand_over(&self, plugin: &str, member: &str, organization: &Arc<str>) -> Result<(), Missed> {
        let (buffer, kind) = match member {
            "lines" => (&self.waiting.lines, "feed.logs"),
            _ => (&self.waiting.spans, "feed.spans"),
        };
        for _ in 0..BATCHES_MAX {
            let Some(batch) = buffer.take() else { break };
            match self.deliver(plugin, kind, batch.payload(member), organization).await {
                Ok(()) => {}
                Err(Missed::NotTaken) => {
                    buffer.put_back(batch);
                    return Err(Missed::NotTaken);
                }
                Err(Missed::Lost) => {
                    buffer.count_lost(&batch);
                    return Err(Missed::Lost);
                }
            }
        }
        Ok(())
    }

    async fn tell_figures(&mut self, organization: &Arc<str>) -> Result<(), Missed> {
        if self.told_figures.is_some_and(|at| at.elapsed() < FIGURES_EVERY) {
            return Ok(());
        }
        self.told_figures = Some(Instant::now());
        let points = figures::read(&self.rooms.registry, &self.rooms.queue, &self.rooms.host).await;
        for points in points.chunks(figures::BATCH_MAX) {
            let payload = Batch::of(points.iter().map(ToString::to_string)).payload("points");
            self.deliver(OBSERVABILITY, "feed.metrics", payload, organization).await?;
        }
        Ok(())
    }

    async fn deliver(&self, plugin: &str, kind: &str, data: String, organization: &Arc<str>) -> Result<(), Missed> {
        let consumers = &self.rooms.consumers;
        let principal = consumers.principal(Some(organization), None).await.map_err(|_| Missed::NotTaken)?;
        let call = Call {
            principal,
            request_id: REQUEST_ID.into(),
            source_service: Some(HOST_LOG.into()),
            causation_id: None,
            correlation_id: None,
            depth: 0,
            deadline: Some(Instant::now() + BATCH_TIME_MAX),
            trace: Trace::default(),
            is_shadow: false,
        };
        let delivery = Delivery {
            kind: DeliveryKind::Work,
            id: uuid::Uuid::now_v7().to_string(),
            type_: kind.to_owned(),
            data,
            organization_id: Some(organization.to_string()),
            user_id: None,
            source_service: HOST_LOG.to_owned(),
            timestamp: format_timestamp(chrono::Utc::now()),
            correlation_id: None,
            causation_id: None,
            attempt: 1,
            is_last_attempt: true,
        };
        match tokio::time::timeout(BATCH_TIME_MAX, consumers.deliver(plugin, call, delivery)).await {
            Ok(Ok(Outcome::Acknowledged)) => Ok(()),
            Ok(Err(DeliveryError::Busy)) => Err(Missed::NotTaken),
            // The build may have been withdrawn in the middle of it.
            Ok(Ok(_) | Err(_)) | Err(_) => Err(Missed::Lost),
        }
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use serde_json::Value;

    use super::*;
    use crate::capability::logging::{Level, LogRoom};
    use crate::capability::queue::conformance::Bench;
    use crate::principal::Principal;
    use crate::telemetry::lines::{HostLine, Lines as _};
    use crate::worker::Consumer;

    /// Takes batches, or is too busy.
    #[derive(Default)]
    struct Taker {
        taken: Mutex<Vec<(String, String, Value)>>,
        is_busy: Mutex<bool>,
    }

    #[async_trait]
    impl Consumers for Taker {
        fn plugins(&self) -> Vec<Consumer> {
            let consumer =
                |plugin: &str| Consumer { plugin: plugin.into(), concurrency: 1, timeout: Duration::from_secs(1) };
            [LOGGING, OBSERVABILITY].map(consumer).into()
        }

        async fn principal(
            &self,
            organization: Option<&str>,
            _: Option<&str>,
        ) -> Result<Arc<Principal>, DeliveryError> {
            Ok(Arc::new(Principal::system(organization.map(Into::into), None)))
        }

        async fn deliver(&self, plugin: &str, call: Call, delivery: Delivery) -> Result<Outcome, DeliveryError> {
            assert!(call.trace.id().is_none() && call.principal.organization_id.as_deref() == Some("org"));
            if *self.is_busy.lock() {
                return Err(DeliveryError::Busy);
            }
            let data = serde_json::from_str(&delivery.data).unwrap();
            self.taken.lock().push((plugin.to_owned(), delivery.type_, data));
            Ok(Outcome::Acknowledged)
        }
    }

    #[async_trait]
    impl Owner for Option<&'static str> {
        async fn organization(&self) -> Option<Arc<str>> {
            self.map(Into::into)
        }
    }

    async fn runner(taker: &Arc<Taker>, owner: Option<&'static str>) -> (Bench, Feed, Runner) {
        let (bench, feed) = (Bench::sqlite().await, Feed::default());
        let rooms = FeedRooms {
            consumers: Arc::clone(taker) as Arc<dyn Consumers>,
            owner: Arc::new(owner),
            registry: Arc::new(Registry::new(Vec::new()).unwrap()),
            queue: bench.room.clone(),
            host: "here:3000".into(),
        };
        let runner = Runner::new(Arc::clone(&feed.waiting), Arc::new(rooms));
        (bench, feed, runner)
    }

    fn say(feed: &Feed, plugin: &str, request_id: &str, message: &str) {
        let room = LogRoom::default();
        let feed = feed.clone();
        room.copy_to(Box::new(move |line| feed.line(line)));
        room.take(HostLine {
            level: tracing::Level::WARN,
            plugin: Some(plugin.to_owned()),
            revision: None,
            request_id: Some(request_id.to_owned()),
            message: message.to_owned(),
            fields: vec![("trap".into(), "unreachable".into())],
        });
    }

    #[tokio::test]
    async fn lines_are_handed_over_but_those_that_the_feed_itself_causes() {
        let taker = Arc::new(Taker::default());
        let (_bench, feed, mut runner) = runner(&taker, Some("org")).await;
        say(&feed, "planning", "r1", "a guest trapped");
        say(&feed, LOGGING, "r2", "of the keeper");
        say(&feed, OBSERVABILITY, REQUEST_ID, "caused by a batch");
        assert_eq!(runner.round().await, Ok(()));
        let taken = taker.taken.lock().clone();
        let (plugin, kind, data) = &taken[0];
        assert_eq!((plugin.as_str(), kind.as_str(), &data["dropped"]), (LOGGING, "feed.logs", &json!(0)));
        assert_eq!(data["lines"].as_array().unwrap().len(), 1);
        let line = &data["lines"][0];
        assert_eq!(
            (&line["plugin"], &line["level"], &line["requestId"]),
            (&json!("planning"), &json!("warn"), &json!("r1"))
        );
        assert_eq!((&line["fields"]["trap"], &line["source"]), (&json!("unreachable"), &json!("host")));
        taker.taken.lock().clear();
        assert_eq!(runner.round().await, Ok(()));
        assert!(taker.taken.lock().iter().all(|(_, kind, _)| kind != "feed.logs"), "nothing is left, and nothing new");
    }

    #[tokio::test]
    async fn a_guest_does_not_say_whose_its_lines_are() {
        let (room, feed) = (LogRoom::default(), Feed::default());
        let copies = feed.clone();
        room.copy_to(Box::new(move |line| copies.line(line)));
        let guest = crate::capability::testing::guest("planning", Some("org-1"));
        let fields = vec![("organizationId".to_owned(), "org-2".to_owned()), ("planId".to_owned(), "p1".to_owned())];
        room.write(&guest, Level::Info, "hello".to_owned(), fields);
        let told: Value = serde_json::from_str(&feed.waiting.lines.take().unwrap().payload("lines")).unwrap();
        assert_eq!(told["lines"][0]["fields"], json!({ "organizationId": "org-1", "planId": "p1" }));
    }

    #[tokio::test]
    async fn without_an_owner_everything_waits_and_a_busy_keeper_gets_it_later() {
        let taker = Arc::new(Taker::default());
        let (_bench, feed, mut nobodys) = runner(&taker, None).await;
        say(&feed, "planning", "r1", "waits");
        assert_eq!(nobodys.round().await, Ok(()));
        assert!(taker.taken.lock().is_empty());
        let (_bench, feed, mut runner) = runner(&taker, Some("org")).await;
        say(&feed, "planning", "r1", "one");
        *taker.is_busy.lock() = true;
        assert_eq!(runner.round().await, Err(Missed::NotTaken));
        say(&feed, "planning", "r2", "two");
        *taker.is_busy.lock() = false;
        assert_eq!(runner.round().await, Ok(()));
        let taken = taker.taken.lock().clone();
        let lines: Vec<&str> =
            taken[0].2["lines"].as_array().unwrap().iter().map(|line| line["message"].as_str().unwrap()).collect();
        assert_eq!(lines, ["one", "two"]);
    }
}
