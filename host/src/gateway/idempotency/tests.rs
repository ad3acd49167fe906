use http_body_util::BodyExt;

use super::*;
use crate::database::Migration;
use crate::principal::PrincipalKind;

const TIME_MAX: Duration = Duration::from_secs(30);

async fn store() -> Idempotency {
    let database = Database::open_in_memory().await;
    let sql = include_str!("../../../../migrations/host/0004_gateway.sql");
    let migration = Migration { name: "0004_gateway".into(), dialect: None, sql: sql.into() };
    database.migrate("test", &[migration]).await.unwrap();
    Idempotency::new(database)
}

fn user(name: &str) -> Principal {
    Principal {
        kind: PrincipalKind::User,
        user_id: Some(name.into()),
        organization_id: Some("organization".into()),
        ..Principal::anonymous()
    }
}

fn parts(uri: &str) -> http::request::Parts {
    http::Request::post(uri).header("content-type", "application/json").body(()).unwrap().into_parts().0
}

fn keyed(key: &str, user_name: &str, uri: &str, body: &str) -> Keyed {
    Keyed::new(key, &user(user_name), &parts(uri), body.as_bytes()).unwrap()
}

async fn first(store: &Idempotency, keyed: &Keyed) -> Attempt {
    match store.begin(keyed, TIME_MAX).await.unwrap() {
        Begun::First(attempt) => attempt,
        Begun::Replay(_) => panic!("it was replayed"),
    }
}

async fn finish(attempt: Attempt, status: u16, body: &str) {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(SET_COOKIE, HeaderValue::from_static("a=b"));
    attempt
        .finish(StatusCode::from_u16(status).unwrap(), &headers, Some(&Bytes::copy_from_slice(body.as_bytes())))
        .await;
}

#[test]
fn a_key_is_one_short_visible_value_of_a_post() {
    let headers = |values: &[&str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(IDEMPOTENCY_KEY, HeaderValue::from_str(value).unwrap());
        }
        headers
    };
    assert_eq!(key(&Method::POST, &headers(&["a-1"])).unwrap(), Some("a-1"));
    assert_eq!(key(&Method::PUT, &headers(&["a-1"])).unwrap(), None);
    assert_eq!(key(&Method::POST, &headers(&[])).unwrap(), None);
    for wrong in [&[""][..], &["a b"], &["a", "a"], &[&*"a".repeat(129)]] {
        assert!(matches!(key(&Method::POST, &headers(wrong)), Err(GatewayError::Malformed(_))), "{wrong:?}");
    }
}

#[tokio::test]
async fn the_same_request_is_answered_once_and_then_replayed() {
    let store = store().await;
    let keyed = keyed("k", "u", "/api/plans?x=1", "{}");
    finish(first(&store, &keyed).await, 201, "{\"id\":1}").await;
    let Begun::Replay(response) = store.begin(&keyed, TIME_MAX).await.unwrap() else { panic!("it ran again") };
    assert_eq!(response.status(), 201);
    assert_eq!(response.headers().get(CONTENT_TYPE).unwrap(), "application/json");
    assert_eq!(response.headers().get(IDEMPOTENCY_REPLAYED).unwrap(), "true");
    assert!(!response.headers().contains_key(SET_COOKIE));
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "{\"id\":1}");
}

#[tokio::test]
async fn another_request_with_the_key_is_refused() {
    let store = store().await;
    finish(first(&store, &keyed("k", "u", "/api/plans", "{}")).await, 200, "").await;
    for other in [keyed("k", "u", "/api/plans", "{ }"), keyed("k", "u", "/api/plans?y=2", "{}")] {
        assert!(matches!(store.begin(&other, TIME_MAX).await, Err(GatewayError::Conflict(_))));
    }
}

