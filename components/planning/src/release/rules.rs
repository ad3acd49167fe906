//! In which order a release goes through environments, and its services out. Pure.

use berth_sdk::prelude::*;
use plan_rules::graph::Graph;

use super::DeploymentStatus;
use crate::environment::EnvironmentName;

/// Where a release stands.
#[choice]
pub(crate) enum ReleaseStatus {
    Planned,
    InProgress,
    Deployed,
    Cancelled,
}

impl ReleaseStatus {
    /// What somebody may say; `deployed` follows from the deployment to production alone.
    pub(crate) fn may_be_set(self, to: Self) -> bool {
        use ReleaseStatus::{Cancelled, InProgress, Planned};
        matches!((self, to), (Planned, InProgress) | (Planned | InProgress, Cancelled))
    }
}

impl DeploymentStatus {
    /// What somebody may say of a deployment; it is rolled back by its own route alone.
    pub(crate) fn may_become(self, to: Self) -> bool {
        use DeploymentStatus::{Completed, Failed, InProgress, Pending};
        matches!((self, to), (Pending, InProgress | Completed | Failed) | (InProgress, Completed | Failed))
    }
}

/// The first environment before `wanted` in which the release does not run; each deployment in the order it was made.
/// What counts in an environment is the latest deployment to it.
pub(crate) fn skipped(
    wanted: EnvironmentName,
    deployments: &[(EnvironmentName, DeploymentStatus)],
) -> Option<EnvironmentName> {
    EnvironmentName::ALL.iter().copied().filter(|environment| *environment < wanted).find(|environment| {
        let latest = deployments.iter().rev().find(|(deployed, _)| deployed == environment);
        latest.is_none_or(|(_, status)| *status != DeploymentStatus::Completed)
    })
}

/// The services in an order in which each comes after what it needs, directly or through something that is not part of
/// the release; or those that need themselves. `needs` are pairs: the first needs the second.
pub(crate) fn deployment_order(services: &[String], needs: &[(String, String)]) -> Result<Vec<String>, Vec<String>> {
    let edges = needs.iter().map(|(one, other)| (one.as_str(), other.as_str()));
    let graph = Graph::from_edges(edges);
    let is_ours = |name: &&str| services.iter().any(|service| service == name);
    let stuck: Vec<String> = graph.stuck().into_iter().filter(is_ours).map(ToString::to_string).collect();
    if !stuck.is_empty() {
        return Err(stuck);
    }
    let ordered: Vec<String> = graph.order().into_iter().filter(is_ours).map(ToString::to_string).collect();
    let free = services.iter().filter(|service| !ordered.contains(service)).cloned();
    let mut order: Vec<String> = free.collect();
    order.extend(ordered);
    Ok(order)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_what_runs_before_opens_the_way() {
        use DeploymentStatus::{Completed, Failed, RolledBack};
        use EnvironmentName::{Dev, Production, Staging, Test};
        assert_eq!(skipped(Dev, &[]), None);
        assert_eq!(skipped(Test, &[]), Some(Dev));
        assert_eq!(skipped(Production, &[(Dev, Completed), (Test, Completed)]), Some(Staging));
        assert_eq!(skipped(Test, &[(Dev, Failed), (Dev, Completed)]), None);
        assert_eq!(skipped(Test, &[(Dev, Completed), (Dev, RolledBack)]), Some(Dev));
    }

    #[test]
    fn services_that_need_each_other_have_no_order() {
        let texts = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let pair = |one: &str, other: &str| (one.to_string(), other.to_string());
        let needs = [pair("web", "shared"), pair("shared", "api"), pair("api", "db")];
        assert_eq!(deployment_order(&texts(&["web", "docs", "api"]), &needs), Ok(texts(&["docs", "api", "web"])));
        assert_eq!(
            deployment_order(&texts(&["a", "b", "c"]), &[pair("a", "b"), pair("b", "a")]),
            Err(texts(&["a", "b"]))
        );
    }

    proptest! {
        #[test]
        fn what_is_over_stays_over(
            moves in prop::collection::vec((0usize..4, 0usize..5), 0..30)
        ) {
            let (mut release, mut deployment) = (ReleaseStatus::Planned, DeploymentStatus::Pending);
            for (to, then) in moves {
                let (to, then) = (ReleaseStatus::ALL[to], DeploymentStatus::ALL[then]);
                if release.may_be_set(to) {
                    prop_assert!(release != ReleaseStatus::Cancelled && to != ReleaseStatus::Deployed);
                    release = to;
                }
                if deployment.may_become(then) {
                    prop_assert!(matches!(deployment, DeploymentStatus::Pending | DeploymentStatus::InProgress));
                    prop_assert!(!matches!(then, DeploymentStatus::Pending | DeploymentStatus::RolledBack));
                    deployment = then;
                }
            }
        }

        #[test]
        fn nothing_goes_out_before_what_it_needs(
            count in 1usize..8, pairs in prop::collection::vec((0usize..8, 0usize..8), 0..16)
        ) {
            let services: Vec<String> = (0..count).map(|number| format!("s{number}")).collect();
            // Only lower numbers are needed: no cycle. Some of them are not part of the release.
            let needs: Vec<(String, String)> = pairs
                .into_iter()
                .filter(|(one, other)| other < one)
                .map(|(one, other)| (format!("s{one}"), format!("s{other}")))
                .collect();
            let order = deployment_order(&services, &needs).unwrap();
            let mut sorted = order.clone();
            sorted.sort();
            prop_assert_eq!(&sorted, &services);
            let place = |name: &String| order.iter().position(|service| service == name);
            for (one, other) in &needs {
                if let (Some(one), Some(other)) = (place(one), place(other)) {
                    prop_assert!(one > other);
                }
            }
        }

        #[test]
        fn going_step_by_step_is_always_allowed(steps in 0usize..=4) {
            let mut deployments = Vec::new();
            for environment in EnvironmentName::ALL.iter().take(steps) {
                prop_assert_eq!(skipped(*environment, &deployments), None);
                deployments.push((*environment, DeploymentStatus::Completed));
            }
            for environment in EnvironmentName::ALL.iter().skip(steps + 1) {
                prop_assert_eq!(skipped(*environment, &deployments), EnvironmentName::ALL.get(steps).copied());
            }
        }
    }
}
