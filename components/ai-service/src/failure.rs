//! What can go wrong with a provider, and what follows from it.

use berth_sdk::{
    http_out::Head,
    prelude::*,
    serde_json::{self, Value},
};

/// When somebody may come back whom a provider told "too many" without saying when.
const RETRY_AFTER_SECONDS: u64 = 10;
/// How much of a provider's own words is passed on.
const WORDS_MAX: usize = 500;

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The key is not accepted, is not there, or may not be used: never passed over in silence.
    Auth,
    /// The address is not on this service's list: as above.
    Denied,
    /// Too much at once, or too much in all.
    RateLimited,
    /// No answer in time.
    Timeout,
    /// The provider is at fault, or cannot be reached.
    Server,
    /// It answered with something else than an answer, or broke off.
    Invalid,
    /// The request is at fault.
    Content,
    /// The request is too long for the model.
    TooLong,
    /// Somebody cancelled it here.
    Cancelled,
}

/// A failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind it is.
    pub kind: FailureKind,
    /// A sentence for people; without anything secret, and without a word of what was asked.
    pub message: String,
    /// What the provider says of the request, which may repeat it: for who asked, and kept nowhere.
    pub said: Option<String>,
    /// Seconds.
    pub retry_after: Option<u64>,
}

impl Failure {
    /// A failure with a sentence.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), said: None, retry_after: None }
    }

    /// What an answer that is none means.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Invalid, message)
    }

    /// What the host says of a call that got no answer.
    pub fn of_fault(fault: &Fault) -> Self {
        let (kind, message) = match fault {
            Fault::Timeout => (FailureKind::Timeout, "The provider did not answer in time."),
            Fault::SecretUnavailable => (
                FailureKind::Auth,
                "The provider's key is not there, has expired, or may not be used by ai-service for this address.",
            ),
            Fault::Denied(_) => (
                FailureKind::Denied,
                "The provider's address is not on this host's list of allowed names, or leads into a private network.",
            ),
            Fault::TooLarge(_) => (FailureKind::Invalid, "The provider's answer is too large."),
            Fault::Invalid(_) => (FailureKind::Denied, "The provider's address is not valid."),
            _ => (FailureKind::Server, "The provider cannot be reached, or broke off."),
        };
        Self::new(kind, message)
    }

    /// What the host says of an answer that has begun. Whoever breaks off has worked already: it is not asked the same again.
    pub fn of_body(fault: &Fault) -> Self {
        match fault {
            Fault::Timeout | Fault::TooLarge(_) => Self::of_fault(fault),
            _ => Self::invalid("The provider broke off in the middle of its answer."),
        }
    }

    /// What a status other than 2xx means.
    pub fn of_status(head: &Head, body: &[u8]) -> Self {
        let said = words(body);
        match head.status {
            401..=403 => Self::new(FailureKind::Auth, format!("The provider refused the key ({}).", head.status)),
            // Some say so like this; their words may hold the key.
            400 if is_about_key(&said) => Self::new(FailureKind::Auth, "The provider refused the key (400)."),
            429 => Self {
                retry_after: head.retry_after().map(|wait| wait.as_secs()),
                ..Self::new(FailureKind::RateLimited, "The provider takes no more at present.")
            },
            408 | 504 => Self::new(FailureKind::Timeout, "The provider did not answer in time."),
            500.. => Self::new(FailureKind::Server, format!("The provider failed ({}).", head.status)),
            _ if is_too_long(&said) => Self::new(FailureKind::TooLong, "The messages are too long for the model."),
            status => Self {
                said: Some(said).filter(|said| !said.is_empty()),
                ..Self::new(FailureKind::Content, format!("The provider refused the request ({status})."))
            },
        }
    }

    /// How the row of a completion ends with it.
    pub fn status(&self) -> crate::completion::Status {
        use crate::completion::Status;
        match self.kind {
            FailureKind::RateLimited => Status::RateLimited,
            FailureKind::Timeout => Status::Timeout,
            FailureKind::Cancelled => Status::Cancelled,
            _ => Status::Failed,
        }
    }

    /// What the client is told.
    pub fn problem(&self) -> Problem {
        let detail = match &self.said {
            Some(said) => format!("{} {said}", self.message),
            None => self.message.clone(),
        };
        match self.kind {
            FailureKind::Auth => Problem::new(502, "PROVIDER_AUTH", "The provider refused the key", detail),
            FailureKind::Denied => Problem::new(502, "PROVIDER_DENIED", "The provider may not be called", detail),
            FailureKind::RateLimited => {
                let seconds = self.retry_after.unwrap_or(RETRY_AFTER_SECONDS);
                Problem::rate_limited(detail)
                    .with_code("PROVIDER_RATE_LIMITED")
                    .with("retryAfter", seconds)
                    .with_header("retry-after", seconds.to_string())
            }
            FailureKind::Timeout => Problem::timeout(detail).with_code("PROVIDER_TIMEOUT"),
            FailureKind::Server => Problem::bad_gateway(detail).with_code("PROVIDER_FAILED"),
            FailureKind::Invalid => Problem::bad_gateway(detail).with_code("PROVIDER_INVALID"),
            FailureKind::Content => Problem::unprocessable(detail).with_code("PROVIDER_REFUSED"),
            FailureKind::TooLong => Problem::unprocessable(detail).with_code("CONTEXT_LENGTH_EXCEEDED"),
            FailureKind::Cancelled => Problem::conflict(detail).with_code("CANCELLED"),
        }
    }
}

