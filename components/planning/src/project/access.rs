//! Who may do what with a project.

use berth_sdk::{auth::PrincipalKind, database::Value, prelude::*};

use super::{Project, Visibility};

/// The most projects that one request names.
const NAMED_MAX: usize = 100;

/// What somebody may do.
#[choice]
pub(crate) enum Level {
    Owner,
    Editor,
    Viewer,
}

impl Level {
    /// Whether this level is enough where `wanted` is needed.
    fn covers(self, wanted: Self) -> bool {
        self.rank() >= wanted.rank()
    }

    fn rank(self) -> u8 {
        match self {
            Self::Viewer => 0,
            Self::Editor => 1,
            Self::Owner => 2,
        }
    }
}

/// One line of an access list: a user or a team.
#[entity(table = "project_access", name = "access entry", sort = "createdAt")]
pub(crate) struct AccessEntry {
    #[field(readonly)]
    pub project_id: Id,
    pub user_id: Option<Id>,
    pub team_id: Option<Id>,
    pub level: Level,
}

impl Rules for AccessEntry {}

impl AccessEntry {
    /// The entry of a user.
    pub(crate) fn of_user(project_id: &Id, user_id: Id, level: Level) -> Self {
        Self { project_id: project_id.clone(), user_id: Some(user_id), team_id: None, level }
    }
}

/// A line of the body of `PUT /api/projects/{id}/access`.
#[data]
pub(crate) struct Line {
    user_id: Option<Id>,
    team_id: Option<Id>,
    level: Level,
}

/// That body.
#[data]
pub(crate) struct NewList {
    /// The whole list: whoever is not on it loses access.
    #[field(max = 500)]
    access: Vec<Line>,
}

impl NewList {
    fn check(&self) -> Result<()> {
        let mut faults = Faults::default();
        for (index, line) in self.access.iter().enumerate() {
            if line.user_id.is_some() == line.team_id.is_some() {
                faults.add(format!("access[{index}]"), "must have either userId or teamId");
            }
            let is_repeated = |other: &Line| (&other.user_id, &other.team_id) == (&line.user_id, &line.team_id);
            if self.access.iter().take(index).any(is_repeated) {
                faults.add(format!("access[{index}]"), "is there twice");
            }
        }
        faults.finish()?;
        if self.access.iter().any(|line| line.level == Level::Owner) {
            return Ok(());
        }
        Err(Problem::unprocessable("A project needs an owner."))
    }
}

/// `GET /api/projects/{id}/access`.
pub(crate) fn list(Params(id): Params<Id>, query: PageQuery) -> Result<JsonText<Page<Stored<AccessEntry>>>> {
    let project = entity::read::<Project>(&Pool, &id)?;
    Select::new().equal("project_id", &project.id).page(&Pool, &query)
}

/// `PUT /api/projects/{id}/access`: replaces the list.
pub(crate) fn change(Params(id): Params<Id>, Json(list): Json<NewList>) -> Result<Json<Page<Stored<AccessEntry>>>> {
    list.check()?;
    database::transaction(|transaction| {
        let project = entity::read::<Project>(transaction, &id)?;
        require(transaction, &project, Level::Owner)?;
        // Two lists at once would be joined: neither sees the lines of the other to delete them.
        super::lock(transaction, &[&project.id])?;
        transaction.execute("DELETE FROM project_access WHERE project_id = $1", params![&project.id])?;
        let mut entries = Vec::with_capacity(list.access.len());
        for Line { user_id, team_id, level } in list.access {
            let entry = AccessEntry { project_id: project.id.clone(), user_id, team_id, level };
            entries.push(entity::create(transaction, entry)?);
        }
        let total = i64::try_from(entries.len()).unwrap_or(i64::MAX);
        Ok(Json(PageQuery::default().envelope(entries, total)))
    })
}

/// The lines of an access list that name a user or one of the caller's teams, as a condition; and these teams.
pub(super) fn listed(user_id: &str) -> (Condition, Vec<String>) {
    let teams = auth::teams();
    let mut sql = String::from("project_access.user_id = ?");
    let mut values = vec![Value::from(user_id)];
    if !teams.is_empty() {
        sql.push_str(&format!(" OR project_access.team_id IN ({})", vec!["?"; teams.len()].join(", ")));
        values.extend(teams.iter().map(Value::from));
    }
    (Condition { sql, values }, teams)
}

/// What decides how much the caller may do with a project.
#[derive(Clone, Debug)]
struct Standing {
    visibility: Visibility,
    /// They made it, or administer the organization.
    is_its_own: bool,
    /// They are in the project's team.
    is_in_team: bool,
    /// They may delete projects in the whole organization.
    may_delete: bool,
    /// What the access list gives them or their teams.
    listed: Vec<Level>,
}

