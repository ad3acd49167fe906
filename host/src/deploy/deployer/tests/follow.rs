//! Two deployers over one database: what one does, the other does after it.

use super::*;
use crate::deploy::cluster::HostIdentity;

/// Two hosts on every kind of database, with one folder of components between them where the database keeps none.
async fn pairs(folder: &Path) -> Vec<(Host, Host)> {
    let mut pairs = Vec::new();
    for (index, url) in databases(folder).await.iter().enumerate() {
        let (first, second) = if url.starts_with("sqlite:") {
            (folder.to_owned(), folder.to_owned())
        } else {
            (folder.join(format!("first-{index}")), folder.join(format!("second-{index}")))
        };
        let plugins = || vec![plugin("plans", PATIENCE)];
        pairs.push((host_on(url, &first, plugins()).await, host_on(url, &second, plugins()).await));
    }
    pairs
}

impl Host {
    async fn looks(&self, what: &str, condition: impl Fn() -> bool) {
        for _ in 0..200 {
            self.deployer.look_once().await.unwrap();
            if condition() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{what} did not happen");
    }

    fn tries(&self) -> Option<i64> {
        let trial = self.deployer.registry().slot("plans").unwrap().trial();
        trial.map(|trial| crate::deploy::Build::number(&*trial.build))
    }
}

#[tokio::test]
async fn deploys_and_rollbacks_of_another_host_are_followed() {
    let folder = tempfile::tempdir().unwrap();
    for (here, there) in pairs(folder.path()).await {
        here.deploy(component("1")).await.unwrap();
        there.looks("the first build", || there.serves() == Some((1, "1".into()))).await;
        there.deploy(component("2")).await.unwrap();
        here.looks("the second build", || here.serves() == Some((2, "2".into()))).await;
        here.rollback(None).await.unwrap();
        there.looks("the rollback", || there.serves() == Some((1, "1".into()))).await;
        // Nothing is done twice.
        let switches = there.switched.0.lock().len();
        there.deployer.look_once().await.unwrap();
        assert_eq!(there.switched.0.lock().len(), switches);
    }
}

#[tokio::test]
async fn a_build_that_cannot_be_loaded_leaves_the_old_one_and_is_written_down_once() {
    let folder = tempfile::tempdir().unwrap();
    for (here, there) in pairs(folder.path()).await {
        here.deploy(component("1")).await.unwrap();
        there.looks("the first build", || there.serves() == Some((1, "1".into()))).await;
        here.deploy(component("2")).await.unwrap();
        // As if somebody had damaged what is stored.
        let sql = "UPDATE berth_plugins SET sha256 = $1";
        here.database.execute(sql, &crate::database::values!["0".repeat(64)]).await.unwrap();
        for _ in 0..5 {
            there.deployer.look_once().await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(there.serves(), Some((1, "1".into())));
        let failed = there.history().await.iter().filter(|line| line.starts_with("follow")).count();
        assert_eq!(failed, 1);
    }
}

#[tokio::test]
async fn a_build_that_is_bad_on_one_host_goes_from_all_of_them_once() {
    let folder = tempfile::tempdir().unwrap();
    for (here, there) in pairs(folder.path()).await {
        here.deploy(component("1")).await.unwrap();
        there.looks("the first build", || there.serves() == Some((1, "1".into()))).await;
        let options = |watch| DeployOptions { watch: Some(Duration::from_secs(watch)), ..by("operator") };
        here.deployer.deploy("plans", component("2"), options(3_600)).await.unwrap();
        there.looks("the second build", || there.serves() == Some((2, "2".into()))).await;
        assert!(there.deployer.plugins()[0].watch_ms > Some(3_000_000), "the other host watches it too");
        // Nobody asks the host that took it.
        super::trials::answer(&there.serving().unwrap(), 500, 10);
        until("the old build serves there", || there.serves() == Some((1, "1".into()))).await;
        here.looks("the revert", || here.serves() == Some((1, "1".into()))).await;
        assert_eq!(here.deployer.plugins()[0].watch_ms, None);

        // Found bad by both in the same moment.
        here.deployer.deploy("plans", component("3"), options(3_600)).await.unwrap();
        there.looks("the third build", || there.serves() == Some((3, "3".into()))).await;
        for host in [&here, &there] {
            super::trials::answer(&host.serving().unwrap(), 500, 10);
        }
        for host in [&here, &there] {
            host.looks("the second revert", || host.serves() == Some((1, "1".into()))).await;
        }
        let lines = here.history().await;
        assert_eq!(lines.iter().filter(|line| line.starts_with("rollback")).count(), 2, "{lines:?}");
        // Who does not want it watched is heard everywhere.
        here.deployer.deploy("plans", component("4"), options(0)).await.unwrap();
        there.looks("the fourth build", || there.serves() == Some((4, "4".into()))).await;
        assert_eq!(there.deployer.plugins()[0].watch_ms, None);
    }
}

/// A first build that serves on both hosts, and a second one on trial.
async fn begin_trial(here: &Host, there: &Host) {
    here.deploy(component("1")).await.unwrap();
    there.looks("the first build", || there.serves() == Some((1, "1".into()))).await;
    let plan = crate::deploy::CanaryPlan::parse("10", None).unwrap();
    let options = DeployOptions { rollout: crate::deploy::Rollout::Canary(plan), ..by("operator") };
    here.deployer.deploy("plans", component("2"), options).await.unwrap();
    there.looks("the trial", || there.tries() == Some(2)).await;
}

#[tokio::test]
async fn a_trial_begins_and_ends_on_every_host() {
    let folder = tempfile::tempdir().unwrap();
    for (here, there) in pairs(folder.path()).await {
        begin_trial(&here, &there).await;
        // Ended there, by somebody else.
        there.deployer.promote("plans", by("operator")).await.unwrap();
        assert_eq!((there.serves(), there.tries()), (Some((2, "2".into())), None));
        here.looks("the promotion", || here.serves() == Some((2, "2".into())) && here.tries().is_none()).await;
    }
}

#[tokio::test]
async fn a_trial_that_another_host_has_ended_is_not_promoted_any_more() {
    let folder = tempfile::tempdir().unwrap();
    for (here, there) in pairs(folder.path()).await {
        begin_trial(&here, &there).await;
        here.deployer.abort("plans", by("operator")).await.unwrap();
        here.deploy(component("3")).await.unwrap();
        // It has not looked since.
        let late = there.deployer.promote("plans", by("operator")).await;
        assert!(matches!(late, Err(DeployError::Conflict(_))), "{late:?}");
        there.looks("what serves", || there.serves() == Some((3, "3".into())) && there.tries().is_none()).await;
        let lines = here.history().await;
        assert!(!lines.iter().any(|line| line.starts_with("promote")), "{lines:?}");
    }
}

#[tokio::test]
async fn every_host_says_what_it_runs_until_it_leaves() {
    let folder = tempfile::tempdir().unwrap();
    for (here, there) in pairs(folder.path()).await {
        for (host, name) in [(&here, "a:1"), (&there, "b:2")] {
            let identity = HostIdentity { instance: name.into(), name: name.to_owned() };
            host.deployer.inner.cluster.hosts.introduce(identity);
            host.deployer.look_once().await.unwrap();
        }
        here.deploy(component("1")).await.unwrap();
        here.deployer.look_once().await.unwrap();
        if here.database.dialect() == crate::database::Dialect::Sqlite {
            assert_eq!(here.deployer.hosts().await.unwrap().len(), 1);
            continue;
        }
        let hosts = there.deployer.hosts().await.unwrap();
        let seen: Vec<_> =
            hosts.iter().map(|host| (host.name.as_str(), host.is_here, host.plugins[0].revision)).collect();
        assert_eq!(seen, [("a:1", false, Some(1)), ("b:2", true, None)]);
        here.deployer.inner.cluster.hosts.leave().await.unwrap();
        assert_eq!(there.deployer.hosts().await.unwrap().len(), 1);
    }
}
