//! The worker over the embedded queue, with a guest that is a closure.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};

use super::{Consumer, Consumers, Delivery, DeliveryError, Outcome, Worker, timers};
use crate::bindings::consumer::DeliveryKind;
use crate::capability::queue::OutgoingMessage;
use crate::capability::queue::conformance::Bench;
use crate::principal::{Call, Principal};

/// Longer than anything here takes; only a broken test waits this long.
const LONG: Duration = Duration::from_secs(20);

type Answer = Box<dyn Fn(&Delivery) -> Result<Outcome, DeliveryError> + Send + Sync>;

/// One plugin, `execution`, which answers as the test says and tells what it got.
struct Guest {
    answer: Answer,
    seen: mpsc::UnboundedSender<(Call, Delivery)>,
    loaded: Mutex<bool>,
    running: AtomicUsize,
    running_most: AtomicUsize,
    /// A delivery ends only when it gets a permit.
    gate: Semaphore,
}

#[async_trait]
impl Consumers for Guest {
    fn plugins(&self) -> Vec<Consumer> {
        let consumer = Consumer { plugin: "execution".into(), concurrency: 3, timeout: LONG };
        if *self.loaded.lock() { vec![consumer] } else { vec![] }
    }

    async fn principal(&self, organization: Option<&str>, user: Option<&str>) -> Result<Arc<Principal>, DeliveryError> {
        Ok(Arc::new(Principal::system(organization.map(Into::into), user.map(Into::into))))
    }

    async fn deliver(&self, _plugin: &str, call: Call, delivery: Delivery) -> Result<Outcome, DeliveryError> {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.running_most.fetch_max(running, Ordering::SeqCst);
        self.seen.send((call, delivery.clone())).ok();
        let answer = (self.answer)(&delivery);
        self.gate.acquire().await.unwrap().forget();
        self.running.fetch_sub(1, Ordering::SeqCst);
        answer
    }
}

type Seen = mpsc::UnboundedReceiver<(Call, Delivery)>;

fn guest(
    permits: usize,
    answer: impl Fn(&Delivery) -> Result<Outcome, DeliveryError> + Send + Sync + 'static,
) -> (Arc<Guest>, Seen) {
    let (seen, receiver) = mpsc::unbounded_channel();
    let guest = Guest {
        answer: Box::new(answer),
        seen,
        loaded: Mutex::new(true),
        running: AtomicUsize::new(0),
        running_most: AtomicUsize::new(0),
        gate: Semaphore::new(permits),
    };
    (Arc::new(guest), receiver)
}

async fn next(seen: &mut Seen) -> (Call, Delivery) {
    tokio::time::timeout(LONG, seen.recv()).await.expect("a delivery").unwrap()
}

fn work(number: i64) -> OutgoingMessage {
    OutgoingMessage::work("execution", "execution.step.run", &json!({ "number": number }))
}

