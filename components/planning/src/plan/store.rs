//! Plans and steps in the database.

use berth_sdk::{
    http::Response,
    prelude::*,
    router::Route,
    schema,
    serde_json::{Map, Value},
};
use plan_rules::{Step, hash};

use super::{Plan, StepRow};
use crate::project;

/// A plan with its steps, as `GET /api/plans/{id}` answers.
pub(crate) struct Document {
    pub plan: Stored<Plan>,
    pub steps: Vec<Stored<StepRow>>,
    /// The status of the answer: 200 or 201.
    pub answer: u16,
}

impl Document {
    /// Reads a plan with its steps; 404.
    pub(crate) fn read(database: &dyn Executor, id: &str) -> Result<Self> {
        let plan = entity::read::<Plan>(database, id)?;
        let steps = steps_of(database, &plan.id)?;
        Ok(Self { plan, steps, answer: 200 })
    }

    /// As it is shown.
    pub(crate) fn shown(&self) -> Map<String, Value> {
        let mut shown = self.plan.shown();
        shown.insert("steps".into(), json!(self.steps));
        shown
    }

    /// Its hash.
    pub(crate) fn hash(&self) -> String {
        hash::of(&Value::Object(self.shown()))
    }

    /// Its steps as the shared rules know them.
    pub(crate) fn rule_steps(&self) -> Result<Vec<Step>> {
        self.steps.iter().map(|row| row.step(&row.id)).collect()
    }
}

impl Answer for Document {
    fn into_response(self) -> Result<Response> {
        Ok(Response::json(self.answer, &self.shown())?.with_version(self.plan.version))
    }

    fn describe(route: &mut Route) {
        let status = if route.method == "POST" && !route.path.contains('{') { 201 } else { 200 };
        route.answer(status, Some(document_schema), None);
    }
}

fn document_schema() -> Value {
    let mut whole = schema::of::<Stored<Plan>>();
    if let Some(Value::Object(properties)) = whole.get_mut("properties") {
        properties.insert("steps".into(), json!({ "type": "array", "items": schema::of::<Stored<StepRow>>() }));
    }
    whole
}

/// The steps of a plan, in their order.
pub(crate) fn steps_of(database: &dyn Executor, plan_id: &Id) -> Result<Vec<Stored<StepRow>>> {
    Select::<StepRow>::new().equal("plan_id", plan_id).sort("order").all(database)
}

/// Makes the rows of steps. The ids that the steps carry are kept, as their dependencies name them.
pub(crate) fn insert_steps(transaction: &Transaction, plan_id: &Id, steps: Vec<Step>) -> Result<Vec<Stored<StepRow>>> {
    steps
        .into_iter()
        .map(|step| {
            let id = step.id.clone();
            entity::create_as(transaction, id, StepRow::new(plan_id, step))
        })
        .collect()
}

/// Gives steps new orders. Two passes, as no two steps of a plan may have one order even for a moment.
pub(crate) fn reorder(transaction: &Transaction, steps: &[(Id, i64)]) -> Result<()> {
    const ASIDE: i64 = 1_000_000;
    for (id, order) in steps {
        transaction.execute("UPDATE plan_steps SET \"order\" = $2 WHERE id = $1", params![id, ASIDE + order])?;
    }
    for (id, order) in steps {
        transaction.execute("UPDATE plan_steps SET \"order\" = $2 WHERE id = $1", params![id, *order])?;
    }
    Ok(())
}

/// Opens a plan for a change of its steps: 404, 403, 409 while executing, 412.
pub(crate) fn open(transaction: &Transaction, id: &str, if_match: IfMatch) -> Result<Document> {
    let document = Document::read(transaction, id)?;
    if_match.check(document.plan.version)?;
    project::require_edit(transaction, &document.plan.project_id)?;
    document.plan.require_editable()?;
    Ok(document)
}

/// Notes that the steps of a plan have changed.
pub(crate) fn touch(transaction: &Transaction, plan: &mut Stored<Plan>) -> Result<()> {
    plan.return_to_draft();
    entity::save(transaction, plan)
}
