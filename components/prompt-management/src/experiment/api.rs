//! The routes of experiments: an experiment is read and written together with its variants.

use berth_sdk::{
    prelude::*,
    schema,
    serde_json::{self, Map, Value},
};
use experiment_rules::Variants;

use super::{
    Experiment, ExperimentStatus, VARIANTS_MAX, Variant, check,
    results::{self, Results},
    variants,
};
use crate::{
    prompt::{self, PUBLISH, Prompt},
    resolve,
    version::{self, NewVersion, Version},
};

const PATH: &str = "/api/prompts/experiments";

/// The routes of experiments.
pub fn routes() -> Router {
    let row = format!("{PATH}/{{id}}");
    Router::new()
        .get(PATH, list)
        .summary("List experiments.")
        .post(PATH, create)
        .summary("Create an experiment.")
        .makes::<Experiment>()
        .takes::<WithVariants>()
        .answers::<Shown>(201)
        .get(&row, read)
        .summary("Read an experiment with its variants.")
        .answers::<Shown>(200)
        .put(&row, update)
        .summary("Update an experiment.")
        .changes::<Experiment>()
        .takes::<WithVariants>()
        .answers::<Shown>(200)
        .delete(&row, remove)
        .summary("Delete an experiment.")
        .post(&format!("{row}/start"), start)
        .summary("Start an experiment.")
        .answers::<Shown>(200)
        // It puts other texts in force, as publishing does.
        .permission(PUBLISH)
        .post(&format!("{row}/pause"), pause)
        .summary("Pause an experiment.")
        .answers::<Shown>(200)
        .post(&format!("{row}/stop"), stop)
        .summary("Stop an experiment.")
        .answers::<Shown>(200)
        .post(&format!("{row}/promote"), promote)
        .summary("Publish the winning variant.")
        .permission(PUBLISH)
        .get(&format!("{row}/results"), read_results)
        .summary("Read what an experiment shows.")
}

#[data]
struct WithVariants {
    #[field(max = 20)]
    variants: Option<Vec<VariantInput>>,
}

/// An experiment with its variants.
type Shown = schema::With<Stored<Experiment>, Variants<Stored<Variant>>>;

/// A variant, as it is given.
#[data]
struct VariantInput {
    #[field(min = 1, max = 100, plain)]
    name: String,
    version_id: Option<Id>,
    #[field(min = 1, max = 100_000, raw)]
    custom_content: Option<String>,
    #[field(default = 1, min = 0, max = 1_000_000)]
    weight: i64,
    #[field(default = false)]
    is_control: bool,
}

fn take_variants(fields: &mut Map<String, Value>) -> Result<Option<Vec<VariantInput>>> {
    let Some(list) = fields.remove("variants").filter(|list| !list.is_null()) else { return Ok(None) };
    let list: Vec<VariantInput> =
        serde_json::from_value(list).map_err(|error| Problem::field("variants", format!("do not fit: {error}")))?;
    if list.len() > VARIANTS_MAX {
        return Err(Problem::field("variants", format!("must have at most {VARIANTS_MAX} entries")));
    }
    Ok(Some(list))
}

fn set_variants(transaction: &Transaction, experiment_id: &Id, list: Vec<VariantInput>) -> Result<()> {
    transaction.execute("DELETE FROM prompt_variants WHERE experiment_id = $1", params![experiment_id])?;
    for input in list {
        let variant = Variant {
            experiment_id: experiment_id.clone(),
            name: input.name,
            version_id: input.version_id,
            custom_content: input.custom_content,
            weight: input.weight,
            is_control: input.is_control,
        };
        entity::create(transaction, variant)?;
    }
    Ok(())
}

/// An experiment with its variants.
fn shown(database: &dyn Executor, row: &Stored<Experiment>) -> Result<Value> {
    let mut shown = row.shown();
    let variants = variants(database, &row.id)?;
    shown.insert("variants".into(), variants.iter().map(|variant| Value::Object(variant.shown())).collect());
    Ok(Value::Object(shown))
}

