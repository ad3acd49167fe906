//! One suite over every backend: what the room promises, whatever stands behind it.
//!
//! SQLite always; PostgreSQL when `BERTH_TEST_POSTGRES_URL` names a server on which databases may be made.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

use super::backend::Retried;
use super::{BACKOFF, Claim, OutgoingMessage, QueueBackend, QueueError, QueueOptions, QueueRoom, View};
use crate::bindings::imports::database::Message;
use crate::bindings::imports::queue::Host as _;
use crate::bindings::imports::types::Fault;
use crate::capability::grant::Grant;
use crate::capability::testing;
use crate::database::{Database, DatabaseOptions, HOST_MIGRATIONS, values};

const LEASE: Duration = Duration::from_secs(60);

/// A database of its own, a clock that only the test moves, and one life of a host after the other.
pub(crate) struct Bench {
    pub room: QueueRoom,
    pub database: Database,
    url: String,
    clock_ms: Arc<AtomicI64>,
    _folder: Option<tempfile::TempDir>,
}

impl Bench {
    pub(crate) async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("berth.db").display());
        Self::open(url, Some(folder)).await
    }

    /// Runs a test in a PostgreSQL database of its own, when there is a server.
    async fn with_postgres<T: Future<Output = ()>>(test: impl FnOnce(Self) -> T) {
        let Ok(server) = std::env::var("BERTH_TEST_POSTGRES_URL") else { return };
        // A new database is a checkpoint, which takes long on a busy disk.
        let patient =
            DatabaseOptions { statement_timeout: std::time::Duration::from_secs(60), ..DatabaseOptions::default() };
        let admin = Database::open(&server, patient).await.unwrap();
        let name = format!("berth_queue_{}", uuid::Uuid::now_v7().simple());
        admin.execute(&format!("CREATE DATABASE {name}"), &[]).await.unwrap();
        let (base, _) = server.rsplit_once('/').unwrap();
        test(Self::open(format!("{base}/{name}"), None).await).await;
        admin.execute(&format!("DROP DATABASE {name} WITH (FORCE)"), &[]).await.unwrap();
    }

    async fn open(url: String, folder: Option<tempfile::TempDir>) -> Self {
        let clock_ms = Arc::new(AtomicI64::new(Utc::now().timestamp_millis()));
        let database = Database::open(&url, DatabaseOptions::default()).await.unwrap();
        database.migrate("host", HOST_MIGRATIONS).await.unwrap();
        let room = QueueRoom::open(database.clone(), options(&clock_ms)).await.unwrap();
        Self { room, database, url, clock_ms, _folder: folder }
    }

    /// Another host on the same database, with the same clock.
    pub(crate) async fn another_host(&self) -> QueueRoom {
        QueueRoom::open(self.database.clone(), options(&self.clock_ms)).await.unwrap()
    }

    /// The host dies without a word and starts again.
    async fn crash(self) -> Self {
        let Self { room, database, url, clock_ms, _folder } = self;
        drop((room, database));
        let database = Database::open(&url, DatabaseOptions::default()).await.unwrap();
        let room = QueueRoom::open(database.clone(), options(&clock_ms)).await.unwrap();
        Self { room, database, url, clock_ms, _folder }
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.clock_ms.fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }

    fn backend(&self) -> &Arc<dyn QueueBackend> {
        self.room.backend()
    }

    async fn bind(&self, plugin: &str, patterns: &[&str]) {
        self.room.set_bindings(plugin, patterns.iter().map(|pattern| (*pattern).to_owned()).collect()).await.unwrap();
    }

    /// Relays until the outbox holds nothing that is due.
    pub(crate) async fn relay(&self) {
        while self.backend().relay().await.unwrap().has_more {}
    }

    async fn claim(&self, plugin: &str, count: usize) -> Vec<Claim> {
        self.relay().await;
        self.backend().claim(&plugin.into(), count, LEASE).await.unwrap()
    }

    async fn claim_one(&self, plugin: &str) -> Option<Claim> {
        let mut claims = self.claim(plugin, 1).await;
        assert!(claims.len() <= 1);
        claims.pop()
    }

    pub(crate) async fn depth(&self, plugin: &str) -> u64 {
        self.room.stats().await.unwrap().into_iter().find(|stats| stats.plugin == plugin).map_or(0, |stats| stats.depth)
    }

    async fn dead(&self, plugin: &str) -> Vec<super::DeadLetter> {
        self.backend().dead_letters(plugin, 100, 0).await.unwrap()
    }

    async fn publish(&self, message: OutgoingMessage) -> String {
        self.room.publish(message).await.unwrap()
    }
}

