mod consent;
mod entries;
mod follow;
mod trials;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::json;

use super::{DeployHooks, DeployOptions, Deployer, DeployerOptions, Switched};
use crate::capability::Plugin;
use crate::capability::grant::{Grant, Isolation, Limits};
use crate::capability::queue::{QueueOptions, QueueRoom};
use crate::database::{Database, DatabaseOptions, HOST_MIGRATIONS};
use crate::deploy::fake::{FakeBuild, FakeFoundry, PATIENCE, until};
use crate::deploy::{DeployError, DeployReport, Prefix, Registry, SlotOptions, SlotState};
use crate::signature::TrustedKey;

type FakeDeployer = Deployer<Arc<FakeFoundry>>;

/// A host without guests: real database, real queue, real files.
struct Host {
    deployer: FakeDeployer,
    foundry: Arc<FakeFoundry>,
    database: Database,
    switched: Arc<Noted>,
}

#[derive(Default)]
struct Noted(Mutex<Vec<String>>);

impl DeployHooks for Noted {
    fn switched(&self, switched: &Switched) {
        let line =
            format!("{} {} {:?} {:?}", switched.plugin.name, switched.revision, switched.bindings, switched.timers);
        self.0.lock().push(line);
    }

    fn removed(&self, plugin: &str) {
        self.0.lock().push(format!("{plugin} removed"));
    }
}

/// A fresh database of every kind that can be had: SQLite always, PostgreSQL where `BERTH_TEST_POSTGRES_URL` names one.
async fn databases(folder: &Path) -> Vec<String> {
    let mut urls = vec![format!("sqlite:{}", folder.join("berth.db").display())];
    if let Ok(server) = std::env::var("BERTH_TEST_POSTGRES_URL") {
        // A new database is a checkpoint, which takes long on a busy disk.
        let patient =
            DatabaseOptions { statement_timeout: std::time::Duration::from_secs(60), ..DatabaseOptions::default() };
        let admin = Database::open(&server, patient).await.unwrap();
        let name = format!("berth_deploy_{}", uuid::Uuid::now_v7().simple());
        admin.execute(&format!("CREATE DATABASE {name}"), &[]).await.unwrap();
        let (base, _) = server.rsplit_once('/').unwrap();
        urls.push(format!("{base}/{name}"));
    }
    urls
}

async fn host(folder: &Path, plugins: Vec<SlotOptions>) -> Host {
    host_on(&format!("sqlite:{}", folder.join("berth.db").display()), folder, plugins).await
}

async fn host_on(url: &str, folder: &Path, plugins: Vec<SlotOptions>) -> Host {
    host_trusting(Vec::new(), url, folder, plugins).await
}

async fn host_trusting(keys: Vec<TrustedKey>, url: &str, folder: &Path, plugins: Vec<SlotOptions>) -> Host {
    let database = Database::open(url, DatabaseOptions::default()).await.unwrap();
    database.migrate("host", HOST_MIGRATIONS).await.unwrap();
    let queue = QueueRoom::open(database.clone(), QueueOptions::default()).await.unwrap();
    let foundry = Arc::new(FakeFoundry::default());
    let switched = Arc::new(Noted::default());
    let registry = Arc::new(Registry::new(plugins).unwrap());
    let mut options = DeployerOptions::new(folder.join("artifacts"));
    options.component_bytes_max = 4_096;
    options.step_time_max = Duration::from_millis(300);
    options.trusted_keys = keys;
    let hooks: Vec<Arc<dyn DeployHooks>> = vec![Arc::clone(&switched) as _];
    let deployer = Deployer::new(Arc::clone(&foundry), registry, database.clone(), queue, options, hooks);
    Host { deployer, foundry, database, switched }
}

fn plugin(name: &str, drain: Duration) -> SlotOptions {
    SlotOptions {
        plugin: Arc::new(Plugin {
            name: name.into(),
            grant: Grant { tables: vec!["plan_".into()], consume: vec!["a.#".into()], ..Grant::default() },
            limits: Limits { drain, ..Limits::default() },
            config: BTreeMap::new(),
        }),
        origin: Default::default(),
        component: None,
        prefixes: vec![Prefix::parse(&format!("/api/{name}")).unwrap()],
        public: Vec::new(),
        port: None,
        isolation: Isolation::default(),
        timers: BTreeMap::from([("own".to_owned(), "1h".to_owned())]),
        rate_limits: Vec::new(),
    }
}

