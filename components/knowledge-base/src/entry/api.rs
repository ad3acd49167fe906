//! The routes of entries: list, create, read, update and delete.

use berth_sdk::{
    database::like,
    prelude::*,
    router::Route,
    schema,
    serde_json::{Map, Value},
};

use super::{CREATED, DELETED, Entry, Status, UPDATED, listed, place, say, transact, writable};
use crate::{search::index, space, version};

/// How often an update that lost a race is tried.
const ATTEMPTS_MAX: u32 = 3;
/// Entries below one that go with it.
const CASCADE_MAX: i64 = 1_000;

/// An entry with what it is to the caller.
pub struct Whole(pub u16, pub Stored<Entry>);

impl Answer for Whole {
    fn into_response(self) -> Result<Response> {
        let Self(status, row) = self;
        let own = database::query_one(
            "SELECT COUNT(*) AS favorites FROM kb_favorites WHERE entry_id = $1 AND user_id = $2",
            params![&row.id, auth::principal().user_id.unwrap_or_default()],
        )?;
        let favorites: i64 = own.map_or(Ok(0), |own| own.get("favorites"))?;
        let mut shown = row.shown();
        shown.insert("isFavorite".into(), (favorites > 0).into());
        shown.insert("isPrivate".into(), (!space::is_public(&Pool, row.space_id.as_ref())?).into());
        Ok(Response::json(status, &shown)?.with_version(row.version))
    }

    fn describe(route: &mut Route) {
        route.answer(200, Some(schema::of::<Stored<Entry>>), None);
    }
}

/// `GET /api/knowledge`: without contents. `?tag=`, `?favorites=true`, and `?deleted=true` for what can be restored.
pub fn list(query: PageQuery) -> Result<JsonText<Page<Value>>> {
    let wants = |name: &str| query.filter(name).as_deref() == Some("true");
    if wants("deleted") {
        return deleted(&query);
    }
    let mut select = Select::<Entry>::new();
    if wants("favorites") {
        let user_id = auth::principal().user_id.unwrap_or_default();
        select = select.condition("\"id\" IN (SELECT entry_id FROM kb_favorites WHERE user_id = ?)", [user_id]);
    }
    for (name, column) in [("tag", "tags"), ("tags", "tags"), ("categoryId", "category_ids")] {
        for word in query.filter(name).iter().flat_map(|words| words.split(',')).take(20) {
            let sql = format!("CAST(\"{column}\" AS TEXT) LIKE ? ESCAPE '!'");
            select = select.condition(&sql, [like::entry(word.trim())]);
        }
    }
    select.page_of(&Pool, &query, &listed())
}

/// What its author, or who may delete, can still restore.
fn deleted(query: &PageQuery) -> Result<JsonText<Page<Value>>> {
    let mut values = params![auth::organization_id()?].to_vec();
    let mut condition = String::from("organization_id = $1 AND deleted_at IS NOT NULL");
    if !auth::has("knowledge.knowledge.delete") {
        values.push(auth::user_id()?.into());
        condition.push_str(" AND author_id = $2");
    }
    // Of what they would see if it were there.
    if let Some(scope) = <Entry as Rules>::scope() {
        let mut pieces = scope.sql.split('?');
        condition.push_str(&format!(" AND ({}", pieces.next().unwrap_or_default()));
        for (piece, value) in pieces.zip(scope.values) {
            values.push(value);
            condition.push_str(&format!("${}{piece}", values.len()));
        }
        condition.push(')');
    }
    let total = database::query_one(&format!("SELECT COUNT(*) AS total FROM kb_entries WHERE {condition}"), &values)?;
    let total: i64 = total.map_or(Ok(0), |row| row.get("total"))?;
    let place = values.len();
    values.extend([query.limit.into(), query.offset.into()]);
    let sql = format!(
        "SELECT {}, \"deleted_at\" AS \"deletedAt\" FROM kb_entries WHERE {condition} ORDER BY deleted_at DESC, id LIMIT ${} OFFSET ${}",
        listed(),
        place + 1,
        place + 2
    );
    Ok(JsonText::new(200, query.envelope_text(&database::query_json(&sql, &values)?, total)))
}

/// What a body has besides the entry's own members.
#[data]
pub struct OfTemplate {
    /// What the body does not say comes from it.
    template_id: Option<Id>,
}

/// What a change has besides the entry's own members.
#[data]
pub struct Noted {
    /// Why.
    #[field(max = 1_000)]
    change_note: Option<String>,
}

