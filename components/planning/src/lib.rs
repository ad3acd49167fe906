//! Planning: plans, projects, tasks and everything they hang on. It decides what should be done and when it may;
//! execution-service does it. Nothing here may run a step.

mod architecture;
mod assistant;
mod context;
mod debt;
mod dependency;
mod environment;
mod incident;
mod issue;
mod module;
mod plan;
mod project;
mod release;
mod review;
mod roadmap;
mod score;
mod task;

use berth_sdk::{migrations, prelude::*};

fn service() -> Service {
    Service::new("planning", env!("CARGO_PKG_VERSION"))
        .migrations(migrations::embed![
            "../../../migrations/planning/0001_plans.sql",
            "../../../migrations/planning/0002_groups.sql",
            "../../../migrations/planning/0003_codes.sql",
            "../../../migrations/planning/0004_holds.sql",
        ])
        .routes(plan::routes())
        .routes(project::routes())
        .routes(task::routes())
        .routes(roadmap::routes())
        .routes(issue::routes())
        .routes(release::routes())
        .routes(architecture::routes())
        .routes(dependency::routes())
        .routes(incident::routes())
        .routes(environment::routes())
        .routes(debt::routes())
        .routes(review::routes())
        .routes(module::routes())
        .routes(context::routes())
        .on("execution.#", plan::mirror)
        .on("observability.alert.firing", issue::suggest)
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
        let wanted = "GET /api/application-context|POST /api/application-context|GET /api/application-context/{projectId}\
            |PUT /api/application-context/{projectId}|POST /api/architecture/analyze|GET /api/architecture/diagrams\
            |POST /api/architecture/diagrams|DELETE /api/architecture/diagrams/{id}\
            |GET /api/architecture/diagrams/{id}|PUT /api/architecture/diagrams/{id}\
            |POST /api/architecture/diagrams/{id}/review|POST /api/architecture/diagrams/{id}/versions\
            |PUT /api/architecture/reviews/{id}/decision|GET /api/debt|POST /api/debt|GET /api/debt/backlog\
            |GET /api/debt/trends|DELETE /api/debt/{id}|GET /api/debt/{id}|PUT /api/debt/{id}\
            |PUT /api/debt/{id}/resolve|POST /api/debt/{id}/to-task|GET /api/dependencies|POST /api/dependencies\
            |GET /api/dependencies/graph|POST /api/dependencies/scan|GET /api/dependencies/vulnerabilities\
            |DELETE /api/dependencies/{id}|GET /api/dependencies/{id}|PUT /api/dependencies/{id}\
            |PUT /api/dependencies/{id}/update|GET /api/environments|POST /api/environments\
            |GET /api/environments/compare|DELETE /api/environments/{id}|GET /api/environments/{id}\
            |PUT /api/environments/{id}|POST /api/environments/{id}/sync|POST /api/environments/{id}/validate\
            |GET /api/environments/{id}/variables|PUT /api/environments/{id}/variables|GET /api/incidents\
            |POST /api/incidents|DELETE /api/incidents/{id}|GET /api/incidents/{id}|PUT /api/incidents/{id}\
            |GET /api/incidents/{id}/action-items|POST /api/incidents/{id}/action-items\
            |DELETE /api/incidents/{id}/action-items/{itemId}|GET /api/incidents/{id}/action-items/{itemId}\
            |PUT /api/incidents/{id}/action-items/{itemId}|POST /api/incidents/{id}/comments\
            |GET /api/incidents/{id}/postmortem|PUT /api/incidents/{id}/postmortem|PUT /api/incidents/{id}/resolve\
            |GET /api/issues|POST /api/issues|POST /api/issues/anticipate|DELETE /api/issues/{id}\
            |GET /api/issues/{id}|PUT /api/issues/{id}|POST /api/issues/{id}/to-task|GET /api/modules\
            |POST /api/modules|POST /api/modules/detect|DELETE /api/modules/submodules/{id}\
            |PUT /api/modules/submodules/{id}|DELETE /api/modules/{id}|GET /api/modules/{id}|PUT /api/modules/{id}\
            |GET /api/modules/{id}/submodules|POST /api/modules/{id}/submodules|GET /api/plans|POST /api/plans\
            |GET /api/plans/templates|DELETE /api/plans/{id}|GET /api/plans/{id}|PUT /api/plans/{id}\
            |POST /api/plans/{id}/approve|PUT /api/plans/{id}/cancel|POST /api/plans/{id}/execute\
            |PUT /api/plans/{id}/pause|POST /api/plans/{id}/refine|PUT /api/plans/{id}/resume\
            |GET /api/plans/{id}/status|GET /api/plans/{id}/steps|POST /api/plans/{id}/steps\
            |DELETE /api/plans/{id}/steps/{stepId}|PUT /api/plans/{id}/steps/{stepId}|POST /api/plans/{id}/validate\
            |GET /api/projects|POST /api/projects|DELETE /api/projects/{id}|GET /api/projects/{id}\
            |PUT /api/projects/{id}|GET /api/projects/{id}/access|PUT /api/projects/{id}/access\
            |GET /api/projects/{id}/context|GET /api/projects/{id}/modules|GET /api/projects/{id}/profile\
            |PUT /api/projects/{id}/profile|POST /api/projects/{id}/switch|GET /api/projects/{id}/tasks\
            |GET /api/releases|POST /api/releases|DELETE /api/releases/{id}|GET /api/releases/{id}\
            |PUT /api/releases/{id}|GET /api/releases/{id}/changelog|POST /api/releases/{id}/deploy\
            |GET /api/releases/{id}/deployments|POST /api/releases/{id}/rollback|GET /api/reviews|POST /api/reviews\
            |PUT /api/reviews/comments/{id}/resolve|DELETE /api/reviews/{id}|GET /api/reviews/{id}\
            |PUT /api/reviews/{id}|PUT /api/reviews/{id}/approve|GET /api/reviews/{id}/comments\
            |POST /api/reviews/{id}/comments|PUT /api/reviews/{id}/reject|GET /api/roadmaps|POST /api/roadmaps\
            |DELETE /api/roadmaps/epics/{id}|GET /api/roadmaps/epics/{id}|PUT /api/roadmaps/epics/{id}\
            |POST /api/roadmaps/epics/{id}/stories|POST /api/roadmaps/epics/{id}/stories/generate\
            |DELETE /api/roadmaps/milestones/{id}|GET /api/roadmaps/milestones/{id}\
            |PUT /api/roadmaps/milestones/{id}|POST /api/roadmaps/milestones/{id}/epics\
            |DELETE /api/roadmaps/stories/{id}|GET /api/roadmaps/stories/{id}|PUT /api/roadmaps/stories/{id}\
            |POST /api/roadmaps/stories/{id}/tasks/generate|DELETE /api/roadmaps/{id}|GET /api/roadmaps/{id}\
            |PUT /api/roadmaps/{id}|GET /api/roadmaps/{id}/critical-path|GET /api/roadmaps/{id}/dependencies\
            |GET /api/roadmaps/{id}/hierarchy|POST /api/roadmaps/{id}/milestones|GET /api/roadmaps/{id}/progress\
            |GET /api/roadmaps/{id}/tree|GET /api/tasks|POST /api/tasks|DELETE /api/tasks/{id}|GET /api/tasks/{id}\
            |PUT /api/tasks/{id}|PUT /api/tasks/{id}/assign|GET /api/tasks/{id}/comments\
            |POST /api/tasks/{id}/comments|POST /api/tasks/{id}/dependencies\
            |DELETE /api/tasks/{id}/dependencies/{depId}|GET /api/tasks/{id}/history|POST /api/tasks/{id}/link\
            |GET /api/tasks/{id}/readiness|PUT /api/tasks/{id}/status|GET /api/tasks/{id}/subtasks\
            |POST /api/tasks/{id}/subtasks";
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
