//! Create, read, update and delete, each within the caller's organization.

use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::{Access, Definition, Entity, Kind, Rules, Stored, stored::data_map};
use crate::{
    auth,
    clock::{self, Timestamp},
    database::{Executor, Pool, Transaction, Value, params},
    events::Message,
    http::IfMatch,
    id::Id,
    problem::{Problem, Result},
    validate::{Faults, Path, Rule},
};

/// The code of the conflict of two changes at the same moment.
pub(crate) const LOST_RACE: &str = "CHANGED_MEANWHILE";

/// Makes a row of the caller's organization: tidies and checks it, runs its rules, inserts it, publishes its event.
///
/// ```
/// use berth_sdk::{Problem, database, entity, entity::{Rules, Stored}, testing};
/// #[entity(table = "note_notes")]
/// pub struct Note { #[field(min = 1)] pub title: String }
/// impl Rules for Note {}
/// fn note(title: &str) -> Result<Stored<Note>, Problem> {
///     database::transaction(|transaction| entity::create(transaction, Note { title: title.into() }))
/// }
/// assert_eq!(note("x").unwrap_err().status, 503); // natively there is no database
/// ```
pub fn create<T: Rules>(transaction: &Transaction, data: T) -> Result<Stored<T>> {
    create_as(transaction, Id::new(), data)
}

/// The same, under an id that the service has made already, because something else names it.
pub fn create_as<T: Rules>(transaction: &Transaction, id: Id, mut data: T) -> Result<Stored<T>> {
    checked(&mut data)?;
    data.before_create(transaction)?;
    let principal = auth::principal();
    let fields = data_map(&data);
    let organization_id = match fields.get("scope").and_then(Json::as_str) {
        Some("GLOBAL") if T::DEFINITION.global => {
            require_platform()?;
            None
        }
        _ => Some(auth::organization_id()?),
    };
    check_parents(transaction, T::DEFINITION, &fields, None)?;
    let now = clock::now();
    let row = Stored {
        id,
        organization_id,
        created_by: principal.user_id,
        created_at: now,
        updated_at: now,
        version: 1,
        data,
    };
    let mut values: Vec<Value> = vec![
        (&row.id).into(),
        (&row.organization_id).into(),
        (&row.created_by).into(),
        now.into(),
        now.into(),
        row.version.into(),
    ];
    values.extend(T::DEFINITION.fields.iter().map(|field| field_value(&fields, field.name, field.kind)));
    transaction.execute(&T::statements().insert, &values)?;
    T::after_create(&row, transaction)?;
    publish(transaction, T::DEFINITION.created, &row)?;
    Ok(row)
}

/// The same from a JSON object: what only the service sets is left out, 400 with every fault.
pub fn create_from<T: Rules>(transaction: &Transaction, mut fields: Map<String, Json>) -> Result<Stored<T>> {
    for field in T::DEFINITION.fields.iter().filter(|field| field.access == Access::Readonly) {
        fields.remove(field.name);
    }
    create(transaction, crate::http::read_value(Json::Object(fields))?)
}

/// The row of this id, if the caller's organization has one.
pub fn find<T: Entity>(database: &dyn Executor, id: &str) -> Result<Option<Stored<T>>> {
    let (sql, values) = by_id::<T>(&T::statements().all, id)?;
    Ok(Stored::query(database, &sql, &values)?.into_iter().next())
}

/// The row of this id; 404 when the caller's organization has none.
pub fn read<T: Entity>(database: &dyn Executor, id: &str) -> Result<Stored<T>> {
    find(database, id)?.ok_or_else(|| Problem::missing(T::DEFINITION.name))
}

/// The row as JSON text and its version, without reading it into the type: the fast path of `GET`.
pub fn read_text<T: Entity>(id: &str) -> Result<(Vec<u8>, Option<i64>)> {
    #[derive(Deserialize)]
    struct Version {
        version: Option<Json>,
        #[serde(rename = "lockVersion")]
        lock_version: Option<i64>,
    }
    let (sql, values) = by_id::<T>(&T::statements().shown, id)?;
    let text = Pool.query_json(&sql, &values)?;
    let text = text.trim_ascii();
    let row = text.strip_prefix(b"[").and_then(|text| text.strip_suffix(b"]")).unwrap_or_default().trim_ascii();
    if row.is_empty() {
        return Err(Problem::missing(T::DEFINITION.name));
    }
    let version = serde_json::from_slice::<Version>(row)
        .ok()
        .and_then(|version| version.lock_version.or_else(|| version.version.and_then(|version| version.as_i64())));
    Ok((row.to_vec(), version))
}

