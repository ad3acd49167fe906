//! Several hosts on one PostgreSQL, Redis and RabbitMQ, each with a data folder of its own, behind a balancer.
#![expect(clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use berth_tests::answer::text;
use berth_tests::entries::{add, remove, set};
use berth_tests::host::Builder;
use berth_tests::writers::everything_is_there;
use berth_tests::{
    Answer, Balancer, Client, Host, Manifest, Space, Store, Urls, Writers, eventually, guests, manifest,
};
use serde_json::{Value, json};

/// What a deploy may take to reach every host; far more than it takes on a machine that has nothing else to do.
const SPREAD_MAX: Duration = Duration::from_secs(30);

/// Three hosts that start at the same moment.
async fn three(build: impl Fn() -> Builder) -> Vec<Host> {
    let runtime = tokio::runtime::Handle::current();
    let start = |builder: Builder| {
        let runtime = runtime.clone();
        tokio::task::spawn_blocking(move || runtime.block_on(builder.start()))
    };
    let starts: Vec<_> = (0..3).map(|_| start(build())).collect();
    let mut hosts = Vec::new();
    for start in starts {
        hosts.push(start.await.expect("a host"));
    }
    hosts
}

fn space() -> Arc<Space> {
    Space::on(Urls::given())
}

fn versions() -> [Vec<u8>; 2] {
    [guests::bytes(&guests::plugin("hello")), guests::bytes(&guests::fixture("hello-next"))]
}

async fn version(host: &Host) -> Option<String> {
    let answer = host.client().get("/api/hello").await;
    (answer.status == 200).then(|| answer.json()["version"].as_str().unwrap_or_default().to_owned())
}

