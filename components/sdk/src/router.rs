//! Routes: which handler answers which request, and what the host and the API's document learn of them.
//!
//! The host checks tokens and permissions before the component sees a request; the router answers what concerns HTTP:
//! 404, 405 with `Allow`, 415, malformed bodies, and problems as JSON.

mod handler;
mod route;

pub use handler::Handler;
pub(crate) use route::LIST_WORD;
pub use route::{Access, AnswerDescription, Parameter, Route};

use std::{collections::HashMap, sync::Arc};

use crate::{
    http::{Request, Response, decode},
    problem::{Problem, Result},
};

/// The longest path that is looked at, in bytes.
const PATH_BYTES_MAX: usize = 2048;

pub(crate) type Run = Arc<dyn Fn(&mut Request) -> Result<Response> + Send + Sync>;

/// The routes of a service, in the order they are written. A later route of the same method and path replaces an
/// earlier one. `summary`, `permission`, … speak of the route just added.
///
/// ```
/// use berth_sdk::{Problem, data, json, http::{Created, Json, Request}, router::Router};
/// #[data]
/// struct Greeting { text: String }
/// fn greet(Json(greeting): Json<Greeting>) -> Result<Created<Greeting>, Problem> { Ok(Created(greeting)) }
///
/// let router = Router::new().post("/api/greetings", greet).summary("Greet somebody.").build().unwrap();
/// let response = router.handle(Request::new("POST", "/api/greetings").with_json(&json!({"text": "Hi"})));
/// assert_eq!(response.status, 201);
/// assert_eq!(router.handle(Request::new("DELETE", "/api/greetings")).status, 405);
/// assert_eq!(router.handle(Request::new("GET", "/api/other")).status, 404);
/// ```
#[derive(Clone, Default)]
pub struct Router {
    routes: Vec<(Route, Run)>,
    /// How many routes at the end the modifiers speak of.
    last: usize,
}

impl Router {
    /// Without routes.
    pub fn new() -> Self {
        Self::default()
    }

    /// `GET`.
    #[must_use]
    pub fn get<A>(self, path: &str, handler: impl Handler<A>) -> Self {
        self.route(&["GET"], path, handler)
    }

    /// `POST`.
    #[must_use]
    pub fn post<A>(self, path: &str, handler: impl Handler<A>) -> Self {
        self.route(&["POST"], path, handler)
    }

    /// `PUT`, and `PATCH` with the same meaning.
    #[must_use]
    pub fn put<A>(self, path: &str, handler: impl Handler<A>) -> Self {
        self.route(&["PUT", "PATCH"], path, handler)
    }

    /// `DELETE`.
    #[must_use]
    pub fn delete<A>(self, path: &str, handler: impl Handler<A>) -> Self {
        self.route(&["DELETE"], path, handler)
    }

    /// Adds one handler under several methods.
    #[must_use]
    pub fn route<A>(mut self, methods: &[&'static str], path: &str, handler: impl Handler<A>) -> Self {
        let handler = Arc::new(handler);
        for method in methods {
            let mut route = Route::new(method, path);
            handler.describe(&mut route);
            let handler = Arc::clone(&handler);
            self.routes.retain(|(other, _)| other.method != *method || other.path != path);
            self.routes.push((route, Arc::new(move |request: &mut Request| handler.call(request))));
        }
        self.last = methods.len();
        self
    }

    /// Takes over the routes of another router.
    #[must_use]
    pub fn merge(mut self, other: Router) -> Self {
        for (route, run) in other.routes {
            self.routes.retain(|(known, _)| known.method != route.method || known.path != route.path);
            self.routes.push((route, run));
        }
        self.last = 0;
        self
    }

    /// One line for the API's document.
    #[must_use]
    pub fn summary(self, summary: &str) -> Self {
        self.with_last(|route| route.summary = summary.to_string())
    }

    /// Another permission than the derived one.
    #[must_use]
    pub fn permission(self, code: &str) -> Self {
        self.with_last(|route| route.access = Access::Permission(code.to_string()))
    }

    /// Any signed-in caller.
    #[must_use]
    pub fn signed_in(self) -> Self {
        self.with_last(|route| route.access = Access::SignedIn)
    }

    /// No token needed; the manifest's `public` must list the route too.
    #[must_use]
    pub fn public(self) -> Self {
        self.with_last(|route| {
            route.access = Access::Public;
            route.needs_organization = false;
        })
    }

    /// Also for callers without an organization.
    #[must_use]
    pub fn without_organization(self) -> Self {
        self.with_last(|route| route.needs_organization = false)
    }

    /// For the API's document: what stands in this parameter of the path is one of these.
    #[must_use]
    pub fn path_parameter<T: schemars::JsonSchema>(self, name: &'static str) -> Self {
        self.with_last(|route| route.path_schemas.push((name, crate::schema::of::<T>)))
    }

    /// For the API's document: what stands in this parameter of the path is a number, from 1.
    #[must_use]
    pub fn path_number(self, name: &'static str) -> Self {
        let schema = || serde_json::json!({ "type": "integer", "minimum": 1, "maximum": i32::MAX });
        self.with_last(|route| route.path_schemas.push((name, schema)))
    }

    /// For the API's document: its body has the members of this record, where the handler reads it in a way of its own.
    #[must_use]
    pub fn takes<T: schemars::JsonSchema>(self) -> Self {
        self.with_last(|route| route.request_schemas.push(crate::schema::of::<T>))
    }

    /// For the API's document: its body has the members of a new row of this entity.
    #[must_use]
    pub fn makes<T: crate::entity::Entity>(self) -> Self {
        self.with_last(|route| route.request_schemas.push(crate::entity::writable_schema::<T>))
    }

    /// For the API's document: its body has the members of a change of a row of this entity.
    #[must_use]
    pub fn changes<T: crate::entity::Entity>(self) -> Self {
        self.with_last(|route| route.request_schemas.push(crate::entity::patch_schema::<T>))
    }

    /// For the API's document: these members of its body need not be there, whatever the records say.
    #[must_use]
    pub fn may_omit(self, members: &'static [&'static str]) -> Self {
        self.with_last(|route| route.omissible = members)
    }

