//! Who may do what with a dashboard. What may be done is a pure function; the projects of others are asked of planning.

use berth_sdk::prelude::*;

use crate::{
    dashboard::{
        Dashboard, Scope,
        share::{self, Share},
    },
    directory,
};

/// What somebody may do with a dashboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Look at it, with what they may see anyway.
    View,
    /// Change it and its widgets.
    Edit,
    /// Share it, move it to another scope and delete it.
    Own,
}

/// Who looks.
#[derive(Clone, Debug)]
pub(crate) struct Viewer {
    pub user_id: Id,
    pub teams: Vec<String>,
    /// Looks after what belongs to teams, projects and the organization.
    pub is_manager: bool,
}

impl Viewer {
    /// The caller; 401 for who is nobody, 400 outside an organization.
    pub fn caller() -> Result<Self> {
        auth::organization_id()?;
        Ok(Self { user_id: auth::user_id()?, teams: auth::teams(), is_manager: auth::has(crate::MANAGE) })
    }

    fn is_in(&self, team_id: &str) -> bool {
        self.teams.iter().any(|team| team == team_id)
    }

    /// What the dashboard itself says of this viewer; `sees_scope` is whether they see the project it is for.
    pub fn level(&self, dashboard: &Dashboard, shares: &[Share], sees_scope: bool) -> Option<Level> {
        if dashboard.owner_id == self.user_id.as_str() {
            return Some(Level::Own);
        }
        let is_for_them = match dashboard.scope {
            Scope::Personal => false,
            Scope::Organization => true,
            Scope::Team => self.is_manager || dashboard.scope_id.as_ref().is_some_and(|team| self.is_in(team)),
            Scope::Project => sees_scope,
        };
        let by_scope = match (is_for_them, self.is_manager) {
            (false, _) => None,
            (true, false) => Some(Level::View),
            (true, true) => Some(Level::Own),
        };
        let shared = shares.iter().filter(|share| share.reaches(&self.user_id, &self.teams));
        let by_share = shared.map(|share| if share.can_edit { Level::Edit } else { Level::View }).max();
        by_scope.max(by_share)
    }
}

/// A dashboard that the caller sees.
pub(crate) struct Opened {
    pub row: Stored<Dashboard>,
    pub level: Level,
    pub shares: Vec<Share>,
    /// The project that it is for, where planning was asked and the caller sees it.
    pub project: Option<Id>,
}

impl Opened {
    /// 403 unless the caller may do this much.
    pub fn require(&self, wanted: Level) -> Result<()> {
        if self.level >= wanted {
            return Ok(());
        }
        Err(Problem::forbidden(match wanted {
            Level::Own => "Only its owner may do this.",
            _ => "It can be looked at, but not changed: its owner has not allowed it.",
        }))
    }
}

/// The dashboard of this id; 404 when the caller's organization has none or it is not for the caller.
pub(crate) fn open(id: &Id) -> Result<Opened> {
    let viewer = Viewer::caller()?;
    let row = entity::read::<Dashboard>(&Pool, id)?;
    let shares = share::of(&Pool, &row.id)?;
    let mut level = viewer.level(&row, &shares, false);
    let mut project = None;
    if let (Scope::Project, Some(project_id), true) = (row.scope, &row.scope_id, level < Some(Level::Own))
        && is_vouched_for(directory::sees_project(project_id), level)?
    {
        level = viewer.level(&row, &shares, true);
        project = Some(project_id.clone());
    }
    let level = level.ok_or_else(|| Problem::missing(Dashboard::DEFINITION.name))?;
    Ok(Opened { row, level, shares, project })
}

/// Whether the caller sees the project. While planning does not say, what is theirs otherwise stays so.
fn is_vouched_for(answer: Result<bool>, otherwise: Option<Level>) -> Result<bool> {
    match answer {
        Err(problem) if otherwise.is_none() => Err(problem),
        answer => Ok(answer.unwrap_or(false)),
    }
}

/// The same, where the caller may do this much: 404 for who does not see it, 403 for who may not.
pub(crate) fn open_for(id: &Id, wanted: Level) -> Result<Opened> {
    let opened = open(id)?;
    opened.require(wanted)?;
    Ok(opened)
}

