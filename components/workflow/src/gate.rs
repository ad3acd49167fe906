//! Human gates: a step that waits until people agree. Who may decide, whose word counts and what happens when nobody does is
//! the step's to say.

use std::time::Duration;

use berth_sdk::{
    notice::{Criticality, Notice},
    prelude::*,
    serde_json::Value,
};

use crate::{
    advance,
    audience::Audience,
    definition::{HumanGate, OnTimeout, Policy, Step},
    failure::Failure,
    machine::{End, StepStatus},
    run::{Cause, Run},
    run_row::{self, RunRow},
    sight,
    step_run::StepRun,
    template,
    workflow::Workflow,
};

/// The work message that tells approvers.
pub const NOTIFY: &str = "workflow.notify";
/// Who may decide where nobody is named.
const DECIDE: &str = "workflows.workflow.update";
/// The longest comment, in characters.
const COMMENT_MAX: usize = 2_000;

/// How far an approval is.
#[choice]
pub enum ApprovalStatus {
    /// It waits.
    Pending,
    /// They agree.
    Approved,
    /// They do not.
    Rejected,
    /// Nobody decided in time, or the run ended before.
    Expired,
}

/// One word of one person.
#[data]
pub struct Decision {
    /// Who.
    pub user_id: Id,
    /// Yes or no.
    pub is_approved: bool,
    /// Why.
    pub comment: Option<String>,
    /// When.
    pub at: Timestamp,
}

/// What a step waits for people to decide.
#[entity(table = "workflow_approvals", name = "approval", sort = "createdAt")]
pub struct Approval {
    /// The run.
    pub run_id: Id,
    /// The workflow.
    pub workflow_id: Id,
    /// The step.
    pub step_id: Id,
    /// The step's attempt.
    #[field(hidden)]
    pub attempt: i64,
    /// What is asked.
    #[field(raw)]
    pub message: Option<String>,
    /// Who may decide; empty: whoever may update workflows.
    pub required_approvers: Vec<Id>,
    /// The same as a text.
    #[field(hidden, raw)]
    pub approver_words: String,
    /// Whose word counts.
    pub policy: Policy,
    /// What was said.
    pub decisions: Vec<Decision>,
    /// Until when it waits.
    pub deadline: Option<Timestamp>,
    /// What happens then.
    pub on_timeout: OnTimeout,
    /// Who is asked then.
    pub escalate_to: Vec<Id>,
    /// Whether they were.
    pub is_escalated: bool,
    /// How far it is.
    pub status: ApprovalStatus,
}

impl Rules for Approval {}

fn words(approvers: &[Id]) -> String {
    approvers.iter().fold(String::from(" "), |words, id| format!("{words}{id} "))
}

/// What the decisions come to.
///
/// ```
/// use berth_sdk::{Id, clock::Timestamp};
/// use workflow::{definition::Policy, gate::{ApprovalStatus, Decision, verdict}};
/// let by = |user: &str, is_approved| Decision { user_id: user.into(), is_approved, comment: None, at: Timestamp::from_millis(0) };
/// let both = [Id::from("a"), Id::from("b")];
/// assert_eq!(verdict(Policy::All, &both, &[by("a", true)]), ApprovalStatus::Pending);
/// assert_eq!(verdict(Policy::All, &both, &[by("a", true), by("b", true)]), ApprovalStatus::Approved);
/// assert_eq!(verdict(Policy::All, &both, &[by("a", true), by("b", false)]), ApprovalStatus::Rejected);
/// assert_eq!(verdict(Policy::Any, &both, &[by("b", true)]), ApprovalStatus::Approved);
/// ```
pub fn verdict(policy: Policy, approvers: &[Id], decisions: &[Decision]) -> ApprovalStatus {
    if decisions.iter().any(|decision| !decision.is_approved) {
        return ApprovalStatus::Rejected;
    }
    let has_said = |id: &Id| decisions.iter().any(|decision| decision.user_id == *id);
    let is_enough = match policy {
        Policy::Any => !decisions.is_empty(),
        Policy::All => !decisions.is_empty() && approvers.iter().all(has_said),
    };
    if is_enough { ApprovalStatus::Approved } else { ApprovalStatus::Pending }
}