fn with_file(mut options: SlotOptions, path: &Path) -> SlotOptions {
    options.component = Some(path.to_owned());
    options
}

async fn done() -> Result<(), DeployError> {
    Ok(())
}

fn component(version: &str) -> Bytes {
    json!({ "version": version }).to_string().into()
}

impl Host {
    async fn deploy(&self, bytes: impl Into<Bytes>) -> Result<DeployReport, DeployError> {
        self.deployer.deploy("plans", bytes.into(), by("operator")).await
    }

    async fn rollback(&self, revision: Option<i64>) -> Result<DeployReport, DeployError> {
        self.deployer.rollback("plans", revision, by("operator")).await
    }

    fn serving(&self) -> Option<Arc<FakeBuild>> {
        self.deployer.registry().slot("plans").unwrap().current()
    }

    fn serves(&self) -> Option<(i64, String)> {
        self.deployer
            .plugins()
            .into_iter()
            .find(|status| status.name == "plans")
            .and_then(|status| status.revision.zip(status.version))
    }

    async fn history(&self) -> Vec<String> {
        let entries = self.deployer.history("plans", 100).await.unwrap();
        let number = |number: Option<i64>| number.map_or("-".to_owned(), |number| number.to_string());
        entries
            .iter()
            .map(|entry| {
                format!(
                    "{} {} {}{}",
                    entry.action,
                    number(entry.revision),
                    entry.outcome,
                    if entry.is_current { " *" } else { "" }
                )
            })
            .collect()
    }

    async fn events(&self) -> Vec<String> {
        let rows =
            self.database.query("SELECT message_type FROM berth_outbox ORDER BY published_at", &[]).await.unwrap();
        rows.iter().map(|row| row.text("message_type").unwrap()).collect()
    }
}

fn by(actor: &str) -> DeployOptions {
    DeployOptions::by(actor)
}

#[tokio::test]
async fn a_deploy_serves_is_recorded_and_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path(), vec![plugin("plans", Duration::from_secs(9))]).await;
    assert_eq!(host.deployer.plugins()[0].state, SlotState::Missing);
    let bytes = json!({
        "version": "1.2.3", "routes": ["GET /api/plans"], "consumes": ["a.b"], "timers": [["due", "15m"], ["own", "1d"]],
        "migrations": [["0001_plans", "CREATE TABLE plan_plans (id TEXT PRIMARY KEY);"]],
    });
    let report = host.deploy(bytes.to_string()).await.unwrap();
    assert_eq!((report.revision, report.previous_revision, report.routes), (1, None, 1));
    assert_eq!(report.migrations, ["0001_plans"]);
    assert_eq!(host.serves(), Some((1, "1.2.3".into())));
    assert_eq!(host.serving().unwrap().warmed.load(Ordering::SeqCst), 2);
    assert_eq!(host.history().await, ["deploy 1 switched *"]);
    assert_eq!(host.events().await, ["host.plugin.deployed"]);
    let entry = &host.deployer.history("plans", 1).await.unwrap()[0];
    assert_eq!((entry.actor.as_str(), entry.version.as_deref()), ("operator", Some("1.2.3")));
    assert_eq!(entry.flip_us, report.flip_us.map(|flip_us| flip_us.try_into().unwrap()));
    assert_eq!(*host.switched.0.lock(), [r#"plans 1 ["a.b"] {"due": "15m", "own": "1h"}"#]);
}

#[tokio::test]
async fn whatever_fails_leaves_the_old_build_serving_and_is_written_down() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path(), vec![plugin("plans", Duration::from_secs(9))]).await;
    host.deploy(component("1")).await.unwrap();
    for (bytes, expected) in [
        (json!("garbage"), "no WebAssembly component"),
        (json!({ "not_granted": true }), "its grant has no `mail`"),
        (json!({ "exports_nothing": true }), "exports none of"),
        (json!({ "routes": ["GET /api/planning"] }), "outside the plugin's routes"),
        (json!({ "migrations": [["0001_x", "DROP TABLE users;"]] }), "migrations are refused"),
        (json!({ "migrations": [["0001_x", "CREATE TABLE other_x (id TEXT);"]] }), "migrations are refused"),
        (json!({ "broken": true }), "trapped while it started"),
        (json!({ "not_ready": "the model is missing" }), "it is not ready: the model is missing"),
        (json!({ "hangs": true }), "longer than 300 ms"),
    ] {
        let error = host.deploy(bytes.to_string()).await.unwrap_err();
        assert!(matches!(error, DeployError::Invalid(_)), "{bytes}: {error:?}");
        assert!(error.to_string().contains(expected), "{bytes}: {error}");
        assert_eq!(host.serves(), Some((1, "1".into())), "{bytes}");
        let line = &host.deployer.history("plans", 1).await.unwrap()[0];
        assert_eq!(
            (line.outcome.as_str(), line.revision, line.reason.as_deref()),
            ("failed", None, Some(&*error.to_string()))
        );
    }
    assert!(matches!(host.deploy(vec![b' '; 4_097]).await, Err(DeployError::TooLarge(4_096))));
    assert_eq!(host.events().await.iter().filter(|event| *event == "host.plugin.failed").count(), 9);
    until("the refused builds are dropped", || host.foundry.alive.load(Ordering::SeqCst) == 1).await;
    assert_eq!(std::fs::read_dir(folder.path().join("artifacts")).unwrap().count(), 1, "a refused build was kept");
    // The numbers have no gaps, and the next good build is taken.
    assert_eq!(host.deploy(component("2")).await.unwrap().revision, 2);
}

