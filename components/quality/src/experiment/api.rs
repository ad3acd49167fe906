//! The routes of experiments: one is read and written together with its variants.

use berth_sdk::{
    entity::Definition,
    http,
    prelude::*,
    schema,
    serde_json::{Map, Value},
};
use experiment_rules::Variants;

use super::{
    Experiment, ExperimentStatus, VARIANTS_MAX, Variant, assign, lifecycle, metric, read, results, running, variants,
};
use crate::project;

const PATH: &str = "/api/experiments";

/// The routes of experiments.
pub fn routes() -> Router {
    let row = format!("{PATH}/{{id}}");
    Router::new()
        .get(PATH, list)
        .summary("List experiments.")
        .post(PATH, create)
        .summary("Create an experiment with its variants.")
        .makes::<Experiment>()
        .takes::<WithVariants>()
        .answers::<Shown>(201)
        .get(&row, read_one)
        .summary("Read an experiment with its variants.")
        .answers::<Shown>(200)
        .put(&row, update)
        .summary("Update an experiment.")
        .changes::<Experiment>()
        .takes::<WithVariants>()
        .answers::<Shown>(200)
        .delete(&row, remove)
        .summary("Delete an experiment with everything that was measured.")
        .post(&format!("{row}/start"), lifecycle::start)
        .summary("Start an experiment.")
        .answers::<Shown>(200)
        .post(&format!("{row}/pause"), lifecycle::pause)
        .summary("Let nobody new in for now.")
        .answers::<Shown>(200)
        .post(&format!("{row}/resume"), lifecycle::resume)
        .summary("Let subjects in again.")
        .answers::<Shown>(200)
        .post(&format!("{row}/stop"), lifecycle::stop)
        .summary("End an experiment, or give up a draft.")
        .answers::<Shown>(200)
        .post(&format!("{row}/conclude"), lifecycle::conclude)
        .summary("Decide who has won.")
        .answers::<Shown>(200)
        .post(&format!("{row}/assign"), assign::assign)
        .summary("Say which variant a subject gets.")
        .post(&format!("{row}/metrics"), metric::record)
        .summary("Record what was measured: one value, or up to 1 000.")
        .get(&format!("{row}/results"), results::read)
        .summary("Read what an experiment shows.")
}

/// An experiment with its variants.
type Shown = schema::With<Stored<Experiment>, Variants<Stored<Variant>>>;

/// A variant, as it is given.
#[data]
struct VariantInput {
    /// For people.
    #[field(min = 1, max = 100, plain)]
    name: String,
    /// Its share of the total weight.
    #[field(default = 1, min = 0, max = 1_000_000)]
    weight: i64,
    /// What the others are compared with: exactly one.
    #[field(default = false)]
    is_control: bool,
    /// What programs make of it.
    #[field(default)]
    config: Map<String, Value>,
}

/// The largest configuration of a variant, as JSON.
const CONFIG_BYTES_MAX: usize = 16 * 1024;

#[data]
struct WithVariants {
    /// Two or more, one of them the control; a draft may do without.
    #[field(max = 20)]
    variants: Option<Vec<VariantInput>>,
}

/// What is wrong with a list of variants that is not empty.
fn shape(variants: &[(&str, i64, bool)], faults: &mut Faults) {
    if variants.len() < 2 {
        faults.add("variants", "must have at least two entries");
    }
    if variants.iter().filter(|(_, _, is_control)| *is_control).count() != 1 {
        faults.add("variants", "must have exactly one control");
    }
    if variants.iter().all(|(_, weight, _)| *weight <= 0) {
        faults.add("variants", "must have weights that sum to more than 0");
    }
    for (place, (name, ..)) in variants.iter().enumerate() {
        if variants.iter().take(place).any(|(other, ..)| other == name) {
            faults.add(format!("variants[{place}].name"), "is there twice");
        }
    }
}

/// 422 unless the stored variants make an experiment.
pub(super) fn require_shape(variants: &[Stored<Variant>]) -> Result<()> {
    let mut faults = Faults::default();
    let parts: Vec<_> = variants.iter().map(|row| (row.name.as_str(), row.weight, row.is_control)).collect();
    shape(&parts, &mut faults);
    match faults.errors().first() {
        None => Ok(()),
        Some(fault) => Err(Problem::unprocessable(format!("The {} {}.", fault.field, fault.message))
            .with_code("INVALID_EXPERIMENT")
            .with_errors(faults.errors().to_vec())),
    }
}

/// The variants of a body; what is wrong with them goes to `faults`.
fn take_variants(fields: &mut Map<String, Value>, faults: &mut Faults) -> Option<Vec<VariantInput>> {
    let list = fields.remove("variants")?;
    match http::read_value::<WithVariants>(json!({ "variants": list })) {
        Ok(WithVariants { variants }) => {
            let variants = variants?;
            if !variants.is_empty() {
                let parts: Vec<_> = variants
                    .iter()
                    .map(|variant| (variant.name.as_str(), variant.weight, variant.is_control))
                    .collect();
                shape(&parts, faults);
            }
            for (place, variant) in variants.iter().enumerate() {
                if json!(variant.config).to_string().len() > CONFIG_BYTES_MAX {
                    faults.add(
                        format!("variants[{place}].config"),
                        format!("must have at most {CONFIG_BYTES_MAX} bytes"),
                    );
                }
            }
            Some(variants)
        }
        Err(problem) => {
            faults.extend(problem.errors);
            None
        }
    }
}