impl Standing {
    /// What the caller may do; none when the project does not exist for them. What the organization or the team sees is
    /// governed by permissions alone, but for its access list.
    fn level(&self) -> Option<Level> {
        let by_sight = match self.visibility {
            Visibility::Organization if self.may_delete => Some(Level::Owner),
            Visibility::Organization => Some(Level::Editor),
            Visibility::Team if self.is_in_team => Some(Level::Editor),
            Visibility::Team | Visibility::Private => None,
        };
        let own = self.is_its_own.then_some(Level::Owner);
        self.listed.iter().copied().chain(by_sight).chain(own).max_by_key(|level| level.rank())
    }
}

/// What of a project's row decides.
#[data]
struct Shared {
    id: Id,
    visibility: Visibility,
    team_id: Option<Id>,
    created_by: Option<Id>,
}

/// A line of an access list that gives the caller something.
#[data]
struct Given {
    project_id: Id,
    level: Level,
}

/// What the caller may do with projects of their organization; those that do not exist for them are left out. Access lists
/// are read only of projects where what is known without them is less than `enough`.
fn levels_of(database: &dyn Executor, projects: &[Shared], enough: Level) -> Result<Vec<(Id, Level)>> {
    let principal = auth::principal();
    let is_administrator = principal.is_super_admin || principal.is_platform || principal.kind == PrincipalKind::System;
    let user_id = principal.user_id.unwrap_or_default();
    let (lines, teams) = listed(&user_id);
    let may_delete = auth::has("projects.project.delete");
    let mut standings: Vec<(&Id, Standing)> = projects
        .iter()
        .map(|project| {
            let standing = Standing {
                visibility: project.visibility,
                is_its_own: is_administrator || project.created_by.as_ref().is_some_and(|id| id.as_str() == user_id),
                is_in_team: project.team_id.as_ref().is_some_and(|id| teams.iter().any(|team| team == id.as_str())),
                may_delete,
                listed: Vec::new(),
            };
            (&project.id, standing)
        })
        .collect();
    let is_open = |standing: &Standing| standing.level().is_none_or(|level| !level.covers(enough));
    let open: Vec<&Id> = standings.iter().filter(|(_, standing)| is_open(standing)).map(|(id, _)| *id).collect();
    if !open.is_empty() {
        let given: Vec<Given> = Select::<AccessEntry>::new()
            .one_of("project_id", open)
            .condition(&lines.sql, lines.values)
            .columns(database, "project_id AS \"projectId\", level")?;
        for (id, standing) in &mut standings {
            standing.listed = given.iter().filter(|line| line.project_id == **id).map(|line| line.level).collect();
        }
    }
    let level = |(id, standing): (&Id, Standing)| standing.level().map(|level| (id.clone(), level));
    Ok(standings.into_iter().filter_map(level).collect())
}

/// The level of one project; see [`levels_of`].
fn level(database: &dyn Executor, project: Shared, enough: Level) -> Result<Option<Level>> {
    Ok(levels_of(database, &[project], enough)?.into_iter().next().map(|(_, level)| level))
}

/// 403 unless the caller has this level in a project that they see.
pub(crate) fn require(database: &dyn Executor, project: &Stored<Project>, wanted: Level) -> Result<()> {
    let shared = Shared {
        id: project.id.clone(),
        visibility: project.visibility,
        team_id: project.team_id.clone(),
        created_by: project.created_by.as_deref().map(Id::from),
    };
    match level(database, shared, wanted)? {
        Some(level) if level.covers(wanted) => Ok(()),
        _ => Err(Problem::forbidden(format!("It needs the level {wanted} in the project."))),
    }
}

/// Whether the caller may change what hangs on a project: 404 when they do not see it, 403 when they only see it.
pub(crate) fn require_edit(database: &dyn Executor, project_id: &Id) -> Result<()> {
    let missing = || Problem::missing(Project::DEFINITION.name);
    let row = database
        .query_one(
            "SELECT visibility, team_id, created_by FROM project_projects \
             WHERE id = $1 AND organization_id = $2 AND deleted_at IS NULL",
            params![project_id, auth::organization_id()?],
        )?
        .ok_or_else(missing)?;
    let shared = Shared {
        id: project_id.clone(),
        visibility: row.get("visibility")?,
        team_id: row.get("team_id")?,
        created_by: row.get("created_by")?,
    };
    match level(database, shared, Level::Editor)? {
        Some(level) if level.covers(Level::Editor) => Ok(()),
        Some(_) => Err(Problem::forbidden("It needs the level editor in the project.")),
        None => Err(missing()),
    }
}

/// Which projects.
#[data]
pub(crate) struct Which {
    /// Their ids with commas between them, at most 100.
    #[field(min = 1, max = 6_500)]
    ids: String,
}