/// Changes what `patch` names and nothing else; an explicit null clears an optional field. 404, 412, or 400 with
/// every fault. A patch that changes nothing leaves the version as it is.
pub fn update<T: Rules>(
    transaction: &Transaction,
    id: &str,
    patch: &Map<String, Json>,
    if_match: IfMatch,
) -> Result<Stored<T>> {
    let old = read::<T>(transaction, id)?;
    if_match.check(old.version)?;
    require_writable(&old)?;
    let before = old.data_map();
    let merged = merge(T::DEFINITION, &before, patch)?;
    let mut data: T = crate::http::read_value(Json::Object(merged))?;
    checked(&mut data)?;
    data.before_update(&old, transaction)?;
    let mut new = Stored { data, ..old.clone() };
    check_parents(transaction, T::DEFINITION, &new.data_map(), Some(&before))?;
    write(transaction, &before, &mut new, if_match.0.is_some())?;
    if new.version != old.version {
        T::after_update(&old, &new, transaction)?;
        publish(transaction, T::DEFINITION.updated, &new)?;
    }
    Ok(new)
}

/// Writes a row that the service itself has changed: no rules run, no event leaves. 409 when somebody else was faster.
pub fn save<T: Entity>(transaction: &Transaction, row: &mut Stored<T>) -> Result<()> {
    write(transaction, &Map::new(), row, false)
}

/// Removes a row, or marks it as deleted. 404, 412.
pub fn delete<T: Rules>(transaction: &Transaction, id: &str, if_match: IfMatch) -> Result<()> {
    take::<T>(transaction, id, if_match).map(|_| ())
}

/// The same, and returns what was there.
pub(crate) fn take<T: Rules>(transaction: &Transaction, id: &str, if_match: IfMatch) -> Result<Stored<T>> {
    let row = read::<T>(transaction, id)?;
    if_match.check(row.version)?;
    require_writable(&row)?;
    T::before_delete(&row, transaction)?;
    let table = T::DEFINITION.table;
    let changed = if T::DEFINITION.soft_delete {
        let now = clock::now();
        let sql = format!(
            "UPDATE {table} SET \"deleted_at\" = $2, \"updated_at\" = $2 WHERE \"id\" = $1 AND \"deleted_at\" IS NULL"
        );
        transaction.execute(&sql, params![&row.id, now])?
    } else {
        transaction.execute(&format!("DELETE FROM {table} WHERE \"id\" = $1"), params![&row.id])?
    };
    if changed == 0 {
        return Err(Problem::missing(T::DEFINITION.name));
    }
    publish(transaction, T::DEFINITION.deleted, &row)?;
    Ok(row)
}

/// The condition that keeps a statement to the rows that exist for the caller, with its values from `$1` on.
pub(crate) fn visible(definition: &Definition) -> Result<(String, Vec<Value>)> {
    Ok(visible_to(definition, auth::organization_id()?))
}

/// The same for an organization that is named.
pub(crate) fn visible_to(definition: &Definition, organization_id: Id) -> (String, Vec<Value>) {
    let mut values = vec![Value::from(organization_id)];
    let mut sql = String::from(if definition.global {
        "(\"organization_id\" = $1 OR \"organization_id\" IS NULL)"
    } else {
        "\"organization_id\" = $1"
    });
    if definition.soft_delete {
        sql.push_str(" AND \"deleted_at\" IS NULL");
    }
    if let Some(scope) = (definition.scope)() {
        sql.push_str(&format!(" AND ({})", place(&scope.sql, scope.values, &mut values)));
    }
    (sql, values)
}

/// Numbers the `?` of a piece of SQL on from the values that are there.
pub(crate) fn place(sql: &str, more: impl IntoIterator<Item = Value>, values: &mut Vec<Value>) -> String {
    let mut more = more.into_iter();
    let mut placed = String::with_capacity(sql.len() + 8);
    for letter in sql.chars() {
        match (letter, if letter == '?' { more.next() } else { None }) {
            ('?', Some(value)) => {
                values.push(value);
                placed.push_str(&format!("${}", values.len()));
            }
            (letter, _) => placed.push(letter),
        }
    }
    placed
}

fn by_id<T: Entity>(columns: &str, id: &str) -> Result<(String, Vec<Value>)> {
    let (condition, mut values) = visible(T::DEFINITION)?;
    values.push(id.into());
    Ok((
        format!("SELECT {columns} FROM {} WHERE {condition} AND \"id\" = ${}", T::DEFINITION.table, values.len()),
        values,
    ))
}

