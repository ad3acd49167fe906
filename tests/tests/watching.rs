//! Builds that are worse than the one before them: as a canary or as a whole they go by themselves, and nobody but the
//! canary's callers notices.
#![expect(clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use berth_tests::listener::Listener;
use berth_tests::{Answer, Client, Host, Manifest, Slot, eventually, guests, manifest};
use reqwest::Method;
use serde_json::{Value, json};

/// Different callers, each with an address of its own.
const CALLERS: u32 = 200;
/// Requests at a time.
const LANES: u32 = 16;
/// A fifth of the callers, and what chance may add to it: five standard deviations.
const CANARY: &str = "20";
const CANARY_CALLERS_MAX: usize = 40 + 28;

/// Requests to a build that has a shadow.
const COPIED: u64 = 8;

/// The component with another word: a build that behaves so.
fn build(mood: &str) -> Vec<u8> {
    const MARK: &[u8] = b"mood:";
    let mut component = guests::bytes(&guests::fixture("moody"));
    let found: Vec<usize> = (0..component.len()).filter(|at| component[*at..].starts_with(b"mood:sound")).collect();
    let [at] = found[..] else { panic!("the word stands {} times in the component", found.len()) };
    let word = format!("{mood:<5}");
    component[at + MARK.len()..at + MARK.len() + word.len()].copy_from_slice(word.as_bytes());
    component
}

fn moody() -> Manifest {
    let slot = Slot::new("moody", guests::fixture("moody"), "/moody");
    Manifest::of([slot.with("public = [\"/moody\"]\nisolation = \"plugin\"\n[plugin.limits]\nconcurrency = 64")])
}

/// Status and word of every answer a caller got, as a set.
type Seen = BTreeMap<u32, BTreeSet<(u16, String)>>;

/// Callers who go on until they are told to stop.
struct Callers {
    is_over: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    seen: Arc<Mutex<Seen>>,
    lanes: Vec<tokio::task::JoinHandle<()>>,
}

