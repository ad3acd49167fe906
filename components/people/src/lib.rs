//! Who belongs to the organization and to its teams: asked of the main app, which alone knows, with the caller's own rights.
//! Who belongs is remembered for a minute, who does not never; whom somebody leads for a minute.

pub mod organization;
pub mod project;
pub mod scope;

use std::{collections::BTreeSet, time::Duration};

use berth_sdk::{cache, http_out, prelude::*};

/// How long a yes counts.
const KNOWN_FOR: Duration = Duration::from_secs(60);
/// Teams of one person that are looked at.
const TEAMS_MAX: usize = 50;

#[data]
struct User {
    membership_status: Option<String>,
    is_active: Option<bool>,
}

#[data]
struct Team {
    id: Id,
    #[field(default)]
    members: Vec<Member>,
}

#[data]
struct Member {
    user_id: Id,
}

#[data]
struct Teams {
    items: Vec<Team>,
}

/// Whether a user of this membership and account belongs to the organization now.
///
/// ```
/// assert!(people::is_here(Some("active"), None));
/// assert!(!people::is_here(Some("invited"), Some(true)));
/// ```
pub fn is_here(membership_status: Option<&str>, is_active: Option<bool>) -> bool {
    is_active != Some(false) && membership_status.is_none_or(|status| status == "active")
}

/// Which of these users belong to the organization. Callers bound how many they ask for.
pub fn members(ids: &[Id]) -> Result<BTreeSet<Id>> {
    let mut found = BTreeSet::new();
    for id in ids {
        if is_member(id)? {
            found.insert(id.clone());
        }
    }
    Ok(found)
}

/// 400 that names every user who does not belong to the organization.
pub fn require_members(field: &str, ids: &[Id]) -> Result<()> {
    let found = members(ids)?;
    let mut faults = Faults::default();
    for (index, id) in ids.iter().enumerate() {
        if !found.contains(id) {
            faults.add(format!("{field}[{index}]"), "is nobody of this organization");
        }
    }
    faults.finish()
}

/// Whether a user belongs to the organization.
///
/// ```
/// berth_sdk::testing::sign_in("u1", "o1");
/// assert!(people::is_member(&"u1".into()).unwrap());
/// assert!(people::is_member(&"u2".into()).is_err()); // natively nobody answers
/// ```
pub fn is_member(id: &Id) -> Result<bool> {
    let key = format!("member:{id}");
    if auth::principal().user_id.as_deref() == Some(id.as_str()) || cache::get::<bool>(&key) == Some(true) {
        return Ok(true);
    }
    match http_out::plugin("host").get(&format!("/api/users/{id}")).fetch::<User>() {
        Ok(user) if is_here(user.membership_status.as_deref(), user.is_active) => {
            cache::set_ttl(&key, &true, KNOWN_FOR);
            Ok(true)
        }
        Ok(_) => Ok(false),
        // Who may not look at people knows nobody.
        Err(problem) if matches!(problem.status, 403 | 404) => Ok(false),
        Err(problem) => Err(problem),
    }
}

/// The members of a team of the organization, at most 1 000; 404 when there is no such team.
pub fn team(id: &Id) -> Result<Vec<Id>> {
    match http_out::plugin("host").get(&format!("/api/teams/{id}")).fetch::<Team>() {
        Ok(team) => Ok(team.members.into_iter().map(|member| member.user_id).collect()),
        Err(problem) if matches!(problem.status, 403 | 404) => Err(Problem::missing("team")),
        Err(problem) => Err(problem),
    }
}

/// The teams that a user is in, at most 50.
pub fn teams_of(user_id: &Id) -> Result<Vec<Id>> {
    listed(&format!("/api/users/{user_id}/teams?limit={TEAMS_MAX}"))
}

/// The name under which it is remembered what the caller sees. A key of somebody's may see less than they do.
///
/// ```
/// berth_sdk::testing::sign_in("u1", "o1");
/// assert_eq!(people::own("projects"), "projects:u1");
/// ```
pub fn own(kind: &str) -> String {
    let user_id = auth::principal().user_id.unwrap_or_default();
    match auth::api_key_id() {
        Some(id) => format!("{kind}:{user_id}:{id}"),
        None => format!("{kind}:{user_id}"),
    }
}

/// The people of the teams that the caller maintains, without the caller; as they were within the last minute.
pub fn led() -> Result<BTreeSet<Id>> {
    let Some(user_id) = auth::principal().user_id else { return Ok(BTreeSet::new()) };
    let key = own("led");
    if let Some(known) = cache::get(&key) {
        return Ok(known);
    }
    let mut led = BTreeSet::new();
    for id in listed(&format!("/api/teams?mine=true&role=maintainer&limit={TEAMS_MAX}"))? {
        led.extend(team(&id)?);
    }
    led.retain(|id| id.as_str() != user_id);
    cache::set_ttl(&key, &led, KNOWN_FOR);
    Ok(led)
}

fn listed(path: &str) -> Result<Vec<Id>> {
    match http_out::plugin("host").get(path).fetch::<Teams>() {
        Ok(teams) => Ok(teams.items.into_iter().map(|team| team.id).collect()),
        Err(problem) if matches!(problem.status, 403 | 404) => Ok(Vec::new()),
        Err(problem) => Err(problem),
    }
}
