//! The types of widgets: what they are called, how they are set up, and where their data comes from. The catalogue is part of
//! the build; a type's set-up is a type of Rust, of which its JSON Schema is made and by which it is checked.

mod content;
mod operations;
mod people;
mod planning;
mod usage;

use berth_sdk::{
    http::read_value,
    prelude::*,
    schema,
    schemars::JsonSchema,
    serde::de::DeserializeOwned,
    serde_json::{Map, Value},
    validate::{FieldError, Tidy},
};

use crate::{
    consume::Topic,
    data::{look::Look, step::Step},
};

/// What types are sorted by.
#[choice]
pub(crate) enum Category {
    Planning,
    Execution,
    Usage,
    People,
    Knowledge,
    Quality,
    Operations,
    Content,
}

/// How a widget of a type is set up, and what follows from that.
trait Setup: DeserializeOwned + JsonSchema + Tidy {
    /// Checks what concerns several fields.
    fn check(&self, faults: &mut Faults) {
        let _ = faults;
    }

    /// The first step to the data.
    fn plan(self, look: &Look) -> Result<Step>;
}

/// A type of widgets.
pub(crate) struct WidgetType {
    pub code: &'static str,
    pub name: &'static str,
    pub description: &'static str,
    pub category: Category,
    /// Whom it is meant for. What somebody sees follows from their permissions alone.
    pub roles: &'static [&'static str],
    /// The service that it reads; none where it is all there.
    pub service: Option<&'static str>,
    /// Columns and rows of a new one.
    pub size: (i64, i64),
    /// How long its data may be cached.
    pub seconds: u64,
    /// What makes its cached data old at once.
    pub topics: &'static [Topic],
    schema: fn() -> Value,
    check: fn(&Map<String, Value>) -> Result<()>,
    plan: fn(&Map<String, Value>, &Look) -> Result<Step>,
}

/// For everybody.
const ALL: &[&str] = &["Viewer", "Member", "Admin", "Super Admin"];
/// For those who look after the organization.
const ADMINISTRATORS: &[&str] = &["Admin", "Super Admin"];

impl WidgetType {
    /// A type that is set up by `T`.
    const fn new<T: Setup>(
        code: &'static str,
        name: &'static str,
        description: &'static str,
        category: Category,
    ) -> Self {
        Self {
            code,
            name,
            description,
            category,
            roles: ALL,
            service: None,
            size: (6, 4),
            seconds: 60,
            topics: &[],
            schema: schema::of::<T>,
            check: check::<T>,
            plan: plan::<T>,
        }
    }

    const fn reads(self, service: &'static str) -> Self {
        Self { service: Some(service), ..self }
    }

    const fn sized(self, columns: i64, rows: i64) -> Self {
        Self { size: (columns, rows), ..self }
    }

    const fn cached(self, seconds: u64, topics: &'static [Topic]) -> Self {
        Self { seconds, topics, ..self }
    }

    const fn meant_for(self, roles: &'static [&'static str]) -> Self {
        Self { roles, ..self }
    }

    /// 422 that names every field of a set-up that does not fit.
    pub fn check(&self, config: &Map<String, Value>) -> Result<()> {
        (self.check)(config)
    }

    /// The first step to the data of a widget that is set up so.
    pub fn plan(&self, config: &Map<String, Value>, look: &Look) -> Result<Step> {
        (self.plan)(config, look)
    }
}

fn read<T: Setup>(config: &Map<String, Value>) -> Result<T> {
    let setup: T = read_value(Value::Object(config.clone())).map_err(misfit)?;
    let mut faults = Faults::default();
    setup.check(&mut faults);
    faults.finish().map_err(misfit)?;
    Ok(setup)
}

fn check<T: Setup>(config: &Map<String, Value>) -> Result<()> {
    read::<T>(config).map(|_| ())
}

fn plan<T: Setup>(config: &Map<String, Value>, look: &Look) -> Result<Step> {
    read::<T>(config)?.plan(look)
}

/// A set-up that does not fit is a well-formed body that is impossible.
fn misfit(problem: Problem) -> Problem {
    let errors =
        problem.errors.into_iter().map(|error| FieldError { field: format!("config.{}", error.field), ..error });
    Problem::unprocessable("The configuration does not fit the widget's type.").with_errors(errors.collect())
}

/// Every type.
fn all() -> impl Iterator<Item = &'static WidgetType> {
    planning::TYPES.iter().chain(usage::TYPES).chain(people::TYPES).chain(operations::TYPES).chain(content::TYPES)
}

