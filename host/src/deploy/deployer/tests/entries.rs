//! Plugins added, changed and removed while the host runs.

use super::*;
use crate::deploy::{EntryChange, Standing};
use crate::plugins_file::{EntryOrigin, Fault, FaultKind, ManifestFile};

const PLANS: &str = "[[plugin]]\nname = \"plans\"\ncomponent = \"plans.wasm\"\nroutes = [\"/api/plans\"]\n";
const NOTES: &str = "routes = [\"/api/notes\"]\n[grant]\ntables = [\"note_\"]\nconsume = [\"a.#\"]\n";

pub(super) fn file(text: &str) -> ManifestFile {
    ManifestFile::new("plugins.toml", Path::new("/nowhere"), text.to_owned()).unwrap()
}

/// A started host whose plugins come from a manifest and from what is recorded.
async fn host_of(url: &str, folder: &Path, text: &str) -> Result<Host, DeployError> {
    let database = Database::open(url, DatabaseOptions::default()).await.unwrap();
    database.migrate("host", HOST_MIGRATIONS).await.unwrap();
    let queue = QueueRoom::open(database.clone(), QueueOptions::default()).await.unwrap();
    let (standing, manifest) = Standing::open(&database, &queue, Arc::new(file(text)), false).await?;
    let slots = manifest.plugins.iter().map(|entry| SlotOptions::new(entry, false).unwrap()).collect();
    let host = host_on(url, folder, slots).await;
    host.deployer.stand_on(standing).await;
    host.deployer.start().await.unwrap();
    Ok(host)
}

impl Host {
    async fn add(&self, name: &str, entry: &str, version: &str) -> Result<DeployReport, DeployError> {
        self.deployer.add(name, entry.to_owned(), component(version), by("operator")).await
    }

    async fn merge(&self, name: &str, keys: &str) -> Result<bool, DeployError> {
        let change = EntryChange::Merge(keys.to_owned());
        self.deployer.change(name, change, by("operator")).await.map(|report| report.has_changed)
    }

    async fn remove(&self, name: &str) -> Result<(), DeployError> {
        let options = DeployOptions { waits_for_drain: true, ..by("operator") };
        self.deployer.change(name, EntryChange::Remove, options).await.map(drop)
    }

    /// Name, origin, revision and prefixes of every plugin.
    fn stands(&self) -> Vec<(String, EntryOrigin, Option<i64>, String)> {
        let plugins = self.deployer.plugins().into_iter();
        plugins.map(|plugin| (plugin.name, plugin.origin, plugin.revision, plugin.prefixes.join(" "))).collect()
    }
}

fn stand(
    name: &str,
    origin: EntryOrigin,
    revision: Option<i64>,
    prefixes: &str,
) -> (String, EntryOrigin, Option<i64>, String) {
    (name.to_owned(), origin, revision, prefixes.to_owned())
}

