//! How experiments go: draft, running, paused, completed; and how they end.

use berth_sdk::{prelude::*, serde_json::Value};

use super::{Experiment, ExperimentStatus, api, read, results, running, variants};

/// Experiments that one tick ends.
const DUE_MAX: i64 = 200;

/// Changes an experiment in one transaction, tells of it, and answers with it.
fn step(
    id: &Id,
    if_match: IfMatch,
    change: impl FnOnce(&Transaction, &mut Stored<Experiment>) -> Result<()>,
) -> Result<Response> {
    read(id)?;
    let row = database::transaction(|transaction| {
        let mut row = entity::read::<Experiment>(transaction, id)?;
        if_match.check(row.version)?;
        change(transaction, &mut row)?;
        entity::save(transaction, &mut row)?;
        transaction.forget(running::key(id));
        Ok::<_, Problem>(row)
    })?;
    api::answer(200, &row)
}

fn wrong(status: ExperimentStatus, what: &str) -> Problem {
    Problem::conflict(format!("It is {status} and cannot be {what}.")).with_code("ILLEGAL_TRANSITION")
}

fn require(row: &Experiment, allowed: &[ExperimentStatus], what: &str) -> Result<()> {
    if allowed.contains(&row.status) { Ok(()) } else { Err(wrong(row.status, what)) }
}

fn tell(transaction: &Transaction, kind: &str, row: &Stored<Experiment>, more: Value) -> Result<()> {
    let mut data = json!({
        "id": row.id, "experimentId": row.id, "name": row.name, "projectId": row.project_id, "type": row.r#type,
        "status": row.status, "featureFlag": row.feature_flag, "primaryMetric": row.primary_metric,
    });
    if let (Some(data), Value::Object(more)) = (data.as_object_mut(), more) {
        data.extend(more);
    }
    transaction.send(&events::Message::new(kind, &data)?.with_key(row.id.as_str()))?;
    Ok(())
}

/// `POST /api/experiments/{id}/start`: 422 unless its variants make an experiment, 409 unless it is a draft.
pub(super) fn start(Params(id): Params<Id>, if_match: IfMatch) -> Result<Response> {
    step(&id, if_match, |transaction, row| {
        require(row, &[ExperimentStatus::Draft], "started")?;
        api::require_shape(&variants(transaction, &row.id)?)?;
        let now = clock::now();
        if row.end_at.is_some_and(|end| end <= now) {
            return Err(Problem::unprocessable("Its end lies in the past.").with_code("INVALID_EXPERIMENT"));
        }
        row.status = ExperimentStatus::Running;
        row.start_at.get_or_insert(now);
        let start_at = row.start_at;
        tell(transaction, "experiment.started", row, json!({ "startAt": start_at, "endAt": row.end_at }))
    })
}

/// `POST /api/experiments/{id}/pause`.
pub(super) fn pause(Params(id): Params<Id>, if_match: IfMatch) -> Result<Response> {
    step(&id, if_match, |_, row| {
        require(row, &[ExperimentStatus::Running], "paused")?;
        row.status = ExperimentStatus::Paused;
        Ok(())
    })
}

/// `POST /api/experiments/{id}/resume`.
pub(super) fn resume(Params(id): Params<Id>, if_match: IfMatch) -> Result<Response> {
    step(&id, if_match, |_, row| {
        require(row, &[ExperimentStatus::Paused], "resumed")?;
        row.status = ExperimentStatus::Running;
        Ok(())
    })
}

/// `POST /api/experiments/{id}/stop`: one that has run is completed with what it shows; a draft is cancelled.
pub(super) fn stop(Params(id): Params<Id>, if_match: IfMatch) -> Result<Response> {
    step(&id, if_match, |transaction, row| match row.status {
        ExperimentStatus::Draft => {
            row.status = ExperimentStatus::Cancelled;
            row.stopped_at = Some(clock::now());
            Ok(())
        }
        ExperimentStatus::Running | ExperimentStatus::Paused => complete(transaction, row, None),
        status => Err(wrong(status, "stopped")),
    })
}

