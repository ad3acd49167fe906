//! What a route answered, as the result of a tool, a resource or a prompt. Pure rules.

use base64::{Engine, engine::general_purpose::STANDARD};
use berth_sdk::{
    http_out::Reply,
    prelude::*,
    serde_json::{self, Map, Value},
};

use super::NATIVE;

/// Bytes of an answer that are passed on.
const BYTES_MAX: usize = 1 << 20;
/// Bytes of a result that a route makes itself.
const NATIVE_BYTES_MAX: usize = 4 << 20;

/// What a route's answer comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Turn {
    /// It is over.
    Done(Value),
    /// Somebody has to say something first.
    Input {
        /// What is asked, by key.
        requests: Map<String, Value>,
        /// What the route wants to be told again.
        state: Option<Value>,
    },
}

fn media_type(reply: &Reply) -> String {
    let kind = reply.header("content-type").unwrap_or("application/octet-stream");
    kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// A text as the content of a tool's result.
pub fn text(text: impl Into<String>) -> Value {
    json!({ "type": "text", "text": text.into() })
}

/// The result of a tool that failed.
pub fn failed(words: impl Into<String>) -> Value {
    json!({ "content": [text(words)], "isError": true })
}

/// The result of a tool.
pub fn of_tool(reply: &Reply, address: &str) -> Turn {
    if media_type(reply) == NATIVE && reply.is_success() {
        return native(&reply.body);
    }
    Turn::Done(if reply.is_success() { succeeded(reply, address) } else { refused(reply) })
}

/// What a route that speaks the protocol itself says.
pub fn native(body: &[u8]) -> Turn {
    if body.len() > NATIVE_BYTES_MAX {
        return Turn::Done(failed("The answer is too large."));
    }
    let Ok(Value::Object(mut members)) = serde_json::from_slice(body) else {
        return Turn::Done(failed("The tool answered with something else than an object."));
    };
    let state = members.remove("requestState").filter(|state| !state.is_null());
    match members.remove("inputRequests") {
        Some(Value::Object(requests)) if !requests.is_empty() => Turn::Input { requests, state },
        _ => Turn::Done(Value::Object(members)),
    }
}

fn succeeded(reply: &Reply, address: &str) -> Value {
    let kind = media_type(reply);
    if reply.body.is_empty() || reply.status == 204 {
        return json!({ "content": [text("Done.")], "isError": false });
    }
    let is_json = kind == "application/json" || kind.ends_with("+json");
    let encoded = || STANDARD.encode(&reply.body);
    if reply.body.len() > BYTES_MAX && !kind.starts_with("text/") && !is_json {
        return failed("The answer is too large.");
    }
    if is_json {
        let words = cut(&String::from_utf8_lossy(&reply.body));
        let value: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        let mut result = json!({ "content": [text(words)], "isError": false });
        if let (true, Some(members)) = (value.is_object() && reply.body.len() <= BYTES_MAX, result.as_object_mut()) {
            members.insert("structuredContent".into(), value);
        }
        return result;
    }
    let part = match kind.split('/').next().unwrap_or_default() {
        "image" | "audio" => {
            let part = if kind.starts_with("image/") { "image" } else { "audio" };
            json!({ "type": part, "data": encoded(), "mimeType": kind })
        }
        "text" => text(cut(&String::from_utf8_lossy(&reply.body))),
        _ => json!({ "type": "resource", "resource": { "uri": address, "mimeType": kind, "blob": encoded() } }),
    };
    json!({ "content": [part], "isError": false })
}

/// A problem in words, with every field that is at fault.
fn refused(reply: &Reply) -> Value {
    let problem: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    let of = |name: &str| problem.get(name).and_then(Value::as_str);
    let mut words = match (of("code"), of("detail")) {
        (Some(code), Some(detail)) => format!("{code}: {detail}"),
        _ => format!("The route answered with the status {}.", reply.status),
    };
    for error in problem.get("errors").and_then(Value::as_array).into_iter().flatten().take(50) {
        let of = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
        words.push_str(&format!("\n- {}: {}", of("field"), of("message")));
    }
    let mut result = failed(cut(&words));
    let is_passed_on = problem.is_object() && reply.body.len() <= BYTES_MAX;
    if let (true, Some(members)) = (is_passed_on, result.as_object_mut()) {
        members.insert("structuredContent".into(), problem);
    }
    result
}

fn cut(words: &str) -> String {
    if words.len() <= BYTES_MAX {
        return words.to_string();
    }
    let mut end = BYTES_MAX;
    while !words.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}\n[cut off: the answer was longer]", words.get(..end).unwrap_or_default())
}