fn answer(status: u16, row: &Stored<Experiment>) -> Result<Response> {
    Ok(Response::json(status, &shown(&Pool, row)?)?.with_version(row.version))
}

fn list(query: PageQuery) -> Result<JsonText<Page<Stored<Experiment>>>> {
    Select::<Experiment>::new().page(&Pool, &query)
}

fn create(Json(mut fields): Json<Map<String, Value>>) -> Result<Response> {
    let list = take_variants(&mut fields)?;
    // The prompt may be named as everywhere else.
    if let Some(id) = fields.get("promptId").and_then(Value::as_str) {
        let prompt = prompt::named(&Pool, id)?;
        fields.insert("promptId".into(), json!(prompt.id));
    }
    let row = prompt::transaction(|transaction| {
        let row = entity::create_from::<Experiment>(transaction, fields)?;
        set_variants(transaction, &row.id, list.unwrap_or_default())?;
        Ok::<_, Problem>(row)
    })?;
    answer(201, &row)
}

fn read(Params(id): Params<Id>) -> Result<Response> {
    answer(200, &entity::read::<Experiment>(&Pool, &id)?)
}

fn update(Params(id): Params<Id>, if_match: IfMatch, Json(mut fields): Json<Map<String, Value>>) -> Result<Response> {
    let list = take_variants(&mut fields)?;
    let row = prompt::transaction(|transaction| {
        let row = entity::update::<Experiment>(transaction, &id, &fields, if_match)?;
        if let Some(list) = list {
            if row.status != ExperimentStatus::Draft {
                return Err(Problem::conflict("The variants cannot change once it has begun."));
            }
            set_variants(transaction, &row.id, list)?;
        }
        Ok(row)
    })?;
    resolve::forget_id(&row.prompt_id);
    answer(200, &row)
}

fn remove(Params(id): Params<Id>, if_match: IfMatch) -> Result<NoContent> {
    prompt::transaction(|transaction| entity::delete::<Experiment>(transaction, &id, if_match))?;
    Ok(NoContent)
}

/// Changes the status, and what else `change` does, in one transaction.
fn step(
    id: &Id,
    if_match: IfMatch,
    change: impl FnOnce(&Transaction, &mut Stored<Experiment>) -> Result<()>,
) -> Result<Response> {
    let row = prompt::transaction(|transaction| {
        let mut row = entity::read::<Experiment>(transaction, id)?;
        if_match.check(row.version)?;
        change(transaction, &mut row)?;
        entity::save(transaction, &mut row)?;
        Ok::<_, Problem>(row)
    });
    let row = row.map_err(|problem| {
        // The database holds it too: of two that start at once, one gets here.
        let is_second = problem.status == 409 && problem.detail.contains("prompt_experiments_running");
        if is_second { another_runs() } else { problem }
    })?;
    resolve::forget_id(&row.prompt_id);
    answer(200, &row)
}

fn another_runs() -> Problem {
    Problem::conflict("Another experiment with this prompt is running.").with_code("EXPERIMENT_RUNNING")
}

fn wrong(status: ExperimentStatus, what: &str) -> Problem {
    Problem::conflict(format!("It is {status} and cannot be {what}.")).with_code("ILLEGAL_TRANSITION")
}

fn facts(row: &Stored<Experiment>) -> Value {
    json!({
        "id": row.id, "experimentId": row.id, "promptId": row.prompt_id, "name": row.name, "status": row.status,
        "winningVariantId": row.winning_variant_id,
    })
}

fn tell(transaction: &Transaction, kind: &str, row: &Stored<Experiment>) -> Result<()> {
    let facts = prompt::with_reach_of(transaction, &row.prompt_id, facts(row))?;
    transaction.send(&events::Message::new(kind, &facts)?.with_key(row.id.as_str()))?;
    Ok(())
}