/// The type of this code.
pub(crate) fn find(code: &str) -> Option<&'static WidgetType> {
    all().find(|kind| kind.code == code)
}

/// A size.
#[data]
struct Size {
    w: i64,
    h: i64,
}

/// A type as it is shown.
#[data]
struct Shown {
    id: String,
    code: String,
    name: String,
    description: String,
    category: Category,
    /// Whom it is meant for.
    roles: Vec<String>,
    /// A JSON Schema.
    config_schema: Value,
    default_size: Size,
    /// It comes with the service.
    is_system: bool,
    /// The service that it reads.
    service: Option<String>,
    /// How long its data may be old.
    cache_seconds: u64,
}

impl From<&WidgetType> for Shown {
    fn from(kind: &WidgetType) -> Self {
        Self {
            id: kind.code.into(),
            code: kind.code.into(),
            name: kind.name.into(),
            description: kind.description.into(),
            category: kind.category,
            roles: kind.roles.iter().map(ToString::to_string).collect(),
            config_schema: (kind.schema)(),
            default_size: Size { w: kind.size.0, h: kind.size.1 },
            is_system: true,
            service: kind.service.map(Into::into),
            cache_seconds: kind.seconds,
        }
    }
}

/// Which types are wanted.
#[data]
struct Wanted {
    category: Option<Category>,
}

/// The routes.
pub(crate) fn routes() -> Router {
    Router::new().get("/api/dashboards/widget-types", list).summary("List the types of widgets.").sorts(&["code"])
}

fn list(Query(wanted): Query<Wanted>, query: PageQuery) -> Result<Json<Page<Shown>>> {
    if query.sort_by.as_deref().is_some_and(|field| field != "code") {
        return Err(Problem::field("sortBy", "must be code"));
    }
    let mut found: Vec<&WidgetType> =
        all().filter(|kind| wanted.category.is_none_or(|category| kind.category == category)).collect();
    match (query.sort_by.is_some(), query.descending) {
        (_, Some(true)) => found.sort_by(|one, other| other.code.cmp(one.code)),
        (true, _) | (_, Some(false)) => found.sort_by_key(|kind| kind.code),
        _ => {}
    }
    let total = i64::try_from(found.len()).unwrap_or(i64::MAX);
    let skipped = usize::try_from(query.offset).unwrap_or(usize::MAX);
    let taken = usize::try_from(query.limit).unwrap_or(0);
    let items = found.into_iter().skip(skipped).take(taken).map(Shown::from).collect();
    Ok(Json(query.envelope(items, total)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::dashboard::Dashboard;

    pub(super) fn look() -> Look {
        let dashboard: Dashboard = read_value(json!({"name": "d"})).unwrap();
        Look::new(&dashboard, "me".into(), clock::now(), (None, None), None).unwrap()
    }

    #[test]
    fn the_catalogue_is_whole() {
        let wanted = "task_status my_tasks plan_progress execution_timeline roadmap_progress incident_list debt_trend usage_cost \
            quota_bars ai_tokens calendar_agenda unread_messages notifications recent_knowledge log_error_rate metric_chart \
            service_health team_capacity experiments learning_progress markdown_note link_list";
        let wanted: BTreeSet<&str> = wanted.split_whitespace().collect();
        let known: Vec<&str> = all().map(|kind| kind.code).collect();
        assert_eq!(known.iter().copied().collect::<BTreeSet<_>>(), wanted);
        assert_eq!(known.len(), wanted.len(), "no code is there twice");
    }

    #[test]
    fn every_type_is_sound() {
        for kind in all() {
            assert!((30..=300).contains(&kind.seconds), "{}", kind.code);
            assert!(kind.size.0 > 0 && kind.size.1 > 0);
            let schema = (kind.schema)();
            assert_eq!(schema["type"], "object", "{}: {schema}", kind.code);
            assert!(validate::json_schema(&schema, &json!([])).is_err());
        }
    }

    #[test]
    fn a_set_up_that_does_not_fit_names_its_fields() {
        let faults = |code: &str, config: Value| {
            let problem = find(code).unwrap().check(config.as_object().unwrap()).unwrap_err();
            (problem.status, problem.errors.into_iter().map(|error| error.field).collect::<Vec<_>>())
        };
        assert_eq!(faults("incident_list", json!({"limit": 999, "severity": ["mild"]})).0, 422);
        assert_eq!(
            faults("link_list", json!({"links": [{"title": "x", "url": "javascript:alert(1)"}]})),
            (422, vec!["config.links[0].url".into()])
        );
        assert_eq!(faults("markdown_note", json!({})), (422, vec!["config.content".into()]));
    }
}
