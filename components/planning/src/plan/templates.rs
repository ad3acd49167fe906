//! Templates: plans with blanks.

use berth_sdk::{
    prelude::*,
    serde_json::{self, Map, Value},
};
use plan_rules::NewStep;

/// A template as it is shown.
#[data]
pub(crate) struct Template {
    /// Names it in `POST /api/plans`.
    name: String,
    title: String,
    description: String,
    /// The names for `templateParameters`, all needed.
    parameters: Vec<String>,
    /// Steps with `{{name}}` in their texts.
    steps: Vec<Value>,
}

/// A template with its blanks filled.
pub(crate) struct Filled {
    pub title: String,
    pub steps: Vec<NewStep>,
}

/// `GET /api/plans/templates`.
pub(crate) fn list() -> Json<Page<Template>> {
    let items = all();
    let total = i64::try_from(items.len()).unwrap_or(i64::MAX);
    Json(PageQuery::default().envelope(items, total))
}

/// Fills the blanks of a template; 400 when it is unknown or a text is missing.
pub(crate) fn fill(name: &str, texts: Option<&Map<String, Value>>) -> Result<Filled> {
    let template = all().into_iter().find(|template| template.name == name).ok_or_else(|| {
        let names: Vec<String> = all().into_iter().map(|template| template.name).collect();
        Problem::field("template", format!("must be one of {}", names.join(", ")))
    })?;
    let mut faults = Faults::default();
    let mut filled = Vec::new();
    for parameter in &template.parameters {
        match texts.and_then(|texts| texts.get(parameter)).and_then(Value::as_str) {
            Some(text) => filled.push((format!("{{{{{parameter}}}}}"), text)),
            None => faults.add(format!("templateParameters.{parameter}"), "must be a text"),
        }
    }
    faults.finish()?;
    let steps = template.steps.into_iter().map(|mut step| {
        replace(&mut step, &filled);
        step
    });
    let steps = serde_json::from_value(steps.collect()).map_err(|_| Problem::internal())?;
    let mut title = Value::String(template.title);
    replace(&mut title, &filled);
    Ok(Filled { title: title.as_str().unwrap_or_default().to_string(), steps })
}

/// Puts texts in place of blanks, in texts only: a filled text is never read as JSON or as another blank.
fn replace(value: &mut Value, filled: &[(String, &str)]) {
    match value {
        Value::String(text) => {
            let mut rest = text.as_str();
            let mut made = String::with_capacity(text.len());
            while let Some((at, blank, with)) = filled
                .iter()
                .filter_map(|(blank, with)| rest.find(blank.as_str()).map(|at| (at, blank, with)))
                .min_by_key(|(at, ..)| *at)
            {
                made.push_str(rest.get(..at).unwrap_or_default());
                made.push_str(with);
                rest = rest.get(at + blank.len()..).unwrap_or_default();
            }
            made.push_str(rest);
            *text = made;
        }
        Value::Array(entries) => entries.iter_mut().for_each(|entry| replace(entry, filled)),
        Value::Object(members) => members.values_mut().for_each(|member| replace(member, filled)),
        _ => {}
    }
}

fn all() -> Vec<Template> {
    let template = |name: &str, title: &str, description: &str, parameters: &[&str], steps: Value| Template {
        name: name.into(),
        title: title.into(),
        description: description.into(),
        parameters: parameters.iter().map(ToString::to_string).collect(),
        steps: steps.as_array().cloned().unwrap_or_default(),
    };
    vec![
        template(
            "add-file",
            "Add {{path}}",
            "Makes a file and checks that it is there.",
            &["path", "content"],
            json!([
                { "title": "Create the file", "type": "file_create", "params": { "path": "{{path}}", "content": "{{content}}" } },
                { "title": "Check the file", "type": "validation", "params": { "assertions": [{ "kind": "exists", "path": "{{path}}" }] } },
            ]),
        ),
        template(
            "replace-text",
            "Change {{path}}",
            "Replaces a text in a file and checks that the new one is there.",
            &["path", "search", "replace"],
            json!([
                { "title": "Change the file", "type": "file_edit", "params": { "path": "{{path}}", "search": "{{search}}", "replace": "{{replace}}" } },
                { "title": "Check the file", "type": "validation", "params": { "assertions": [{ "kind": "contains", "path": "{{path}}", "value": "{{replace}}" }] } },
            ]),
        ),
        template(
            "ask-then-add-file",
            "Add {{path}} after a review",
            "Asks a person, then makes a file and checks it.",
            &["message", "path", "content"],
            json!([
                { "title": "Ask", "type": "human", "params": { "message": "{{message}}" } },
                { "title": "Create the file", "type": "file_create", "params": { "path": "{{path}}", "content": "{{content}}" } },
                { "title": "Check the file", "type": "validation", "params": { "assertions": [{ "kind": "exists", "path": "{{path}}" }] } },
            ]),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use berth_sdk::{json, prelude::*};
    use plan_rules::{checks, resolve};

    use super::{all, fill};

    #[test]
    fn every_template_becomes_a_valid_plan() {
        for template in all() {
            let texts = template.parameters.iter().map(|name| (name.clone(), json!(format!("some-{name}")))).collect();
            let steps = resolve(fill(&template.name, Some(&texts)).unwrap().steps, |_| false).unwrap();
            assert!(checks::check(&[], &steps).is_valid, "{}", template.name);
        }
    }

    #[test]
    fn a_filled_text_is_not_filled_again() {
        let texts = json!({"path": "{{content}}", "content": "\"}{{path}}"});
        let steps = fill("add-file", texts.as_object()).unwrap().steps;
        assert_eq!(steps[0].params, json!({"path": "{{content}}", "content": "\"}{{path}}"}));
    }

    #[test]
    fn a_missing_text_is_named() {
        let problem: Problem = fill("add-file", None).err().unwrap();
        let fields: Vec<&str> = problem.errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, ["templateParameters.path", "templateParameters.content"]);
        assert_eq!(fill("nothing", None).err().unwrap().errors[0].field, "template");
    }
}
