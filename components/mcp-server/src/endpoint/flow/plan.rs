//! One round of calling a route for a request, and what a client is told of it.

use std::time::Duration;

use berth_sdk::{
    http_out::Call,
    prelude::*,
    serde_json::{Map, Value},
};

use super::streamed::{Note, Streamed};
use crate::{
    endpoint::{
        arguments,
        dispatch::Client,
        offer::Offered,
        reply::{self, Turn},
        state,
    },
    peer::own_name,
    protocol::{
        code,
        message::{self, Request, RpcError},
        meta,
    },
};

/// How long a route may take.
pub const TIMEOUT: Duration = Duration::from_secs(60);
/// Under which key a person is asked to agree.
const CONFIRM: &str = "berth_confirm";

/// What a route answers for.
#[derive(Clone, Debug)]
enum Kind {
    Tool,
    Resource(String),
    Prompt,
}

/// What was said in the rounds before.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// What the client answered last, by key.
    pub responses: Map<String, Value>,
    /// What the route wants to be told again.
    pub state: Option<Value>,
    /// The client has come back after its stream had ended.
    pub is_resumed: bool,
}

impl Inputs {
    /// What a modern client brings along.
    ///
    /// # Errors
    /// When it makes no sense, or was not given to it.
    pub fn of(request: &Request) -> Result<Self, RpcError> {
        let state = state::open(request)?;
        let responses = match request.params.get("inputResponses") {
            None => Map::new(),
            Some(Value::Object(responses)) if responses.values().all(Value::is_object) => responses.clone(),
            Some(_) => return Err(RpcError::params("`inputResponses` must be an object of objects.")),
        };
        Ok(Self { responses, state, is_resumed: false })
    }

    fn is_confirmed(&self) -> bool {
        self.state.as_ref().and_then(|state| state.get("confirmed")) == Some(&Value::Bool(true))
    }
}

/// A request that a route answers.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Who asks.
    pub client: Client,
    /// What was asked.
    pub request: Request,
    offered: Offered,
    arguments: Map<String, Value>,
    kind: Kind,
}

impl Plan {
    /// For `tools/call`.
    pub fn tool(client: &Client, request: &Request, offered: Offered, arguments: Map<String, Value>) -> Self {
        Self { client: client.clone(), request: request.clone(), offered, arguments, kind: Kind::Tool }
    }

    /// For `resources/read`.
    pub fn resource(
        client: &Client,
        request: &Request,
        offered: Offered,
        uri: &str,
        arguments: Map<String, Value>,
    ) -> Self {
        Self { client: client.clone(), request: request.clone(), offered, arguments, kind: Kind::Resource(uri.into()) }
    }

    /// For `prompts/get`.
    pub fn prompt(client: &Client, request: &Request, offered: Offered, arguments: Map<String, Value>) -> Self {
        Self { client: client.clone(), request: request.clone(), offered, arguments, kind: Kind::Prompt }
    }

    /// Whether the route answers piece by piece.
    pub fn is_streaming(&self) -> bool {
        self.offered.operation.is_streaming
    }

    /// Whether somebody may have to be asked.
    pub fn may_ask(&self) -> bool {
        self.offered.confirm || self.offered.operation.is_native
    }

    /// Whether the answer is a stream that a client can take up again; the route must not be done twice for it then.
    fn may_be_resumed(&self) -> bool {
        self.offered.confirm || self.offered.operation.is_streaming
    }

    /// The call of the route.
    fn call(&self, inputs: &Inputs) -> Result<Call, Value> {
        let operation = &self.offered.operation;
        let made = if operation.is_native {
            let mut params = Map::new();
            for name in ["name", "uri"] {
                params.extend(self.request.params.get(name).map(|value| (name.to_string(), value.clone())));
            }
            params.insert("arguments".into(), Value::Object(self.arguments.clone()));
            params.insert("clientCapabilities".into(), self.client.capabilities.clone());
            params.insert("inputResponses".into(), Value::Object(inputs.responses.clone()));
            params.insert("resumed".into(), inputs.is_resumed.into());
            if let Some(state) = inputs.state.as_ref().and_then(|state| state.get("state")) {
                params.insert("requestState".into(), state.clone());
            }
            arguments::address(operation, &self.arguments).map(|call| call.json(&params))
        } else {
            arguments::call(operation, &self.arguments)
        };
        let call = made.map_err(reply::failed)?.timeout(TIMEOUT);
        Ok(match (&self.client.session_id, operation.method.as_str()) {
            // A client that was cut off and comes back has it done once.
            (Some(session_id), "POST") if !operation.is_native && self.may_be_resumed() => {
                let key = json!([session_id, message::key(&self.request.id)]);
                call.idempotency_key(format!(
                    "mcp-{}",
                    berth_sdk::canonical::sha256(&key).chars().take(64).collect::<String>()
                ))
            }
            _ => call,
        })
    }

