//! Where a server is used and where not: by organization, team and project. The narrowest that says something counts.

use std::collections::BTreeMap;

use berth_sdk::{http::Answer, prelude::*, serde_json::Map};

use super::{Server, hold, read};
use crate::{access, audit};

/// Toggles of one organization that are looked at.
const TOGGLES_MAX: i64 = 5_000;

/// How far a toggle reaches.
#[choice(upper)]
pub enum Reach {
    /// The whole organization.
    Organization,
    /// A team.
    Team,
    /// A project.
    Project,
}

/// A toggle.
#[entity(table = "mcp_server_toggles", name = "toggle", sort = "-priority")]
pub struct Toggle {
    /// Of which server.
    #[field(filter)]
    pub server_id: Id,
    /// How far it reaches.
    #[field(filter)]
    pub scope: Reach,
    /// Of which organization, team or project.
    #[field(filter)]
    pub scope_id: Id,
    /// Whether it is used there.
    #[field(filter)]
    pub enabled: bool,
    /// Of two servers that can do the same the one with more is asked first.
    #[field(default = 0, min = -1_000, max = 1_000)]
    pub priority: i64,
}

impl Rules for Toggle {}

/// What the toggles of an organization come to for one caller.
#[derive(Clone, Debug, Default)]
pub struct Toggles {
    by_server: BTreeMap<String, Toggle>,
}

impl Toggles {
    /// For the caller within a project.
    pub fn load(database: &dyn Executor, project_id: Option<&Id>) -> Result<Self> {
        Self::load_for(database, &auth::teams(), project_id)
    }

    /// For somebody of these teams within a project.
    pub fn load_for(database: &dyn Executor, teams: &[String], project_id: Option<&Id>) -> Result<Self> {
        let rows = Select::<Toggle>::new().limit(TOGGLES_MAX).all(database)?;
        Ok(Self::of(rows.into_iter().map(|row| row.data), teams, project_id))
    }

    fn of(rows: impl Iterator<Item = Toggle>, teams: &[String], project_id: Option<&Id>) -> Self {
        let mut by_server: BTreeMap<String, Toggle> = BTreeMap::new();
        for row in rows {
            let concerns = match row.scope {
                Reach::Organization => true,
                Reach::Team => teams.iter().any(|team| team == row.scope_id.as_str()),
                Reach::Project => Some(&row.scope_id) == project_id,
            };
            if !concerns {
                continue;
            }
            // Of several teams one that uses it is enough.
            let rank = |toggle: &Toggle| (toggle.scope as u8, toggle.enabled, toggle.priority);
            let known = by_server.get(row.server_id.as_str());
            if known.is_none_or(|known| rank(known) < rank(&row)) {
                by_server.insert(row.server_id.as_str().to_string(), row);
            }
        }
        Self { by_server }
    }

    /// Whether a server is used. An organization's own is, unless it is turned off; one of the catalogue is not, unless
    /// it is turned on.
    pub fn is_on(&self, server: &Stored<Server>) -> bool {
        match self.by_server.get(server.id.as_str()) {
            Some(toggle) => toggle.enabled,
            None => server.organization_id.is_some(),
        }
    }

    /// How much a server is preferred.
    pub fn priority(&self, server_id: &str) -> (u8, i64) {
        self.by_server.get(server_id).map_or((0, 0), |toggle| (toggle.scope as u8, toggle.priority))
    }
}

/// What is wanted.
#[data]
pub struct Change {
    /// ORGANIZATION where nothing is said.
    scope: Option<Reach>,
    /// Of which team or project.
    scope_id: Option<Id>,
    /// Whether it is used there.
    enabled: bool,
    /// Of two servers that can do the same the one with more is asked first.
    #[field(min = -1_000, max = 1_000)]
    priority: Option<i64>,
}

