//! Spaces: where entries are, and who reads what is there.

use std::time::Duration;

use berth_sdk::{auth::PrincipalKind, database::Value, prelude::*};

use crate::entry::{self, Entry, place};

/// The right to see to what others have made: administrators hold it.
pub const MANAGE: &str = "knowledge.knowledge.manage";
/// The message that tells of every entry of a space whose readers have changed.
pub const ANNOUNCE: &str = "kb.space.announce";
/// Entries of one such message.
const TURN: i64 = 100;

/// What a space is for.
#[choice]
pub enum SpaceType {
    /// One person.
    Personal,
    /// A team.
    Team,
    /// A project.
    Project,
    /// Everybody.
    Wiki,
    /// Anything else.
    Custom,
}

/// A space.
#[entity(table = "kb_spaces", name = "space", sort = "name")]
pub struct Space {
    /// Unique in the organization.
    #[field(min = 1, max = 200, plain, filter)]
    pub name: String,
    /// What it is about.
    #[field(max = 2_000)]
    pub description: Option<String>,
    /// What it is for.
    #[field(default = SpaceType::Wiki, immutable)]
    pub r#type: SpaceType,
    /// Everybody in the organization reads it; otherwise its owner, its members and its team. Never a personal one.
    #[field(default = true)]
    pub is_public: bool,
    /// Whose it is.
    #[field(readonly, default = Id::from("nobody"))]
    pub owner_id: Id,
    /// The team that reads it.
    pub team_id: Option<Id>,
    /// The project it is about.
    pub project_id: Option<Id>,
    /// Who else reads it.
    #[field(default, max = 500)]
    pub member_ids: Vec<Id>,
}

impl Rules for Space {
    fn scope() -> Option<Condition> {
        let principal = auth::principal();
        match principal.kind {
            PrincipalKind::System => None,
            _ => {
                let (sql, values) = readable(&principal.user_id.unwrap_or_default());
                Some(Condition { sql, values })
            }
        }
    }

    fn before_create(&mut self, _: &Transaction) -> Result<()> {
        self.owner_id = auth::user_id()?;
        self.is_public = self.is_public && self.r#type != SpaceType::Personal;
        Ok(())
    }

    fn before_update(&mut self, old: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        require_owner(old)?;
        self.is_public = self.is_public && self.r#type != SpaceType::Personal;
        if self.is_public != old.is_public {
            let work = Announcement { space_id: Some(old.id.clone()), path: None, after: String::new() };
            transaction.enqueue(ANNOUNCE, &work, Duration::ZERO)?;
        }
        Ok(())
    }

    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        require_owner(row)?;
        place::hold(transaction)?;
        let inside = transaction.query_one(
            "SELECT id FROM kb_entries WHERE space_id = $1 AND deleted_at IS NULL LIMIT 1",
            params![&row.id],
        )?;
        match inside {
            Some(_) => Err(Problem::conflict("There are entries in it.").with_code("SPACE_NOT_EMPTY")),
            None => Ok(()),
        }
    }
}

fn require_owner(row: &Stored<Space>) -> Result<()> {
    let is_owner = auth::principal().user_id.as_deref() == Some(row.owner_id.as_str());
    if is_owner { Ok(()) } else { auth::require(MANAGE) }
}

/// SQL that holds of the spaces a user reads, with the values of its `?`.
pub fn readable(user_id: &str) -> (String, Vec<Value>) {
    let mut sql = String::from("is_public = TRUE OR owner_id = ? OR CAST(member_ids AS TEXT) LIKE ?");
    let mut values: Vec<Value> = vec![user_id.into(), format!("%\"{user_id}\"%").into()];
    let teams = auth::teams();
    if !teams.is_empty() {
        sql.push_str(&format!(" OR team_id IN ({})", vec!["?"; teams.len()].join(", ")));
        values.extend(teams.into_iter().map(Value::from));
    }
    (sql, values)
}

/// Whether everybody in the organization reads what is in a space; what is in none is everybody's.
pub fn is_public(database: &dyn Executor, space_id: Option<&Id>) -> Result<bool> {
    let Some(space_id) = space_id else { return Ok(true) };
    let row = database.query_one("SELECT is_public FROM kb_spaces WHERE id = $1", params![space_id])?;
    Ok(row.map_or(Ok(false), |row| row.get("is_public"))?)
}

/// Whose readers have changed: the entries of a space, or those below a path; and up to which entry it is done.
#[data]
struct Announcement {
    space_id: Option<Id>,
    path: Option<String>,
    #[field(default)]
    after: String,
}

/// Lets everybody learn that what is below a path has moved to another space.
pub fn announce_below(transaction: &Transaction, path: &str) -> Result<()> {
    let work = Announcement { space_id: None, path: Some(path.to_string()), after: String::new() };
    transaction.enqueue(ANNOUNCE, &work, Duration::ZERO).map(|_| ())
}

/// Handles [`ANNOUNCE`]: whoever keeps copies of entries learns that their readers have changed.
pub fn announce(envelope: &Envelope) -> Result<()> {
    let work: Announcement = envelope.data()?;
    let mut select = Select::<Entry>::new().condition("\"id\" > ?", [work.after.as_str()]);
    select = match (&work.space_id, &work.path) {
        (Some(space_id), _) => select.equal("space_id", space_id),
        (None, Some(path)) => select.condition("\"path\" LIKE ?", [format!("{path}/%")]),
        (None, None) => return Ok(()),
    };
    database::transaction(|transaction| {
        if !transaction.once(&envelope.id)? {
            return Ok(());
        }
        let rows = select.sort("id").limit(TURN).all(transaction)?;
        for row in &rows {
            entry::say(transaction, entry::UPDATED, row)?;
        }
        if let Some(last) = rows.last().filter(|_| rows.len() == usize::try_from(TURN).unwrap_or(0)) {
            let after = last.id.as_str().to_string();
            transaction.enqueue(ANNOUNCE, &Announcement { after, ..work.clone() }, Duration::ZERO)?;
        }
        Ok(())
    })
}
