//! Calendars for other programs: the export of one, and feeds under an address of their own that a token opens and that
//! can be closed again.

use std::collections::BTreeMap;
use std::time::Duration;

use berth_sdk::{canonical, database::Value, prelude::*};

use crate::{
    calendar::Calendar,
    event::{
        Event,
        attendee::{self, Attendee},
        range::{self, Filter},
        require_seen,
        view::Viewer,
    },
    ical::{Document, MEDIA_TYPE},
};

const PATH: &str = "/api/calendar/feeds";
/// The most feeds that somebody has open.
const FEEDS_MAX: i64 = 50;
/// What a feed holds: so much of the past and of the future, in days.
const BEFORE_DAYS: u64 = 92;
const AFTER_DAYS: u64 = 400;
/// How exactly the last use is known.
const USED_EVERY: Duration = Duration::from_secs(300);
/// The longest token that is looked at.
const TOKEN_CHARACTERS_MAX: usize = 200;

/// A feed.
#[entity(table = "calendar_feeds", name = "feed", sort = "-createdAt")]
pub struct Feed {
    /// For people.
    #[field(default = "Calendar", min = 1, max = 200, plain)]
    pub name: String,
    /// Whose view of the events it is.
    #[field(readonly, default = "")]
    pub user_id: String,
    /// Only this calendar; otherwise everything that the user takes part in.
    #[field(immutable, parent = Calendar)]
    pub calendar_id: Option<Id>,
    #[field(readonly, hidden, default = "")]
    pub token_hash: String,
    /// Not looked at: a feed is read with the teams that its owner is in then.
    #[field(readonly, hidden, default)]
    pub team_ids: Vec<String>,
    /// When it was closed.
    #[field(readonly)]
    pub revoked_at: Option<Timestamp>,
    /// When it was last read, to five minutes.
    #[field(readonly)]
    pub last_used_at: Option<Timestamp>,
}

impl Rules for Feed {
    fn scope() -> Option<Condition> {
        Some(Condition::new("\"user_id\" = ?", [auth::principal().user_id.unwrap_or_default()]))
    }
}

/// The routes of feeds; one's own, which reading is enough for.
pub fn routes() -> Router {
    Router::new()
        .get("/api/calendar/feed.ics", read)
        .summary("Read a feed as iCalendar.")
        .public()
        .get(PATH, |query: PageQuery| Select::<Feed>::new().page(&Pool, &query))
        .summary("List one's own feeds.")
        .post(PATH, open)
        .summary("Open a feed; its token is shown once.")
        .permission(crate::READ)
        .delete(&format!("{PATH}/{{id}}"), revoke)
        .summary("Close a feed for good.")
        .permission(crate::READ)
}

fn open(Json(mut feed): Json<Feed>) -> Result<Response> {
    // Three ids are about two hundred bits that nobody can guess.
    let token = format!("{}{}{}", Id::new(), Id::new(), Id::new()).replace('-', "");
    if let Some(id) = &feed.calendar_id {
        // Who sees its project is asked before the transaction.
        entity::read::<Calendar>(&Pool, id)?;
    }
    feed.user_id = auth::user_id()?.into_string();
    feed.token_hash = canonical::sha256_bytes(token.as_bytes());
    feed.team_ids = Vec::new();
    feed.revoked_at = None;
    feed.last_used_at = None;
    let row = database::transaction(|transaction| {
        let open =
            Select::<Feed>::new().condition("revoked_at IS NULL", [] as [String; 0]).count_in_turn(transaction)?;
        if open >= FEEDS_MAX {
            return Err(Problem::conflict(format!("Somebody has at most {FEEDS_MAX} open feeds; close one first.")));
        }
        entity::create(transaction, feed)
    })?;
    let mut shown = row.shown();
    shown.insert("path".into(), format!("/api/calendar/feed.ics?token={token}").into());
    shown.insert("token".into(), token.into());
    Response::json(201, &shown)
}

