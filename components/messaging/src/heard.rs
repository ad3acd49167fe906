//! What happens elsewhere opens conversations and is said in them: incidents, releases, reviews, steps that wait, agents
//! that are done.

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use crate::{
    conversation::{ContextType, Conversation, open::Opening},
    message::{
        CONTENT_CHARACTERS_MAX,
        kind::{APPROVERS_MAX, MessageType, SenderType},
        mention::MENTIONS_MAX,
        write::{self, Draft, SENT_BEFORE},
    },
    participant::Participant,
    people, signal,
};

/// Characters of an agent's output that are repeated.
const OUTPUT_CHARACTERS_MAX: usize = 4_000;

/// What is to be said about what happened.
#[derive(Clone, Debug)]
struct Word {
    context_type: ContextType,
    context_id: Id,
    title: String,
    project_id: Option<Id>,
    /// Instead of the conversation about the context.
    conversation_id: Option<Id>,
    owner: Option<Id>,
    /// Who takes part from the beginning; and of them who is asked to approve.
    members: Vec<Id>,
    approvers: Vec<Id>,
    content: String,
    /// What is said instead in the conversation about the context, which the whole organization sees.
    brief: Option<String>,
    message_type: MessageType,
    sender: (SenderType, Id),
    data: Map<String, Value>,
}

/// Handles the events that the service binds.
pub fn hear(envelope: &Envelope) -> Result<()> {
    let data: Map<String, Value> = envelope.data()?;
    let word = match envelope.message_type.as_str() {
        "incident.created" => incident(&data),
        "release.created" => release(&data),
        "review.requested" => review(&data),
        "execution.step.waiting" => step(&data, envelope.user_id.as_deref()),
        "ai.agent.completed" => agent(&data),
        _ => None,
    };
    match word {
        Some(word) => say(word, &envelope.id, envelope.user_id.as_deref()),
        None => Ok(()),
    }
}

fn say(mut word: Word, event_id: &str, caused_by: Option<&str>) -> Result<()> {
    let known = people::members(&[word.members.clone(), word.approvers.clone()].concat())?;
    word.members.retain(|id| known.contains(id));
    word.approvers.retain(|id| known.contains(id));
    if word.message_type == MessageType::ApprovalRequest {
        word.data.insert("approvers".into(), json!(word.approvers));
    }
    let named = match &word.conversation_id {
        Some(id) => named(id, caused_by)?,
        None => None,
    };
    let conversation = match named {
        Some(conversation) => conversation,
        None => {
            word.content = word.brief.take().unwrap_or(word.content);
            word.owner = word.owner.filter(|id| known.contains(id));
            about(&word, event_id, caused_by)?
        }
    };
    let id = conversation.id.clone();
    let result = database::transaction(|transaction| {
        if !transaction.once(event_id)? {
            return Ok(());
        }
        reopen(transaction, &id, word.project_id.as_ref())?;
        for user_id in word.members.iter().chain(&word.approvers) {
            Participant::join(transaction, &id, user_id, conversation.last_seq)?;
        }
        write::write(transaction, draft(word, &id, event_id)).map(|_| ())
    });
    match result {
        Err(problem) if problem.code == SENT_BEFORE => Ok(()),
        result => {
            signal::ring(&id);
            result
        }
    }
}

/// The conversation that an event names, where whoever caused the event could speak in it themselves.
fn named(id: &Id, caused_by: Option<&str>) -> Result<Option<Stored<Conversation>>> {
    let Some(conversation) = entity::find::<Conversation>(&Pool, id)? else { return Ok(None) };
    let is_open = || !conversation.is_private && people::is_everybodys(conversation.project_id.as_ref());
    Ok((takes_part(id, caused_by)? || is_open()).then_some(conversation))
}

/// The conversation about what happened; where that is for others, one about this event alone.
fn about(word: &Word, event_id: &str, caused_by: Option<&str>) -> Result<Stored<Conversation>> {
    let open = |context_id: Id| {
        let opening = Opening::about(word.context_type, context_id, &word.title, word.project_id.clone());
        Opening { owner: word.owner.clone(), members: word.members.clone(), ..opening }.open()
    };
    let (conversation, is_new) = open(word.context_id.clone())?;
    if is_new || is_for(&conversation, word, caused_by)? {
        return Ok(conversation);
    }
    Ok(open(event_id.into())?.0)
}

/// Whether those whom an event is for may be let into a conversation. What it is about is no proof: code is named freely, in every
/// project anew, and a private conversation may be about anything.
fn is_for(conversation: &Stored<Conversation>, word: &Word, caused_by: Option<&str>) -> Result<bool> {
    if word.project_id.is_none() && word.members.is_empty() && word.approvers.is_empty() {
        return Ok(true);
    }
    if conversation.project_id.is_some() && conversation.project_id != word.project_id {
        return Ok(false);
    }
    Ok(!conversation.is_private || takes_part(&conversation.id, caused_by)?)
}

