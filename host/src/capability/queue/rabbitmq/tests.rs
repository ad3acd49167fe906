//! The promises of the room on a real broker; only when `BERTH_TEST_AMQP_URL` names one. What depends on a clock that the
//! test moves is in the suite of the embedded queue: a broker has a clock of its own.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use serde_json::json;

use super::*;
use crate::capability::queue::{OutgoingMessage, QueueRoom};
use crate::database::HOST_MIGRATIONS;

/// Longer than anything here takes; only a broken test waits this long.
const LONG: Duration = Duration::from_secs(20);
const SHORT_WAIT: Duration = Duration::from_millis(50);

struct Bench {
    room: QueueRoom,
    rabbit: Arc<RabbitMq>,
    database: Database,
    url: String,
    namespace: String,
}

impl Bench {
    async fn open() -> Option<Self> {
        let url = std::env::var("BERTH_TEST_AMQP_URL").ok()?;
        let database = Database::open_in_memory().await;
        database.migrate("host", HOST_MIGRATIONS).await.unwrap();
        let namespace = format!("test-{}.", Uuid::now_v7().simple());
        Some(Self::start(database, url, namespace).await)
    }

    async fn start(database: Database, url: String, namespace: String) -> Self {
        let options = QueueOptions { backoff: Arc::from([SHORT_WAIT, SHORT_WAIT * 2]), ..QueueOptions::default() };
        let rabbit = RabbitMq::open(database.clone(), &url, &namespace, options.clone()).await.unwrap();
        let rabbit = Arc::new(rabbit);
        let room = QueueRoom::with_backend(database.clone(), Arc::clone(&rabbit) as Arc<dyn QueueBackend>, options);
        Self { room, rabbit, database, url, namespace }
    }

    /// The host dies: its connection ends without a word.
    async fn crash(self) -> Self {
        self.rabbit.links.get().await.unwrap().break_off().await;
        Self::start(self.database, self.url, self.namespace).await
    }

    async fn bind(&self, plugin: &str, patterns: &[&str]) {
        self.room.set_bindings(plugin, patterns.iter().map(|pattern| (*pattern).to_owned()).collect()).await.unwrap();
    }

    async fn publish(&self, message: OutgoingMessage) -> String {
        let id = self.room.publish(message).await.unwrap();
        while self.rabbit.relay().await.unwrap().has_more {}
        id
    }