fn options(clock_ms: &Arc<AtomicI64>) -> QueueOptions {
    let clock_ms = Arc::clone(clock_ms);
    QueueOptions {
        clock: Arc::new(move || DateTime::from_timestamp_millis(clock_ms.load(Ordering::SeqCst)).unwrap()),
        ..QueueOptions::default()
    }
}

fn event(message_type: &str) -> OutgoingMessage {
    OutgoingMessage { source_service: "planning".into(), ..OutgoingMessage::event(message_type, &json!({"a": 1})) }
}

fn keyed(key: &str, number: i64) -> OutgoingMessage {
    let message = OutgoingMessage::event("plan.changed", &json!({ "number": number }));
    OutgoingMessage { source_service: "planning".into(), key: Some(key.into()), ..message }
}

fn work(number: i64) -> OutgoingMessage {
    OutgoingMessage::work("execution", "execution.step.run", &json!({ "number": number }))
}

fn number(claim: &Claim) -> i64 {
    serde_json::from_str::<serde_json::Value>(&claim.message.data).unwrap()["number"].as_i64().unwrap()
}

macro_rules! suite {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(super::Bench::sqlite().await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::Bench::with_postgres(super::$name).await;
            })*
        }
    };
}

suite! {
    an_event_reaches_every_queue_that_binds_it_and_no_other,
    a_rollback_publishes_nothing,
    a_repeated_publish_with_one_id_is_one_message,
    a_crash_loses_nothing_that_was_not_acknowledged,
    the_sixth_failure_makes_a_dead_letter_and_each_wait_before_it_is_kept,
    a_rejected_message_is_a_dead_letter_at_once_and_comes_back_by_redrive,
    a_malformed_message_is_a_dead_letter_at_once,
    messages_with_one_key_keep_their_order_even_through_a_retry,
    a_dead_letter_lets_the_next_with_its_key_go_on,
    an_ended_lease_belongs_to_the_next_host_and_the_first_settles_nothing,
    a_release_counts_no_attempt,
    a_delayed_message_waits_and_is_not_early,
    messages_wait_for_a_plugin_that_is_not_loaded,
    a_message_that_kills_the_host_again_and_again_is_given_up,
    ten_thousand_messages_have_their_effect_exactly_once,
    keyed_messages_keep_their_order_under_eight_consumers,
    what_is_remembered_long_enough_is_forgotten,
    a_copy_of_a_request_publishes_nothing,
    the_lag_is_that_of_the_oldest_message,
}

async fn an_event_reaches_every_queue_that_binds_it_and_no_other(bench: Bench) {
    bench.bind("execution", &["planning.#"]).await;
    bench.bind("workflow", &["#"]).await;
    bench.bind("quality", &["task.*"]).await;
    bench.bind("planning", &["#"]).await;
    let id = bench
        .publish(OutgoingMessage {
            organization_id: Some("org".into()),
            user_id: Some("user".into()),
            correlation_id: Some("correlation".into()),
            causation_id: Some("causation".into()),
            ..event("planning.plan.created")
        })
        .await;
    for plugin in ["execution", "workflow"] {
        let claim = bench.claim_one(plugin).await.unwrap();
        assert_eq!(claim.message.id, id);
        assert_eq!(claim.message.message_type, "planning.plan.created");
        assert_eq!(claim.message.data, "{\"a\":1}");
        assert_eq!(claim.message.organization_id.as_deref(), Some("org"));
        assert_eq!(claim.message.user_id.as_deref(), Some("user"));
        assert_eq!(claim.message.source_service, "planning");
        assert_eq!(claim.message.correlation_id.as_deref(), Some("correlation"));
        assert_eq!(claim.message.causation_id.as_deref(), Some("causation"));
        bench.backend().acknowledge(&claim).await.unwrap();
        assert_eq!(bench.depth(plugin).await, 0);
    }
    assert!(bench.claim_one("quality").await.is_none());
    assert!(bench.claim_one("planning").await.is_none(), "its own event");
}

