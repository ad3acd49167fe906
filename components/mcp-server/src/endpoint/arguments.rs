//! A route's parameters and body as the arguments of a tool, and the other way round. Pure rules.

use berth_sdk::{
    http_out::{self, Call},
    prelude::*,
    serde_json::{Map, Value},
};

use super::catalogue::Operation;

/// Characters of a value in a path.
const SEGMENT_CHARS_MAX: usize = 300;
/// Words of a schema under which members can be put beside others.
const SIMPLE: [&str; 8] =
    ["type", "properties", "required", "title", "description", "additionalProperties", "$schema", "examples"];

/// How the body goes with the other arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// There is none.
    None,
    /// The arguments are the body.
    Whole,
    /// Its members stand beside path and query.
    Beside,
    /// It is the argument `body`.
    Apart,
}

fn form(operation: &Operation) -> Form {
    let Some(body) = &operation.body else { return Form::None };
    let is_object = body.get("type").and_then(Value::as_str) == Some("object");
    let others: Vec<&str> = operation
        .in_path
        .iter()
        .map(String::as_str)
        .chain(operation.in_query.iter().map(|(name, ..)| name.as_str()))
        .collect();
    if others.is_empty() || operation.is_native {
        return if is_object { Form::Whole } else { Form::Apart };
    }
    let members = body.get("properties").and_then(Value::as_object);
    let is_simple =
        is_object && body.as_object().into_iter().flatten().all(|(word, _)| SIMPLE.contains(&word.as_str()));
    let is_apart = members.into_iter().flatten().any(|(name, _)| others.contains(&name.as_str()));
    if is_simple && !is_apart { Form::Beside } else { Form::Apart }
}

/// What the tool takes.
pub fn schema(operation: &Operation) -> Value {
    let form = form(operation);
    if let (Form::Whole, Some(body)) = (form, &operation.body) {
        return body.clone();
    }
    let mut properties = Map::new();
    let mut required: Vec<String> = Vec::new();
    for name in &operation.in_path {
        properties.insert(
            name.clone(),
            json!({ "type": "string", "minLength": 1, "description": format!("The {name} in {}.", operation.path) }),
        );
        required.push(name.clone());
    }
    for (name, schema, is_required) in &operation.in_query {
        properties.insert(name.clone(), schema.clone());
        if *is_required {
            required.push(name.clone());
        }
    }
    let mut whole = Map::new();
    whole.insert("type".into(), "object".into());
    match (form, &operation.body) {
        (Form::Beside, Some(body)) => {
            for (name, schema) in body.get("properties").and_then(Value::as_object).into_iter().flatten() {
                properties.insert(name.clone(), schema.clone());
            }
            let names = body.get("required").and_then(Value::as_array);
            required.extend(names.into_iter().flatten().filter_map(Value::as_str).map(ToString::to_string));
        }
        (Form::Apart, Some(body)) => {
            let mut body = body.clone();
            // What it refers to is looked for from the root.
            if let Some(definitions) = body.as_object_mut().and_then(|members| members.remove("$defs")) {
                whole.insert("$defs".into(), definitions);
            }
            properties.insert("body".into(), body);
            required.push("body".into());
        }
        _ => {}
    }
    whole.insert("properties".into(), Value::Object(properties));
    if !required.is_empty() {
        whole.insert("required".into(), json!(required));
    }
    Value::Object(whole)
}

/// What the tool says of itself.
pub fn hints(operation: &Operation) -> Value {
    let method = operation.method.as_str();
    json!({
        "readOnlyHint": method == "GET", "destructiveHint": method == "DELETE",
        "idempotentHint": matches!(method, "GET" | "PUT" | "DELETE"), "openWorldHint": false,
    })
}

/// Where the arguments lead, without a body.
///
/// # Errors
/// In words, for whoever called the tool.
pub fn address(operation: &Operation, arguments: &Map<String, Value>) -> Result<Call, String> {
    let mut segments = Vec::new();
    for segment in operation.path.split('/') {
        match super::catalogue::parameter(segment) {
            None => segments.push(segment.to_string()),
            Some(name) => {
                let value = arguments.get(name).and_then(plain).ok_or_else(|| format!("{name}: is required"))?;
                segments.push(segment_of(name, &value)?);
            }
        }
    }
    let mut call = http_out::plugin(&operation.plugin).request(&operation.method, &segments.join("/"));
    for (name, ..) in &operation.in_query {
        let text = match arguments.get(name) {
            None | Some(Value::Null) => continue,
            Some(Value::Array(entries)) => entries.iter().filter_map(plain).collect::<Vec<_>>().join(","),
            Some(value) => plain(value).ok_or_else(|| format!("{name}: must be a text, a number or true or false"))?,
        };
        call = call.query(name, &text);
    }
    Ok(call)
}

