//! An HTTP answer, whole, with the assertions that tests need.

use reqwest::header::HeaderMap;
use serde_json::Value;

/// Status, headers and body of an answer; and what was asked, for the messages.
#[derive(Clone, Debug)]
pub struct Answer {
    pub asked: String,
    pub status: u16,
    pub headers: HeaderMap,
    pub bytes: Vec<u8>,
}

impl Answer {
    pub(crate) async fn read(asked: String, response: reqwest::Response) -> reqwest::Result<Self> {
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let bytes = response.bytes().await?.to_vec();
        Ok(Self { asked, status, headers, bytes })
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// The body as JSON; null when it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or(Value::Null)
    }

    /// A header as text; empty when it is missing.
    #[must_use]
    pub fn header(&self, name: &str) -> String {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    }

    /// The JSON body, when the status is `status`.
    ///
    /// # Panics
    /// When it is another one.
    #[must_use = "or say so with `done`"]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}: {}", self.asked, self.text());
        self.json()
    }

    /// The status is `status`, and the body does not matter.
    ///
    /// # Panics
    /// When it is another one.
    pub fn done(&self, status: u16) {
        let _ = self.expect(status);
    }

    /// A problem as the specification wants it, with this status and code.
    ///
    /// # Panics
    /// When it is another status or code, or not a whole problem document.
    pub fn problem(&self, status: u16, code: &str) -> Value {
        let body = self.expect(status);
        assert_eq!(self.header("content-type"), "application/problem+json", "{}: {}", self.asked, self.text());
        assert_eq!(body["code"], code, "{}: {body}", self.asked);
        assert_eq!(body["status"], status, "{}: {body}", self.asked);
        let kind = format!("urn:berth:problem:{}", code.to_lowercase().replace('_', "-"));
        assert_eq!(body["type"], kind, "{}: {body}", self.asked);
        for member in ["title", "detail", "requestId"] {
            assert!(
                body[member].as_str().is_some_and(|text| !text.is_empty()),
                "{}: no {member} in {body}",
                self.asked
            );
        }
        assert_eq!(body["requestId"], self.header("x-request-id"), "{}: {body}", self.asked);
        body
    }

    /// The names of the fields that a validation problem complains about.
    #[must_use]
    pub fn faulty_fields(&self) -> Vec<String> {
        let body = self.json();
        let errors = body["errors"].as_array().cloned().unwrap_or_default();
        errors.iter().filter_map(|error| error["field"].as_str().map(str::to_owned)).collect()
    }
}

/// A text member of a JSON document.
///
/// # Panics
/// When it is missing or not text.
#[must_use]
pub fn text(document: &Value, member: &str) -> String {
    document[member].as_str().unwrap_or_else(|| panic!("no text {member} in {document}")).to_owned()
}
