//! Who may do what with a secret: its scope says who manages it, grants add to that, and nothing else counts.

use std::collections::BTreeMap;

use berth_sdk::{auth::Principal, http_out, prelude::*};

use crate::{
    access::{Grant, GranteeType},
    audit::{self, Outcome, Subject},
    secret::{Scope, Secret},
};

/// The most teams of one user that are looked at.
const TEAMS_MAX: usize = 200;
/// Projects that one question to planning names.
const PROJECTS_NAMED_MAX: usize = 100;

/// What the caller may do with one secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rights {
    /// Belongs to the scope, or holds any grant: sees the metadata, and may let services use it.
    pub see: bool,
    pub read: bool,
    pub update: bool,
    pub delete: bool,
    pub grant: bool,
    /// All of these, by the scope itself.
    pub manage: bool,
}

/// The groups of a user, true where they lead: as far as the question at hand needs them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Groups {
    pub teams: BTreeMap<String, bool>,
    pub projects: BTreeMap<String, bool>,
}

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub user_id: Option<String>,
    pub role_id: Option<String>,
    pub is_super_admin: bool,
    pub is_admin: bool,
    pub is_platform: bool,
}

impl Caller {
    /// The present one.
    pub(crate) fn present() -> Self {
        let Principal { user_id, role_id, is_super_admin, is_platform, .. } = auth::principal();
        Self { user_id, role_id, is_super_admin, is_platform, is_admin: auth::has("secrets.secret.manage") }
    }
}

/// Judges. Pure: everything it needs is given.
pub(crate) fn judge(secret: &Secret, caller: &Caller, groups: &Groups, grants: &[&Grant], now: Timestamp) -> Rights {
    let has =
        |id: &Option<Id>, held: &BTreeMap<String, bool>| id.as_ref().and_then(|id| held.get(id.as_str()).copied());
    let (see, manage) = match secret.scope {
        Scope::Global => (true, caller.is_platform),
        Scope::Organization => (true, caller.is_super_admin || caller.is_admin),
        Scope::Team | Scope::Project => {
            let led = match secret.scope {
                Scope::Team => has(&secret.team_id, &groups.teams),
                _ => has(&secret.project_id, &groups.projects),
            };
            (led.is_some() || caller.is_super_admin, led == Some(true) || caller.is_super_admin)
        }
        // Nobody else, whatever their role.
        Scope::User => {
            let is_owner = caller.user_id.is_some() && caller.user_id.as_deref() == secret.user_id.as_deref();
            (is_owner, is_owner)
        }
    };
    let mut rights = Rights { see, read: manage, update: manage, delete: manage, grant: manage, manage };
    for grant in grants.iter().filter(|grant| !grant.is_expired(now) && holds(grant, caller, groups)) {
        rights.see = true;
        rights.read |= grant.can_read;
        rights.update |= grant.can_update;
        rights.delete |= grant.can_delete;
        rights.grant |= grant.can_grant;
    }
    rights
}

fn holds(grant: &Grant, caller: &Caller, groups: &Groups) -> bool {
    let id = grant.grantee_id.as_str();
    match grant.grantee_type {
        GranteeType::User => caller.user_id.as_deref() == Some(id),
        GranteeType::Team => groups.teams.contains_key(id),
        GranteeType::Role => caller.role_id.as_deref() == Some(id),
        // A service acts for a caller; it is no caller.
        GranteeType::Service => false,
    }
}

/// What the present caller may do with a secret.
pub(crate) fn of(secret: &Stored<Secret>) -> Result<Rights> {
    let grants = crate::access::of(&Pool, &[secret.id.as_str()])?;
    let grants: Vec<&Grant> = grants.iter().map(|grant| &grant.data).collect();
    let needs_teams = secret.scope == Scope::Team || grants.iter().any(|grant| grant.grantee_type == GranteeType::Team);
    let mut groups = Groups::default();
    if needs_teams {
        groups.teams = teams()?;
    }
    if let Some(project_id) = secret.project_id.as_ref().filter(|_| secret.scope == Scope::Project) {
        groups.projects = projects(&[project_id.as_str().into()]);
    }
    Ok(judge(secret, &Caller::present(), &groups, &grants, clock::now()))
}

/// Refuses unless the right that `pick` picks is held; the refusal is audited.
pub(crate) fn require(secret: &Stored<Secret>, action: &str, pick: fn(&Rights) -> bool) -> Result<Rights> {
    let rights = of(secret)?;
    if pick(&rights) { Ok(rights) } else { Err(denied(secret, action)) }
}

