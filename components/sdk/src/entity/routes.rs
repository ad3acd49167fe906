//! The routes of an entity, in one line.

use serde_json::{Map, Value};

use super::{
    Access, Definition, Entity, Rules, Select, Stored, create, delete, read_text, store::require_row, stored::Made,
    update,
};
use crate::{
    database::{self, Pool},
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
        let row = format!("{path}/{{id}}");
        self.get(path, list::<T>)
            .summary(&format!("List every {name}."))
            .post(path, |New(data): New<T>| made(data))
            .summary(&format!("Create a {name}."))
            .get(&row, read_one::<T>)
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
            made(read_value::<T>(Value::Object(fields))?)
        })
        .summary(&format!("Create a {name}."))
    }
}

fn list<T: Entity>(query: PageQuery) -> Result<JsonText<Page<Stored<T>>>> {
    Select::<T>::new().page(&Pool, &query)
}

fn made<T: Rules>(data: T) -> Result<Made<T>> {
    database::transaction(|transaction| create(transaction, data)).map(Made)
}

fn read_one<T: Entity>(Params(id): Params<Id>) -> Result<JsonText<Stored<T>>> {
    let (text, version) = read_text::<T>(&id)?;
    Ok(JsonText::new(200, text).with_version(version))
}

fn change<T: Rules>(Params(id): Params<Id>, if_match: IfMatch, Patch(patch, _): Patch<T>) -> Result<Stored<T>> {
    let mut attempt = 1;
    loop {
        let result = database::transaction(|transaction| update::<T>(transaction, &id, &patch, if_match));
        match result {
            Err(problem) if is_lost_race(&problem) && if_match.0.is_none() && attempt < ATTEMPTS_MAX => attempt += 1,
            result => return result,
        }
    }
}

fn remove<T: Rules>(Params(id): Params<Id>, if_match: IfMatch) -> Result<NoContent> {
    database::transaction(|transaction| delete::<T>(transaction, &id, if_match))?;
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

/// The body of a creation, read into the entity; what only the service sets is left out.
pub(crate) struct New<T>(pub T);

impl<T: Entity> FromRequest for New<T> {
    fn from_request(request: &mut Request) -> Result<Self> {
        let Draft(fields, _) = Draft::<T>::from_request(request)?;
        read_value(Value::Object(fields)).map(Self)
    }
    fn describe(route: &mut Route) {
        Draft::<T>::describe(route);
    }
}

/// The body of a creation as an object.
pub(crate) struct Draft<T>(pub Map<String, Value>, std::marker::PhantomData<T>);

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
        route.request_schema = Some(writable_schema::<T>);
    }
}

/// The body of an update as an object.
pub(crate) struct Patch<T>(pub Map<String, Value>, std::marker::PhantomData<T>);

impl<T: Entity> FromRequest for Patch<T> {
    fn from_request(request: &mut Request) -> Result<Self> {
        check_media_type(request)?;
        Ok(Self(read_object(&request.body)?, std::marker::PhantomData))
    }
    fn describe(route: &mut Route) {
        route.request_schema = Some(patch_schema::<T>);
    }
}

fn writable_schema<T: Entity>() -> Value {
    let mut whole = schema::of::<T>();
    let readonly = |name: &str| T::DEFINITION.field(name).is_some_and(|field| field.access == Access::Readonly);
    if let Some(Value::Object(properties)) = whole.get_mut("properties") {
        properties.retain(|name, _| !readonly(name));
    }
    if let Some(Value::Array(required)) = whole.get_mut("required") {
        required.retain(|name| !name.as_str().is_some_and(readonly));
    }
    whole
}

fn patch_schema<T: Entity>() -> Value {
    let mut whole = writable_schema::<T>();
    if let Some(members) = whole.as_object_mut() {
        members.remove("required");
    }
    whole
}
