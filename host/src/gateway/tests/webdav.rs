//! What clients of WebDAV get of the host: keys by Basic, OPTIONS, and slashes that change nothing.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;

const READ: &str = "planning.plans.read";

/// A host whose plans speak WebDAV, and have a route that does not.
async fn host() -> Host {
    let mut routes: Vec<Route> =
        ["OPTIONS", "PROPFIND", "GET"].map(|method| route(method, "/api/plans/dav", Some(READ))).into();
    routes.push(route("GET", "/api/plans/export", Some("planning.plans.export")));
    let build = FakeBuild::new(1).handling(echo).described(routes);
    Host::start(Setting { build: Some(build), ..Setting::default() }).await
}

async fn key(host: &Host, permissions: &[&str]) -> String {
    let body = json!({ "name": "Phone", "permissions": permissions });
    let reply = host.call("POST", "/api/users/me/api-keys", &[], &body.to_string()).await;
    assert_eq!(reply.status, 201, "{}", reply.text);
    reply.json()["key"].as_str().unwrap().to_owned()
}

fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
}

#[tokio::test]
async fn a_key_by_basic_opens_what_speaks_webdav_and_nothing_else() {
    let host = host().await;
    let key = key(&host, &["planning.*"]).await;
    let good = basic("Ada@Example.com", &key);
    for (method, path) in [("PROPFIND", "/api/plans/dav"), ("PROPFIND", "/api/plans/dav/"), ("GET", "/api/plans/dav")] {
        let reply = host.send(method, path, &[("authorization", &good)], "").await;
        assert_eq!(reply.status, 200, "{method} {path}: {}", reply.text);
        let seen = reply.json();
        assert!(seen["user"].is_string() && seen["headers"].get("authorization").is_none(), "{seen}");
    }
    for (path, credential) in [
        ("/api/plans/dav", basic("eve@example.com", &key)),
        ("/api/plans/dav", basic("", &key)),
        ("/api/plans/dav", basic("ada@example.com", "correct horse battery")),
        ("/api/plans/dav", basic("ada@example.com", &host.token)),
        ("/api/plans/dav", basic("ada@example.com", OPERATOR)),
        ("/api/plans/dav", basic("ada@example.com", &format!("{key}x"))),
        ("/api/plans/dav", "Basic nothing".to_owned()),
        ("/api/plans/export", good.clone()),
        ("/api/auth/me", good.clone()),
    ] {
        let reply = host.send("GET", path, &[("authorization", &credential)], "").await;
        assert_eq!(reply.problem(), (401, "UNAUTHORIZED".into()), "{path}");
    }
    // Another origin's page must not use what a browser has kept.
    let headers = [("authorization", good.as_str()), ("origin", "https://evil.example")];
    assert_eq!(host.send("PROPFIND", "/api/plans/dav", &headers, "").await.problem().0, 403);
}

#[tokio::test]
async fn basic_is_offered_where_webdav_is_spoken() {
    let host = host().await;
    let offered = |reply: &Reply| -> Vec<String> {
        reply.headers.get_all("www-authenticate").iter().map(|value| value.to_str().unwrap().to_owned()).collect()
    };
    for method in ["PROPFIND", "OPTIONS", "GET", "PUT"] {
        let reply = host.send(method, "/api/plans/dav/", &[], "").await;
        assert_eq!(reply.problem().0, 401, "{method}");
        assert_eq!(offered(&reply), ["Basic realm=\"Berth\", charset=\"UTF-8\"", "Bearer"], "{method}");
    }
    for path in ["/api/plans/export", "/api/auth/me"] {
        assert_eq!(offered(&host.send("GET", path, &[], "").await), ["Bearer"], "{path}");
    }
    assert_eq!(host.call("PROPFIND", "/.well-known/caldav", &[], "").await.problem().0, 404, "there are no calendars");
}

#[tokio::test]
async fn a_guest_never_sees_a_key_even_where_it_opens_nothing() {
    let public = |method: &str| Route { is_public: true, ..route(method, "/api/plans/dav", None) };
    let build = FakeBuild::new(1).handling(echo).described(vec![public("PROPFIND"), public("GET")]);
    let setting = Setting { build: Some(build), public: &["/api/plans/dav"], ..Setting::default() };
    let host = Host::start(setting).await;
    let key = key(&host, &["planning.*"]).await;
    let seen =
        host.send("GET", "/api/plans/dav", &[("authorization", &basic("eve@example.com", &key))], "").await.json();
    assert!(seen["user"].is_null() && seen["headers"].get("authorization").is_none(), "{seen}");
    // A name and a password that the plugin itself may know are the plugin's.
    let own = basic("eve@example.com", "secret");
    let seen = host.send("GET", "/api/plans/dav", &[("authorization", &own)], "").await.json();
    assert_eq!(seen["headers"]["authorization"], own);
}

#[tokio::test]
async fn options_is_the_plugins_where_it_says_so_and_a_preflight_is_the_hosts() {
    let host = host().await;
    let reply = host.call("OPTIONS", "/api/plans/dav/", &[], "").await;
    assert_eq!((reply.status, &reply.json()["method"]), (200, &json!("OPTIONS")));
    let ask = [("origin", "https://app.example.com"), ("access-control-request-method", "PROPFIND")];
    let preflight = host.send("OPTIONS", "/api/plans/dav", &ask, "").await;
    assert_eq!(preflight.status, 204);
    assert!(preflight.header("access-control-allow-methods").contains("PROPFIND"));
    assert!(preflight.header("access-control-allow-headers").contains("depth"));
    assert_eq!(host.send("OPTIONS", "/api/plans/export", &[], "").await.status, 204);
}

#[tokio::test]
async fn a_slash_at_the_end_is_no_way_around_a_permission() {
    let host = host().await;
    let key = format!("Bearer {}", key(&host, &[READ]).await);
    for path in ["/api/plans/export", "/api/plans/export/"] {
        let reply = host.send("GET", path, &[("authorization", &key)], "").await;
        assert_eq!(reply.problem(), (403, "FORBIDDEN".into()), "{path}");
        assert_eq!(host.call("GET", path, &[], "").await.status, 200, "{path}");
    }
}
