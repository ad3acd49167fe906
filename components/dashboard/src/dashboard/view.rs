//! A dashboard as it is shown: its row, where its widgets are, whom it is shared with, and what it is to the caller.

use std::collections::{BTreeMap, BTreeSet};

use berth_sdk::{
    prelude::*,
    router::Route,
    schema, serde_json,
    serde_json::{Map, Value},
};

use super::{Dashboard, layout, layout::Place, share, share::Share};
use crate::{
    access,
    access::{Level, Viewer},
};

/// Everything about some dashboards that is not in their rows.
pub(crate) struct Surroundings {
    viewer: Viewer,
    /// Projects that the viewer sees for certain.
    projects: Vec<Id>,
    shares: BTreeMap<String, Vec<Share>>,
    places: BTreeMap<String, Vec<Place>>,
    favorites: BTreeSet<String>,
    defaults: BTreeSet<String>,
}

impl Surroundings {
    /// Of these dashboards; the caller sees all of them. Four statements, however many they are.
    pub fn of(ids: &[String], projects: Vec<Id>) -> Result<Self> {
        let viewer = Viewer::caller()?;
        let mut found = Self {
            shares: BTreeMap::new(),
            places: BTreeMap::new(),
            favorites: BTreeSet::new(),
            defaults: BTreeSet::new(),
            viewer,
            projects,
        };
        if ids.is_empty() {
            return Ok(found);
        }
        let places: Vec<String> = (1..=ids.len()).map(|place| format!("${place}")).collect();
        let within = format!("dashboard_id IN ({})", places.join(", "));
        let mut values: Vec<database::Value> = ids.iter().map(Into::into).collect();
        let sql = format!(
            "SELECT dashboard_id, kind, target_id, can_edit FROM dashboard_shares WHERE {within} ORDER BY kind DESC, target_id"
        );
        for row in database::query(&sql, &values)? {
            found.shares.entry(row.get("dashboard_id")?).or_default().push(share::from_row(&row)?);
        }
        let sql =
            format!("SELECT id, dashboard_id, position FROM dashboard_widgets WHERE {within} ORDER BY created_at, id");
        for row in database::query(&sql, &values)? {
            let Some(position) = row.json("position")? else { continue };
            let id: String = row.get("id")?;
            found.places.entry(row.get("dashboard_id")?).or_default().push(Place::of(id.into(), position));
        }
        values.push((&found.viewer.user_id).into());
        let mine = format!("{within} AND user_id = ${}", values.len());
        for (table, set) in [("dashboard_favorites", &mut found.favorites), ("dashboard_defaults", &mut found.defaults)]
        {
            for row in database::query(&format!("SELECT dashboard_id FROM {table} WHERE {mine}"), &values)? {
                set.insert(row.get("dashboard_id")?);
            }
        }
        Ok(found)
    }

    /// A row with what belongs to it.
    pub fn complete(&self, mut row: Map<String, Value>) -> Result<Map<String, Value>> {
        let id = row.get("id").and_then(Value::as_str).unwrap_or_default().to_string();
        let dashboard: Dashboard =
            serde_json::from_value(Value::Object(row.clone())).map_err(|_| Problem::internal())?;
        let shares = self.shares.get(&id).map_or(&[][..], Vec::as_slice);
        let sees_scope = dashboard.scope_id.as_ref().is_some_and(|id| self.projects.contains(id));
        let level = self.viewer.level(&dashboard, shares, sees_scope);
        row.insert("layout".into(), json!(self.places.get(&id).map_or(&[][..], Vec::as_slice)));
        row.insert("sharedWith".into(), json!(shares));
        row.insert("isShared".into(), (!shares.is_empty()).into());
        row.insert("isDefault".into(), self.defaults.contains(&id).into());
        row.insert("isFavorite".into(), self.favorites.contains(&id).into());
        row.insert("canEdit".into(), (level >= Some(Level::Edit)).into());
        Ok(row)
    }
}

/// A dashboard, whole, with its `ETag`.
#[derive(Debug)]
pub(crate) struct Whole {
    status: u16,
    version: i64,
    shown: Map<String, Value>,
}

impl Whole {
    /// The dashboard of this id as the caller sees it; 404 when they do not.
    pub fn read(status: u16, id: &Id) -> Result<Self> {
        let opened = access::open(id)?;
        let surroundings = Surroundings::of(&[opened.row.id.to_string()], opened.project.into_iter().collect())?;
        Ok(Self { status, version: opened.row.version, shown: surroundings.complete(opened.row.shown())? })
    }
}

/// What a dashboard has beside its row, for the API's document.
#[data]
struct Shown {
    /// Where each widget is.
    layout: Vec<layout::Place>,
    shared_with: Vec<Share>,
    is_shared: bool,
    /// It is the caller's default for its scope.
    is_default: bool,
    /// It is one of the caller's favourites.
    is_favorite: bool,
    /// The caller may change it.
    can_edit: bool,
}

/// The schema of a dashboard as it is shown.
pub(crate) fn shown_schema() -> Value {
    let (mut whole, more) = (schema::of::<Stored<Dashboard>>(), schema::of::<Shown>());
    for member in ["properties", "required"] {
        match (whole.get_mut(member), more.get(member)) {
            (Some(Value::Object(known)), Some(Value::Object(more))) => known.extend(more.clone()),
            (Some(Value::Array(known)), Some(Value::Array(more))) => known.extend(more.iter().cloned()),
            _ => {}
        }
    }
    whole
}

impl Answer for Whole {
    fn into_response(self) -> Result<Response> {
        Ok(Response::json(self.status, &self.shown)?.with_version(self.version))
    }

    fn describe(route: &mut Route) {
        route.answer(200, Some(shown_schema), None);
    }
}

/// The same, 201.
pub(crate) struct Made(pub Whole);

impl Answer for Made {
    fn into_response(self) -> Result<Response> {
        self.0.into_response()
    }

    fn describe(route: &mut Route) {
        route.answer(201, Some(shown_schema), None);
    }
}
