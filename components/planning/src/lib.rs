//! Planning: plans, projects and tasks. It decides what should be done and when it may; execution-service does it.
//! Nothing here may run a step.

mod plan;
mod project;
mod task;

use berth_sdk::{migrations, prelude::*};

fn service() -> Service {
    Service::new("planning", env!("CARGO_PKG_VERSION"))
        .migrations(migrations::embed!["../../../migrations/planning/0001_plans.sql"])
        .routes(plan::routes())
        .routes(project::routes())
        .routes(task::routes())
        .on("execution.#", plan::mirror)
        .timer("due", "15m", task::announce_due)
}

berth_sdk::plugin!(service());

#[cfg(test)]
mod tests {
    use berth_sdk::prelude::*;

    use super::service;

    #[test]
    fn every_route_of_the_specification_is_there() {
        let service = service();
        let known: Vec<(String, String)> = service
            .router()
            .unwrap()
            .routes()
            .iter()
            .map(|route| (route.method.to_string(), route.path.clone()))
            .collect();
        let wanted = "POST /api/plans|GET /api/plans|GET /api/plans/{id}|PUT /api/plans/{id}|DELETE /api/plans/{id}|\
            POST /api/plans/{id}/refine|POST /api/plans/{id}/validate|POST /api/plans/{id}/execute|PUT /api/plans/{id}/pause|\
            PUT /api/plans/{id}/resume|PUT /api/plans/{id}/cancel|GET /api/plans/{id}/status|GET /api/plans/{id}/steps|\
            PUT /api/plans/{id}/steps/{stepId}|POST /api/plans/{id}/steps|DELETE /api/plans/{id}/steps/{stepId}|\
            POST /api/plans/{id}/approve|GET /api/plans/templates|GET /api/projects|POST /api/projects|GET /api/projects/{id}|\
            PUT /api/projects/{id}|DELETE /api/projects/{id}|GET /api/projects/{id}/tasks|GET /api/projects/{id}/context|\
            GET /api/projects/{id}/profile|PUT /api/projects/{id}/profile|POST /api/projects/{id}/switch|\
            GET /api/projects/{id}/access|PUT /api/projects/{id}/access|GET /api/tasks|POST /api/tasks|GET /api/tasks/{id}|\
            PUT /api/tasks/{id}|DELETE /api/tasks/{id}|PUT /api/tasks/{id}/status|PUT /api/tasks/{id}/assign|\
            GET /api/tasks/{id}/subtasks|POST /api/tasks/{id}/subtasks|POST /api/tasks/{id}/dependencies|\
            DELETE /api/tasks/{id}/dependencies/{depId}|POST /api/tasks/{id}/link|GET /api/tasks/{id}/history|\
            GET /api/tasks/{id}/readiness|GET /api/tasks/{id}/comments|POST /api/tasks/{id}/comments";
        for route in wanted.split('|') {
            let (method, path) = route.trim().split_once(' ').unwrap();
            assert!(known.contains(&(method.to_string(), path.to_string())), "{route}");
        }
    }

    #[test]
    fn without_a_database_the_answer_is_503() {
        berth_sdk::testing::sign_in("u1", "o1");
        assert_eq!(service().handle(Request::new("GET", "/api/plans/p1")).status, 503);
        let body = json!({"projectId": "p1", "title": "t", "steps": []});
        assert_eq!(service().handle(Request::new("POST", "/api/plans").with_json(&body)).status, 503);
    }

    #[test]
    fn a_wrong_body_names_its_fields() {
        berth_sdk::testing::sign_in("u1", "o1");
        let body = json!({"title": 7, "steps": [{"title": "x", "type": "magic", "params": {}}]});
        let response = service().handle(Request::new("POST", "/api/plans").with_json(&body));
        let answer = response.json_body().unwrap();
        let fields: Vec<&str> =
            answer["errors"].as_array().unwrap().iter().map(|error| error["field"].as_str().unwrap()).collect();
        assert_eq!((response.status, fields), (400, vec!["projectId", "title", "steps[0].type"]));
    }
}
