//! What is known of a route.

use serde_json::Value;

use crate::schema::join;

/// Makes a JSON Schema; called only when the component describes itself.
pub(crate) type MakeSchema = fn() -> Value;

/// The word in the schema of a row under which [`crate::entity`] says what lists of it are sorted and filtered by. It is
/// for [`Route::parameters`] and never leaves the component.
pub(crate) const LIST_WORD: &str = "x-berth-list";

/// Who may call a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Whoever holds the permission derived from path and method: see [`Route::permission`].
    Derived,
    /// Whoever holds this one.
    Permission(String),
    /// Any signed-in caller.
    SignedIn,
    /// Everybody.
    Public,
}

/// One route, described.
///
/// ```
/// use berth_sdk::router::Route;
/// assert_eq!(Route::new("GET", "/api/plans/{id}").permission().as_deref(), Some("plans.plan.read"));
/// assert_eq!(Route::new("POST", "/api/plans/{id}/approve").permission().as_deref(), Some("plans.plan.update"));
/// assert_eq!(Route::new("PROPFIND", "/api/calendars/dav").permission().as_deref(), Some("calendars.calendar.read"));
/// assert_eq!(Route::new("DELETE", "/api/dependencies/{id}").permission().as_deref(), Some("dependencies.dependency.delete"));
/// ```
#[derive(Clone, Debug)]
pub struct Route {
    /// Upper case.
    pub method: &'static str,
    /// As in `/api/plans/{id}`.
    pub path: String,
    /// One line.
    pub summary: String,
    /// Who may call it.
    pub access: Access,
    /// The answer streams.
    pub is_streaming: bool,
    /// The caller must belong to an organization.
    pub needs_organization: bool,
    /// Groups routes.
    pub tag: String,
    pub(crate) query_schemas: Vec<MakeSchema>,
    /// What its list is sorted and filtered by, where its answer does not say so.
    pub(crate) list: Option<MakeSchema>,
    pub(crate) sorts: &'static [&'static str],
    /// What may stand in the path, where its name does not say so.
    pub(crate) path_schemas: Vec<(&'static str, MakeSchema)>,
    /// One for each part of the handler that reads the body.
    pub(crate) request_schemas: Vec<MakeSchema>,
    pub(crate) omissible: &'static [&'static str],
    pub(crate) answers: Vec<(u16, Option<MakeSchema>, Option<&'static str>)>,
}

/// A query parameter, described.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// What it means.
    pub description: String,
    /// Whether it must be there.
    pub is_required: bool,
    /// Its JSON Schema.
    pub schema: Value,
}

/// An answer, described.
#[derive(Clone, Debug, PartialEq)]
pub struct AnswerDescription {
    /// The status.
    pub status: u16,
    /// What it means.
    pub description: String,
    /// The JSON Schema of its body.
    pub schema: Option<Value>,
    /// The media type of its body, where it is not JSON.
    pub media_type: Option<String>,
}

impl Route {
    /// A route with the derived permission.
    pub fn new(method: &'static str, path: &str) -> Self {
        Self {
            method,
            path: path.to_string(),
            summary: String::new(),
            access: Access::Derived,
            is_streaming: false,
            needs_organization: true,
            tag: segments(path).next().unwrap_or_default().to_string(),
            query_schemas: Vec::new(),
            list: None,
            sorts: &[],
            path_schemas: Vec::new(),
            request_schemas: Vec::new(),
            omissible: &[],
            answers: Vec::new(),
        }
    }

    /// Notes an answer: its status, what makes the schema of its body, and the media type where it is not JSON.
    pub fn answer(&mut self, status: u16, schema: Option<fn() -> Value>, media_type: Option<&'static str>) {
        self.answers.push((status, schema, media_type));
    }

    /// The permission that the host demands: `<module>.<resource>.<action>`, where the module is the first segment
    /// after `/api`, the resource its singular, and the action `read`, `create`, `update` or `delete` by the method, where
    /// `OPTIONS`, `PROPFIND` and `REPORT` read;
    /// a `POST` to something under a row is an update of it.
    pub fn permission(&self) -> Option<String> {
        match &self.access {
            Access::Public | Access::SignedIn => None,
            Access::Permission(code) => Some(code.clone()),
            Access::Derived => {
                let module = segments(&self.path).next().unwrap_or_default();
                let action = match self.method {
                    "GET" | "HEAD" | "OPTIONS" | "PROPFIND" | "REPORT" => "read",
                    "POST" if self.path.contains('{') => "update",
                    "POST" => "create",
                    "DELETE" => "delete",
                    _ => "update",
                };
                Some(format!("{module}.{}.{action}", singular(module)))
            }
        }
    }

