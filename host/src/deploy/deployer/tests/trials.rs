//! Builds that are watched after their switch, and builds on trial.

use super::entries::file;
use super::*;
use crate::deploy::{Build, CanaryPlan, Rollout, TrialMode};

/// Another entry for the plugin of these tests, which its builds fit as well.
const CHANGED: &str = "[[plugin]]\nname = \"plans\"\ncomponent = \"plans.wasm\"\nroutes = [\"/api/plans\"]\nisolation = \"request\"\n\
                       [plugin.grant]\ntables = [\"plan_\"]\nconsume = [\"a.#\"]\n[plugin.timers]\nown = \"1h\"\n";

fn canary(shares: &str, every: &str) -> DeployOptions {
    let plan = CanaryPlan::parse(shares, Some(every)).unwrap();
    DeployOptions { rollout: Rollout::Canary(plan), ..by("operator") }
}

/// Counts answers as the gateway would.
pub(super) fn answer(build: &FakeBuild, status: u16, count: usize) {
    (0..count).for_each(|_| build.meter().note(Some(status), Duration::from_millis(1)));
}

impl Host {
    async fn two_builds(folder: &Path) -> Self {
        let host = host(folder, vec![plugin("plans", PATIENCE)]).await;
        host.deploy(component("1")).await.unwrap();
        host
    }

    fn on_trial(&self) -> Option<Arc<FakeBuild>> {
        self.deployer.registry().slot("plans").unwrap().trial().map(|trial| Arc::clone(&trial.build))
    }

    async fn last_line(&self) -> crate::deploy::HistoryEntry {
        self.deployer.history("plans", 1).await.unwrap().remove(0)
    }
}

#[tokio::test]
async fn a_bad_build_is_reverted_by_itself_without_a_compile() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::two_builds(folder.path()).await;
    answer(&host.serving().unwrap(), 200, 500);
    let options = DeployOptions { watch: Some(Duration::from_secs(60)), ..by("operator") };
    let report = host.deployer.deploy("plans", component("2"), options).await.unwrap();
    assert_eq!(report.watch_ms, Some(60_000));
    assert!(host.deployer.plugins()[0].watch_ms.is_some());
    let compiled = host.foundry.compiled.load(Ordering::SeqCst);
    let bad = host.serving().unwrap();
    answer(&bad, 200, 20);
    answer(&bad, 500, 5);
    until("the old build serves again", || host.serves() == Some((1, "1".into()))).await;
    assert_eq!(host.foundry.compiled.load(Ordering::SeqCst), compiled, "a revert compiles nothing");
    let line = host.last_line().await;
    assert_eq!((line.action.as_str(), line.actor.as_str(), line.revision), ("rollback", "host", Some(1)));
    assert!(line.reason.unwrap().contains("5 of 25 requests failed"));
    assert_eq!(host.events().await.last().map(String::as_str), Some("host.plugin.rolled_back"));
    until("nobody is watched any more", || host.deployer.plugins()[0].watch_ms.is_none()).await;
}

#[tokio::test]
async fn a_bad_build_goes_when_the_database_is_back_however_late_that_is() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::two_builds(folder.path()).await;
    let options = DeployOptions { watch: Some(Duration::from_secs(1)), ..by("operator") };
    host.deployer.deploy("plans", component("2"), options).await.unwrap();
    host.database.execute("ALTER TABLE berth_plugins RENAME TO gone", &[]).await.unwrap();
    answer(&host.serving().unwrap(), 500, 10);
    let left = || host.deployer.plugins()[0].watch_ms;
    until("the time to watch is over, and the verdict is not", || left() == Some(0)).await;
    assert_eq!(host.serves(), Some((2, "2".into())));
    host.database.execute("ALTER TABLE gone RENAME TO berth_plugins", &[]).await.unwrap();
    until("the old build serves again", || host.serves() == Some((1, "1".into()))).await;
    until("nobody is watched any more", || left().is_none()).await;
}

