//! `/openapi.json`: what the present builds and the main app describe, as one OpenAPI 3.1 document.
//!
//! It is made again only when a build or a prefix has changed. What a component describes is data: a schema that is no JSON is left
//! out, never passed on.

mod answers;
mod host;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use super::authenticate::ACCESS_COOKIE;
use super::health::VERSION;
use super::respond::ResponseBody;
use super::route::is_main_app;
use super::upstream::Upstream;
use crate::accounts;
use crate::bindings::lifecycle::Route;
use crate::deploy::{Registry, Slot};

/// An id as the examples show it.
const EXAMPLE_ID: &str = "01900000-0000-7000-8000-000000000000";

/// Of the schema of a body, by which a component says that it may be left out.
const OPTIONAL_WORD: &str = "x-berth-optional";

/// The document, with the plugins it was made from.
#[derive(Default)]
pub(super) struct Document {
    last: Mutex<Option<(Vec<Made>, Bytes)>>,
}

/// A plugin's name, the number of its present revision, and its prefixes.
type Made = (String, Option<i64>, Vec<String>);

impl Document {
    /// The document of the present builds; with the administration where it is found at the same door.
    pub(super) fn response<U: Upstream>(&self, registry: &Registry<U>, has_admin: bool) -> Response<ResponseBody> {
        let slots: Vec<_> = registry.slots().into_iter().map(|slot| (slot.current(), slot)).collect();
        let made = |(build, slot): &(Option<Arc<U>>, Arc<Slot<U>>)| {
            let prefixes = slot.options().prefixes.iter().map(ToString::to_string).collect();
            (slot.name().to_string(), build.as_ref().map(|build| build.number()), prefixes)
        };
        let present: Vec<Made> = slots.iter().map(made).collect();
        let mut last = self.last.lock();
        let bytes = match &*last {
            Some((made_from, bytes)) if *made_from == present => bytes.clone(),
            _ => {
                let mut routes = host::own();
                routes.extend(accounts::routes());
                if has_admin {
                    routes.extend(host::administration());
                }
                let prefixes = registry.prefixes();
                routes.extend(prefixes.iter().map(|(prefix, slot)| host::health(prefix.as_str(), slot.name())));
                for build in slots.iter().filter_map(|(build, _)| build.as_ref()) {
                    routes
                        .extend(build.description().iter().flat_map(|description| description.routes.iter().cloned()));
                }
                let bytes = Bytes::from(document(&routes).to_string());
                *last = Some((present, bytes.clone()));
                bytes
            }
        };
        drop(last);
        let mut response = Response::new(ResponseBody::full(bytes));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}

/// The methods that are told: the document has no place for those of WebDAV, and everything answers OPTIONS.
const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];

/// The whole document.
fn document(routes: &[Route]) -> Value {
    let mut paths = Map::new();
    let mut names = BTreeSet::new();
    let mut tags = BTreeSet::new();
    for route in routes.iter().filter(|route| METHODS.contains(&route.method.as_str())) {
        tags.insert(route.tag.as_str());
        let item = paths.entry(template(&route.path)).or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(item) = item {
            item.insert(route.method.to_ascii_lowercase(), operation(route, &mut names));
        }
    }
    paths.sort_keys();
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Berth", "version": VERSION },
        "tags": tags.into_iter().filter(|tag| !tag.is_empty()).map(|tag| json!({ "name": tag })).collect::<Vec<_>>(),
        "paths": paths,
        "security": [{ "bearerAuth": [] }, { "cookieAuth": [] }],
        "components": {
            "securitySchemes": {
                "bearerAuth": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "An access token, or an API key, which begins with berth_.",
                },
                "cookieAuth": { "type": "apiKey", "in": "cookie", "name": ACCESS_COOKIE },
            },
            "schemas": { "Problem": answers::problem_schema() },
            "responses": answers::shared(),
            "parameters": {
                "IdempotencyKey": {
                    "name": "Idempotency-Key",
                    "in": "header",
                    "description": "Sent again within a day with the same body, the request has no second effect and gets the first answer.",
                    "required": false,
                    "schema": { "type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]+$" },
                },
            },
        },
    })
}

