//! What a client carries between two rounds of a request: sealed, so that it cannot be made up, moved to another request or
//! another caller, or used later.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use berth_sdk::{
    canonical,
    prelude::*,
    secrets,
    serde_json::{self, Value},
};

use crate::protocol::message::{Request, RpcError};

/// How long a person may take.
const VALID_FOR: Duration = Duration::from_secs(15 * 60);
/// Characters of a sealed state.
const CHARS_MAX: usize = 64 * 1024;
/// What it is sealed for.
const CONTEXT: &str = "mcp-request-state";

#[data]
struct Sealed {
    user: Option<String>,
    request: String,
    until: i64,
    #[field(raw)]
    state: Option<Value>,
}

/// What tells a request from others: its method, its name and its arguments.
fn digest(request: &Request) -> String {
    canonical::sha256(&json!({
        "method": request.method, "name": request.params.get("name"), "uri": request.params.get("uri"),
        "arguments": request.params.get("arguments"),
    }))
}

/// Seals what a route wants to be told again.
pub fn seal(request: &Request, state: Option<Value>) -> Result<String> {
    let sealed = Sealed {
        user: auth::principal().user_id,
        request: digest(request),
        until: clock::now().plus(VALID_FOR).millis(),
        state,
    };
    let text = json!(sealed).to_string();
    if text.len() > CHARS_MAX / 2 {
        return Err(Problem::bad_gateway("The tool wants to be told too much again."));
    }
    Ok(URL_SAFE_NO_PAD.encode(secrets::seal(text.as_bytes(), CONTEXT)?))
}

/// Opens what a client brings back.
///
/// # Errors
/// When it is not ours, not this caller's, not this request's, or too old.
pub fn open(request: &Request) -> Result<Option<Value>, RpcError> {
    let wrong = || RpcError::params("The `requestState` is not the one that was given, or it is too old.");
    let text = match request.params.get("requestState") {
        None => return Ok(None),
        Some(Value::String(text)) if text.len() <= CHARS_MAX => text,
        Some(_) => return Err(wrong()),
    };
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| wrong())?;
    let opened = secrets::open(&bytes, CONTEXT).map_err(|_| wrong())?;
    let sealed: Sealed = serde_json::from_slice(&opened).map_err(|_| wrong())?;
    let is_sound = sealed.user == auth::principal().user_id
        && sealed.request == digest(request)
        && sealed.until > clock::now().millis();
    if is_sound { Ok(sealed.state) } else { Err(wrong()) }
}
