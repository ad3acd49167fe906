use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Depth, verify};
use crate::bindings::lifecycle::{Answer, Description, Dialect, Migration, Route, Timer};
use crate::capability::Plugin;
use crate::capability::grant::{Grant, Isolation, Limits};
use crate::deploy::fake::{description, route};
use crate::deploy::{Prefix, PublicRoute, SlotOptions};
use crate::engine::Exports;

const ALL: Exports = Exports { handler: true, consumer: true, lifecycle: true, http_02: true, http_03: false };

fn options() -> SlotOptions {
    SlotOptions {
        plugin: Arc::new(Plugin {
            name: "planning".into(),
            grant: Grant {
                tables: vec!["plan_".into()],
                consume: vec!["execution.#".into(), "ai.agent.*".into()],
                ..Grant::default()
            },
            limits: Limits::default(),
            config: BTreeMap::from([("mode".to_owned(), "x".to_owned())]),
        }),
        origin: Default::default(),
        component: None,
        prefixes: vec![Prefix::parse("/api/plans").unwrap()],
        public: vec![PublicRoute::new(Some("GET"), "/api/plans/public/{id}").unwrap()],
        port: None,
        isolation: Isolation::default(),
        timers: BTreeMap::new(),
        rate_limits: Vec::new(),
    }
}

/// What is said against a description, or nothing.
fn judge(change: impl FnOnce(&mut Description)) -> String {
    let mut description = description(&["GET /api/plans/{id}"]);
    change(&mut description);
    verify(&options(), ALL, Some(&description), Depth::Whole).err().unwrap_or_default()
}

fn judge_route(text: &str, change: impl FnOnce(&mut Route)) -> String {
    judge(|description| {
        let mut described = route(text);
        change(&mut described);
        description.routes = vec![described];
    })
}

#[test]
fn a_sane_description_passes() {
    let said = judge(|description| {
        description.routes.push(Route {
            is_public: true,
            needs_organization: false,
            request_schema: Some(
                r##"{"type":"object","properties":{"a":{"$ref":"#/$defs/a"}},"$defs":{"a":{"type":"string"}}}"##.into(),
            ),
            ..route("GET /api/plans/public/{token}")
        });
        description.bindings = vec!["execution.step.#".into(), "ai.agent.done".into()];
        description.timers = vec![Timer { name: "due".into(), schedule: "15m".into() }];
        description.required_config = vec!["mode".into()];
        description.migrations = vec![migration("0001_create_plans", Dialect::Any)];
    });
    assert_eq!(said, "");
}

#[test]
fn a_component_that_answers_nothing_is_refused() {
    let nothing = Exports { handler: false, consumer: false, lifecycle: true, http_02: false, http_03: false };
    let said = verify(&options(), nothing, Some(&description(&["GET /api/plans"])), Depth::Whole).unwrap_err();
    assert!(said.contains("exports none of") && said.contains("describes routes"), "{said}");
    let deaf = Exports { consumer: false, ..ALL };
    let mut described = description(&[]);
    described.bindings = vec!["execution.#".into()];
    let said = verify(&options(), deaf, Some(&described), Depth::Whole).unwrap_err();
    assert!(said.contains("does not export berth:platform/consumer"), "{said}");
    assert!(verify(&options(), Exports { handler: true, ..nothing }, None, Depth::Whole).is_ok());
}

#[test]
fn a_stream_needs_wasi_http() {
    let typed_only = Exports { http_02: false, ..ALL };
    let mut described = description(&["GET /api/plans/events"]);
    described.routes[0].is_streaming = true;
    let said = verify(&options(), typed_only, Some(&described), Depth::Whole).unwrap_err();
    assert!(said.contains("does not export wasi:http"), "{said}");
    assert!(verify(&options(), ALL, Some(&described), Depth::Whole).is_ok());
}

#[test]
fn routes_stay_under_the_plugins_own_prefixes() {
    for path in ["/api/planning", "/api/plansx/{id}", "/api/projects", "/"] {
        let said = judge_route(&format!("GET {path}"), |_| {});
        assert!(said.contains("outside the plugin's routes (/api/plans)"), "{path}: {said}");
    }
}