    /// Asks a person to agree where that is wanted; what the route is told then.
    fn agreed(&self, inputs: &Inputs) -> Result<Inputs, Turn> {
        if !self.offered.confirm || inputs.is_confirmed() {
            return Ok(inputs.clone());
        }
        let Some(answer) = inputs.responses.get(CONFIRM) else {
            let message = format!("Run {}? {}", self.offered.name, self.offered.description);
            let params = json!({
                "message": message,
                "requestedSchema": { "type": "object", "required": ["confirm"],
                    "properties": { "confirm": { "type": "boolean", "title": "Run it", "default": false } } },
            });
            let mut requests = Map::new();
            requests.insert(CONFIRM.into(), json!({ "method": "elicitation/create", "params": params }));
            return Err(Turn::Input { requests, state: None });
        };
        let has_agreed = answer.get("action").and_then(Value::as_str) == Some("accept")
            && answer.pointer("/content/confirm") == Some(&Value::Bool(true));
        if !has_agreed {
            return Err(Turn::Done(reply::failed("Nobody agreed to it, and so it was not done.")));
        }
        let mut inputs = inputs.clone();
        inputs.responses.remove(CONFIRM);
        inputs.state = Some(json!({ "confirmed": true }));
        Ok(inputs)
    }

    /// Keeps beside the route's state that a person has agreed.
    fn kept(inputs: &Inputs, turn: Turn) -> Turn {
        match turn {
            Turn::Input { requests, state } if state.is_some() || inputs.is_confirmed() => {
                let state = json!({ "confirmed": inputs.is_confirmed(), "state": state });
                Turn::Input { requests, state: Some(state) }
            }
            turn => turn,
        }
    }

    /// Calls the route and waits for its answer.
    ///
    /// # Errors
    /// What is no result.
    pub fn round(&self, inputs: &Inputs) -> Result<Turn, RpcError> {
        let inputs = match self.agreed(inputs) {
            Ok(inputs) => inputs,
            Err(turn) => return Ok(turn),
        };
        let call = match self.call(&inputs) {
            Ok(call) => call,
            Err(failed) => return self.unusable(failed),
        };
        let address = call.url.clone();
        let reply = match call.send() {
            Ok(reply) => reply,
            Err(fault) => return self.unusable(reply::failed(away(&fault))),
        };
        let turn = match &self.kind {
            Kind::Tool => reply::of_tool(&reply, &address),
            Kind::Resource(uri) => match reply::of_resource(&reply, uri, self.offered.mime_type.as_deref()) {
                Ok(Some(turn)) => turn,
                Ok(None) => return Err(self.client.resource_missing(uri)),
                Err(words) => return Err(RpcError::new(code::INVALID_PARAMS, words).with(json!({ "uri": uri }))),
            },
            Kind::Prompt => match reply::of_tool(&reply, &address) {
                Turn::Done(result) if result.get("messages").is_none() => Turn::Done(said(&self.offered, &result)?),
                turn => turn,
            },
        };
        Ok(Self::kept(&inputs, turn))
    }

    /// What cannot be called: a tool's result, and an error of everything else.
    fn unusable(&self, failed: Value) -> Result<Turn, RpcError> {
        match &self.kind {
            Kind::Tool => Ok(Turn::Done(failed)),
            _ => {
                let words = failed.pointer("/content/0/text").and_then(Value::as_str).unwrap_or_default();
                Err(RpcError::new(code::INVALID_PARAMS, words))
            }
        }
    }

    /// Calls a route that answers piece by piece.
    ///
    /// # Errors
    /// What comes instead.
    pub fn open(&self, inputs: &Inputs) -> Result<Streamed, Turn> {
        let inputs = self.agreed(inputs)?;
        let call = self.call(&inputs).map_err(Turn::Done)?;
        let address = call.url.clone();
        match call.open() {
            Ok(incoming) => Ok(Streamed::new(incoming, address)),
            Err(fault) => Err(Turn::Done(reply::failed(away(&fault)))),
        }
    }

