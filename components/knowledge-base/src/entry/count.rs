//! Favourites, what has helped, and how often an entry was looked at.

use std::time::Duration;

use berth_sdk::{cache, prelude::*};

use super::{Entry, listed, transact};

/// The message that adds counted views to their entry.
pub const FLUSH: &str = "kb.views.flush";
/// How long views are counted before they are written.
const BATCH_TIME: Duration = Duration::from_secs(5);
/// How long counted views are kept where nobody fetches them.
const VIEWS_TTL: Duration = Duration::from_secs(3600);
/// How long the popular entries are remembered.
const POPULAR_TTL: Duration = Duration::from_secs(300);
/// How many are popular.
const POPULAR_MAX: i64 = 20;

/// Whether it is a favourite now.
#[data]
pub struct Favorite {
    entry_id: Id,
    favorite: bool,
}

/// `POST /api/knowledge/{id}/favorite`.
pub fn favorite(Params(id): Params<Id>) -> Result<Json<Favorite>> {
    transact(|transaction| {
        let row = entity::read::<Entry>(transaction, &id)?;
        let user_id = auth::user_id()?;
        let removed = transaction
            .execute("DELETE FROM kb_favorites WHERE entry_id = $1 AND user_id = $2", params![&row.id, &user_id])?;
        let favorite = removed == 0 && mark(transaction, "kb_favorites", &row, &user_id)?;
        Ok(Json(Favorite { entry_id: row.id, favorite }))
    })
}

/// Notes that somebody has marked an entry. False when they had already.
fn mark(transaction: &Transaction, table: &str, row: &Stored<Entry>, user_id: &Id) -> Result<bool> {
    let now = clock::now();
    let sql = format!(
        "INSERT INTO {table} (id, organization_id, created_by, created_at, updated_at, version, entry_id, user_id)
         VALUES ($1, $2, $3, $4, $4, 1, $5, $3) ON CONFLICT (entry_id, user_id) DO NOTHING"
    );
    let made = transaction.execute(&sql, params![Id::new(), &row.organization_id, user_id, now, &row.id])?;
    Ok(made > 0)
}

/// How many it has helped.
#[data]
pub struct Helpful {
    entry_id: Id,
    helpful_count: i64,
}

/// `POST /api/knowledge/{id}/helpful`: once for each person.
pub fn helpful(Params(id): Params<Id>) -> Result<Json<Helpful>> {
    transact(|transaction| {
        let row = entity::read::<Entry>(transaction, &id)?;
        let user_id = auth::user_id()?;
        let mut helpful_count = row.helpful_count;
        if mark(transaction, "kb_helpful", &row, &user_id)? {
            // No change of the entry itself: its version stays.
            transaction
                .execute("UPDATE kb_entries SET helpful_count = helpful_count + 1 WHERE id = $1", params![&row.id])?;
            helpful_count += 1;
        }
        Ok(Json(Helpful { entry_id: row.id, helpful_count }))
    })
}

/// How often it was looked at.
#[data]
pub struct Views {
    entry_id: Id,
    view_count: i64,
}

/// Whose views are written.
#[data]
struct Work {
    entry_id: Id,
}

/// `POST /api/knowledge/{id}/view`: counted in the cache and written some seconds later, many at once.
pub fn view(Params(id): Params<Id>) -> Result<Json<Views>> {
    let row = entity::read::<Entry>(&Pool, &id)?;
    let pending = match cache::incr_by(&key(&id), 1, VIEWS_TTL) {
        Ok(count) => {
            if count == 1 {
                events::enqueue(FLUSH, &Work { entry_id: id.clone() }, BATCH_TIME)?;
            }
            count
        }
        Err(fault) => {
            logging::debug!("views are counted without the cache", fault = fault);
            add(&Pool, &id, 1)?;
            1
        }
    };
    Ok(Json(Views { entry_id: id, view_count: row.view_count + pending }))
}

fn key(id: &Id) -> String {
    format!("views:{id}")
}

fn add(database: &dyn Executor, id: &Id, count: i64) -> Result<()> {
    let sql = "UPDATE kb_entries SET view_count = view_count + $2 WHERE id = $1 AND organization_id = $3";
    database.execute(sql, params![id, count, auth::organization_id()?])?;
    Ok(())
}

/// Handles [`FLUSH`].
pub fn flush(envelope: &Envelope) -> Result<()> {
    let work: Work = envelope.data()?;
    let count = cache::incr_by(&key(&work.entry_id), 0, VIEWS_TTL)?;
    if count <= 0 {
        return Ok(());
    }
    let written = database::transaction(|transaction| {
        let is_new = transaction.once(&envelope.id)?;
        if is_new {
            add(transaction, &work.entry_id, count)?;
        }
        Ok::<_, Problem>(is_new)
    })?;
    if written && cache::incr_by(&key(&work.entry_id), -count, VIEWS_TTL)? > 0 {
        // Somebody looked meanwhile, and met a counter that was not at its beginning.
        events::enqueue(FLUSH, &work, BATCH_TIME)?;
    }
    Ok(())
}

/// Popular entries.
#[data]
pub struct Popular {
    items: Vec<berth_sdk::serde_json::Value>,
}

/// `GET /api/knowledge/popular`: which they are is remembered for five minutes; what they are never.
pub fn popular() -> Result<Json<Popular>> {
    let user_id = auth::principal().user_id.unwrap_or_default();
    let ids: Vec<String> = cache::remember(&format!("popular:{user_id}"), POPULAR_TTL, || {
        #[data]
        struct Row {
            id: String,
        }
        let select = Select::<Entry>::new().equal("status", super::Status::Published).equal("is_template", false);
        let rows: Vec<Row> = select.sort("-viewCount").limit(POPULAR_MAX).columns(&Pool, "\"id\"")?;
        Ok::<_, Problem>(rows.into_iter().map(|row| row.id).collect())
    })?;
    let mut items: Vec<berth_sdk::serde_json::Value> =
        Select::<Entry>::new().one_of("id", ids.iter().map(String::as_str)).columns(&Pool, &listed())?;
    items.sort_by_key(|item| ids.iter().position(|id| item["id"] == id.as_str()));
    Ok(Json(Popular { items }))
}
