//! What happens before anybody is asked: paths, ids, credentials, limits, origins, the host's own routes.

use super::*;

#[tokio::test]
async fn the_hosts_own_routes_answer_without_a_token() {
    let host = Host::start(Setting::default()).await;
    let root = host.send("GET", "/", &[], "").await;
    assert_eq!(root.status, 200);
    assert_eq!(root.json()["routes"], json!([{ "path": "/api/plans", "service": "planning" }]));
    for path in ["/health", "/live", "/api/health"] {
        assert_eq!(host.send("GET", path, &[], "").await.json()["status"], "ok", "{path}");
    }
    let ready = host.send("GET", "/ready", &[], "").await;
    assert_eq!(
        ready.json(),
        json!({ "status": "ready", "checks": { "database": "ok", "cache": "ok", "queue": "ok" } })
    );
    let post = host.send("POST", "/health", &[], "").await;
    assert_eq!(post.problem(), (405, "METHOD_NOT_ALLOWED".into()));
    assert_eq!(post.header("allow"), "GET, HEAD");
}

#[tokio::test]
async fn a_stopping_host_is_not_ready() {
    let host = Host::start(Setting::default()).await;
    host.gateway.begin_shutdown();
    let ready = host.send("GET", "/ready", &[], "").await;
    assert_eq!((ready.status, &ready.json()["status"]), (503, &json!("not_ready")));
}

