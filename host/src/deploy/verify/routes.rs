//! Described routes against the slot: paths under its prefixes, methods, permissions, public routes, JSON Schemas.

use std::collections::HashSet;

use super::Depth;
use crate::bindings::lifecycle::{Description, Route};
use crate::deploy::SlotOptions;
use crate::deploy::pattern::{METHODS, PathPattern};

/// Routes of one component.
const ROUTES_MAX: usize = 500;
/// Answers and query parameters of one route, each.
const PARTS_MAX: usize = 64;
/// Bytes of one JSON Schema.
const SCHEMA_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a summary, a tag or a description.
const TEXT_BYTES_MAX: usize = 2_000;

pub(super) fn judge(options: &SlotOptions, description: &Description, depth: Depth, faults: &mut Vec<String>) {
    if description.routes.len() > ROUTES_MAX {
        faults.push(format!("it describes more than {ROUTES_MAX} routes"));
        return;
    }
    let mut seen = HashSet::new();
    for route in &description.routes {
        let mut found = Vec::new();
        judge_place(options, route, &mut seen, &mut found);
        judge_access(route, &mut found);
        judge_parts(route, depth, &mut found);
        let label = format!("{} {}", short(&route.method), short(&route.path));
        faults.extend(found.into_iter().map(|fault| format!("route {label}: {fault}")));
    }
}

fn judge_place(
    options: &SlotOptions,
    route: &Route,
    seen: &mut HashSet<(String, PathPattern)>,
    faults: &mut Vec<String>,
) {
    if !METHODS.contains(&route.method.as_str()) {
        faults.push(format!("the method is not one of {}", METHODS.join(", ")));
    }
    let pattern = match PathPattern::parse(&route.path) {
        Ok(pattern) => pattern,
        Err(fault) => return faults.push(fault),
    };
    if !options.prefixes.iter().any(|prefix| prefix.covers(&route.path)) {
        let own: Vec<&str> = options.prefixes.iter().map(crate::deploy::Prefix::as_str).collect();
        faults.push(format!("it lies outside the plugin's routes ({})", own.join(", ")));
    }
    if route.is_public && !options.public.iter().any(|public| public.lists(&route.method, &pattern)) {
        faults.push("it is described as public, but `public` in plugins.toml does not list it".into());
    }
    if !seen.insert((route.method.clone(), pattern)) {
        faults.push("it is described twice".into());
    }
}

fn judge_access(route: &Route, faults: &mut Vec<String>) {
    let Some(permission) = &route.permission else { return };
    if route.is_public {
        faults.push("it is public and demands a permission".into());
    }
    let is_code = permission.len() <= 128
        && permission.split('.').count() == 3
        && permission.split('.').all(|segment| {
            !segment.is_empty()
                && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        });
    if !is_code {
        faults.push(format!("the permission `{}` does not read module.resource.action", short(permission)));
    }
}

fn judge_parts(route: &Route, depth: Depth, faults: &mut Vec<String>) {
    if route.parameters.len() > PARTS_MAX || route.answers.len() > PARTS_MAX {
        faults.push(format!("it has more than {PARTS_MAX} query parameters or answers"));
        return;
    }
    if route.summary.len() > TEXT_BYTES_MAX || route.tag.len() > TEXT_BYTES_MAX {
        faults.push(format!("its summary or tag is longer than {TEXT_BYTES_MAX} bytes"));
    }
    if let Some(answer) = route.answers.iter().find(|answer| !(100..=599).contains(&answer.status)) {
        faults.push(format!("an answer has the status {}", answer.status));
    }
    let media_types = route.answers.iter().filter_map(|answer| answer.media_type.as_deref());
    for media_type in media_types.chain(route.request_media_type.as_deref()).filter(|text| !is_media_type(text)) {
        faults.push(format!("`{}` is no media type", short(media_type)));
    }
    if depth == Depth::AgainstManifest {
        return;
    }
    let request = route.request_schema.iter().map(|schema| ("the request".to_owned(), schema));
    let answers = route
        .answers
        .iter()
        .filter_map(|answer| answer.schema.as_ref().map(|schema| (format!("the answer {}", answer.status), schema)));
    let parameters =
        route.parameters.iter().map(|parameter| (format!("`{}`", short(&parameter.name)), &parameter.schema));
    for (what, schema) in request.chain(answers).chain(parameters) {
        if let Err(fault) = judge_schema(schema) {
            faults.push(format!("the JSON Schema of {what} {fault}"));
        }
    }
}

fn judge_schema(text: &str) -> Result<(), String> {
    if text.len() > SCHEMA_BYTES_MAX {
        return Err(format!("is larger than {SCHEMA_BYTES_MAX} bytes"));
    }
    let schema: serde_json::Value = serde_json::from_str(text).map_err(|error| format!("is no JSON: {error}"))?;
    if !(schema.is_object() || schema.is_boolean()) {
        return Err("is neither an object nor a boolean".into());
    }
    jsonschema::validator_for(&schema).map(drop).map_err(|error| format!("is not valid: {}", short(&error.to_string())))
}

fn is_media_type(text: &str) -> bool {
    text.len() <= 128
        && text.split(';').next().and_then(|kind| kind.split_once('/')).is_some_and(|(kind, subtype)| {
            let is_token = |token: &str| {
                !token.is_empty()
                    && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+*".contains(&byte))
            };
            is_token(kind) && is_token(subtype.trim_end())
        })
}

/// At most so much of a component's own words gets into a sentence, without control characters.
fn short(text: &str) -> String {
    text.chars().take(160).map(|character| if character.is_control() { '?' } else { character }).collect()
}
