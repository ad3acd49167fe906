//! Conversations: about something (context), open to everybody (channel), or between two (direct).

pub mod api;
pub mod open;
pub mod purge;

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use crate::{access, participant::Participant, signal};

/// What kind of conversation it is.
#[choice]
pub enum Kind {
    /// About one thing.
    Context,
    /// By its name.
    Channel,
    /// Between two.
    Direct,
}

/// What a conversation can be about.
#[choice]
pub enum ContextType {
    /// A plan.
    Plan,
    /// A step of a plan.
    Step,
    /// Whatever was made: a task, a release, a document.
    Artifact,
    /// An agent.
    Agent,
    /// A decision.
    Decision,
    /// An incident.
    Incident,
}

/// A conversation.
#[entity(table = "messaging_conversations", created = "messaging.conversation.created", sort = "-lastMessageAt")]
pub struct Conversation {
    /// Its kind.
    #[field(immutable)]
    pub r#type: Kind,
    /// What it is about; with `contextId` once in the organization.
    #[field(immutable)]
    pub context_type: Option<ContextType>,
    /// Its id.
    #[field(immutable)]
    pub context_id: Option<Id>,
    /// The project it belongs to: who does not see that and takes no part does not see the conversation.
    pub project_id: Option<Id>,
    /// A channel's name.
    #[field(min = 1, max = 80, plain)]
    pub name: Option<String>,
    /// One line.
    #[field(min = 1, max = 200, plain)]
    pub title: Option<String>,
    /// What is to be talked about.
    #[field(max = 1_000)]
    pub topic: Option<String>,
    /// Only participants see it.
    #[field(default)]
    pub is_private: bool,
    /// Nothing is said in it any more.
    #[field(default)]
    pub is_archived: bool,
    /// When somebody last said something.
    #[field(readonly)]
    pub last_message_at: Option<Timestamp>,
    /// The number of the newest message.
    #[field(readonly, default)]
    pub last_seq: i64,
    /// The number of the newest change to a message.
    #[field(readonly, default)]
    pub last_change: i64,
    /// The two of a direct conversation.
    #[field(readonly, default)]
    pub user_ids: Vec<Id>,
    /// The same, as one text.
    #[field(readonly, hidden)]
    pub direct_key: Option<String>,
}

impl Rules for Conversation {
    fn scope() -> Option<Condition> {
        access::visible()
    }

    fn check(&self, faults: &mut Faults) {
        let is_about = (self.context_type.is_some(), self.context_id.is_some());
        match (self.r#type, is_about) {
            (Kind::Context, (has_type, has_id)) => {
                if !has_type {
                    faults.add("contextType", "is required for a conversation about something");
                }
                if !has_id {
                    faults.add("contextId", "is required for a conversation about something");
                }
            }
            (_, (false, false)) => {}
            _ => faults.add("contextType", "is only for a conversation of type context"),
        }
        if self.r#type == Kind::Channel && self.name.is_none() {
            faults.add("name", "is required for a channel");
        }
        if self.r#type == Kind::Direct && !self.is_private {
            faults.add("isPrivate", "a direct conversation is private");
        }
    }

    /// Which projects the caller sees is asked here, and whether the one that they name is among them.
    fn before_transaction(fields: &Map<String, Value>) -> Result<()> {
        ::people::project::seen();
        ::people::scope::require_named(fields.get("projectId").and_then(Value::as_str))
    }

    fn before_update(&mut self, old: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        let (has_owner, is_owner) = Participant::ownership(transaction, &old.id)?;
        let is_for_others = self.is_private != old.is_private || self.project_id != old.project_id;
        may_change(has_owner, is_owner || access::is_admin(), is_for_others)
    }

    fn after_update(old: &Stored<Self>, new: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        if new.is_private && !old.is_private {
            // Whoever closes it stays inside.
            if let Some(user_id) = auth::principal().user_id {
                Participant::join(transaction, &new.id, &user_id.into(), new.last_seq)?;
            }
        }
        if new.is_archived && !old.is_archived {
            let mut data = Self::event_data(new);
            if let Some(data) = data.as_object_mut() {
                data.insert("messageCount".into(), new.last_seq.into());
                data.insert("resolvedBy".into(), json!(auth::principal().user_id));
            }
            transaction.publish("messaging.conversation.resolved", &data)?;
        }
        Ok(())
    }

    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        purge::begin(transaction, &row.id)
    }

    fn committed(row: &Stored<Self>) {
        signal::ring(&row.id);
    }

    fn event_data(row: &Stored<Self>) -> Value {
        // Events are everybody's: what a private conversation is called is not in them.
        let open = |text: &Option<String>| text.clone().filter(|_| !row.is_private);
        json!({
            "id": row.id, "conversationId": row.id, "type": row.r#type, "contextType": row.context_type,
            "contextId": row.context_id, "projectId": row.project_id, "name": open(&row.name),
            "title": open(&row.title), "isPrivate": row.is_private, "createdBy": row.created_by,
        })
    }
}

