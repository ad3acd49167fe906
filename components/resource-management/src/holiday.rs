//! Holidays: days on which nobody works, of the whole organization or of one region. Who administers it keeps them.

use berth_sdk::{
    entity::{Made, Patch},
    prelude::*,
};
use time_rules::day::{Day, Span};

use crate::{alert, allocation::check_span, load, rights};

const PATH: &str = "/api/capacity/holidays";
/// The work message that looks at somebody's weeks again.
pub const REVIEW: &str = "capacity.alerts.review";
/// People whose messages are sent in one transaction.
const PEOPLE: usize = 200;

/// Days on which nobody works.
#[entity(table = "capacity_holidays", name = "holiday", sort = "startDate")]
pub struct Holiday {
    /// What it is called.
    #[field(min = 1, max = 200, plain)]
    pub name: String,
    /// The first day.
    pub start_date: Day,
    /// The last day, with it; at most two years later.
    pub end_date: Day,
    /// For those whose profile names it, such as `DE-BE`; otherwise for everybody.
    #[field(max = 64, plain, filter)]
    pub region: Option<String>,
}

impl Rules for Holiday {
    fn check(&self, faults: &mut Faults) {
        check_span(self.start_date, self.end_date, "endDate", faults);
    }

    fn after_create(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        changed(transaction, row.span())
    }

    fn after_update(old: &Stored<Self>, new: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        changed(transaction, old.span())?;
        changed(transaction, new.span())
    }

    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        changed(transaction, row.span())
    }
}

impl Holiday {
    fn span(&self) -> Span {
        Span::new(self.start_date, self.end_date)
    }
}

/// The routes.
pub fn routes() -> Router {
    Router::new()
        .entity::<Holiday>(PATH)
        .post(PATH, |Json(holiday): Json<Holiday>| {
            database::transaction(|transaction| entity::create(transaction, holiday)).map(Made)
        })
        .summary("Create a holiday.")
        .permission(rights::MANAGE)
        .put(&format!("{PATH}/{{id}}"), |Params(id): Params<Id>, if_match: IfMatch, Patch(patch, _): Patch<Holiday>| {
            database::transaction(|transaction| entity::update::<Holiday>(transaction, &id, &patch, if_match))
        })
        .summary("Update a holiday.")
        .permission(rights::MANAGE)
}

/// Whose weeks it is in is looked at afterwards, one person at a time.
#[data]
struct Review {
    /// Whose; none: everybody's who come after one, so many a message.
    user_id: Option<Id>,
    #[field(default)]
    after: String,
    start_date: Day,
    end_date: Day,
}

fn changed(transaction: &Transaction, span: Span) -> Result<()> {
    load::forget(transaction);
    spread(transaction, Span::new(span.first.monday(), span.last.monday().plus(6)), "")
}

/// Sends the messages of those who come after one.
fn spread(transaction: &Transaction, weeks: Span, after: &str) -> Result<()> {
    let rows = transaction.query(
        &format!(
            "SELECT DISTINCT user_id FROM capacity_allocations WHERE organization_id = $1 AND end_date >= $2 \
             AND start_date <= $3 AND status IN ('planned', 'active') AND user_id > $4 ORDER BY user_id LIMIT {PEOPLE}"
        ),
        params![auth::organization_id()?, weeks.first, weeks.last, after],
    )?;
    let review = |user_id: Option<Id>, after: String| {
        let review = Review { user_id, after, start_date: weeks.first, end_date: weeks.last };
        transaction.enqueue(REVIEW, &review, std::time::Duration::ZERO)
    };
    let users = rows.into_iter().map(|row| row.get("user_id")).collect::<Result<Vec<Id>, Fault>>()?;
    if let Some(last) = users.last().filter(|_| users.len() == PEOPLE) {
        review(None, last.to_string())?;
    }
    for user_id in users {
        review(Some(user_id), String::new())?;
    }
    Ok(())
}

/// Looks at somebody's weeks again.
pub fn review(envelope: &Envelope) -> Result<()> {
    let wanted: Review = envelope.data()?;
    let weeks = Span::new(wanted.start_date, wanted.end_date);
    database::transaction(|transaction| match &wanted.user_id {
        Some(user_id) => {
            load::hold(transaction, user_id)?;
            alert::review(transaction, user_id, weeks)
        }
        // They have been sent already.
        None if !transaction.once(&envelope.id)? => Ok(()),
        None => spread(transaction, weeks, &wanted.after),
    })
}
