//! Calls of plugins to each other.

use http_body_util::BodyExt;

use super::*;
use crate::capability::http_out::{DispatchError, InternalDispatch, Refusal};
use crate::principal::{Principal, PrincipalKind};

fn call(permissions: &[&str]) -> Call {
    let mut principal = Principal::anonymous();
    principal.kind = PrincipalKind::User;
    principal.user_id = Some("user-1".into());
    principal.organization_id = Some("organization-1".into());
    let codes = permissions.iter().map(|code| (*code).to_owned()).collect();
    principal.permissions = Arc::new(crate::principal::PermissionSet { codes, actions: vec![] });
    Call {
        principal: Arc::new(principal),
        request_id: "request-1".into(),
        source_service: Some("execution-service".into()),
        causation_id: None,
        correlation_id: None,
        depth: 3,
        deadline: Some(std::time::Instant::now() + Duration::from_secs(5)),
        is_shadow: false,
        trace: crate::trace::Trace::default(),
    }
}

fn request(path: &str) -> http::Request<Body> {
    http::Request::get(format!("http://planning.internal{path}")).body(body::empty()).unwrap()
}

async fn read(response: http::Response<Body>) -> (u16, Value) {
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    (parts.status.as_u16(), serde_json::from_slice(&bytes).unwrap())
}

#[tokio::test]
async fn a_plugin_calls_another_as_its_own_caller() {
    let host = Host::start(Setting::default()).await;
    let response = host.gateway.dispatch("planning", call(&[]), request("/api/plans/1?x=2")).await.unwrap();
    let (status, echo) = read(response).await;
    assert_eq!(status, 200);
    assert_eq!((&echo["path"], &echo["query"]), (&json!("/api/plans/1"), &json!("x=2")));
    assert_eq!(
        (&echo["user"], &echo["source"], &echo["depth"]),
        (&json!("user-1"), &json!("execution-service"), &json!(3))
    );
    assert_eq!((&echo["requestId"], &echo["headers"]["host"]), (&json!("request-1"), &json!("planning.internal")));
}

#[tokio::test]
async fn a_plugin_may_do_no_more_than_its_caller() {
    let build =
        FakeBuild::new(1).handling(echo).described(vec![route("GET", "/api/plans", Some("planning.plans.read"))]);
    let host = Host::start(Setting { build: Some(build), ..Setting::default() }).await;
    let refused =
        host.gateway.dispatch("planning", call(&["planning.plans.update"]), request("/api/plans")).await.unwrap();
    let (status, problem) = read(refused).await;
    assert_eq!((status, &problem["code"], &problem["requestId"]), (403, &json!("FORBIDDEN"), &json!("request-1")));
    let allowed =
        host.gateway.dispatch("planning", call(&["planning.plans.read"]), request("/api/plans")).await.unwrap();
    assert_eq!(read(allowed).await.0, 200);
    let mut nobody = call(&[]);
    nobody.principal = Arc::new(Principal::anonymous());
    let refused = host.gateway.dispatch("planning", nobody, request("/api/plans")).await.unwrap();
    assert_eq!(read(refused).await.0, 401);
}

#[tokio::test]
async fn what_a_copy_calls_is_a_copy_too_and_counts_for_nobody() {
    let seen: Arc<Mutex<Vec<bool>>> = Arc::default();
    let noted = Arc::clone(&seen);
    let build = FakeBuild::new(1).handling(move |call: Call, _| {
        noted.lock().push(call.is_shadow);
        std::future::ready(Ok(answer(200, "{}")))
    });
    let host = Host::start(Setting { build: Some(build), ..Setting::default() }).await;
    for is_shadow in [true, false] {
        let call = Call { is_shadow, ..call(&[]) };
        let response = host.gateway.dispatch("planning", call, request("/api/plans")).await.unwrap();
        assert_eq!(read(response).await.0, 200);
    }
    assert_eq!(*seen.lock(), [true, false]);
    assert_eq!(host.slot.current().unwrap().meter().reading().requests(), 1);
}

#[tokio::test]
async fn only_the_plugins_own_paths_are_reached() {
    let host = Host::start(Setting::default()).await;
    for path in ["/api/admin/plugins", "/api/other", "/", "/api/plans/../other"] {
        let response = host.gateway.dispatch("planning", call(&[]), request(path)).await.unwrap();
        let status = read(response).await.0;
        assert!(status == 404 || status == 400, "{path} was answered with {status}");
    }
    let unknown = host.gateway.dispatch("nobody", call(&[]), request("/api/plans")).await;
    assert!(matches!(unknown, Err(DispatchError::NotFound)));
}

#[tokio::test]
async fn a_failing_target_is_a_failure_and_not_an_answer() {
    type Check = fn(&DispatchError) -> bool;
    let cases: [(CallError, Check); 3] = [
        (CallError::Busy, |error| matches!(error, DispatchError::Unavailable)),
        (CallError::TimedOut, |error| matches!(error, DispatchError::Timeout)),
        (CallError::Trapped("x".into()), |error| matches!(error, DispatchError::Failed(Some(_)))),
    ];
    for (error, expected) in cases {
        let failing = error.clone();
        let build = FakeBuild::new(1).handling(move |_, _| std::future::ready(Err(failing.clone())));
        let host = Host::start(Setting { build: Some(build), ..Setting::default() }).await;
        let failure = host.gateway.dispatch("planning", call(&[]), request("/api/plans")).await.unwrap_err();
        assert!(expected(&failure), "{error} became {failure}");
    }
    let host = Host::start(Setting { build: None, ..Setting::default() }).await;
    let failure = host.gateway.dispatch("planning", call(&[]), request("/api/plans")).await.unwrap_err();
    assert!(matches!(failure, DispatchError::Unavailable));
}

