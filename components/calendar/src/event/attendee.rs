//! Who takes part, and what they answered.

use std::collections::BTreeMap;

use berth_sdk::prelude::*;

/// The most attendees of an event.
pub const ATTENDEES_MAX: usize = 200;
/// Events whose attendees one statement reads, and the most rows that it gives.
const EVENTS_AT_ONCE: usize = 400;
const ROWS_AT_ONCE: i64 = 9_000;

/// What somebody answered.
#[choice]
pub enum Answer {
    /// Nothing yet.
    Pending,
    /// Yes.
    Accepted,
    /// No.
    Declined,
    /// Perhaps.
    Tentative,
}

/// Somebody who takes part.
#[entity(table = "calendar_attendees", name = "attendee", sort = "createdAt")]
pub struct Attendee {
    /// The event.
    #[field(immutable)]
    pub event_id: Id,
    /// A user.
    pub user_id: Option<Id>,
    /// Somebody from outside.
    #[field(format = "email", max = 320)]
    pub email: Option<String>,
    /// What they answered.
    #[field(default = Answer::Pending)]
    pub response: Answer,
    /// Whether it does not go without them.
    #[field(default = true)]
    pub is_required: bool,
}

impl Rules for Attendee {}

/// Somebody to invite.
#[data]
pub struct Invitation {
    /// A user.
    pub user_id: Option<Id>,
    /// Somebody from outside.
    #[field(format = "email", max = 320)]
    pub email: Option<String>,
    /// Whether it does not go without them.
    #[field(default = true)]
    pub is_required: bool,
}

/// 400 for an invitation of nobody, or of somebody twice.
pub fn check(invitations: &[Invitation], faults: &mut Faults) {
    if invitations.len() > ATTENDEES_MAX {
        faults.add("attendees", format!("must have at most {ATTENDEES_MAX} entries"));
    }
    for (index, invitation) in invitations.iter().enumerate() {
        let field = format!("attendees[{index}]");
        match (&invitation.user_id, &invitation.email) {
            (None, None) => faults.add(field, "must have userId or email"),
            (user_id, email) => {
                let is_same = |other: &&Invitation| {
                    (user_id.is_some() && other.user_id == *user_id) || (email.is_some() && other.email == *email)
                };
                if invitations.iter().take(index).any(|other| is_same(&other)) {
                    faults.add(field, "is there twice");
                }
            }
        }
    }
}

/// The attendees of an event.
pub fn of_event(database: &dyn Executor, event_id: &Id) -> Result<Vec<Stored<Attendee>>> {
    Select::<Attendee>::new().equal("event_id", event_id).all(database)
}

/// The attendees of many events.
pub fn of_events<'a>(
    database: &dyn Executor,
    organization_id: &Id,
    event_ids: impl IntoIterator<Item = &'a Id>,
) -> Result<BTreeMap<Id, Vec<Stored<Attendee>>>> {
    let ids: Vec<&Id> = event_ids.into_iter().collect();
    let mut all: BTreeMap<Id, Vec<Stored<Attendee>>> = BTreeMap::new();
    let mut open: Vec<&[&Id]> = ids.chunks(EVENTS_AT_ONCE).collect();
    while let Some(ids) = open.pop() {
        let rows = Select::<Attendee>::new()
            .of_organization(organization_id)
            .one_of("event_id", ids.iter().copied())
            .limit(ROWS_AT_ONCE)
            .all(database)?;
        if i64::try_from(rows.len()).unwrap_or(i64::MAX) >= ROWS_AT_ONCE && ids.len() > 1 {
            // There may be more of them: somebody who is left out would not see their own event.
            let (one, other) = ids.split_at(ids.len() / 2);
            open.extend([one, other]);
            continue;
        }
        for row in rows {
            all.entry(row.event_id.clone()).or_default().push(row);
        }
    }
    Ok(all)
}

/// Makes the attendees of an event those that are invited. Who stays keeps their answer, unless `asks_again`.
pub fn invite(
    transaction: &Transaction,
    event_id: &Id,
    invitations: &[Invitation],
    asks_again: bool,
) -> Result<Vec<Stored<Attendee>>> {
    let before = of_event(transaction, event_id)?;
    let is_same = |invitation: &Invitation, row: &Stored<Attendee>| {
        (invitation.user_id.is_some() && invitation.user_id == row.user_id)
            || (invitation.user_id.is_none() && row.user_id.is_none() && invitation.email == row.email)
    };
    for row in before.iter().filter(|row| !invitations.iter().any(|invitation| is_same(invitation, row))) {
        entity::delete::<Attendee>(transaction, &row.id, IfMatch(None))?;
    }
    for invitation in invitations {
        match before.iter().find(|row| is_same(invitation, row)) {
            Some(row) if asks_again || row.is_required != invitation.is_required || row.email != invitation.email => {
                let mut row = row.clone();
                row.is_required = invitation.is_required;
                row.email.clone_from(&invitation.email);
                if asks_again {
                    row.response = Answer::Pending;
                }
                entity::save(transaction, &mut row)?;
            }
            Some(_) => {}
            None => {
                entity::create(transaction, new(event_id, invitation))?;
            }
        }
    }
    of_event(transaction, event_id)
}

/// Everybody who was to come is asked again, because the time has changed.
pub fn ask_again(transaction: &Transaction, event_id: &Id) -> Result<()> {
    transaction.execute(
        "UPDATE calendar_attendees SET response = 'pending', updated_at = $2, version = version + 1 \
         WHERE event_id = $1 AND response <> 'pending'",
        params![event_id, clock::now()],
    )?;
    Ok(())
}

/// The same people for another event.
pub fn copy(transaction: &Transaction, from: &Id, to: &Id) -> Result<Vec<Stored<Attendee>>> {
    for row in of_event(transaction, from)? {
        let data = Attendee { event_id: to.clone(), ..row.data };
        entity::create(transaction, data)?;
    }
    of_event(transaction, to)
}

fn new(event_id: &Id, invitation: &Invitation) -> Attendee {
    let is_own = invitation.user_id.as_ref().map(Id::as_str) == auth::principal().user_id.as_deref();
    Attendee {
        event_id: event_id.clone(),
        user_id: invitation.user_id.clone(),
        email: invitation.email.clone(),
        // Who invites themselves comes.
        response: if is_own && invitation.user_id.is_some() { Answer::Accepted } else { Answer::Pending },
        is_required: invitation.is_required,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_invited_twice() {
        let somebody = |user: Option<&str>, email: Option<&str>| Invitation {
            user_id: user.map(Id::from),
            email: email.map(Into::into),
            is_required: true,
        };
        let mut faults = Faults::default();
        let all = [
            somebody(Some("u1"), None),
            somebody(None, None),
            somebody(Some("u1"), None),
            somebody(None, Some("a@b.c")),
            somebody(None, Some("a@b.c")),
        ];
        check(&all, &mut faults);
        let fields: Vec<&str> = faults.errors().iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, ["attendees[1]", "attendees[2]", "attendees[4]"]);
    }
}
