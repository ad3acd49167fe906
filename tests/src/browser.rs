//! A browser as far as signing in needs one: it keeps cookies by host and path, and shows where it is sent.

use reqwest::header::{COOKIE, LOCATION, SET_COOKIE};
use reqwest::{Method, RequestBuilder, Url};

use crate::answer::Answer;
use crate::client::http_client;

/// How often it lets itself be sent on.
const REDIRECTS_MAX: usize = 20;

/// Cookies and a connection pool.
#[derive(Clone)]
pub struct Browser {
    http: reqwest::Client,
    cookies: Vec<Kept>,
}

#[derive(Clone)]
struct Kept {
    host: String,
    path: String,
    name: String,
    value: String,
    /// Everything the server said of it.
    attributes: String,
}

/// What came back, and from where.
pub struct Page {
    pub url: Url,
    pub answer: Answer,
}

impl Page {
    /// Where it sends the browser.
    #[must_use]
    pub fn location(&self) -> Option<Url> {
        let to = self.answer.headers.get(LOCATION)?.to_str().ok()?;
        self.url.join(to).ok()
    }
}

impl Default for Browser {
    fn default() -> Self {
        Self { http: http_client(usize::MAX), cookies: Vec::new() }
    }
}

impl Browser {
    /// Opens a page and goes nowhere from there.
    pub async fn open(&mut self, url: &str) -> Page {
        let url = Url::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
        self.send(Method::GET, url, |request| request).await
    }

    /// Sends a form and goes nowhere from there.
    pub async fn submit(&mut self, url: &Url, form: &str) -> Page {
        let form = form.to_owned();
        self.send(Method::POST, url.clone(), |request| {
            request.header("content-type", "application/x-www-form-urlencoded").body(form)
        })
        .await
    }

    /// Lets itself be sent on until a page stays, or the next one would begin with `until`.
    ///
    /// # Panics
    /// When it is sent round in circles.
    pub async fn follow(&mut self, mut page: Page, until: &str) -> (Page, Option<Url>) {
        for _ in 0..REDIRECTS_MAX {
            match page.location() {
                Some(next) if next.as_str().starts_with(until) => return (page, Some(next)),
                Some(next) => page = self.send(Method::GET, next, |request| request).await,
                None => return (page, None),
            }
        }
        panic!("sent round in circles at {}", page.url);
    }

    /// Any request with the cookies.
    ///
    /// # Panics
    /// When no answer comes.
    pub async fn send(
        &mut self,
        method: Method,
        url: Url,
        dress: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Page {
        let host = url.host_str().unwrap_or_default().to_owned();
        let fits = |cookie: &&Kept| cookie.host == host && url.path().starts_with(&cookie.path);
        let sent: Vec<String> =
            self.cookies.iter().filter(fits).map(|cookie| format!("{}={}", cookie.name, cookie.value)).collect();
        let asked = format!("{method} {url}");
        let mut request = self.http.request(method, url.clone());
        if !sent.is_empty() {
            request = request.header(COOKIE, sent.join("; "));
        }
        let response = dress(request).send().await.unwrap_or_else(|error| panic!("{asked}: {error:?}"));
        for value in response.headers().get_all(SET_COOKIE) {
            self.keep(&host, value.to_str().unwrap_or_default());
        }
        let answer = Answer::read(asked, response).await.unwrap_or_else(|error| panic!("{error}"));
        Page { url, answer }
    }

    /// The value of a cookie.
    #[must_use]
    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.cookies.iter().find(|cookie| cookie.name == name).map(|cookie| cookie.value.as_str())
    }

    /// What the server said of a cookie.
    #[must_use]
    pub fn attributes(&self, name: &str) -> String {
        let found = self.cookies.iter().find(|cookie| cookie.name == name);
        found.map_or_else(String::new, |cookie| cookie.attributes.clone())
    }

    fn keep(&mut self, host: &str, text: &str) {
        let (pair, attributes) = text.split_once(';').unwrap_or((text, ""));
        let Some((name, value)) = pair.split_once('=') else { return };
        let attribute = |wanted: &str| {
            let parts = attributes.split(';').filter_map(|part| part.trim().split_once('='));
            parts.filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.to_owned()).next()
        };
        let path = attribute("path").unwrap_or_else(|| "/".to_owned());
        self.cookies.retain(|cookie| !(cookie.host == host && cookie.path == path && cookie.name == name));
        if value.is_empty() || attribute("max-age").as_deref() == Some("0") {
            return;
        }
        self.cookies.push(Kept {
            host: host.to_owned(),
            path,
            name: name.to_owned(),
            value: value.to_owned(),
            attributes: attributes.to_owned(),
        });
    }
}
