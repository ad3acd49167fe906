//! Several hosts on one database, and many requests at once.

use std::time::Duration;

use super::*;
use crate::capability::cache::backend::CacheBackend;
use crate::capability::cache::{CacheError, MemoryCache};

/// A cache that several hosts reach, as Redis is.
struct Shared(Arc<MemoryCache>);

#[async_trait]
impl CacheBackend for Shared {
    fn kind(&self) -> &'static str {
        "shared"
    }
    async fn ping(&self) -> Result<(), CacheError> {
        self.0.ping().await
    }
    async fn get(&self, key: &str) -> Result<Option<Bytes>, CacheError> {
        self.0.get(key).await
    }
    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Bytes>>, CacheError> {
        self.0.get_many(keys).await
    }
    async fn set(&self, key: &str, value: Bytes, ttl: Duration) -> Result<(), CacheError> {
        self.0.set(key, value, ttl).await
    }
    async fn delete(&self, key: &str) -> Result<(), CacheError> {
        self.0.delete(key).await
    }
    async fn increment(&self, key: &str, delta: i64, ttl: Duration) -> Result<i64, CacheError> {
        self.0.increment(key, delta, ttl).await
    }
    async fn add_if_absent(&self, key: &str, value: Bytes, ttl: Duration) -> Result<bool, CacheError> {
        self.0.add_if_absent(key, value, ttl).await
    }
    async fn expire(&self, key: &str, ttl: Duration) -> Result<bool, CacheError> {
        self.0.expire(key, ttl).await
    }
}

/// Two hosts over one database and one cache.
async fn two_hosts() -> Option<(App, App)> {
    let database = database().await?;
    database.migrate("host", HOST_MIGRATIONS).await.unwrap();
    let cache = CacheRoom::new(Arc::new(Shared(Arc::new(MemoryCache::new(1 << 20)))));
    let options = || AccountsOptions { logins_per_quarter_hour: 0, ..App::options() };
    let first = App::over(database.clone(), cache.clone(), options(), false).await;
    Some((first, App::over(database, cache, options(), false).await))
}

#[tokio::test]
async fn a_session_ended_on_one_host_has_ended_on_the_other_at_once() {
    let Some((here, there)) = two_hosts().await else { return };
    let ada = here.register("Ada").await;
    assert_eq!(there.get("/api/auth/me", &ada.token).await.unwrap().0, 200);
    here.post("/api/auth/logout", &ada.token, Json::Null).await.unwrap();
    assert!(matches!(there.get("/api/auth/me", &ada.token).await, Err(AccountsError::Unauthorized(_))));
}

#[tokio::test]
async fn hosts_share_their_signing_keys_and_learn_of_new_ones() {
    let Some((here, there)) = two_hosts().await else { return };
    let ada = here.register("Ada").await;
    assert!(there.accounts.authenticate(&ada.token, None).await.is_ok());
    here.move_clock(chrono::Duration::milliseconds(5));
    here.accounts.rotate_signing_key(false).await.unwrap();
    let (_, body) = here.login(&ada.email, PASSWORD).await.unwrap();
    assert!(there.accounts.authenticate(&text(&body, "/token"), None).await.is_ok());
}

#[tokio::test]
async fn of_many_first_registrations_at_once_one_makes_the_operator_organization() {
    let Some((here, there)) = two_hosts().await else { return };
    let names = ["Ada", "Grace", "Joan", "Mary", "Jean", "Radia"];
    let apps = [&here, &there].into_iter().cycle();
    let people = futures_util::future::join_all(names.iter().zip(apps).map(|(name, app)| app.register(name))).await;
    let mut platforms = 0;
    here.accounts.load_operator_organization().await.unwrap();
    for person in &people {
        let (_, me) = here.get("/api/auth/me", &person.token).await.unwrap();
        platforms += usize::from(me["isPlatform"] == true);
    }
    assert_eq!(platforms, 1);
}

