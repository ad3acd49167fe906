//! Calls that are described by JSON, as steps of plans and workflows hold them: method, address, headers, body and the
//! statuses that are expected. The host checks the address and puts secrets in, which a description only names; nothing here
//! may reach another plugin or see a secret.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Call, Reply};
use crate::Fault;

/// How much of an answer's body is kept.
const BODY_BYTES_MAX: usize = 256 * 1024;
/// Which headers of an answer are kept.
const HEADERS: &[&str] = &["content-type", "content-length", "location", "etag", "retry-after", "date"];

/// A call that is ready to go.
///
/// ```
/// use std::time::Duration;
/// use berth_sdk::{http_out::Described, json};
/// let params = json!({"method": "POST", "url": "https://api.example.com/x", "body": {"a": 1}, "expectStatus": [201]});
/// let call = Described::read(&params, Duration::from_secs(10)).unwrap();
/// assert_eq!(call.call.body, br#"{"a":1}"#);
/// assert_eq!(call.expected, [201]);
/// ```
#[derive(Clone, Debug)]
pub struct Described {
    /// What is sent.
    pub call: Call,
    /// The statuses of success; every 2xx when it is empty.
    pub expected: Vec<u16>,
}

/// Why a described call did not do what it should.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// Upper snake case.
    pub code: &'static str,
    /// For a person.
    pub message: String,
    /// Trying again may help.
    pub may_pass: bool,
    /// Nobody knows whether the call has had its effect.
    pub is_unknown: bool,
    /// The answer, where there was one.
    pub output: Option<Value>,
}

impl Refusal {
    fn passing(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), may_pass: true, is_unknown: false, output: None }
    }

    fn lasting(code: &'static str, message: impl Into<String>) -> Self {
        Self { may_pass: false, ..Self::passing(code, message) }
    }
}

/// Whether a value holds a reference to a secret anywhere in it.
///
/// ```
/// use berth_sdk::{http_out::has_secret, json};
/// assert!(has_secret(&json!({"headers": {"a": {"type": "SECRET_REF", "secretId": "s"}}})));
/// assert!(!has_secret(&json!({"type": "other"})));
/// ```
pub fn has_secret(value: &Value) -> bool {
    match value {
        Value::Array(entries) => entries.iter().any(has_secret),
        Value::Object(members) => reference(value).is_some() || members.values().any(has_secret),
        _ => false,
    }
}

/// The secret that a value refers to.
fn reference(value: &Value) -> Option<&str> {
    let is_reference = value.get("type").and_then(Value::as_str) == Some("SECRET_REF");
    if is_reference { value.get("secretId").and_then(Value::as_str).or(Some("")) } else { None }
}

impl Described {
    /// Reads a description: `method`, `url`, `headers`, `body`, `authSecretId`, `idempotencyKey`, `expectStatus`.
    ///
    /// # Errors
    /// When a secret stands where only a plain value can, or when it aims at another plugin.
    pub fn read(params: &Value, timeout: Duration) -> Result<Self, Refusal> {
        let text = |name: &str| params.get(name).and_then(Value::as_str);
        // The host puts secrets into the address and the headers; the rest of a call is the guest's own.
        if ["url", "body", "idempotencyKey"].iter().any(|name| params.get(name).is_some_and(has_secret)) {
            let message = "A secret can be put into a header or be the call's authSecretId, not elsewhere.";
            return Err(Refusal::lasting("SECRET_UNAVAILABLE", message));
        }
        let url = text("url").unwrap_or_default().to_string();
        if is_internal(&url) {
            return Err(Refusal::lasting("EGRESS_DENIED", "A step cannot call a plugin of this host."));
        }
        let method = text("method").unwrap_or("GET").to_string();
        let mut call = Call { method, url, headers: Vec::new(), body: Vec::new(), timeout };
        for (name, value) in params.get("headers").and_then(Value::as_object).into_iter().flatten() {
            call = match reference(value) {
                Some(secret_id) => call.secret_header(name, secret_id),
                // Names like these speak to the host; a description says the same with its own words.
                None if name.to_ascii_lowercase().starts_with("berth-") => call,
                None => call.header(name, value.as_str().unwrap_or_default()),
            };
        }
        if let Some(secret_id) = text("authSecretId") {
            call = call.auth_secret_id(secret_id);
        }
        if let Some(key) = text("idempotencyKey") {
            call = call.idempotency_key(key);
        }
        let names_type = call.headers.iter().any(|(name, _)| name == "content-type");
        match params.get("body") {
            None | Some(Value::Null) => {}
            Some(Value::String(body)) if names_type => call.body = body.clone().into_bytes(),
            Some(Value::String(body)) => call = call.body("text/plain; charset=utf-8", body.clone().into_bytes()),
            Some(body) if names_type => call.body = body.to_string().into_bytes(),
            Some(body) => call = call.json(body),
        }
        let expected = params.get("expectStatus").cloned();
        let expected = expected.and_then(|list| serde_json::from_value(list).ok()).unwrap_or_default();
        Ok(Self { call, expected })
    }