/// Begins to wait.
pub fn open(run: &mut Run<'_>, row: &mut Stored<StepRun>, step: &Step, scope: &Value) -> Result<()> {
    let Some(gate) = step.human_gate.clone() else {
        return advance::fail(run, row, Failure::lasting("INVALID_INPUT", "The step does not say who decides."));
    };
    let asked = gate.message.clone().unwrap_or_else(|| format!("{} waits for approval.", step.title()));
    let message = match template::fill(&Value::String(asked), scope) {
        Ok(Value::String(text)) => text,
        Ok(other) => other.to_string(),
        Err(failure) => return advance::fail(run, row, failure),
    };
    let message: String = message.chars().take(10_000).collect();
    row.input = Some(json!({ "message": message }));
    advance::started(run, row);
    let deadline = gate.timeout.map(|timeout| run.now.plus(timeout.duration()));
    let approval = entity::create(run.transaction, of(run, row, &gate, &message, deadline))?;
    advance::wait(run, row, deadline, json!({ "waitsFor": "person", "approvalId": approval.id }))?;
    if let Some(timeout) = gate.timeout {
        run.send(&row.key, row.attempt, Some(Cause::Deadline), timeout.duration())?;
    }
    announce(run, &approval)
}

fn of(run: &Run<'_>, row: &StepRun, gate: &HumanGate, message: &str, deadline: Option<Timestamp>) -> Approval {
    Approval {
        run_id: run.row.id.clone(),
        workflow_id: run.row.workflow_id.clone(),
        step_id: row.step_id.clone(),
        attempt: row.attempt,
        message: Some(message.to_string()),
        required_approvers: gate.required_approvers.clone(),
        approver_words: words(&gate.required_approvers),
        policy: gate.policy,
        decisions: Vec::new(),
        deadline,
        on_timeout: gate.on_timeout,
        escalate_to: gate.escalate_to.clone(),
        is_escalated: false,
        status: ApprovalStatus::Pending,
    }
}

/// Says that somebody is asked, and lets them be told.
fn announce(run: &mut Run<'_>, approval: &Stored<Approval>) -> Result<()> {
    let facts = json!({
        "approvalId": approval.id, "message": approval.message, "requiredApprovers": approval.required_approvers,
        "policy": approval.policy, "deadline": approval.deadline, "isEscalated": approval.is_escalated,
    });
    run.record("workflow.approval.requested", Some(&approval.step_id), facts);
    let work = json!({ "approvalId": approval.id, "isEscalated": approval.is_escalated });
    run.transaction.enqueue(NOTIFY, &work, Duration::ZERO)?;
    Ok(())
}

/// Who is told: the approvers; where nobody is named, who made the workflow, or for whom a run acts that is not everybody's.
fn audience(approvers: &[Id], author: Option<&str>) -> Vec<Id> {
    let author = author.map(Id::from).filter(|_| approvers.is_empty());
    approvers.iter().cloned().chain(author).collect()
}

/// Handles `workflow.notify`: the approvers find it in their inbox. Where notification-manager is not there, the event
/// `workflow.approval.requested` has to do.
pub fn notify(envelope: &Envelope) -> Result<()> {
    #[data]
    struct Work {
        approval_id: Id,
        is_escalated: bool,
    }
    let work: Work = envelope.data()?;
    let Some(approval) = entity::find::<Approval>(&Pool, &work.approval_id)? else { return Ok(()) };
    if approval.status != ApprovalStatus::Pending {
        return Ok(());
    }
    let run = entity::find::<RunRow>(&Pool, &approval.run_id)?;
    let author = match run.filter(|run| run.project_id.is_some() || run.audience != Audience::Organization) {
        // Who made the workflow need not see the project, or what is private.
        Some(run) => run.acts_for.clone().map(Id::into_string),
        None => entity::find::<Workflow>(&Pool, &approval.workflow_id)?.and_then(|row| row.created_by),
    };
    let key = format!("wf-approval-{}-{}", approval.id, work.is_escalated);
    let ids = json!({ "approvalId": approval.id, "runId": approval.run_id, "stepId": approval.step_id });
    Notice::new("workflow.approval.requested", "A workflow waits for your approval", Criticality::High)
        .to(audience(&approval.required_approvers, author.as_deref()))
        .body(approval.message.as_deref().unwrap_or_default())
        .about("workflow_approval", &approval.id)
        .once(&key)
        .with("metadata", ids)
        .deliver(envelope)
}

/// The body of a decision.
#[data]
pub struct Word {
    /// Why.
    #[field(max = 2_000)]
    pub comment: Option<String>,
}

