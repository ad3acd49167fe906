//! Calendars: whose events they hold, in which colour and time zone.

use berth_sdk::{
    entity::{Draft, Made},
    prelude::*,
    serde_json::Value,
};

use crate::{MANAGE, REMOVE, zone};

/// Whose it is.
#[choice]
pub enum OwnerType {
    /// One person's; nobody else sees it.
    User,
    /// A team's; its members see and fill it.
    Team,
    /// A project's; who sees that sees and fills it.
    Project,
    /// The organization's; those who manage calendars fill it.
    Organization,
}

/// A calendar.
#[entity(table = "calendar_calendars", name = "calendar", sort = "name")]
pub struct Calendar {
    /// For people.
    #[field(min = 1, max = 200, plain)]
    pub name: String,
    /// What it is for.
    #[field(max = 2_000)]
    pub description: Option<String>,
    /// Whose it is.
    #[field(immutable, default = OwnerType::User)]
    pub owner_type: OwnerType,
    /// The user, team, project or organization; the caller's own where that is clear.
    #[field(immutable, default = "")]
    pub owner_id: String,
    /// As in `#3366cc`.
    #[field(default = "#3366cc", max = 9)]
    pub color: String,
    /// A name of the IANA database.
    #[field(default = "UTC", min = 1, max = 64, format = "timezone")]
    pub timezone: String,
}

impl Rules for Calendar {
    fn scope() -> Option<Condition> {
        let principal = auth::principal();
        let user_id = principal.user_id.unwrap_or_default();
        let teams = auth::teams();
        let places = if teams.is_empty() { "NULL".to_string() } else { vec!["?"; teams.len()].join(", ") };
        let team = if auth::has(MANAGE) { "1 = 1".to_string() } else { format!("\"owner_id\" IN ({places})") };
        let own =
            std::iter::once(user_id).chain(teams.into_iter().filter(|_| !auth::has(MANAGE))).map(database::Value::from);
        let every = || Condition::new("1 = 1", [] as [database::Value; 0]);
        let project = people::project::seen().map_or_else(every, |seen| people::scope::among("\"owner_id\"", &seen));
        let sql = format!(
            "(\"owner_type\" = 'user' AND \"owner_id\" = ?) OR (\"owner_type\" = 'team' AND {team}) \
             OR (\"owner_type\" = 'project' AND {}) OR \"owner_type\" = 'organization'",
            project.sql
        );
        Some(Condition::new(sql, own.chain(project.values)))
    }

    fn check(&self, faults: &mut Faults) {
        let digits = self.color.strip_prefix('#').unwrap_or_default();
        if !matches!(digits.len(), 3 | 6 | 8) || !digits.chars().all(|letter| letter.is_ascii_hexdigit()) {
            faults.add("color", "must be like #3366cc");
        }
        if zone::parse(&self.timezone).is_none() {
            faults.add("timezone", "must be a time zone such as Europe/Berlin");
        }
        if !self.owner_id.is_empty() {
            faults.check("ownerId", validate::id(&self.owner_id));
        } else if matches!(self.owner_type, OwnerType::Team | OwnerType::Project) {
            faults.add("ownerId", "is required for the calendar of a team or a project");
        }
    }

    fn before_create(&mut self, _: &Transaction) -> Result<()> {
        let own = match self.owner_type {
            OwnerType::User => Some(auth::user_id()?),
            OwnerType::Organization => Some(auth::organization_id()?),
            OwnerType::Team | OwnerType::Project => None,
        };
        if let Some(own) = own {
            if self.owner_id.is_empty() {
                self.owner_id = own.to_string();
            }
            if self.owner_id != own.as_str() {
                return Err(Problem::forbidden(
                    "A calendar is made for oneself, a team, a project or one's organization.",
                ));
            }
        }
        self.require_write()
    }

    fn before_update(&mut self, old: &Stored<Self>, _: &Transaction) -> Result<()> {
        old.require_write()
    }

    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        row.require_write()?;
        if row.owner_type != OwnerType::User {
            auth::require(REMOVE)?;
        }
        // Events belong to people: they stay, in no calendar.
        transaction.execute(
            "UPDATE calendar_events SET calendar_id = NULL, updated_at = $2, version = version + 1 WHERE calendar_id = $1",
            params![&row.id, clock::now()],
        )?;
        let feeds = "UPDATE calendar_feeds SET revoked_at = $2 WHERE calendar_id = $1 AND revoked_at IS NULL";
        transaction.execute(feeds, params![&row.id, clock::now()])?;
        crate::event::forget(transaction);
        Ok(())
    }
}

impl Calendar {
    /// 403 unless the caller may fill and change it.
    pub fn require_write(&self) -> Result<()> {
        let may = match self.owner_type {
            OwnerType::User => auth::principal().user_id.as_deref() == Some(self.owner_id.as_str()),
            OwnerType::Team => auth::has(MANAGE) || auth::teams().contains(&self.owner_id),
            // For who does not see the project there is no such calendar.
            OwnerType::Project => true,
            OwnerType::Organization => auth::has(MANAGE),
        };
        if may { Ok(()) } else { Err(Problem::forbidden("This calendar is others' to change.")) }
    }
}

/// The routes of calendars, with the export of one.
pub fn routes() -> Router {
    const PATH: &str = "/api/calendar/calendars";
    Router::new()
        .entity::<Calendar>(PATH)
        .post(PATH, make)
        .summary("Create a calendar.")
        .delete(&format!("{PATH}/{{id}}"), remove)
        .summary("Delete a calendar; its events stay.")
        // One's own calendar is anybody's to delete; the others are judged there.
        .permission(crate::WRITE)
        .get(&format!("{PATH}/{{id}}/export.ics"), export)
        .summary("Read a calendar as iCalendar.")
}

/// `POST /api/calendar/calendars`. Who sees the project of one is asked before the transaction.
fn make(Draft(fields, _): Draft<Calendar>) -> Result<Made<Calendar>> {
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    if let (Some("project"), Some(id)) = (text("ownerType"), text("ownerId")) {
        let id = Id::parse(id).map_err(|_| Problem::field("ownerId", "must be an id"))?;
        people::project::require_anew(&id)?;
    }
    database::transaction(|transaction| entity::create_from(transaction, fields)).map(Made)
}

fn remove(Params(id): Params<Id>, if_match: IfMatch) -> Result<NoContent> {
    database::transaction(|transaction| entity::delete::<Calendar>(transaction, &id, if_match))?;
    Ok(NoContent)
}

fn export(Params(id): Params<Id>) -> Result<Response> {
    let calendar = entity::read::<Calendar>(&Pool, &id)?;
    let viewer = crate::event::view::Viewer::caller();
    crate::feed::document(&auth::organization_id()?, &viewer, &calendar.name, Some(&calendar.id))
}

/// The calendar of an event that is being written: it must be there and the caller's to fill.
pub fn of_event(database: &dyn Executor, id: &Id) -> Result<Stored<Calendar>> {
    let calendar = entity::read::<Calendar>(database, id)?;
    calendar.require_write()?;
    Ok(calendar)
}