    /// Calls and judges the answer.
    ///
    /// # Errors
    /// When there is no answer or not the expected one.
    pub fn perform(&self) -> Result<Value, Refusal> {
        let reply = self.call.send().map_err(|fault| match fault {
            Fault::Timeout => {
                Refusal { is_unknown: true, ..Refusal::passing("HTTP_TIMEOUT", "The call took too long.") }
            }
            Fault::Denied(_) => Refusal::lasting(
                "EGRESS_DENIED",
                "The address is not on the allow-list, or leads into a private network.",
            ),
            Fault::SecretUnavailable => Refusal::lasting(
                "SECRET_UNAVAILABLE",
                "A secret of the step is not there, has expired, or may not be used by this service for this address; \
                 over plain HTTP that takes one of its hosts to begin with http://.",
            ),
            Fault::TooLarge(_) => Refusal::lasting("RESPONSE_TOO_LARGE", "The answer is too large."),
            Fault::Invalid(_) => Refusal::lasting("HTTP_INVALID", "The call makes no sense to the host."),
            _ => Refusal { is_unknown: true, ..Refusal::passing("HTTP_FAILED", "The address did not answer.") },
        })?;
        let output = output(&reply);
        let fits = if self.expected.is_empty() { reply.is_success() } else { self.expected.contains(&reply.status) };
        if fits {
            Ok(output)
        } else {
            let message = format!("The answer was {}.", reply.status);
            Err(Refusal { output: Some(output), ..Refusal::passing("HTTP_STATUS", message) })
        }
    }
}

fn output(reply: &Reply) -> Value {
    let headers: serde_json::Map<String, Value> =
        HEADERS.iter().filter_map(|name| reply.header(name).map(|value| ((*name).to_string(), value.into()))).collect();
    let is_cut = reply.body.len() > BODY_BYTES_MAX;
    let kept = reply.body.get(..reply.body.len().min(BODY_BYTES_MAX)).unwrap_or_default();
    let is_json = reply.header("content-type").is_some_and(|kind| kind.contains("json"));
    let parsed = if is_json && !is_cut { serde_json::from_slice::<Value>(kept).ok() } else { None };
    let body = parsed.unwrap_or_else(|| String::from_utf8_lossy(kept).into_owned().into());
    json!({ "status": reply.status, "headers": headers, "body": body, "truncated": is_cut })
}

/// Whether an address is another plugin's: those are called with the caller's rights, which a description must not borrow.
fn is_internal(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default().split(':').next().unwrap_or_default();
    host.trim_end_matches('.').to_ascii_lowercase().ends_with(".internal")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::{Described, Reply, output};

    fn read(params: Value) -> Result<Described, &'static str> {
        Described::read(&params, Duration::from_secs(1)).map_err(|refusal| refusal.code)
    }

    #[test]
    fn a_body_carries_its_type() {
        let step =
            read(json!({"method": "POST", "url": "https://a.b/c/", "body": {"x": 1}, "idempotencyKey": "k"})).unwrap();
        assert_eq!(step.call.url, "https://a.b/c/");
        assert_eq!(step.call.body, b"{\"x\":1}");
        assert!(step.call.headers.contains(&("idempotency-key".into(), "k".into())));
        let text =
            read(json!({"method": "POST", "url": "https://a.b", "body": "x", "headers": {"Content-Type": "text/csv"}}))
                .unwrap();
        assert_eq!(text.call.headers, [("content-type".to_string(), "text/csv".to_string())]);
    }

    #[test]
    fn a_secret_is_named_to_the_host_and_nothing_else_of_it_is_said() {
        let step = read(json!({"method": "GET", "url": "https://a.b", "authSecretId": "s1",
            "headers": {"X-Key": {"type": "SECRET_REF", "secretId": "s2"}, "Berth-Auth-Secret-Id": "s3"}}))
        .unwrap();
        let named = [("berth-header-secret-id", "x-key=s2"), ("berth-auth-secret-id", "s1")];
        assert_eq!(step.call.headers, named.map(|(name, value)| (name.to_string(), value.to_string())));
    }

    #[test]
    fn secrets_elsewhere_and_plugins_are_refused() {
        let reference =
            json!({"method": "POST", "url": "https://a.b", "body": {"a": {"type": "SECRET_REF", "secretId": "s"}}});
        assert_eq!(read(reference).unwrap_err(), "SECRET_UNAVAILABLE");
        for url in
            ["http://planning.internal/api/plans", "http://x@PLANNING.INTERNAL:80/", "http://planning.internal./"]
        {
            assert_eq!(read(json!({"method": "GET", "url": url})).unwrap_err(), "EGRESS_DENIED", "{url}");
        }
    }

    #[test]
    fn an_answer_is_kept_as_json_or_text_and_cut_when_long() {
        let reply = |kind: &str, body: &[u8]| Reply {
            status: 200,
            headers: vec![("content-type".into(), kind.into())],
            body: body.to_vec(),
        };
        assert_eq!(output(&reply("application/json", b"{\"a\":1}"))["body"]["a"], 1);
        assert_eq!(output(&reply("text/plain", b"{\"a\":1}"))["body"], "{\"a\":1}");
        assert_eq!(output(&reply("application/json", &[b'x'; 300_000]))["truncated"], true);
    }
}