fn faults(error: DeployError) -> Vec<Fault> {
    match error {
        DeployError::Faulty(faults) => faults,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_plugin_comes_changes_and_goes_and_a_restart_knows_it() {
    let folder = tempfile::tempdir().unwrap();
    for (number, url) in databases(folder.path()).await.iter().enumerate() {
        let folder = folder.path().join(number.to_string());
        let start = async || host_of(url, &folder, PLANS).await.unwrap();
        let plans = || stand("plans", EntryOrigin::File, None, "/api/plans");
        let host = start().await;
        assert_eq!(host.stands(), [plans()]);
        assert_eq!(host.add("notes", NOTES, "1").await.unwrap().revision, 1);
        assert_eq!(host.stands(), [stand("notes", EntryOrigin::Added, Some(1), "/api/notes"), plans()]);
        let entry = host.deployer.entry("notes").await.unwrap();
        assert!(entry.contains("name = \"notes\"\n") && entry.contains("tables = [\"note_\"]"), "{entry}");
        assert!(matches!(host.add("notes", NOTES, "2").await, Err(DeployError::Conflict(_))));

        let old = host.deployer.registry().slot("notes").unwrap();
        let call = old.current().unwrap().call();
        assert!(host.merge("notes", "routes = [\"/api/notes\", \"/api/jottings\"]\ngrant.cache = true").await.unwrap());
        assert!(!host.merge("notes", "grant.cache = true").await.unwrap(), "nothing is different");
        let new = host.deployer.registry().route("/api/jottings/1").unwrap();
        assert!(new.plugin().grant.cache && !old.plugin().grant.cache && new.plugin().grant.tables == ["note_"]);
        assert!(!Arc::ptr_eq(&new.current().unwrap(), &old.current().unwrap()));
        assert_eq!(new.state(), SlotState::Draining, "the call under the old entry still runs");
        drop(call);
        until("the old build has gone", || new.state() == SlotState::Loaded).await;

        let host = start().await;
        let notes = stand("notes", EntryOrigin::Added, Some(1), "/api/notes /api/jottings");
        assert_eq!(host.stands(), [notes, plans()]);
        host.remove("notes").await.unwrap();
        assert_eq!(host.stands(), [plans()]);
        assert!(host.deployer.registry().route("/api/notes").is_none());
        assert!(host.switched.0.lock().contains(&"notes removed".to_owned()));
        assert_eq!(host.deployer.history("notes", 9).await.unwrap().len(), 1, "its history can be read");
        assert!(matches!(host.remove("notes").await, Err(DeployError::UnknownPlugin(_))));
        assert!(host.deployer.inner.benches.lock().get("notes").is_none());

        let host = start().await;
        assert_eq!(host.stands(), [plans()]);
        assert_eq!(host.add("notes", NOTES, "1").await.unwrap().revision, 2, "its builds go on counting");
        host.remove("plans").await.unwrap();
        assert_eq!(start().await.stands(), [stand("notes", EntryOrigin::Added, Some(2), "/api/notes")]);
    }
}

#[tokio::test]
async fn what_is_refused_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("berth.db").display());
    let host = host_of(&url, folder.path(), PLANS).await.unwrap();
    host.add("notes", NOTES, "1").await.unwrap();
    let before = host.stands();

    let found =
        faults(host.add("jots", "routes = [\"/api/plans/x\"]\ncolour = 1\ngrant.table = 1", "1").await.unwrap_err());
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found.iter().all(|fault| fault.file == "entry of jots" && fault.line.is_some()), "{found:?}");
    let taken = faults(host.merge("notes", "routes = [\"/api/plans\"]").await.unwrap_err());
    assert!(taken.iter().all(|fault| fault.kind == FaultKind::Taken && fault.line.is_none()), "{taken:?}");
    assert_eq!(faults(host.merge("notes", "colour = 1").await.unwrap_err()).len(), 1);

    let unfit = json!({ "version": "1", "not_granted": true }).to_string();
    let refused = host.deployer.add("jots", "routes = [\"/api/jots\"]".into(), unfit.into(), by("operator")).await;
    assert!(matches!(refused, Err(DeployError::Invalid(_))), "{refused:?}");
    assert!(host.deployer.registry().route("/api/jots").is_none());
    assert!(host.deployer.inner.benches.lock().get("jots").is_none());

    // Nobody may go whom another one calls.
    assert!(host.merge("notes", "grant.call = [\"plans\"]").await.unwrap());
    let needed = faults(host.remove("plans").await.unwrap_err());
    assert!(needed.iter().all(|fault| fault.kind == FaultKind::Taken), "{needed:?}");
    assert_eq!(host.stands(), before);
    assert_eq!(host_of(&url, folder.path(), PLANS).await.unwrap().stands(), before, "a restart sees the same");
}

#[tokio::test]
async fn the_newer_word_counts_of_file_and_change() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("berth.db").display());
    let start = async |text: &str| host_of(&url, folder.path(), text).await.unwrap().stands();
    let host = host_of(&url, folder.path(), PLANS).await.unwrap();
    host.merge("plans", "routes = [\"/api/roadmaps\"]").await.unwrap();
    let changed = [stand("plans", EntryOrigin::Changed, None, "/api/roadmaps")];
    assert_eq!(start(PLANS).await, changed);
    assert_eq!(start(&format!("# another layout\n\n{PLANS}")).await, changed, "it says the same");
    let edited = format!("{PLANS}[plugin.limits]\nbody_mib = 3\n");
    let of_file = [stand("plans", EntryOrigin::File, None, "/api/plans")];
    assert_eq!(start(&edited).await, of_file);
    assert_eq!(start(PLANS).await, of_file, "the change is over and does not come back");

    let host = host_of(&url, folder.path(), PLANS).await.unwrap();
    host.add("notes", NOTES, "1").await.unwrap();
    host.remove("plans").await.unwrap();
    let with_notes = format!("{edited}\n[[plugin]]\nname = \"notes\"\ncomponent = \"n.wasm\"\nroutes = [\"/api/n\"]\n");
    let both =
        [stand("notes", EntryOrigin::File, Some(1), "/api/n"), stand("plans", EntryOrigin::File, None, "/api/plans")];
    assert_eq!(start(&with_notes).await, both);

    let host = host_of(&url, folder.path(), PLANS).await.unwrap();
    host.add("jots", "routes = [\"/api/jots\"]", "1").await.unwrap();
    let colliding = PLANS.replace("/api/plans", "/api/jots");
    let refused = faults(host_of(&url, folder.path(), &colliding).await.err().unwrap());
    assert!(refused[0].sentence.contains("overlaps /api/jots of plans in line 4 of plugins.toml"), "{refused:?}");
}