fn operation(route: &Route, names: &mut BTreeSet<String>) -> Value {
    let mut operation = Map::new();
    operation.insert("operationId".to_owned(), unique(operation_id(route), names).into());
    operation.insert("summary".to_owned(), route.summary.as_str().into());
    if !route.tag.is_empty() {
        operation.insert("tags".to_owned(), json!([route.tag]));
    }
    if let Some(permission) = &route.permission {
        operation.insert("x-permission".to_owned(), permission.as_str().into());
    }
    if route.is_public {
        operation.insert("security".to_owned(), json!([]));
    }
    if route.is_streaming {
        operation.insert("x-streaming".to_owned(), true.into());
    }
    let mut parameters = parameters(route);
    if route.method == "POST" && !route.is_public {
        parameters.push(json!({ "$ref": "#/components/parameters/IdempotencyKey" }));
    }
    if !parameters.is_empty() {
        operation.insert("parameters".to_owned(), parameters.into());
    }
    if let Some(mut schema) = route.request_schema.as_deref().and_then(schema) {
        let media_type = route.request_media_type.as_deref().unwrap_or("application/json");
        let is_optional = schema.as_object_mut().is_some_and(|words| words.remove(OPTIONAL_WORD).is_some());
        // The main app takes no body for one in which nothing has to be.
        let is_optional = is_optional || (is_main_app(&route.path) && is_free(&schema));
        let content = json!({ media_type: { "schema": schema } });
        operation.insert("requestBody".to_owned(), json!({ "required": !is_optional, "content": content }));
    }
    operation.insert("responses".to_owned(), answers::of_route(route));
    Value::Object(operation)
}

/// Whether a schema demands no member.
fn is_free(schema: &Value) -> bool {
    schema["required"].as_array().is_none_or(Vec::is_empty)
}

fn parameters(route: &Route) -> Vec<Value> {
    let in_path =
        route.path.split('/').filter_map(|segment| Some((parameter(segment)?, segment.starts_with("{*")))).map(
            |(name, is_rest)| {
                // A component may say itself what stands there.
                let described = route.parameters.iter().find(|parameter| parameter.name == name);
                let schema = described.and_then(|parameter| schema(&parameter.schema));
                let schema = schema.unwrap_or_else(|| path_schema(name, is_rest));
                json!({ "name": name, "in": "path", "required": true, "schema": schema })
            },
        );
    let is_in_path = |name: &str| route.path.split('/').any(|segment| parameter(segment) == Some(name));
    let of_query = route.parameters.iter().filter(move |parameter| !is_in_path(&parameter.name));
    let in_query = of_query.map(|parameter| {
        let schema = schema(&parameter.schema).unwrap_or_else(|| json!({}));
        let is_list = schema.get("type").and_then(Value::as_str) == Some("array");
        let mut told = Map::new();
        told.insert("name".to_owned(), parameter.name.as_str().into());
        told.insert("in".to_owned(), "query".into());
        told.insert("description".to_owned(), parameter.description.as_str().into());
        if parameter.required {
            told.insert("required".to_owned(), true.into());
        } else if !answers::is_of_host(&route.path) && !PAGING.contains(&parameter.name.as_str()) {
            // The main app and the kit of the services take an empty value for none.
            told.insert("allowEmptyValue".to_owned(), true.into());
        }
        if is_list {
            // Written `a,b`: a name stands in a query once.
            told.insert("explode".to_owned(), false.into());
        }
        told.insert("schema".to_owned(), schema);
        Value::Object(told)
    });
    in_path.chain(in_query).collect()
}

/// Where an empty value is no number, and so a fault.
const PAGING: [&str; 3] = ["limit", "offset", "page"];

/// What may stand in a path: an id has a form, and anything else is at least one segment that has only one meaning.
fn path_schema(name: &str, is_rest: bool) -> Value {
    if is_rest {
        json!({ "type": "string", "minLength": 1 })
    } else if name.to_ascii_lowercase().ends_with("id") {
        json!({ "type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$", "example": EXAMPLE_ID })
    } else {
        json!({ "type": "string", "pattern": "^[A-Za-z0-9_~-][A-Za-z0-9._~:@-]{0,199}$" })
    }
}

/// `getApiPlansById` of `GET /api/plans/{id}`.
fn operation_id(route: &Route) -> String {
    let mut id = route.method.to_ascii_lowercase();
    for segment in route.path.split('/').filter(|segment| !segment.is_empty()) {
        let (word, prefix) = parameter(segment).map_or((segment, ""), |name| (name, "By"));
        id.push_str(prefix);
        for part in word.split(|character: char| !character.is_ascii_alphanumeric()) {
            let mut characters = part.chars();
            if let Some(first) = characters.next() {
                id.push(first.to_ascii_uppercase());
                id.extend(characters);
            }
        }
    }
    id
}