async fn a_rollback_publishes_nothing(bench: Bench) {
    bench.bind("workflow", &["#"]).await;
    for ends_well in [false, true] {
        let mut transaction = bench.database.begin().await.unwrap();
        bench.room.publish_in(&mut transaction, event("plan.created")).await.unwrap();
        bench.room.publish_in(&mut transaction, work(1)).await.unwrap();
        bench.room.publish_in(&mut transaction, OutgoingMessage { id: Some("one".into()), ..work(2) }).await.unwrap();
        if ends_well {
            transaction.commit().await.unwrap()
        } else {
            transaction.rollback().await.unwrap()
        }
        bench.room.wake();
        bench.relay().await;
        assert_eq!(bench.depth("workflow").await, u64::from(ends_well));
        assert_eq!(bench.depth("execution").await, if ends_well { 2 } else { 0 });
    }
}

async fn a_repeated_publish_with_one_id_is_one_message(bench: Bench) {
    let message = || OutgoingMessage { id: Some("same".into()), ..work(1) };
    assert_eq!(bench.publish(message()).await, "same");
    let claim = bench.claim_one("execution").await.unwrap();
    bench.backend().acknowledge(&claim).await.unwrap();
    assert_eq!(bench.publish(message()).await, "same");
    assert_eq!(bench.depth("execution").await, 0);
    // Another organization's same id is another message.
    bench.publish(OutgoingMessage { organization_id: Some("org".into()), ..message() }).await;
    assert_eq!(bench.depth("execution").await, 1);
    bench.advance(Duration::from_secs(73 * 60 * 60));
    bench.publish(message()).await;
    assert_eq!(bench.depth("execution").await, 2);
}

async fn a_crash_loses_nothing_that_was_not_acknowledged(bench: Bench) {
    bench.bind("workflow", &["#"]).await;
    let first = bench.publish(event("plan.created")).await;
    bench.publish(work(1)).await;
    let claim = bench.claim_one("workflow").await.unwrap();
    assert_eq!(claim.message.id, first);
    // Committed, and the relay has not seen it yet.
    let second = bench.publish(event("plan.deleted")).await;
    let bench = bench.crash().await;
    if bench.url.starts_with("postgres") {
        // On a shared database only the end of a lease says that its host is gone.
        assert_eq!(bench.claim("workflow", 9).await.len(), 1);
        bench.advance(LEASE + LEASE);
    }
    let ids: BTreeSet<String> = bench.claim("workflow", 9).await.into_iter().map(|claim| claim.message.id).collect();
    assert_eq!(ids, BTreeSet::from([first, second]));
    assert_eq!(bench.claim("execution", 9).await.len(), 1);
}