async fn wait_until_empty(bench: &Bench) {
    let empty = async {
        while bench.depth("execution").await > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(LONG, empty).await.expect("an empty queue");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_committed_message_is_delivered_with_its_identity_and_then_gone() {
    let bench = Bench::sqlite().await;
    let (guest, mut seen) = guest(100, |_| Ok(Outcome::Acknowledged));
    let worker = Worker::start(bench.room.clone(), guest, crate::trace::Tracer::default());
    bench.room.set_bindings("execution", vec!["planning.#".into()]).await.unwrap();
    let event = OutgoingMessage::event("planning.plan.approved", &json!({"planId": "p"}));
    let id = bench
        .room
        .publish(OutgoingMessage {
            organization_id: Some("org".into()),
            user_id: Some("user".into()),
            source_service: "planning".into(),
            correlation_id: Some("request".into()),
            ..event
        })
        .await
        .unwrap();
    let (call, delivery) = next(&mut seen).await;
    assert_eq!(delivery.kind, DeliveryKind::Event);
    assert_eq!((delivery.id.as_str(), delivery.type_.as_str()), (id.as_str(), "planning.plan.approved"));
    assert_eq!(delivery.data, "{\"planId\":\"p\"}");
    assert_eq!((delivery.attempt, delivery.is_last_attempt), (1, false));
    assert_eq!(delivery.source_service, "planning");
    assert_eq!(call.principal.organization_id.as_deref(), Some("org"));
    assert_eq!(call.principal.user_id.as_deref(), Some("user"));
    assert_eq!(call.causation_id.as_deref(), Some(id.as_str()));
    assert_eq!(call.correlation_id.as_deref(), Some("request"));
    assert_eq!(call.source_service.as_deref(), Some("planning"));
    assert!(call.deadline.is_some());
    wait_until_empty(&bench).await;
    worker.stop(LONG).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_never_has_more_deliveries_than_its_concurrency() {
    let bench = Bench::sqlite().await;
    let (guest, mut seen) = guest(0, |_| Ok(Outcome::Acknowledged));
    for number in 0..20 {
        bench.room.publish(work(number)).await.unwrap();
    }
    let worker =
        Worker::start(bench.room.clone(), Arc::clone(&guest) as Arc<dyn Consumers>, crate::trace::Tracer::default());
    for _ in 0..3 {
        next(&mut seen).await;
    }
    assert_eq!(guest.running.load(Ordering::SeqCst), 3);
    guest.gate.add_permits(100);
    wait_until_empty(&bench).await;
    assert_eq!(guest.running_most.load(Ordering::SeqCst), 3);
    worker.stop(LONG).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_outcome_settles_the_message_as_it_says() {
    let bench = Bench::sqlite().await;
    let (guest, mut seen) = guest(1000, |delivery| match delivery.data.as_str() {
        "{\"number\":1}" => Ok(Outcome::Rejected("never".into())),
        "{\"number\":2}" if delivery.attempt < 4 => Ok(Outcome::Retry(Some(0))),
        "{\"number\":3}" if delivery.attempt < 2 => Err(DeliveryError::Failed("trapped".into())),
        "{\"number\":4}" if delivery.attempt < 2 => panic!("a bug of the host"),
        _ => Ok(Outcome::Acknowledged),
    });
    let worker = Worker::start(bench.room.clone(), guest, crate::trace::Tracer::default());
    for number in 1..=4 {
        bench.room.publish(work(number)).await.unwrap();
    }
    // 1 once, 2 four times, 3 and 4 once and then held for a second of the bench's clock.
    for _ in 0..7 {
        next(&mut seen).await;
    }
    // The two may be seen before their wait is written down: the clock goes on until they have come again.
    let again = async {
        while bench.depth("execution").await > 0 {
            bench.advance(Duration::from_millis(100));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(LONG, again).await.expect("an empty queue");
    let dead = bench.room.dead_letters("execution", 10, 0).await.unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].reason, "rejected: never");
    worker.stop(LONG).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_plugin_costs_a_message_no_attempt() {
    let bench = Bench::sqlite().await;
    let refusals = AtomicUsize::new(0);
    let (guest, mut seen) = guest(1000, move |_| {
        if refusals.fetch_add(1, Ordering::SeqCst) < 2 { Err(DeliveryError::Busy) } else { Ok(Outcome::Acknowledged) }
    });
    let worker = Worker::start(bench.room.clone(), guest, crate::trace::Tracer::default());
    bench.room.publish(work(1)).await.unwrap();
    for _ in 0..3 {
        // It is given back at some moment after it was seen: the clock goes on until it comes again.
        let delivery = loop {
            match tokio::time::timeout(Duration::from_millis(20), seen.recv()).await {
                Ok(delivery) => break delivery.unwrap().1,
                Err(_) => bench.advance(Duration::from_millis(100)),
            }
        };
        assert_eq!(delivery.attempt, 1);
    }
    wait_until_empty(&bench).await;
    worker.stop(LONG).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_gives_what_runs_too_long_back_to_its_queue() {
    let bench = Bench::sqlite().await;
    let (slow, mut seen) = guest(0, |_| Ok(Outcome::Acknowledged));
    let worker = Worker::start(bench.room.clone(), slow, crate::trace::Tracer::default());
    bench.room.publish(work(1)).await.unwrap();
    next(&mut seen).await;
    worker.stop(Duration::from_millis(10)).await;
    assert_eq!(bench.depth("execution").await, 1);
    let (quick, mut seen) = guest(10, |_| Ok(Outcome::Acknowledged));
    let worker = Worker::start(bench.another_host().await, quick, crate::trace::Tracer::default());
    assert_eq!(next(&mut seen).await.1.attempt, 1);
    wait_until_empty(&bench).await;
    worker.stop(LONG).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_that_is_loaded_later_gets_what_has_waited() {
    let bench = Bench::sqlite().await;
    let (guest, mut seen) = guest(10, |_| Ok(Outcome::Acknowledged));
    *guest.loaded.lock() = false;
    let worker =
        Worker::start(bench.room.clone(), Arc::clone(&guest) as Arc<dyn Consumers>, crate::trace::Tracer::default());
    bench.room.publish(work(1)).await.unwrap();
    assert!(worker.consumers().is_empty());
    *guest.loaded.lock() = true;
    worker.refresh();
    next(&mut seen).await;
    *guest.loaded.lock() = false;
    worker.refresh();
    assert!(worker.consumers().is_empty());
    wait_until_empty(&bench).await;
    worker.stop(LONG).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tick_comes_once_over_all_hosts_and_missed_ones_become_one() {
    let bench = Bench::sqlite().await;
    let another = bench.another_host().await;
    let due = [("due".to_owned(), "15m".to_owned())];
    timers::set(&bench.room, "execution", &due).await.unwrap();
    assert!(timers::tick(&bench.room).await.unwrap().is_some());
    assert_eq!(bench.depth("execution").await, 0, "not due yet");
    bench.advance(Duration::from_secs(3 * 60 * 60));
    let (one, other) = tokio::join!(timers::tick(&bench.room), timers::tick(&another));
    one.unwrap();
    other.unwrap();
    assert_eq!(bench.depth("execution").await, 1);
    // The one before still waits: no second one.
    bench.advance(Duration::from_secs(15 * 60));
    timers::tick(&bench.room).await.unwrap();
    assert_eq!(bench.depth("execution").await, 1);

    let (guest, mut seen) = guest(10, |_| Ok(Outcome::Acknowledged));
    let worker = Worker::start(bench.room.clone(), guest, crate::trace::Tracer::default());
    let (call, delivery) = next(&mut seen).await;
    assert_eq!((delivery.kind, delivery.type_.as_str()), (DeliveryKind::Timer, "timer.execution.due"));
    assert_eq!(delivery.source_service, "host");
    assert_eq!(call.principal.organization_id, None);
    wait_until_empty(&bench).await;
    bench.advance(Duration::from_secs(15 * 60));
    next(&mut seen).await;
    worker.stop(LONG).await;
}

#[tokio::test]
async fn a_timer_keeps_its_next_tick_through_a_deploy_and_nonsense_changes_nothing() {
    let bench = Bench::sqlite().await;
    let timer = |name: &str, schedule: &str| (name.to_owned(), schedule.to_owned());
    timers::set(&bench.room, "execution", &[timer("due", "15m"), timer("old", "1h")]).await.unwrap();
    bench.advance(Duration::from_secs(14 * 60));
    assert!(timers::set(&bench.room, "execution", &[timer("due", "soon")]).await.is_err());
    assert!(timers::set(&bench.room, "execution", &[timer("Due!", "15m")]).await.is_err());
    timers::set(&bench.room, "execution", &[timer("due", "15m")]).await.unwrap();
    let next = timers::tick(&bench.room).await.unwrap().unwrap();
    assert_eq!((next - bench.room.now()).num_seconds(), 60);
    timers::set(&bench.room, "execution", &[timer("due", "1h")]).await.unwrap();
    let next = timers::tick(&bench.room).await.unwrap().unwrap();
    assert_eq!((next - bench.room.now()).num_seconds(), 60 * 60);
    timers::set(&bench.room, "execution", &[]).await.unwrap();
    assert_eq!(timers::tick(&bench.room).await.unwrap(), None);
}