/// The call that the arguments describe.
///
/// # Errors
/// In words, for whoever called the tool.
pub fn call(operation: &Operation, arguments: &Map<String, Value>) -> Result<Call, String> {
    let call = address(operation, arguments)?;
    let is_other = |name: &str| {
        operation.in_path.iter().any(|known| known == name)
            || operation.in_query.iter().any(|(known, ..)| known == name)
    };
    Ok(match form(operation) {
        Form::None => call,
        Form::Whole => call.json(&arguments),
        Form::Apart => call.json(&arguments.get("body").cloned().unwrap_or_else(|| json!({}))),
        Form::Beside => {
            let body: Map<String, Value> = arguments
                .iter()
                .filter(|(name, _)| !is_other(name))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            call.json(&body)
        }
    })
}

fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

/// A value as one segment of a path: it cannot become two, or a step upwards.
fn segment_of(name: &str, value: &str) -> Result<String, String> {
    let is_odd = value.is_empty() || value == "." || value == ".." || value.chars().count() > SEGMENT_CHARS_MAX;
    if is_odd || value.contains(['/', '\\', '?', '#', '%']) || value.chars().any(char::is_control) {
        return Err(format!("{name}: cannot stand in a path"));
    }
    let mut text = String::new();
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:@!$&'()*+,;=".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(path: &str, in_query: &[&str], body: Option<Value>) -> Operation {
        Operation {
            name: "x".into(),
            method: if body.is_some() { "POST".into() } else { "GET".into() },
            path: path.into(),
            plugin: "planning".into(),
            summary: String::new(),
            permission: None,
            in_path: path.split('/').filter_map(super::super::catalogue::parameter).map(Into::into).collect(),
            in_query: in_query.iter().map(|name| ((*name).into(), json!({"type": "string"}), false)).collect(),
            body,
            is_streaming: false,
            is_native: false,
        }
    }

    fn made(operation: &Operation, arguments: Value) -> Result<(String, String), String> {
        let call = call(operation, arguments.as_object().unwrap())?;
        Ok((call.url.replace("http://planning.internal", ""), String::from_utf8(call.body).unwrap()))
    }

    #[test]
    fn arguments_find_their_places() {
        let body = json!({"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]});
        let one = operation("/api/plans/{id}/steps", &["q"], Some(body.clone()));
        assert_eq!(schema(&one)["required"], json!(["id", "title"]));
        let (url, sent) = made(&one, json!({"id": "a b", "q": "x&y", "title": "T", "more": 1})).unwrap();
        assert_eq!((url.as_str(), sent.as_str()), ("/api/plans/a%20b/steps?q=x%26y", "{\"title\":\"T\",\"more\":1}"));
        let whole = operation("/api/plans", &[], Some(body.clone()));
        assert_eq!(schema(&whole), body);
        assert_eq!(made(&whole, json!({"title": "T"})).unwrap().1, "{\"title\":\"T\"}");
        let odd = json!({"$defs": {"x": {}}, "anyOf": [{"$ref": "#/$defs/x"}]});
        let apart = operation("/api/plans/{id}", &[], Some(odd));
        assert!(schema(&apart)["$defs"]["x"].is_object() && schema(&apart)["properties"]["body"]["anyOf"].is_array());
        assert_eq!(made(&apart, json!({"id": "1", "body": {"a": 1}})).unwrap().1, "{\"a\":1}");
        let list = operation("/api/plans", &["status", "limit"], None);
        assert_eq!(
            made(&list, json!({"status": ["a", "b"], "limit": 5})).unwrap().0,
            "/api/plans?status=a%2Cb&limit=5"
        );
    }

    #[test]
    fn a_value_stays_one_segment() {
        let one = operation("/api/plans/{id}", &[], None);
        for id in ["", ".", "..", "a/b", "a?b", "a%2fb", "a#b", "a\\b", "a\nb"] {
            assert!(made(&one, json!({"id": id})).is_err(), "{id:?}");
        }
        assert!(made(&one, json!({})).unwrap_err().contains("id"));
        assert_eq!(made(&one, json!({"id": "ü:1"})).unwrap().0, "/api/plans/%C3%BC:1");
    }
}
