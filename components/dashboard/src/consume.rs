//! What other services tell: that something has changed, after which what is cached of it is old, and that somebody is gone.

use std::time::Duration;

use berth_sdk::{cache, prelude::*};

use crate::dashboard::default;

/// How long it is known when something of a topic happened last: longer than any data of a widget is cached.
const KNOWN_FOR: Duration = Duration::from_secs(3_600);

/// What happens in an organization, as far as widgets show it.
#[choice]
pub(crate) enum Topic {
    Task,
    Execution,
    Usage,
    Incident,
    Planning,
    Notification,
}

impl Topic {
    /// The events that belong to it.
    pub fn pattern(self) -> String {
        format!("{self}.#")
    }

    fn key(self) -> String {
        format!("last:{self}")
    }

    fn of(message_type: &str) -> Option<Self> {
        Self::parse(message_type.split('.').next().unwrap_or_default())
    }
}

/// Handles an event: what was cached under the last one of its topic is found no more.
pub(crate) fn changed(envelope: &Envelope) -> Result<()> {
    if let Some(topic) = Topic::of(&envelope.message_type)
        && envelope.organization_id.is_some()
    {
        cache::set_ttl(&topic.key(), &envelope.id, KNOWN_FOR);
    }
    Ok(())
}

/// The last event of each topic, as far as it is known; part of the key under which data is cached.
pub(crate) fn last(topics: &[Topic]) -> Vec<Option<String>> {
    let keys: Vec<String> = topics.iter().map(|topic| topic.key()).collect();
    cache::get_many(&keys.iter().map(String::as_str).collect::<Vec<_>>())
}

/// An account is gone, everywhere: with it go its personal dashboards and what dashboards were to it. Those of teams,
/// projects and organizations stay, and who manages them looks after them.
pub(crate) fn account_deleted(envelope: &Envelope) -> Result<()> {
    #[data]
    struct Gone {
        user_id: Id,
    }
    let gone: Gone = envelope.data()?;
    database::transaction(|transaction| {
        if !transaction.once(&envelope.id)? {
            return Ok(());
        }
        let own = "SELECT id FROM dashboard_dashboards WHERE owner_id = $1 AND scope = 'PERSONAL'";
        for row in transaction.query(own, params![&gone.user_id])? {
            let id: Id = row.get::<String>("id")?.into();
            default::hold(transaction, &id)?;
            default::release(transaction, &id)?;
        }
        for table in ["dashboard_widgets", "dashboard_shares", "dashboard_favorites"] {
            transaction
                .execute(&format!("DELETE FROM {table} WHERE dashboard_id IN ({own})"), params![&gone.user_id])?;
        }
        for statement in [
            "DELETE FROM dashboard_dashboards WHERE owner_id = $1 AND scope = 'PERSONAL'",
            "DELETE FROM dashboard_shares WHERE kind = 'user' AND target_id = $1",
            "DELETE FROM dashboard_favorites WHERE user_id = $1",
            "DELETE FROM dashboard_defaults WHERE user_id = $1",
        ] {
            transaction.execute(statement, params![&gone.user_id])?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_makes_what_was_cached_under_the_one_before_old() {
        assert_eq!(last(&[Topic::Task, Topic::Usage]), [None, None]);
        changed(&Envelope::for_test("task.status_changed", "{}")).unwrap();
        let first = last(&[Topic::Task, Topic::Usage]);
        assert!(first[0].is_some() && first[1].is_none());
        changed(&Envelope::for_test("task.created", "{}")).unwrap();
        assert_ne!(last(&[Topic::Task])[0], first[0]);
        changed(&Envelope::for_test("taskforce.created", "{}")).unwrap();
        assert_eq!(Topic::of("usage.quota.exceeded"), Some(Topic::Usage));
        assert_eq!(Topic::of("review.requested"), None);
    }
}
