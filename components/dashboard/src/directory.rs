//! Who and what there is: people and teams, which the main app knows, and projects, which planning does. Everything is asked
//! as the caller.

use std::{collections::BTreeMap, time::Duration};

use berth_sdk::{
    cache, canonical, http_out,
    http_out::{Call, Reply, Together},
    prelude::*,
};

use crate::dashboard::Scope;

/// How long it counts that somebody sees a project, or does not.
const SEEN_FOR: Duration = Duration::from_secs(60);
/// The most projects that one list asks for.
pub(crate) const PROJECTS_MAX: i64 = 100;
const TOGETHER: Together = Together { at_once: 8, bytes_max: 256 * 1024, patience: Duration::from_secs(5) };

/// What stands for the caller and everything they may do: it changes when that does.
pub(crate) fn fingerprint() -> String {
    let principal = auth::principal();
    let (mut permissions, mut teams) = (auth::permissions(), auth::teams());
    permissions.sort_unstable();
    teams.sort_unstable();
    canonical::sha256(&json!([
        principal.user_id,
        principal.role_id,
        principal.is_super_admin,
        auth::api_key_id(),
        permissions,
        teams
    ]))
}

fn project(id: &str) -> Call {
    http_out::plugin("planning").get(&format!("/api/projects/{id}"))
}

/// Whether the caller sees a project; 503 when planning does not say.
pub(crate) fn sees_project(id: &Id) -> Result<bool> {
    let known = ask(std::slice::from_ref(id));
    known.get(id).copied().ok_or_else(|| Problem::unavailable("planning does not say who is in the project."))
}

/// Those of the projects that the caller sees for certain.
pub(crate) fn seen_projects(ids: &[Id]) -> Vec<Id> {
    let known = ask(ids);
    ids.iter().filter(|id| known.get(*id) == Some(&true)).cloned().collect()
}

/// What is known of each; nothing where planning did not answer.
fn ask(ids: &[Id]) -> BTreeMap<Id, bool> {
    if ids.is_empty() {
        return BTreeMap::new();
    }
    let caller = fingerprint();
    let keys: Vec<String> = ids.iter().map(|id| format!("project:{id}:{caller}")).collect();
    let cached: Vec<Option<bool>> = cache::get_many(&keys.iter().map(String::as_str).collect::<Vec<_>>());
    let mut known = BTreeMap::new();
    let mut open = Vec::new();
    for ((id, key), cached) in ids.iter().zip(&keys).zip(cached) {
        match cached {
            Some(sees) => {
                known.insert(id.clone(), sees);
            }
            None => open.push((id, key)),
        }
    }
    let calls: Vec<Call> = open.iter().map(|(id, _)| project(id)).collect();
    for ((id, key), reply) in open.into_iter().zip(http_out::send_all(&calls, TOGETHER)) {
        let sees = match reply {
            Ok(Reply { status: 200, .. }) => true,
            Ok(Reply { status: 403 | 404, .. }) => false,
            _ => continue,
        };
        cache::set_ttl(key, &sees, SEEN_FOR);
        known.insert(id.clone(), sees);
    }
    known
}

/// 404 unless what a dashboard is to be for is there for the caller.
pub(crate) fn require_scope(scope: Scope, id: Option<&Id>) -> Result<()> {
    match (scope, id) {
        (Scope::Project, Some(id)) if !sees_project(id)? => Err(Problem::missing("project")),
        (Scope::Team, Some(id)) if !auth::teams().iter().any(|team| team == id.as_str()) => {
            // Who looks after teams need not be in them.
            if auth::has(crate::MANAGE) && is_there("teams", id)? { Ok(()) } else { Err(Problem::missing("team")) }
        }
        _ => Ok(()),
    }
}

/// Whether the organization has such a user (`users`) or team (`teams`), as far as the caller may know.
pub(crate) fn is_there(what: &str, id: &Id) -> Result<bool> {
    #[data]
    struct Found {
        membership_status: Option<String>,
        is_active: Option<bool>,
    }
    match http_out::plugin("host").get(&format!("/api/{what}/{id}")).fetch::<Found>() {
        Ok(found) => Ok(found.is_active != Some(false)
            && found.membership_status.as_deref().is_none_or(|status| status == "active")),
        Err(problem) if matches!(problem.status, 403 | 404) => Ok(false),
        Err(problem) => Err(problem),
    }
}
