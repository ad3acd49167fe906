//! The routes of conversations that an entity does not have by itself.

use berth_sdk::{prelude::*, router::Route, serde_json::Value};

use super::{ContextType, Conversation, Kind, open::Opening};
use crate::{people, signal};

/// Users who are brought in at once.
const MEMBERS_MAX: usize = 50;

/// The body of `POST /api/messaging/conversations`.
#[data]
pub struct NewConversation {
    /// The kind.
    r#type: Kind,
    /// What it is about.
    context_type: Option<ContextType>,
    /// Its id.
    context_id: Option<Id>,
    /// The project it belongs to; the caller must see it.
    project_id: Option<Id>,
    /// A channel's name.
    #[field(min = 1, max = 80, plain)]
    name: Option<String>,
    /// One line.
    #[field(min = 1, max = 200, plain)]
    title: Option<String>,
    /// What is to be talked about.
    #[field(max = 1_000)]
    topic: Option<String>,
    /// Only participants see it; a direct conversation always is.
    is_private: Option<bool>,
    /// Who takes part besides the caller; the other one of a direct conversation.
    #[field(default, max = 50)]
    participant_ids: Vec<Id>,
}

/// 201 with a new conversation, 200 with one that was there.
pub struct Opened(Stored<Conversation>, bool);

impl Answer for Opened {
    fn into_response(self) -> Result<Response> {
        let status = if self.1 { 201 } else { 200 };
        Ok(Response::json(status, &self.0)?.with_version(self.0.version))
    }
    fn describe(route: &mut Route) {
        <Created<Stored<Conversation>> as Answer>::describe(route);
        <Stored<Conversation> as Answer>::describe(route);
    }
}

/// `POST /api/messaging/conversations`.
pub fn create(Json(input): Json<NewConversation>) -> Result<Opened> {
    let named = input.participant_ids.clone();
    if let Some(id) = &input.project_id {
        ::people::project::require_anew(id)?;
    }
    let opening = opening(input, auth::principal().user_id.map(Id::from))?;
    people::require_members("participantIds", &named)?;
    let (row, is_new) = opening.open()?;
    if is_new {
        signal::ring(&row.id);
    }
    Ok(Opened(row, is_new))
}

fn opening(input: NewConversation, caller: Option<Id>) -> Result<Opening> {
    let mut members: Vec<Id> = Vec::new();
    for id in input.participant_ids.iter().take(MEMBERS_MAX) {
        if Some(id) != caller.as_ref() && !members.contains(id) {
            members.push(id.clone());
        }
    }
    let mut faults = Faults::default();
    if input.r#type == Kind::Direct && (members.len() != 1 || caller.is_none()) {
        faults.add("participantIds", "must name the one other user of a direct conversation");
    }
    let conversation = Conversation {
        r#type: input.r#type,
        context_type: input.context_type,
        context_id: input.context_id,
        project_id: input.project_id,
        name: input.name,
        title: input.title,
        topic: input.topic,
        is_private: input.is_private.unwrap_or(input.r#type == Kind::Direct),
        is_archived: false,
        last_message_at: None,
        last_seq: 0,
        last_change: 0,
        user_ids: Vec::new(),
        direct_key: None,
    };
    conversation.check(&mut faults);
    faults.finish()?;
    let is_direct = conversation.r#type == Kind::Direct;
    let opening = Opening { conversation, owner: caller.clone(), members };
    Ok(match (is_direct, caller, opening.members.first().cloned()) {
        (true, Some(one), Some(other)) => {
            // Neither of two owns the other's conversation.
            let members = vec![one.clone(), other.clone()];
            Opening { owner: None, members, ..opening.between(&one, &other) }
        }
        _ => opening,
    })
}

/// `GET /api/messaging/conversations`: those the caller sees; with `mine=true` those they take part in.
pub fn list(query: PageQuery) -> Result<JsonText<Page<Stored<Conversation>>>> {
    let mut select = Select::<Conversation>::new();
    match query.filter("mine").as_deref() {
        None | Some("false") => {}
        Some("true") => {
            let sql = "EXISTS (SELECT 1 FROM messaging_participants WHERE \
                       messaging_participants.conversation_id = messaging_conversations.id \
                       AND messaging_participants.user_id = ?)";
            select = select.condition(sql, [auth::user_id()?]);
        }
        Some(_) => return Err(Problem::field("mine", "must be true or false")),
    }
    select.page(&Pool, &query)
}

/// Which context is meant.
#[data]
pub struct Whereabouts {
    /// Its kind.
    r#type: ContextType,
    /// Its id.
    id: Id,
}

/// `GET /api/messaging/conversations/by-context`.
pub fn by_context(Query(wanted): Query<Whereabouts>) -> Result<Stored<Conversation>> {
    Select::<Conversation>::new()
        .equal("context_type", wanted.r#type)
        .equal("context_id", &wanted.id)
        .first(&Pool)?
        .ok_or_else(|| Problem::missing("conversation"))
}

/// What a typing signal answers.
#[data]
pub struct Typing {
    /// The conversation.
    conversation_id: Id,
    /// Until when the caller counts as typing.
    until: Timestamp,
}

/// `POST /api/messaging/conversations/{id}/typing`.
pub fn typing(Params(id): Params<Id>, _: Option<Json<Value>>) -> Result<Json<Typing>> {
    let seat = crate::access::Seat::take(&Pool, &id)?;
    seat.require_open()?;
    let until = signal::typing(&id, &auth::user_id()?);
    Ok(Json(Typing { conversation_id: id, until }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(r#type: Kind, participants: &[&str]) -> NewConversation {
        NewConversation {
            r#type,
            context_type: None,
            context_id: None,
            project_id: None,
            name: Some("n".into()),
            title: None,
            topic: None,
            is_private: None,
            participant_ids: participants.iter().map(|id| Id::from(*id)).collect(),
        }
    }

    #[test]
    fn a_direct_conversation_has_exactly_two() {
        for wrong in [&[][..], &["u1"], &["u2", "u3"]] {
            let problem = opening(input(Kind::Direct, wrong), Some("u1".into())).unwrap_err();
            assert_eq!(problem.errors.first().unwrap().field, "participantIds");
        }
        for right in [&["u2"][..], &["u1", "u2"], &["u2", "u2"]] {
            let opening = opening(input(Kind::Direct, right), Some("u1".into())).unwrap();
            assert_eq!(opening.conversation.direct_key.as_deref(), Some("u1:u2"));
            assert!(opening.conversation.is_private && opening.owner.is_none() && opening.members.len() == 2);
        }
    }

    #[test]
    fn who_makes_a_channel_looks_after_it() {
        let opening = opening(input(Kind::Channel, &["u1", "u2", "u2"]), Some("u1".into())).unwrap();
        assert_eq!((opening.owner, opening.members), (Some("u1".into()), vec!["u2".into()]));
    }
}
