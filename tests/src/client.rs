//! Somebody who calls the HTTP API.

use anyhow::Result;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::answer::{Answer, text};

/// Long enough for every promise about deadlines, short enough to notice a hang.
const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(90);
/// The password of everyone in the tests.
pub const PASSWORD: &str = "a long enough riddle 42";

/// A caller with or without a token.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    token: Option<String>,
    /// What registration or login answered; null for others.
    pub account: Value,
}

impl Client {
    /// Nobody.
    #[must_use]
    pub fn anonymous(base: &str) -> Self {
        Self { http: http_client(usize::MAX), base: base.to_owned(), token: None, account: Value::Null }
    }

    /// Nobody, with a connection of its own for each request.
    #[must_use]
    pub fn without_keep_alive(base: &str) -> Self {
        Self { http: http_client(0), ..Self::anonymous(base) }
    }

    /// The same connection pool with another token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// Registers a new user with an organization of its own.
    ///
    /// # Panics
    /// When the host refuses.
    pub async fn register(&self, email: &str, organization: &str) -> Self {
        let name = email.split('@').next().unwrap_or(email);
        let body = json!({"email": email, "password": PASSWORD, "name": format!("The {name}"), "organizationName": organization});
        let account = self.post("/api/auth/register", &body).await.expect(201);
        Self { token: Some(text(&account, "token")), account, ..self.clone() }
    }

    /// Signs in.
    ///
    /// # Panics
    /// When the host refuses.
    pub async fn login(&self, email: &str) -> Self {
        let account = self.post("/api/auth/login", &json!({"email": email, "password": PASSWORD})).await.expect(200);
        Self { token: Some(text(&account, "token")), account, ..self.clone() }
    }

    /// The bearer token.
    ///
    /// # Panics
    /// For nobody.
    #[must_use]
    pub fn token(&self) -> &str {
        self.token.as_deref().expect("a signed-in client")
    }

    /// The URL of a path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// A request with the token, for what the short forms cannot say.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, self.url(path));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Sends a request and reads the answer whole.
    ///
    /// # Panics
    /// When no answer comes.
    pub async fn send(&self, request: RequestBuilder) -> Answer {
        self.try_send(request).await.unwrap_or_else(|error| panic!("no answer: {error:#}"))
    }

    /// As `send`, for a host that may be gone.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn try_send(&self, request: RequestBuilder) -> Result<Answer> {
        let request = request.build()?;
        let asked = format!("{} {}", request.method(), request.url().path());
        Ok(Answer::read(asked, self.http.execute(request).await?).await?)
    }

    /// # Panics
    /// When no answer comes.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    /// # Panics
    /// When no answer comes.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// # Panics
    /// When no answer comes.
    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::PUT, path).json(body)).await
    }

    /// # Panics
    /// When no answer comes.
    pub async fn delete(&self, path: &str) -> Answer {
        self.send(self.request(Method::DELETE, path)).await
    }

    /// Sends a component to the admin API and waits for the drain.
    ///
    /// # Panics
    /// When no answer comes.
    pub async fn deploy(&self, plugin: &str, component: Vec<u8>) -> Answer {
        let path = format!("/api/admin/plugins/{plugin}/deploy?wait=true");
        self.send(self.request(Method::POST, &path).header("content-type", "application/wasm").body(component)).await
    }
}

pub(crate) fn http_client(idle_max: usize) -> reqwest::Client {
    // Every test of a process asks for it; only the first counts.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .timeout(TIMEOUT)
        .pool_max_idle_per_host(idle_max)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap_or_else(|error| panic!("no HTTP client: {error}"))
}
