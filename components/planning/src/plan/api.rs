//! Making, reading, validating and approving plans.

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};
use plan_rules::{
    NewStep, Step,
    checks::{self, Report},
    resolve,
};

use super::{
    Plan, PlanStatus, Strategy, generate,
    store::{Document, insert_steps},
    templates,
};
use crate::project;

/// The body of `POST /api/plans`.
#[data]
pub(crate) struct NewPlan {
    project_id: Id,
    #[field(min = 1, max = 200, plain)]
    title: Option<String>,
    #[field(default)]
    description: String,
    #[field(max = 8000)]
    intent: Option<String>,
    #[field(default = Strategy::Hierarchical)]
    strategy: Strategy,
    /// In minutes.
    #[field(min = 0, max = 5_256_000)]
    estimated_time: Option<i64>,
    #[field(default, max = 200)]
    assumptions: Vec<String>,
    #[field(default, max = 200)]
    invariants: Vec<String>,
    #[field(default, max = 200)]
    non_goals: Vec<String>,
    /// Explicit steps: no AI is asked.
    #[field(max = 500)]
    steps: Option<Vec<NewStep>>,
    /// The name of a template: no AI is asked.
    template: Option<String>,
    /// The texts for the template's `{{name}}`.
    template_parameters: Option<Map<String, Value>>,
}

/// `POST /api/plans`.
pub(crate) fn create(Json(input): Json<NewPlan>) -> Result<Document> {
    // Whatever may fail or take long comes before the transaction, so that no half plan is ever there.
    let (title, steps) = match (&input.steps, &input.template) {
        (Some(_), Some(_)) => return Err(Problem::field("template", "cannot be combined with steps")),
        (Some(steps), None) => {
            let title = input.title.clone().ok_or_else(|| Problem::field("title", "is required"))?;
            (title, resolve(steps.clone(), |_| false)?)
        }
        (None, Some(template)) => {
            let filled = templates::fill(template, input.template_parameters.as_ref())?;
            (input.title.clone().unwrap_or(filled.title), resolve(filled.steps, |_| false)?)
        }
        (None, None) => {
            let intent = input.intent.as_deref().unwrap_or_default();
            if intent.is_empty() {
                return Err(Problem::field("intent", "is required without steps and template"));
            }
            // Nobody is asked for somebody who could not keep the answer.
            project::require_edit(&Pool, &input.project_id)?;
            let draft = generate::plan(intent, &input.project_id)?;
            (input.title.clone().unwrap_or(draft.title), draft.steps)
        }
    };
    store(input, title, steps)
}

fn store(input: NewPlan, title: String, steps: Vec<Step>) -> Result<Document> {
    let plan = Plan {
        project_id: input.project_id,
        title,
        description: input.description,
        intent: input.intent.unwrap_or_default(),
        strategy: input.strategy,
        status: PlanStatus::Draft,
        confidence: 0.0,
        quality: None,
        estimated_time: input.estimated_time,
        assumptions: input.assumptions,
        invariants: input.invariants,
        non_goals: input.non_goals,
        plan_hash: None,
        approved_by: None,
        approved_at: None,
        execution_id: None,
        execution_sequence: 0,
    };
    database::transaction(|transaction| {
        let plan = entity::create(transaction, plan)?;
        let steps = insert_steps(transaction, &plan.id, steps)?;
        Ok(Document { plan, steps, answer: 201 })
    })
}

/// `GET /api/plans/{id}`.
pub(crate) fn read(Params(id): Params<Id>) -> Result<Document> {
    Document::read(&Pool, &id)
}

/// The body of `POST /api/plans/{id}/refine`.
#[data]
pub(crate) struct Feedback {
    #[field(min = 1, max = 8000)]
    feedback: String,
}