/// The contents of a resource; none when there is no such thing.
pub fn of_resource(reply: &Reply, uri: &str, named: Option<&str>) -> Result<Option<Turn>, String> {
    let kind = media_type(reply);
    if reply.status == 404 || reply.status == 410 {
        return Ok(None);
    }
    if !reply.is_success() {
        let problem = refused(reply);
        let words = problem.pointer("/content/0/text").and_then(Value::as_str).unwrap_or_default();
        return Err(words.to_string());
    }
    if kind == NATIVE {
        return Ok(Some(native(&reply.body)));
    }
    if reply.body.len() > BYTES_MAX {
        return Err("The resource is too large.".into());
    }
    let is_text =
        kind.starts_with("text/") || kind == "application/json" || kind.ends_with("+json") || kind.ends_with("xml");
    let shown = named.filter(|_| is_text).unwrap_or(&kind);
    let mut content = json!({ "uri": uri, "mimeType": shown });
    if let Some(members) = content.as_object_mut() {
        match String::from_utf8(reply.body.clone()).ok().filter(|_| is_text) {
            Some(words) => members.insert("text".into(), words.into()),
            None => members.insert("blob".into(), STANDARD.encode(&reply.body).into()),
        };
    }
    Ok(Some(Turn::Done(json!({ "contents": [content] }))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, kind: &str, body: &str) -> Reply {
        Reply { status, headers: vec![("content-type".into(), kind.into())], body: body.as_bytes().to_vec() }
    }

    fn done(reply: &Reply) -> Value {
        match of_tool(reply, "berth://x") {
            Turn::Done(value) => value,
            Turn::Input { .. } => Value::Null,
        }
    }

    #[test]
    fn an_answer_keeps_its_kind() {
        let json_answer = done(&reply(200, "application/json", "{\"a\":1}"));
        assert_eq!(
            (json_answer["structuredContent"]["a"].as_i64(), json_answer["isError"].as_bool()),
            (Some(1), Some(false))
        );
        assert!(done(&reply(200, "application/json", "[1]")).get("structuredContent").is_none());
        assert_eq!(
            done(&reply(200, "image/png", "x"))["content"][0],
            json!({"type": "image", "data": "eA==", "mimeType": "image/png"})
        );
        assert_eq!(done(&reply(200, "audio/wav; x=y", "x"))["content"][0]["mimeType"], "audio/wav");
        assert_eq!(done(&reply(200, "text/plain", "hi"))["content"][0]["text"], "hi");
        assert_eq!(done(&reply(200, "application/pdf", "x"))["content"][0]["type"], "resource");
        assert_eq!(done(&reply(204, "", ""))["content"][0]["text"], "Done.");
    }

    #[test]
    fn a_problem_is_told_with_every_field() {
        let body = r#"{"code":"VALIDATION_ERROR","detail":"No.","errors":[{"field":"a","message":"is required"}]}"#;
        let result = done(&reply(400, "application/problem+json", body));
        assert_eq!(result["isError"], true);
        assert_eq!(result["content"][0]["text"], "VALIDATION_ERROR: No.\n- a: is required");
    }

    #[test]
    fn a_large_answer_is_cut_whatever_it_says() {
        let long = "x".repeat(BYTES_MAX + 1);
        for (status, kind, body) in [
            (200, "application/json", format!("{{\"a\":\"{long}\"}}")),
            (400, "application/problem+json", format!("{{\"code\":\"A\",\"detail\":\"{long}\"}}")),
            (200, "text/plain", long.clone()),
            (200, NATIVE, format!("{{\"content\":[],\"more\":\"{}\"}}", long.repeat(4))),
        ] {
            let result = done(&reply(status, kind, &body));
            assert!(result.to_string().len() < BYTES_MAX + 1_000, "{kind}");
            assert!(result.get("structuredContent").is_none(), "{kind}");
        }
    }

    #[test]
    fn a_native_answer_is_a_result_or_asks() {
        let asks =
            of_tool(&reply(200, NATIVE, r#"{"inputRequests":{"a":{"method":"roots/list"}},"requestState":"s"}"#), "");
        assert!(matches!(asks, Turn::Input { requests, state: Some(_) } if requests.len() == 1));
        assert_eq!(done(&reply(200, NATIVE, r#"{"content":[]}"#)), json!({"content": []}));
        assert_eq!(done(&reply(200, NATIVE, "[]"))["isError"], true);
    }

    #[test]
    fn a_resource_is_text_or_bytes_or_not_there() {
        let of = |kind: &str, body: &str| match of_resource(&reply(200, kind, body), "u://x", None).unwrap().unwrap() {
            Turn::Done(value) => value["contents"][0].clone(),
            Turn::Input { .. } => Value::Null,
        };
        assert_eq!(of("text/plain", "hi")["text"], "hi");
        assert_eq!(of("image/png", "x")["blob"], "eA==");
        assert_eq!(of_resource(&reply(404, "", ""), "u://x", None), Ok(None));
        assert!(of_resource(&reply(403, "", "{}"), "u://x", None).is_err());
    }
}