/// Takes somebody's word. 403 for who is not asked, 409 when it is decided already; repeating one's word changes nothing.
pub fn decide(id: &Id, is_approved: bool, comment: Option<String>) -> Result<Stored<Approval>> {
    let user_id = auth::user_id()?;
    let asked = entity::read::<Approval>(&Pool, id)?;
    // Whoever is named may know what they are asked; for others it is a part of the run.
    if !asked.required_approvers.contains(&user_id) {
        run_row::require(&asked.run_id)?;
    }
    database::transaction(|transaction| {
        let mut run = Run::lock(transaction, &asked.run_id)?;
        // Read again: somebody may have decided while this one waited for the run.
        let mut approval = entity::read::<Approval>(transaction, id)?;
        require_word(&approval, &user_id)?;
        let earlier = approval.decisions.iter().find(|decision| decision.user_id == user_id);
        match earlier {
            Some(decision) if decision.is_approved == is_approved => return Ok(approval),
            Some(_) => return Err(closed("You have decided otherwise already.")),
            None if approval.status != ApprovalStatus::Pending => {
                return Err(closed(&format!("The approval is {}.", approval.status)));
            }
            None => {}
        }
        let comment = comment.map(|text| text.chars().take(COMMENT_MAX).collect());
        approval.decisions.push(Decision { user_id: user_id.clone(), is_approved, comment, at: run.now });
        approval.status = verdict(approval.policy, &approval.required_approvers, &approval.decisions);
        entity::save(transaction, &mut approval)?;
        let facts = json!({ "approvalId": approval.id, "isApproved": is_approved, "userId": user_id, "status": approval.status });
        run.record("workflow.approval.decided", Some(&approval.step_id), facts);
        settle(&mut run, &approval)?;
        run.save()?;
        Ok(approval)
    })
}

fn closed(detail: &str) -> Problem {
    Problem::conflict(detail).with_code("APPROVAL_CLOSED")
}

/// 403 for who is not asked.
fn require_word(approval: &Approval, user_id: &Id) -> Result<()> {
    let is_named = approval.required_approvers.contains(user_id);
    let is_open = approval.required_approvers.is_empty() || approval.is_escalated && approval.escalate_to.is_empty();
    if is_named || is_open && auth::has(DECIDE) {
        return Ok(());
    }
    Err(Problem::forbidden("You are not among those who decide this."))
}

/// Lets the step go on, or not.
fn settle(run: &mut Run<'_>, approval: &Stored<Approval>) -> Result<()> {
    let Some(mut row) = run.find_row(&approval.step_id)? else { return Ok(()) };
    if row.status != StepStatus::Waiting || row.attempt != approval.attempt || run.machine.end.is_some() {
        return Ok(());
    }
    match approval.status {
        ApprovalStatus::Approved => {
            let output = json!({ "decision": "approved", "approvalId": approval.id, "decisions": approval.decisions });
            advance::finish(run, &mut row, output)
        }
        ApprovalStatus::Rejected => {
            let said = approval.decisions.last().and_then(|decision| decision.comment.clone());
            let output = json!({ "decision": "rejected", "approvalId": approval.id, "decisions": approval.decisions });
            let message =
                said.map_or_else(|| "It was rejected.".to_string(), |comment| format!("It was rejected: {comment}"));
            advance::fail(run, &mut row, Failure::lasting("REJECTED", message).with_output(output))
        }
        ApprovalStatus::Pending | ApprovalStatus::Expired => Ok(()),
    }
}

/// Nobody has decided in time.
pub fn expire(run: &mut Run<'_>, row: &mut Stored<StepRun>) -> Result<()> {
    let open = Select::<Approval>::new()
        .equal("run_id", &run.row.id)
        .equal("step_id", &row.step_id)
        .equal("status", ApprovalStatus::Pending)
        .first(run.transaction)?;
    let Some(mut approval) = open else { return Ok(()) };
    if approval.on_timeout == OnTimeout::Escalate && !approval.is_escalated {
        return escalate(run, row, &mut approval);
    }
    approval.status = ApprovalStatus::Expired;
    entity::save(run.transaction, &mut approval)?;
    let facts = json!({ "approvalId": approval.id, "onTimeout": approval.on_timeout });
    run.record("workflow.approval.expired", Some(&row.step_id), facts);
    match approval.on_timeout {
        OnTimeout::Proceed => {
            let output = json!({ "decision": "timeout", "approvalId": approval.id, "decisions": approval.decisions });
            advance::finish(run, row, output)
        }
        OnTimeout::Cancel => {
            run.row.error = Some(
                json!({ "code": "APPROVAL_TIMEOUT", "message": "Nobody decided in time.", "stepId": row.step_id }),
            );
            let effects = run.machine.halt(End::Cancelled);
            run.carry_out(effects, Duration::ZERO, false)
        }
        OnTimeout::Escalate => advance::fail(
            run,
            row,
            Failure::lasting("APPROVAL_TIMEOUT", "Nobody decided in time, not even when others were asked."),
        ),
    }
}

