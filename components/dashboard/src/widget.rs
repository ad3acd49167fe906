//! A widget: its type, how it is set up, where its data comes from and where it stands.

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use crate::{
    access::{self, Level},
    catalogue,
    dashboard::{
        CONFIG_BYTES_MAX, Dashboard,
        layout::{self, Position},
        touch,
    },
    data::source::DataSource,
};

/// A widget.
#[entity(table = "dashboard_widgets", sort = "createdAt")]
pub(crate) struct Widget {
    #[field(immutable)]
    pub dashboard_id: Id,
    /// A code of the catalogue.
    #[field(min = 1, max = 64, filter)]
    pub r#type: String,
    /// The type's name when absent.
    #[field(default, max = 200, plain)]
    pub title: String,
    /// As the type's `configSchema` says.
    #[field(default)]
    pub config: Map<String, Value>,
    /// In place of where the type has its data from.
    pub data_source: Option<DataSource>,
    /// Below the others when absent.
    pub position: Option<Position>,
}

impl Widget {
    /// 422 for a type that there is not, a set-up that does not fit it, or a source that may not be read.
    fn settle(&mut self) -> Result<()> {
        let kind = catalogue::find(&self.r#type)
            .ok_or_else(|| impossible("type", "is no type of the catalogue: see GET /api/dashboards/widget-types"))?;
        if json!(self.config).to_string().len() > CONFIG_BYTES_MAX {
            return Err(impossible("config", &format!("must have at most {CONFIG_BYTES_MAX} bytes")));
        }
        kind.check(&self.config)?;
        if let Some(source) = &self.data_source {
            if kind.service.is_none() {
                return Err(impossible("dataSource", "cannot be set: this type reads no service"));
            }
            source.check()?;
        }
        if self.title.is_empty() {
            self.title = kind.name.into();
        }
        Ok(())
    }
}

/// 422 with the field that is impossible.
pub(crate) fn impossible(field: &str, message: &str) -> Problem {
    Problem::unprocessable(format!("{field}: {message}.")).with_errors(vec![validate::FieldError::new(field, message)])
}

impl Rules for Widget {
    fn before_create(&mut self, transaction: &Transaction) -> Result<()> {
        self.settle()?;
        if self.position.is_none() {
            let there = Select::<Self>::new().equal("dashboard_id", &self.dashboard_id).all(transaction)?;
            let places: Vec<Position> = there.iter().filter_map(|widget| widget.position).collect();
            let size = catalogue::find(&self.r#type).map_or((6, 4), |kind| kind.size);
            self.position = Some(layout::below(&places, size));
        }
        Ok(())
    }

    fn before_update(&mut self, old: &Stored<Self>, _: &Transaction) -> Result<()> {
        self.position = self.position.or(old.position);
        self.settle()
    }
}

/// The routes.
pub(crate) fn routes() -> Router {
    let path = "/api/dashboards/{id}/widgets";
    let row = format!("{path}/{{widgetId}}");
    Router::new()
        .get(path, list)
        .summary("List the widgets of a dashboard.")
        .post(path, add)
        .summary("Add a widget.")
        .get(&row, read)
        .summary("Read a widget.")
        .put(&row, change)
        .summary("Update a widget.")
        .changes::<Widget>()
        .delete(&row, remove)
        .summary("Remove a widget.")
        // A widget is a part of its dashboard.
        .permission(crate::UPDATE)
}

fn list(Params(id): Params<Id>, query: PageQuery) -> Result<JsonText<Page<Stored<Widget>>>> {
    access::open(&id)?;
    Select::<Widget>::new().equal("dashboard_id", &id).page(&Pool, &query)
}

/// The widget of this dashboard; 404.
pub(crate) fn of(database: &dyn Executor, id: &Id, widget_id: &Id) -> Result<Stored<Widget>> {
    let row = entity::read::<Widget>(database, widget_id)?;
    if row.dashboard_id == *id { Ok(row) } else { Err(Problem::missing(Widget::DEFINITION.name)) }
}

fn read(Params((id, widget_id)): Params<(Id, Id)>) -> Result<Stored<Widget>> {
    access::open(&id)?;
    of(&Pool, &id, &widget_id)
}

/// The body of a new widget: its fields but the dashboard, which the path names.
#[data]
struct NewWidget {
    #[field(min = 1, max = 64)]
    r#type: String,
    #[field(default, max = 200, plain)]
    title: String,
    #[field(default)]
    config: Map<String, Value>,
    data_source: Option<DataSource>,
    position: Option<Position>,
}

/// A widget that was made, with its `ETag`.
struct Made(Stored<Widget>);

impl Answer for Made {
    fn into_response(self) -> Result<Response> {
        Ok(Response::json(201, &self.0.shown())?.with_version(self.0.version))
    }