/// The audited 403.
pub(crate) fn denied(secret: &Stored<Secret>, action: &str) -> Problem {
    audit::note_alone(&Subject::from(secret), action, Outcome::Denied, json!({}));
    access_denied()
}

/// The 403 itself.
pub(crate) fn access_denied() -> Problem {
    Problem::forbidden("You have no right to do this with the secret.").with_code("ACCESS_DENIED")
}

/// 403 unless the caller administers the organization.
pub(crate) fn require_admin() -> Result<()> {
    let caller = Caller::present();
    if caller.is_super_admin || caller.is_admin || caller.is_platform {
        return Ok(());
    }
    Err(Problem::forbidden("It is for administrators of the organization.").with_code("ACCESS_DENIED"))
}

/// 403 unless the caller has the platform role.
pub(crate) fn require_platform() -> Result<()> {
    if auth::principal().is_platform {
        return Ok(());
    }
    Err(Problem::forbidden("It is for the platform's administrators.").with_code("ACCESS_DENIED"))
}

/// 403 for a call from another component: services have secrets put in by the host and never see them.
pub(crate) fn refuse_components() -> Result<()> {
    if auth::principal().source_service.is_none() {
        return Ok(());
    }
    Err(Problem::forbidden("Other components name a secret and never read it.").with_code("ACCESS_DENIED"))
}

#[data]
struct Listed {
    items: Vec<Row>,
}

#[data]
struct Row {
    id: String,
}

#[data]
struct Levels {
    items: Vec<Level>,
}

#[data]
struct Level {
    project_id: String,
    level: String,
}

/// The caller's teams, and which of them they lead.
pub(crate) fn teams() -> Result<BTreeMap<String, bool>> {
    if auth::principal().user_id.is_none() {
        return Ok(BTreeMap::new());
    }
    let ask = |more: &str| -> Result<Vec<String>> {
        let path = format!("/api/teams?mine=true&limit={TEAMS_MAX}{more}");
        let listed: Listed = http_out::plugin("host").get(&path).fetch()?;
        Ok(listed.items.into_iter().map(|row| row.id).collect())
    };
    let mut teams: BTreeMap<String, bool> = ask("")?.into_iter().map(|id| (id, false)).collect();
    if !teams.is_empty() {
        teams.extend(ask("&role=maintainer")?.into_iter().map(|id| (id, true)));
    }
    Ok(teams)
}

/// Which of these projects the caller sees, true where they own them. Planning judges, by access lists, teams and visibility;
/// without planning nobody sees any.
pub(crate) fn projects(ids: &[String]) -> BTreeMap<String, bool> {
    let mut projects = BTreeMap::new();
    if auth::principal().user_id.is_none() {
        return projects;
    }
    for some in ids.chunks(PROJECTS_NAMED_MAX) {
        let call = http_out::plugin("planning").get("/api/projects/levels").query("ids", &some.join(","));
        match call.fetch::<Levels>() {
            Ok(levels) => {
                projects.extend(levels.items.into_iter().map(|own| (own.project_id, own.level == "owner")));
            }
            Err(problem) if problem.status < 500 => {}
            Err(problem) => {
                logging::warn!("planning does not say who sees a project", problem = problem);
                break;
            }
        }
    }
    projects
}

#[cfg(test)]
mod tests {
    use berth_sdk::{json, serde_json, serde_json::Value};
    use proptest::prelude::*;

    use super::*;

    fn secret(fields: Value) -> Secret {
        let mut whole = json!({"name": "token", "type": "API_KEY"});
        whole.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        serde_json::from_value(whole).unwrap()
    }

    fn grant(kind: &str, id: &str, rights: &[&str]) -> Grant {
        let mut whole = json!({"granteeType": kind, "granteeId": id});
        for right in rights {
            whole[*right] = true.into();
        }
        serde_json::from_value(whole).unwrap()
    }

    fn somebody(user_id: &str) -> Caller {
        Caller {
            user_id: Some(user_id.into()),
            role_id: Some("r1".into()),
            is_super_admin: false,
            is_admin: false,
            is_platform: false,
        }
    }

    fn super_admin() -> Caller {
        Caller { is_super_admin: true, is_admin: true, ..somebody("boss") }
    }

    fn rights(secret: &Secret, caller: &Caller, groups: &Groups, grants: &[&Grant]) -> Rights {
        judge(secret, caller, groups, grants, Timestamp::from_millis(1_000))
    }

