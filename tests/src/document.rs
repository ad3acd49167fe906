//! The API's document as a test walks it: its operations, and a body that fits a schema.

use serde_json::{Map, Value, json};

/// Schemas within schemas that are followed.
const DEPTH_MAX: u32 = 12;

/// One method of one path.
#[derive(Clone, Debug)]
pub struct Operation {
    pub method: String,
    /// As it stands in the document, with `{id}`.
    pub path: String,
    pub is_public: bool,
    pub permission: Option<String>,
    /// The whole operation.
    pub description: Value,
}

/// Every operation of a document, in its order.
#[must_use]
pub fn operations(document: &Value) -> Vec<Operation> {
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().into_iter().flatten() {
        for (method, description) in item.as_object().into_iter().flatten() {
            found.push(Operation {
                method: method.to_ascii_uppercase(),
                path: path.clone(),
                is_public: description["security"].as_array().is_some_and(Vec::is_empty),
                permission: description["x-permission"].as_str().map(str::to_owned),
                description: description.clone(),
            });
        }
    }
    found
}

impl Operation {
    /// `GET /api/plans/{id}`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// The path with every parameter replaced by `value`.
    #[must_use]
    pub fn path_with(&self, value: &str) -> String {
        let fill = |segment: &str| if segment.starts_with('{') { value.to_owned() } else { segment.to_owned() };
        self.path.split('/').map(fill).collect::<Vec<_>>().join("/")
    }

    /// How many parameters the path has.
    #[must_use]
    pub fn parameters(&self) -> usize {
        self.path.split('/').filter(|segment| segment.starts_with('{')).count()
    }

    /// Whether the caller has to send more than the path: a query that must be there.
    #[must_use]
    pub fn needs_query(&self) -> bool {
        let parameters = self.description["parameters"].as_array();
        parameters.into_iter().flatten().any(|one| one["in"] == "query" && one["required"] == true)
    }

    /// Whether its query has this parameter.
    #[must_use]
    pub fn takes(&self, name: &str) -> bool {
        let parameters = self.description["parameters"].as_array();
        parameters.into_iter().flatten().any(|one| one["in"] == "query" && one["name"] == name)
    }

    /// The schema of its JSON body; none where it has no body or another kind of it.
    #[must_use]
    pub fn body_schema(&self) -> Option<&Value> {
        self.description.pointer("/requestBody/content/application~1json/schema")
    }

    /// Whether it takes a body at all.
    #[must_use]
    pub fn has_body(&self) -> bool {
        self.description.get("requestBody").is_some()
    }

    /// A body that its schema allows, as small as it can be.
    #[must_use]
    pub fn body(&self, seed: usize) -> Option<Value> {
        derive(self.body_schema()?, seed, 0)
    }
}

/// A small value that a schema allows; none where only a person could think of one.
fn derive(schema: &Value, seed: usize, depth: u32) -> Option<Value> {
    if depth > DEPTH_MAX {
        return None;
    }
    let rules = match schema {
        Value::Object(rules) => rules,
        _ => return Some(json!({})),
    };
    if let Some(value) = rules.get("const").or_else(|| rules.get("example")).or_else(|| rules.get("examples")?.get(0)) {
        return Some(value.clone());
    }
    if let Some(value) = rules.get("enum").and_then(|values| values.get(0)) {
        return Some(value.clone());
    }
    if let Some(alternatives) = rules.get("oneOf").or_else(|| rules.get("anyOf")).and_then(Value::as_array) {
        return alternatives.iter().find_map(|one| derive(one, seed, depth + 1));
    }
    if let Some(parts) = rules.get("allOf").and_then(Value::as_array) {
        return parts.first().and_then(|one| derive(one, seed, depth + 1));
    }
    let kind = match rules.get("type") {
        Some(Value::Array(kinds)) => kinds.first().and_then(Value::as_str),
        Some(kind) => kind.as_str(),
        None => rules.get("properties").map(|_| "object"),
    };
    match kind {
        Some("object") => object(rules, seed, depth),
        Some("array") => {
            let count = number(rules, "minItems").unwrap_or(0.0) as usize;
            let item = rules.get("items").cloned().unwrap_or_default();
            (0..count).map(|index| derive(&item, seed + index, depth + 1)).collect::<Option<Vec<_>>>().map(Value::from)
        }
        Some("string") => text(rules, seed).map(Value::from),
        Some("integer") => Some(json!(number(rules, "minimum").unwrap_or(1.0) as i64)),
        Some("number") => Some(json!(number(rules, "minimum").unwrap_or(1.0))),
        Some("boolean") => Some(json!(false)),
        Some("null") => Some(Value::Null),
        _ => Some(json!({})),
    }
}

fn object(rules: &Map<String, Value>, seed: usize, depth: u32) -> Option<Value> {
    let mut object = Map::new();
    for name in rules.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        let schema = rules.get("properties").and_then(|properties| properties.get(name)).cloned().unwrap_or_default();
        object.insert(name.to_owned(), derive(&schema, seed, depth + 1)?);
    }
    Some(Value::Object(object))
}

fn text(rules: &Map<String, Value>, seed: usize) -> Option<String> {
    match rules.get("format").and_then(Value::as_str) {
        Some("email") => return Some(format!("somebody-{seed}@example.com")),
        Some("uri") => return Some("https://example.com/".to_owned()),
        Some("date-time") => return Some("2030-01-02T03:04:05.000Z".to_owned()),
        Some("date") => return Some("2030-01-02".to_owned()),
        Some("uuid") => return Some("01900000-0000-7000-8000-000000000000".to_owned()),
        _ => {}
    }
    let least = number(rules, "minLength").unwrap_or(1.0).max(1.0) as usize;
    let word = format!("word{seed}");
    let text = if word.len() >= least { word } else { format!("{word}{}", "x".repeat(least - word.len())) };
    match rules.get("pattern").and_then(Value::as_str) {
        // Every pattern of an id, a slug or a key allows a plain word, and so does one that only shuts characters out;
        // anything finer needs an example in the schema.
        Some(pattern) if !pattern.contains("a-z") && !pattern.contains("A-Za-z") && !pattern.starts_with("[^") => None,
        _ => Some(text),
    }
}

fn number(rules: &Map<String, Value>, name: &str) -> Option<f64> {
    rules.get(name).and_then(Value::as_f64)
}