/// Others are asked as well, and have as long as the first ones had; one word is enough then.
fn escalate(run: &mut Run<'_>, row: &mut Stored<StepRun>, approval: &mut Stored<Approval>) -> Result<()> {
    let (_, step) = run.step(&row.step_id)?;
    let timeout = step.human_gate.and_then(|gate| gate.timeout).map_or(Duration::from_secs(60), |span| span.duration());
    let deadline = run.now.plus(timeout);
    approval.is_escalated = true;
    approval.policy = Policy::Any;
    approval.deadline = Some(deadline);
    for id in approval.escalate_to.clone() {
        if !approval.required_approvers.contains(&id) {
            approval.required_approvers.push(id);
        }
    }
    approval.approver_words = words(&approval.required_approvers);
    entity::save(run.transaction, approval)?;
    row.deadline = Some(deadline);
    entity::save(run.transaction, row)?;
    run.record(
        "workflow.approval.escalated",
        Some(&row.step_id),
        json!({ "approvalId": approval.id, "escalateTo": approval.escalate_to }),
    );
    run.send(&row.key, row.attempt, Some(Cause::Deadline), timeout)?;
    announce(run, approval)
}

/// The approvals that wait for the caller.
pub fn waiting(query: &PageQuery) -> Result<JsonText<Page<Stored<Approval>>>> {
    let user_id = auth::user_id()?;
    let pattern = format!("% {} %", user_id.replace('_', "\\_"));
    let select = Select::<Approval>::new();
    let select = if auth::has(DECIDE) {
        let mut open = String::from("approver_words = ' ' OR (is_escalated = ? AND CAST(escalate_to AS TEXT) = '[]')");
        let mut values = vec![database::Value::from(pattern), database::Value::from(true)];
        if let Some(seen) = sight::runs() {
            open = format!("({open}) AND run_id IN (SELECT workflow_runs.id FROM workflow_runs WHERE {})", seen.sql);
            values.extend(seen.values);
        }
        select.condition(&format!("approver_words LIKE ? ESCAPE '\\' OR ({open})"), values)
    } else {
        select.condition("approver_words LIKE ? ESCAPE '\\'", [pattern])
    };
    if query.filter("status").is_some() {
        return select.page(&Pool, query);
    }
    // Where all must agree, nothing waits for those who have. One database writes a space behind a colon, the other none.
    let said = said_by(&user_id);
    let unsaid = "CAST(decisions AS TEXT) NOT LIKE ? ESCAPE '\\' AND CAST(decisions AS TEXT) NOT LIKE ? ESCAPE '\\'";
    select.equal("status", ApprovalStatus::Pending).condition(unsaid, said).page(&Pool, query)
}

/// Patterns of decisions with a word of somebody. A comment cannot look like one: its quotes are escaped.
fn said_by(user_id: &Id) -> [String; 2] {
    let id = user_id.replace('_', "\\_");
    [format!("%\"userId\":\"{id}\"%"), format!("%\"userId\": \"{id}\"%")]
}

#[cfg(test)]
mod tests {
    use berth_sdk::Id;

    use super::{audience, said_by};

    #[test]
    fn somebody_is_always_told() {
        let named = ["a", "b"].map(Id::from);
        assert_eq!(audience(&named, Some("author")), named);
        assert_eq!(audience(&[], Some("author")), [Id::from("author")]);
        assert!(audience(&[], None).is_empty());
    }

    #[test]
    fn an_id_is_no_pattern() {
        assert_eq!(said_by(&"a_b".into()), [r#"%"userId":"a\_b"%"#, r#"%"userId": "a\_b"%"#]);
    }
}
