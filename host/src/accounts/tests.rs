//! The main app's promises, on a real SQLite file with the real queue, cache and vault.

/// The promises on SQLite.
#[path = "tests"]
#[expect(clippy::duplicate_mod, reason = "the same promises hold on both databases")]
mod on_sqlite {
    use super::*;

    async fn database() -> Option<Database> {
        Some(Database::open_in_memory().await)
    }

    #[path = "at_once.rs"]
    mod at_once;
    #[path = "hosts.rs"]
    mod hosts;
    #[path = "keys.rs"]
    mod keys;
    #[path = "members.rs"]
    mod members;
    #[path = "recovery.rs"]
    mod recovery;
    #[path = "sessions.rs"]
    mod sessions;
    #[path = "sign_in.rs"]
    mod sign_in;
}

/// The same on PostgreSQL, when `BERTH_TEST_POSTGRES_URL` names a server.
#[path = "tests"]
#[expect(clippy::duplicate_mod, reason = "the same promises hold on both databases")]
mod on_postgres {
    use super::*;

    async fn database() -> Option<Database> {
        postgres_schema().await
    }

    #[path = "at_once.rs"]
    mod at_once;
    #[path = "hosts.rs"]
    mod hosts;
    #[path = "keys.rs"]
    mod keys;
    #[path = "members.rs"]
    mod members;
    #[path = "recovery.rs"]
    mod recovery;
    #[path = "sessions.rs"]
    mod sessions;
    #[path = "sign_in.rs"]
    mod sign_in;
}

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Value as Json, json};

use super::*;
use crate::capability::mail::{Mail, MailError};
use crate::capability::queue::QueueOptions;
use crate::capability::secrets::MasterKey;
use crate::database::HOST_MIGRATIONS;
use crate::principal::PrincipalKind;

const PASSWORD: &str = "correct horse battery";
const OPERATOR: &str = "operator-token-of-the-tests";

/// A host's main app.
struct App {
    accounts: Arc<Accounts>,
    mails: Arc<Mutex<Vec<Mail>>>,
}

/// Somebody who signed up.
struct Person {
    id: String,
    email: String,
    organization_id: String,
    token: String,
    refresh_token: String,
}

type Answer = Result<(u16, Json), AccountsError>;

struct Letterbox(Arc<Mutex<Vec<Mail>>>);

#[async_trait]
impl crate::capability::mail::backend::Mailer for Letterbox {
    async fn send(&self, mail: Mail) -> Result<String, MailError> {
        self.0.lock().push(mail);
        Ok("message".into())
    }
}

impl App {
    /// An app without limits on sign-ins and without a mail server; none where there is no such database.
    async fn on(database: Option<Database>) -> Option<Self> {
        Self::with(database, AccountsOptions { logins_per_quarter_hour: 0, ..Self::options() }, false).await
    }

    fn options() -> AccountsOptions {
        AccountsOptions {
            operator_token: Some(OPERATOR.into()),
            password_cost: Cost { memory_kib: 16, passes: 1 },
            ..AccountsOptions::default()
        }
    }

    async fn with(database: Option<Database>, options: AccountsOptions, has_mail: bool) -> Option<Self> {
        let database = database?;
        database.migrate("host", HOST_MIGRATIONS).await.unwrap();
        Some(Self::over(database, CacheRoom::open("memory:").unwrap(), options, has_mail).await)
    }

    async fn over(database: Database, cache: CacheRoom, options: AccountsOptions, has_mail: bool) -> Self {
        let mails = Arc::new(Mutex::new(Vec::new()));
        let mail =
            if has_mail { MailRoom::new(Arc::new(Letterbox(Arc::clone(&mails)))) } else { MailRoom::unconfigured() };
        let foundations = Foundations {
            queue: QueueRoom::open(database.clone(), QueueOptions::default()).await.unwrap(),
            cache,
            vault: Vault::open_with(database.clone(), MasterKey::parse(&"ab".repeat(32)).unwrap()).await.unwrap(),
            database,
            mail,
        };
        Self { accounts: Accounts::open(foundations, options).await.unwrap(), mails }
    }

    async fn call(&self, method: &str, path: &str, token: &str, body: Json) -> Answer {
        let reply = self.send(method, path, token, body, &[]).await?;
        Ok((reply.status.as_u16(), reply.body.unwrap_or(Json::Null)))
    }

