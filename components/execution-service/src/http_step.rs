//! `http` steps: one call of an allowed address. The host checks the address; nothing here may reach another plugin or
//! carry a secret.

use std::time::Duration;

use berth_sdk::{
    http_out::{Call, Reply},
    prelude::*,
    serde_json,
    serde_json::Value,
};

use crate::failure::Failure;

/// The longest a call takes: the lease must outlast it.
const TIMEOUT_MAX: Duration = Duration::from_secs(25);
/// How much of an answer's body is kept.
const BODY_BYTES_MAX: usize = 256 * 1024;
/// Which headers of an answer are kept.
const HEADERS: &[&str] = &["content-type", "content-length", "location", "etag", "retry-after", "date"];

/// A call that is ready to go.
#[derive(Clone, Debug)]
pub struct HttpStep {
    call: Call,
    expected: Vec<u16>,
}

/// Whether a value holds a reference to a secret.
///
/// ```
/// use berth_sdk::json;
/// use execution_service::http_step::has_secret;
/// assert!(has_secret(&json!({"headers": {"a": {"type": "SECRET_REF", "secretId": "s"}}})));
/// assert!(!has_secret(&json!({"type": "other"})));
/// ```
pub fn has_secret(value: &Value) -> bool {
    match value {
        Value::Array(entries) => entries.iter().any(has_secret),
        Value::Object(members) => {
            members.get("type").and_then(Value::as_str) == Some("SECRET_REF") || members.values().any(has_secret)
        }
        _ => false,
    }
}

impl HttpStep {
    /// Reads the parameters, which planning has checked.
    ///
    /// # Errors
    /// When it needs a secret, which this host cannot put in, or aims at another plugin.
    pub fn read(params: &Value, timeout_ms: i64) -> Result<Self, Failure> {
        let text = |name: &str| params.get(name).and_then(Value::as_str);
        if text("authSecretId").is_some() || has_secret(params) {
            let message = "The step needs a secret, and this host cannot put secrets into calls yet.";
            return Err(Failure::lasting("SECRET_UNAVAILABLE", message));
        }
        let url = text("url").unwrap_or_default().to_string();
        if is_internal(&url) {
            return Err(Failure::lasting("EGRESS_DENIED", "A step cannot call a plugin of this host."));
        }
        let timeout = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(1)).min(TIMEOUT_MAX);
        let method = text("method").unwrap_or("GET").to_string();
        let mut call = Call { method, url, headers: Vec::new(), body: Vec::new(), timeout };
        for (name, value) in params.get("headers").and_then(Value::as_object).into_iter().flatten() {
            call = call.header(name, value.as_str().unwrap_or_default());
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
    pub fn perform(&self) -> Result<Value, Failure> {
        let reply = self.call.send().map_err(|fault| match fault {
            Fault::Timeout => Failure::new("HTTP_TIMEOUT", "The call took too long."),
            Fault::Denied(_) => Failure::lasting(
                "EGRESS_DENIED",
                "The address is not on the allow-list, or leads into a private network.",
            ),
            Fault::TooLarge(_) => Failure::lasting("RESPONSE_TOO_LARGE", "The answer is too large."),
            Fault::Invalid(_) => Failure::lasting("HTTP_INVALID", "The call makes no sense to the host."),
            _ => Failure::new("HTTP_FAILED", "The address did not answer."),
        })?;
        let output = output(&reply);
        let fits = if self.expected.is_empty() { reply.is_success() } else { self.expected.contains(&reply.status) };
        if fits {
            Ok(output)
        } else {
            Err(Failure::new("HTTP_STATUS", format!("The answer was {}.", reply.status)).with_output(output))
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

/// Whether an address is another plugin's: those are called with the caller's rights, which a plan must not borrow.
fn is_internal(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default().split(':').next().unwrap_or_default();
    host.trim_end_matches('.').to_ascii_lowercase().ends_with(".internal")
}

#[cfg(test)]
mod tests {
    use berth_sdk::{http_out::Reply, json, serde_json::Value};

    use super::{HttpStep, output};

    fn read(params: Value) -> Result<HttpStep, &'static str> {
        HttpStep::read(&params, 1_000).map_err(|failure| failure.code)
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
    fn secrets_and_plugins_are_refused() {
        assert_eq!(
            read(json!({"method": "GET", "url": "https://a.b", "authSecretId": "s"})).unwrap_err(),
            "SECRET_UNAVAILABLE"
        );
        let reference =
            json!({"method": "GET", "url": "https://a.b", "headers": {"a": {"type": "SECRET_REF", "secretId": "s"}}});
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