#[tokio::test]
async fn a_second_deploy_at_once_is_refused_and_another_plugin_is_not_held_up() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = DeployerOptions::new(folder.path().join("artifacts"));
    options.step_time_max = PATIENCE;
    let host = host(folder.path(), vec![plugin("plans", PATIENCE), plugin("tasks", PATIENCE)]).await;
    let slow = Deployer::new(
        Arc::clone(&host.foundry),
        Arc::clone(host.deployer.registry()),
        host.database.clone(),
        QueueRoom::open(host.database.clone(), QueueOptions::default()).await.unwrap(),
        options,
        Vec::new(),
    );
    let waiting = json!({ "waits": true, "version": "1" }).to_string();
    let first = tokio::spawn({
        let slow = slow.clone();
        async move { slow.deploy("plans", waiting.into(), by("a")).await }
    });
    until("the first deploy waits for ready", || host.foundry.gate.waiting.load(Ordering::SeqCst) == 1).await;
    let second = slow.deploy("plans", component("2"), by("b")).await;
    assert!(matches!(second, Err(DeployError::Conflict(_))), "{second:?}");
    assert!(matches!(slow.rollback("plans", None, by("b")).await, Err(DeployError::Conflict(_))));
    slow.deploy("tasks", component("2"), by("b")).await.unwrap();
    host.foundry.gate.open();
    assert_eq!(first.await.unwrap().unwrap().version.as_deref(), Some("1"));
    assert_eq!(host.history().await, ["deploy 1 switched *"]);
}

#[tokio::test]
async fn a_client_that_goes_away_does_not_stop_a_deploy_half_way() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path(), vec![plugin("plans", PATIENCE)]).await;
    let waiting = Bytes::from(json!({ "waits": true, "version": "1" }).to_string());
    {
        let deploying = host.deploy(waiting);
        tokio::pin!(deploying);
        tokio::select! {
            _ = &mut deploying => panic!("it should wait for the gate"),
            () = until("the deploy waits for ready", || host.foundry.gate.waiting.load(Ordering::SeqCst) == 1) => {}
        }
    }
    host.foundry.gate.open();
    until("the build serves", || host.serves().is_some()).await;
}

#[tokio::test]
async fn an_old_build_keeps_what_it_began_until_its_last_call_ends() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path(), vec![plugin("plans", PATIENCE)]).await;
    host.deploy(component("1")).await.unwrap();
    let old = host.serving().unwrap();
    let call = old.call();
    let report = host.deploy(component("2")).await.unwrap();
    assert_eq!((report.previous_revision, report.drained_ms), (Some(1), None));
    assert_eq!(host.serves(), Some((2, "2".into())));
    let status = &host.deployer.plugins()[0];
    assert_eq!((status.state, status.in_flight, status.draining), (SlotState::Draining, 1, 1));
    assert!(old.is_retired.load(Ordering::SeqCst) && !old.is_cancelled.load(Ordering::SeqCst));
    drop(call);
    until("the old build has gone", || host.deployer.plugins()[0].state == SlotState::Loaded).await;
    assert!(!old.is_cancelled.load(Ordering::SeqCst));
    drop(old);
    until("the old build is dropped", || host.foundry.alive.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test]
