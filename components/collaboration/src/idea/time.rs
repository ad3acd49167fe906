//! Innovation time: the minutes that somebody spends on ideas.

use berth_sdk::prelude::*;

use super::Idea;
use crate::{access, presence};

/// The most minutes of one entry: a day.
const MINUTES_MAX: i64 = 24 * 60;

/// Time that somebody has spent.
#[entity(table = "innovation_time", name = "time entry", sort = "-date")]
pub struct TimeEntry {
    /// Who.
    #[field(readonly)]
    pub user_id: Option<Id>,
    /// On which idea; on ideas in general otherwise.
    #[field(parent = Idea)]
    pub idea_id: Option<Id>,
    /// How long.
    #[field(min = 1, max = 1_440)]
    pub minutes: i64,
    /// On which day, as in `2026-03-02`.
    #[field(max = 10, filter)]
    pub date: String,
}

impl Rules for TimeEntry {
    fn check(&self, faults: &mut Faults) {
        if !is_day(&self.date) {
            faults.add("date", "must be a day such as 2026-03-02");
        }
    }
}

/// Whether it is a day of the calendar, written as `2026-03-02`.
///
/// ```
/// use collaboration::idea::time::is_day;
/// assert!(is_day("2028-02-29") && !is_day("2026-02-29") && !is_day("2026-3-2") && !is_day("tomorrow"));
/// ```
pub fn is_day(text: &str) -> bool {
    text.len() == 10 && Timestamp::parse(&format!("{text}T00:00:00Z")).is_some()
}

/// The body of `POST /api/innovation/time`.
#[data]
pub struct NewTime {
    /// On which idea; on ideas in general otherwise.
    idea_id: Option<Id>,
    /// How long.
    #[field(min = 1, max = 1_440)]
    minutes: i64,
    /// On which day, as in `2026-03-02`; today by UTC when it is not said.
    date: Option<String>,
}

/// `POST /api/innovation/time`: for the caller. A day has no more than its minutes.
pub fn add(Json(input): Json<NewTime>) -> Result<Created<Stored<TimeEntry>>> {
    let user_id = auth::user_id()?;
    let today: String = clock::now().to_string().chars().take(10).collect();
    let date = input.date.unwrap_or(today);
    if let Some(id) = &input.idea_id {
        entity::read::<Idea>(&Pool, id)?;
    }
    database::transaction(|transaction| {
        // Entries of one person come one after another: so each sum knows those before it.
        presence::hold(transaction, &user_id)?;
        let entry = TimeEntry { user_id: Some(user_id.clone()), idea_id: input.idea_id, minutes: input.minutes, date };
        let row = entity::create(transaction, entry)?;
        let spent = transaction.query_one(
            "SELECT CAST(SUM(minutes) AS BIGINT) AS minutes FROM innovation_time WHERE organization_id = $1 AND user_id = $2 AND \"date\" = $3",
            params![auth::organization_id()?, &user_id, &row.date],
        )?;
        let minutes: Option<i64> = spent.map(|row| row.get("minutes")).transpose()?.flatten();
        if minutes.unwrap_or(0) > MINUTES_MAX {
            return Err(Problem::unprocessable("A day has 1440 minutes.").with_code("DAY_FULL"));
        }
        Ok(Created(row))
    })
}

/// `GET /api/innovation/time`: the caller's; with `userId` another one's, for administrators.
pub fn list(query: PageQuery) -> Result<JsonText<Page<Stored<TimeEntry>>>> {
    let caller = auth::user_id()?;
    match query.filter("userId") {
        Some(user_id) if user_id != caller.as_str() && !access::administers_ideas() => {
            Err(Problem::forbidden("Whose time it is sees it, and administrators."))
        }
        Some(_) => Select::new().page(&Pool, &query),
        None => Select::new().equal("user_id", &caller).page(&Pool, &query),
    }
}

/// `DELETE /api/innovation/time/{id}`: one's own.
pub fn remove(Params(id): Params<Id>, if_match: IfMatch) -> Result<NoContent> {
    database::transaction(|transaction| {
        let row = entity::read::<TimeEntry>(transaction, &id)?;
        let is_callers = row.user_id.as_deref().is_some_and(access::is_caller);
        if !is_callers && !access::administers_ideas() {
            return Err(Problem::missing(TimeEntry::DEFINITION.name));
        }
        entity::delete::<TimeEntry>(transaction, &id, if_match)?;
        Ok(NoContent)
    })
}