    const ALL: Rights = Rights { see: true, read: true, update: true, delete: true, grant: true, manage: true };
    const SEES: Rights = Rights { see: true, read: false, update: false, delete: false, grant: false, manage: false };

    #[test]
    fn each_scope_has_its_own_managers() {
        let groups = Groups {
            teams: [("led".to_string(), true), ("in".to_string(), false)].into(),
            projects: [("owned".to_string(), true), ("seen".to_string(), false)].into(),
        };
        let none = Groups::default();
        let user = somebody("u1");
        let organization = secret(json!({}));
        assert_eq!(rights(&organization, &user, &none, &[]), SEES);
        assert_eq!(rights(&organization, &Caller { is_admin: true, ..user.clone() }, &none, &[]), ALL);
        let global = secret(json!({"scope": "GLOBAL"}));
        assert_eq!(rights(&global, &super_admin(), &none, &[]), SEES);
        assert_eq!(rights(&global, &Caller { is_platform: true, ..user.clone() }, &none, &[]), ALL);
        for (scope, member, led, seen) in [("TEAM", "teamId", "led", "in"), ("PROJECT", "projectId", "owned", "seen")] {
            let of = |id: &str| secret(json!({"scope": scope, member: id}));
            assert_eq!(rights(&of(led), &user, &groups, &[]), ALL, "{scope}");
            assert_eq!(rights(&of(seen), &user, &groups, &[]), SEES, "{scope}");
            assert_eq!(rights(&of("other"), &user, &groups, &[]), Rights::default(), "{scope}");
            let admin = Caller { is_admin: true, ..user.clone() };
            assert_eq!(rights(&of("other"), &admin, &groups, &[]), Rights::default(), "{scope}");
            assert_eq!(rights(&of("other"), &super_admin(), &groups, &[]), ALL, "{scope}");
        }
    }

    #[test]
    fn what_is_a_users_is_nobody_elses_not_even_a_super_admins() {
        let own = secret(json!({"scope": "USER", "userId": "u1"}));
        assert_eq!(rights(&own, &somebody("u1"), &Groups::default(), &[]), ALL);
        assert_eq!(rights(&own, &super_admin(), &Groups::default(), &[]), Rights::default());
        let nobody = Caller { user_id: None, ..super_admin() };
        assert_eq!(rights(&secret(json!({"scope": "USER"})), &nobody, &Groups::default(), &[]), Rights::default());
    }

    #[test]
    fn a_grant_gives_what_it_says_to_whom_it_names_until_it_expires() {
        let own = secret(json!({"scope": "USER", "userId": "u1"}));
        let groups = Groups { teams: [("t1".to_string(), false)].into(), ..Groups::default() };
        for (kind, id) in [("USER", "u2"), ("TEAM", "t1"), ("ROLE", "r1")] {
            let given = grant(kind, id, &["canRead"]);
            let held = rights(&own, &somebody("u2"), &groups, &[&given]);
            assert_eq!(held, Rights { see: true, read: true, ..Rights::default() }, "{kind}");
            let other = grant(kind, "other", &["canRead"]);
            assert_eq!(rights(&own, &somebody("u2"), &groups, &[&other]), Rights::default(), "{kind}");
        }
        let service = grant("SERVICE", "u2", &["canRead"]);
        assert_eq!(rights(&own, &somebody("u2"), &groups, &[&service]), Rights::default());
        let mut over = grant("USER", "u2", &["canRead", "canGrant"]);
        over.expires_at = Some(Timestamp::from_millis(1_000));
        assert_eq!(rights(&own, &somebody("u2"), &groups, &[&over]), Rights::default());
        over.expires_at = Some(Timestamp::from_millis(1_001));
        assert!(rights(&own, &somebody("u2"), &groups, &[&over]).grant);
    }

    proptest! {
        #[test]
        fn no_right_comes_without_sight(scope in 0..5_usize, admin: bool, boss: bool, owner: bool, read: bool, update: bool) {
            let scope = Scope::ALL[scope];
            let secret = secret(json!({"scope": scope, "teamId": "t", "projectId": "p", "userId": "u1"}));
            let caller = Caller { is_admin: admin, is_super_admin: boss, ..somebody(if owner { "u1" } else { "u2" }) };
            let mut given = grant("USER", "u2", &[]);
            (given.can_read, given.can_update) = (read, update);
            let held = rights(&secret, &caller, &Groups::default(), &[&given]);
            prop_assert!(held.see || held == Rights::default());
            if scope == Scope::User && !owner {
                prop_assert_eq!((held.read, held.update, held.delete), (read, update, false));
            }
        }
    }
}