fn unique(id: String, names: &mut BTreeSet<String>) -> String {
    let mut candidate = id.clone();
    let mut number = 2;
    while !names.insert(candidate.clone()) {
        candidate = format!("{id}{number}");
        number += 1;
    }
    candidate
}

/// `name` of `{name}` and `{*name}`.
fn parameter(segment: &str) -> Option<&str> {
    let name = segment.strip_prefix('{')?.strip_suffix('}')?;
    Some(name.strip_prefix('*').unwrap_or(name))
}

/// The path as OpenAPI writes it.
fn template(path: &str) -> String {
    path.replace("{*", "{")
}

fn schema(text: &str) -> Option<Value> {
    serde_json::from_str::<Value>(text).ok().filter(|schema| schema.is_object() || schema.is_boolean())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bindings::lifecycle::{Answer, QueryParameter};

    fn route(method: &str, path: &str) -> Route {
        Route {
            method: method.into(),
            path: path.into(),
            summary: "Says what it does".into(),
            permission: Some("planning.plans.read".into()),
            is_public: false,
            is_streaming: false,
            needs_organization: true,
            parameters: vec![],
            request_schema: None,
            request_media_type: None,
            answers: vec![],
            tag: "plans".into(),
        }
    }

    #[test]
    fn a_route_becomes_an_operation() {
        let mut list = route("GET", "/api/plans/{id}/steps");
        list.parameters.push(QueryParameter {
            name: "limit".into(),
            description: "How many".into(),
            required: false,
            schema: "{\"type\":\"integer\"}".into(),
        });
        list.answers.push(Answer {
            status: 200,
            description: "Found".into(),
            schema: Some("{}".into()),
            media_type: None,
        });
        let document = document(&[list]);
        assert_eq!(document["openapi"], "3.1.0");
        let operation = &document["paths"]["/api/plans/{id}/steps"]["get"];
        assert_eq!(operation["operationId"], "getApiPlansByIdSteps");
        assert_eq!(operation["tags"], json!(["plans"]));
        assert_eq!(operation["parameters"][0]["in"], "path");
        assert_eq!(operation["parameters"][1]["schema"], json!({ "type": "integer" }));
        assert_eq!(operation["responses"]["200"]["content"]["application/json"]["schema"], json!({}));
        assert_eq!(operation["responses"]["404"]["$ref"], "#/components/responses/NotFound");
        assert_eq!(operation["responses"].get("default"), None);
        assert_eq!(document["components"]["securitySchemes"]["bearerAuth"]["scheme"], "bearer");
    }

    #[test]
    fn what_the_document_has_no_place_for_is_left_out() {
        let document = document(&[route("PROPFIND", "/api/dav"), route("REPORT", "/api/a"), route("GET", "/api/a")]);
        let paths = document["paths"].as_object().unwrap();
        assert_eq!(paths.keys().collect::<Vec<_>>(), ["/api/a"]);
        assert_eq!(paths["/api/a"].as_object().unwrap().keys().collect::<Vec<_>>(), ["get"]);
    }

    #[test]
    fn operations_have_names_of_their_own() {
        let document = document(&[route("GET", "/api/a-b"), route("GET", "/api/a/b"), route("POST", "/api/a/b")]);
        let mut ids: Vec<String> = Vec::new();
        for item in document["paths"].as_object().unwrap().values() {
            for operation in item.as_object().unwrap().values() {
                ids.push(operation["operationId"].as_str().unwrap().to_owned());
            }
        }
        ids.sort();
        assert_eq!(ids, ["getApiAB", "getApiAB2", "postApiAB"]);
    }

    #[test]
    fn what_is_no_schema_is_left_out() {
        let mut create = route("POST", "/api/plans");
        create.request_schema = Some("not json".into());
        create.is_public = true;
        let mut optional = route("POST", "/api/plans/{id}/close");
        optional.request_schema = Some("{\"x-berth-optional\":true}".into());
        let document = document(&[create, optional, route("GET", "/api/files/{*rest}")]);
        let operation = &document["paths"]["/api/plans"]["post"];
        assert_eq!(operation.get("requestBody"), None);
        assert_eq!(operation["security"], json!([]));
        let body = &document["paths"]["/api/plans/{id}/close"]["post"]["requestBody"];
        assert_eq!(body, &json!({ "required": false, "content": { "application/json": { "schema": {} } } }));
        assert!(document["paths"]["/api/files/{rest}"]["get"].is_object());
    }
}
