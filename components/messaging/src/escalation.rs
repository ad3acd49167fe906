//! Escalations: what nobody answers goes to others, level by level and once each.

pub mod timer;

use berth_sdk::prelude::*;

use crate::{
    access::{self, Seat},
    message::{
        Message,
        change::{self, Change},
        mention, open_words, write,
    },
    notice,
    participant::Participant,
    people,
};

/// The last level.
pub const LEVEL_MAX: i64 = 3;
/// Users that one level reaches.
const REACHED_MAX: usize = 20;

/// How much it matters.
#[choice]
pub enum Priority {
    /// Whenever.
    Low,
    /// Today.
    Medium,
    /// Soon.
    High,
    /// Now.
    Critical,
}

impl Priority {
    /// What a level is worth when nobody says otherwise.
    pub fn of_level(level: i64) -> Self {
        match level {
            ..=1 => Self::Medium,
            2 => Self::High,
            _ => Self::Critical,
        }
    }
}

/// Whether anybody looks after it.
#[choice]
pub enum Status {
    /// Nobody yet.
    Open,
    /// Somebody does.
    Acknowledged,
    /// It is over.
    Closed,
}

/// An escalation.
#[entity(table = "messaging_escalations")]
pub struct Escalation {
    /// The conversation.
    #[field(immutable)]
    pub conversation_id: Id,
    /// The message.
    #[field(immutable, filter)]
    pub message_id: Id,
    /// 1 to 3.
    pub level: i64,
    /// Why.
    pub reason: String,
    /// Who was told.
    pub escalate_to: Vec<Id>,
    /// How much it matters.
    pub priority: Priority,
    /// Whether anybody looks after it.
    pub status: Status,
}

impl Rules for Escalation {
    fn scope() -> Option<Condition> {
        access::within("messaging_escalations")
    }
}

/// The body of `POST /api/messaging/messages/{id}/escalate`.
#[data]
pub struct Wish {
    /// Why.
    #[field(min = 1, max = 2_000)]
    reason: String,
    /// Who shall be told; by the level when absent.
    #[field(default, max = 20)]
    escalate_to: Vec<Id>,
    /// By the level when absent.
    priority: Option<Priority>,
}

/// `POST /api/messaging/messages/{id}/escalate`.
pub fn escalate(Params(id): Params<Id>, Json(input): Json<Wish>) -> Result<Stored<Escalation>> {
    let message = entity::read::<Message>(&Pool, &id)?;
    // They are told what was said: whoever cannot see the conversation is not asked.
    let seat = Seat::take(&Pool, &message.conversation_id)?;
    mention::require_known("escalateTo", &input.escalate_to, &mention::known(&seat, &input.escalate_to)?)?;
    let administrators = if input.escalate_to.is_empty() {
        people::administrators(seat.conversation.project_id.as_ref())?
    } else {
        Vec::new()
    };
    let mut made = None;
    let level = message.escalation_level + 1;
    change::change(&id, |change| {
        change.row.require_alive()?;
        if change.row.escalation_level + 1 != level {
            return Err(
                Problem::conflict("Somebody else escalated it at the same time.").with_code("ESCALATED_ALREADY")
            );
        }
        let step = Step { reason: input.reason, to: input.escalate_to, priority: input.priority, administrators };
        made = Some(raise(change, step)?);
        Ok(())
    })?;
    made.ok_or_else(Problem::internal)
}

/// One level, as it is wanted.
pub struct Step {
    /// Why.
    pub reason: String,
    /// Who is told; by the level when nobody is named.
    pub to: Vec<Id>,
    /// By the level when absent.
    pub priority: Option<Priority>,
    /// Who looks after the organization; needed when nobody is named.
    pub administrators: Vec<Id>,
}

/// Raises a message by one level; 409 after the last.
pub fn raise(change: &mut Change<'_>, step: Step) -> Result<Stored<Escalation>> {
    let level = change.row.escalation_level + 1;
    if level > LEVEL_MAX {
        let detail = format!("A message is escalated {LEVEL_MAX} times at most.");
        return Err(Problem::conflict(detail).with_code("ESCALATION_EXHAUSTED"));
    }
    let to = if step.to.is_empty() { reached(change, level, step.administrators)? } else { step.to };
    let escalation = Escalation {
        conversation_id: change.row.conversation_id.clone(),
        message_id: change.row.id.clone(),
        level,
        reason: step.reason,
        escalate_to: to,
        priority: step.priority.unwrap_or_else(|| Priority::of_level(level)),
        status: Status::Open,
    };
    let row = entity::create(change.transaction, escalation)?;
    change.row.escalation_level = level;
    change.row.escalate_at = if level < LEVEL_MAX { write::next_escalation(&change.row, change.now) } else { None };
    let reason = open_words(Some(&row.reason), &change.seat.conversation);
    let more = json!({
        "escalationId": row.id, "level": level, "reason": reason, "escalateTo": row.escalate_to,
        "priority": row.priority,
    });
    change.announce("messaging.escalated", more)?;
    notice::escalated(change.transaction, &change.row, &change.seat.conversation, &row)?;
    Ok(row)
}

