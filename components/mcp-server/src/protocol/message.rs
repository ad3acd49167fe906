//! JSON-RPC messages.

use berth_sdk::{
    json,
    serde_json::{self, Map, Value},
};

use super::code;

/// Messages of one batch, which only 2025-03-26 and before know.
const BATCH_MAX: usize = 50;
/// Characters of a method.
const METHOD_CHARS_MAX: usize = 200;

/// A message that came in.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// Wants an answer.
    Request(Request),
    /// Wants none.
    Notification {
        /// What happened.
        method: String,
        /// Its parameters.
        params: Map<String, Value>,
    },
    /// The answer to a request of ours.
    Response {
        /// Which request.
        id: Value,
        /// The whole message.
        whole: Value,
    },
}

/// A request.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// A text or a whole number.
    pub id: Value,
    /// What is wanted.
    pub method: String,
    /// Its parameters.
    pub params: Map<String, Value>,
}

impl Request {
    /// A parameter that is a text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.params.get(name).and_then(Value::as_str)
    }

    /// A member of `_meta`.
    pub fn meta(&self, name: &str) -> Option<&Value> {
        self.params.get("_meta").and_then(|meta| meta.get(name))
    }

    /// Under which progress is told, where the client wants it.
    pub fn progress_token(&self) -> Option<&Value> {
        self.meta("progressToken").filter(|token| token.is_string() || token.is_i64() || token.is_u64())
    }
}

/// An error as it is answered.
#[derive(Clone, Debug, PartialEq)]
pub struct RpcError {
    /// See [`code`].
    pub code: i64,
    /// For a person.
    pub message: String,
    /// For a program.
    pub data: Option<Value>,
}

impl RpcError {
    /// Without further data.
    pub fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    /// The parameters do not fit.
    pub fn params(message: impl Into<String>) -> Self {
        Self::new(code::INVALID_PARAMS, message)
    }

    /// With data.
    #[must_use]
    pub fn with(mut self, data: Value) -> Self {
        self.data = Some(data);
        self
    }

    /// The answer to the request of this id; none where it could not be read.
    pub fn answer(&self, id: Option<&Value>) -> Value {
        let mut error = json!({ "code": self.code, "message": self.message });
        if let (Some(data), Some(members)) = (&self.data, error.as_object_mut()) {
            members.insert("data".into(), data.clone());
        }
        let mut answer = json!({ "jsonrpc": "2.0" });
        if let (Some(id), Some(members)) = (id, answer.as_object_mut()) {
            members.insert("id".into(), id.clone());
        }
        if let Some(members) = answer.as_object_mut() {
            members.insert("error".into(), error);
        }
        answer
    }
}

/// A successful answer.
pub fn result(id: &Value, result: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "result": result })
}

/// A request of ours.
pub fn request(id: &Value, method: &str, params: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}

/// A notification.
pub fn notification(method: &str, params: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "method": method, "params": params })
}

/// Reads a body.
///
/// # Errors
/// What is to be answered, with the id where there is one.
pub fn read(body: &[u8]) -> Result<(Vec<Message>, bool), (Option<Value>, RpcError)> {
    let value: Value =
        serde_json::from_slice(body).map_err(|_| (None, RpcError::new(code::PARSE, "The body is not JSON.")))?;
    match value {
        Value::Array(entries) if entries.is_empty() || entries.len() > BATCH_MAX => {
            let message = format!("A batch has 1 to {BATCH_MAX} messages.");
            Err((None, RpcError::new(code::INVALID_REQUEST, message)))
        }
        Value::Array(entries) => Ok((entries.into_iter().map(one).collect::<Result<_, _>>()?, true)),
        value => Ok((vec![one(value)?], false)),
    }
}

fn one(value: Value) -> Result<Message, (Option<Value>, RpcError)> {
    let id = value.get("id").filter(|id| id.is_string() || id.is_i64() || id.is_u64()).cloned();
    let refused = |message: &str| Err((id.clone(), RpcError::new(code::INVALID_REQUEST, message)));
    let Value::Object(mut members) = value else { return refused("A message is a JSON object.") };
    if members.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return refused("`jsonrpc` must be \"2.0\".");
    }
    let Some(method) = members.get("method") else {
        let has_answer = members.contains_key("result") || members.contains_key("error");
        return match &id {
            Some(id) if has_answer => Ok(Message::Response { id: id.clone(), whole: Value::Object(members) }),
            _ => refused("It is neither a request nor an answer."),
        };
    };
    let Some(method) = method.as_str().filter(|method| (1..=METHOD_CHARS_MAX).contains(&method.len())) else {
        return refused("`method` must be a text.");
    };
    let method = method.to_string();
    let params = match members.remove("params") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(params)) => params,
        Some(_) => return Err((id, RpcError::params("`params` must be an object."))),
    };
    match (id, members.contains_key("id")) {
        (Some(id), _) => Ok(Message::Request(Request { id, method, params })),
        (None, true) => Err((None, RpcError::new(code::INVALID_REQUEST, "`id` must be a text or a whole number."))),
        (None, false) => Ok(Message::Notification { method, params }),
    }
}

/// A text that tells ids apart, `1` from `"1"` too.
///
/// ```
/// use berth_sdk::json;
/// use mcp_server::protocol::message::key;
/// assert_ne!(key(&json!(1)), key(&json!("1")));
/// ```
pub fn key(id: &Value) -> String {
    let text = id.to_string();
    if text.len() <= 200 { text } else { berth_sdk::canonical::sha256(id) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code_of(body: &str) -> i64 {
        read(body.as_bytes()).unwrap_err().1.code
    }

    #[test]
    fn messages_are_told_apart() {
        let (messages, is_batch) = read(
            br#"[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","method":"notifications/x"},{"jsonrpc":"2.0","id":"a","result":{}}]"#,
        )
        .unwrap();
        assert!(is_batch);
        assert!(matches!(&messages[0], Message::Request(request) if request.id == 1 && request.method == "ping"));
        assert!(matches!(&messages[1], Message::Notification { method, .. } if method == "notifications/x"));
        assert!(matches!(&messages[2], Message::Response { id, .. } if *id == "a"));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        assert_eq!(code_of("{"), code::PARSE);
        for body in
            ["[]", "7", "{}", r#"{"jsonrpc":"1.0","id":1,"method":"x"}"#, r#"{"jsonrpc":"2.0","id":null,"method":"x"}"#]
        {
            assert_eq!(code_of(body), code::INVALID_REQUEST, "{body}");
        }
        assert_eq!(code_of(r#"{"jsonrpc":"2.0","id":1,"method":"x","params":[1]}"#), code::INVALID_PARAMS);
        let many = format!("[{}]", vec!["{}"; 51].join(","));
        assert_eq!(code_of(&many), code::INVALID_REQUEST);
    }

    #[test]
    fn an_error_keeps_the_id_it_could_read() {
        let (id, error) = read(br#"{"jsonrpc":"2.0","id":"a","method":7}"#).unwrap_err();
        assert_eq!(error.answer(id.as_ref())["id"], "a");
        assert!(RpcError::new(code::PARSE, "x").answer(None).get("id").is_none());
    }
}