/// `POST /api/plans/{id}/refine`: new steps from the old ones and what somebody says of them.
pub(crate) fn refine(Params(id): Params<Id>, if_match: IfMatch, Json(input): Json<Feedback>) -> Result<Document> {
    let document = Document::read(&Pool, &id)?;
    project::require_edit(&Pool, &document.plan.project_id)?;
    document.plan.require_editable()?;
    let seen = document.plan.version;
    if_match.check(seen)?;
    let draft = generate::refine(&Value::Object(document.shown()), &input.feedback)?;
    database::transaction(|transaction| {
        let mut plan = super::store::open(transaction, &id, IfMatch(Some(seen)))?.plan;
        transaction.execute("DELETE FROM plan_steps WHERE plan_id = $1", params![&plan.id])?;
        let steps = insert_steps(transaction, &plan.id, draft.steps)?;
        super::store::touch(transaction, &mut plan)?;
        Ok(Document { plan, steps, answer: 200 })
    })
}

/// The body of `validate` and `approve`.
#[data]
pub(crate) struct Acceptance {
    /// Accepts every step that cannot be undone.
    #[field(default)]
    accept_irreversible: bool,
}

/// `POST /api/plans/{id}/validate`. A plan that is ready or running keeps its status.
pub(crate) fn validate(Params(id): Params<Id>, input: Option<Json<Acceptance>>) -> Result<Json<Report>> {
    let accept = input.is_some_and(|Json(input)| input.accept_irreversible);
    database::transaction(|transaction| {
        let mut document = Document::read(transaction, &id)?;
        project::require_edit(transaction, &document.plan.project_id)?;
        if accept {
            accept_irreversible(transaction, &mut document)?;
        }
        let report = checks::check(&document.plan.non_goals, &document.rule_steps()?);
        let plan = &mut document.plan;
        if matches!(plan.status, PlanStatus::Ready | PlanStatus::Executing) {
            return Ok(Json(report));
        }
        plan.return_to_draft();
        plan.confidence = report.confidence;
        plan.quality = Some(json!({ "errors": report.errors.len(), "warnings": report.warnings.len() }));
        if report.is_valid {
            plan.status = PlanStatus::Validated;
            transaction
                .publish("planning.plan.validated", &json!({ "planId": plan.id, "projectId": plan.project_id }))?;
        }
        entity::save(transaction, plan)?;
        Ok(Json(report))
    })
}

fn accept_irreversible(transaction: &Transaction, document: &mut Document) -> Result<()> {
    document.plan.require_editable()?;
    let mut has_changed = false;
    for step in &mut document.steps {
        if step.rollback_type == plan_rules::RollbackType::Irreversible && !step.irreversible_accepted {
            step.irreversible_accepted = true;
            entity::save(transaction, step)?;
            has_changed = true;
        }
    }
    if has_changed {
        document.plan.return_to_draft();
    }
    Ok(())
}

/// `POST /api/plans/{id}/approve`: a validated plan becomes ready and gets its hash.
pub(crate) fn approve(Params(id): Params<Id>, if_match: IfMatch) -> Result<Document> {
    database::transaction(|transaction| {
        let mut document = Document::read(transaction, &id)?;
        if_match.check(document.plan.version)?;
        make_ready(transaction, &mut document)?;
        Ok(document)
    })
}

/// Approves a plan: 403 unless the caller may change it, 409 unless it is validated.
pub(crate) fn make_ready(transaction: &Transaction, document: &mut Document) -> Result<()> {
    project::require_edit(transaction, &document.plan.project_id)?;
    if document.plan.status != PlanStatus::Validated {
        let status = document.plan.status;
        return Err(Problem::conflict(format!("Only a validated plan can be approved; this one is {status}.")));
    }
    let hash = document.hash();
    let plan = &mut document.plan;
    plan.status = PlanStatus::Ready;
    plan.plan_hash = Some(hash.clone());
    plan.approved_by = auth::principal().user_id.map(Id::from);
    plan.approved_at = Some(clock::now());
    entity::save(transaction, plan)?;
    transaction.publish(
        "planning.plan.approved",
        &json!({
            "planId": plan.id, "projectId": plan.project_id, "title": plan.title, "planHash": hash,
            "approvedBy": plan.approved_by, "estimatedTime": plan.estimated_time,
        }),
    )?;
    Ok(())
}