    async fn next(&self, plugin: &str) -> Claim {
        let find = async {
            loop {
                if let Some(claim) = self.rabbit.claim(&plugin.into(), 1, LONG).await.unwrap().pop() {
                    return claim;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LONG, find).await.expect("a message")
    }

    async fn depth(&self, plugin: &str) -> u64 {
        self.room.stats().await.unwrap().into_iter().find(|stats| stats.plugin == plugin).map_or(0, |stats| stats.depth)
    }

    /// Takes everything of this test from the broker.
    async fn discard(self, plugins: &[&str]) {
        let link = self.rabbit.link().await.unwrap();
        let channel = link.channel().await.unwrap();
        for plugin in plugins {
            self.rabbit.rest(plugin).await;
            for queue in [link.queue(plugin), link.dead_letter_queue(plugin)] {
                channel.queue_delete(queue, QueueDeleteOptions::default()).await.unwrap();
            }
        }
        for wait in link.waits() {
            channel.queue_delete(link.waiting_name(wait), QueueDeleteOptions::default()).await.unwrap();
            channel.exchange_delete(link.waiting_name(wait), ExchangeDeleteOptions::default()).await.unwrap();
        }
        channel.exchange_delete(link.events(), ExchangeDeleteOptions::default()).await.unwrap();
    }
}

fn work(number: i64) -> OutgoingMessage {
    OutgoingMessage::work("execution", "execution.step.run", &json!({ "number": number }))
}

fn event(message_type: &str) -> OutgoingMessage {
    OutgoingMessage { source_service: "planning".into(), ..OutgoingMessage::event(message_type, &json!({"a": 1})) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_and_private_messages_reach_their_queues_and_no_other() {
    let Some(bench) = Bench::open().await else { return };
    bench.bind("workflow", &["#"]).await;
    bench.bind("quality", &["task.*"]).await;
    bench.bind("planning", &["#"]).await;
    bench.bind("execution", &[]).await;
    let event_id = bench
        .publish(OutgoingMessage {
            organization_id: Some("org".into()),
            user_id: Some("user".into()),
            correlation_id: Some("correlation".into()),
            ..event("planning.plan.created")
        })
        .await;
    let work_id = bench.publish(work(1)).await;
    let claim = bench.next("workflow").await;
    assert_eq!((claim.message.id.as_str(), claim.message.kind), (event_id.as_str(), Kind::Event));
    assert_eq!(claim.message.data, "{\"a\":1}");
    assert_eq!(claim.message.organization_id.as_deref(), Some("org"));
    assert_eq!(claim.message.user_id.as_deref(), Some("user"));
    assert_eq!(claim.message.correlation_id.as_deref(), Some("correlation"));
    bench.rabbit.acknowledge(&claim).await.unwrap();
    let claim = bench.next("execution").await;
    assert_eq!((claim.message.id.as_str(), claim.message.kind), (work_id.as_str(), Kind::Work));
    bench.rabbit.acknowledge(&claim).await.unwrap();
    // Its own event comes first and is not handed out.
    bench.publish(OutgoingMessage { source_service: "quality".into(), ..event("task.created") }).await;
    assert_eq!(bench.next("planning").await.message.message_type, "task.created");
    bench.publish(event("task.deleted")).await;
    let claim = bench.next("quality").await;
    assert_eq!(claim.message.message_type, "task.deleted", "and not its own task.created");
    bench.rabbit.acknowledge(&claim).await.unwrap();
    assert_eq!(bench.depth("quality").await, 0);
    bench.discard(&["workflow", "quality", "planning", "execution"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lag_is_that_of_the_oldest_message_that_was_sent_ahead() {
    let Some(bench) = Bench::open().await else { return };
    bench.bind("execution", &[]).await;
    let oldest = async || {
        let stats = bench.room.stats().await.unwrap();
        stats.into_iter().find(|stats| stats.plugin == "execution").and_then(|stats| stats.oldest_at)
    };
    assert_eq!(oldest().await, None);
    bench.publish(work(1)).await;
    bench.publish(work(2)).await;
    bench.rabbit.open_intake(&"execution".into()).await.unwrap();
    let waiting = async {
        loop {
            if let Some(oldest) = oldest().await {
                return oldest;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waiting = tokio::time::timeout(LONG, waiting).await.expect("a message that was sent ahead");
    let first = bench.next("execution").await;
    assert_eq!(waiting, first.message.published_at);
    assert_eq!(oldest().await, Some(waiting), "it is being handled");
    bench.rabbit.acknowledge(&first).await.unwrap();
    let second = bench.next("execution").await;
    assert_eq!(oldest().await, Some(second.message.published_at));
    bench.rabbit.acknowledge(&second).await.unwrap();
    assert_eq!(oldest().await, None);
    bench.discard(&["execution"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_brings_back_what_was_not_acknowledged() {
    let Some(bench) = Bench::open().await else { return };
    for number in 0..3 {
        bench.publish(work(number)).await;
    }
    let first = bench.next("execution").await;
    bench.rabbit.acknowledge(&first).await.unwrap();
    let second = bench.next("execution").await;
    let bench = bench.crash().await;
    let mut seen = BTreeSet::new();
    for _ in 0..2 {
        let claim = bench.next("execution").await;
        seen.insert(claim.message.data.clone());
        bench.rabbit.acknowledge(&claim).await.unwrap();
    }
    assert!(seen.contains(&second.message.data) && seen.len() == 2, "{seen:?}");
    assert!(matches!(bench.rabbit.acknowledge(&second).await, Err(QueueError::LeaseLost)));
    bench.discard(&["execution"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_are_counted_until_the_message_is_dead_and_redrive_begins_anew() {
    let Some(bench) = Bench::open().await else { return };
    bench.publish(work(1)).await;
    for failures in 0..2 {
        let claim = bench.next("execution").await;
        assert_eq!((claim.failures, claim.is_last_attempt), (failures, false));
        assert_eq!(bench.rabbit.retry(&claim, None, "no").await.unwrap(), Retried::Scheduled);
    }
    let claim = bench.next("execution").await;
    assert!(claim.is_last_attempt);
    assert_eq!(bench.rabbit.retry(&claim, None, "still no").await.unwrap(), Retried::DeadLettered);
    let dead = bench.rabbit.dead_letters("execution", 10, 0).await.unwrap();
    assert_eq!((dead.len(), dead[0].failures), (1, 3));
    assert!(dead[0].reason.contains("still no"));
    // Looking takes nothing away.
    assert_eq!(bench.rabbit.dead_letters("execution", 10, 0).await.unwrap().len(), 1);
    assert_eq!(bench.rabbit.redrive("execution").await.unwrap(), 1);
    let claim = bench.next("execution").await;
    assert_eq!((claim.failures, claim.message.data.as_str()), (0, "{\"number\":1}"));
    bench.rabbit.release(&claim, SHORT_WAIT).await.unwrap();
    let claim = bench.next("execution").await;
    assert_eq!(claim.failures, 0, "a release counts no attempt");
    bench.rabbit.reject(&claim, "never").await.unwrap();
    assert_eq!(bench.rabbit.dead_letters("execution", 10, 0).await.unwrap()[0].reason, "never");
    bench.discard(&["execution"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_envelope_is_a_dead_letter_at_once() {
    let Some(bench) = Bench::open().await else { return };
    bench.bind("execution", &["#"]).await;
    let link = bench.rabbit.link().await.unwrap();
    let options = BasicPublishOptions::default();
    let properties = lapin::BasicProperties::default();
    let channel = link.channel().await.unwrap();
    channel.basic_publish(link.events(), "a.b".into(), options, b"garbage", properties).await.unwrap().await.unwrap();
    bench.publish(work(1)).await;
    assert_eq!(bench.next("execution").await.message.data, "{\"number\":1}");
    let dead = bench.rabbit.dead_letters("execution", 10, 0).await.unwrap();
    assert!(dead[0].reason.starts_with("malformed"), "{}", dead[0].reason);
    assert_eq!(dead[0].message.data, "garbage");
    bench.discard(&["execution"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_connection_is_found_again_and_nothing_is_lost_meanwhile() {
    let Some(bench) = Bench::open().await else { return };
    bench.bind("workflow", &["#"]).await;
    let first = bench.publish(event("plan.created")).await;
    assert_eq!(bench.next("workflow").await.message.id, first);
    bench.rabbit.links.get().await.unwrap().break_off().await;
    // A publish neither fails nor waits for the broker.
    let second = bench.room.publish(event("plan.deleted")).await.unwrap();
    let relay = async {
        while bench.rabbit.relay().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LONG, relay).await.unwrap();
    let mut ids = BTreeSet::new();
    while ids.len() < 2 {
        let claim = bench.next("workflow").await;
        bench.rabbit.acknowledge(&claim).await.unwrap();
        ids.insert(claim.message.id);
    }
    assert_eq!(ids, BTreeSet::from([first, second]));
    bench.discard(&["workflow"]).await;
}

#[tokio::test]
async fn a_broker_that_is_away_fails_no_publish() {
    let database = Database::open_in_memory().await;
    database.migrate("host", HOST_MIGRATIONS).await.unwrap();
    let options = QueueOptions::default();
    let room = QueueRoom::open_rabbitmq(database, "amqp://127.0.0.1:1", "", options).await.unwrap();
    room.set_bindings("workflow", vec!["#".into()]).await.unwrap();
    room.publish(event("plan.created")).await.unwrap();
    assert!(matches!(room.backend().relay().await, Err(QueueError::Unavailable)));
    assert!(room.backend().ping().await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_with_one_key_are_handed_out_one_after_the_other() {
    let Some(bench) = Bench::open().await else { return };
    for number in 0..3 {
        bench.publish(OutgoingMessage { key: Some("a".into()), ..work(number) }).await;
    }
    bench.publish(OutgoingMessage { key: Some("b".into()), ..work(9) }).await;
    let first = bench.next("execution").await;
    assert_eq!(first.message.data, "{\"number\":0}");
    let other = bench.next("execution").await;
    assert_eq!(other.message.data, "{\"number\":9}");
    assert!(bench.rabbit.claim(&"execution".into(), 9, LONG).await.unwrap().is_empty());
    bench.rabbit.acknowledge(&first).await.unwrap();
    assert_eq!(bench.next("execution").await.message.data, "{\"number\":1}");
    bench.discard(&["execution"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_that_rests_gives_back_what_was_sent_ahead_and_settles_what_it_has() {
    let Some(bench) = Bench::open().await else { return };
    for number in 0..5 {
        bench.publish(work(number)).await;
    }
    let claim = bench.next("execution").await;
    bench.rabbit.rest("execution").await;
    bench.rabbit.acknowledge(&claim).await.unwrap();
    let mut seen = BTreeSet::new();
    for _ in 0..4 {
        let claim = bench.next("execution").await;
        bench.rabbit.acknowledge(&claim).await.unwrap();
        seen.insert(claim.message.data);
    }
    assert_eq!(seen.len(), 4);
    assert!(!seen.contains(&claim.message.data));
    bench.discard(&["execution"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tick_waits_for_the_one_before() {
    let Some(bench) = Bench::open().await else { return };
    let may_tick = async || {
        let mut transaction = bench.database.begin().await.unwrap();
        let may = bench.rabbit.may_tick(&mut transaction, "execution", "timer.execution.due").await.unwrap();
        transaction.commit().await.unwrap();
        may
    };
    assert!(may_tick().await);
    assert!(!may_tick().await);
    bench.publish(OutgoingMessage::tick("execution", "due", &json!({}))).await;
    let claim = bench.next("execution").await;
    assert_eq!(claim.message.kind, Kind::Timer);
    bench.rabbit.acknowledge(&claim).await.unwrap();
    assert!(may_tick().await);
    // The database is away for a moment: the tick is still there, and settling it a second time does it.
    bench.publish(OutgoingMessage::tick("execution", "due", &json!({}))).await;
    let claim = bench.next("execution").await;
    bench.database.execute("ALTER TABLE berth_ticks RENAME TO ticks_away", &[]).await.unwrap();
    bench.rabbit.acknowledge(&claim).await.unwrap_err();
    bench.database.execute("ALTER TABLE ticks_away RENAME TO berth_ticks", &[]).await.unwrap();
    bench.rabbit.acknowledge(&claim).await.unwrap();
    assert!(may_tick().await);
    bench.discard(&["execution"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_binding_that_goes_while_the_broker_is_away_is_taken_off_when_it_is_back() {
    let Some(bench) = Bench::open().await else { return };
    bench.bind("quality", &["task.*", "plan.*"]).await;
    let away = "amqp://guest:guest@127.0.0.1:1/%2f".to_owned();
    let lonely = Bench::start(bench.database.clone(), away, bench.namespace.clone()).await;
    lonely.bind("quality", &["plan.*"]).await;
    // Still there; a plugin that is removed has nobody who would look at what comes.
    bench.publish(event("task.created")).await;
    let link = bench.rabbit.link().await.unwrap();
    assert_eq!(ready(&link).await, 1);
    bench.rabbit.clean().await.unwrap();
    bench.publish(event("task.created")).await;
    bench.publish(event("plan.created")).await;
    assert_eq!(ready(&link).await, 2);
    // Bound again it is not taken off by what was remembered.
    lonely.bind("quality", &[]).await;
    lonely.bind("quality", &["plan.*"]).await;
    bench.rabbit.clean().await.unwrap();
    bench.publish(event("plan.created")).await;
    assert_eq!(ready(&link).await, 3);
    bench.discard(&["quality"]).await;
}

/// What lies in the queue of quality, whoever wants it.
async fn ready(link: &Link) -> u32 {
    let channel = link.channel().await.unwrap();
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let queue = channel.queue_declare(link.queue("quality"), options, FieldTable::default()).await.unwrap();
    queue.message_count()
}