async fn a_call_that_outlives_the_drain_is_cancelled_and_that_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path(), vec![plugin("plans", Duration::from_millis(20))]).await;
    host.deploy(component("1")).await.unwrap();
    let old = host.serving().unwrap();
    let _call = old.call();
    let options = DeployOptions { waits_for_drain: true, ..DeployOptions::by("operator") };
    let report = host.deployer.deploy("plans", component("2"), options).await.unwrap();
    assert_eq!(report.is_cut_short, Some(true));
    assert!(report.drained_ms.unwrap() >= 20 && old.is_cancelled.load(Ordering::SeqCst));
    let entry = host.deployer.history("plans", 1).await.unwrap().remove(0);
    assert_eq!((entry.is_cut_short, entry.drained_ms.is_some()), (Some(true), true));
}

#[tokio::test]
async fn a_rollback_goes_back_build_by_build_and_needs_no_compile() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path(), vec![plugin("plans", PATIENCE)]).await;
    assert!(matches!(host.rollback(None).await, Err(DeployError::UnknownRevision(_))));
    for version in ["1", "2", "2", "3"] {
        host.deploy(component(version)).await.unwrap();
    }
    let compiled = host.foundry.compiled.load(Ordering::SeqCst);
    assert_eq!(compiled, 3, "the same component was compiled twice");
    let report = host.rollback(None).await.unwrap();
    assert_eq!((report.action, report.revision, report.previous_revision), ("rollback", 3, Some(4)));
    // The build before has other contents: revision 2 is the same component as revision 3.
    assert_eq!(host.rollback(None).await.unwrap().revision, 1);
    assert!(matches!(host.rollback(None).await, Err(DeployError::UnknownRevision(_))));
    assert_eq!(host.rollback(Some(4)).await.unwrap().version.as_deref(), Some("3"));
    assert!(matches!(host.rollback(Some(4)).await, Err(DeployError::Conflict(_))));
    assert!(matches!(host.rollback(Some(9)).await, Err(DeployError::UnknownRevision(_))));
    assert_eq!(host.foundry.compiled.load(Ordering::SeqCst), compiled);
    let lines = host.history().await;
    assert_eq!(
        lines[..4],
        ["rollback 4 switched", "rollback 1 switched", "rollback 3 switched", "deploy 4 switched *"]
    );
    assert_eq!(host.events().await.iter().filter(|event| *event == "host.plugin.rolled_back").count(), 3);
    // A deploy after a rollback has a number of its own.
    assert_eq!(host.deploy(component("5")).await.unwrap().revision, 5);
}

#[tokio::test]
async fn a_restart_serves_what_served_before() {
    let folder = tempfile::tempdir().unwrap();
    for (number, url) in databases(folder.path()).await.iter().enumerate() {
        let folder = folder.path().join(number.to_string());
        std::fs::create_dir(&folder).unwrap();
        let plugins = || vec![plugin("plans", PATIENCE), plugin("tasks", PATIENCE)];
        let first = host_on(url, &folder, plugins()).await;
        first.deploy(component("1")).await.unwrap();
        first.deploy(component("2")).await.unwrap();
        first.deploy("garbage").await.unwrap_err();
        first.rollback(None).await.unwrap();
        first.deployer.stop(PATIENCE).await;
        assert!(first.history().await.len() == 4 && first.events().await.len() == 4);
        drop(first);

        let second = host_on(url, &folder, plugins()).await;
        second.deployer.start().await.unwrap();
        assert_eq!(second.serves(), Some((1, "1".into())));
        let compiled = || second.foundry.compiled.load(Ordering::SeqCst);
        until("the build that a rollback may ask for is compiled ahead", || compiled() == 2).await;
        assert_eq!(second.deployer.plugins()[1].state, SlotState::Missing);
        let lines = ["rollback 1 switched", "deploy - failed", "deploy 2 switched", "deploy 1 switched *"];
        assert_eq!(second.history().await, lines);
        // The component comes from its file.
        assert_eq!(second.rollback(Some(2)).await.unwrap().version.as_deref(), Some("2"));
        assert_eq!(second.deploy(component("3")).await.unwrap().revision, 3);
        second.deployer.tidy_components().await;
    }
}