#[tokio::test]
async fn the_operator_organization_made_on_one_host_is_guarded_on_the_other() {
    let Some((here, there)) = two_hosts().await else { return };
    let ada = here.register("Ada").await;
    let path = format!("/api/users/{}", ada.id);
    let refused = there.delete(&path, OPERATOR).await;
    assert!(matches!(refused, Err(AccountsError::Conflict(_))), "its last Super Admin stays: {refused:?}");
}

#[tokio::test]
async fn a_platform_made_on_one_host_is_one_on_the_other() {
    let Some((here, there)) = two_hosts().await else { return };
    let ada = here.register("Ada").await;
    assert_eq!(there.get("/api/auth/me", &ada.token).await.unwrap().1["isPlatform"], true);
    let path = format!("/api/organizations/{}", ada.organization_id);
    assert!(matches!(there.delete(&path, &ada.token).await, Err(AccountsError::Conflict(_))), "the operator's stays");
}

#[tokio::test]
async fn of_many_who_want_one_address_at_once_one_gets_it() {
    let Some((here, there)) = two_hosts().await else { return };
    let body = json!({ "email": "ada@example.com", "password": PASSWORD, "name": "Ada" });
    let answers = futures_util::future::join_all(
        [&here, &there, &here, &there].map(|app| app.post("/api/auth/register", "", body.clone())),
    )
    .await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    assert!(answers.iter().all(|answer| matches!(answer, Ok(_) | Err(AccountsError::Conflict(_)))), "{answers:?}");
}

#[tokio::test]
async fn two_super_admins_who_leave_at_once_do_not_both_go() {
    let Some((here, there)) = two_hosts().await else { return };
    let (ada, grace) = (here.register("Ada").await, here.register("Grace").await);
    let (of_grace, token) = here.add(&ada, &grace, "Super Admin").await;
    let path = format!("/api/organizations/{}/memberships", ada.organization_id);
    let (_, members) = here.get(&format!("{path}?sortBy=email"), &ada.token).await.unwrap();
    let (own, other) = (format!("{path}/{}", text(&members, "/items/0/id")), format!("{path}/{of_grace}"));
    let (left, right) = tokio::join!(here.delete(&own, &ada.token), there.delete(&other, &token));
    assert!(left.is_ok() != right.is_ok(), "{left:?} {right:?}");
}

#[tokio::test]
async fn of_hosts_that_make_a_signing_key_at_once_one_does() {
    let Some((here, there)) = two_hosts().await else { return };
    for app in [&here, &there] {
        app.move_clock(chrono::Duration::days(30));
    }
    let (left, right) = tokio::join!(here.accounts.keep_signing_keys(), there.accounts.keep_signing_keys());
    assert!(left.is_ok() && right.is_ok(), "{left:?} {right:?}");
    let sql = "SELECT id FROM berth_signing_keys";
    assert_eq!(here.accounts.database.query(sql, &[]).await.unwrap().len(), 2);
    here.accounts.keep_signing_keys().await.unwrap();
    assert_eq!(here.accounts.key_set(), there.accounts.key_set());
}

#[tokio::test]
async fn an_api_key_ended_on_one_host_has_ended_on_the_other_at_once() {
    let Some((here, there)) = two_hosts().await else { return };
    let ada = here.register("Ada").await;
    let body = json!({ "name": "CI", "permissions": ["*"] });
    let (_, key) = here.post("/api/users/me/api-keys", &ada.token, body).await.unwrap();
    let (id, secret) = (text(&key, "/id"), text(&key, "/key"));
    assert_eq!(there.get("/api/teams", &secret).await.unwrap().0, 200);
    here.delete(&format!("/api/users/me/api-keys/{id}"), &ada.token).await.unwrap();
    assert!(matches!(there.get("/api/teams", &secret).await, Err(AccountsError::Unauthorized(_))));
}
