//! What is asked before a swap, and what a plan leaves as it was.

use super::*;
use crate::deploy::PlanReport;
use crate::signature::Signer;

const DATABASE: &str = "berth:platform/database@0.1.0";
const EGRESS: &str = "wasi:http/outgoing-handler@0.2.12";

/// A plugin that may call `plans`.
fn caller(name: &str) -> SlotOptions {
    let mut options = plugin(name, PATIENCE);
    options.plugin = Arc::new(Plugin {
        name: name.into(),
        grant: Grant { call: vec!["plans".into()], ..Grant::default() },
        limits: Limits::default(),
        config: BTreeMap::new(),
    });
    options
}

fn granting() -> DeployOptions {
    DeployOptions { grants: true, ..by("operator") }
}

fn forcing() -> DeployOptions {
    DeployOptions { forces: true, ..by("operator") }
}

impl Host {
    async fn deploy_as(&self, bytes: impl Into<Bytes>, options: DeployOptions) -> Result<DeployReport, DeployError> {
        self.deployer.deploy("plans", bytes.into(), options).await
    }

    async fn plan(&self, bytes: impl Into<Bytes>) -> Result<PlanReport, DeployError> {
        self.deployer.plan("plans", bytes.into(), by("operator")).await
    }
}

#[tokio::test]
async fn a_build_that_wants_more_waits_until_somebody_accepts_it() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path(), vec![plugin("plans", PATIENCE)]).await;
    let narrow = json!({ "version": "1", "consumes": ["a.*"] }).to_string();
    let wide = json!({
        "version": "2", "imports": [DATABASE, "wasi:io/poll@0.2.12"], "consumes": ["a.b", "a.#"],
        "timers": [["due", "15m"]], "migrations": [["0001_plans", "CREATE TABLE plan_plans (id TEXT PRIMARY KEY);"]],
    })
    .to_string();
    // The first build is what the manifest names: there is nothing to compare it with.
    let first = host.deploy(narrow.clone()).await.unwrap().changes.unwrap();
    assert_eq!((first.wants, first.newly_wants), (vec!["consume a.*".to_owned()], Vec::new()));

    let refused = host.deploy(wide.clone()).await.unwrap_err();
    let DeployError::WantsMore(sentence) = &refused else { panic!("{refused:?}") };
    assert!(sentence.contains("newly wants: tables plan_, timer due, consume a.#; "), "{sentence}");
    assert!(sentence.contains("--grant"), "{sentence}");
    assert_eq!(host.serves(), Some((1, "1".into())));
    assert_eq!(host.history().await, ["deploy - failed", "deploy 1 switched *"]);
    let sql = "SELECT name FROM berth_migrations WHERE owner = 'plans'";
    assert_eq!(host.database.query(sql, &[]).await.unwrap().len(), 0, "a refused build was migrated");
    // Force is another question.
    assert!(matches!(host.deploy_as(wide.clone(), forcing()).await, Err(DeployError::WantsMore(_))));

    let report = host.deploy_as(wide.clone(), granting()).await.unwrap();
    assert_eq!(report.changes.unwrap().newly_wants, ["tables plan_", "timer due", "consume a.#"]);
    let entry = &host.deployer.history("plans", 1).await.unwrap()[0];
    assert_eq!(entry.reason.as_deref(), Some("granted: tables plan_, timer due, consume a.#"));
    // Less is no question, and neither is the way back to what was accepted once.
    let back = host.rollback(Some(1)).await.unwrap();
    assert_eq!(back.changes, None);
    host.rollback(Some(2)).await.unwrap();
    let less = host.deploy(narrow).await.unwrap().changes.unwrap();
    assert_eq!(less.no_longer_wants, ["tables plan_", "timer due", "consume a.#"]);
}