fn revoke(Params(id): Params<Id>) -> Result<NoContent> {
    database::transaction(|transaction| {
        let mut row = entity::read::<Feed>(transaction, &id)?;
        if row.revoked_at.is_none() {
            row.revoked_at = Some(clock::now());
            entity::save(transaction, &mut row)?;
        }
        Ok(NoContent)
    })
}

/// Closes every feed of somebody who is not there any more.
pub fn close_all(envelope: &Envelope) -> Result<()> {
    #[data]
    struct Gone {
        user_id: Id,
    }
    let gone: Gone = envelope.data()?;
    let now = clock::now();
    // An account that is deleted is gone everywhere; a member only from this organization.
    let mut sql = String::from("UPDATE calendar_feeds SET revoked_at = $2 WHERE user_id = $1 AND revoked_at IS NULL");
    let mut values: Vec<Value> = vec![gone.user_id.into(), now.into()];
    if envelope.message_type != "user.account_deleted" {
        sql.push_str(" AND organization_id = $3");
        values.push(auth::organization_id()?.into());
    }
    Pool.execute(&sql, &values)?;
    Ok(())
}

/// `team.member_removed` and `team.deleted`: feeds of the team's calendars are closed, those of who has left it or of everybody.
pub fn leave_team(envelope: &Envelope) -> Result<()> {
    #[data]
    struct Told {
        team_id: Option<Id>,
        changes: Option<Changes>,
    }
    #[data]
    struct Changes {
        user_id: Option<Id>,
    }
    let told: Told = envelope.data()?;
    let gone = told.changes.and_then(|changes| changes.user_id);
    let is_over = envelope.message_type == "team.deleted";
    let Some(team_id) = told.team_id.filter(|_| is_over || gone.is_some()) else { return Ok(()) };
    let mut concerned = Condition::new("organization_id = ? AND revoked_at IS NULL", [auth::organization_id()?]);
    if let Some(user_id) = gone.filter(|_| !is_over) {
        concerned.sql.push_str(" AND user_id = ?");
        concerned.values.push(user_id.into());
    }
    let mut values = params![clock::now(), &team_id].to_vec();
    let sql = format!(
        "UPDATE calendar_feeds SET revoked_at = $1 WHERE calendar_id IN \
         (SELECT id FROM calendar_calendars WHERE owner_type = 'team' AND owner_id = $2) AND {}",
        concerned.placed(&mut values)
    );
    Pool.execute(&sql, &values)?;
    Ok(())
}

/// The token of a feed.
#[data]
struct Key {
    token: Option<String>,
}

/// As much of a feed as a stranger's request needs.
#[data]
struct Door {
    id: Id,
    organization_id: Id,
    name: String,
    user_id: String,
    calendar_id: Option<Id>,
    last_used_at: Option<Timestamp>,
}

impl Door {
    /// Goes on as the feed's owner, with what they may read now. Where that is nothing, or no longer the calendar, there is
    /// no such feed, and there is one again when they may.
    fn enter(&self) -> Result<()> {
        let missing = || Problem::missing("feed");
        match auth::act_for_member(self.organization_id.as_str(), &self.user_id) {
            Err(problem) if problem.code == "ACTING_DENIED" => return Err(missing()),
            acted => acted?,
        }
        if !auth::has(crate::READ) {
            return Err(missing());
        }
        let Some(id) = &self.calendar_id else { return Ok(()) };
        entity::find::<Calendar>(&Pool, id)?.map(drop).ok_or_else(missing)
    }
}