/// Ends an experiment: keeps what it shows, with the winner that somebody chose or, where the figures leave no doubt, they do.
fn complete(transaction: &Transaction, row: &mut Stored<Experiment>, decision: Option<Decision>) -> Result<()> {
    let shown = results::compute(transaction, row, clock::now())?;
    row.status = ExperimentStatus::Completed;
    row.stopped_at = Some(clock::now());
    match decision {
        Some(decision) => decide(row, decision),
        None => row.winner_variant_id = shown.winner.clone(),
    }
    results::keep(transaction, row, &shown)?;
    let more =
        json!({ "winnerVariantId": row.winner_variant_id, "conclusion": row.conclusion, "result": shown.conclusion });
    tell(transaction, "experiment.completed", row, more)
}

/// What was decided.
#[data]
pub struct Decision {
    /// The variant that has won; null when none has.
    winner: Option<Id>,
    /// Why.
    #[field(max = 5_000)]
    conclusion: Option<String>,
}

fn decide(row: &mut Experiment, decision: Decision) {
    row.winner_variant_id = decision.winner;
    row.conclusion = decision.conclusion;
    row.concluded_at = Some(clock::now());
}

/// `POST /api/experiments/{id}/conclude`: decides once, whatever the figures say. What runs is ended by it.
pub(super) fn conclude(Params(id): Params<Id>, if_match: IfMatch, Json(decision): Json<Decision>) -> Result<Response> {
    if decision.winner.is_none() && decision.conclusion.as_deref().is_none_or(str::is_empty) {
        return Err(Problem::field("winner", "is required; without one say why in conclusion"));
    }
    step(&id, if_match, |transaction, row| {
        if let Some(winner) = &decision.winner
            && !variants(transaction, &row.id)?.iter().any(|variant| variant.id == *winner)
        {
            return Err(Problem::field("winner", "is no variant of the experiment"));
        }
        match row.status {
            ExperimentStatus::Running | ExperimentStatus::Paused => complete(transaction, row, Some(decision)),
            ExperimentStatus::Completed if row.concluded_at.is_none() => {
                decide(row, decision);
                Ok(())
            }
            ExperimentStatus::Completed => {
                Err(Problem::conflict("It was decided already.").with_code("ALREADY_CONCLUDED"))
            }
            status => Err(wrong(status, "concluded")),
        }
    })
}

/// The minute's tick: a message for each experiment whose end has come.
pub fn tick(_: &Envelope) -> Result<()> {
    let rows = database::query(
        "SELECT id, organization_id FROM experiment_experiments WHERE status IN ('running', 'paused') AND end_at <= $1 \
         ORDER BY end_at LIMIT $2",
        params![clock::now(), DUE_MAX],
    )?;
    for row in rows {
        let (id, organization_id): (String, String) = (row.get("id")?, row.get("organization_id")?);
        let message = events::Message::new("quality.experiment.end", &json!({ "experimentId": id }))?;
        events::enqueue_message(&message.for_organization(organization_id))?;
    }
    Ok(())
}

/// Which experiment.
#[data]
struct Work {
    experiment_id: Id,
}

/// Handles `quality.experiment.end`.
pub fn end(envelope: &Envelope) -> Result<()> {
    let work: Work = envelope.data()?;
    database::transaction(|transaction| {
        let Some(mut row) = entity::find::<Experiment>(transaction, &work.experiment_id)? else { return Ok(()) };
        let is_due = row.end_at.is_some_and(|end| end <= clock::now());
        if !is_due || !matches!(row.status, ExperimentStatus::Running | ExperimentStatus::Paused) {
            return Ok(());
        }
        complete(transaction, &mut row, None)?;
        entity::save(transaction, &mut row)?;
        transaction.forget(running::key(&row.id));
        Ok(())
    })
}
