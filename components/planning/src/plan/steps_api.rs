//! The steps of a plan, one by one. Every change returns the plan to draft.

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};
use plan_rules::{NewStep, Reference, STEPS_MAX, resolve};

use super::{
    StepRow,
    store::{self, Document, insert_steps, open, reorder, touch},
};

/// `GET /api/plans/{id}/steps`.
pub(crate) fn list(Params(id): Params<Id>, query: PageQuery) -> Result<JsonText<Page<Stored<StepRow>>>> {
    let plan = entity::read::<super::Plan>(&Pool, &id)?;
    Select::<StepRow>::new().equal("plan_id", &plan.id).page(&Pool, &query)
}

/// `POST /api/plans/{id}/steps`: at its order, or last. Later steps move on; without dependencies it waits for the step
/// before it.
pub(crate) fn add(
    Params(id): Params<Id>,
    if_match: IfMatch,
    Json(mut new): Json<NewStep>,
) -> Result<Created<Stored<StepRow>>> {
    database::transaction(|transaction| {
        let Document { mut plan, steps, .. } = open(transaction, &id, if_match)?;
        if steps.len() >= STEPS_MAX {
            return Err(Problem::unprocessable(format!("A plan has at most {STEPS_MAX} steps.")));
        }
        let last = steps.last().map_or(0, |step| step.order);
        let order = new.order.take().unwrap_or(last + 1).min(last + 1);
        let before = steps.iter().rev().find(|step| step.order < order).map(|step| step.id.clone());
        let dependencies = match new.dependencies.take() {
            None => before.into_iter().collect(),
            Some(named) => ids_of(&named, &steps)?,
        };
        new.dependencies = Some(dependencies.into_iter().map(Reference::Id).collect());
        new.id = None;
        let later: Vec<(Id, i64)> =
            steps.iter().filter(|step| step.order >= order).map(|step| (step.id.clone(), step.order + 1)).collect();
        reorder(transaction, &later)?;
        let mut resolved = resolve(vec![new], |_| false).map_err(without_prefix)?;
        resolved.iter_mut().for_each(|step| step.order = order);
        let made = insert_steps(transaction, &plan.id, resolved)?.into_iter().next().ok_or_else(Problem::internal)?;
        touch(transaction, &mut plan)?;
        Ok(Created(made))
    })
}

/// `PUT /api/plans/{id}/steps/{stepId}`: a partial merge; `dependencies` by order or id, `order` moves the step.
pub(crate) fn change(
    Params((id, step_id)): Params<(Id, Id)>,
    if_match: IfMatch,
    Json(Patch(mut patch)): Json<Patch>,
) -> Result<Stored<StepRow>> {
    database::transaction(|transaction| {
        let Document { mut plan, steps, .. } = open(transaction, &id, IfMatch(None))?;
        let old = steps.iter().find(|step| step.id == step_id).ok_or_else(|| Problem::missing("step"))?;
        if_match.check(old.version)?;
        if let Some(named) = patch.get_mut("dependencies") {
            *named = json!(ids_in(named, &steps)?);
        }
        let wanted = match patch.remove("order") {
            None => None,
            Some(order) => Some(order.as_i64().ok_or_else(|| Problem::field("order", "must be an integer"))?),
        };
        let mut changed = entity::update::<StepRow>(transaction, &step_id, &patch, IfMatch(None))?;
        if let Some(order) = wanted {
            move_to(transaction, &steps, &step_id, order)?;
            changed = entity::read(transaction, &step_id)?;
        }
        if changed.data != old.data {
            touch(transaction, &mut plan)?;
        }
        Ok(changed)
    })
}