fn read(Query(key): Query<Key>) -> Result<Response> {
    let token = key.token.ok_or_else(|| Problem::unauthorized("A feed is opened by its token."))?;
    if token.len() > TOKEN_CHARACTERS_MAX {
        return Err(Problem::missing("feed"));
    }
    let doors: Vec<Door> = database::query_as(
        &Pool,
        "SELECT id, organization_id AS \"organizationId\", name, user_id AS \"userId\", calendar_id AS \"calendarId\", \
         last_used_at AS \"lastUsedAt\" FROM calendar_feeds WHERE token_hash = $1 AND revoked_at IS NULL",
        params![canonical::sha256_bytes(token.as_bytes())],
    )?;
    let door = doors.into_iter().next().ok_or_else(|| Problem::missing("feed"))?;
    door.enter()?;
    let now = clock::now();
    if door.last_used_at.is_none_or(|used| now.since(used) > USED_EVERY) {
        database::execute("UPDATE calendar_feeds SET last_used_at = $2 WHERE id = $1", params![&door.id, now])?;
    }
    document(&door.organization_id, &Viewer::caller(), &door.name, door.calendar_id.as_ref())
}

/// The events of a calendar, or of the viewer, as iCalendar.
pub fn document(organization_id: &Id, viewer: &Viewer, name: &str, calendar_id: Option<&Id>) -> Result<Response> {
    let now = clock::now();
    let days = |days: u64| Duration::from_secs(days * 24 * 3_600);
    let filter = match calendar_id {
        Some(id) => Filter { calendar_id: Some(id.clone()), ..Filter::default() },
        None => Filter { user_id: viewer.user_id.as_deref().map(Id::from), ..Filter::default() },
    };
    let rows = range::rows(&Pool, organization_id, &filter, now.minus(days(BEFORE_DAYS)), now.plus(days(AFTER_DAYS)))?;
    written(organization_id, viewer, name, with_apart(organization_id, rows)?)
}

/// One event, with what stands apart from it.
pub fn one(row: &Stored<Event>) -> Result<Response> {
    let organization_id = auth::organization_id()?;
    let viewer = Viewer::caller();
    require_seen(&Pool, row, &viewer)?;
    written(&organization_id, &viewer, &row.title, with_apart(&organization_id, vec![row.clone()])?)
}

/// Series together with their occurrences that stand apart, also those outside the range.
fn with_apart(organization_id: &Id, mut rows: Vec<Stored<Event>>) -> Result<Vec<Stored<Event>>> {
    let series: Vec<Id> = rows.iter().filter(|row| row.is_recurring).map(|row| row.id.clone()).collect();
    for ids in series.chunks(400) {
        let apart = Select::<Event>::new()
            .of_organization(organization_id)
            .one_of("recurrence_parent_id", ids)
            .limit(2_000)
            .all(&Pool)?;
        for row in apart {
            if !rows.iter().any(|known| known.id == row.id) {
                rows.push(row);
            }
        }
    }
    Ok(rows)
}

fn written(organization_id: &Id, viewer: &Viewer, name: &str, rows: Vec<Stored<Event>>) -> Result<Response> {
    let attendees: BTreeMap<Id, Vec<Stored<Attendee>>> =
        attendee::of_events(&Pool, organization_id, rows.iter().map(|row| &row.id))?;
    let text = Document { name: Some(name), rows: &rows, attendees: &attendees, viewer }.text();
    let tag = format!("\"{}\"", canonical::sha256_bytes(text.as_bytes()).get(..32).unwrap_or_default());
    Ok(Response::text(200, MEDIA_TYPE, text)
        .with_header("etag", tag)
        .with_header("cache-control", "private, max-age=300")
        .with_header("content-disposition", "inline; filename=\"calendar.ics\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door(user_id: &str) -> Door {
        Door {
            id: "f1".into(),
            organization_id: "o1".into(),
            name: "Phone".into(),
            user_id: user_id.into(),
            calendar_id: None,
            last_used_at: None,
        }
    }

    #[test]
    fn a_feed_is_there_while_its_owner_may_read() {
        berth_sdk::testing::add_member("reader", &[crate::READ]);
        berth_sdk::testing::add_member("other", &["planning.plans.read"]);
        for user_id in ["gone", "other"] {
            assert_eq!(door(user_id).enter().unwrap_err().status, 404, "{user_id}");
        }
        door("reader").enter().unwrap();
        assert_eq!(Viewer::caller().user_id.as_deref(), Some("reader"));
        assert_eq!(auth::organization_id().unwrap().as_str(), "o1");
    }
}