#[tokio::test]
async fn a_watch_outlives_a_restart_and_goes_by_the_same_past() {
    let folder = tempfile::tempdir().unwrap();
    let first = Host::two_builds(folder.path()).await;
    answer(&first.serving().unwrap(), 200, 470);
    answer(&first.serving().unwrap(), 500, 30);
    let options = DeployOptions { watch: Some(Duration::from_secs(3600)), ..by("operator") };
    first.deployer.deploy("plans", component("2"), options).await.unwrap();
    first.deployer.stop(Duration::from_secs(1)).await;
    drop(first);
    let start = async || {
        let host = host(folder.path(), vec![plugin("plans", PATIENCE)]).await;
        host.deployer.start().await.unwrap();
        host
    };
    let second = start().await;
    assert_eq!(second.serves(), Some((2, "2".into())));
    assert!(second.deployer.plugins()[0].watch_ms > Some(3_000_000));
    answer(&second.serving().unwrap(), 500, 10);
    until("the old build serves again", || second.serves() == Some((1, "1".into()))).await;
    let reason = second.last_line().await.reason.unwrap();
    assert_eq!(reason, "10 of 10 requests failed, with the build before it 30 of 500");
    drop(second);
    let third = start().await;
    assert_eq!((third.serves(), third.deployer.plugins()[0].watch_ms), (Some((1, "1".into())), None));
}

#[tokio::test]
async fn a_good_build_stays_and_the_watch_ends() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::two_builds(folder.path()).await;
    answer(&host.serving().unwrap(), 200, 500);
    let options = DeployOptions { watch: Some(Duration::from_secs(1)), ..by("operator") };
    host.deployer.deploy("plans", component("2"), options).await.unwrap();
    answer(&host.serving().unwrap(), 200, 500);
    until("the watch is over", || host.deployer.plugins()[0].watch_ms.is_none()).await;
    assert_eq!(host.serves(), Some((2, "2".into())));
}

#[tokio::test]
async fn a_watch_that_is_turned_off_reverts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::two_builds(folder.path()).await;
    let options = DeployOptions { watch: Some(Duration::ZERO), ..by("operator") };
    let report = host.deployer.deploy("plans", component("2"), options).await.unwrap();
    assert_eq!((report.watch_ms, host.deployer.plugins()[0].watch_ms), (None, None));
}

#[tokio::test]
async fn a_canary_answers_its_share_and_is_promoted() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::two_builds(folder.path()).await;
    let report = host.deployer.deploy("plans", component("2"), canary("20%", "1h")).await.unwrap();
    assert_eq!((report.action, report.revision, report.share, report.flip_us), ("canary", 2, Some(20.0), None));
    assert_eq!(host.serves(), Some((1, "1".into())));
    let slot = host.deployer.registry().slot("plans").unwrap();
    let chosen = |user: usize| slot.choose(|| format!("user:{user}")).unwrap().number();
    let within = (0..1_000).filter(|user| chosen(*user) == 2).count();
    assert!((140..=260).contains(&within), "20% of 1000 users are {within}");
    assert!(matches!(host.deploy(component("3")).await, Err(DeployError::Conflict(_))));
    assert!(matches!(host.rollback(None).await, Err(DeployError::Conflict(_))));
    let promoted = host.deployer.promote("plans", by("operator")).await.unwrap();
    assert_eq!((promoted.action, promoted.revision, promoted.previous_revision), ("promote", 2, Some(1)));
    assert_eq!(host.serves(), Some((2, "2".into())));
    assert!(host.on_trial().is_none());
    assert!(promoted.size_bytes > 0, "the size of what is promoted is known");
    assert_eq!(host.history().await, ["promote 2 switched *", "canary 2 started", "deploy 1 switched"]);
    assert!(matches!(host.deployer.promote("plans", by("operator")).await, Err(DeployError::Conflict(_))));
    host.rollback(None).await.unwrap();
    assert_eq!(host.rollback(Some(2)).await.unwrap().revision, 2, "a promoted build can be gone back to");
}

