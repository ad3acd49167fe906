//! The routes of an entity, in one line.

use serde_json::{Map, Value};

use super::{
    Access, Definition, Entity, Rules, Select, Stored, create, read, read_text,
    store::{require_row, take},
    stored::Made,
    update,
};
use crate::{
    database::{self, Executor, Pool},
    http::{FromRequest, IfMatch, JsonText, NoContent, Params, Request, check_media_type, read_object, read_value},
    id::Id,
    page::{Page, PageQuery},
    problem::{Problem, Result},
    router::{Route, Router},
    schema,
};

/// How often an update without `If-Match` that lost a race is tried.
const ATTEMPTS_MAX: u32 = 3;

impl Router {
    /// The six routes of an entity: list, create, read, update (`PUT` and `PATCH`) and delete.
    #[must_use]
    pub fn entity<T: Rules>(self, path: &str) -> Self {
        let name = T::DEFINITION.name;
        self.get(path, list::<T>)
            .summary(&format!("List every {name}."))
            .post(path, |Draft(fields, _): Draft<T>| made::<T>(fields))
            .summary(&format!("Create a {name}."))
            .row::<T>(path)
    }

    /// The routes of one row, at `/{id}` below `path`: read, update (`PUT` and `PATCH`) and delete; for rows that are
    /// listed and made elsewhere.
    #[must_use]
    pub fn row<T: Rules>(self, path: &str) -> Self {
        let name = T::DEFINITION.name;
        let row = format!("{path}/{{id}}");
        self.get(&row, read_one::<T>)
            .summary(&format!("Read a {name}."))
            .put(&row, change::<T>)
            .summary(&format!("Update a {name}."))
            .delete(&row, remove::<T>)
            .summary(&format!("Delete a {name}."))
    }

    /// The list and the creation of rows that belong to the row in the path, such as `/api/tasks/{id}/comments` with
    /// the field `taskId`. That row must exist.
    #[must_use]
    pub fn children<T: Rules>(self, path: &str, parent: &'static str) -> Self {
        let name = T::DEFINITION.name;
        self.get(path, move |Params(id): Params<Id>, query: PageQuery| {
            let column = parent_column(T::DEFINITION, parent, &id)?;
            Select::<T>::new().equal(column, id).page(&Pool, &query)
        })
        .summary(&format!("List every {name}."))
        .post(path, move |Params(id): Params<Id>, Draft(mut fields, _): Draft<T>| {
            fields.insert(parent.into(), id.into_string().into());
            made::<T>(fields)
        })
        .summary(&format!("Create a {name}."))
    }

    /// The five routes of rows below the row in the path, such as `/api/incidents/{id}/action-items` with the field
    /// `incidentId`: list, create, and with `/{itemId}` read, update and delete. A row of another parent is a 404.
    #[must_use]
    pub fn nested<T: Rules>(self, path: &str, parent: &'static str) -> Self {
        let name = T::DEFINITION.name;
        let row = format!("{path}/{{itemId}}");
        self.children::<T>(path, parent)
            .get(&row, move |Params((id, item_id)): Params<(Id, Id)>| {
                parent_column(T::DEFINITION, parent, &id)?;
                below::<T>(&Pool, parent, &id, &item_id)
            })
            .summary(&format!("Read a {name}."))
            .put(&row, move |Params((id, item_id)): Params<(Id, Id)>, if_match: IfMatch, Patch(patch, _): Patch<T>| {
                parent_column(T::DEFINITION, parent, &id)?;
                T::before_transaction(&patch)?;
                let row = database::transaction(|transaction| {
                    below::<T>(transaction, parent, &id, &item_id)?;
                    update::<T>(transaction, &item_id, &patch, if_match)
                })?;
                T::committed(&row);
                Ok::<_, Problem>(row)
            })
            .summary(&format!("Update a {name}."))
            .delete(&row, move |Params((id, item_id)): Params<(Id, Id)>, if_match: IfMatch| {
                parent_column(T::DEFINITION, parent, &id)?;
                T::before_transaction(&Map::new())?;
                let row = database::transaction(|transaction| {
                    below::<T>(transaction, parent, &id, &item_id)?;
                    take::<T>(transaction, &item_id, if_match)
                })?;
                T::committed(&row);
                Ok::<_, Problem>(NoContent)
            })
            .summary(&format!("Delete a {name}."))
    }
}

/// A row that belongs to this parent; 404 otherwise.
fn below<T: Entity>(database: &dyn Executor, parent: &str, id: &str, item_id: &str) -> Result<Stored<T>> {
    let row = read::<T>(database, item_id)?;
    if row.data_map().get(parent).and_then(Value::as_str) == Some(id) {
        return Ok(row);
    }
    Err(Problem::missing(T::DEFINITION.name))
}

