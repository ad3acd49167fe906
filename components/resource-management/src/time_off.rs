//! Time off: who asks to be away when, and who says yes. What kind of absence it is concerns whose it is and who leads them.

use berth_sdk::{
    entity::{Made, Patch},
    events::Message,
    prelude::*,
    serde_json::{Map, Value},
};
use time_rules::day::{Day, Span};

use crate::{
    alert,
    allocation::check_span,
    load,
    pages::{page_of, require_sort},
    profile::Profile,
    rights,
};

const PATH: &str = "/api/capacity/time-off";
/// What the list is sorted by for those who do not see why everybody is away.
const SORTS: &[&str] = &[
    "userId",
    "startDate",
    "endDate",
    "status",
    "hoursPerDay",
    "decidedBy",
    "decidedAt",
    "id",
    "createdAt",
    "updatedAt",
    "createdBy",
];

/// Why somebody is away.
#[choice]
pub enum TimeOffKind {
    /// They rest.
    Vacation,
    /// They are ill.
    Sick,
    /// It is a holiday of their own.
    Holiday,
    /// Something else.
    Other,
}

/// What was said to it.
#[choice]
pub enum TimeOffStatus {
    /// Nothing yet.
    Requested,
    /// Yes: it takes capacity.
    Approved,
    /// No.
    Rejected,
}

/// Days on which somebody is away.
#[entity(table = "capacity_time_off", name = "time off", sort = "startDate")]
pub struct TimeOff {
    /// Who; always who asks.
    #[field(readonly)]
    pub user_id: Option<Id>,
    /// The first day.
    pub start_date: Day,
    /// The last day, with it.
    pub end_date: Day,
    /// Why.
    #[field(default = TimeOffKind::Vacation)]
    pub kind: TimeOffKind,
    /// What was said to it.
    #[field(readonly, default = TimeOffStatus::Requested)]
    pub status: TimeOffStatus,
    /// How many hours of each day; none: all of them.
    #[field(max = 24)]
    pub hours_per_day: Option<f64>,
    /// For who decides.
    #[field(max = 1_000)]
    pub note: Option<String>,
    /// Who said yes or no.
    #[field(readonly)]
    pub decided_by: Option<Id>,
    /// When.
    #[field(readonly)]
    pub decided_at: Option<Timestamp>,
    /// What it was made from by itself, such as `calendar:<event>`.
    #[field(readonly)]
    pub origin: Option<String>,
}

impl Rules for TimeOff {
    /// What is not approved is whose it is and who leads them to know.
    fn scope() -> Option<Condition> {
        if rights::is_manager() || auth::principal().kind == auth::PrincipalKind::System {
            return None;
        }
        // When nobody can say whom the caller leads, they lead nobody.
        let mut users: Vec<String> =
            people::led().unwrap_or_default().into_iter().take(load::PEOPLE_MAX).map(Id::into_string).collect();
        users.push(auth::principal().user_id.unwrap_or_default());
        let places = vec!["?"; users.len()].join(", ");
        Some(Condition::new(format!("\"status\" = 'approved' OR \"user_id\" IN ({places})"), users))
    }

    fn check(&self, faults: &mut Faults) {
        check_span(self.start_date, self.end_date, "endDate", faults);
        if self.hours_per_day.is_some_and(|hours| hours <= 0.0) {
            faults.add("hoursPerDay", "must be more than 0");
        }
    }

    fn before_create(&mut self, _: &Transaction) -> Result<()> {
        if self.user_id.is_none() {
            self.user_id = Some(auth::user_id()?);
        }
        Ok(())
    }

    fn before_update(&mut self, old: &Stored<Self>, _: &Transaction) -> Result<()> {
        require_own(old)?;
        require_open(old)
    }

    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        if !rights::is_manager() {
            require_own(row)?;
        }
        if row.status == TimeOffStatus::Approved {
            publish(transaction, "capacity.timeoff.cancelled", row)?;
        }
        Ok(())
    }
}

impl TimeOff {
    /// Its days.
    pub fn span(&self) -> Span {
        Span::new(self.start_date, self.end_date)
    }
}