#[tokio::test]
async fn a_file_is_taken_whole_or_not_at_all_while_the_host_runs() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("berth.db").display());
    let host = host_of(&url, folder.path(), PLANS).await.unwrap();
    host.add("notes", NOTES, "1").await.unwrap();
    let before = host.stands();
    let faulty =
        format!("{PLANS}colour = 1\n[[plugin]]\nname = \"x\"\ncomponent = \"x\"\nroutes = [\"/api/notes/x\"]\n");
    assert_eq!(faults(host.deployer.reload(file(&faulty)).await.unwrap_err()).len(), 2);
    assert_eq!(host.stands(), before);
    let good = PLANS.replace("/api/plans", "/api/roadmaps");
    host.deployer.reload(file(&good)).await.unwrap();
    let after = [
        stand("notes", EntryOrigin::Added, Some(1), "/api/notes"),
        stand("plans", EntryOrigin::File, None, "/api/roadmaps"),
    ];
    assert_eq!(host.stands(), after, "what was added stays");
    host.merge("plans", "port = 9").await.unwrap();
    host.deployer.reload(file("")).await.unwrap();
    assert_eq!(host.stands(), after[..1], "what left the file is gone");
    assert_eq!(host_of(&url, folder.path(), "").await.unwrap().stands(), after[..1]);
}

#[tokio::test]
async fn two_changes_of_one_plugin_are_not_both_begun() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("berth.db").display());
    let host = host_of(&url, folder.path(), PLANS).await.unwrap();
    let turn = host.deployer.turn("plans").unwrap();
    assert!(matches!(host.merge("plans", "port = 9").await, Err(DeployError::Conflict(_))));
    assert!(matches!(host.remove("plans").await, Err(DeployError::Conflict(_))));
    drop(turn);
    assert!(host.merge("plans", "port = 9").await.unwrap());
    let bench = host.deployer.bench(&"notes".into());
    let guard = bench.lock.try_lock().unwrap();
    assert!(matches!(host.add("notes", NOTES, "1").await, Err(DeployError::Conflict(_))));
    drop(guard);
    host.add("notes", NOTES, "1").await.unwrap();
}

#[tokio::test]
async fn changes_of_another_host_are_followed() {
    let folder = tempfile::tempdir().unwrap();
    for (number, url) in databases(folder.path()).await.iter().enumerate() {
        let folders = if url.starts_with("sqlite:") { ["same", "same"] } else { ["here", "there"] };
        let [here, there] = folders.map(|name| folder.path().join(format!("{number}-{name}")));
        let here = host_of(url, &here, PLANS).await.unwrap();
        let there = host_of(url, &there, PLANS).await.unwrap();
        // Components that nobody points to yet are removed at a start: not beside the one that is added now, in one folder.
        until("both have tidied", || [&here, &there].iter().all(|host| host.deployer.inner.drains.is_empty())).await;
        let follows = async |leader: &Host, follower: &Host| {
            let wanted = leader.stands();
            for _ in 0..200 {
                follower.deployer.look_once().await.unwrap();
                if follower.stands() == wanted {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            panic!("{:?} did not become {wanted:?}", follower.stands());
        };
        here.add("notes", NOTES, "1").await.unwrap();
        follows(&here, &there).await;
        // Two hosts at the same moment: one of them is told to look again.
        there.merge("notes", "routes = [\"/api/jottings\"]").await.unwrap();
        assert!(matches!(here.merge("plans", "port = 9").await, Err(DeployError::Conflict(_))));
        follows(&there, &here).await;
        here.remove("notes").await.unwrap();
        follows(&here, &there).await;
        assert!(there.deployer.registry().route("/api/jottings").is_none());
    }
}