/// `PUT /api/mcp/servers/{id}/toggle`.
pub fn change(Params(id): Params<Id>, if_match: IfMatch, Json(change): Json<Change>) -> Result<Stored<Toggle>> {
    read(&Pool, &id)?;
    let scope = change.scope.unwrap_or(Reach::Organization);
    let scope_id = match (scope, change.scope_id) {
        (Reach::Organization, _) => {
            access::require_manager(false)?;
            auth::organization_id()?
        }
        (_, None) => return Err(Problem::field("scopeId", "is required for this scope")),
        (Reach::Team, Some(id)) => {
            if !auth::teams().iter().any(|team| team == id.as_str()) {
                access::require_manager(false)?;
                require_team(&id)?;
            }
            id
        }
        (Reach::Project, Some(id)) => {
            // Who only looks at a project does not say what is used in it.
            match people::project::levels(std::slice::from_ref(&id))?.get(&id) {
                None => return Err(Problem::missing("project")),
                Some(false) => return Err(access::denied("It needs a right to change the project.")),
                Some(true) => id,
            }
        }
    };
    database::transaction(|transaction| {
        let server = hold(transaction, &id)?;
        let known = Select::<Toggle>::new()
            .equal("server_id", &id)
            .equal("scope", scope)
            .equal("scope_id", &scope_id)
            .first(transaction)?;
        let mut patch = Map::new();
        patch.insert("enabled".into(), change.enabled.into());
        if let Some(priority) = change.priority {
            patch.insert("priority".into(), priority.into());
        }
        let row = match known {
            Some(known) => entity::update::<Toggle>(transaction, &known.id, &patch, if_match)?,
            None => {
                if_match.check(0)?;
                let priority = change.priority.unwrap_or(0);
                let (server_id, scope_id) = (id.clone(), scope_id.clone());
                entity::create(transaction, Toggle { server_id, scope, scope_id, enabled: change.enabled, priority })?
            }
        };
        let details = json!({ "scope": scope, "scopeId": scope_id, "enabled": row.enabled, "priority": row.priority });
        audit::note(transaction, "server.toggled", Some(&id), &server.name, details)?;
        Ok(row)
    })
}

fn require_team(id: &Id) -> Result<()> {
    let call = berth_sdk::http_out::plugin("host").get(&format!("/api/teams/{id}"));
    match call.fetch::<berth_sdk::serde_json::Value>() {
        Ok(_) => Ok(()),
        Err(problem) if problem.status == 404 => Err(Problem::missing("team")),
        Err(problem) => Err(problem),
    }
}

/// `GET /api/mcp/toggles`: of projects only those that the caller sees.
pub fn list(query: PageQuery) -> Result<impl Answer> {
    let select = Select::<Toggle>::new();
    match access::within_projects() {
        Some(Condition { sql, values }) => select.condition(&sql, values),
        None => select,
    }
    .page(&Pool, &query)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toggle(scope: Reach, scope_id: &str, enabled: bool, priority: i64) -> Toggle {
        Toggle { server_id: "s".into(), scope, scope_id: scope_id.into(), enabled, priority }
    }

    #[test]
    fn the_narrowest_toggle_counts() {
        let rows = vec![
            toggle(Reach::Organization, "o", true, 1),
            toggle(Reach::Team, "t1", false, 9),
            toggle(Reach::Team, "t2", true, 2),
            toggle(Reach::Project, "p", false, 3),
        ];
        let of = |teams: &[&str], project: Option<&str>| {
            let teams: Vec<String> = teams.iter().map(ToString::to_string).collect();
            let toggles = Toggles::of(rows.clone().into_iter(), &teams, project.map(Id::from).as_ref());
            (toggles.by_server["s"].enabled, toggles.priority("s"))
        };
        assert_eq!(of(&[], None), (true, (0, 1)));
        assert_eq!(of(&["t1"], None), (false, (1, 9)));
        assert_eq!(of(&["t1", "t2"], None), (true, (1, 2)));
        assert_eq!(of(&["t2"], Some("p")), (false, (2, 3)));
    }
}