/// The routes.
pub fn routes() -> Router {
    let row = format!("{PATH}/{{id}}");
    Router::new()
        .get(PATH, list)
        .summary("List time off: what is approved, one's own, and that of those one leads.")
        .sorts(SORTS)
        .post(PATH, make)
        .summary("Ask for time off, for oneself.")
        .get(&row, read)
        .summary("Read a request for time off.")
        .put(&row, change)
        .summary("Update one's own request for time off, until it is decided on.")
        .delete(&row, remove)
        .summary("Withdraw one's own request for time off.")
        // One's own is anybody's to withdraw; that of others is judged there.
        .permission(rights::UPDATE)
        .post(&format!("{row}/approve"), approve)
        .summary("Approve time off of somebody one leads.")
        .post(&format!("{row}/reject"), reject)
        .summary("Reject time off of somebody one leads.")
}

#[data]
struct Filter {
    /// That end on this day or later.
    from: Option<Day>,
    /// That begin on this day or earlier.
    to: Option<Day>,
    /// People of this team.
    team_id: Option<Id>,
}

fn list(Query(filter): Query<Filter>, query: PageQuery) -> Result<Json<Page<Map<String, Value>>>> {
    let mut select = Select::<TimeOff>::new();
    if let Some(from) = filter.from {
        select = select.condition("end_date >= ?", [from]);
    }
    if let Some(to) = filter.to {
        select = select.condition("start_date <= ?", [to]);
    }
    if let Some(team_id) = &filter.team_id {
        select = select.one_of("user_id", people::team(team_id)?);
    }
    if !rights::is_manager() {
        // Who may not see why others are away cannot ask for it either.
        require_sort(&query, SORTS)?;
        if query.filter("kind").is_some() {
            select = select.equal("user_id", auth::user_id()?);
        }
    }
    let mut page = page_of(select, &query)?;
    for row in &mut page.items {
        mask(row)?;
    }
    Ok(Json(page))
}

/// Why somebody is away concerns them and their leads.
fn mask(row: &mut Map<String, Value>) -> Result<()> {
    let user_id = Id::from(row.get("userId").and_then(Value::as_str).unwrap_or_default());
    if !rights::is_concerned(&user_id)? {
        for name in ["kind", "note", "origin"] {
            row.insert(name.into(), Value::Null);
        }
    }
    Ok(())
}

/// What is asked for.
#[data]
struct Wish {
    /// Oneself, when it is told.
    user_id: Option<Id>,
    start_date: Day,
    end_date: Day,
    #[field(default = TimeOffKind::Vacation)]
    kind: TimeOffKind,
    #[field(max = 24)]
    hours_per_day: Option<f64>,
    #[field(max = 1_000)]
    note: Option<String>,
}

fn make(Json(wish): Json<Wish>) -> Result<Made<TimeOff>> {
    let own = auth::user_id()?;
    if wish.user_id.is_some_and(|id| id != own) {
        return Err(Problem::forbidden("Time off is asked for oneself only."));
    }
    let time_off = TimeOff {
        user_id: Some(own.clone()),
        kind: wish.kind,
        hours_per_day: wish.hours_per_day,
        note: wish.note,
        ..TimeOff::requested(own, wish.start_date, wish.end_date)
    };
    database::transaction(|transaction| entity::create(transaction, time_off)).map(Made)
}

impl TimeOff {
    /// A request that says nothing but when.
    pub fn requested(user_id: Id, start_date: Day, end_date: Day) -> Self {
        Self {
            user_id: Some(user_id),
            start_date,
            end_date,
            kind: TimeOffKind::Vacation,
            status: TimeOffStatus::Requested,
            hours_per_day: None,
            note: None,
            decided_by: None,
            decided_at: None,
            origin: None,
        }
    }
}

fn read(Params(id): Params<Id>) -> Result<Response> {
    let row = entity::read::<TimeOff>(&Pool, &id)?;
    let mut shown = row.shown();
    mask(&mut shown)?;
    Ok(Response::json(200, &shown)?.with_version(row.version))
}