fn checked<T: Rules>(data: &mut T) -> Result<()> {
    let mut faults = Faults::default();
    data.tidy(&Rule::default(), &Path::default(), &mut faults);
    data.check(&mut faults);
    faults.finish()
}

/// The old fields with those of the patch in their place. An immutable field may be repeated but not changed.
fn merge(definition: &Definition, before: &Map<String, Json>, patch: &Map<String, Json>) -> Result<Map<String, Json>> {
    let mut merged = before.clone();
    let mut faults = Faults::default();
    for field in definition.fields {
        let Some(value) = patch.get(field.name) else { continue };
        match field.access {
            Access::Readonly => {}
            Access::Immutable if before.get(field.name) != Some(value) => {
                faults.add(field.name, "cannot be changed");
            }
            _ if value.is_null() && !field.is_optional => faults.add(field.name, "must not be null"),
            _ => {
                merged.insert(field.name.into(), value.clone());
            }
        }
    }
    faults.finish()?;
    Ok(merged)
}

/// Every row that a field names must exist in the caller's organization; only new names are looked up.
fn check_parents(
    database: &dyn Executor,
    definition: &Definition,
    fields: &Map<String, Json>,
    before: Option<&Map<String, Json>>,
) -> Result<()> {
    for field in definition.fields {
        let Some(parent) = field.parent else { continue };
        let Some(id) = fields.get(field.name).and_then(Json::as_str) else { continue };
        if before.is_some_and(|before| before.get(field.name).and_then(Json::as_str) == Some(id)) {
            continue;
        }
        require_row(database, parent(), id)?;
    }
    Ok(())
}

/// 404 unless the caller's organization has this row.
pub(crate) fn require_row(database: &dyn Executor, definition: &Definition, id: &str) -> Result<()> {
    let (condition, mut values) = visible(definition)?;
    values.push(id.into());
    let sql = format!("SELECT \"id\" FROM {} WHERE {condition} AND \"id\" = ${}", definition.table, values.len());
    match database.query_one(&sql, &values)? {
        Some(_) => Ok(()),
        None => Err(Problem::missing(definition.name)),
    }
}

fn write<T: Entity>(
    transaction: &Transaction,
    before: &Map<String, Json>,
    row: &mut Stored<T>,
    is_conditional: bool,
) -> Result<()> {
    let after = row.data_map();
    let mut values = vec![Value::from(&row.id), Value::from(row.version)];
    let mut changes = Vec::new();
    for field in T::DEFINITION.fields {
        if before.get(field.name) != after.get(field.name) || before.is_empty() {
            values.push(field_value(&after, field.name, field.kind));
            changes.push(format!("\"{}\" = ${}", field.column, values.len()));
        }
    }
    if changes.is_empty() {
        return Ok(());
    }
    let now: Timestamp = clock::now();
    values.push(now.into());
    let (table, token, place) = (T::DEFINITION.table, T::DEFINITION.token, values.len());
    let sql = format!(
        "UPDATE {table} SET {}, \"updated_at\" = ${place}, \"{token}\" = \"{token}\" + 1 WHERE \"id\" = $1 AND \"{token}\" = $2",
        changes.join(", ")
    );
    if transaction.execute(&sql, &values)? == 0 {
        return Err(if is_conditional {
            Problem::precondition_failed("It has changed in the meantime.")
        } else {
            Problem::conflict("Somebody else changed it at the same time; try again.").with_code(LOST_RACE)
        });
    }
    row.version += 1;
    row.updated_at = now;
    Ok(())
}

fn field_value(fields: &Map<String, Json>, name: &str, kind: Kind) -> Value {
    fields.get(name).map_or(Value::Null, |value| kind.value(value))
}

fn require_writable<T: Entity>(row: &Stored<T>) -> Result<()> {
    if row.organization_id.is_none() { require_platform() } else { Ok(()) }
}

fn require_platform() -> Result<()> {
    if auth::principal().is_platform {
        Ok(())
    } else {
        Err(Problem::forbidden("Only the platform's administrators change what belongs to everybody."))
    }
}

fn publish<T: Rules>(transaction: &Transaction, kind: Option<&'static str>, row: &Stored<T>) -> Result<()> {
    if let Some(kind) = kind {
        transaction.send(&Message::new(kind, &T::event_data(row))?.with_key(row.id.as_str()))?;
    }
    Ok(())
}