#[tokio::test]
async fn a_build_on_trial_is_asked_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path(), vec![plugin("plans", PATIENCE)]).await;
    host.deploy(component("1")).await.unwrap();
    let wide = json!({ "version": "2", "imports": [DATABASE] }).to_string();
    let shadow = DeployOptions { rollout: crate::deploy::Rollout::Shadow, ..by("operator") };
    assert!(matches!(host.deploy_as(wide.clone(), shadow.clone()).await, Err(DeployError::WantsMore(_))));
    let report = host.deploy_as(wide, DeployOptions { grants: true, ..shadow }).await.unwrap();
    assert_eq!(report.changes.unwrap().newly_wants, ["tables plan_"]);
}

#[tokio::test]
async fn routes_that_others_may_call_stay_unless_forced() {
    let folder = tempfile::tempdir().unwrap();
    let plugins = vec![plugin("plans", PATIENCE), caller("tasks"), caller("idle"), plugin("alone", PATIENCE)];
    let host = host(folder.path(), plugins).await;
    let many = json!({ "version": "1", "routes": ["GET /api/plans/{id}", "POST /api/plans"] }).to_string();
    let renamed = json!({ "version": "2", "routes": ["GET /api/plans/{plan}", "POST /api/plans"] }).to_string();
    let fewer = json!({ "version": "3", "routes": ["GET /api/plans/{*rest}"] }).to_string();
    host.deploy(many.clone()).await.unwrap();
    // Nobody is loaded who could call it.
    let unused = host.deploy(fewer.clone()).await.unwrap().changes.unwrap();
    assert_eq!((unused.lost_routes, unused.callers), (vec!["POST /api/plans".to_owned()], Vec::new()));
    host.deploy(many).await.unwrap();

    for (name, imports) in [("tasks", [EGRESS]), ("idle", [DATABASE]), ("alone", [EGRESS])] {
        let bytes = json!({ "version": "1", "imports": imports }).to_string();
        host.deployer.deploy(name, bytes.into(), by("operator")).await.unwrap();
    }
    host.deploy(renamed).await.unwrap();
    let refused = host.deploy(fewer.clone()).await.unwrap_err();
    let DeployError::RoutesInUse(sentence) = &refused else { panic!("{refused:?}") };
    assert!(sentence.contains("no longer has POST /api/plans, which tasks may call"), "{sentence}");
    assert!(sentence.contains("--force"), "{sentence}");
    assert!(matches!(host.deploy_as(fewer.clone(), granting()).await, Err(DeployError::RoutesInUse(_))));
    let report = host.deploy_as(fewer, forcing()).await.unwrap();
    assert_eq!(report.changes.unwrap().callers, ["tasks"]);
    let entry = &host.deployer.history("plans", 1).await.unwrap()[0];
    assert_eq!(entry.reason.as_deref(), Some("forced: without POST /api/plans"));
}

#[tokio::test]
async fn a_plan_tells_everything_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path(), vec![plugin("plans", PATIENCE), caller("tasks")]).await;
    let first = json!({ "version": "1", "routes": ["GET /api/plans"], "migrations": [["0001_a", "CREATE TABLE plan_a (id TEXT);"]] });
    host.deploy(first.to_string()).await.unwrap();
    let bytes = json!({ "version": "1", "imports": [EGRESS] }).to_string();
    host.deployer.deploy("tasks", bytes.into(), by("operator")).await.unwrap();
    let (lines, events) = (host.history().await, host.events().await);

    let second = json!({
        "version": "2", "imports": [DATABASE],
        "migrations": [["0001_a", "CREATE TABLE plan_a (id TEXT);"], ["0002_b", "CREATE TABLE plan_b (id TEXT);"]],
    });
    let plan = host.plan(second.to_string()).await.unwrap();
    assert_eq!((plan.revision, plan.previous_revision, plan.version.as_deref()), (2, Some(1), Some("2")));
    assert_eq!(plan.needs, ["grant", "force"]);
    assert_eq!(plan.changes.newly_wants, ["tables plan_"]);
    assert_eq!((plan.changes.lost_routes, plan.changes.callers), (vec!["GET /api/plans".into()], vec!["tasks".into()]));
    let migrations: Vec<_> = plan.migrations.iter().map(|step| (step.name.as_str(), step.statements)).collect();
    assert_eq!(migrations, [("0002_b", 1)]);

    for (bytes, expected) in [
        ("garbage".to_owned(), "no WebAssembly component"),
        (json!({ "migrations": [["0002_b", "DROP TABLE plan_a;"]] }).to_string(), "migrations are refused"),
        (json!({ "migrations": [["0001_a", "CREATE TABLE plan_z (id TEXT);"]] }).to_string(), "changed after"),
    ] {
        let error = host.plan(bytes).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    assert!(matches!(host.plan(vec![b' '; 4_097]).await, Err(DeployError::TooLarge(4_096))));
    assert_eq!(host.serves(), Some((1, "1".into())));
    assert_eq!((host.history().await, host.events().await), (lines, events));
    until("the planned builds are dropped", || host.foundry.alive.load(Ordering::SeqCst) == 2).await;
    let sql = "SELECT name FROM berth_migrations WHERE owner = 'plans'";
    assert_eq!(host.database.query(sql, &[]).await.unwrap().len(), 1, "a plan migrated");
}