#[tokio::test]
async fn a_changed_component_file_is_deployed_at_start_and_an_unchanged_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plans.wasm");
    let start = async || {
        let host = host(folder.path(), vec![with_file(plugin("plans", PATIENCE), &path)]).await;
        host.deployer.start().await.unwrap();
        host
    };
    let first = start().await;
    assert_eq!(first.deployer.plugins()[0].state, SlotState::Missing);
    assert!(first.deployer.plugins()[0].failure.as_ref().unwrap().contains("plans.wasm"));

    std::fs::write(&path, component("file 1")).unwrap();
    assert_eq!(start().await.serves(), Some((1, "file 1".into())));
    let again = start().await;
    assert_eq!(again.serves(), Some((1, "file 1".into())));
    again.deploy(component("api 2")).await.unwrap();
    drop(again);
    assert_eq!(start().await.serves(), Some((2, "api 2".into())), "an unchanged file overrode a later deploy");

    std::fs::write(&path, component("file 3")).unwrap();
    assert_eq!(start().await.serves(), Some((3, "file 3".into())));
    // A file that cannot be deployed leaves the recorded build serving.
    std::fs::write(&path, "garbage").unwrap();
    let broken = start().await;
    assert_eq!(broken.serves(), Some((3, "file 3".into())));
    assert_eq!(broken.history().await[0], "deploy - failed");
}

#[tokio::test]
async fn one_plugin_that_cannot_be_loaded_stops_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let (good, bad) = (folder.path().join("good.wasm"), folder.path().join("bad.wasm"));
    std::fs::write(&good, component("1")).unwrap();
    std::fs::write(&bad, json!({ "not_ready": "no" }).to_string()).unwrap();
    let plugins = vec![with_file(plugin("plans", PATIENCE), &bad), with_file(plugin("tasks", PATIENCE), &good)];
    let host = host(folder.path(), plugins).await;
    host.deployer.start().await.unwrap();
    let status = host.deployer.plugins();
    assert_eq!((status[0].state, status[1].state), (SlotState::Failed, SlotState::Loaded));
    assert!(status[0].failure.as_ref().unwrap().contains("it is not ready: no"));
    assert_eq!(host.history().await, ["deploy - failed"]);
    // A good build repairs it.
    host.deploy(component("2")).await.unwrap();
    assert_eq!(host.deployer.plugins()[0].state, SlotState::Loaded);
}

#[tokio::test]
async fn a_damaged_component_fails_the_start_of_its_plugin_and_a_rollback_repairs_it() {
    let folder = tempfile::tempdir().unwrap();
    let plugins = || vec![plugin("plans", PATIENCE)];
    let first = host(folder.path(), plugins()).await;
    first.deploy(component("1")).await.unwrap();
    let digest = first.deploy(component("2")).await.unwrap().sha256;
    std::fs::write(folder.path().join("artifacts").join(format!("{digest}.wasm")), "damaged").unwrap();
    drop(first);

    let second = host(folder.path(), plugins()).await;
    second.deployer.start().await.unwrap();
    assert_eq!(second.deployer.plugins()[0].state, SlotState::Failed);
    assert_eq!(second.history().await[0], "start - failed");
    assert_eq!(second.rollback(None).await.unwrap().revision, 1);
    assert_eq!(second.serves(), Some((1, "1".into())));
}

#[tokio::test]
async fn a_database_that_cannot_record_leaves_the_old_build_serving() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path(), vec![plugin("plans", PATIENCE)]).await;
    host.deploy(component("1")).await.unwrap();
    host.database.execute("ALTER TABLE berth_plugins RENAME TO gone", &[]).await.unwrap();
    let error = host.deploy(component("2")).await.unwrap_err();
    assert!(matches!(error, DeployError::Internal(_)), "{error:?}");
    assert_eq!(host.serves(), Some((1, "1".into())));
    assert!(!host.events().await.iter().skip(1).any(|event| event == "host.plugin.deployed"));
    host.database.execute("ALTER TABLE gone RENAME TO berth_plugins", &[]).await.unwrap();
    assert_eq!(host.deploy(component("2")).await.unwrap().revision, 2);
}

#[tokio::test]
async fn many_swaps_keep_five_builds_compiled_and_twenty_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path(), vec![plugin("plans", PATIENCE)]).await;
    for version in 0..40 {
        let options = DeployOptions { waits_for_drain: true, ..DeployOptions::by("operator") };
        host.deployer.deploy("plans", component(&version.to_string()), options).await.unwrap();
    }
    until("old builds are dropped", || host.foundry.alive.load(Ordering::SeqCst) == 1).await;
    let slot = host.deployer.registry().slot("plans").unwrap();
    // The present one, the three before it, and room for one on trial.
    assert_eq!(host.deployer.bench(slot.name()).compiled.lock().len(), 5);
    until("old components are removed", || host.foundry.forgotten.lock().len() == 20).await;
    assert_eq!(std::fs::read_dir(folder.path().join("artifacts")).unwrap().count(), 20);
    assert!(matches!(host.rollback(Some(3)).await, Err(DeployError::UnknownRevision(_))));
    assert_eq!(host.rollback(Some(30)).await.unwrap().version.as_deref(), Some("29"));
}