    /// For the API's document: it answers this, where the handler makes the response itself.
    #[must_use]
    pub fn answers<T: schemars::JsonSchema>(self, status: u16) -> Self {
        self.with_last(|route| route.answer(status, Some(crate::schema::of::<T>), None))
    }

    /// For the API's document: it answers a text of this media type.
    #[must_use]
    pub fn answers_text(self, media_type: &'static str) -> Self {
        self.with_last(|route| route.answer(200, None, Some(media_type)))
    }

    /// For the API's document: the list is sorted and filtered as [`Select::page`](crate::entity::Select::page) of this
    /// entity does. A route that answers rows of an entity says so by itself.
    #[must_use]
    pub fn lists<T: crate::entity::Entity>(self) -> Self {
        self.with_last(|route| route.list = Some(crate::entity::list_words::<T>))
    }

    /// For the API's document: the fields that its list is sorted by, where it is no entity's.
    #[must_use]
    pub fn sorts(self, fields: &'static [&'static str]) -> Self {
        self.with_last(|route| route.sorts = fields)
    }

    /// Groups it elsewhere than under the first segment of its path.
    #[must_use]
    pub fn tag(self, tag: &str) -> Self {
        self.with_last(|route| route.tag = tag.to_string())
    }

    fn with_last(mut self, change: impl Fn(&mut Route)) -> Self {
        let first = self.routes.len().saturating_sub(self.last);
        self.routes.iter_mut().skip(first).for_each(|(route, _)| change(route));
        self
    }

    /// Makes it ready to answer; an error names two paths that collide.
    pub fn build(self) -> Result<BuiltRouter, String> {
        let mut by_path: HashMap<String, Vec<(&'static str, Run)>> = HashMap::new();
        let mut order = Vec::new();
        let mut routes = Vec::new();
        for (route, run) in self.routes {
            let methods = by_path.entry(route.path.clone()).or_insert_with(|| {
                order.push(route.path.clone());
                Vec::new()
            });
            methods.push((route.method, run));
            routes.push(route);
        }
        let mut paths = matchit::Router::new();
        for path in order {
            let methods = by_path.remove(&path).unwrap_or_default();
            paths
                .insert(path.clone(), methods)
                .map_err(|error| format!("the route {path} cannot be added: {error}"))?;
        }
        Ok(BuiltRouter { paths, routes })
    }
}

/// A router that answers.
pub struct BuiltRouter {
    paths: matchit::Router<Vec<(&'static str, Run)>>,
    routes: Vec<Route>,
}

impl BuiltRouter {
    /// Every route, in its order.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// Answers a request; a problem becomes a response with the request's id.
    pub fn handle(&self, mut request: Request) -> Response {
        self.answer(&mut request)
    }

    /// The same, and leaves what the handler did not take.
    pub(crate) fn answer(&self, request: &mut Request) -> Response {
        match self.dispatch(request) {
            Ok(response) => response,
            Err(problem) => Response::problem(&problem, &request.request_id),
        }
    }