    /// The parameters of the path that are more than ids, and the query's, in their order.
    pub fn parameters(&self) -> Vec<Parameter> {
        let in_path = self.path_schemas.iter().map(|(name, make)| Parameter {
            name: (*name).to_string(),
            description: String::new(),
            is_required: true,
            schema: make(),
        });
        let mut parameters: Vec<Parameter> = in_path.collect();
        for schema in self.query_schemas.iter().map(|make| make()) {
            let required: Vec<&str> = schema
                .get("required")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            for (name, schema) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
                if parameters.iter().any(|known| known.name == *name) {
                    continue;
                }
                let mut schema = written(schema.clone());
                let description = schema.as_object_mut().and_then(|words| words.remove("description"));
                parameters.push(Parameter {
                    name: name.clone(),
                    description: description.as_ref().and_then(Value::as_str).unwrap_or_default().to_string(),
                    is_required: required.contains(&name.as_str()),
                    schema,
                });
            }
        }
        self.complete(&mut parameters);
        parameters
    }

    /// Says of a list's parameters what only its entries tell: the fields it is sorted and filtered by.
    fn complete(&self, parameters: &mut Vec<Parameter>) {
        let Some(place) = parameters.iter().position(|known| known.name == "sortBy") else { return };
        let mut sort_by = |sorts: Value| {
            if let Some(parameter) = parameters.get_mut(place) {
                parameter.schema = serde_json::json!({ "enum": sorts });
            }
        };
        if !self.sorts.is_empty() {
            return sort_by(self.sorts.into());
        }
        let Some(list) = self.list.map(|make| make()).or_else(|| self.listed()) else { return };
        sort_by(list.get("sorts").cloned().unwrap_or_default());
        for (name, schema) in list.get("filters").and_then(Value::as_object).into_iter().flatten() {
            if !parameters.iter().any(|known| known.name == *name) {
                let description = format!("Only those with this `{name}`.");
                parameters.push(Parameter {
                    name: name.clone(),
                    description,
                    is_required: false,
                    schema: schema.clone(),
                });
            }
        }
    }

    /// What the entries of the answer say of lists of them.
    fn listed(&self) -> Option<Value> {
        let (_, schema, _) = self.answers.iter().find(|(status, ..)| *status == 200)?;
        schema.map(|make| make())?.pointer(&format!("/properties/items/items/{LIST_WORD}")).cloned()
    }

    /// The JSON Schema of the request's body: everything that those say who read it.
    pub fn request_schema(&self) -> Option<Value> {
        let mut schemas = self.request_schemas.iter().map(|make| make());
        let mut whole = schemas.next()?;
        schemas.for_each(|schema| join(&mut whole, schema));
        if let Some(words) = whole.as_object_mut() {
            if let Some(Value::Array(required)) = words.get_mut("required") {
                required.retain(|name| !name.as_str().is_some_and(|name| self.omissible.contains(&name)));
            }
            if words.get("additionalProperties") == Some(&Value::Bool(true)) {
                // So it is anyway.
                words.remove("additionalProperties");
            }
            if !["type", "anyOf", "oneOf", "allOf", "enum"].iter().any(|word| words.contains_key(*word)) {
                // Whatever else it is, a body is an object.
                words.insert("type".into(), "object".into());
            }
        }
        Some(told(whole))
    }

    /// The answers of success.
    pub fn answers(&self) -> Vec<AnswerDescription> {
        let describe = |status: u16| match status {
            201 => "Created.",
            202 => "Accepted; work goes on.",
            204 => "Done; nothing to say.",
            _ => "Done.",
        };
        self.answers
            .iter()
            .map(|(status, schema, media_type)| AnswerDescription {
                status: *status,
                description: describe(*status).to_string(),
                schema: schema.map(|make| told(make())),
                media_type: media_type.map(ToString::to_string),
            })
            .collect()
    }
}

/// How a value is written in a query, where there is no null.
fn written(mut schema: Value) -> Value {
    let is_null = |schema: &Value| schema.get("type").is_some_and(|kind| kind == "null");
    if let Some(Value::Array(alternatives)) = schema.get_mut("anyOf") {
        alternatives.retain(|one| !is_null(one));
        if alternatives.len() == 1
            && let (Some(Value::Object(only)), Some(words)) = (alternatives.pop(), schema.as_object_mut())
        {
            words.remove("anyOf");
            for (word, value) in only {
                words.entry(word).or_insert(value);
            }
        }
    }
    if let Some(words) = schema.as_object_mut() {
        if let Some(Value::Array(kinds)) = words.get_mut("type") {
            kinds.retain(|kind| kind != "null");
            if let [only] = kinds.as_slice() {
                let only = only.clone();
                words.insert("type".into(), only);
            }
        }
        if let Some(Value::Array(choices)) = words.get_mut("enum") {
            choices.retain(|choice| !choice.is_null());
        }
        if words.get("default").is_some_and(Value::is_null) {
            words.remove("default");
        }
    }
    schema
}

/// A schema as the document tells it.
fn told(mut schema: Value) -> Value {
    match &mut schema {
        Value::Object(words) => {
            words.remove(LIST_WORD);
            for (_, value) in words.iter_mut() {
                *value = told(value.take());
            }
            // A format is that of a text: a null has none.
            let is_nullable = words.get("type").is_some_and(|kind| *kind == serde_json::json!(["string", "null"]));
            if is_nullable && let Some(format) = words.remove("format") {
                words.remove("type");
                words.insert(
                    "anyOf".into(),
                    serde_json::json!([{ "type": "string", "format": format }, { "type": "null" }]),
                );
            }
        }
        Value::Array(entries) => entries.iter_mut().for_each(|entry| *entry = told(entry.take())),
        _ => {}
    }
    schema
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty()).skip_while(|segment| *segment == "api")
}

fn singular(plural: &str) -> String {
    match plural.strip_suffix("ies") {
        Some(stem) => format!("{stem}y"),
        None => plural.strip_suffix('s').unwrap_or(plural).to_string(),
    }
}