fn set_variants(transaction: &Transaction, experiment_id: &Id, list: Vec<VariantInput>) -> Result<()> {
    transaction.execute("DELETE FROM experiment_variants WHERE experiment_id = $1", params![experiment_id])?;
    for VariantInput { name, weight, is_control, config } in list.into_iter().take(VARIANTS_MAX) {
        let experiment_id = experiment_id.clone();
        entity::create(
            transaction,
            Variant { experiment_id, name, weight, is_control, config: Value::Object(config) },
        )?;
    }
    Ok(())
}

/// An experiment with its variants, and its `ETag`.
pub(super) fn answer(status: u16, row: &Stored<Experiment>) -> Result<Response> {
    let mut shown = row.shown();
    let variants = variants(&Pool, &row.id)?;
    shown.insert("variants".into(), variants.iter().map(|variant| Value::Object(variant.shown())).collect());
    Ok(Response::json(status, &Value::Object(shown))?.with_version(row.version))
}

fn list(query: PageQuery) -> Result<JsonText<Page<Stored<Experiment>>>> {
    project::narrowed(Select::<Experiment>::new(), &query)?.page(&Pool, &query)
}

fn create(Json(mut fields): Json<Map<String, Value>>) -> Result<Response> {
    let mut faults = Faults::default();
    let list = take_variants(&mut fields, &mut faults);
    let experiment = read_fields(&mut fields, &mut faults)?;
    faults.finish()?;
    let experiment = experiment.ok_or_else(Problem::internal)?;
    project::require(experiment.project_id.as_ref(), "project")?;
    let row = database::transaction(|transaction| {
        let row = entity::create(transaction, experiment)?;
        set_variants(transaction, &row.id, list.unwrap_or_default())?;
        Ok::<_, Problem>(row)
    })?;
    answer(201, &row)
}

/// The experiment of a body, without what only the service sets; what is wrong with it goes to `faults`.
fn read_fields(fields: &mut Map<String, Value>, faults: &mut Faults) -> Result<Option<Experiment>> {
    let definition: &Definition = Experiment::DEFINITION;
    for field in definition.fields.iter().filter(|field| field.access == entity::Access::Readonly) {
        fields.remove(field.name);
    }
    match http::read_value::<Experiment>(Value::Object(std::mem::take(fields))) {
        Ok(experiment) => {
            experiment.check(faults);
            Ok(Some(experiment))
        }
        Err(problem) if problem.errors.is_empty() => Err(problem),
        Err(problem) => {
            faults.extend(problem.errors);
            Ok(None)
        }
    }
}

fn read_one(Params(id): Params<Id>) -> Result<Response> {
    answer(200, &read(&id)?)
}

fn update(Params(id): Params<Id>, if_match: IfMatch, Json(mut fields): Json<Map<String, Value>>) -> Result<Response> {
    read(&id)?;
    let mut faults = Faults::default();
    let list = take_variants(&mut fields, &mut faults);
    faults.finish()?;
    let row = database::transaction(|transaction| {
        let before = entity::read::<Experiment>(transaction, &id)?.version;
        let mut row = entity::update::<Experiment>(transaction, &id, &fields, if_match)?;
        if let Some(list) = list {
            if row.status != ExperimentStatus::Draft {
                return Err(Problem::conflict(format!("It is {}: its variants are frozen.", row.status))
                    .with_code("EXPERIMENT_FROZEN"));
            }
            set_variants(transaction, &row.id, list)?;
            if row.version == before {
                // Whoever starts it at the same time must notice.
                entity::save(transaction, &mut row)?;
            }
        }
        transaction.forget(running::key(&id));
        Ok(row)
    })?;
    answer(200, &row)
}

fn remove(Params(id): Params<Id>, if_match: IfMatch) -> Result<NoContent> {
    read(&id)?;
    database::transaction(|transaction| entity::delete::<Experiment>(transaction, &id, if_match))?;
    Ok(NoContent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(variants: Value) -> Vec<String> {
        let mut faults = Faults::default();
        let mut fields = Map::from_iter([("variants".to_string(), variants)]);
        take_variants(&mut fields, &mut faults);
        faults.errors().iter().map(|error| format!("{} {}", error.field, error.message)).collect()
    }

    #[test]
    fn variants_make_an_experiment_or_are_refused() {
        assert!(faults(json!([{"name": "a", "isControl": true}, {"name": "b", "weight": 0}])).is_empty());
        assert!(faults(json!([])).is_empty(), "a draft may be without");
        assert_eq!(faults(json!([{"name": "a", "isControl": true}])), ["variants must have at least two entries"]);
        let wrong = faults(json!([{"name": "a", "weight": 0}, {"name": "a", "weight": 0}]));
        assert_eq!(
            wrong,
            [
                "variants must have exactly one control",
                "variants must have weights that sum to more than 0",
                "variants[1].name is there twice"
            ]
        );
        assert_eq!(faults(json!([{"weight": -1}])).len(), 2, "a name is missing, and the weight is wrong");
        assert!(faults(json!("x"))[0].starts_with("variants "));
        assert!(
            faults(Value::from_iter((0..21).map(|n| json!({"name": format!("v{n}"), "isControl": n == 0}))))[0]
                .contains("20")
        );
    }
}