async fn the_sixth_failure_makes_a_dead_letter_and_each_wait_before_it_is_kept(bench: Bench) {
    bench.publish(work(1)).await;
    for (failures, wait) in BACKOFF.into_iter().enumerate() {
        let claim = bench.claim_one("execution").await.unwrap();
        assert_eq!(claim.failures as usize, failures);
        assert!(!claim.is_last_attempt);
        assert_eq!(bench.backend().retry(&claim, None, "no").await.unwrap(), Retried::Scheduled);
        bench.advance(wait - Duration::from_millis(1));
        assert!(bench.claim_one("execution").await.is_none(), "before {wait:?} have passed");
        bench.advance(Duration::from_millis(1));
    }
    let claim = bench.claim_one("execution").await.unwrap();
    assert!(claim.is_last_attempt);
    assert_eq!(bench.backend().retry(&claim, None, "still no").await.unwrap(), Retried::DeadLettered);
    bench.advance(Duration::from_secs(100_000));
    assert!(bench.claim_one("execution").await.is_none());
    let dead = bench.dead("execution").await;
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].failures, 6);
    assert!(dead[0].reason.contains("still no"), "{}", dead[0].reason);
    assert_eq!(dead[0].message.data, "{\"number\":1}");
}

async fn a_rejected_message_is_a_dead_letter_at_once_and_comes_back_by_redrive(bench: Bench) {
    for number in 0..3 {
        bench.publish(work(number)).await;
    }
    for claim in bench.claim("execution", 3).await {
        bench.backend().reject(&claim, "never\nagain").await.unwrap();
    }
    assert!(bench.claim_one("execution").await.is_none());
    assert_eq!(bench.dead("execution").await[0].reason, "never again");
    assert!(matches!(bench.room.redrive("nobody").await, Err(QueueError::Unknown(_))));
    assert_eq!(bench.room.redrive("execution").await.unwrap(), 3);
    assert!(bench.dead("execution").await.is_empty());
    let claims = bench.claim("execution", 9).await;
    assert_eq!(claims.iter().map(number).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(claims.iter().all(|claim| claim.failures == 0));
    assert_eq!(bench.room.redrive("execution").await.unwrap(), 0);
}

async fn a_malformed_message_is_a_dead_letter_at_once(bench: Bench) {
    bench.publish(work(1)).await;
    bench.publish(work(2)).await;
    let sql = "UPDATE berth_queue SET data = 'no json' WHERE position = (SELECT MIN(position) FROM berth_queue)";
    assert_eq!(bench.database.execute(sql, &[]).await.unwrap(), 1);
    let claims = bench.claim("execution", 9).await;
    assert_eq!(claims.iter().map(number).collect::<Vec<_>>(), [2]);
    assert!(bench.dead("execution").await[0].reason.starts_with("malformed"));
}

async fn messages_with_one_key_keep_their_order_even_through_a_retry(bench: Bench) {
    bench.bind("workflow", &["#"]).await;
    for (key, number) in [("a", 1), ("a", 2), ("b", 10), ("a", 3)] {
        bench.publish(keyed(key, number)).await;
    }
    let claims = bench.claim("workflow", 9).await;
    assert_eq!(claims.iter().map(number).collect::<Vec<_>>(), [1, 10], "the first of each key");
    bench.backend().retry(&claims[0], None, "later").await.unwrap();
    assert!(bench.claim_one("workflow").await.is_none(), "2 waits for 1");
    bench.publish(keyed("a", 4)).await;
    // The same key of another source or organization is another key.
    bench.publish(OutgoingMessage { source_service: "quality".into(), ..keyed("a", 20) }).await;
    bench.publish(OutgoingMessage { organization_id: Some("org".into()), ..keyed("a", 30) }).await;
    let others = bench.claim("workflow", 9).await;
    assert_eq!(others.iter().map(number).collect::<Vec<_>>(), [20, 30]);
    bench.advance(BACKOFF[0]);
    for expected in 1..=4 {
        let claims = bench.claim("workflow", 9).await;
        assert_eq!(claims.iter().map(number).collect::<Vec<_>>(), [expected]);
        bench.backend().acknowledge(&claims[0]).await.unwrap();
    }
    assert!(bench.claim_one("workflow").await.is_none());
}

async fn a_dead_letter_lets_the_next_with_its_key_go_on(bench: Bench) {
    bench.bind("workflow", &["#"]).await;
    for number in 1..=3 {
        bench.publish(keyed("a", number)).await;
    }
    let first = bench.claim_one("workflow").await.unwrap();
    bench.backend().reject(&first, "bad").await.unwrap();
    let second = bench.claim_one("workflow").await.unwrap();
    assert_eq!(number(&second), 2);
    // Redriven while the key is taken: it queues up behind.
    bench.room.redrive("workflow").await.unwrap();
    assert!(bench.claim_one("workflow").await.is_none());
    bench.backend().acknowledge(&second).await.unwrap();
    for expected in [3, 1] {
        let claim = bench.claim_one("workflow").await.unwrap();
        assert_eq!(number(&claim), expected);
        bench.backend().acknowledge(&claim).await.unwrap();
    }
}

async fn an_ended_lease_belongs_to_the_next_host_and_the_first_settles_nothing(bench: Bench) {
    bench.publish(work(1)).await;
    let slow = bench.claim_one("execution").await.unwrap();
    bench.advance(LEASE);
    let fast = bench.claim_one("execution").await.unwrap();
    assert_eq!(fast.message, slow.message);
    assert!(matches!(bench.backend().acknowledge(&slow).await, Err(QueueError::LeaseLost)));
    assert!(matches!(bench.backend().retry(&slow, None, "").await, Err(QueueError::LeaseLost)));
    assert!(matches!(bench.backend().reject(&slow, "").await, Err(QueueError::LeaseLost)));
    assert!(matches!(bench.backend().release(&slow, LEASE).await, Err(QueueError::LeaseLost)));
    assert!(bench.dead("execution").await.is_empty());
    bench.backend().acknowledge(&fast).await.unwrap();
    assert_eq!(bench.depth("execution").await, 0);
}

async fn a_release_counts_no_attempt(bench: Bench) {
    bench.publish(work(1)).await;
    for _ in 0..10 {
        let claim = bench.claim_one("execution").await.unwrap();
        assert_eq!(claim.failures, 0);
        bench.backend().release(&claim, Duration::from_secs(1)).await.unwrap();
        assert!(bench.claim_one("execution").await.is_none());
        bench.advance(Duration::from_secs(1));
    }
}

async fn a_delayed_message_waits_and_is_not_early(bench: Bench) {
    let delay = Duration::from_secs(3600);
    bench.publish(OutgoingMessage { delay, ..work(1) }).await;
    bench.publish(work(2)).await;
    let claim = bench.claim_one("execution").await.unwrap();
    assert_eq!(number(&claim), 2);
    bench.backend().acknowledge(&claim).await.unwrap();
    bench.advance(delay - Duration::from_millis(1));
    assert!(bench.claim_one("execution").await.is_none());
    let due = bench.backend().relay().await.unwrap().next_due.unwrap();
    assert_eq!(due - bench.room.now(), TimeDelta::milliseconds(1));
    bench.advance(Duration::from_millis(1));
    assert_eq!(number(&bench.claim("execution", 9).await[0]), 1);
}

async fn messages_wait_for_a_plugin_that_is_not_loaded(bench: Bench) {
    bench.bind("quality", &["task.#"]).await;
    let bench = bench.crash().await;
    bench.publish(event("task.created")).await;
    bench.relay().await;
    assert_eq!(bench.depth("quality").await, 1);
    bench.bind("quality", &[]).await;
    bench.publish(event("task.created")).await;
    bench.relay().await;
    assert_eq!(bench.depth("quality").await, 1, "what is unbound comes no more, what waits stays");
    assert!(bench.claim_one("quality").await.is_some());
}

async fn a_message_that_kills_the_host_again_and_again_is_given_up(bench: Bench) {
    bench.publish(work(1)).await;
    for _ in 0..=20 {
        assert!(bench.claim_one("execution").await.is_some());
        bench.advance(LEASE);
    }
    assert!(bench.claim_one("execution").await.is_none());
    assert!(bench.dead("execution").await[0].reason.contains("20 times"));
}

async fn ten_thousand_messages_have_their_effect_exactly_once(bench: Bench) {
    const MESSAGES: i64 = 10_000;
    bench.database.execute("CREATE TABLE effects (number BIGINT NOT NULL)", &[]).await.unwrap();
    for chunk in 0..MESSAGES / 200 {
        let mut transaction = bench.database.begin().await.unwrap();
        for number in chunk * 200..(chunk + 1) * 200 {
            // Half takes the way through the outbox.
            let key = (number % 2 == 0).then(|| format!("{}", number % 1000));
            bench.room.publish_in(&mut transaction, OutgoingMessage { key, ..work(number) }).await.unwrap();
        }
        transaction.commit().await.unwrap();
    }
    bench.relay().await;
    let bench = Arc::new(bench);
    let repeated = Arc::new(AtomicUsize::new(0));
    let mut consumers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (bench, repeated) = (Arc::clone(&bench), Arc::clone(&repeated));
        consumers.spawn(async move {
            loop {
                let claims = bench.backend().claim(&"execution".into(), 16, LEASE).await.unwrap();
                if claims.is_empty() && bench.depth("execution").await == 0 {
                    return;
                }
                for claim in claims {
                    handle_once(&bench.database, &claim).await;
                    // Now and then the acknowledgement is lost after the effect.
                    if claim.failures == 0 && number(&claim) % 50 == 7 {
                        repeated.fetch_add(1, Ordering::Relaxed);
                        bench.backend().retry(&claim, Some(Duration::ZERO), "lost").await.unwrap();
                    } else {
                        bench.backend().acknowledge(&claim).await.unwrap();
                    }
                }
            }
        });
    }
    while let Some(consumer) = consumers.join_next().await {
        consumer.unwrap();
    }
    assert_eq!(repeated.load(Ordering::Relaxed), 200);
    let sql = "SELECT COUNT(*) AS effects, COUNT(DISTINCT number) AS numbers FROM effects";
    let row = bench.database.query_one(sql, &[]).await.unwrap().unwrap();
    assert_eq!((row.integer("effects").unwrap(), row.integer("numbers").unwrap()), (MESSAGES, MESSAGES));
    assert!(bench.dead("execution").await.is_empty());
}

