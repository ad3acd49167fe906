//! A dashboard: whose it is, for whom it is, and what its widgets are narrowed by.

pub(crate) mod api;
pub(crate) mod copy;
pub(crate) mod default;
pub(crate) mod favorite;
pub(crate) mod layout;
pub(crate) mod share;
pub(crate) mod view;

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use crate::data::window;

/// The most widgets of a dashboard.
pub(crate) const WIDGETS_MAX: i64 = 30;
/// The most dashboards that somebody owns in an organization.
pub(crate) const OWNED_MAX: i64 = 500;
/// The largest `config`, as JSON.
pub(crate) const CONFIG_BYTES_MAX: usize = 64 * 1024;
/// The most filters, and their longest text.
const FILTERS_MAX: usize = 20;
const FILTER_CHARACTERS_MAX: usize = 200;

/// For whom a dashboard is.
#[choice(upper)]
pub enum Scope {
    /// Its owner.
    Personal,
    /// Whoever sees the project.
    Project,
    /// Who is in the team.
    Team,
    /// Everybody of the organization.
    Organization,
}

impl Scope {
    /// Whether it takes the id of what it is for.
    fn has_id(self) -> bool {
        matches!(self, Self::Project | Self::Team)
    }
}

/// What a dashboard is about; `contextId` says which one when its data is read.
#[choice]
pub enum ContextType {
    Project,
    Task,
    User,
    Step,
    Module,
}

/// A dashboard.
#[entity(
    table = "dashboard_dashboards",
    created = "dashboard.created",
    updated = "dashboard.updated",
    deleted = "dashboard.deleted",
    sort = "-updatedAt"
)]
pub struct Dashboard {
    #[field(min = 1, max = 200, plain)]
    pub name: String,
    #[field(max = 2000)]
    pub description: Option<String>,
    /// What a program that shows it keeps with it; at most 64 KiB.
    #[field(default)]
    pub config: Map<String, Value>,
    /// Who made it.
    #[field(readonly, default, filter)]
    pub owner_id: String,
    #[field(default = Scope::Personal)]
    pub scope: Scope,
    /// The project or the team.
    pub scope_id: Option<Id>,
    pub context_type: Option<ContextType>,
    /// What its widgets are narrowed by when nothing else is said: `from` and `to` (times, or `now-7d`), `projectId`, …
    #[field(default)]
    pub filters: Map<String, Value>,
    /// How often a program that shows it asks again.
    #[field(min = 5, max = 86_400)]
    pub refresh_seconds: Option<i64>,
    /// How many widgets it has.
    #[field(readonly, default)]
    pub widget_count: i64,
}

impl Rules for Dashboard {
    fn check(&self, faults: &mut Faults) {
        if self.scope.has_id() && self.scope_id.is_none() {
            faults.add("scopeId", format!("is needed for the scope {}", self.scope));
        }
        if !self.scope.has_id() && self.scope_id.is_some() {
            faults.add("scopeId", "is only for the scopes PROJECT and TEAM");
        }
        if json!(self.config).to_string().len() > CONFIG_BYTES_MAX {
            faults.add("config", format!("must have at most {CONFIG_BYTES_MAX} bytes"));
        }
        check_filters(&self.filters, faults);
    }

    fn before_create(&mut self, transaction: &Transaction) -> Result<()> {
        self.owner_id = auth::user_id()?.into_string();
        default::hold_all(transaction, &self.owner_id)?;
        let owned = Select::<Self>::new().equal("owner_id", self.owner_id.as_str()).count(transaction)?;
        if owned >= OWNED_MAX {
            return Err(
                Problem::conflict(format!("Nobody owns more than {OWNED_MAX} dashboards.")).with_code("LIMIT_REACHED")
            );
        }
        Ok(())
    }

    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        // Whoever adds a widget holds the row; what they added is seen from here on.
        transaction.execute("UPDATE dashboard_dashboards SET version = version + 1 WHERE id = $1", params![&row.id])?;
        default::release(transaction, &row.id)?;
        for table in ["dashboard_widgets", "dashboard_shares", "dashboard_favorites"] {
            transaction.execute(&format!("DELETE FROM {table} WHERE dashboard_id = $1"), params![&row.id])?;
        }
        Ok(())
    }

    /// Names are left out: what a personal dashboard is called is its owner's business.
    fn event_data(row: &Stored<Self>) -> Value {
        json!({
            "id": row.id, "dashboardId": row.id, "ownerId": row.owner_id, "scope": row.scope, "scopeId": row.scope_id,
            "contextType": row.context_type, "widgetCount": row.widget_count,
        })
    }
}

/// Filters are plain values under plain names; times must be times.
fn check_filters(filters: &Map<String, Value>, faults: &mut Faults) {
    if filters.len() > FILTERS_MAX {
        faults.add("filters", format!("must have at most {FILTERS_MAX} members"));
    }
    for (name, value) in filters {
        let field = format!("filters.{name}");
        let is_plain = match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => true,
            Value::String(text) => text.chars().count() <= FILTER_CHARACTERS_MAX,
            Value::Array(_) | Value::Object(_) => false,
        };
        if validate::id(name).is_err() {
            faults.add(&field, "must have a name of letters, digits, _ and -");
        } else if !is_plain {
            faults.add(&field, "must be a number, a boolean or a short text");
        } else if matches!(name.as_str(), "from" | "to") && !value.is_null() {
            faults.check(
                &field,
                value.as_str().ok_or_else(window::fault).and_then(|text| window::Bound::parse(text).map(|_| ())),
            );
        }
    }
}

/// Notes that something of a dashboard has changed besides its row, and how many widgets came or went. It holds the row
/// until the transaction ends. 404 when it is gone, 422 for more than [`WIDGETS_MAX`] widgets.
pub(crate) fn touch(transaction: &Transaction, id: &Id, widgets: i64) -> Result<i64> {
    let organization_id = auth::organization_id()?;
    let row = transaction.query_one(
        "UPDATE dashboard_dashboards SET widget_count = widget_count + $3, version = version + 1, updated_at = $4 \
         WHERE id = $1 AND organization_id = $2 AND widget_count + $3 <= $5 RETURNING version",
        params![id, &organization_id, widgets, clock::now(), if widgets > 0 { WIDGETS_MAX } else { i64::MAX }],
    )?;
    match row {
        Some(row) => Ok(row.get("version")?),
        None => {
            entity::read::<Dashboard>(transaction, id)?;
            Err(Problem::unprocessable(format!("A dashboard has at most {WIDGETS_MAX} widgets."))
                .with_code("TOO_MANY_WIDGETS"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_plain_values() {
        let faults = |filters: Value| {
            let mut faults = Faults::default();
            check_filters(filters.as_object().unwrap(), &mut faults);
            faults.errors().iter().map(|fault| fault.field.clone()).collect::<Vec<_>>()
        };
        assert!(
            faults(
                json!({"from": "now-7d", "to": "2026-03-01T00:00:00Z", "projectId": "p", "n": 3, "b": true, "x": null})
            )
            .is_empty()
        );
        assert_eq!(faults(json!({"a b": 1})), ["filters.a b"]);
        assert_eq!(faults(json!({"from": 7})), ["filters.from"]);
        assert_eq!(faults(json!({"deep": {"a": 1}})), ["filters.deep"]);
        let many: Map<String, Value> = (0..21).map(|index| (format!("f{index}"), json!(1))).collect();
        assert_eq!(faults(Value::Object(many)), ["filters"]);
    }
}