fn start(Params(id): Params<Id>, if_match: IfMatch) -> Result<Response> {
    step(&id, if_match, |transaction, row| {
        if !matches!(row.status, ExperimentStatus::Draft | ExperimentStatus::Paused) {
            return Err(wrong(row.status, "started"));
        }
        check(transaction, &row.prompt_id, &variants(transaction, &row.id)?)?;
        let others = Select::<Experiment>::new()
            .equal("prompt_id", &row.prompt_id)
            .equal("status", ExperimentStatus::Running)
            .count(transaction)?;
        if others > 0 {
            return Err(another_runs());
        }
        row.status = ExperimentStatus::Running;
        row.start_date.get_or_insert(clock::now());
        tell(transaction, "prompt.experiment.started", row)
    })
}

fn pause(Params(id): Params<Id>, if_match: IfMatch) -> Result<Response> {
    step(&id, if_match, |_, row| {
        if row.status != ExperimentStatus::Running {
            return Err(wrong(row.status, "paused"));
        }
        row.status = ExperimentStatus::Paused;
        Ok(())
    })
}

/// Ends it. One that has run is COMPLETED with what was found; one that has not is CANCELLED.
fn stop(Params(id): Params<Id>, if_match: IfMatch) -> Result<Response> {
    step(&id, if_match, |transaction, row| match row.status {
        ExperimentStatus::Draft => {
            row.status = ExperimentStatus::Cancelled;
            Ok(())
        }
        ExperimentStatus::Running | ExperimentStatus::Paused => {
            row.winning_variant_id = results::of(transaction, row)?.winner;
            row.status = ExperimentStatus::Completed;
            row.end_date = Some(clock::now());
            tell(transaction, "prompt.experiment.completed", row)
        }
        ExperimentStatus::Completed | ExperimentStatus::Cancelled => Err(wrong(row.status, "stopped")),
    })
}

/// Which variant is published.
#[data]
#[derive(Default)]
struct PromoteInput {
    /// The winner when absent; without a winner somebody has to choose.
    variant_id: Option<Id>,
}

fn promote(Params(id): Params<Id>, input: Option<Json<PromoteInput>>) -> Result<Stored<Version>> {
    let wanted = input.and_then(|Json(input)| input.variant_id);
    let (prompt, version) = prompt::transaction(|transaction| {
        let row = entity::read::<Experiment>(transaction, &id)?;
        if row.status != ExperimentStatus::Completed {
            return Err(wrong(row.status, "promoted"));
        }
        let variant_id = wanted.or_else(|| row.winning_variant_id.clone()).ok_or_else(|| {
            Problem::conflict("It has no winner; name the variant to publish in variantId.").with_code("INCONCLUSIVE")
        })?;
        let variant = entity::read::<Variant>(transaction, &variant_id)?;
        if variant.experiment_id != row.id {
            return Err(Problem::missing("variant"));
        }
        let mut prompt = entity::read::<Prompt>(transaction, &row.prompt_id)?;
        prompt::require_writable(&prompt)?;
        let number = match (&variant.version_id, &variant.custom_content) {
            (Some(version_id), _) => entity::read::<Version>(transaction, version_id)?.data.version,
            (None, Some(content)) => {
                let notes = format!("Variant {} of the experiment {}.", variant.name, row.name);
                let new = NewVersion { change_notes: Some(notes), ..NewVersion::of(content.clone()) };
                version::add(transaction, &prompt, new)?.data.version
            }
            (None, None) => return Err(Problem::conflict("The variant has no text.")),
        };
        let version = version::publish(transaction, &mut prompt, number)?;
        Ok((prompt, version))
    })?;
    resolve::forget(&prompt);
    Ok(version)
}

fn read_results(Params(id): Params<Id>) -> Result<Json<Results>> {
    let row = entity::read::<Experiment>(&Pool, &id)?;
    Ok(Json(results::of(&Pool, &row)?))
}