#[tokio::test]
async fn a_call_that_was_not_made_is_503() {
    let host = Host::start(Setting::default()).await;
    for refusal in [Refusal::TooDeep, Refusal::CircuitOpen] {
        let response = InternalDispatch::refuse(&*host.gateway, &call(&[]), refusal);
        assert!(response.headers().contains_key("retry-after"));
        assert_eq!(read(response).await.0, 503);
    }
}

#[tokio::test]
async fn a_plugin_reads_who_belongs_to_the_organization_and_changes_nothing() {
    let host = Host::start(Setting::default()).await;
    let me = host.call("GET", "/api/auth/me", &[], "").await.json();
    let organization: Arc<str> = me["organization"]["id"].as_str().unwrap().into();
    let mut message = call(&[]);
    message.principal = Arc::new(Principal {
        kind: PrincipalKind::System,
        organization_id: Some(organization),
        ..Principal::anonymous()
    });
    let get = |path: &str| http::Request::get(format!("http://host.internal{path}")).body(body::empty()).unwrap();
    let response = host.gateway.dispatch("host", message.clone(), get("/api/users?limit=5")).await.unwrap();
    let (status, users) = read(response).await;
    assert_eq!((status, &users["items"][0]["email"]), (200, &json!("ada@example.com")));
    // A user's call reads what the user may, and another organization's users do not exist.
    let path = format!("/api/users/{}", users["items"][0]["id"].as_str().unwrap());
    let refused = host.gateway.dispatch("host", call(&[]), get(&path)).await.unwrap();
    assert_eq!(read(refused).await.0, 403);
    let stranger = host.gateway.dispatch("host", call(&["users.user.read"]), get(&path)).await.unwrap();
    assert_eq!(read(stranger).await.0, 404);
    let others = ["/api/auth/me", "/api/audit", "/api/admin/plugins", "/api/usersx", "/api/plans"];
    let own = ["/api/users/me/api-keys", "/api/organizations"];
    for path in others.into_iter().chain(own) {
        let response = host.gateway.dispatch("host", message.clone(), get(path)).await.unwrap();
        assert_eq!(read(response).await.0, 404, "{path}");
    }
    let (status, document) =
        read(host.gateway.dispatch("host", message.clone(), get("/openapi.json")).await.unwrap()).await;
    assert_eq!((status, &document["openapi"]), (200, &json!("3.1.0")));
    // Sessions are a user's own, and a message is nobody.
    let sessions = host.gateway.dispatch("host", message.clone(), get("/api/users/me/sessions")).await.unwrap();
    assert_eq!(read(sessions).await.0, 403);
    let post = http::Request::post("http://host.internal/api/teams").body(body::empty()).unwrap();
    let response = host.gateway.dispatch("host", message, post).await.unwrap();
    assert_eq!(read(response).await.0, 405);
}

#[tokio::test]
async fn a_plugin_reads_what_its_organization_has_set_whoever_calls() {
    let host = Host::start(Setting::default()).await;
    let me = host.call("GET", "/api/auth/me", &[], "").await.json();
    let organization: Arc<str> = me["organization"]["id"].as_str().unwrap().into();
    let settings = format!("/api/organizations/{organization}/settings");
    let json_body = [("content-type", "application/json")];
    let set = host.call("PUT", &settings, &json_body, r#"{"timezone":"Europe/Berlin"}"#).await;
    assert_eq!(set.status, 200);
    let get = |path: &str| http::Request::get(format!("http://host.internal{path}")).body(body::empty()).unwrap();
    let within = |kind: PrincipalKind, organization: &str, is_platform: bool| {
        let mut call = call(&[]);
        let principal =
            Principal { kind, organization_id: Some(organization.into()), is_platform, ..(*call.principal).clone() };
        call.principal = Arc::new(principal);
        call
    };
    // A user who may see nothing, a key, a message, and the platform's administrators in an organization of their own.
    for (kind, from, is_platform) in [
        (PrincipalKind::User, &*organization, false),
        (PrincipalKind::ApiKey, &*organization, false),
        (PrincipalKind::System, &*organization, false),
        (PrincipalKind::User, "operators", true),
    ] {
        let response = host.gateway.dispatch("host", within(kind, from, is_platform), get(&settings)).await.unwrap();
        assert_eq!(read(response).await, (200, json!({ "timezone": "Europe/Berlin" })), "{kind:?} of {from}");
    }
    // To everybody else the organization does not exist, and nothing but what it has set is read so.
    for kind in [PrincipalKind::User, PrincipalKind::ApiKey, PrincipalKind::System] {
        let response = host.gateway.dispatch("host", within(kind, "elsewhere", false), get(&settings)).await.unwrap();
        assert_eq!(read(response).await.0, 404, "{kind:?}");
    }
    let members = format!("/api/organizations/{organization}/memberships");
    let message = within(PrincipalKind::System, &organization, false);
    let response = host.gateway.dispatch("host", message, get(&members)).await.unwrap();
    assert_eq!(read(response).await.0, 200);
    for path in [members.as_str(), "/api/users"] {
        let user = within(PrincipalKind::User, &organization, false);
        let status = read(host.gateway.dispatch("host", user, get(path)).await.unwrap()).await.0;
        assert!(status == 403 || status == 404, "{path} was answered with {status}");
    }
}
