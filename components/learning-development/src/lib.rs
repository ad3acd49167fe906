//! Learning: paths with steps, resources, skills and what comes next; candidates that become rules; a library of patterns.

pub mod access;
pub mod candidate;
pub mod enrollment;
pub mod path;
pub mod pattern;
pub mod progress;
pub mod recommend;
pub mod resource;
pub mod skill;
pub mod standing;
pub mod step;
pub mod suggest;
pub mod words;

use berth_sdk::{migrations, prelude::*};

use progress::{complete, settle, summary};

const PATH: &str = "/api/learning";
const PATTERNS: &str = "/api/patterns";

/// The whole service.
pub fn service() -> Service {
    let service = Service::new("learning-development", env!("CARGO_PKG_VERSION"))
        .migrations(migrations::embed!["../../../migrations/learning-development/0001_learning.sql"])
        .routes(resources())
        .routes(paths())
        .routes(people())
        .routes(candidates())
        .routes(patterns())
        .work(settle::SETTLE, settle::settle);
    suggest::HEARD.into_iter().fold(service, |service, kind| service.on(kind, suggest::hear))
}

fn resources() -> Router {
    let row = format!("{PATH}/{{id}}");
    Router::new()
        .entity::<resource::Resource>(PATH)
        .get(PATH, resource::api::list)
        .summary("List resources.")
        .get(&row, resource::api::read)
        .summary("Read a resource; counts a view.")
        .post(&format!("{row}/progress"), resource::api::progress)
        .summary("Record progress on a resource.")
        .post(&format!("{row}/helpful"), resource::api::helpful)
        .summary("Say that a resource has helped, or no longer.")
}

fn paths() -> Router {
    let paths = format!("{PATH}/paths");
    let row = format!("{paths}/{{id}}");
    let steps = format!("{row}/steps");
    let step = format!("{steps}/{{itemId}}");
    Router::new()
        .entity::<path::Path>(&paths)
        .get(&paths, path::api::list)
        .summary("List paths.")
        .post(&format!("{paths}/generate"), path::generate::generate)
        .summary("Let a model propose a path; nothing is stored.")
        .nested::<step::Step>(&steps, "pathId")
        .get(&steps, step::api::list)
        .summary("List the steps of a path, as far as the caller is.")
        .sorts(&["order"])
        .get(&step, step::api::read)
        .summary("Read a step, as far as the caller is.")
        .put(&step, step::api::update)
        .summary("Change a step, or how far the caller is with it.")
        .post(&format!("{row}/enroll"), enrollment::enroll)
        .summary("Enrol the caller, or come back.")
        .put(&format!("{row}/enroll"), enrollment::change)
        .summary("Pause, go on or drop out.")
        .post(&format!("{row}/complete-step"), complete::complete_step)
        .summary("Complete a step.")
        .get(&format!("{row}/progress"), progress::read)
        .summary("Read how far the caller is.")
}

fn people() -> Router {
    let skills = format!("{PATH}/skills");
    Router::new()
        .get(&format!("{PATH}/enrollments"), enrollment::list)
        .summary("List the caller's paths.")
        .get(&format!("{PATH}/progress/summary"), summary::read)
        .summary("Sum up what the caller has learned in a while.")
        .get(&skills, skill::list)
        .summary("List the caller's skills.")
        .put(&skills, skill::update)
        .summary("Set levels of the caller's skills.")
        .get(&format!("{PATH}/skill-gaps"), skill::gap::read)
        .summary("List what the caller lacks for a role, or for the paths they are on.")
        .get(&format!("{PATH}/recommendations"), recommend::read)
        .summary("Recommend paths and resources.")
}

fn candidates() -> Router {
    let candidates = format!("{PATH}/candidates");
    let row = format!("{candidates}/{{id}}");
    Router::new()
        .entity::<candidate::Candidate>(&candidates)
        .get(&candidates, candidate::api::list)
        .summary("List candidates, or what held at a moment.")
        .post(&format!("{row}/confirm"), candidate::api::confirm)
        .summary("Confirm a candidate.")
        .post(&format!("{row}/promote"), candidate::api::promote)
        .summary("Let a candidate hold from now on.")
        .post(&format!("{row}/rollback"), candidate::api::rollback)
        .summary("Let a candidate hold no longer.")
}