/// `DELETE /api/plans/{id}/steps/{stepId}`: later steps close the gap, and what waited for it waits for what it waited
/// for.
pub(crate) fn remove(Params((id, step_id)): Params<(Id, Id)>, if_match: IfMatch) -> Result<NoContent> {
    database::transaction(|transaction| {
        let Document { mut plan, mut steps, .. } = open(transaction, &id, IfMatch(None))?;
        let at = steps.iter().position(|step| step.id == step_id).ok_or_else(|| Problem::missing("step"))?;
        let gone = steps.remove(at);
        if_match.check(gone.version)?;
        transaction.execute("DELETE FROM plan_steps WHERE id = $1", params![&step_id])?;
        for step in steps.iter_mut().filter(|step| step.dependencies.contains(&step_id)) {
            let dependencies = inherited(&step.dependencies, &step_id, &gone.dependencies);
            step.dependencies = dependencies;
            entity::save(transaction, step)?;
        }
        let closed: Vec<(Id, i64)> =
            steps.iter().filter(|step| step.order > gone.order).map(|step| (step.id.clone(), step.order - 1)).collect();
        reorder(transaction, &closed)?;
        touch(transaction, &mut plan)
    })?;
    Ok(NoContent)
}

/// The body of a step's update.
#[derive(berth_sdk::serde::Deserialize, berth_sdk::schemars::JsonSchema)]
#[serde(crate = "berth_sdk::serde")]
#[schemars(crate = "berth_sdk::schemars")]
pub(crate) struct Patch(Map<String, Value>);

impl validate::Tidy for Patch {}

fn move_to(transaction: &Transaction, steps: &[Stored<StepRow>], id: &Id, order: i64) -> Result<()> {
    let mut sequence: Vec<&Id> = steps.iter().map(|step| &step.id).filter(|other| *other != id).collect();
    let first = steps.first().map_or(1, |step| step.order).max(1);
    let place = usize::try_from(order - first).unwrap_or(0).min(sequence.len());
    sequence.insert(place, id);
    let orders: Vec<(Id, i64)> = sequence.into_iter().cloned().zip(first..).collect();
    let now: Vec<(Id, i64)> = steps.iter().map(|step| (step.id.clone(), step.order)).collect();
    if orders == now { Ok(()) } else { store::reorder(transaction, &orders) }
}

fn ids_in(value: &Value, steps: &[Stored<StepRow>]) -> Result<Vec<Id>> {
    let named: Vec<Reference> = berth_sdk::serde_json::from_value(value.clone())
        .map_err(|_| Problem::field("dependencies", "must be an array of orders or ids"))?;
    ids_of(&named, steps)
}

fn ids_of(named: &[Reference], steps: &[Stored<StepRow>]) -> Result<Vec<Id>> {
    let mut ids: Vec<Id> = Vec::with_capacity(named.len());
    for (index, reference) in named.iter().enumerate() {
        let id = match reference {
            Reference::Id(id) => Some(id.clone()),
            Reference::Order(order) => steps.iter().find(|step| step.order == *order).map(|step| step.id.clone()),
        };
        let id = id.ok_or_else(|| Problem::field(format!("dependencies[{index}]"), "names no step"))?;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    Ok(ids)
}

/// What waited for `gone` waits for what that waited for.
fn inherited(dependencies: &[Id], gone: &Id, heirs: &[Id]) -> Vec<Id> {
    let mut kept: Vec<Id> = dependencies.iter().filter(|id| *id != gone).cloned().collect();
    for heir in heirs {
        if !kept.contains(heir) {
            kept.push(heir.clone());
        }
    }
    kept
}

/// The one step of the body is not `steps[0]` for who sent it.
fn without_prefix(mut problem: Problem) -> Problem {
    for error in &mut problem.errors {
        error.field = error.field.trim_start_matches("steps[0].").to_string();
    }
    if problem.errors.is_empty() { problem } else { Problem::validation(problem.errors) }
}

#[cfg(test)]
mod tests {
    use berth_sdk::Id;

    #[test]
    fn a_removed_step_leaves_its_dependencies_behind() {
        let ids = |names: &[&str]| names.iter().map(|name| Id::from(*name)).collect::<Vec<_>>();
        assert_eq!(super::inherited(&ids(&["b", "c"]), &"b".into(), &ids(&["a", "c"])), ids(&["c", "a"]));
    }
}
