//! Messaging: conversations about things, in channels and between two, with answers, decisions and escalations.

pub mod access;
pub mod approval;
pub mod conversation;
pub mod decision;
pub mod escalation;
pub mod heard;
pub mod message;
pub mod notice;
pub mod participant;
pub mod people;
pub mod read;
pub mod search;
pub mod signal;
pub mod stream;
pub mod summary;

use berth_sdk::{migrations, prelude::*};

use conversation::{Conversation, api as conversations, purge};
use message::{change, list, post, reaction};
use participant::api as participants;

const CONVERSATIONS: &str = "/api/messaging/conversations";
const MESSAGES: &str = "/api/messaging/messages";
/// What somebody needs who only reads.
const READ: &str = "messaging.messaging.read";
/// What somebody needs who takes part.
const UPDATE: &str = "messaging.messaging.update";
/// What is heard of other services.
const HEARD: [&str; 5] =
    ["incident.created", "release.created", "review.requested", "execution.step.waiting", "ai.agent.completed"];

/// The whole service.
pub fn service() -> Service {
    let service = Service::new("messaging", env!("CARGO_PKG_VERSION"))
        .migrations(migrations::embed!["../../../migrations/messaging/0001_messaging.sql"])
        .routes(conversation_routes())
        .routes(participant_routes())
        .routes(message_routes())
        .routes(overviews())
        .work(notice::NOTIFY, notice::deliver)
        .work(purge::PURGE, purge::purge)
        .work(escalation::timer::ESCALATE, escalation::timer::run)
        .timer("escalations", "10m", escalation::timer::tick);
    HEARD.into_iter().fold(service, |service, kind| service.on(kind, heard::hear))
}

fn conversation_routes() -> Router {
    let row = format!("{CONVERSATIONS}/{{id}}");
    Router::new()
        .get(CONVERSATIONS, conversations::list)
        .summary("List conversations; type=channel for channels, mine=true for the caller's.")
        .post(CONVERSATIONS, conversations::create)
        .summary("Open a conversation, or find the one about the same context or between the same two.")
        .row::<Conversation>(CONVERSATIONS)
        .get(&format!("{CONVERSATIONS}/by-context"), conversations::by_context)
        .summary("Find the conversation about something.")
        .get(&format!("{row}/messages"), list::list)
        .summary("Read messages by their numbers.")
        .post(&format!("{row}/messages"), post::post)
        .summary("Say something.")
        .post(&format!("{row}/read"), read::mark)
        .permission(READ)
        .summary("Note how far the caller has read.")
        .get(&format!("{row}/stream"), stream::stream)
        .summary("Follow a conversation.")
        .post(&format!("{row}/summarize"), summary::summarize)
        .summary("Sum up what was said.")
        .post(&format!("{row}/typing"), conversations::typing)
        .summary("Say that the caller is typing.")
}

fn participant_routes() -> Router {
    let path = format!("{CONVERSATIONS}/{{id}}/participants");
    Router::new()
        .get(&path, participants::list)
        .summary("List participants and who of them is there.")
        .post(&path, participants::add)
        .summary("Add participants.")
        .put(&path, participants::change)
        .permission(READ)
        .summary("Mute a conversation, or change somebody's role.")
        .delete(&path, participants::remove)
        .permission(READ)
        .summary("Leave, or remove a participant.")
}

fn message_routes() -> Router {
    let row = format!("{MESSAGES}/{{id}}");
    Router::new()
        .get(&row, list::one)
        .summary("Read a message.")
        .put(&row, change::edit)
        .summary("Edit a message, or move it on.")
        .delete(&row, change::remove)
        .permission(UPDATE)
        .summary("Delete a message; its number stays.")
        .get(&format!("{row}/thread"), list::thread)
        .summary("Read the replies.")
        .post(&format!("{row}/reactions"), reaction::toggle)
        .summary("Add a reaction, or take it back.")
        .post(&format!("{row}/approve"), approval::approve)
        .summary("Approve.")
        .post(&format!("{row}/reject"), approval::reject)
        .summary("Reject.")
        .post(&format!("{row}/acknowledge"), approval::acknowledge)
        .summary("Take note of it.")
        .post(&format!("{row}/escalate"), escalation::escalate)
        .summary("Tell others that nobody answers.")
}

fn overviews() -> Router {
    Router::new()
        .get("/api/messaging/search", search::search)
        .summary("Search messages.")
        .get("/api/messaging/unread", read::unread)
        .summary("Count what is unread.")
        .get("/api/messaging/approvals", approval::list)
        .summary("List what waits for the caller's answer.")
        .get("/api/messaging/decisions", decision::list)
        .summary("List decisions.")
        .get("/api/messaging/escalations", escalation::list)
        .summary("List escalations.")
}

berth_sdk::plugin!(service());

#[cfg(test)]
mod tests {
    use super::service;

    #[test]
    fn the_routes_do_not_collide() {
        let service = service();
        assert_eq!(service.router().unwrap().routes().len(), 33);
        assert_eq!(service.bindings().len(), 5);
    }

    #[test]
    fn nobody_needs_the_right_to_delete_for_the_own_words() {
        let service = service();
        let routes = service.router().unwrap().routes();
        let permission = |method: &str, path: &str| {
            routes
                .iter()
                .find(|route| route.method == method && route.path == path)
                .and_then(|route| route.permission())
        };
        let of = |action: &str| Some(format!("messaging.messaging.{action}"));
        assert_eq!(permission("DELETE", "/api/messaging/messages/{id}"), of("update"));
        assert_eq!(permission("DELETE", "/api/messaging/conversations/{id}"), of("delete"));
        assert_eq!(permission("POST", "/api/messaging/conversations/{id}/messages"), of("update"));
        assert_eq!(permission("POST", "/api/messaging/conversations"), of("create"));
        assert_eq!(permission("POST", "/api/messaging/conversations/{id}/read"), of("read"));
    }
}