fn takes_part(id: &Id, user_id: Option<&str>) -> Result<bool> {
    match user_id {
        Some(user_id) => Ok(Participant::find(&Pool, id, user_id)?.is_some()),
        None => Ok(false),
    }
}

/// What happens now is talked about again, where the project says who sees it: whoever tells of it knows which one it is.
fn reopen(transaction: &Transaction, id: &Id, project_id: Option<&Id>) -> Result<()> {
    transaction.execute(
        "UPDATE messaging_conversations SET is_archived = FALSE, project_id = COALESCE($4, project_id), updated_at = $3, \
         version = version + 1 WHERE id = $1 AND organization_id = $2 \
         AND (is_archived = TRUE OR COALESCE(project_id, '') <> COALESCE($4, project_id, ''))",
        params![id, auth::organization_id()?, clock::now(), project_id.cloned()],
    )?;
    Ok(())
}

fn draft(word: Word, conversation_id: &Id, event_id: &str) -> Draft {
    Draft {
        conversation_id: conversation_id.clone(),
        thread_id: None,
        content: word.content.chars().take(CONTENT_CHARACTERS_MAX).collect(),
        message_type: word.message_type,
        sender_type: word.sender.0,
        sender_id: word.sender.1,
        client_message_id: Some(format!("event-{event_id}").chars().take(100).collect()),
        structured_data: Some(word.data),
        mentions: Vec::new(),
        metadata: Map::new(),
    }
}

fn text<'a>(data: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    data.get(name).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty())
}

fn id(data: &Map<String, Value>, names: &[&str]) -> Option<Id> {
    names.iter().find_map(|name| Id::parse(text(data, name)?).ok())
}

/// Keeps what is named and there.
fn kept(data: &Map<String, Value>, names: &[&str]) -> Map<String, Value> {
    let there = names.iter().filter_map(|name| Some((name.to_string(), data.get(*name)?.clone())));
    there.filter(|(_, value)| !value.is_null()).collect()
}

fn incident(data: &Map<String, Value>) -> Option<Word> {
    let title = text(data, "title").unwrap_or("Incident");
    let severity = text(data, "severity").unwrap_or("medium");
    let mut about = kept(data, &["incidentId", "severity", "status", "declaredAt"]);
    if !matches!(severity, "low" | "medium" | "high" | "critical") {
        about.remove("severity");
    }
    let described = text(data, "description").map(|text| format!("\n\n{text}")).unwrap_or_default();
    let owner = id(data, &["declaredBy"]);
    Some(Word {
        context_type: ContextType::Incident,
        context_id: id(data, &["incidentId", "id"])?,
        title: title.to_string(),
        project_id: id(data, &["projectId"]),
        conversation_id: None,
        members: owner.iter().cloned().collect(),
        owner,
        approvers: Vec::new(),
        content: format!("Incident ({severity}): {title}{described}"),
        brief: None,
        message_type: MessageType::IncidentReport,
        sender: (SenderType::System, "planning".into()),
        data: about,
    })
}

fn release(data: &Map<String, Value>) -> Option<Word> {
    let name = text(data, "name").unwrap_or("Release");
    let version = text(data, "version").map(|version| format!(" {version}")).unwrap_or_default();
    let owner = id(data, &["createdBy"]);
    Some(Word {
        context_type: ContextType::Artifact,
        context_id: id(data, &["releaseId", "id"])?,
        title: format!("{name}{version}"),
        project_id: id(data, &["projectId"]),
        conversation_id: None,
        members: owner.iter().cloned().collect(),
        owner,
        approvers: Vec::new(),
        content: format!("The release {name}{version} is planned."),
        brief: None,
        message_type: MessageType::Discussion,
        sender: (SenderType::System, "planning".into()),
        data: kept(data, &["releaseId", "version", "status", "services", "plannedStart", "plannedEnd"]),
    })
}

/// The review itself is decided in planning; here it is talked about.
fn review(data: &Map<String, Value>) -> Option<Word> {
    let title = text(data, "title").unwrap_or("Review");
    let context_type = match text(data, "reviewableType") {
        Some("plan") => ContextType::Plan,
        _ => ContextType::Artifact,
    };
    let owner = id(data, &["requestedBy"]);
    Some(Word {
        context_type,
        context_id: id(data, &["reviewableId", "reviewId", "id"])?,
        title: title.to_string(),
        project_id: id(data, &["projectId"]),
        conversation_id: None,
        members: owner.iter().cloned().chain(id(data, &["assignedTo"])).collect(),
        owner,
        approvers: Vec::new(),
        content: format!("A review is requested: {title}"),
        brief: None,
        message_type: MessageType::Discussion,
        sender: (SenderType::System, "planning".into()),
        data: kept(data, &["reviewId", "reviewableType", "reviewableId", "assignedTo", "level", "priority", "dueDate"]),
    })
}