/// What the caller may do with projects.
#[data]
pub(crate) struct Levels {
    /// Projects that the caller does not see are not among them.
    items: Vec<OwnLevel>,
}

/// What the caller may do with one project.
#[data]
pub(crate) struct OwnLevel {
    project_id: Id,
    level: Level,
}

/// `GET /api/projects/levels?ids`: for other services, which show and change only what the caller may see and change.
pub(crate) fn levels(Query(which): Query<Which>) -> Result<Json<Levels>> {
    let ids: Vec<Id> = which.ids.split(',').map(Id::parse).collect::<Result<_>>().map_err(|_| must_be_ids())?;
    if ids.len() > NAMED_MAX {
        return Err(must_be_ids());
    }
    let projects: Vec<Shared> = Select::<Project>::new()
        .one_of("id", &ids)
        .columns(&Pool, "id, visibility, team_id AS \"teamId\", created_by AS \"createdBy\"")?;
    let items = levels_of(&Pool, &projects, Level::Owner)?
        .into_iter()
        .map(|(project_id, level)| OwnLevel { project_id, level });
    Ok(Json(Levels { items: items.collect() }))
}

fn must_be_ids() -> Problem {
    Problem::field("ids", format!("must be at most {NAMED_MAX} ids with commas between them"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Level, Line, NewList, Standing, Visibility};

    #[test]
    fn a_higher_level_covers_the_lower_ones() {
        assert!(Level::Owner.covers(Level::Viewer) && Level::Editor.covers(Level::Editor));
        assert!(!Level::Viewer.covers(Level::Editor) && !Level::Editor.covers(Level::Owner));
    }

    #[test]
    fn an_access_list_has_an_owner_and_nobody_twice() {
        let line = |user: Option<&str>, level| Line { user_id: user.map(Into::into), team_id: None, level };
        let list = |access| NewList { access }.check();
        assert!(list(vec![line(Some("u1"), Level::Owner), line(Some("u2"), Level::Viewer)]).is_ok());
        assert_eq!(list(vec![line(Some("u1"), Level::Editor)]).unwrap_err().status, 422);
        assert_eq!(list(vec![line(None, Level::Owner)]).unwrap_err().errors[0].field, "access[0]");
        assert_eq!(
            list(vec![line(Some("u1"), Level::Owner), line(Some("u1"), Level::Viewer)]).unwrap_err().errors[0].field,
            "access[1]"
        );
    }

    fn standing(visibility: Visibility, listed: &[Level]) -> Standing {
        Standing { visibility, is_its_own: false, is_in_team: false, may_delete: false, listed: listed.to_vec() }
    }

    #[test]
    fn a_project_exists_for_its_team_and_for_those_on_its_list() {
        let team = Standing { is_in_team: true, ..standing(Visibility::Team, &[]) };
        assert_eq!((team.level(), standing(Visibility::Team, &[]).level()), (Some(Level::Editor), None));
        assert_eq!(Standing { visibility: Visibility::Private, ..team }.level(), None);
        assert_eq!(standing(Visibility::Private, &[Level::Viewer, Level::Editor]).level(), Some(Level::Editor));
        assert_eq!(standing(Visibility::Organization, &[Level::Viewer]).level(), Some(Level::Editor));
        let creator = Standing { is_its_own: true, ..standing(Visibility::Private, &[]) };
        assert_eq!(creator.level(), Some(Level::Owner));
    }

    proptest! {
        /// Nothing that somebody is given takes something else away, and nobody owns what they were not given.
        #[test]
        fn more_rights_never_make_less(
            visibility in 0usize..3, listed in prop::collection::vec(0usize..3, 0..4), own: bool, team: bool, delete: bool, more in 0usize..3
        ) {
            let listed: Vec<Level> = listed.into_iter().map(|index| Level::ALL[index]).collect();
            let visibility = Visibility::ALL[visibility];
            let before = Standing { is_its_own: own, is_in_team: team, may_delete: delete, ..standing(visibility, &listed) };
            let mut after = before.clone();
            after.listed.push(Level::ALL[more]);
            let rank = |standing: &Standing| standing.level().map(Level::rank);
            prop_assert!(rank(&after) >= rank(&before));
            let (creator, member) = (
                Standing { is_its_own: true, ..before.clone() },
                Standing { is_in_team: true, ..before.clone() },
            );
            prop_assert_eq!(creator.level(), Some(Level::Owner));
            prop_assert!(rank(&member) >= rank(&before));
            if before.level() == Some(Level::Owner) {
                prop_assert!(own || listed.contains(&Level::Owner) || (delete && visibility == Visibility::Organization));
            }
        }
    }
}