/// What a provider says of its refusal, in one of the usual forms.
fn words(body: &[u8]) -> String {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    // Google's stands in a list.
    let value = value.get(0).unwrap_or(&value);
    let error = value.get("error").unwrap_or(value);
    let said = error.get("message").or_else(|| error.get("detail")).unwrap_or(error).as_str().unwrap_or_default();
    let code = error.get("code").and_then(Value::as_str).unwrap_or_default();
    let text = if code.is_empty() || said.contains(code) { said.to_string() } else { format!("{said} ({code})") };
    text.chars().filter(|letter| !letter.is_control()).take(WORDS_MAX).collect()
}

fn is_too_long(said: &str) -> bool {
    has_any(said, &["context_length_exceeded", "maximum context length", "prompt is too long", "context window"])
}

fn is_about_key(said: &str) -> bool {
    has_any(said, &["api key not valid", "incorrect api key", "invalid api key", "invalid_api_key", "api_key_invalid"])
}

/// Whether a text has one of these words, in lower case.
fn has_any(said: &str, words: &[&str]) -> bool {
    let said = said.to_lowercase();
    words.iter().any(|words| said.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, headers: &[(&str, &str)], body: &str) -> Failure {
        let headers = headers.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string())).collect();
        Failure::of_status(&Head { status, headers }, body.as_bytes())
    }

    #[test]
    fn each_answer_of_a_provider_has_its_meaning() {
        let told = |failure: Failure| (failure.problem().status, failure.problem().code.to_string());
        for status in [401, 402, 403] {
            assert_eq!(told(of(status, &[], "")), (502, "PROVIDER_AUTH".into()));
        }
        assert_eq!(told(of(429, &[], "")), (429, "PROVIDER_RATE_LIMITED".into()));
        assert_eq!(told(of(500, &[], "")), (502, "PROVIDER_FAILED".into()));
        assert_eq!(told(of(504, &[], "")), (504, "PROVIDER_TIMEOUT".into()));
        assert_eq!(told(of(400, &[], r#"{"error":{"message":"no such tool"}}"#)), (422, "PROVIDER_REFUSED".into()));
        assert_eq!(
            told(of(400, &[], r#"{"error":{"message":"This model's maximum context length is 8192 tokens"}}"#)),
            (422, "CONTEXT_LENGTH_EXCEEDED".into())
        );
        assert_eq!(told(Failure::of_fault(&Fault::Timeout)), (504, "PROVIDER_TIMEOUT".into()));
        assert_eq!(told(Failure::of_fault(&Fault::SecretUnavailable)), (502, "PROVIDER_AUTH".into()));
        assert_eq!(told(Failure::of_fault(&Fault::TooLarge("x".into()))), (502, "PROVIDER_INVALID".into()));
        assert_eq!(told(Failure::of_fault(&Fault::Unavailable)), (502, "PROVIDER_FAILED".into()));
        assert_eq!(told(Failure::of_body(&Fault::Unavailable)), (502, "PROVIDER_INVALID".into()), "it had begun");
        assert_eq!(told(Failure::of_body(&Fault::Timeout)), (504, "PROVIDER_TIMEOUT".into()));
    }

    #[test]
    fn the_providers_retry_after_is_kept_within_reason() {
        assert_eq!(of(429, &[("retry-after", "7")], "").retry_after, Some(7));
        assert_eq!(of(429, &[("retry-after", "0.2")], "").retry_after, Some(1));
        assert_eq!(of(429, &[("retry-after", "NaN")], "").retry_after, None);
        assert_eq!(of(429, &[("retry-after", "999999999")], "").retry_after, Some(86_400));
    }

    #[test]
    fn a_refusal_of_the_key_never_repeats_the_providers_words() {
        for body in [
            r#"{"error":{"message":"Incorrect API key provided: sk-secret"}}"#,
            r#"[{"error":{"message":"API key not valid: sk-secret"}}]"#,
        ] {
            for status in [400, 401] {
                let failure = of(status, &[], body);
                assert_eq!(failure.kind, FailureKind::Auth, "{status} {body}");
                assert!(!failure.problem().detail.contains("sk-secret"), "{status} {body}");
            }
        }
    }

    #[test]
    fn what_a_provider_says_of_a_request_is_for_who_asked() {
        let failure = of(400, &[], r#"{"error":{"message":"'a secret plan' is not a tool"}}"#);
        assert!(failure.problem().detail.ends_with("'a secret plan' is not a tool"));
        assert_eq!(failure.message, "The provider refused the request (400).", "this is what is kept");
    }
}