/// A step that waits for a person; one that waits for a worker is nobody's business here.
fn step(data: &Map<String, Value>, started_by: Option<&str>) -> Option<Word> {
    if text(data, "waitsFor") != Some("person") {
        return None;
    }
    let title = text(data, "title").unwrap_or("Step");
    let approvers = data.get("approvers").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let approvers: Vec<Id> = approvers.filter_map(|id| Id::parse(id).ok()).take(APPROVERS_MAX).collect();
    let owner = started_by.and_then(|id| Id::parse(id).ok());
    Some(Word {
        context_type: ContextType::Step,
        context_id: id(data, &["stepId"])?,
        title: title.to_string(),
        project_id: id(data, &["projectId"]),
        conversation_id: None,
        members: owner.iter().cloned().collect(),
        owner,
        approvers,
        content: text(data, "message").map_or_else(|| format!("The step waits: {title}"), ToString::to_string),
        brief: None,
        message_type: MessageType::ApprovalRequest,
        sender: (SenderType::System, "execution-service".into()),
        data: kept(data, &["executionId", "planId", "stepId", "title", "attempt", "fields", "dryRun"]),
    })
}

fn agent(data: &Map<String, Value>) -> Option<Word> {
    let agent_id = id(data, &["agentId"])?;
    let context = data.get("context").and_then(Value::as_object).cloned().unwrap_or_default();
    let output = match data.get("output") {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(output)) => format!(":\n\n{output}"),
        Some(output) => format!(":\n\n{output}"),
    };
    let output: String = output.chars().take(OUTPUT_CHARACTERS_MAX).collect();
    let mut about = kept(data, &["executionId", "agentId", "tokensUsed", "costMicro"]);
    about.insert("status".into(), "completed".into());
    Some(Word {
        context_type: ContextType::Agent,
        context_id: agent_id.clone(),
        title: text(data, "agentName").unwrap_or("Agent").to_string(),
        // It works for many, and nothing of any one of them is said where all of it comes together.
        project_id: None,
        conversation_id: id(&context, &["conversationId"]),
        owner: None,
        members: Vec::new(),
        approvers: Vec::new(),
        content: format!("The agent is done{output}"),
        // Only whoever sees the run sees what came of it.
        brief: Some("The agent is done.".into()),
        message_type: MessageType::AgentStatus,
        sender: (SenderType::Agent, agent_id),
        data: about,
    })
}

// Those who are named by an event are as few as those whom a message may name.
const _: () = assert!(APPROVERS_MAX <= MENTIONS_MAX);

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn an_incident_opens_a_conversation_with_a_report() {
        let word =
            incident(&object(json!({"incidentId": "i1", "title": "Flood", "severity": "high", "declaredBy": "u1"})));
        let word = word.unwrap();
        assert_eq!((word.context_type, word.context_id.as_str()), (ContextType::Incident, "i1"));
        assert_eq!((word.message_type, word.owner), (MessageType::IncidentReport, Some("u1".into())));
        assert_eq!(word.data.get("severity").unwrap(), "high");
        assert!(incident(&object(json!({"title": "no id"}))).is_none());
    }

    #[test]
    fn only_a_step_that_waits_for_a_person_asks() {
        let waiting = json!({"executionId": "x1", "stepId": "s1", "waitsFor": "person", "approvers": ["u1", 7, "u 2"], "message": "Go?"});
        let word = step(&object(waiting), Some("u9")).unwrap();
        assert_eq!((word.content.as_str(), word.approvers), ("Go?", vec!["u1".into()]));
        assert!(step(&object(json!({"stepId": "s1", "waitsFor": "worker"})), None).is_none());
    }

    #[test]
    fn an_agent_answers_where_it_was_asked() {
        let done =
            json!({"agentId": "a1", "executionId": "x1", "output": {"n": 1}, "context": {"conversationId": "c1"}});
        let word = agent(&object(done)).unwrap();
        assert_eq!(word.conversation_id, Some("c1".into()));
        assert_eq!(word.content, "The agent is done:\n\n{\"n\":1}");
        assert_eq!(word.brief.as_deref(), Some("The agent is done."), "where everybody listens");
    }
}