    /// The whole way of a request: token, then route.
    async fn send(
        &self,
        method: &str,
        path: &str,
        token: &str,
        body: Json,
        headers: &[(&str, &str)],
    ) -> Result<Reply, AccountsError> {
        let principal = match token {
            "" => Arc::new(Principal::anonymous()),
            token => self
                .accounts
                .authenticate(token, None)
                .await
                .map_err(|_| AccountsError::Unauthorized("the token was not believed"))?,
        };
        let caller = Caller {
            principal,
            request_id: "request-1".into(),
            ip: Some("192.0.2.1".parse().unwrap()),
            user_agent: Some("tests".into()),
        };
        let mut request = http::Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        self.accounts.handle(&caller, request.body(body).unwrap()).await
    }

    async fn get(&self, path: &str, token: &str) -> Answer {
        self.call("GET", path, token, Json::Null).await
    }

    async fn post(&self, path: &str, token: &str, body: Json) -> Answer {
        self.call("POST", path, token, body).await
    }

    async fn put(&self, path: &str, token: &str, body: Json) -> Answer {
        self.call("PUT", path, token, body).await
    }

    async fn delete(&self, path: &str, token: &str) -> Answer {
        self.call("DELETE", path, token, Json::Null).await
    }

    async fn register(&self, name: &str) -> Person {
        let email = format!("{}@example.com", name.to_lowercase());
        let body = json!({ "email": email, "password": PASSWORD, "name": name });
        let (status, body) = self.post("/api/auth/register", "", body).await.unwrap();
        assert_eq!(status, 201);
        Person {
            id: text(&body, "/user/id"),
            email,
            organization_id: text(&body, "/organization/id"),
            token: text(&body, "/token"),
            refresh_token: text(&body, "/refreshToken"),
        }
    }

    async fn login(&self, email: &str, password: &str) -> Answer {
        self.post("/api/auth/login", "", json!({ "email": email, "password": password })).await
    }

    /// The id of a system role in an organization.
    async fn role(&self, person: &Person, name: &str) -> String {
        let path = format!("/api/organizations/{}/roles", person.organization_id);
        let (_, roles) = self.get(&path, &person.token).await.unwrap();
        let role = roles["items"].as_array().unwrap().iter().find(|role| role["name"] == name).unwrap().clone();
        text(&role, "/id")
    }

    /// Adds somebody to a person's organization. Returns the membership and a token for it.
    async fn add(&self, owner: &Person, new: &Person, role: &str) -> (String, String) {
        let role_id = self.role(owner, role).await;
        let path = format!("/api/organizations/{}/memberships", owner.organization_id);
        let (_, membership) =
            self.post(&path, &owner.token, json!({ "userId": new.id, "roleId": role_id })).await.unwrap();
        let body = json!({ "organizationId": owner.organization_id });
        let (_, switched) = self.post("/api/auth/switch-organization", &new.token, body).await.unwrap();
        (text(&membership, "/id"), text(&switched, "/token"))
    }

    fn move_clock(&self, by: chrono::Duration) {
        self.accounts.clock_moved_ms.fetch_add(by.num_milliseconds(), Ordering::AcqRel);
    }

    /// The types of the events published so far, oldest first.
    async fn events(&self) -> Vec<String> {
        let rows =
            self.accounts.database.query("SELECT message_type FROM berth_outbox ORDER BY position", &[]).await.unwrap();
        rows.iter().map(|row| row.text("message_type").unwrap()).collect()
    }
}

/// A schema of one test's own. It is left behind: the server is a throw-away one.
async fn postgres_schema() -> Option<Database> {
    let url = std::env::var("BERTH_TEST_POSTGRES_URL").ok()?;
    let options = || crate::database::DatabaseOptions { connections_max: 4, ..Default::default() };
    let schema = format!("accounts_{}", uuid::Uuid::now_v7().simple());
    let admin = Database::open(&url, options()).await.unwrap();
    admin.execute(&format!("CREATE SCHEMA {schema}"), &[]).await.unwrap();
    let separator = if url.contains('?') { '&' } else { '?' };
    Some(Database::open(&format!("{url}{separator}options=-c%20search_path%3D{schema}"), options()).await.unwrap())
}

/// A text inside a document.
fn text(body: &Json, pointer: &str) -> String {
    body.pointer(pointer).and_then(Json::as_str).unwrap_or_else(|| panic!("no {pointer} in {body}")).to_owned()
}

/// The fields that a validation error names.
fn faults(answer: Answer) -> Vec<String> {
    match answer {
        Err(AccountsError::Validation(errors)) => errors.into_iter().map(|error| error.field).collect(),
        other => panic!("expected a validation error, got {other:?}"),
    }
}
