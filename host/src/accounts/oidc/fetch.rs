//! HTTP to login providers: bounded in time, size and number, over TLS, and never following a redirect.
//!
//! Providers are named by the operator, but what their documents point to is not: every address is judged again.

use std::pin::Pin;
use std::time::Duration;

use openidconnect::{AsyncHttpClient, HttpRequest, HttpResponse};
use tokio::sync::Semaphore;

use super::super::error::{AccountsError, Source};
use crate::capability::http_out;

/// How long one request may take, to the last byte of its answer.
const TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest answer: discovery documents and key sets have some kilobytes.
const ANSWER_BYTES_MAX: usize = 512 * 1_024;
/// Requests to providers under way at once; one more waits, within its time.
const AT_ONCE_MAX: usize = 16;

/// Asks providers. One a host.
pub(super) struct Fetcher {
    http: reqwest::Client,
    running: Semaphore,
}

/// Why a provider could not be asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("{0} is neither HTTPS nor on this machine")]
    Insecure(String),
    #[error("the answer has more than {ANSWER_BYTES_MAX} bytes")]
    TooLarge,
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    Timeout,
    #[error("the request failed")]
    Failed(#[source] Source),
}

impl Fetcher {
    pub(super) fn new() -> Result<Self, AccountsError> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(http_out::tls().map_err(AccountsError::internal)?)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .build()
            .map_err(AccountsError::internal)?;
        Ok(Self { http, running: Semaphore::new(AT_ONCE_MAX) })
    }

    async fn fetch(&self, request: HttpRequest) -> Result<HttpResponse, FetchError> {
        if !is_safe(request.uri()) {
            return Err(FetchError::Insecure(request.uri().to_string()));
        }
        let _permit = self.running.acquire().await.map_err(|error| FetchError::Failed(error.into()))?;
        let (head, body) = request.into_parts();
        let url = reqwest::Url::parse(&head.uri.to_string()).map_err(|error| FetchError::Failed(error.into()))?;
        let request = self.http.request(head.method, url).headers(head.headers).body(body);
        let mut response = request.send().await.map_err(|error| FetchError::Failed(error.into()))?;
        let mut answer = http::Response::builder().status(response.status());
        if let Some(headers) = answer.headers_mut() {
            *headers = response.headers().clone();
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| FetchError::Failed(error.into()))? {
            if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(FetchError::TooLarge);
            }
            bytes.extend_from_slice(&chunk);
        }
        answer.body(bytes).map_err(|error| FetchError::Failed(error.into()))
    }
}

impl<'c> AsyncHttpClient<'c> for Fetcher {
    type Error = FetchError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, FetchError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(async move {
            // The client's own limit does not count the wait for a turn.
            tokio::time::timeout(TIMEOUT, self.fetch(request)).await.map_err(|_| FetchError::Timeout)?
        })
    }
}

/// HTTPS, or a provider on this machine, as in tests and development.
fn is_safe(uri: &http::Uri) -> bool {
    match (uri.scheme_str(), uri.host()) {
        (Some("https"), Some(_)) => true,
        (Some("http"), Some(host)) => http_out::is_this_machine(host),
        _ => false,
    }
}
