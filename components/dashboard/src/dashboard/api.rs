//! The routes of dashboards.

use berth_sdk::{
    database::like,
    prelude::*,
    router::Route,
    schema, serde_json,
    serde_json::{Map, Value},
};

use super::{
    ContextType, Dashboard, Scope, copy, default, favorite, layout,
    layout::Place,
    share,
    view::{Made, Surroundings, Whole, shown_schema},
};
use crate::{
    access::{self, Level, Viewer},
    directory,
};

const PATH: &str = "/api/dashboards";
/// How often an update that lost a race is tried.
const ATTEMPTS_MAX: u32 = 3;

/// The routes.
pub(crate) fn routes() -> Router {
    let row = format!("{PATH}/{{id}}");
    Router::new()
        .get(PATH, list)
        .summary("List the dashboards that one sees.")
        .post(PATH, create)
        .summary("Create a dashboard.")
        .get(&format!("{PATH}/default"), default::read)
        .summary("Read the default dashboard.")
        .get(&row, |Params(id): Params<Id>| Whole::read(200, &id))
        .summary("Read a dashboard.")
        .put(&row, update)
        .summary("Update a dashboard.")
        .delete(&row, remove)
        .summary("Delete a dashboard.")
        // One's own is one's own to delete; the others are judged there.
        .permission(crate::UPDATE)
        .put(&format!("{row}/layout"), layout::save)
        .summary("Save where the widgets are.")
        .post(&format!("{row}/duplicate"), copy::duplicate)
        .summary("Copy a dashboard.")
        .permission(crate::CREATE)
        .post(&format!("{row}/share"), share::change)
        .summary("Share a dashboard with users, teams or the organization.")
        .post(&format!("{row}/set-default"), default::choose)
        .summary("Make a dashboard one's default.")
        .permission(crate::READ)
        .post(&format!("{row}/favorite"), favorite::toggle)
        .summary("Make a dashboard a favourite, or no longer.")
        .permission(crate::READ)
}

/// A new dashboard.
#[data]
struct NewDashboard {
    #[field(min = 1, max = 200, plain)]
    name: String,
    #[field(max = 2000)]
    description: Option<String>,
    /// What a program that shows it keeps with it; at most 64 KiB.
    #[field(default)]
    config: Map<String, Value>,
    #[field(default = Scope::Personal)]
    scope: Scope,
    /// The project or the team.
    scope_id: Option<Id>,
    context_type: Option<ContextType>,
    #[field(default)]
    filters: Map<String, Value>,
    #[field(min = 5, max = 86_400)]
    refresh_seconds: Option<i64>,
    /// Whether it is to be the caller's default for its scope.
    #[field(default)]
    is_default: bool,
}

/// What is to be different.
#[data]
struct Changes {
    #[field(min = 1, max = 200, plain)]
    name: Option<String>,
    #[field(max = 2000)]
    description: Option<String>,
    config: Option<Map<String, Value>>,
    scope: Option<Scope>,
    scope_id: Option<Id>,
    context_type: Option<ContextType>,
    filters: Option<Map<String, Value>>,
    #[field(min = 5, max = 86_400)]
    refresh_seconds: Option<i64>,
    /// Whether it is to be the caller's default for its scope.
    is_default: Option<bool>,
    /// Where its widgets are.
    #[field(max = 30)]
    layout: Option<Vec<Place>>,
}

/// Which dashboards are wanted, beside the fields themselves.
#[data]
struct Wanted {
    /// Words of the name.
    #[field(max = 200)]
    q: Option<String>,
    /// Only one's own, or only those of others.
    mine: Option<bool>,
    /// Only one's favourites.
    favorite: Option<bool>,
    /// Only those that others share with one, or that are shared at all among one's own.
    shared: Option<bool>,
}

/// A page of dashboards.
#[data]
struct Listed {
    items: Vec<Map<String, Value>>,
    total: i64,
    limit: i64,
    offset: i64,
}

impl Answer for Listed {
    fn into_response(self) -> Result<Response> {
        Response::json(200, &self)
    }

    fn describe(route: &mut Route) {
        route.answer(200, Some(page_schema), None);
    }
}

fn page_schema() -> Value {
    let mut page = schema::of::<Listed>();
    if let Some(items) = page.pointer_mut("/properties/items/items") {
        *items = shown_schema();
    }
    page
}

fn list(Query(wanted): Query<Wanted>, query: PageQuery) -> Result<Listed> {
    let viewer = Viewer::caller()?;
    let user_id = viewer.user_id.as_str();
    let projects = access::projects_of_others(&viewer)?;
    let visible = access::visible(&viewer, &projects)?;
    let mut select = Select::<Dashboard>::new().meets(visible);
    if let Some(words) = &wanted.q {
        select = select.meets(like::in_any_case("name", words));
    }
    if let Some(is_mine) = wanted.mine {
        select = select.condition(if is_mine { "owner_id = ?" } else { "owner_id <> ?" }, [user_id]);
    }
    if let Some(is_wanted) = wanted.favorite {
        let negation = if is_wanted { "" } else { "NOT " };
        let sql = format!("id {negation}IN (SELECT dashboard_id FROM dashboard_favorites WHERE user_id = ?)");
        select = select.condition(&sql, [user_id]);
    }
    if let Some(is_wanted) = wanted.shared {
        let negation = if is_wanted { "" } else { "NOT " };
        let sql = format!("id {negation}IN (SELECT dashboard_id FROM dashboard_shares WHERE organization_id = ?)");
        select = select.condition(&sql, [auth::organization_id()?]);
    }
    let page = select.page(&Pool, &query)?;
    let mut page: Listed = serde_json::from_slice(&page.text).map_err(|_| Problem::internal())?;
    let ids: Vec<String> =
        page.items.iter().filter_map(|row| row.get("id")?.as_str().map(ToString::to_string)).collect();
    let surroundings = Surroundings::of(&ids, projects)?;
    page.items = page.items.into_iter().map(|row| surroundings.complete(row)).collect::<Result<_>>()?;
    Ok(page)
}

