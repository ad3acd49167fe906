//! The routes of resources that are more than their rows: the cached list, views, what has helped, progress.

use std::time::Duration;

use berth_sdk::{cache, canonical, prelude::*};

use super::{GENERATION, Resource};
use crate::{
    recommend,
    standing::{self, Kind, Record},
    words,
};

/// How long a list is remembered.
const CATALOGUE_TTL: Duration = Duration::from_secs(300);
/// The largest list that is remembered, in bytes.
const CATALOGUE_BYTES_MAX: usize = 256 * 1024;
/// Within this time a second look of the same person is the same view.
const VIEW_TTL: Duration = Duration::from_secs(3_600);

/// What a list is narrowed to, beyond the fields.
#[data]
pub struct Filter {
    /// Resources for this skill.
    #[field(max = 60)]
    skill: Option<String>,
    /// Resources with this tag.
    #[field(max = 60)]
    tag: Option<String>,
    /// Text in title or description.
    #[field(max = 200)]
    q: Option<String>,
}

impl Filter {
    fn narrow(&self) -> Select<Resource> {
        let mut select = Select::new();
        for (word, column) in [(&self.skill, "skills"), (&self.tag, "tags")] {
            if let Some(word) = word {
                select = words::listed(select, column, word);
            }
        }
        if let Some(text) = &self.q {
            select = words::titled(select, text);
        }
        select
    }
}

/// Which state of the catalogue lists are of: another value after every change.
pub fn generation() -> Result<String> {
    cache::remember(GENERATION, CATALOGUE_TTL, || Ok(Id::new().into_string()))
}

/// What of the catalogue the caller sees, in a text; none: everything.
pub fn sight() -> Option<String> {
    Resource::scope().map(|condition| format!("{:?}", condition.values))
}

/// `GET /api/learning`.
pub fn list(Query(filter): Query<Filter>, query: PageQuery) -> Result<JsonText<Page<Stored<Resource>>>> {
    // Whoever sees the same rows and asks the same shares one answer.
    let asked = json!({ "sight": sight(), "limit": query.limit, "offset": query.offset, "pairs": query.pairs });
    let key = format!("resources:{}:{}", generation()?, canonical::sha256(&asked));
    if let Some(text) = cache::get::<String>(&key) {
        return Ok(JsonText::new(200, text.into_bytes()));
    }
    let page = filter.narrow().page(&Pool, &query)?;
    if page.text.len() <= CATALOGUE_BYTES_MAX
        && let Ok(text) = std::str::from_utf8(&page.text)
    {
        cache::set_ttl(&key, &text, CATALOGUE_TTL);
    }
    Ok(page)
}

/// `GET /api/learning/{id}`: a view, once an hour for each person. A view is no change: the version stays.
pub fn read(Params(id): Params<Id>) -> Result<Stored<Resource>> {
    let mut row = entity::read::<Resource>(&Pool, &id)?;
    let viewer = auth::principal().user_id.unwrap_or_default();
    let is_new = cache::add_if_absent(&format!("viewed:{id}:{viewer}"), &true, VIEW_TTL);
    if is_new.is_ok_and(|is_new| is_new) {
        database::execute("UPDATE learning_resources SET view_count = view_count + 1 WHERE id = $1", params![&row.id])?;
        row.view_count += 1;
    }
    Ok(row)
}

/// Whether it has helped.
#[data]
pub struct Opinion {
    /// False takes it back.
    #[field(default = true)]
    helpful: bool,
}

/// How many it has helped.
#[data]
pub struct Helpful {
    resource_id: Id,
    /// Whether it has helped the caller.
    helpful: bool,
    /// How many it has helped in all.
    helpful_count: i64,
}

/// `POST /api/learning/{id}/helpful`: once for each person, however often it is said.
pub fn helpful(Params(id): Params<Id>, input: Option<Json<Opinion>>) -> Result<Json<Helpful>> {
    let helpful = input.is_none_or(|Json(opinion)| opinion.helpful);
    let user_id = auth::user_id()?;
    database::transaction(|transaction| {
        let row = entity::read::<Resource>(transaction, &id)?;
        let changed = if helpful {
            transaction.execute(
                "INSERT INTO learning_helpful (id, organization_id, created_at, resource_id, user_id) \
                 VALUES ($1, $2, $3, $4, $5) ON CONFLICT (resource_id, user_id) DO NOTHING",
                params![Id::new(), &row.organization_id, clock::now(), &row.id, &user_id],
            )?
        } else {
            transaction.execute(
                "DELETE FROM learning_helpful WHERE resource_id = $1 AND user_id = $2",
                params![&row.id, &user_id],
            )?
        };
        let step = match (changed > 0, helpful) {
            (false, _) => 0,
            (true, true) => 1,
            (true, false) => -1,
        };
        // No change of the resource itself: its version stays.
        transaction.execute(
            "UPDATE learning_resources SET helpful_count = helpful_count + $2 WHERE id = $1",
            params![&row.id, step],
        )?;
        let counted = transaction
            .query_one("SELECT helpful_count FROM learning_resources WHERE id = $1", params![&row.id])?
            .ok_or_else(|| Problem::missing("resource"))?;
        transaction.forget(GENERATION);
        Ok(Json(Helpful { resource_id: row.id, helpful, helpful_count: counted.get("helpful_count")? }))
    })
}

/// The body of `POST /api/learning/{id}/progress`.
#[data]
pub struct Report {
    /// How far the caller is: 0 to 1. Less than before changes nothing.
    #[field(min = 0, max = 1)]
    value: f64,
    /// How long it took.
    #[field(default, min = 0, max = standing::MINUTES_MAX)]
    minutes: i64,
    /// Begins anew with `value`.
    #[field(default)]
    reset: bool,
    /// An id of the caller's choice: a second record of the same id counts for nothing.
    event_id: Option<Id>,
}

/// How far the caller is.
#[data]
pub struct Reported {
    resource_id: Id,
    /// 0 to 1.
    value: f64,
    /// Minutes in all.
    minutes: i64,
    completed_at: Option<Timestamp>,
}

/// `POST /api/learning/{id}/progress`.
pub fn progress(Params(id): Params<Id>, Json(report): Json<Report>) -> Result<Json<Reported>> {
    let user_id = auth::user_id()?;
    database::transaction(|transaction| {
        let row = entity::read::<Resource>(transaction, &id)?;
        let record = Record {
            kind: Kind::Resource,
            subject_id: &row.id,
            path_id: None,
            value: report.value,
            minutes: report.minutes,
            reset: report.reset,
            skills: &row.skills,
            event_id: report.event_id.as_ref(),
        };
        let standing = standing::record(transaction, &user_id, &record)?;
        transaction.forget(recommend::key(&user_id));
        Ok(Json(Reported {
            resource_id: row.id.clone(),
            value: standing.value,
            minutes: standing.minutes,
            completed_at: standing.completed_at,
        }))
    })
}