/// What a guest does: the ledger and the effect in one transaction.
async fn handle_once(database: &Database, claim: &Claim) {
    let mut transaction = database.begin().await.unwrap();
    let sql = "INSERT INTO berth_handled (plugin, message_id, handled_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    let now = Utc::now();
    if transaction.execute(sql, &values![&claim.queue, &claim.message.id, now]).await.unwrap() == 1 {
        transaction.execute("INSERT INTO effects (number) VALUES ($1)", &values![number(claim)]).await.unwrap();
    }
    transaction.commit().await.unwrap();
}

async fn keyed_messages_keep_their_order_under_eight_consumers(bench: Bench) {
    const KEYS: i64 = 20;
    const EACH: i64 = 40;
    bench.bind("workflow", &["#"]).await;
    // On a shared database there are two hosts, and both relay and consume.
    let is_shared = bench.url.starts_with("postgres");
    let other = if is_shared { bench.another_host().await } else { bench.room.clone() };
    let seen: Arc<parking_lot::Mutex<BTreeMap<String, Vec<i64>>>> = Arc::default();
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..8 {
        let room = if index % 2 == 0 { bench.room.clone() } else { other.clone() };
        let seen = Arc::clone(&seen);
        tasks.spawn(async move {
            while seen.lock().values().map(Vec::len).sum::<usize>() < (KEYS * EACH) as usize {
                for claim in room.backend().claim(&"workflow".into(), 4, LEASE).await.unwrap() {
                    if claim.failures == 0 && number(&claim) % 10 == 3 {
                        room.backend().retry(&claim, Some(Duration::ZERO), "again").await.unwrap();
                        continue;
                    }
                    let data: serde_json::Value = serde_json::from_str(&claim.message.data).unwrap();
                    seen.lock().entry(data["key"].to_string()).or_default().push(number(&claim));
                    room.backend().acknowledge(&claim).await.unwrap();
                }
                tokio::task::yield_now().await;
            }
        });
    }
    // Published and relayed while they consume.
    for number in 0..EACH {
        for key in 0..KEYS {
            let data = json!({ "number": number, "key": key.to_string() }).to_string();
            let host = if key % 2 == 0 { &bench.room } else { &other };
            host.publish(OutgoingMessage { data, ..keyed(&key.to_string(), number) }).await.unwrap();
        }
        let (one, two) = tokio::join!(bench.room.backend().relay(), other.backend().relay());
        one.unwrap();
        two.unwrap();
    }
    bench.relay().await;
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    for (key, numbers) in seen.lock().iter() {
        assert_eq!(numbers, &(0..EACH).collect::<Vec<_>>(), "key {key}");
    }
}

