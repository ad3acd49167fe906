//! The data of a dashboard: every widget's, at the same time, as whoever looks. What one widget fails with is that widget's
//! alone.

pub(crate) mod look;
mod raw;
pub(crate) mod source;
pub(crate) mod step;
mod transform;
pub(crate) mod window;

use std::time::Duration;

use berth_sdk::{cache, canonical, prelude::*, serde_json::Value};

use self::{look::Look, raw::Raw, step::Step};
use crate::{access, catalogue, consume, consume::Topic, dashboard::Dashboard, directory, widget, widget::Widget};

/// How long data of a source of one's own is cached.
const OWN_SOURCE_SECONDS: u64 = 60;

/// What is asked of the data.
#[data]
struct Asked {
    /// From when on: a time, a day, or `now-7d`.
    #[field(max = 40)]
    from: Option<String>,
    /// Until when.
    #[field(max = 40)]
    to: Option<String>,
    /// Which one of what the dashboard is about.
    context_id: Option<Id>,
    /// Nothing from the cache.
    refresh: Option<bool>,
}

/// The data of a widget, or why there is none.
#[data]
struct WidgetData {
    widget_id: Id,
    r#type: String,
    title: String,
    /// As its type has it; null where there is an error.
    data: Option<Raw>,
    /// A problem (RFC 9457).
    error: Option<Value>,
    /// When the services were asked.
    fetched_at: Timestamp,
    /// Somebody has asked a moment ago.
    is_cached: bool,
}

/// The data of a dashboard.
#[data]
struct DashboardData {
    dashboard_id: Id,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    context_id: Option<String>,
    generated_at: Timestamp,
    /// In the order in which they were added.
    widgets: Vec<WidgetData>,
    /// How many of them have an error.
    failed: usize,
}

/// The routes.
pub(crate) fn routes() -> Router {
    Router::new()
        .get("/api/dashboards/{id}/data", of_all)
        .summary("Read the data of all widgets.")
        .get("/api/dashboards/{id}/widgets/{widgetId}/data", of_one)
        .summary("Read the data of a widget.")
}

fn of_all(Params(id): Params<Id>, Query(asked): Query<Asked>) -> Result<Json<DashboardData>> {
    let dashboard = access::open(&id)?.row;
    let look = look(&dashboard, &asked)?;
    let widgets = widget::all_of(&dashboard)?;
    let widgets = gather(&dashboard, widgets, &look, &asked);
    Ok(Json(DashboardData {
        failed: widgets.iter().filter(|widget| widget.error.is_some()).count(),
        dashboard_id: id,
        from: look.window.from,
        to: look.window.to,
        context_id: look.context.as_ref().map(|(_, id)| id.clone()),
        generated_at: look.now,
        widgets,
    }))
}

fn of_one(Params((id, widget_id)): Params<(Id, Id)>, Query(asked): Query<Asked>) -> Result<Json<WidgetData>> {
    let dashboard = access::open(&id)?.row;
    let widget = widget::of(&Pool, &id, &widget_id)?;
    let look = look(&dashboard, &asked)?;
    gather(&dashboard, vec![widget], &look, &asked).into_iter().next().map(Json).ok_or_else(Problem::internal)
}

fn look(dashboard: &Dashboard, asked: &Asked) -> Result<Look> {
    let times = (asked.from.as_deref(), asked.to.as_deref());
    Look::new(dashboard, auth::user_id()?.into_string(), clock::now(), times, asked.context_id.as_deref())
}

/// What is kept of a widget's data.
#[data]
struct Kept {
    data: Raw,
    fetched_at: Timestamp,
}

/// A widget on its way to its data.
struct Order {
    widget: Stored<Widget>,
    key: String,
    seconds: u64,
}