fn change(Params(id): Params<Id>, if_match: IfMatch, Patch(patch, _): Patch<TimeOff>) -> Result<Stored<TimeOff>> {
    // Whom the caller leads is known from here on: nobody is asked within the transaction.
    entity::read::<TimeOff>(&Pool, &id)?;
    database::transaction(|transaction| entity::update(transaction, &id, &patch, if_match))
}

fn remove(Params(id): Params<Id>, if_match: IfMatch) -> Result<NoContent> {
    let user_id = owner(&entity::read::<TimeOff>(&Pool, &id)?);
    database::transaction(|transaction| {
        load::hold(transaction, &user_id)?;
        let row = entity::read::<TimeOff>(transaction, &id)?;
        let monday = Profile::or_usual(transaction, &user_id)?.today().monday();
        if row.status == TimeOffStatus::Approved && row.end_date < monday && !rights::is_manager() {
            let detail = "Weeks that are over are changed only by those who administer the organization.";
            return Err(Problem::conflict(detail).with_code("PAST_WEEK"));
        }
        entity::delete::<TimeOff>(transaction, &id, if_match)?;
        load::forget(transaction);
        alert::review(transaction, &user_id, row.span())
    })?;
    Ok(NoContent)
}

fn approve(Params(id): Params<Id>, if_match: IfMatch) -> Result<Stored<TimeOff>> {
    decide(&id, if_match, TimeOffStatus::Approved)
}

fn reject(Params(id): Params<Id>, if_match: IfMatch) -> Result<Stored<TimeOff>> {
    decide(&id, if_match, TimeOffStatus::Rejected)
}

fn decide(id: &Id, if_match: IfMatch, status: TimeOffStatus) -> Result<Stored<TimeOff>> {
    let user_id = owner(&entity::read::<TimeOff>(&Pool, id)?);
    if rights::is_self(&user_id) {
        return Err(Problem::forbidden("Nobody decides on time off of their own."));
    }
    if !rights::leads(&user_id)? {
        return Err(Problem::forbidden("Time off is decided on by who leads them."));
    }
    database::transaction(|transaction| {
        load::hold(transaction, &user_id)?;
        let mut row = entity::read::<TimeOff>(transaction, id)?;
        if_match.check(row.version)?;
        require_open(&row)?;
        row.status = status;
        row.decided_by = Some(auth::user_id()?);
        row.decided_at = Some(clock::now());
        entity::save(transaction, &mut row)?;
        if status == TimeOffStatus::Approved {
            publish(transaction, "capacity.timeoff.approved", &row)?;
            alert::review(transaction, &user_id, row.span())?;
        }
        load::forget(transaction);
        Ok(row)
    })
}

/// Tells of time off, with the zone its days are of.
fn publish(transaction: &Transaction, kind: &str, row: &Stored<TimeOff>) -> Result<()> {
    let user_id = owner(row);
    let timezone = Profile::or_usual(transaction, &user_id)?.timezone;
    let data = json!({
        "id": row.id, "timeOffId": row.id, "userId": user_id, "startDate": row.start_date, "endDate": row.end_date,
        "kind": row.kind, "hoursPerDay": row.hours_per_day, "timezone": timezone, "approvedBy": row.decided_by,
        "origin": row.origin,
    });
    transaction.send(&Message::new(kind, &data)?.with_key(row.id.as_str()))?;
    Ok(())
}

fn owner(row: &Stored<TimeOff>) -> Id {
    row.user_id.clone().unwrap_or_else(|| Id::from(""))
}

fn require_own(row: &Stored<TimeOff>) -> Result<()> {
    if rights::is_self(&owner(row)) { Ok(()) } else { Err(Problem::forbidden("It is somebody else's time off.")) }
}

fn require_open(row: &Stored<TimeOff>) -> Result<()> {
    if row.status == TimeOffStatus::Requested {
        return Ok(());
    }
    let detail = format!("It is {} already; withdraw it and ask again.", row.status);
    Err(Problem::conflict(detail).with_code("ILLEGAL_TRANSITION"))
}