impl Callers {
    fn of(host: &Host) -> Self {
        let mut callers =
            Self { is_over: Arc::default(), answered: Arc::default(), seen: Arc::default(), lanes: Vec::new() };
        for lane in 0..LANES {
            let (is_over, answered, seen) =
                (Arc::clone(&callers.is_over), Arc::clone(&callers.answered), Arc::clone(&callers.seen));
            let client = host.client();
            callers.lanes.push(tokio::spawn(async move {
                for caller in (lane..CALLERS).step_by(LANES as usize).cycle() {
                    if is_over.load(Ordering::Relaxed) {
                        return;
                    }
                    let answer = ask(&client, caller).await;
                    let word = if answer.status == 200 { answer.text().trim().to_owned() } else { String::new() };
                    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                    seen.entry(caller).or_default().insert((answer.status, word));
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
        callers
    }

    /// Waits until every caller was answered a few times more.
    async fn go_on(&self) {
        let wanted = self.answered.load(Ordering::Relaxed) + u64::from(CALLERS) * 3;
        eventually("more answers", async || (self.answered.load(Ordering::Relaxed) >= wanted).then_some(())).await;
    }

    /// What each caller has seen since the last time.
    fn take(&self) -> Seen {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Panics where a request was left without an answer.
    async fn stop(self) -> Seen {
        self.is_over.store(true, Ordering::Relaxed);
        let seen = Arc::clone(&self.seen);
        for lane in self.lanes {
            lane.await.expect("every request is answered");
        }
        std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn ask(client: &Client, caller: u32) -> Answer {
    let address = format!("198.51.{}.{}", caller / 250, caller % 250 + 1);
    client.send(client.request(Method::GET, "/moody").header("x-forwarded-for", address)).await
}

async fn deploy(host: &Host, query: &str, mood: &str) -> Value {
    let operator = host.operator();
    let request = operator.request(Method::POST, &format!("/api/admin/plugins/moody/deploy?{query}"));
    let answer = operator.send(request.header("content-type", "application/wasm").body(build(mood))).await;
    assert!(matches!(answer.status, 200 | 202), "{}: {}", answer.status, answer.text());
    answer.json()
}

/// A command that does what it should.
fn run(host: &Host, arguments: &[&str]) -> String {
    let output = host.berth(arguments).output().expect("berth");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The line of the history in which the host itself does `action`, when it is the newest.
async fn by_itself(host: &Host, action: &str) -> Value {
    eventually(&format!("{action} by the host"), async || {
        let history = host.operator().get("/api/admin/plugins/moody/history").await.expect(200);
        let line = history["items"][0].clone();
        (line["action"] == action && line["actor"] == "host").then_some(line)
    })
    .await
}

/// The callers who met the bad build.
fn met(seen: &Seen) -> usize {
    let is_bad =
        |answers: &&BTreeSet<(u16, String)>| answers.iter().any(|(status, word)| *status != 200 || word != "sound");
    seen.values().filter(is_bad).count()
}

/// Tried by a fifth of the callers and then by all, a build in this mood goes by itself, with these words in the reason and
/// no status but these.
async fn goes_by_itself(mood: &str, reason: &str, statuses: &[u16]) {
    let host = Host::with(moody()).variable("BERTH_TRUSTED_PROXIES", "127.0.0.0/8").start().await;
    let callers = Callers::of(&host);
    callers.go_on().await;
    assert_eq!(met(&callers.take()), 0, "before anything was deployed");

    let report = deploy(&host, &format!("canary={CANARY}"), mood).await;
    assert_eq!((&report["action"], &report["share"]), (&"canary".into(), &20.0.into()), "{report}");
    let line = by_itself(&host, "abort").await;
    assert!(line["reason"].as_str().is_some_and(|words| words.contains(reason)), "{line}");
    // What was under way has been answered by then.
    callers.go_on().await;
    let seen = callers.take();
    assert!((1..=CANARY_CALLERS_MAX).contains(&met(&seen)), "{} of {CALLERS} callers met the canary", met(&seen));

    let report = deploy(&host, "watch=60s", mood).await;
    assert_eq!(report["watchMs"], 60_000, "{report}");
    let line = by_itself(&host, "rollback").await;
    assert!(line["reason"].as_str().is_some_and(|words| words.contains(reason)), "{line}");
    assert_eq!(line["revision"], 1, "{line}");
    callers.go_on().await;
    let seen_whole = callers.take();
    callers.go_on().await;
    assert_eq!(met(&callers.stop().await), 0, "after the bad build is gone");
    for (caller, answers) in seen.iter().chain(&seen_whole) {
        let fits = |(status, word): &(u16, String)| {
            statuses.contains(status) && (*status != 200 || word == "sound" || word == mood)
        };
        assert!(answers.iter().all(fits), "caller {caller}: {answers:?}");
    }
    let events = host.operator().get("/api/admin/events?plugin=moody").await.expect(200);
    let reverts = events["items"]
        .as_array()
        .expect("events")
        .iter()
        .filter(|event| event["type"] == "host.plugin.rolled_back" && event["data"]["actor"] == "host");
    assert_eq!(reverts.count(), 2, "{events}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_that_fails_at_a_fifth_of_its_requests_goes_by_itself() {
    goes_by_itself("fail", "requests failed", &[200, 500]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_that_traps_goes_by_itself() {
    // While it is in trouble it gets its instances at a pace.
    goes_by_itself("trap", "", &[200, 502, 503]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_that_is_ten_times_slower_goes_by_itself() {
    goes_by_itself("slow", "of 100 requests took up to", &[200]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_stays_with_its_build_and_a_plan_steps_up_to_everybody() {
    let host = Host::with(moody()).variable("BERTH_TRUSTED_PROXIES", "127.0.0.0/8").start().await;
    let client = host.client();
    let callers = Callers::of(&host);
    // As sound as the one before it, and told apart by its word.
    deploy(&host, &format!("canary={CANARY}"), "other").await;
    callers.take();
    callers.go_on().await;
    callers.go_on().await;
    let seen = callers.take();
    // Those that were under way when it began may have met both.
    callers.go_on().await;
    let again = callers.take();
    for (caller, answers) in &again {
        assert_eq!(answers.len(), 1, "caller {caller} goes to and fro: {answers:?}");
    }
    assert!((1..=CANARY_CALLERS_MAX).contains(&met(&again)) && met(&again) <= met(&seen));
    // A user is known by its id, wherever it comes from.
    let ada = client.register("ada@example.com", "Harbour").await;
    let from = async |address: &str| {
        ada.send(ada.request(Method::GET, "/moody").header("x-forwarded-for", address)).await.text()
    };
    let first = from("203.0.113.1").await;
    for number in 2..40 {
        assert_eq!(from(&format!("203.0.113.{number}")).await, first);
    }
    run(&host, &["abort", "moody"]);

    let file = host.data().join("other.wasm");
    std::fs::write(&file, build("other")).expect("written");
    let file = file.display().to_string();
    let said = run(&host, &["deploy", "moody", &file, "--canary", "5%,50%,100%", "--every", "2s"]);
    assert!(said.contains("answers 5% of the callers"), "{said}");
    eventually("the promotion by plan", async || {
        let history = host.operator().get("/api/admin/plugins/moody/history").await.expect(200);
        let line = &history["items"][0];
        (line["action"] == "promote" && line["actor"] == "host" && line["outcome"] == "switched").then_some(())
    })
    .await;
    callers.go_on().await;
    callers.take();
    callers.go_on().await;
    let all = callers.stop().await;
    assert!(
        all.values().all(|answers| answers.iter().all(|(status, word)| *status == 200 && word == "other")),
        "{all:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shadow_is_compared_and_answers_nobody() {
    let host = Host::with(moody()).start().await;
    let callers = Callers::of(&host);
    deploy(&host, "shadow=true", "fail").await;
    let compared = eventually("answers that differ", async || {
        let plugins = host.operator().get("/api/admin/plugins").await.expect(200);
        let shadow = plugins["items"][0]["trial"].clone();
        (shadow["comparison"]["different"].as_u64() >= Some(5)).then_some(shadow)
    })
    .await;
    let said = run(&host, &["status", "moody"]);
    assert!(said.contains("shadow"), "{said}");
    assert_eq!(met(&callers.stop().await), 0, "a shadow has answered: {compared}");
    run(&host, &["abort", "moody"]);
    let history = host.operator().get("/api/admin/plugins/moody/history").await.expect(200);
    assert!(history["items"][0]["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{history}");
}

/// The entry of a list that has this name.
async fn named(host: &Host, path: &str, member: &str, name: &str) -> Value {
    let list = host.operator().get(path).await.expect(200);
    let items = list["items"].as_array().cloned().unwrap_or_default();
    items.into_iter().find(|item| item[member] == name).unwrap_or_else(|| panic!("no {name} in {list}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_shadow_does_has_no_effect() {
    let outside = Listener::start().await;
    let host = Host::with(Manifest::of([manifest::hello(), manifest::meddler(&outside.address())])).start().await;
    let (client, operator) = (host.client(), host.operator());
    let deploy = operator.request(Method::POST, "/api/admin/plugins/meddler/deploy?shadow=true");
    let shadow = guests::variant(&guests::bytes(&guests::fixture("meddler")), 1);
    operator.send(deploy.header("content-type", "application/wasm").body(shadow)).await.done(200);
    for number in 1..=COPIED {
        let done = client.get("/meddler").await.expect(200);
        assert!(done.as_object().expect("what it did").values().all(|did| did == true), "{done}");
        // One after the other, so that each is copied.
        eventually("the copy's answer", async || {
            let meddler = named(&host, "/api/admin/plugins", "name", "meddler").await;
            (meddler["trial"]["comparison"]["different"] == number).then_some(())
        })
        .await;
    }
    // It was told of what it may not do, and of nothing else.
    let meddler = named(&host, "/api/admin/plugins", "name", "meddler").await;
    let differs = &meddler["trial"]["comparison"]["examples"][0]["places"];
    assert_eq!(differs, &json!(["/alone", "/together", "/called", "/outside"]), "{meddler}");
    let figures = eventually("every message of the build that serves", async || {
        let figures = client.get("/meddler/figures").await.expect(200);
        (figures["heard"].as_u64() >= Some(COPIED * 4)).then_some(figures)
    })
    .await;
    let (once, each) = (COPIED, COPIED * 4);
    assert_eq!(figures, json!({"alone": once, "together": once, "heard": each, "counter": once}));
    let queue = named(&host, "/api/admin/queues", "name", "meddler").await;
    assert_eq!(queue["depth"], 0, "nothing more is to come: {queue}");
    assert_eq!(outside.received().len() as u64, COPIED);
    // Both have read from hello, and one has sent it something; what a copy asks says nothing of how hello fares.
    let hello = named(&host, "/api/admin/status", "plugin", "hello").await;
    assert_eq!((hello["calls"].as_u64(), hello["requests"].as_u64()), (Some(COPIED * 3), Some(COPIED * 2)), "{hello}");
    run(&host, &["abort", "meddler"]);
}