#[tokio::test]
async fn a_changed_manifest_is_taken_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path(), vec![plugin("plans", PATIENCE), plugin("tasks", PATIENCE)]).await;
    host.deploy(json!({ "routes": ["GET /api/plans/{id}"], "version": "1" }).to_string()).await.unwrap();
    host.deployer.deploy("tasks", component("1"), by("operator")).await.unwrap();
    let before = host.serving().unwrap();

    let mut elsewhere = plugin("plans", PATIENCE);
    elsewhere.prefixes = vec![Prefix::parse("/api/roadmaps").unwrap()];
    let refused = host.deployer.take(vec![elsewhere, plugin("tasks", PATIENCE)], None, done()).await.unwrap_err();
    assert!(refused.to_string().contains("plans does not fit the new manifest"), "{refused}");
    assert!(Arc::ptr_eq(&host.serving().unwrap(), &before));
    assert!(host.deployer.registry().route("/api/roadmaps").is_none());

    let path = folder.path().join("new.wasm");
    std::fs::write(&path, component("new")).unwrap();
    let wider = plugin("plans", Duration::from_secs(1));
    let unrecorded = async { Err(DeployError::Conflict("nobody writes it down".into())) };
    let refused = host.deployer.take(vec![wider.clone()], None, unrecorded).await.unwrap_err();
    assert!(matches!(refused, DeployError::Conflict(_)) && Arc::ptr_eq(&host.serving().unwrap(), &before));

    let old = host.deployer.registry().slot("plans").unwrap();
    host.deployer.take(vec![wider, with_file(plugin("new", PATIENCE), &path)], None, done()).await.unwrap();
    assert!(Arc::ptr_eq(&old.current().unwrap(), &before), "whoever found the old slot has its build");
    let after = host.serving().unwrap();
    assert!(!Arc::ptr_eq(&after, &before) && host.serves() == Some((1, "1".into())));
    assert!(host.deployer.registry().route("/api/tasks").is_none());
    assert_eq!(host.deployer.registry().route("/api/new/x").unwrap().state(), SlotState::Loaded);
    assert!(host.switched.0.lock().contains(&"tasks removed".to_owned()));
}

#[tokio::test]
async fn a_stop_waits_for_what_runs_and_then_cancels_it() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path(), vec![plugin("plans", PATIENCE)]).await;
    host.deploy(component("1")).await.unwrap();
    let build = host.serving().unwrap();
    let _call = build.call();
    host.deployer.stop(Duration::from_millis(10)).await;
    assert!(build.is_cancelled.load(Ordering::SeqCst));
    assert!(host.serving().is_none());
}

#[tokio::test]
async fn an_unknown_plugin_is_unknown_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path(), vec![plugin("plans", PATIENCE)]).await;
    assert!(matches!(host.deployer.deploy("x", component("1"), by("a")).await, Err(DeployError::UnknownPlugin(_))));
    assert!(matches!(host.deployer.rollback("x", None, by("a")).await, Err(DeployError::UnknownPlugin(_))));
    assert!(matches!(host.deployer.history("x", 1).await, Err(DeployError::UnknownPlugin(_))));
}

#[tokio::test]
async fn failures_push_nothing_out_that_a_rollback_may_ask_for() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path(), vec![plugin("plans", PATIENCE)]).await;
    host.deploy(component("1")).await.unwrap();
    host.deploy(component("2")).await.unwrap();
    // As a host leaves them that ends soon after each of its starts.
    let sql = "INSERT INTO berth_versions (id, plugin, action, origin, sha256, size_bytes, actor, outcome, prepare_ms, created_at) \
               WITH RECURSIVE numbers (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < 1500) \
               SELECT 'z' || number, 'plans', 'start', 'api', '', 0, 'host', 'failed', 0, $1 FROM numbers";
    host.database.execute(sql, &crate::database::values![chrono::Utc::now()]).await.unwrap();
    host.deployer.inner.history.prune("plans").await;
    let lines = host.database.query_one("SELECT COUNT(*) AS lines FROM berth_versions", &[]).await.unwrap().unwrap();
    assert_eq!(lines.integer("lines").unwrap(), 1_002);
    assert_eq!(host.rollback(None).await.unwrap().revision, 1);
}
