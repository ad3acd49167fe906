//! What an organization allows: whether tools of other servers are used at all, how many, and what its endpoint offers.

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use crate::{access, audit};

/// An organization's settings; one row an organization, made when they are first changed.
#[entity(table = "mcp_organization_settings", name = "settings")]
pub struct Settings {
    /// Whether tools are executed and the endpoint answers.
    #[field(default = true)]
    pub mcp_enabled: bool,
    /// The most servers of its own.
    #[field(default = 50, min = 0, max = 1_000)]
    pub max_custom_servers: i64,
    /// The most executions of an hour.
    #[field(default = 10_000, min = 0, max = 1_000_000)]
    pub max_executions_per_hour: i64,
    /// The most executions at the same time.
    #[field(default = 100, min = 0, max = 10_000)]
    pub max_concurrent: i64,
    /// Whether the endpoint offers the usual routes, besides those that were chosen.
    #[field(default = true)]
    pub offers_defaults: bool,
    /// Whether the endpoint offers the tools of other servers too, as `server__tool`.
    #[field(default = true)]
    pub offers_servers: bool,
}

impl Rules for Settings {}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mcp_enabled: true,
            max_custom_servers: 50,
            max_executions_per_hour: 10_000,
            max_concurrent: 100,
            offers_defaults: true,
            offers_servers: true,
        }
    }
}

/// The organization's settings, or what holds without any.
pub fn of(database: &dyn Executor) -> Result<Settings> {
    Ok(Select::<Settings>::new().first(database)?.map(|row| row.data).unwrap_or_default())
}

/// The same, held until the end of the transaction where the organization has set any: who counts against them comes one after
/// the other, and who changes them comes before or after.
pub fn hold(transaction: &Transaction) -> Result<Settings> {
    let sql = "SELECT id FROM mcp_organization_settings WHERE organization_id = $1 FOR UPDATE";
    transaction.query_one(sql, params![auth::organization_id()?])?;
    of(transaction)
}

/// 403 when the organization uses no tools.
pub fn require_enabled(settings: &Settings) -> Result<()> {
    if settings.mcp_enabled {
        return Ok(());
    }
    Err(access::denied("The organization has turned the Model Context Protocol off."))
}

fn shown(row: Option<&Stored<Settings>>) -> Map<String, Value> {
    if let Some(row) = row {
        return row.shown();
    }
    match json!(Settings::default()) {
        Value::Object(mut members) => {
            members.insert("version".into(), 0.into());
            members
        }
        _ => Map::new(),
    }
}

/// `GET /api/mcp/settings`.
pub fn read() -> Result<Json<Map<String, Value>>> {
    Ok(Json(shown(Select::<Settings>::new().first(&Pool)?.as_ref())))
}

/// What may be changed.
#[data]
pub struct Change {
    /// See [`Settings`].
    mcp_enabled: Option<bool>,
    /// See [`Settings`].
    #[field(min = 0, max = 1_000)]
    max_custom_servers: Option<i64>,
    /// See [`Settings`].
    #[field(min = 0, max = 1_000_000)]
    max_executions_per_hour: Option<i64>,
    /// See [`Settings`].
    #[field(min = 0, max = 10_000)]
    max_concurrent: Option<i64>,
    /// See [`Settings`].
    offers_defaults: Option<bool>,
    /// See [`Settings`].
    offers_servers: Option<bool>,
}

/// `PUT /api/mcp/settings`.
pub fn change(if_match: IfMatch, Json(change): Json<Change>) -> Result<Json<Map<String, Value>>> {
    let patch = json!(change);
    let patch: Map<String, Value> =
        patch.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()).map(own).collect();
    let row = database::transaction(|transaction| {
        let row = match Select::<Settings>::new().first(transaction)? {
            Some(row) => entity::update::<Settings>(transaction, &row.id, &patch, if_match)?,
            None => {
                if_match.check(0)?;
                entity::create_from::<Settings>(transaction, patch.clone())?
            }
        };
        audit::note(transaction, "settings.updated", None, "settings", Value::Object(patch.clone()))?;
        Ok::<_, Problem>(row)
    })?;
    Ok(Json(shown(Some(&row))))
}

fn own((name, value): (&String, &Value)) -> (String, Value) {
    (name.clone(), value.clone())
}