#[tokio::test]
async fn a_canary_goes_by_hand_and_leaves_its_callers_to_the_old_build() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::two_builds(folder.path()).await;
    host.deployer.deploy("plans", component("2"), canary("100%", "1h")).await.unwrap();
    let slot = host.deployer.registry().slot("plans").unwrap();
    let running = slot.choose(|| "user:1".into()).unwrap();
    let call = running.call();
    let report = host.deployer.abort("plans", by("operator")).await.unwrap();
    assert_eq!((report.action, report.revision), ("abort", 2));
    assert_eq!(slot.choose(|| "user:1".into()).unwrap().number(), 1);
    assert!(!running.is_cancelled.load(Ordering::SeqCst), "a call of the canary ends by itself");
    drop(call);
    assert_eq!(host.events().await.last().map(String::as_str), Some("host.plugin.rolled_back"));
    assert_eq!(host.deploy(component("3")).await.unwrap().revision, 3, "the number of the canary is used up");
}

#[tokio::test]
async fn a_bad_canary_is_aborted_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::two_builds(folder.path()).await;
    host.deployer.deploy("plans", component("2"), canary("10%,50%,100%", "30s")).await.unwrap();
    answer(&host.serving().unwrap(), 200, 100);
    answer(&host.on_trial().unwrap(), 500, 10);
    until("the canary is gone", || host.on_trial().is_none()).await;
    assert_eq!(host.serves(), Some((1, "1".into())));
    let line = host.last_line().await;
    assert_eq!((line.action.as_str(), line.outcome.as_str(), line.actor.as_str()), ("abort", "ended", "host"));
    assert!(line.reason.unwrap().contains("10 of 10 requests failed"));
}

#[tokio::test]
async fn a_canary_steps_up_by_its_plan_to_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::two_builds(folder.path()).await;
    host.deployer.deploy("plans", component("2"), canary("5%,25%,100%", "1s")).await.unwrap();
    let slot = host.deployer.registry().slot("plans").unwrap();
    until("the second share", || slot.trial().is_some_and(|trial| trial.share() == 2_500)).await;
    until("the promotion", || host.serves() == Some((2, "2".into()))).await;
    until("the end of the trial", || host.on_trial().is_none()).await;
    assert_eq!(host.last_line().await.actor, "host");
}

#[tokio::test]
async fn a_trial_outlives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let first = Host::two_builds(folder.path()).await;
    first.deployer.deploy("plans", component("2"), canary("30%,100%", "1h")).await.unwrap();
    first.deployer.stop(Duration::from_secs(1)).await;
    drop(first);
    let second = host(folder.path(), vec![plugin("plans", PATIENCE)]).await;
    second.deployer.start().await.unwrap();
    assert_eq!(second.serves(), Some((1, "1".into())));
    let status = second.deployer.plugins().remove(0).trial.unwrap();
    assert_eq!((status.mode, status.revision, status.share), (TrialMode::Canary, 2, 30.0));
}

#[tokio::test]
async fn a_trial_needs_a_build_beside_it_and_ends_with_its_manifest() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path(), vec![plugin("plans", PATIENCE)]).await;
    let alone = host.deployer.deploy("plans", component("1"), canary("10%", "1h")).await;
    assert!(matches!(alone, Err(DeployError::Invalid(_))), "{alone:?}");
    host.deploy(component("1")).await.unwrap();
    let options = DeployOptions { rollout: Rollout::Shadow, ..by("operator") };
    assert_eq!(host.deployer.deploy("plans", component("2"), options).await.unwrap().action, "shadow");
    let slot = host.deployer.registry().slot("plans").unwrap();
    assert!((0..100).all(|user| slot.choose(|| format!("user:{user}")).unwrap().number() == 1));
    host.deployer.reload(file(CHANGED)).await.unwrap();
    assert!(host.on_trial().is_none());
    assert!(host.last_line().await.reason.unwrap().contains("manifest"));
}

#[tokio::test]
async fn a_changed_entry_does_not_acquit_a_build_that_is_watched() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::two_builds(folder.path()).await;
    let options = DeployOptions { watch: Some(Duration::from_secs(3_600)), ..by("operator") };
    host.deployer.deploy("plans", component("2"), options).await.unwrap();
    let before = host.serving().unwrap();
    host.deployer.reload(file(CHANGED)).await.unwrap();
    let relinked = host.serving().unwrap();
    assert!(!Arc::ptr_eq(&before, &relinked) && relinked.number() == 2);
    assert!(host.deployer.plugins()[0].watch_ms > Some(3_000_000));
    answer(&relinked, 500, 10);
    until("the old build serves again", || host.serves() == Some((1, "1".into()))).await;
}