#[test]
fn malformed_routes_are_refused_each_with_its_sentence() {
    for (text, expected) in [
        ("FETCH /api/plans", "the method is not one of"),
        ("PROPPATCH /api/plans", "the method is not one of"),
        ("GET /api/plans/../x", "neither plain text"),
        ("GET /api/plans/{id}/{id}", "without a name of its own"),
        ("GET /api/plans/", "neither plain text"),
    ] {
        let said = judge_route(text, |_| {});
        assert!(said.contains(expected), "{text}: {said}");
    }
    let twice = judge(|description| description.routes.push(route("GET /api/plans/{other}")));
    assert!(twice.contains("described twice"), "{twice}");
}

#[test]
fn a_route_is_public_only_when_the_manifest_says_so_too() {
    let said = judge_route("GET /api/plans/open", |route| route.is_public = true);
    assert!(said.contains("`public` in plugins.toml does not list it"), "{said}");
    let said = judge_route("POST /api/plans/public/{id}", |route| route.is_public = true);
    assert!(said.contains("does not list it"), "{said}");
    let said = judge_route("GET /api/plans/public/{id}", |route| {
        route.is_public = true;
        route.permission = Some("planning.plans.read".into());
    });
    assert!(said.contains("public and demands a permission"), "{said}");
}

#[test]
fn permissions_schemas_statuses_and_media_types_are_judged() {
    for code in ["read", "planning.plans", "planning.plans.*", "a.b.c.d", "a..b", "planning.plans.re ad"] {
        let said = judge_route("GET /api/plans", |route| route.permission = Some(code.into()));
        assert!(said.contains("module.resource.action"), "{code}: {said}");
    }
    for schema in
        ["", "{", "[]", "1", r#"{"type":"banana"}"#, r#"{"minimum":"x"}"#, r#"{"$ref":"https://example.com/s"}"#]
    {
        let said = judge_route("POST /api/plans", |route| route.request_schema = Some(schema.into()));
        assert!(said.contains("the JSON Schema of the request"), "{schema}: {said}");
    }
    let answer = |status, media_type: &str| Answer {
        status,
        description: String::new(),
        schema: None,
        media_type: Some(media_type.into()),
    };
    let said =
        judge_route("GET /api/plans", |route| route.answers = vec![answer(99, "text/event-stream; charset=utf-8")]);
    assert!(said.contains("the status 99") && !said.contains("media type"), "{said}");
    let said = judge_route("GET /api/plans", |route| route.answers = vec![answer(200, "json")]);
    assert!(said.contains("no media type"), "{said}");
}

#[test]
fn bindings_stay_within_the_grant() {
    for binding in ["planning.plan.created", "#", "ai.#", "ai.agent.step.done", "executionx.done"] {
        let said = judge(|description| description.bindings = vec![binding.into()]);
        assert!(said.contains("`consume` does not allow it"), "{binding}: {said}");
    }
    for binding in ["", "a..b", "Execution.done", "execution.a b"] {
        let said = judge(|description| description.bindings = vec![binding.into()]);
        assert!(said.contains("no event type or pattern"), "{binding}: {said}");
    }
}

#[test]
fn timers_settings_and_migrations_are_judged() {
    let timer = |name: &str, schedule: &str| Timer { name: name.into(), schedule: schedule.into() };
    let said = judge(|description| description.timers = vec![timer("due", "now and then"), timer("due", "15m")]);
    assert!(said.contains("is no schedule") && said.contains("described twice"), "{said}");
    let said = judge(|description| description.required_config = vec!["provider".into()]);
    assert!(said.contains("needs the setting `provider`"), "{said}");
    for (migrations, expected) in [
        (vec![migration("create plans", Dialect::Any)], "does not read like 0001_create_plans"),
        (vec![migration("0001_a", Dialect::Any), migration("0001_a", Dialect::Sqlite)], "there twice"),
        (vec![migration("0001_a", Dialect::Postgres), migration("0001_a", Dialect::Postgres)], "there twice"),
    ] {
        let said = judge(|description| description.migrations = migrations);
        assert!(said.contains(expected), "{said}");
    }
    let pair = vec![migration("0001_a", Dialect::Sqlite), migration("0001_a", Dialect::Postgres)];
    assert_eq!(judge(|description| description.migrations = pair), "");
}

#[test]
fn many_faults_are_told_within_bounds() {
    let said = judge(|description| description.bindings = vec!["nope".into(); 60]);
    assert!(said.contains("and 40 more") && said.len() < 4_000, "{said}");
}

fn migration(name: &str, dialect: Dialect) -> Migration {
    Migration { name: name.into(), dialect, sql: "CREATE TABLE plan_plans (id TEXT PRIMARY KEY)".into() }
}