    fn describe(route: &mut berth_sdk::router::Route) {
        Created::<Stored<Widget>>::describe(route);
    }
}

fn add(Params(id): Params<Id>, Json(body): Json<NewWidget>) -> Result<Made> {
    access::open_for(&id, Level::Edit)?;
    let NewWidget { r#type, title, config, data_source, position } = body;
    let widget = Widget { dashboard_id: id.clone(), r#type, title, config, data_source, position };
    let row = database::transaction(|transaction| {
        touch(transaction, &id, 1)?;
        let row = entity::create(transaction, widget)?;
        layout::announce(transaction, &id, "widget.added", Some(&row.id))?;
        Ok::<_, Problem>(row)
    })?;
    Ok(Made(row))
}

fn change(
    Params((id, widget_id)): Params<(Id, Id)>,
    if_match: IfMatch,
    Json(patch): Json<Map<String, Value>>,
) -> Result<Stored<Widget>> {
    access::open_for(&id, Level::Edit)?;
    database::transaction(|transaction| {
        // Everybody who changes something of the dashboard takes turns.
        touch(transaction, &id, 0)?;
        of(transaction, &id, &widget_id)?;
        let row = entity::update::<Widget>(transaction, &widget_id, &patch, if_match)?;
        layout::announce(transaction, &id, "widget.changed", Some(&widget_id))?;
        Ok(row)
    })
}

fn remove(Params((id, widget_id)): Params<(Id, Id)>, if_match: IfMatch) -> Result<NoContent> {
    access::open_for(&id, Level::Edit)?;
    database::transaction(|transaction| {
        touch(transaction, &id, -1)?;
        of(transaction, &id, &widget_id)?;
        entity::delete::<Widget>(transaction, &widget_id, if_match)?;
        layout::announce(transaction, &id, "widget.removed", Some(&widget_id))?;
        Ok::<_, Problem>(NoContent)
    })
}

/// The widgets of a dashboard, as they were made.
pub(crate) fn all_of(dashboard: &Stored<Dashboard>) -> Result<Vec<Stored<Widget>>> {
    Select::<Widget>::new()
        .equal("dashboard_id", &dashboard.id)
        .sort("createdAt")
        .limit(crate::dashboard::WIDGETS_MAX)
        .all(&Pool)
}

#[cfg(test)]
mod tests {
    use berth_sdk::http::read_value;

    use super::*;

    fn settled(more: Value) -> Result<Widget> {
        let mut body = json!({"dashboardId": "d1"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let mut widget: Widget = read_value(body)?;
        widget.settle()?;
        Ok(widget)
    }

    fn fields(result: Result<Widget>) -> (u16, Vec<String>) {
        let problem = result.unwrap_err();
        (problem.status, problem.errors.into_iter().map(|error| error.field).collect())
    }

    #[test]
    fn a_widget_takes_the_name_of_its_type() {
        assert_eq!(settled(json!({"type": "my_tasks"})).unwrap().title, "My tasks");
        assert_eq!(settled(json!({"type": "my_tasks", "title": "Todo"})).unwrap().title, "Todo");
    }

    #[test]
    fn what_is_impossible_is_named() {
        assert_eq!(fields(settled(json!({"type": "horoscope"}))), (422, vec!["type".into()]));
        assert_eq!(
            fields(settled(json!({"type": "my_tasks", "config": {"limit": 0}}))),
            (422, vec!["config.limit".into()])
        );
        assert_eq!(fields(settled(json!({"type": "metric_chart"}))), (422, vec!["config.name".into()]));
        let source = json!({"service": "planning", "path": "/api/tasks"});
        assert_eq!(
            fields(settled(json!({"type": "markdown_note", "config": {"content": "x"}, "dataSource": source}))),
            (422, vec!["dataSource".into()])
        );
        let secret = json!({"service": "secret-management", "path": "/api/secrets"});
        assert_eq!(
            fields(settled(json!({"type": "my_tasks", "dataSource": secret}))),
            (422, vec!["dataSource.service".into()])
        );
    }
}