    fn dispatch(&self, request: &mut Request) -> Result<Response> {
        let missing = || Problem::not_found("There is no such route.").with_code("ROUTE_NOT_FOUND");
        if request.path.len() > PATH_BYTES_MAX {
            return Err(missing());
        }
        let path = request.path.as_str();
        let trimmed = if path.len() > 1 { path.trim_end_matches('/') } else { path };
        let found = self.paths.at(trimmed).map_err(|_| missing())?;
        let wanted = if request.method == "HEAD" { "GET" } else { request.method.as_str() };
        let Some((_, run)) = found.value.iter().find(|(method, _)| *method == wanted) else {
            let allowed: Vec<&str> = found.value.iter().map(|(method, _)| *method).collect();
            return Err(Problem::new(
                405,
                "METHOD_NOT_ALLOWED",
                "Method not allowed",
                "The route does not take this method.",
            )
            .with_header("allow", allowed.join(", ")));
        };
        let params = found.params.iter().map(|(_, value)| decode(value)).collect();
        request.params = params;
        run(request)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Router;
    use crate::{
        data,
        http::{Json, NoContent, Params, Request},
        id::Id,
        problem::Problem,
    };

    #[data]
    struct Note {
        #[field(min = 1, max = 5, plain)]
        title: String,
        #[field(default = 3)]
        stars: i64,
        due: Option<crate::clock::Timestamp>,
    }

    fn router() -> super::BuiltRouter {
        Router::new()
            .get("/api/notes/templates", || "templates".to_string())
            .get("/api/notes/{id}", |Params(id): Params<Id>| id.into_string())
            .put("/api/notes/{id}", |Json(note): Json<Note>| Json(note))
            .delete("/api/notes/{id}", || Err::<NoContent, Problem>(Problem::missing("note")))
            .build()
            .unwrap()
    }

    fn body(response: &super::Response) -> serde_json::Value {
        response.json_body().unwrap()
    }

    #[test]
    fn a_literal_segment_wins_over_a_parameter() {
        assert_eq!(router().handle(Request::new("GET", "/api/notes/templates")).whole_body().unwrap(), b"templates");
        assert_eq!(router().handle(Request::new("GET", "/api/notes/n1")).whole_body().unwrap(), b"n1");
        assert_eq!(router().handle(Request::new("GET", "/api/notes/a%2Fb")).status, 400);
    }

    #[test]
    fn a_wrong_method_names_the_right_ones() {
        let response = router().handle(Request::new("POST", "/api/notes/n1"));
        assert_eq!(response.status, 405);
        assert!(response.headers.contains(&("allow".into(), "GET, PUT, PATCH, DELETE".into())));
    }

    #[test]
    fn a_problem_carries_the_id_of_the_request() {
        let request = Request { request_id: "r7".into(), ..Request::new("DELETE", "/api/notes/n1") };
        let response = router().handle(request);
        assert_eq!((response.status, body(&response)["requestId"].as_str()), (404, Some("r7")));
    }

    #[test]
    fn a_body_is_an_object_in_json() {
        let status = |media_type: &str, text: &str| {
            let request = Request { body: text.into(), ..Request::new("PUT", "/api/notes/n1") };
            router().handle(request.with_header("content-type", media_type)).status
        };
        assert_eq!(status("application/json", r#"{"title":"a","unknown":1}"#), 200);
        assert_eq!(status("application/json; charset=utf-8", r#" {"title":"a"}"#), 200);
        assert_eq!(status("text/plain", r#"{"title":"a"}"#), 415);
        for text in ["", "{", "[]", "7", "null", r#"{"title":"a"} x"#, r#"["a",3,null]"#] {
            assert_eq!(status("application/json", text), 400, "{text}");
        }
    }

    #[test]
    fn every_fault_of_a_body_is_named() {
        let request = Request::new("PUT", "/api/notes/n1").with_json(&json!({"stars": "x", "due": 7}));
        let response = router().handle(request);
        let named = body(&response);
        let fields: Vec<&str> =
            named["errors"].as_array().unwrap().iter().map(|error| error["field"].as_str().unwrap()).collect();
        assert_eq!((response.status, named["code"].as_str()), (400, Some("VALIDATION_ERROR")));
        assert_eq!(fields, ["title", "stars", "due"]);
    }

    #[test]
    fn defaults_apply_only_to_absent_members() {
        let put = |value| body(&router().handle(Request::new("PATCH", "/api/notes/n1").with_json(&value)));
        assert_eq!(put(json!({"title": "a"}))["stars"], 3);
        assert_eq!(put(json!({"title": "<a>\u{7}", "stars": 0}))["stars"], 0);
        assert_eq!(put(json!({"title": "<a>\u{7}"}))["title"], "a");
        assert_eq!(put(json!({"title": "abcdef"}))["errors"][0]["field"], "title");
    }

    #[test]
    fn colliding_paths_are_named() {
        let twice = Router::new().get("/a/{id}", || NoContent).get("/a/{other}", || NoContent);
        assert!(twice.build().err().is_none_or(|error| error.contains("/a/{other}")));
    }
}
