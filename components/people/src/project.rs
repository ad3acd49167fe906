//! Which projects the caller sees: asked of planning, which alone knows, as the caller. Nothing here may run inside a
//! transaction, as it is a call.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use berth_sdk::{auth::PrincipalKind, cache, http_out, prelude::*};

/// How long planning may take.
const ASKED: Duration = Duration::from_secs(5);
/// Projects of one page of planning's list, and the pages that are read.
const PAGE: usize = 200;
const PAGES_MAX: usize = 25;
/// Projects that one question to planning names.
const NAMED_MAX: usize = 100;
/// What looking at projects needs.
const READ: &str = "projects.project.read";
/// How long it is remembered which projects somebody sees.
const KNOWN_FOR: Duration = Duration::from_secs(10);
/// How long planning is not asked again after it has not answered.
const AWAY_FOR: Duration = Duration::from_secs(2);

#[data]
struct Project {
    id: Id,
}

#[data]
struct Levels {
    items: Vec<Own>,
}

#[data]
struct Own {
    project_id: Id,
    level: String,
}

#[data]
struct Projects {
    items: Vec<Project>,
    total: usize,
}

/// Whether the caller sees the project; 503 when planning does not say.
pub fn sees(id: &Id) -> Result<bool> {
    match http_out::plugin("planning").get(&format!("/api/projects/{id}")).timeout(ASKED).accept() {
        Ok(_) => Ok(true),
        Err(problem) if problem.status < 500 => Ok(false),
        Err(problem) => Err(away(&problem)),
    }
}

/// 404 unless the caller sees the project; 503 when planning does not say.
pub fn require(id: &Id) -> Result<()> {
    if sees(id)? { Ok(()) } else { Err(Problem::missing("project")) }
}

/// Which of these projects the caller sees, each with whether they may change what hangs on it; whatever permissions they
/// have otherwise. 503 when planning does not say.
pub fn levels(ids: &[Id]) -> Result<BTreeMap<Id, bool>> {
    let mut levels = BTreeMap::new();
    for some in ids.chunks(NAMED_MAX) {
        let names: Vec<&str> = some.iter().map(Id::as_str).collect();
        let call = http_out::plugin("planning").get("/api/projects/levels").query("ids", &names.join(","));
        let found: Levels = match call.timeout(ASKED).fetch() {
            Ok(found) => found,
            Err(problem) if problem.status < 500 => continue,
            Err(problem) => return Err(away(&problem)),
        };
        levels.extend(found.items.into_iter().map(|own| (own.project_id, own.level != "viewer")));
    }
    Ok(levels)
}

/// Every project that the caller sees, at most 5 000; 503 when planning does not say.
pub fn visible() -> Result<BTreeSet<Id>> {
    let mut visible = BTreeSet::new();
    for page in 0..PAGES_MAX {
        let path = format!("/api/projects?sortBy=id&limit={PAGE}&offset={}", page * PAGE);
        let projects: Projects = match http_out::plugin("planning").get(&path).timeout(ASKED).fetch() {
            Ok(projects) => projects,
            // Who may see no project sees none.
            Err(problem) if problem.status < 500 => break,
            Err(problem) => return Err(away(&problem)),
        };
        let is_last = projects.items.is_empty() || (page + 1) * PAGE >= projects.total;
        visible.extend(projects.items.into_iter().map(|project| project.id));
        if is_last {
            break;
        }
    }
    Ok(visible)
}

/// The projects that the caller sees, as they were within the last ten seconds; none: every one of the organization. While
/// planning does not say, they see none at all.
pub fn seen() -> Option<BTreeSet<Id>> {
    let principal = auth::principal();
    if principal.is_super_admin || principal.is_platform || principal.kind == PrincipalKind::System {
        return None;
    }
    // Who may look at no project is not refused again and again.
    if !auth::has(READ) {
        return Some(BTreeSet::new());
    }
    if let Some(known) = cache::get(&key()) {
        return Some(known);
    }
    // A planning that is away is not waited for by every statement of a request.
    let (seen, ttl) = visible().map_or((BTreeSet::new(), AWAY_FOR), |seen| (seen, KNOWN_FOR));
    cache::set_ttl(&key(), &seen, ttl);
    Some(seen)
}

#[cfg(test)]
pub(crate) fn remember(seen: &BTreeSet<Id>) {
    cache::set_ttl(&key(), seen, KNOWN_FOR);
}

/// The same as [`require`], of one that may be newer than what is remembered: that is asked anew from then on.
pub fn require_anew(id: &Id) -> Result<()> {
    require(id)?;
    forget();
    Ok(())
}

fn forget() {
    cache::del(&key());
}

fn key() -> String {
    crate::own("projects")
}

fn away(problem: &Problem) -> Problem {
    logging::warn!("planning does not say who sees a project", problem = problem);
    Problem::unavailable("Planning does not say who sees the project; try again.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_planning_does_not_vouch_for_is_not_seen() {
        berth_sdk::testing::sign_in("u1", "o1");
        assert_eq!(require(&Id::from("p1")).unwrap_err().status, 503, "natively nobody answers");
        assert_eq!(visible().unwrap_err().status, 503);
        assert_eq!(levels(&[Id::from("p1")]).unwrap_err().status, 503);
        assert_eq!(seen(), Some(BTreeSet::new()));
    }

    #[test]
    fn what_was_seen_is_remembered_until_it_is_asked_anew() {
        berth_sdk::testing::sign_in("u1", "o1");
        let ids = BTreeSet::from([Id::from("p1")]);
        remember(&ids);
        assert_eq!(seen(), Some(BTreeSet::new()), "without the permission");
        berth_sdk::testing::permit(READ);
        assert_eq!(seen(), Some(ids));
        forget();
        assert_eq!(seen(), Some(BTreeSet::new()));
        berth_sdk::testing::become_principal(auth::Principal { is_super_admin: true, ..auth::principal() });
        assert_eq!(seen(), None, "administrators see every one");
    }
}
