//! One server goes away and comes back: a broker, a database, a cache of the test's own.
#![expect(clippy::expect_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_test_servers::{Kind, Private};
use berth_tests::writers::{everything_is_there, noted_events};
use berth_tests::{Host, Manifest, Space, Urls, Writers, eventually, manifest};
use serde_json::json;

/// How long the server is away, in seconds.
const OUTAGE_VARIABLE: &str = "BERTH_TEST_OUTAGE_SECONDS";
const OUTAGE: Duration = Duration::from_secs(6);

fn outage() -> Duration {
    let seconds = std::env::var(OUTAGE_VARIABLE).ok().and_then(|text| text.parse().ok());
    seconds.map_or(OUTAGE, Duration::from_secs)
}

fn private(kind: Kind) -> Private {
    Private::start(kind).expect("a private server")
}

/// The services, and a consumer that notes every event of planning.
fn planning() -> Manifest {
    Manifest::services().and(Manifest::of([manifest::ledger()]).text())
}

/// How often the log says something.
fn count(host: &Host, words: &str) -> usize {
    host.log().matches(words).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_away_fails_no_request_and_costs_no_event() {
    let mut rabbit = private(Kind::Rabbit);
    let space = Space::on(Urls { amqp: rabbit.url(), ..Urls::given() });
    let host = Host::with(planning()).on(&space).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let writers = Writers::steadily(&ada, 4, 5, Duration::from_millis(20));
    eventually("some events", async || (noted_events(&host).await > 20).then_some(())).await;
    rabbit.stop();
    let begin = Instant::now();
    while begin.elapsed() < outage() {
        assert_eq!(host.client().get("/ready?need=database").await.status, 200);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(host.client().get("/ready").await.status, 503);
    rabbit.start_again().expect("the broker");
    let before = noted_events(&host).await;
    eventually("events again", async || (noted_events(&host).await > before + 20).then_some(())).await;
    let written = writers.stop().await;
    assert_eq!((written.refused, written.unanswered), (0, 0));
    everything_is_there(&host, &ada, &written).await;
    println!("{} projects written, the broker away for {:?}", written.acknowledged.len(), outage());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_comes_late_is_waited_for() {
    let mut rabbit = private(Kind::Rabbit);
    rabbit.stop();
    let space = Space::on(Urls { amqp: rabbit.url(), ..Urls::given() });
    // `/ready` asks for everything, so only the port is waited for.
    let host = Host::with(planning()).on(&space).start_unready().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let written = ada.post("/api/projects", &json!({"name": "Harbour"})).await;
    assert_eq!(written.status, 201, "{}", written.text());
    rabbit.start_again().expect("the broker");
    eventually("the event", async || (noted_events(&host).await >= 1).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_restarts_is_answered_with_503_meanwhile_and_loses_nothing() {
    let mut postgres = private(Kind::Postgres);
    let space = Space::on(Urls { postgres: postgres.url(), ..Urls::given() });
    let host = Host::with(planning()).on(&space).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let writers = Writers::steadily(&ada, 4, 5, Duration::from_millis(20));
    eventually("some events", async || (noted_events(&host).await > 20).then_some(())).await;
    postgres.stop();
    let refused = eventually("a refusal", async || {
        let answer = ada.post("/api/projects", &json!({"name": "In vain"})).await;
        (answer.status != 201).then_some(answer)
    })
    .await;
    let _ = refused.problem(503, "SERVICE_UNAVAILABLE");
    assert!(!refused.header("retry-after").is_empty(), "{}", refused.text());
    // Who is up is up.
    assert_eq!(host.client().get("/live").await.status, 200);
    postgres.start_again().expect("the database");
    eventually("writing again", async || {
        let answer = ada.post("/api/projects", &json!({"name": "Again"})).await;
        (answer.status == 201).then_some(())
    })
    .await;
    // The pool has recovered as a whole: no refusal comes any more.
    for _ in 0..100 {
        ada.get("/api/projects?limit=1").await.done(200);
    }
    let written = writers.stop().await;
    assert!(written.refused > 0);
    assert_eq!(written.unanswered, 0);
    everything_is_there(&host, &ada, &written).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_cache_fails_no_request_and_limits_fail_as_they_are_told_to() {
    let mut redis = private(Kind::Redis);
    let space: Arc<Space> = Space::on(Urls { redis: redis.url(), ..Urls::given() });
    let build = |choice: &str| {
        let host = Host::with(Manifest::hello()).on(&space).variable("BERTH_RATE_LIMIT_PER_MINUTE", "100000");
        host.variable("BERTH_RATE_LIMIT_WITHOUT_CACHE", choice)
    };
    let (open, closed) = (build("open").start().await, build("closed").start().await);
    let ada = open.client().register("ada@example.com", "Harbour").await;
    let on_closed = closed.client().with_token(ada.token());
    assert!(!ada.get("/api/hello").await.header("x-ratelimit-limit").is_empty());
    on_closed.get("/api/hello").await.done(200);
    redis.kill();
    for _ in 0..50 {
        ada.get("/api/hello").await.done(200);
        ada.get("/api/auth/me").await.done(200);
    }
    let refused = on_closed.get("/api/hello").await;
    let _ = refused.problem(503, "SERVICE_UNAVAILABLE");
    assert!(!refused.header("retry-after").is_empty());
    assert_eq!(closed.client().get("/live").await.status, 200);
    for host in [&open, &closed] {
        let log = host.log();
        assert_eq!(count(host, "the cache is lost"), 1, "{log}");
        assert_eq!(count(host, "the rate limits have lost their cache"), 1, "{log}");
    }
    redis.start_again().expect("the cache");
    eventually("counting again", async || {
        let answers = [ada.get("/api/hello").await, on_closed.get("/api/hello").await];
        answers
            .iter()
            .all(|answer| answer.status == 200 && !answer.header("x-ratelimit-limit").is_empty())
            .then_some(())
    })
    .await;
}