/// Whom a level reaches: those who were asked, then who looks after the conversation, then after the organization. A
/// level that reaches nobody goes on to the next.
fn reached(change: &Change<'_>, level: i64, administrators: Vec<Id>) -> Result<Vec<Id>> {
    let rows = change.transaction.query(
        "SELECT user_id FROM messaging_addressees WHERE message_id = $1 AND kind = 'approver' ORDER BY id",
        params![&change.row.id],
    )?;
    let asked = rows.into_iter().map(|row| row.get::<Id>("user_id")).collect::<Result<Vec<_>, _>>()?;
    let limit = i64::try_from(REACHED_MAX).unwrap_or(i64::MAX);
    let owners = Participant::owners(change.transaction, &change.row.conversation_id, limit)?;
    Ok(gather([inside(change, asked)?, owners, inside(change, administrators)?], level))
}

/// Those who can look: in a private conversation nobody from outside can, and whoever was asked may have been taken out since.
fn inside(change: &Change<'_>, ids: Vec<Id>) -> Result<Vec<Id>> {
    if !change.seat.conversation.is_private || ids.is_empty() {
        return Ok(ids);
    }
    let among = Participant::among(change.transaction, &change.row.conversation_id, &ids)?;
    Ok(ids.into_iter().filter(|id| among.contains(id)).collect())
}

/// The groups up to a level together, and further ones while there is nobody.
fn gather(groups: [Vec<Id>; 3], level: i64) -> Vec<Id> {
    let mut found: Vec<Id> = Vec::new();
    for (number, group) in (1..).zip(groups) {
        if number > level && !found.is_empty() {
            break;
        }
        for id in group {
            if found.len() < REACHED_MAX && !found.contains(&id) {
                found.push(id);
            }
        }
    }
    found
}

/// Somebody looks after a message: how many of its levels that concerns.
pub fn acknowledge(transaction: &Transaction, message_id: &Id) -> Result<u64> {
    set(transaction, message_id, Status::Acknowledged, "status = 'open'")
}

/// A message needs no attention any more.
pub fn close(transaction: &Transaction, message_id: &Id) -> Result<u64> {
    set(transaction, message_id, Status::Closed, "status <> 'closed'")
}

fn set(transaction: &Transaction, message_id: &Id, status: Status, which: &str) -> Result<u64> {
    let sql = format!(
        "UPDATE messaging_escalations SET status = $3, updated_at = $4, version = version + 1 \
         WHERE message_id = $1 AND organization_id = $2 AND {which}"
    );
    Ok(transaction.execute(&sql, params![message_id, auth::organization_id()?, status, clock::now()])?)
}

/// `GET /api/messaging/escalations`: of the conversations that the caller sees.
pub fn list(query: PageQuery) -> Result<JsonText<Page<Stored<Escalation>>>> {
    Select::<Escalation>::new().page(&Pool, &query)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_level_reaches_further_and_nobody_twice() {
        let group = |ids: &[&str]| ids.iter().map(|id| Id::from(*id)).collect::<Vec<_>>();
        let groups = || [group(&["a"]), group(&["o", "a"]), group(&["z"])];
        assert_eq!(gather(groups(), 1), group(&["a"]));
        assert_eq!(gather(groups(), 2), group(&["a", "o"]));
        assert_eq!(gather(groups(), 3), group(&["a", "o", "z"]));
        assert_eq!(gather([vec![], vec![], group(&["z"])], 1), group(&["z"]));
        assert!(gather([vec![], vec![], vec![]], 3).is_empty());
    }

    #[test]
    fn a_later_level_matters_more() {
        assert_eq!(Priority::of_level(1), Priority::Medium);
        assert_eq!(Priority::of_level(3), Priority::Critical);
    }
}