/// Only dashboards that the viewer sees, who sees these projects of others' dashboards.
pub(crate) fn visible(viewer: &Viewer, projects: &[Id]) -> Result<Condition> {
    let places = |count: usize| vec!["?"; count].join(", ");
    let teams = || viewer.teams.iter().map(|team| database::Value::from(team.as_str()));
    let mut condition = Condition::new(
        "\"owner_id\" = ? OR \"scope\" = 'ORGANIZATION' OR \"id\" IN (SELECT dashboard_id FROM dashboard_shares WHERE \
         organization_id = ? AND (kind = 'organization' OR (kind = 'user' AND target_id = ?)",
        [viewer.user_id.clone(), auth::organization_id()?, viewer.user_id.clone()],
    );
    if !viewer.teams.is_empty() {
        let count = places(viewer.teams.len());
        condition.sql.push_str(&format!(" OR (kind = 'team' AND target_id IN ({count}))"));
        condition.values.extend(teams());
    }
    condition.sql.push_str("))");
    if viewer.is_manager {
        condition.sql.push_str(" OR \"scope\" = 'TEAM'");
    } else if !viewer.teams.is_empty() {
        let count = places(viewer.teams.len());
        condition.sql.push_str(&format!(" OR (\"scope\" = 'TEAM' AND \"scope_id\" IN ({count}))"));
        condition.values.extend(teams());
    }
    if !projects.is_empty() {
        let count = places(projects.len());
        condition.sql.push_str(&format!(" OR (\"scope\" = 'PROJECT' AND \"scope_id\" IN ({count}))"));
        condition.values.extend(projects.iter().map(Into::into));
    }
    Ok(condition)
}

/// Those of the projects for which somebody else has a dashboard that the viewer sees; planning is asked for no more than so
/// many.
pub(crate) fn projects_of_others(viewer: &Viewer) -> Result<Vec<Id>> {
    let rows = database::query(
        "SELECT DISTINCT scope_id FROM dashboard_dashboards WHERE organization_id = $1 AND scope = 'PROJECT' \
         AND scope_id IS NOT NULL AND owner_id <> $2 ORDER BY scope_id LIMIT $3",
        params![auth::organization_id()?, &viewer.user_id, directory::PROJECTS_MAX],
    )?;
    let ids: Vec<Id> = rows.into_iter().map(|row| Ok(row.get::<String>("scope_id")?.into())).collect::<Result<_>>()?;
    Ok(directory::seen_projects(&ids))
}

#[cfg(test)]
mod tests {
    use berth_sdk::{http::read_value, serde_json::Value};

    use super::*;
    use crate::dashboard::share::Target;

    fn viewer(teams: &[&str], is_manager: bool) -> Viewer {
        Viewer {
            user_id: Id::from("me".to_string()),
            teams: teams.iter().map(ToString::to_string).collect(),
            is_manager,
        }
    }

    fn dashboard(more: Value) -> Dashboard {
        let mut body = json!({"name": "d", "ownerId": "ada"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        read_value(body).unwrap()
    }

    fn share(kind: Target, id: &str, can_edit: bool) -> Share {
        Share { r#type: kind, id: Some(Id::from(id.to_string())), can_edit }
    }

    #[test]
    fn a_personal_dashboard_is_its_owners_and_of_those_it_is_shared_with() {
        let personal = dashboard(json!({}));
        assert_eq!(viewer(&[], true).level(&personal, &[], true), None, "not even administrators");
        assert_eq!(viewer(&[], false).level(&dashboard(json!({"ownerId": "me"})), &[], false), Some(Level::Own));
        let to_me = [share(Target::User, "me", false)];
        assert_eq!(viewer(&[], true).level(&personal, &to_me, false), Some(Level::View));
        let editing = [share(Target::User, "me", false), share(Target::Team, "t1", true)];
        assert_eq!(viewer(&["t1"], false).level(&personal, &editing, false), Some(Level::Edit), "the most counts");
        assert_eq!(viewer(&["t2"], false).level(&personal, &editing[1..], false), None);
        assert_eq!(viewer(&["me"], false).level(&personal, &[share(Target::Team, "t2", true)], false), None);
        assert_eq!(
            viewer(&[], false).level(&personal, &[share(Target::Organization, "o", true)], false),
            Some(Level::Edit)
        );
    }

    #[test]
    fn who_it_is_shared_with_needs_no_word_of_planning() {
        let away = || Err(Problem::unavailable("away"));
        assert_eq!(is_vouched_for(away(), None).unwrap_err().status, 503);
        assert!(!is_vouched_for(away(), Some(Level::View)).unwrap());
        assert!(is_vouched_for(Ok(true), Some(Level::View)).unwrap() && !is_vouched_for(Ok(false), None).unwrap());
    }

    #[test]
    fn a_scope_lets_its_people_look_and_managers_do_everything() {
        let team = dashboard(json!({"scope": "TEAM", "scopeId": "t1"}));
        assert_eq!(viewer(&["t1"], false).level(&team, &[], false), Some(Level::View));
        assert_eq!(viewer(&["t2"], false).level(&team, &[], true), None);
        assert_eq!(viewer(&[], true).level(&team, &[], false), Some(Level::Own));
        let project = dashboard(json!({"scope": "PROJECT", "scopeId": "p1"}));
        assert_eq!(viewer(&[], true).level(&project, &[], false), None, "a private project stays private");
        assert_eq!(viewer(&[], false).level(&project, &[], true), Some(Level::View));
        let all = dashboard(json!({"scope": "ORGANIZATION"}));
        assert_eq!(viewer(&[], false).level(&all, &[], false), Some(Level::View));
    }
}