fn list<T: Entity>(query: PageQuery) -> Result<JsonText<Page<Stored<T>>>> {
    Select::<T>::new().page(&Pool, &query)
}

fn made<T: Rules>(fields: Map<String, Value>) -> Result<Made<T>> {
    let data = read_value::<T>(Value::Object(fields.clone()))?;
    T::before_transaction(&fields)?;
    let row = database::transaction(|transaction| create(transaction, data))?;
    T::committed(&row);
    Ok(Made(row))
}

fn read_one<T: Entity>(Params(id): Params<Id>) -> Result<JsonText<Stored<T>>> {
    let (text, version) = read_text::<T>(&id)?;
    Ok(JsonText::new(200, text).with_version(version))
}

fn change<T: Rules>(Params(id): Params<Id>, if_match: IfMatch, Patch(patch, _): Patch<T>) -> Result<Stored<T>> {
    T::before_transaction(&patch)?;
    let mut attempt = 1;
    loop {
        let result = database::transaction(|transaction| update::<T>(transaction, &id, &patch, if_match));
        match result {
            Err(problem) if is_lost_race(&problem) && if_match.0.is_none() && attempt < ATTEMPTS_MAX => attempt += 1,
            result => return result.inspect(T::committed),
        }
    }
}

fn remove<T: Rules>(Params(id): Params<Id>, if_match: IfMatch) -> Result<NoContent> {
    T::before_transaction(&Map::new())?;
    T::committed(&database::transaction(|transaction| take::<T>(transaction, &id, if_match))?);
    Ok(NoContent)
}

fn is_lost_race(problem: &Problem) -> bool {
    problem.status == 409 && problem.code == super::store::LOST_RACE
}

fn parent_column(definition: &'static Definition, name: &str, id: &str) -> Result<&'static str> {
    let field = definition.field(name).ok_or_else(Problem::internal)?;
    if let Some(parent) = field.parent {
        require_row(&Pool, parent(), id)?;
    }
    Ok(field.column)
}

/// The body of a creation as an object, for a route that looks at it before it makes a row: what only the service sets is
/// left out already, and nothing else is checked.
///
/// ```
/// use berth_sdk::{entity, entity::Draft, http::{FromRequest, Request}, json};
/// #[entity(table = "note_notes")]
/// pub struct Note { pub title: String, #[field(readonly, default)] pub reads: i64 }
/// impl entity::Rules for Note {}
/// let mut request = Request::new("POST", "/api/notes").with_json(&json!({"title": "a", "reads": 9}));
/// let Draft(fields, _) = Draft::<Note>::from_request(&mut request).unwrap();
/// assert_eq!(json!(fields), json!({"title": "a"}));
/// ```
pub struct Draft<T>(pub Map<String, Value>, pub std::marker::PhantomData<T>);

impl<T: Entity> FromRequest for Draft<T> {
    fn from_request(request: &mut Request) -> Result<Self> {
        check_media_type(request)?;
        let mut fields = read_object(&request.body)?;
        for field in T::DEFINITION.fields.iter().filter(|field| field.access == Access::Readonly) {
            fields.remove(field.name);
        }
        Ok(Self(fields, std::marker::PhantomData))
    }
    fn describe(route: &mut Route) {
        route.request_schemas.push(writable_schema::<T>);
    }
}

/// The body of an update as an object, for a route that looks at it before it calls [`update`].
pub struct Patch<T>(pub Map<String, Value>, pub std::marker::PhantomData<T>);

impl<T: Entity> FromRequest for Patch<T> {
    fn from_request(request: &mut Request) -> Result<Self> {
        check_media_type(request)?;
        Ok(Self(read_object(&request.body)?, std::marker::PhantomData))
    }
    fn describe(route: &mut Route) {
        route.request_schemas.push(patch_schema::<T>);
    }
}

pub(crate) fn writable_schema<T: Entity>() -> Value {
    schema_without::<T>(&[Access::Readonly])
}

/// The schema of the members that are none of these.
fn schema_without<T: Entity>(access: &[Access]) -> Value {
    let mut whole = schema::of::<T>();
    let is_left_out = |name: &str| T::DEFINITION.field(name).is_some_and(|field| access.contains(&field.access));
    if let Some(Value::Object(properties)) = whole.get_mut("properties") {
        properties.retain(|name, _| !is_left_out(name));
    }
    if let Some(Value::Array(required)) = whole.get_mut("required") {
        required.retain(|name| !name.as_str().is_some_and(is_left_out));
    }
    whole
}

pub(crate) fn patch_schema<T: Entity>() -> Value {
    let mut whole = schema_without::<T>(&[Access::Readonly, Access::Immutable]);
    if let Some(members) = whole.as_object_mut() {
        members.remove("required");
    }
    whole
}