/// `POST /api/dashboards`.
fn create(Json(body): Json<NewDashboard>) -> Result<Made> {
    let NewDashboard { name, description, config, scope, scope_id, context_type, filters, refresh_seconds, is_default } =
        body;
    let dashboard = Dashboard {
        name,
        description,
        config,
        owner_id: String::new(),
        scope,
        scope_id,
        context_type,
        filters,
        refresh_seconds,
        widget_count: 0,
    };
    let mut faults = Faults::default();
    dashboard.check(&mut faults);
    faults.finish()?;
    directory::require_scope(dashboard.scope, dashboard.scope_id.as_ref())?;
    let made = database::transaction(|transaction| {
        let row = entity::create(transaction, dashboard)?;
        if is_default {
            default::set(transaction, &row, &row.owner_id)?;
        } else {
            default::ensure(transaction, &row, &row.owner_id)?;
        }
        Ok::<_, Problem>(row)
    })?;
    Ok(Made(Whole::read(201, &made.id)?))
}

/// `PUT /api/dashboards/{id}`. The body is read twice: for what it names, and for its faults.
fn update(
    Params(id): Params<Id>,
    if_match: IfMatch,
    Json(patch): Json<Map<String, Value>>,
    Json(changes): Json<Changes>,
) -> Result<Whole> {
    let opened = access::open_for(&id, Level::Edit)?;
    let mut faults = Faults::default();
    layout::check(changes.layout.as_deref().unwrap_or_default(), &mut faults);
    faults.finish()?;
    if let Some((scope, scope_id)) = target(&opened.row, &patch) {
        opened.require(Level::Own)?;
        directory::require_scope(scope, scope_id.as_ref())?;
    }
    let mut attempt = 1;
    loop {
        match change(&id, &patch, &changes, if_match) {
            Err(problem) if problem.code == "CHANGED_MEANWHILE" && if_match.0.is_none() && attempt < ATTEMPTS_MAX => {
                attempt += 1;
            }
            result => {
                result?;
                return Whole::read(200, &id);
            }
        }
    }
}

/// For whom a dashboard is to be from now on, when a patch changes that. What is no scope and no id is found later.
fn target(row: &Dashboard, patch: &Map<String, Value>) -> Option<(Scope, Option<Id>)> {
    let text = |name: &str| patch.get(name).map(|value| value.as_str());
    let scope = text("scope").map_or(Some(row.scope), |text| text.and_then(Scope::parse))?;
    let scope_id = text("scopeId").map_or(row.scope_id.clone(), |text| text.map(Id::from));
    (scope != row.scope || scope_id != row.scope_id).then_some((scope, scope_id))
}

fn change(id: &Id, patch: &Map<String, Value>, changes: &Changes, if_match: IfMatch) -> Result<()> {
    let user_id = auth::user_id()?;
    database::transaction(|transaction| {
        if patch.contains_key("scope") || changes.is_default.is_some() {
            default::hold(transaction, id)?;
        }
        let before = entity::read::<Dashboard>(transaction, id)?;
        let row = entity::update::<Dashboard>(transaction, id, patch, if_match)?;
        if before.scope != row.scope {
            default::moved(transaction, &row)?;
        }
        if let Some(places) = &changes.layout {
            super::touch(transaction, id, 0)?;
            layout::store(transaction, id, places)?;
        }
        match changes.is_default {
            Some(true) => default::set(transaction, &row, &user_id),
            Some(false) if default::is_of(transaction, id, &user_id)? => {
                Err(Problem::conflict("There is always a default: make another dashboard the default instead."))
            }
            _ => Ok(()),
        }
    })
}

/// `DELETE /api/dashboards/{id}`: by its owner, or of a team, a project or the organization by who may delete.
fn remove(Params(id): Params<Id>, if_match: IfMatch) -> Result<NoContent> {
    let opened = access::open_for(&id, Level::Own)?;
    if opened.row.owner_id != auth::user_id()?.as_str() {
        auth::require(crate::DELETE)?;
    }
    database::transaction(|transaction| {
        default::hold(transaction, &id)?;
        entity::delete::<Dashboard>(transaction, &id, if_match)
    })?;
    Ok(NoContent)
}

#[cfg(test)]
mod tests {
    use berth_sdk::{http::read_value, json};

    use super::*;

    #[test]
    fn a_move_is_a_change_of_scope_or_of_what_it_is_for() {
        let row: Dashboard = read_value(json!({"name": "d", "scope": "TEAM", "scopeId": "t1"})).unwrap();
        let moved = |patch: Value| target(&row, patch.as_object().unwrap());
        assert_eq!(moved(json!({"name": "x"})), None);
        assert_eq!(moved(json!({"scope": "TEAM", "scopeId": "t1"})), None);
        assert_eq!(moved(json!({"scopeId": "t2"})), Some((Scope::Team, Some(Id::from("t2")))));
        assert_eq!(moved(json!({"scope": "PERSONAL", "scopeId": null})), Some((Scope::Personal, None)));
        assert_eq!(moved(json!({"scope": "nowhere"})), None);
    }
}