    /// What a route says on its way, as the client wants it; none where it does not.
    pub fn notification(&self, note: &Note) -> Option<Value> {
        match note {
            Note::Progress { progress, total, message: words } => {
                let token = self.request.progress_token()?;
                let mut params = json!({ "progressToken": token, "progress": progress });
                let members = params.as_object_mut()?;
                members.extend(total.as_ref().map(|total| ("total".to_string(), total.clone())));
                // Words came with 2025-03-26.
                members.extend(words.as_ref().map(|words| ("message".to_string(), json!(words))));
                Some(message::notification("notifications/progress", &params))
            }
            Note::Log { level, logger, data } => {
                let params = json!({ "level": level, "logger": logger, "data": data });
                self.client.wants_log(level).then(|| message::notification("notifications/message", &params))
            }
        }
    }

    /// What of the requests the client cannot be asked; none when it can be asked all of them.
    pub fn lacking(&self, requests: &Map<String, Value>) -> Option<Value> {
        requests.values().find_map(|request| {
            let method = request.get("method").and_then(Value::as_str).unwrap_or_default();
            self.client.lacks(method, request.get("params").unwrap_or(&Value::Null))
        })
    }

    /// What is answered when the client cannot be asked.
    pub fn missing_capability(&self, lacking: Value) -> Result<Value, RpcError> {
        if self.client.is_modern {
            let error = RpcError::new(code::MISSING_CAPABILITY, "The client cannot do what the request needs.");
            return Err(error.with(json!({ "requiredCapabilities": lacking })));
        }
        let names = lacking.as_object().map(|members| members.keys().cloned().collect::<Vec<_>>().join(", "));
        let words = format!("The client cannot do what the request needs: {}.", names.unwrap_or_default());
        match &self.kind {
            Kind::Tool => Ok(reply::failed(words)),
            _ => Err(RpcError::new(code::INVALID_PARAMS, words)),
        }
    }

    /// The result that asks a modern client.
    pub fn input_required(&self, requests: Map<String, Value>, state: Option<Value>) -> Result<Value> {
        let mut result = Map::new();
        result.insert("resultType".into(), "input_required".into());
        result.insert("inputRequests".into(), Value::Object(requests));
        if let Some(state) = state {
            result.insert("requestState".into(), state::seal(&self.request, Some(state))?.into());
        }
        let mut result = Value::Object(result);
        described(&mut result);
        Ok(result)
    }

    /// A result as the client's era wants it.
    pub fn completed(&self, result: Value) -> Value {
        if self.client.is_modern { completed(result, matches!(self.kind, Kind::Resource(_))) } else { result }
    }
}

/// A result as modern clients want it; what may be kept says for how long.
pub fn completed(mut result: Value, may_be_kept: bool) -> Value {
    if let Some(members) = result.as_object_mut() {
        members.entry("resultType").or_insert_with(|| "complete".into());
        if may_be_kept {
            members.entry("ttlMs").or_insert_with(|| 0.into());
            members.entry("cacheScope").or_insert_with(|| "private".into());
        }
    }
    described(&mut result);
    result
}

/// Says who answers.
fn described(result: &mut Value) {
    if let Some(members) = result.as_object_mut() {
        let described = members.entry("_meta").or_insert_with(|| json!({}));
        if let Some(described) = described.as_object_mut() {
            described.insert(meta::SERVER.into(), own_name());
        }
    }
}

fn away(fault: &berth_sdk::Fault) -> &'static str {
    match fault {
        berth_sdk::Fault::Timeout => "The service behind it took too long.",
        berth_sdk::Fault::TooLarge(_) => "The answer is too large.",
        _ => "The service behind it is not available.",
    }
}

/// A route's answer as a prompt: what it says, said by the user.
fn said(offered: &Offered, result: &Value) -> Result<Value, RpcError> {
    let content = result.pointer("/content/0").cloned().unwrap_or_else(|| reply::text(""));
    if result.get("isError") == Some(&Value::Bool(true)) {
        let words = content.get("text").and_then(Value::as_str).unwrap_or("The prompt failed.");
        return Err(RpcError::new(code::INVALID_PARAMS, words));
    }
    Ok(json!({ "description": offered.description, "messages": [{ "role": "user", "content": content }] }))
}
