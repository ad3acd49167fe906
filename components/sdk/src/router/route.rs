//! What is known of a route.

use serde_json::Value;

/// Makes a JSON Schema; called only when the component describes itself.
pub(crate) type MakeSchema = fn() -> Value;

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
    pub(crate) request_schema: Option<MakeSchema>,
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
            request_schema: None,
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

    /// The query's parameters, in their order.
    pub fn parameters(&self) -> Vec<Parameter> {
        let mut parameters: Vec<Parameter> = Vec::new();
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
                parameters.push(Parameter {
                    name: name.clone(),
                    description: schema.get("description").and_then(Value::as_str).unwrap_or_default().to_string(),
                    is_required: required.contains(&name.as_str()),
                    schema: schema.clone(),
                });
            }
        }
        parameters
    }

    /// The JSON Schema of the request's body.
    pub fn request_schema(&self) -> Option<Value> {
        self.request_schema.map(|make| make())
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
                schema: schema.map(|make| make()),
                media_type: media_type.map(ToString::to_string),
            })
            .collect()
    }
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