#[tokio::test]
async fn a_plugins_health_is_told_by_the_host_to_whoever_is_signed_in() {
    let host = Host::start(Setting::default()).await;
    assert_eq!(host.send("GET", "/api/plans/health", &[], "").await.problem().0, 401);
    let health = host.call("GET", "/api/plans/health", &[], "").await.json();
    assert_eq!((&health["service"], &health["revision"], &health["traps"]), (&json!("planning"), &json!(1), &json!(2)));
    assert_eq!(health["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(host.slot.current().unwrap().calls(), 0);
}

#[tokio::test]
async fn a_request_id_is_kept_or_made_and_always_told() {
    let host = Host::start(Setting::default()).await;
    let kept = host.call("GET", "/api/plans", &[("x-request-id", "Trace-1")], "").await;
    assert_eq!((kept.header("x-request-id"), &kept.json()["requestId"]), ("Trace-1", &json!("Trace-1")));
    let made = host.call("GET", "/api/plans", &[("x-request-id", "two words")], "").await;
    assert_eq!(made.header("x-request-id").len(), 36);
    assert_eq!(made.json()["requestId"], made.header("x-request-id"));
}

#[tokio::test]
async fn an_unknown_path_leads_nowhere() {
    let host = Host::start(Setting::default()).await;
    for path in ["/api/planx", "/api/feedbacks", "/nothing", "/api/plansx/1", "/api"] {
        assert_eq!(host.call("GET", path, &[], "").await.problem(), (404, "ROUTE_NOT_FOUND".into()), "{path}");
    }
}

#[tokio::test]
async fn an_ambiguous_path_is_refused_before_anything_else() {
    let host = Host::start(Setting::default()).await;
    for path in ["/api/plans/../admin", "/api/plans/%2e%2e/admin", "/api//plans", "/api/plans/a%00b", "/api/plans\\x"] {
        assert_eq!(host.call("GET", path, &[], "").await.status, 400, "{path}");
    }
    let long = format!("/api/plans/{}", "a".repeat(5000));
    assert_eq!(host.call("GET", &long, &[], "").await.problem(), (414, "URI_TOO_LONG".into()));
    assert_eq!(host.slot.current().unwrap().calls(), 0);
}

#[tokio::test]
async fn a_token_is_needed_and_an_identity_cannot_be_claimed() {
    let host = Host::start(Setting::default()).await;
    for headers in
        [&[][..], &[("authorization", "Bearer forged")], &[("authorization", "Basic YTpi")], &[("x-user-id", "u")]]
    {
        let refused = host.send("GET", "/api/plans", headers, "").await;
        assert_eq!(refused.problem(), (401, "UNAUTHORIZED".into()), "{headers:?}");
        assert_eq!(refused.header("www-authenticate"), "Bearer");
    }
    let twice = host.call("GET", "/api/plans", &[("authorization", "Bearer other")], "").await;
    assert_eq!(twice.problem().0, 400);
    assert_eq!(host.slot.current().unwrap().calls(), 0);

    let forged = [
        ("X-User-Id", "1"),
        ("x_user_id", "2"),
        ("X-Organization-Id", "3"),
        ("X-TENANT_ID", "4"),
        ("cookie", "a=1; refreshToken=r"),
    ];
    let echo = host.call("GET", "/api/plans", &forged, "").await.json();
    assert!(echo["user"].is_string());
    let headers = echo["headers"].as_object().unwrap();
    assert!(
        headers.keys().all(|name| !name.contains("user") && !name.contains("organization") && !name.contains("tenant"))
    );
    assert!(!headers.contains_key("authorization"), "a guest must not see the caller's token");
    assert_eq!(headers["cookie"], "a=1");
}

#[tokio::test]
async fn a_cookie_is_as_good_as_a_header_except_from_a_foreign_page() {
    let host = Host::start(Setting::default()).await;
    let cookie = format!("accessToken={}", host.token);
    assert_eq!(host.send("GET", "/api/plans", &[("cookie", &cookie)], "").await.status, 200);
    assert_eq!(host.send("POST", "/api/plans", &[("cookie", &cookie)], "").await.status, 200);
    let own = [("cookie", cookie.as_str()), ("origin", "https://app.example.com")];
    assert_eq!(host.send("POST", "/api/plans", &own, "").await.status, 200);
    let foreign = [("cookie", cookie.as_str()), ("origin", "https://evil.example")];
    assert_eq!(host.send("POST", "/api/plans", &foreign, "").await.problem(), (403, "FORBIDDEN".into()));
}

#[tokio::test]
async fn a_stale_token_does_not_keep_anybody_from_signing_in() {
    let host = Host::start(Setting::default()).await;
    let body = json!({ "email": "ada@example.com", "password": "correct horse battery" }).to_string();
    let headers = [("authorization", "Bearer stale"), ("content-type", "application/json")];
    assert_eq!(host.send("POST", "/api/auth/login", &headers, &body).await.status, 200);
}

#[tokio::test]
async fn one_caller_is_held_back_and_told_when_to_come_again() {
    let limits = Limits { rate_per_minute: Some(3), ..Limits::default() };
    let host = Host::start(Setting { rate_limit_per_minute: 600, limits, ..Setting::default() }).await;
    let mut refused = None;
    // A window may end in between: then the second one is used up.
    for _ in 0..8 {
        let reply = host.call("GET", "/api/plans", &[], "").await;
        assert_eq!(reply.header("x-ratelimit-limit"), "3");
        assert!(!reply.header("x-ratelimit-remaining").is_empty() && !reply.header("x-ratelimit-reset").is_empty());
        if reply.status == 429 {
            refused = Some(reply);
            break;
        }
    }
    let refused = refused.expect("nobody was held back");
    assert_eq!(refused.problem(), (429, "RATE_LIMIT_EXCEEDED".into()));
    assert_eq!(refused.json()["retryAfter"].to_string(), refused.header("retry-after"));
    assert_eq!(host.send("GET", "/health", &[], "").await.status, 200, "probes are never counted");
}

#[tokio::test]
async fn only_a_configured_origin_may_read_answers() {
    let host = Host::start(Setting::default()).await;
    let preflight = [("origin", "https://app.example.com"), ("access-control-request-method", "PUT")];
    let allowed = host.send("OPTIONS", "/api/plans", &preflight, "").await;
    assert_eq!((allowed.status, allowed.header("access-control-allow-origin")), (204, "https://app.example.com"));
    assert_eq!(allowed.header("access-control-allow-credentials"), "true");
    assert!(allowed.header("access-control-allow-methods").contains("PUT"));
    let foreign = [("origin", "https://evil.example"), ("access-control-request-method", "PUT")];
    let refused = host.send("OPTIONS", "/api/plans", &foreign, "").await;
    assert!(refused.headers.keys().all(|name| !name.as_str().starts_with("access-control-")));
    let error = host.send("GET", "/api/plans", &[("origin", "https://app.example.com")], "").await;
    assert_eq!((error.status, error.header("access-control-allow-origin")), (401, "https://app.example.com"));
    assert_eq!(error.header("vary"), "origin");
}

#[tokio::test]
async fn every_answer_is_hardened() {
    let host = Host::start(Setting::default()).await;
    for (path, token) in [("/health", false), ("/api/plans", true), ("/nothing", true)] {
        let reply = if token { host.call("GET", path, &[], "").await } else { host.send("GET", path, &[], "").await };
        assert_eq!(reply.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(reply.header("x-frame-options"), "DENY", "{path}");
    }
}

#[tokio::test]
async fn the_main_app_answers_its_routes_and_its_refusals_are_problems() {
    let host = Host::start(Setting::default()).await;
    let me = host.call("GET", "/api/auth/me", &[], "").await;
    assert_eq!(me.status, 200, "{}", me.text);
    assert_eq!(me.header("cache-control"), "no-store");
    assert_eq!(host.send("GET", "/api/auth/me", &[], "").await.problem(), (401, "UNAUTHORIZED".into()));
    let wrong = host.send("DELETE", "/api/auth/login", &[], "").await;
    assert_eq!(wrong.problem(), (405, "METHOD_NOT_ALLOWED".into()));
    assert!(wrong.header("allow").contains("POST"));
    let broken = host.send("POST", "/api/auth/login", &[("content-type", "application/json")], "{").await;
    assert_eq!(broken.problem(), (400, "VALIDATION_ERROR".into()));
    assert!(broken.json()["errors"].is_array());
}

#[tokio::test]
async fn the_document_describes_what_is_loaded() {
    let build =
        FakeBuild::new(1).handling(echo).described(vec![route("GET", "/api/plans/{id}", Some("planning.plans.read"))]);
    let host = Host::start(Setting { build: Some(build), ..Setting::default() }).await;
    assert_eq!(host.send("GET", "/openapi.json", &[], "").await.status, 200, "a tool reads it before it has a token");
    let document = host.call("GET", "/openapi.json", &[], "").await.json();
    assert!(document["paths"]["/api/plans/{id}"]["get"].is_object());
    assert!(document["paths"]["/api/auth/login"]["post"].is_object(), "the main app is described too");
    host.slot.put(Arc::new(FakeBuild::new(2).handling(echo)));
    let document = host.call("GET", "/openapi.json", &[], "").await.json();
    assert!(document["paths"]["/api/plans/{id}"].is_null());
}