/// `POST /api/knowledge`. With `templateId` what the body does not say comes from that template.
pub fn create(Json(fields): Json<Map<String, Value>>) -> Result<Whole> {
    let mut fields = writable(fields);
    let template_id = match fields.remove("templateId") {
        None | Some(Value::Null) => None,
        Some(Value::String(id)) => Some(Id::parse(id)?),
        Some(_) => return Err(Problem::field("templateId", "must be text")),
    };
    if let Some(template_id) = template_id {
        let template = entity::read::<Entry>(&Pool, &template_id)?;
        if !template.is_template {
            return Err(Problem::field("templateId", "must be a template"));
        }
        let own = json!({
            "content": template.content, "blocks": template.blocks, "category": template.category, "tags": template.tags,
            "categoryIds": template.category_ids,
        });
        for (name, value) in own.as_object().into_iter().flatten() {
            fields.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
    let entry = berth_sdk::http::read_value::<Entry>(Value::Object(fields))?;
    people::scope::require_named(entry.project_id.as_deref())?;
    let row = again(|| transact(|transaction| make(transaction, entry.clone())))?;
    Ok(Whole(201, row))
}

/// Makes an entry, with its first version, what it is found by, and its event.
pub fn make(transaction: &Transaction, mut entry: Entry) -> Result<Stored<Entry>> {
    let id = Id::new();
    place::settle(transaction, &mut entry, &id)?;
    entry.slug = place::free_slug(transaction, &entry, None)?;
    let row = entity::create_as(transaction, id, entry)?;
    version::note(transaction, &row, None)?;
    index::put(transaction, &row)?;
    say(transaction, CREATED, &row)?;
    Ok(row)
}

/// Tries again what has met somebody else: a slug that was taken, or a row that was changed, at the same moment.
pub fn again<T>(work: impl Fn() -> Result<T>) -> Result<T> {
    let mut attempt = 1;
    loop {
        match work() {
            Err(problem)
                if matches!(problem.code.as_ref(), "CONFLICT" | "CHANGED_MEANWHILE") && attempt < ATTEMPTS_MAX =>
            {
                attempt += 1;
            }
            result => return result,
        }
    }
}

/// `GET /api/knowledge/{id}`.
pub fn read(Params(id): Params<Id>) -> Result<Whole> {
    Ok(Whole(200, entity::read::<Entry>(&Pool, &id)?))
}

/// `PUT /api/knowledge/{id}`; `changeNote` says why.
pub fn update(Params(id): Params<Id>, if_match: IfMatch, Json(fields): Json<Map<String, Value>>) -> Result<Whole> {
    let mut fields = fields;
    let note = match fields.remove("changeNote") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) if text.chars().count() <= 1_000 => Some(validate::clean(&text)),
        Some(_) => return Err(Problem::field("changeNote", "must be a text of at most 1000 characters")),
    };
    people::scope::require_named(fields.get("projectId").and_then(Value::as_str))?;
    let work = || transact(|transaction| change(transaction, &id, &fields, if_match, note.as_deref()));
    let row = if if_match.0.is_none() { again(work)? } else { work()? };
    Ok(Whole(200, row))
}

/// Changes an entry: its new version, what it is found by, and its event come along.
pub fn change(
    transaction: &Transaction,
    id: &Id,
    fields: &Map<String, Value>,
    if_match: IfMatch,
    note: Option<&str>,
) -> Result<Stored<Entry>> {
    let before = entity::read::<Entry>(transaction, id)?.version;
    let row = entity::update::<Entry>(transaction, id, fields, if_match)?;
    if row.version != before {
        version::note(transaction, &row, note)?;
        index::put(transaction, &row)?;
        say(transaction, UPDATED, &row)?;
    }
    Ok(row)
}

/// Whether what is below goes too.
#[data]
pub struct RemoveQuery {
    cascade: Option<bool>,
}

/// `DELETE /api/knowledge/{id}`: for 30 days it can be restored.
pub fn remove(Params(id): Params<Id>, Query(query): Query<RemoveQuery>, if_match: IfMatch) -> Result<NoContent> {
    transact(|transaction| {
        place::hold(transaction)?;
        let row = entity::read::<Entry>(transaction, &id)?;
        if_match.check(row.version)?;
        let below = Select::<Entry>::new().condition("\"path\" LIKE ?", [format!("{}/%", row.path)]);
        // Also those that the caller does not see are below it.
        let all = transaction.query_one(
            "SELECT COUNT(*) AS total FROM kb_entries WHERE organization_id = $1 AND path LIKE $2 AND deleted_at IS NULL",
            params![auth::organization_id()?, format!("{}/%", row.path)],
        )?;
        let all: i64 = all.map_or(Ok(0), |all| all.get("total"))?;
        if all > 0 && query.cascade != Some(true) {
            let text = "There are entries below it; delete them first, or say cascade=true.";
            return Err(Problem::conflict(text).with_code("HAS_CHILDREN").with("children", all));
        }
        let rows = below.limit(CASCADE_MAX + 1).all(transaction)?;
        if all > CASCADE_MAX || usize::try_from(all).ok() != Some(rows.len()) {
            let text = "Below it are too many entries, or some that you do not see.";
            return Err(Problem::conflict(text).with_code("HAS_CHILDREN").with("children", all));
        }
        for row in rows.iter().chain([&row]) {
            drop_one(transaction, row)?;
        }
        Ok(NoContent)
    })
}

/// Marks an entry as deleted.
pub fn drop_one(transaction: &Transaction, row: &Stored<Entry>) -> Result<()> {
    let changed = transaction.execute(
        "UPDATE kb_entries SET deleted_at = $2, updated_at = $2, version = version + 1 WHERE id = $1 AND deleted_at IS NULL",
        params![&row.id, clock::now()],
    )?;
    if changed == 0 {
        return Err(Problem::missing("entry"));
    }
    index::take(transaction, &row.id)?;
    say(transaction, DELETED, row)
}

/// The answer of a change of state.
pub fn changed(row: Stored<Entry>) -> Whole {
    Whole(200, row)
}

/// What an entry becomes by an action.
pub fn set_status(id: &Id, if_match: IfMatch, status: Status, note: &str) -> Result<Whole> {
    let mut fields = Map::new();
    fields.insert("status".into(), json!(status));
    let work = || transact(|transaction| change(transaction, id, &fields, if_match, Some(note)));
    let row = if if_match.0.is_none() { again(work)? } else { work()? };
    Ok(changed(row))
}