#[tokio::test]
async fn a_key_belongs_to_one_user_and_route() {
    let store = store().await;
    finish(first(&store, &keyed("k", "u", "/api/plans", "{}")).await, 200, "").await;
    first(&store, &keyed("k", "v", "/api/plans", "{}")).await;
    first(&store, &keyed("k", "u", "/api/tasks", "{}")).await;
    first(&store, &keyed("l", "u", "/api/plans", "{}")).await;
    assert!(Keyed::new("k", &Principal::anonymous(), &parts("/api/plans"), b"").is_none());
}

#[tokio::test]
async fn a_request_in_flight_is_not_started_again() {
    let store = store().await;
    let keyed = keyed("k", "u", "/api/plans", "{}");
    let attempt = first(&store, &keyed).await;
    assert!(matches!(store.begin(&keyed, TIME_MAX).await, Err(GatewayError::KeyInFlight)));
    finish(attempt, 200, "").await;
    assert!(matches!(store.begin(&keyed, TIME_MAX).await, Ok(Begun::Replay(_))));
}

#[tokio::test]
async fn only_final_answers_are_kept() {
    for (status, is_kept) in
        [(200, true), (404, true), (409, true), (422, true), (500, false), (503, false), (429, false)]
    {
        let store = store().await;
        let keyed = keyed("k", "u", "/api/plans", "{}");
        finish(first(&store, &keyed).await, status, "").await;
        let again = store.begin(&keyed, TIME_MAX).await.unwrap();
        assert_eq!(matches!(again, Begun::Replay(_)), is_kept, "{status}");
    }
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_neither_kept_nor_made_again() {
    let store = store().await;
    let keyed = keyed("k", "u", "/api/plans", "{}");
    finish(first(&store, &keyed).await, 200, &"x".repeat(ANSWER_BYTES_MAX + 1)).await;
    assert!(matches!(store.begin(&keyed, TIME_MAX).await, Err(GatewayError::Conflict(_))));
}

#[tokio::test]
async fn an_attempt_whose_host_is_gone_is_taken_over_and_cannot_record_any_more() {
    let store = store().await;
    let keyed = keyed("k", "u", "/api/plans", "{}");
    let lost = first(&store, &keyed).await;
    let past = Utc::now() - chrono::Duration::seconds(1);
    store.database.execute("UPDATE berth_idempotency SET locked_until = $1", &values![past]).await.unwrap();
    let second = first(&store, &keyed).await;
    finish(lost, 200, "late").await;
    assert!(matches!(store.begin(&keyed, TIME_MAX).await, Err(GatewayError::KeyInFlight)));
    finish(second, 200, "right").await;
    let Begun::Replay(response) = store.begin(&keyed, TIME_MAX).await.unwrap() else { panic!("it ran again") };
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "right");
}

#[tokio::test]
async fn an_expired_answer_is_purged_and_the_key_is_free() {
    let store = store().await;
    let keyed = keyed("k", "u", "/api/plans", "{}");
    finish(first(&store, &keyed).await, 200, "").await;
    assert_eq!(store.purge().await.unwrap(), 0);
    let past = Utc::now() - chrono::Duration::seconds(1);
    store.database.execute("UPDATE berth_idempotency SET expires_at = $1", &values![past]).await.unwrap();
    finish(first(&store, &keyed).await, 200, "").await;
    store.database.execute("UPDATE berth_idempotency SET expires_at = $1", &values![past]).await.unwrap();
    assert_eq!(store.purge().await.unwrap(), 1);
    first(&store, &keyed).await;
}

#[test]
fn a_key_of_a_session_is_none_of_an_api_key_and_each_api_key_has_its_own() {
    let session = user("user");
    let of = |id: &str| Principal { kind: PrincipalKind::ApiKey, api_key_id: Some(id.into()), ..session.clone() };
    let id = |principal: &Principal| Keyed::new("k", principal, &parts("/api/plans"), b"{}").unwrap().id;
    let ids = [id(&session), id(&of("wide")), id(&of("narrow"))];
    assert!(ids[0] != ids[1] && ids[0] != ids[2] && ids[1] != ids[2]);
    assert_eq!(ids[1], id(&of("wide")));
}