async fn what_is_remembered_long_enough_is_forgotten(bench: Bench) {
    bench.publish(OutgoingMessage { id: Some("old".into()), ..work(1) }).await;
    bench.advance(Duration::from_secs(71 * 60 * 60));
    bench.publish(OutgoingMessage { id: Some("new".into()), ..work(2) }).await;
    bench.advance(Duration::from_secs(2 * 60 * 60));
    bench.backend().clean().await.unwrap();
    let rows = bench.database.query("SELECT message_id FROM berth_published", &[]).await.unwrap();
    let ids: Vec<String> = rows.iter().map(|row| row.text("message_id").unwrap()).collect();
    assert_eq!(ids, ["new"]);
    assert_eq!(bench.depth("execution").await, 2, "messages are never cleaned away");
}

async fn a_copy_of_a_request_publishes_nothing(bench: Bench) {
    bench.bind("workflow", &["#"]).await;
    let grant = Grant { publish: vec!["planning.#".into()], ..Grant::default() };
    let copy = testing::shadow(testing::guest_with("planning", Some("org"), grant));
    let mut view = View { guest: &copy, room: &bench.room };
    let message = |message_type: &str, id: Option<&str>| Message {
        type_: message_type.into(),
        data: "{}".into(),
        key: None,
        organization_id: None,
        id: id.map(Into::into),
    };
    let sent = view.publish(message("planning.plan.created", Some("its-own"))).await.unwrap().unwrap();
    assert_eq!(sent, "its-own");
    assert!(!view.publish(message("planning.plan.created", None)).await.unwrap().unwrap().is_empty());
    view.publish_delayed(message("planning.plan.created", None), 1).await.unwrap().unwrap();
    view.enqueue(message("planning.step", None), 0).await.unwrap().unwrap();
    // What it may not do it is told as ever.
    let denied = view.publish(message("task.created", None)).await.unwrap();
    assert!(matches!(denied, Err(Fault::Denied(_))), "{denied:?}");
    bench.advance(Duration::from_secs(1));
    bench.relay().await;
    assert_eq!((bench.depth("workflow").await, bench.depth("planning").await), (0, 0));
    let rows = bench.database.query("SELECT message_id FROM berth_published", &[]).await.unwrap();
    assert!(rows.is_empty(), "its id is taken");
}

async fn the_lag_is_that_of_the_oldest_message(bench: Bench) {
    bench.bind("execution", &[]).await;
    let oldest = async || {
        let stats = bench.room.stats().await.unwrap();
        stats.into_iter().find(|stats| stats.plugin == "execution").and_then(|stats| stats.oldest_at)
    };
    assert_eq!(oldest().await, None);
    let first = bench.room.now();
    bench.publish(work(1)).await;
    bench.advance(Duration::from_secs(5));
    let second = bench.room.now();
    bench.publish(work(2)).await;
    bench.relay().await;
    assert_eq!(oldest().await, Some(first));
    let claim = bench.claim_one("execution").await.unwrap();
    assert_eq!(oldest().await, Some(first), "it is not done yet");
    bench.backend().acknowledge(&claim).await.unwrap();
    assert_eq!(oldest().await, Some(second));
}
