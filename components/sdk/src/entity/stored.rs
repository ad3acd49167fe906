//! A row: the common columns and the entity's own data.

use std::{
    borrow::Cow,
    ops::{Deref, DerefMut},
};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use super::Entity;
use crate::{
    Fault,
    clock::Timestamp,
    data,
    database::Executor,
    http::{Answer, Created, Json, Response},
    id::Id,
    problem::Result,
    router::{LIST_WORD, Route},
    schema,
};

/// A row of an entity. Its own fields are reached directly: `row.title`.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored<T> {
    /// The row's id.
    pub id: Id,
    /// None only for GLOBAL rows.
    pub organization_id: Option<Id>,
    /// Who made it.
    pub created_by: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Grows by one with every change; the `ETag`.
    pub version: i64,
    /// The entity's own fields.
    pub data: T,
}

/// The common members, for the document of the API.
#[data]
struct Common {
    id: Id,
    organization_id: Option<Id>,
    created_by: Option<String>,
    created_at: Timestamp,
    updated_at: Timestamp,
    version: i64,
}

impl<T> Deref for Stored<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.data
    }
}

impl<T> DerefMut for Stored<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.data
    }
}

impl<T: Entity> Stored<T> {
    /// The entity's own fields as JSON, hidden ones too.
    pub(crate) fn data_map(&self) -> Map<String, Value> {
        data_map(&self.data)
    }

    /// The row as it is shown.
    pub fn shown(&self) -> Map<String, Value> {
        let mut shown = Map::new();
        shown.insert("id".into(), self.id.as_str().into());
        shown.insert("organizationId".into(), self.organization_id.as_ref().map(Id::as_str).into());
        let data = self.data_map();
        let definition = T::DEFINITION;
        for field in definition.fields.iter().filter(|field| !field.is_hidden) {
            shown.insert(field.name.into(), data.get(field.name).cloned().unwrap_or_default());
        }
        shown.insert("createdBy".into(), self.created_by.clone().into());
        shown.insert("createdAt".into(), self.created_at.to_string().into());
        shown.insert("updatedAt".into(), self.updated_at.to_string().into());
        if definition.token == "version" {
            shown.insert("version".into(), self.version.into());
        }
        shown
    }

    /// A row read as JSON with all its columns.
    pub(crate) fn from_map(mut row: Map<String, Value>) -> Result<Self, Fault> {
        let misfit = |name: &str, error: &dyn std::fmt::Display| {
            Fault::Invalid(format!("a row of {} does not fit at {name}: {error}", T::DEFINITION.table))
        };
        fn take<V: for<'de> Deserialize<'de>>(row: &mut Map<String, Value>, name: &str) -> Result<V, String> {
            serde_json::from_value(row.remove(name).unwrap_or_default()).map_err(|error| format!("{name}: {error}"))
        }
        let token = if T::DEFINITION.token == "version" { "version" } else { "lockVersion" };
        let read = (|| {
            Ok::<_, String>((
                take(&mut row, "id")?,
                take(&mut row, "organizationId")?,
                take(&mut row, "createdBy")?,
                take(&mut row, "createdAt")?,
                take(&mut row, "updatedAt")?,
                take(&mut row, token)?,
            ))
        })();
        let (id, organization_id, created_by, created_at, updated_at, version) =
            read.map_err(|error| misfit("a common column", &error))?;
        let data = serde_json::from_value(Value::Object(row)).map_err(|error| misfit("its data", &error))?;
        Ok(Self { id, organization_id, created_by, created_at, updated_at, version, data })
    }

    /// Reads rows; the statement must select [`Statements::all`](super::Statements::all).
    pub(crate) fn query(
        database: &dyn Executor,
        sql: &str,
        parameters: &[crate::database::Value],
    ) -> Result<Vec<Self>, Fault> {
        let rows: Vec<Map<String, Value>> = crate::database::query_as(database, sql, parameters)?;
        rows.into_iter().map(Self::from_map).collect()
    }
}

/// The fields of a record as JSON.
pub(crate) fn data_map<T: Entity>(data: &T) -> Map<String, Value> {
    match serde_json::to_value(data) {
        Ok(Value::Object(map)) => map,
        // A struct with named fields and texts as keys always becomes an object.
        _ => Map::new(),
    }
}

impl<T: Entity> Serialize for Stored<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.shown().serialize(serializer)
    }
}

impl<T: Entity> JsonSchema for Stored<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("Stored_{}", T::schema_name()).into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let mut whole = schema::of::<T>();
        let common = schema::of::<Common>();
        for word in ["properties", "required"] {
            let more = common.get(word).cloned().unwrap_or_default();
            match (whole.get_mut(word), more) {
                (Some(Value::Object(known)), Value::Object(more)) => {
                    for (name, value) in more {
                        known.entry(name).or_insert(value);
                    }
                }
                // An entity may have a `version` of its own.
                (Some(Value::Array(known)), Value::Array(more)) => {
                    for name in more {
                        if !known.contains(&name) {
                            known.push(name);
                        }
                    }
                }
                (None, more) => {
                    if let Some(members) = whole.as_object_mut() {
                        members.insert(word.into(), more);
                    }
                }
                _ => {}
            }
        }
        let is_hidden = |name: &str| T::DEFINITION.field(name).is_some_and(|field| field.is_hidden);
        if let Some(Value::Object(known)) = whole.get_mut("properties") {
            known.retain(|name, _| !is_hidden(name));
        }
        if let Some(Value::Array(required)) = whole.get_mut("required") {
            required.retain(|name| !name.as_str().is_some_and(is_hidden));
        }
        if let Some(members) = whole.as_object_mut() {
            members.insert(LIST_WORD.into(), super::list_words::<T>());
        }
        Schema::try_from(whole).unwrap_or_default()
    }
}

/// 200 with the row and its `ETag`.
impl<T: Entity> Answer for Stored<T> {
    fn into_response(self) -> Result<Response> {
        let version = self.version;
        Ok(Json(self).into_response()?.with_version(version))
    }
    fn describe(route: &mut Route) {
        <Json<Self> as Answer>::describe(route);
    }
}

/// 201 with the row and its `ETag`.
#[derive(Clone, Debug, PartialEq)]
pub struct Made<T>(pub Stored<T>);

impl<T: Entity> Answer for Made<T> {
    fn into_response(self) -> Result<Response> {
        let version = self.0.version;
        Ok(Created(self.0).into_response()?.with_version(version))
    }
    fn describe(route: &mut Route) {
        <Created<Stored<T>> as Answer>::describe(route);
    }
}

#[cfg(test)]
mod tests {
    use super::Stored;
    use crate::{entity, schema};

    #[entity(table = "note_versions")]
    struct NoteVersion {
        version: i64,
        #[field(hidden)]
        secret: String,
    }
    impl crate::entity::Rules for NoteVersion {}

    #[test]
    fn a_schema_names_each_member_once_and_nothing_hidden() {
        let whole = schema::of::<Stored<NoteVersion>>();
        let required: Vec<&str> =
            whole["required"].as_array().unwrap().iter().filter_map(|name| name.as_str()).collect();
        assert_eq!(required.iter().filter(|name| **name == "version").count(), 1);
        assert!(!required.contains(&"secret") && whole["properties"].get("secret").is_none());
    }
}