/// Whether somebody may change a conversation; `decides` is who looks after it or after the organization. Everybody may
/// archive a conversation of two, and one that nobody owns is everybody's: therefore nobody says who else sees it.
fn may_change(has_owner: bool, decides: bool, is_for_others: bool) -> Result<()> {
    if decides || !has_owner && !is_for_others {
        return Ok(());
    }
    Err(Problem::forbidden("Only who looks after the conversation changes it."))
}

/// Two users as one text, whoever is named first.
pub fn direct_key(one: &Id, other: &Id) -> String {
    if one < other { format!("{one}:{other}") } else { format!("{other}:{one}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(r#type: Kind) -> Conversation {
        Conversation {
            r#type,
            context_type: None,
            context_id: None,
            project_id: None,
            name: None,
            title: None,
            topic: None,
            is_private: r#type == Kind::Direct,
            is_archived: false,
            last_message_at: None,
            last_seq: 0,
            last_change: 0,
            user_ids: Vec::new(),
            direct_key: None,
        }
    }

    fn faulty(conversation: &Conversation) -> Vec<String> {
        let mut faults = Faults::default();
        conversation.check(&mut faults);
        faults.errors().iter().map(|error| error.field.clone()).collect()
    }

    #[test]
    fn each_kind_needs_what_makes_it_findable() {
        assert_eq!(faulty(&draft(Kind::Context)), ["contextType", "contextId"]);
        assert_eq!(faulty(&draft(Kind::Channel)), ["name"]);
        assert!(faulty(&draft(Kind::Direct)).is_empty());
        let about = Conversation { context_id: Some("x".into()), name: Some("n".into()), ..draft(Kind::Channel) };
        assert_eq!(faulty(&about), ["contextType"]);
    }

    #[test]
    fn what_nobody_owns_is_changed_by_everybody_and_closed_by_nobody() {
        assert!(may_change(false, false, false).is_ok());
        assert_eq!(may_change(false, false, true).unwrap_err().status, 403);
        assert_eq!(may_change(true, false, false).unwrap_err().status, 403);
        assert!(may_change(true, true, true).is_ok() && may_change(false, true, true).is_ok());
    }

    #[test]
    fn events_do_not_say_what_a_private_conversation_is_called() {
        let told = |is_private: bool| {
            let (name, title) = (Some("takeover".to_string()), Some("The takeover".to_string()));
            let now = clock::now();
            Conversation::event_data(&Stored {
                id: "c1".into(),
                organization_id: Some("o1".into()),
                created_by: None,
                created_at: now,
                updated_at: now,
                version: 1,
                data: Conversation { name, title, is_private, ..draft(Kind::Channel) },
            })
            .to_string()
        };
        assert!(told(false).contains("takeover"));
        assert!(!told(true).contains("takeover"));
    }

    #[test]
    fn two_have_one_key_whoever_begins() {
        assert_eq!(direct_key(&"b".into(), &"a".into()), direct_key(&"a".into(), &"b".into()));
    }
}