/// Waits until every host answers with this version, and says how long that took.
async fn spreads(hosts: &[Host], wanted: &str) -> Duration {
    let begin = Instant::now();
    for host in hosts {
        while version(host).await.as_deref() != Some(wanted) {
            assert!(begin.elapsed() < SPREAD_MAX, "version {wanted} did not reach every host:\n{}", host.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    begin.elapsed()
}

/// Deploys, and again while the host still loads what another one deployed.
async fn deploy(host: &Host, component: &[u8]) -> Value {
    eventually("the deploy", async || {
        let path = "/api/admin/plugins/hello/deploy";
        let operator = host.operator();
        let request = operator.request(reqwest::Method::POST, path).header("content-type", "application/wasm");
        let answer = operator.send(request.body(component.to_vec())).await;
        match answer.status {
            200 | 202 => Some(answer.json()),
            409 => None,
            status => panic!("{status}: {}", answer.text()),
        }
    })
    .await
}

/// Requests that go on until told to stop, each on a connection of its own.
struct Knocking {
    is_over: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<Vec<String>>>,
}

impl Knocking {
    fn at(balancer: &Balancer, path: &'static str, lanes: usize) -> Self {
        let (is_over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let client = Client::without_keep_alive(&balancer.base());
        let lane = |client: Client| {
            let (is_over, answered) = (Arc::clone(&is_over), Arc::clone(&answered));
            tokio::spawn(async move {
                let mut failures = Vec::new();
                while !is_over.load(Ordering::Relaxed) {
                    match client.try_send(client.request(reqwest::Method::GET, path)).await {
                        Ok(answer) if answer.status == 200 => {
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok(answer) => failures.push(format!("{}: {}", answer.status, answer.text())),
                        Err(error) => failures.push(format!("{error:#}")),
                    }
                }
                failures
            })
        };
        let tasks = (0..lanes).map(|_| lane(client.clone())).collect();
        Self { is_over, answered, tasks }
    }

    async fn until(&self, answered: u64) {
        let target = self.answered.load(Ordering::Relaxed) + answered;
        eventually("more answers", async || (self.answered.load(Ordering::Relaxed) >= target).then_some(())).await;
    }

    /// How many were answered, and what went wrong.
    async fn stop(self) -> (u64, Vec<String>) {
        self.is_over.store(true, Ordering::Relaxed);
        let mut failures = Vec::new();
        for task in self.tasks {
            failures.extend(task.await.expect("a lane"));
        }
        (self.answered.load(Ordering::Relaxed), failures)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_one_host_deploys_runs_on_all_and_a_host_that_was_down_catches_up() {
    let space = space();
    let mut hosts = three(|| Host::with(Manifest::hello()).on(&space)).await;
    assert!(spreads(&hosts, "1").await < SPREAD_MAX);
    let [first, second] = versions();
    let report = deploy(&hosts[0], &second).await;
    let took = spreads(&hosts, "2").await;
    // Once more, when every host has it compiled.
    deploy(&hosts[1], &first).await;
    spreads(&hosts, "1").await;
    deploy(&hosts[2], &second).await;
    let again = spreads(&hosts, "2").await;
    println!("a deploy was live on three hosts {took:?} after its answer; a known build {again:?}");
    assert!(report["revision"].as_i64() > Some(1), "{report}");
    // Each says what it runs.
    let listed = eventually("the hosts to agree", async || {
        let listed = hosts[0].operator().get("/api/admin/hosts").await.expect(200);
        let items = listed["items"].as_array()?.clone();
        let same = items.iter().all(|host| host["plugins"][0]["revision"] == items[0]["plugins"][0]["revision"]);
        (items.len() == 3 && same && items.iter().all(|host| host["state"] == "running")).then_some(items)
    })
    .await;
    assert_eq!(listed.iter().filter(|host| host["isHere"] == true).count(), 1, "{listed:?}");
    changed(200, async || {
        let path = "/api/admin/plugins/hello/rollback?wait";
        hosts[1].operator().post(path, &json!({"revision": 1})).await
    })
    .await;
    spreads(&hosts, "1").await;
    // Down while a build comes that its folder has never seen.
    let down = hosts.pop().expect("a host").kill().await;
    let third = guests::variant(&second, 3);
    deploy(&hosts[0], &third).await;
    spreads(&hosts, "2").await;
    hosts.push(down.start().await);
    spreads(&hosts, "2").await;
    // And one that has never been there.
    hosts.push(Host::with(Manifest::hello()).on(&space).start().await);
    spreads(&hosts, "2").await;
    let plugins = hosts[3].operator().get("/api/admin/plugins").await.expect(200);
    let others = hosts[0].operator().get("/api/admin/plugins").await.expect(200);
    assert_eq!(plugins["items"][0]["sha256"], others["items"][0]["sha256"]);
    // One that stops well leaves the list at once; one that was killed is called lost before it goes.
    let instances = async |host: &Host| -> Vec<(String, bool)> {
        let listed = host.operator().get("/api/admin/hosts").await.expect(200);
        let items = listed["items"].as_array().expect("hosts");
        items.iter().map(|host| (text(host, "instance"), host["isHere"] == true)).collect()
    };
    let leaving = hosts.pop().expect("a host");
    let (instance, _) = instances(&leaving).await.into_iter().find(|(_, is_here)| *is_here).expect("itself");
    eventually("its name on the list", async || {
        instances(&hosts[0]).await.iter().any(|(other, _)| *other == instance).then_some(())
    })
    .await;
    leaving.stop().await;
    assert!(instances(&hosts[0]).await.iter().all(|(other, _)| *other != instance));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn machine_code_is_made_once_for_all_hosts_and_altered_code_is_not_used() {
    let space = space();
    let mut hosts = three(|| Host::with(Manifest::hello()).on(&space)).await;
    let [_, second] = versions();
    let never_seen = || {
        let random = uuid::Uuid::now_v7();
        guests::variant(&second, u32::from_le_bytes(*random.as_bytes().last_chunk().expect("its random end")))
    };
    deploy(&hosts[0], &never_seen()).await;
    spreads(&hosts, "2").await;
    for host in &hosts[1..] {
        assert!(host.log().contains("took machine code that another host compiled"), "{}", host.log());
    }
    let down = hosts.pop().expect("a host").stop().await;
    deploy(&hosts[0], &never_seen()).await;
    let altered =
        "UPDATE berth_machine_code_parts SET bytes = set_byte(bytes, 4000, get_byte(bytes, 4000) # 1) WHERE part = 0";
    assert!(Store::Space(Arc::clone(&space)).change(altered).await > 1);
    let host = down.start().await;
    assert_eq!(version(&host).await.as_deref(), Some("2"));
    assert!(host.log().contains("machine code of another host is not used"), "{}", host.log());
}

/// Waits until every host answers every path with its status.
async fn all_answer(hosts: &[Host], wanted: &[(&str, u16)]) {
    for (path, status) in wanted {
        for host in hosts {
            let what = format!("{status} for {path} from {}", host.base);
            eventually(&what, async || (host.client().get(path).await.status == *status).then_some(())).await;
        }
    }
}

/// Changes an entry, and again while the host still takes over what another one changed.
async fn changed(status: u16, change: impl AsyncFn() -> Answer) {
    eventually("the change", async || {
        let answer = change().await;
        (answer.status != 409).then(|| answer.done(status))
    })
    .await;
}

/// Name to origin of every plugin of a host.
async fn origins(host: &Host) -> Vec<(String, String)> {
    let plugins = host.operator().get("/api/admin/plugins").await.expect(200);
    let text = |plugin: &Value, member: &str| plugin[member].as_str().unwrap_or_default().to_owned();
    let items = plugins["items"].as_array().expect("plugins");
    items.iter().map(|plugin| (text(plugin, "name"), text(plugin, "origin"))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_plugin_that_one_host_adds_changes_and_removes_does_so_on_all_and_on_one_that_was_down() {
    let entry = |routes: &[&str]| {
        let public: Vec<String> = routes.iter().map(|route| format!("{route}/{{*rest}}")).collect();
        format!("routes = {routes:?}\npublic = {public:?}\nisolation = \"plugin\"\n")
    };
    let standard = guests::bytes(&guests::fixture("standard"));
    let space = space();
    let mut hosts = three(|| Host::with(Manifest::hello()).on(&space)).await;

    changed(201, async || add(&hosts[0], "standard", &entry(&["/standard"]), standard.clone()).await).await;
    all_answer(&hosts, &[("/standard/a", 200), ("/api/hello", 200)]).await;
    changed(202, async || set(&hosts[1], "standard", &entry(&["/moved"])).await).await;
    all_answer(&hosts, &[("/moved/a", 200), ("/standard/a", 404)]).await;

    // Down while an entry changes and another comes.
    let down = hosts.pop().expect("a host").kill().await;
    changed(202, async || set(&hosts[0], "standard", &entry(&["/moved", "/further"])).await).await;
    changed(201, async || add(&hosts[1], "second", &entry(&["/second"]), guests::variant(&standard, 2)).await).await;
    let there = [("/further/a", 200), ("/moved/a", 200), ("/second/a", 200), ("/api/hello", 200)];
    all_answer(&hosts, &there).await;
    hosts.push(down.start().await);
    all_answer(&hosts, &there).await;
    // And one that has never been there, whose folder is empty.
    hosts.push(Host::with(Manifest::hello()).on(&space).start().await);
    all_answer(&hosts, &there).await;

    // Down while a plugin of its own and one of the file go.
    let down = hosts.pop().expect("a host").kill().await;
    changed(200, async || remove(&hosts[2], "standard").await).await;
    changed(200, async || remove(&hosts[0], "hello").await).await;
    let gone = [("/further/a", 404), ("/moved/a", 404), ("/api/hello", 404), ("/second/a", 200)];
    all_answer(&hosts, &gone).await;
    hosts.push(down.start().await);
    all_answer(&hosts, &gone).await;
    for host in &hosts {
        assert_eq!(origins(host).await, [("second".to_owned(), "added".to_owned())], "{}", host.base);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_deploys_under_load_over_all_hosts_lose_no_request() {
    let space = space();
    let hosts = three(|| Host::with(Manifest::hello()).on(&space)).await;
    let balancer = Balancer::over(hosts.iter().map(Host::address)).await;
    let versions = versions();
    let knocking = Knocking::at(&balancer, "/api/hello", 6);
    for number in 0..50 {
        deploy(&hosts[number % 3], &versions[(number + 1) % 2]).await;
        knocking.until(20).await;
    }
    let (answered, failures) = knocking.stop().await;
    assert!(failures.is_empty(), "{} of {answered} failed: {:#?}", failures.len(), failures.first());
    // The fiftieth was version 1 again.
    spreads(&hosts, "1").await;
    println!("50 deploys over three hosts, {answered} requests, none lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_killed_host_loses_only_what_it_held_and_the_others_go_on() {
    const WRITERS: usize = 6;
    let space = space();
    let services = || Manifest::services().and(Manifest::of([manifest::ledger()]).text());
    let mut hosts = three(|| Host::with(services()).on(&space)).await;
    let balancer = Balancer::over(hosts.iter().map(Host::address)).await;
    let ada = hosts[0].client().register("ada@example.com", "Harbour").await;
    let client = Client::without_keep_alive(&balancer.base()).with_token(ada.token());
    let writers = Writers::start(&client, WRITERS, 5);
    let notes = |least: u64| {
        let host = &hosts[1];
        async move {
            eventually("the ledger", async || (berth_tests::writers::noted_events(host).await >= least).then_some(()))
                .await;
        }
    };
    notes(60).await;
    let last = hosts.pop().expect("a host");
    drop(last.kill().await);
    let host = &hosts[1];
    let before = berth_tests::writers::noted_events(host).await;
    eventually("more in the ledger", async || {
        (berth_tests::writers::noted_events(host).await >= before + 60).then_some(())
    })
    .await;
    let written = writers.stop().await;
    // One request a writer can have been with the host that died.
    assert!(written.unanswered <= WRITERS, "{} requests had no answer", written.unanswered);
    assert_eq!(written.refused, 0);
    everything_is_there(host, &hosts[0].client().with_token(ada.token()), &written).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_rolling_restart_drops_no_request() {
    let space = space();
    let mut hosts = three(|| Host::with(Manifest::hello()).on(&space).variable("BERTH_STOP_DELAY_SECONDS", "2")).await;
    let balancer = Balancer::over(hosts.iter().map(Host::address)).await;
    let knocking = Knocking::at(&balancer, "/api/hello", 4);
    knocking.until(50).await;
    for _ in 0..3 {
        let host = hosts.remove(0);
        let old = host.address().to_owned();
        let host = host.restart().await;
        balancer.replace(&old, host.address());
        hosts.push(host);
        knocking.until(50).await;
    }
    let (answered, failures) = knocking.stop().await;
    assert!(failures.is_empty(), "{} of {answered} failed: {:#?}", failures.len(), failures.first());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_timer_fires_once_over_all_hosts() {
    let space = space();
    let beating = || Manifest::of([manifest::ledger().with("[plugin.timers]\nbeat = \"1s\"")]);
    let mut hosts = three(|| Host::with(beating()).on(&space)).await;
    let ticks = async |host: &Host, least: u64| {
        eventually("ticks", async || {
            let figures = host.client().get("/ledger").await.expect(200);
            (figures["ticks"].as_u64()? >= least).then_some(figures)
        })
        .await
    };
    ticks(&hosts[0], 4).await;
    // Whoever has sent them so far may be the one that goes.
    hosts.remove(0).kill().await;
    let figures = ticks(&hosts[0], 8).await;
    assert_eq!(figures["ticks"], figures["moments"], "a tick came twice: {figures}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_due_schedule_of_a_prompt_runs_once_over_all_hosts() {
    const SCHEDULES: usize = 20;
    const ROUNDS: usize = 3;
    let space = space();
    let restless = || Manifest::services().with("schedules = \"1m\"", "schedules = \"1s\"");
    let hosts = three(|| Host::with(restless()).on(&space)).await;
    let ada = hosts[0].client().register("ada@example.com", "Harbour").await;
    ada.post("/api/prompts", &json!({"name": "digest", "content": "News"})).await.done(201);
    ada.post("/api/prompts/digest/versions/1/publish", &json!({})).await.done(200);
    let path = "/api/prompts/schedules";
    let mut ids = Vec::new();
    for number in 0..SCHEDULES {
        let schedule =
            json!({"promptId": "digest", "name": format!("n{number}"), "cron": "0 0 1 1 *", "model": "echo"});
        ids.push(text(&ada.post(path, &schedule).await.expect(201), "id"));
    }
    let completed = async || {
        let runs = ada.get("/api/prompts/digest/executions?status=completed&limit=200").await.expect(200);
        runs["items"].as_array().cloned().unwrap_or_default()
    };
    for round in 1..=ROUNDS {
        // All at once, so that every host has some of them at the same moment.
        let due =
            format!("UPDATE prompt_schedules SET next_run_at = '2026-01-0{round}T00:00:00.000Z', last_status = NULL");
        assert_eq!(usize::try_from(hosts[0].store().change(&due).await), Ok(SCHEDULES));
        eventually("every schedule having run", async || {
            let rows =
                hosts[round % 3].client().with_token(ada.token()).get(&format!("{path}?limit=200")).await.expect(200);
            let rows = rows["items"].as_array().cloned().unwrap_or_default();
            rows.iter().all(|row| row["lastStatus"] == "completed").then_some(())
        })
        .await;
        assert_eq!(completed().await.len(), SCHEDULES * round);
    }
    // A run by hand comes through the same queue: when it is over, nothing of the others is left there.
    ada.post(&format!("{path}/{}/run-now", ids[0]), &json!({})).await.done(202);
    let runs = eventually("the run by hand", async || {
        let runs = completed().await;
        (runs.len() > SCHEDULES * ROUNDS).then_some(runs)
    })
    .await;
    for (number, id) in ids.iter().enumerate() {
        let own = runs.iter().filter(|run| run["scheduleId"] == id.as_str()).count();
        assert_eq!(own, ROUNDS + usize::from(number == 0), "of {id}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sessions_and_limits_hold_over_all_hosts() {
    const LIMIT: usize = 20;
    let space = space();
    let limit = LIMIT.to_string();
    let build = || Host::with(Manifest::hello()).on(&space).variable("BERTH_RATE_LIMIT_PER_MINUTE", &limit);
    let hosts = three(build).await;
    let ada = hosts[0].client().register("ada@example.com", "Harbour").await;
    for host in &hosts {
        host.client().with_token(ada.token()).get("/api/auth/me").await.done(200);
    }
    hosts[1].client().with_token(ada.token()).post("/api/auth/logout", &json!({})).await.done(200);
    for host in &hosts {
        assert_eq!(host.client().with_token(ada.token()).get("/api/auth/me").await.status, 401);
    }
    // A minute may end in between, and with it the window; two windows let twice the limit through, and no more.
    let grace = hosts[0].client().register("grace@example.com", "Quay").await;
    let mut passed = 0;
    let is_refused = async |host: &Host| host.client().with_token(grace.token()).get("/api/hello").await.status == 429;
    while !is_refused(&hosts[passed % 3]).await {
        passed += 1;
        assert!(passed <= 2 * LIMIT, "three hosts let {passed} requests through, with a limit of {LIMIT}");
    }
    assert!(passed >= LIMIT / 2, "refused after {passed}");
}