fn patterns() -> Router {
    let row = format!("{PATTERNS}/{{id}}");
    let versions = format!("{row}/versions");
    Router::new()
        .get(PATTERNS, pattern::api::list)
        .summary("List patterns.")
        .post(PATTERNS, pattern::api::create)
        .summary("Create a pattern.")
        .get(&row, pattern::api::read)
        .summary("Read a pattern.")
        .put(&row, pattern::api::update)
        .summary("Update a pattern; other code is the next version.")
        .delete(&row, pattern::api::remove)
        .summary("Delete a pattern.")
        .get(&format!("{PATTERNS}/search"), pattern::search::search)
        .summary("Search patterns.")
        .get(&versions, pattern::version::list)
        .summary("List the versions of a pattern.")
        .post(&versions, pattern::version::add)
        .summary("Add a higher version.")
        .post(&format!("{row}/instantiate"), pattern::instantiate::instantiate)
        .summary("Fill a pattern in; answers the text.")
        .post(&format!("{row}/rate"), pattern::rating::rate)
        .summary("Rate a pattern from 1 to 5.")
        .post(&format!("{PATTERNS}/extract"), pattern::extract::extract)
        .summary("Let a model find patterns in files; nothing is stored.")
}

berth_sdk::plugin!(service());

#[cfg(test)]
mod tests {
    use berth_sdk::{http::Request, json, testing};

    use super::service;

    #[test]
    fn every_route_of_the_specification_is_there() {
        let service = service();
        let learning = "GET |POST |GET /{id}|PUT /{id}|DELETE /{id}|POST /{id}/progress|POST /{id}/helpful|GET /paths|\
            POST /paths|GET /paths/{id}|PUT /paths/{id}|DELETE /paths/{id}|GET /paths/{id}/steps|POST /paths/{id}/steps|\
            PUT /paths/{id}/steps/{itemId}|DELETE /paths/{id}/steps/{itemId}|POST /paths/generate|POST /paths/{id}/enroll|\
            POST /paths/{id}/complete-step|GET /paths/{id}/progress|GET /progress/summary|GET /skills|PUT /skills|\
            GET /skill-gaps|GET /recommendations|GET /candidates|POST /candidates|GET /candidates/{id}|\
            PUT /candidates/{id}|DELETE /candidates/{id}|POST /candidates/{id}/confirm|POST /candidates/{id}/promote|\
            POST /candidates/{id}/rollback";
        let patterns = "GET |POST |GET /{id}|PUT /{id}|DELETE /{id}|GET /search|GET /{id}/versions|POST /{id}/versions|\
            POST /{id}/instantiate|POST /{id}/rate|POST /extract";
        assert_eq!(testing::missing_routes(&service, "/api/learning", learning), Vec::<String>::new());
        assert_eq!(testing::missing_routes(&service, "/api/patterns", patterns), Vec::<String>::new());
        assert_eq!(service.bindings().len(), 4);
    }

    #[test]
    fn what_makes_no_sense_is_refused_before_the_database_is_asked() {
        testing::sign_in("u1", "o1");
        let fields = |request: Request| -> Vec<String> {
            let answer = service().handle(request).json_body().unwrap();
            let errors = answer["errors"].as_array().cloned().unwrap_or_default();
            errors.iter().map(|error| error["field"].as_str().unwrap().to_string()).collect()
        };
        let get = |path: &str| Request::new("GET", &format!("/api/{path}"));
        let post = |path: &str, body| Request::new("POST", &format!("/api/{path}")).with_json(&body);
        assert_eq!(fields(post("learning/r1/progress", json!({"value": 1.1, "minutes": -1}))), ["value", "minutes"]);
        assert_eq!(fields(post("learning/r1/progress", json!({}))), ["value"]);
        assert_eq!(fields(post("learning/paths/p1/complete-step", json!({"stepId": "a b"}))), ["stepId"]);
        assert_eq!(fields(post("patterns/x/rate", json!({"rating": 6}))), ["rating"]);
        assert_eq!(fields(post("patterns/x/versions", json!({"version": "1.0", "code": "c"}))), ["version"]);
        assert_eq!(fields(post("patterns/x/instantiate", json!({"targetPath": "../x"}))), ["targetPath"]);
        assert_eq!(fields(post("patterns/extract", json!({"files": []}))), ["files"]);
        assert_eq!(fields(get("patterns/search")), ["q"]);
        assert_eq!(fields(get("patterns/search?q=%21%21")), ["q"]);
        assert_eq!(fields(get("learning/progress/summary?from=yesterday")), ["from"]);
        assert_eq!(service().handle(get("learning/paths")).status, 503, "natively there is no database");
    }
}