fn gather(dashboard: &Stored<Dashboard>, widgets: Vec<Stored<Widget>>, look: &Look, asked: &Asked) -> Vec<WidgetData> {
    let keys = Keys::of(dashboard, asked);
    let orders: Vec<Order> = widgets.into_iter().map(|widget| keys.order(widget)).collect();
    let names: Vec<&str> = orders.iter().map(|order| order.key.as_str()).collect();
    let mut kept: Vec<Option<Kept>> = match asked.refresh {
        Some(true) => names.iter().map(|_| None).collect(),
        _ => cache::get_many(&names),
    };
    let begun =
        orders.iter().zip(&kept).filter(|(_, kept)| kept.is_none()).map(|(order, _)| begin(&order.widget, look));
    let mut found = step::run(begun.collect()).into_iter();
    orders
        .into_iter()
        .zip(&mut kept)
        .map(|(order, kept)| match kept.take() {
            Some(Kept { data, fetched_at }) => shown(order.widget, Ok(data), fetched_at, true),
            None => {
                let result = found.next().unwrap_or_else(|| Err(Problem::internal()));
                if let Ok(data) = &result {
                    let kept = Kept { data: data.clone(), fetched_at: look.now };
                    cache::set_ttl(&order.key, &kept, Duration::from_secs(order.seconds));
                }
                shown(order.widget, result, look.now, false)
            }
        })
        .collect()
}

/// The first step of a widget. What it is set up with was checked when it was written; a later build may know it no more.
fn begin(widget: &Widget, look: &Look) -> Result<Step> {
    let kind = catalogue::find(&widget.r#type)
        .ok_or_else(|| Problem::unprocessable(format!("There is no type {} any more.", widget.r#type)))?;
    match &widget.data_source {
        Some(source) => source.plan(look),
        None => kind.plan(&widget.config, look),
    }
}

fn shown(widget: Stored<Widget>, result: Result<Raw>, fetched_at: Timestamp, is_cached: bool) -> WidgetData {
    let (data, error) = match result {
        Ok(data) => (Some(data), None),
        Err(problem) => (None, Some(problem.to_json(&auth::principal().request_id))),
    };
    let Widget { r#type, title, .. } = widget.data;
    WidgetData { widget_id: widget.id, r#type, title, data, error, fetched_at, is_cached }
}

/// What the names of cached data are made of. Nobody finds what was fetched for somebody else, or for themselves with other
/// permissions, and nothing is found that is older than the last event about it.
struct Keys {
    dashboard_id: Id,
    caller: String,
    /// What the data is narrowed by, as it was said: a time told from now on stays the same while it is cached.
    asked: Value,
    last: Vec<Option<String>>,
}

impl Keys {
    fn of(dashboard: &Stored<Dashboard>, asked: &Asked) -> Self {
        let said = json!([
            asked.from,
            asked.to,
            asked.context_id,
            dashboard.filters,
            dashboard.context_type,
            dashboard.scope,
            dashboard.scope_id,
        ]);
        Self {
            dashboard_id: dashboard.id.clone(),
            caller: directory::fingerprint(),
            asked: said,
            last: consume::last(Topic::ALL),
        }
    }

    fn order(&self, widget: Stored<Widget>) -> Order {
        let kind = catalogue::find(&widget.r#type);
        let is_own = widget.data_source.is_some();
        // What somebody reads from a place of their own may be about anything.
        let topics = if is_own { Topic::ALL } else { kind.map_or(&[][..], |kind| kind.topics) };
        let last: Vec<&Option<String>> = Topic::ALL
            .iter()
            .zip(&self.last)
            .filter(|(topic, _)| topics.contains(topic))
            .map(|(_, last)| last)
            .collect();
        let set_up = json!([widget.r#type, widget.config, widget.data_source]);
        let what = canonical::sha256(&json!([self.caller, self.asked, last, set_up]));
        Order {
            key: format!("{}:{}:{what}", self.dashboard_id, widget.id),
            seconds: if is_own { OWN_SOURCE_SECONDS } else { kind.map_or(30, |kind| kind.seconds) },
            widget,
        }
    }
}