#[tokio::test]
async fn where_keys_are_trusted_only_what_they_signed_is_deployed() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Signer::generate(), Signer::generate());
    let url = format!("sqlite:{}", folder.path().join("berth.db").display());
    let file = folder.path().join("plans.wasm");
    let plugins = || vec![with_file(plugin("plans", PATIENCE), &file)];
    let start = async |keys: Vec<TrustedKey>| {
        let host = host_trusting(keys, &url, folder.path(), plugins()).await;
        host.deployer.start().await.unwrap();
        host
    };
    let trusted = || vec![TrustedKey::parse(&ours.public_key()).unwrap()];
    let before = start(Vec::new()).await;
    before.deploy(component("unsigned 1")).await.unwrap();
    before.deploy(component("unsigned 2")).await.unwrap();
    drop(before);

    // What is recorded was judged when it was deployed.
    let host = start(trusted()).await;
    assert_eq!(host.serves(), Some((2, "unsigned 2".into())));
    let signed =
        |by_whom: &Signer, what: &Bytes| DeployOptions { signature: Some(by_whom.sign(what)), ..by("operator") };
    let bytes = component("3");
    for (options, expected) in [
        (by("operator"), "has no signature"),
        (signed(&theirs, &bytes), "by any of the host's trusted_keys"),
        (signed(&ours, &component("4")), "of these bytes"),
        (DeployOptions { signature: Some("?".into()), ..by("operator") }, "in base64"),
    ] {
        let planned = host.deployer.plan("plans", bytes.clone(), options.clone()).await.unwrap_err();
        let error = host.deploy_as(bytes.clone(), options).await.unwrap_err();
        assert!(matches!(&error, DeployError::Invalid(sentence) if sentence.contains(expected)), "{error:?}");
        assert_eq!(planned.to_string(), error.to_string());
    }
    assert_eq!(host.serves(), Some((2, "unsigned 2".into())));
    host.deploy_as(bytes.clone(), signed(&ours, &bytes)).await.unwrap();
    assert!(host.deployer.history("plans", 1).await.unwrap()[0].is_signed);
    assert_eq!(host.rollback(Some(1)).await.unwrap().version.as_deref(), Some("unsigned 1"));
    drop(host);

    // A new file of the manifest is a deploy, and its signature lies beside it.
    std::fs::write(&file, component("file")).unwrap();
    let host = start(trusted()).await;
    assert_eq!(host.serves(), Some((1, "unsigned 1".into())));
    assert_eq!(host.history().await[0], "deploy - failed");
    drop(host);
    std::fs::write(folder.path().join("plans.wasm.sig"), ours.sign(&component("file")) + "\n").unwrap();
    assert_eq!(start(trusted()).await.serves().map(|(_, version)| version), Some("file".into()));
}
