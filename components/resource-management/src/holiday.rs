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
    user_id: Id,
    start_date: Day,
    end_date: Day,
}

fn changed(transaction: &Transaction, span: Span) -> Result<()> {
    let weeks = Span::new(span.first.monday(), span.last.monday().plus(6));
    let rows = transaction.query(
        "SELECT DISTINCT user_id FROM capacity_allocations WHERE organization_id = $1 AND end_date >= $2 \
         AND start_date <= $3 AND status IN ('planned', 'active') ORDER BY user_id LIMIT 900",
        params![auth::organization_id()?, weeks.first, weeks.last],
    )?;
    for row in rows {
        let user_id: Id = row.get("user_id")?;
        let review = Review { user_id, start_date: weeks.first, end_date: weeks.last };
        transaction.enqueue(REVIEW, &review, std::time::Duration::ZERO)?;
    }
    load::forget(transaction);
    Ok(())
}

/// Looks at somebody's weeks again.
pub fn review(envelope: &Envelope) -> Result<()> {
    let wanted: Review = envelope.data()?;
    database::transaction(|transaction| {
        load::hold(transaction, &wanted.user_id)?;
        alert::review(transaction, &wanted.user_id, Span::new(wanted.start_date, wanted.end_date))
    })
}
