//! Servers and clients of the Model Context Protocol for tests: a server that does what its path says, and a client by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::Method;
use serde_json::{Value, json};

use crate::answer::text;
use crate::event_stream::EventStream;
use crate::manifest::{Manifest, Slot};
use crate::model_provider::{Act, Asked, ModelProvider, whole};
use crate::{Answer, Client, Host, guests};

/// The revision without handshakes.
pub const MODERN: &str = "2026-07-28";
/// The last one with.
pub const LEGACY: &str = "2025-11-25";
/// The key that the stub's `/keyed` wants.
pub const KEY: &str = "key-nobody-may-see";

/// A manifest with the services, with mcp-server allowed to reach servers of the tests on this machine.
///
/// # Panics
/// When the manifest does not look as it should.
#[must_use]
pub fn reaching(manifest: Manifest, addresses: &[String]) -> Manifest {
    let list: Vec<String> = addresses.iter().map(|address| format!("{address:?}")).collect();
    let own = "outbound = [\"*\"]\n# Seals what clients carry";
    let near =
        format!("outbound_private = [\"127.0.0.1\"]\noutbound = [{}]\n# Seals what clients carry", list.join(", "));
    manifest.with(own, &near)
}

/// The services, with mcp-server allowed to reach these servers, and the guest whose routes speak the protocol.
///
/// # Panics
/// When the manifest does not look as it should.
#[must_use]
pub fn manifest(addresses: &[String]) -> Manifest {
    let routes = Slot::new("mcp-routes", guests::fixture("mcp-routes"), "/api/kit")
        .with("isolation = \"plugin\"\n[plugin.grant]\ncall = [\"mcp-server\"]");
    reaching(Manifest::services(), addresses).and(Manifest::of([routes]).text())
}

/// A host with these servers in reach, and somebody who administers an organization on it.
///
/// # Panics
/// When the host does not start.
pub async fn host_with_ada(addresses: &[String]) -> (Host, Client) {
    let host = Host::with(manifest(addresses)).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    (host, ada)
}

/// The tools of the stub.
fn tools() -> Value {
    let numbers = json!({"type": "object", "required": ["a", "b"], "properties": {"a": {"type": "number"}, "b": {"type": "number"}}});
    json!([
        {"name": "add", "description": "Adds.", "inputSchema": numbers, "annotations": {"readOnlyHint": true},
            "outputSchema": {"type": "object", "required": ["sum"], "properties": {"sum": {"type": "number"}}}},
        {"name": "fail", "inputSchema": {"type": "object"}},
        {"name": "drop", "inputSchema": {"type": "object"}, "annotations": {"destructiveHint": true}},
        {"name": "gone", "inputSchema": {"type": "object"}},
        {"name": "slow", "inputSchema": {"type": "object"}},
        {"name": "silent", "inputSchema": {"type": "object"}},
        {"name": "unknown-method", "inputSchema": {"type": "object"}},
        {"name": "leak", "inputSchema": {"type": "object", "properties": {"password": {"type": "string"}}}},
        {"nonsense": true},
    ])
}

fn called(params: &Value) -> Result<Value, (i64, &'static str)> {
    let number = |name: &str| params["arguments"][name].as_f64().unwrap_or_default();
    let said = |text: String| json!([{"type": "text", "text": text}]);
    match params["name"].as_str() {
        Some("add") => {
            let sum = number("a") + number("b");
            Ok(json!({"content": said(sum.to_string()), "structuredContent": {"sum": sum}}))
        }
        Some("fail") => Ok(json!({"content": said("it is broken".into()), "isError": true})),
        Some("drop") => Ok(json!({"content": said("dropped".into())})),
        Some("leak") => {
            Ok(json!({"content": said("{\"token\":\"t0p\"}".into()), "structuredContent": {"apiKey": "k3y"}}))
        }
        Some("slow") => Ok(json!({"content": said("at last".into())})),
        Some("unknown-method") => Err((-32_601, "no such method")),
        _ => Err((-32_602, "unknown tool")),
    }
}

/// A server on this machine. The path of its endpoint says how it behaves: `/json` answers with objects, `/sse` with
/// streams, `/modern` without handshake, `/expiring` forgets each session after its first call, `/growing` has one more tool at each
/// list, `/wavering` leaves `add` out of every second list, `/gated` lists when it is let, `/keyed` wants a key, `/broken` fails.
pub async fn stub() -> ModelProvider {
    let sessions = Arc::new(AtomicUsize::new(0));
    let (calls, lists) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    ModelProvider::start(Arc::new(move |asked: &Asked| answer(asked, &sessions, &calls, &lists))).await
}

fn answer(asked: &Asked, sessions: &AtomicUsize, calls: &AtomicUsize, lists: &AtomicUsize) -> Vec<Act> {
    let (body, path) = (&asked.body, asked.target.as_str());
    let (method, id) = (body["method"].as_str().unwrap_or_default(), &body["id"]);
    let refused = |status: u16, code: i64, words: &str| {
        whole(status, "", &json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": words}}).to_string())
    };
    if path == "/broken" {
        return whole(500, "", "{}");
    }
    if path == "/keyed" && asked.header("x-api-key") != KEY {
        return whole(401, "", "{}");
    }
    if path == "/modern" {
        let version = &body["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"];
        let name = body["params"]["name"].as_str().unwrap_or_default();
        let is_sound = version == MODERN
            && asked.header("mcp-protocol-version") == MODERN
            && asked.header("mcp-method") == method
            && asked.header("mcp-name") == name;
        if !is_sound {
            return refused(400, -32_020, "header mismatch");
        }
        if method == "server/discover" {
            let found = json!({"supportedVersions": [MODERN], "capabilities": {"tools": {}}, "resultType": "complete"});
            return whole(200, "", &json!({"jsonrpc": "2.0", "id": id, "result": found}).to_string());
        }
    } else {
        if method == "server/discover" {
            return whole(400, "", "no session");
        }
        if method == "initialize" {
            let session = sessions.fetch_add(1, Ordering::SeqCst);
            let result = json!({"protocolVersion": LEGACY, "capabilities": {"tools": {}}, "serverInfo": {"name": "stub", "version": "1"}});
            let header = format!("mcp-session-id: session-{session}\r\n");
            return whole(200, &header, &json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string());
        }
        if asked.header("mcp-session-id").is_empty() {
            return refused(400, -32_000, "no session");
        }
    }
    if id.is_null() {
        return whole(202, "", "");
    }
    let result = match method {
        "tools/list" => {
            let mut listed = tools();
            if path == "/growing" {
                let number = lists.fetch_add(1, Ordering::SeqCst);
                listed[1]["description"] = json!(format!("the {number}th"));
            }
            // In two pages.
            let mut all = listed.as_array().cloned().unwrap_or_default();
            if path == "/wavering" && lists.fetch_add(1, Ordering::SeqCst) / 2 % 2 == 1 {
                all.remove(0);
            }
            let (first, second) = all.split_at(3);
            if body["params"]["cursor"] == "more" {
                json!({"tools": second})
            } else {
                json!({"tools": first, "nextCursor": "more"})
            }
        }
        "tools/call"
            if path == "/expiring"
                && asked.header("mcp-session-id") == "session-0"
                && calls.fetch_add(1, Ordering::SeqCst) > 0 =>
        {
            return whole(404, "", "{}");
        }
        "tools/call" if body["params"]["name"] == "silent" => return vec![Act::Hang],
        "tools/call" => match called(&body["params"]) {
            Ok(result) => result,
            Err((code, words)) => return refused(200, code, words),
        },
        _ => json!({}),
    };
    let message = json!({"jsonrpc": "2.0", "id": id, "result": result});
    if path != "/sse" {
        let acts = whole(200, "", &message.to_string());
        let waits = body["params"]["name"] == "slow" || (path == "/gated" && method == "tools/list");
        return if waits { [Act::Gate].into_iter().chain(acts).collect() } else { acts };
    }
    let progress =
        json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 1, "progress": 1}});
    let ping = json!({"jsonrpc": "2.0", "id": "server-1", "method": "ping"});
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n: hello\n\n";
    let text = format!("{head}data: {progress}\n\nid: 1\ndata: {ping}\n\nevent: message\ndata: {message}\n\n");
    vec![Act::Send(text.into_bytes())]
}

/// Registers a server of the stub and reads its tools; its id.
///
/// # Panics
/// When the host refuses.
pub async fn register(ada: &Client, stub: &ModelProvider, name: &str, path: &str) -> String {
    let body = json!({"name": name, "displayName": name, "endpoint": format!("http://{}{path}", stub.address()), "capabilities": [format!("{name}.all")]});
    let id = text(&ada.post("/api/mcp/servers", &body).await.expect(201), "id");
    ada.post(&format!("/api/mcp/servers/{id}/sync"), &json!({})).await.done(200);
    id
}

/// A client of the endpoint, by hand.
pub struct Speaker {
    client: Client,
    /// The session, once it is begun.
    pub session: Option<String>,
    version: &'static str,
}

impl Speaker {
    /// Without handshake.
    #[must_use]
    pub fn modern(client: &Client) -> Self {
        Self { client: client.clone(), session: None, version: MODERN }
    }

    /// With a session in which the client can do this.
    ///
    /// # Panics
    /// When none is begun.
    pub async fn legacy(client: &Client, version: &'static str, capabilities: &Value) -> Self {
        let mut speaker = Self { client: client.clone(), session: None, version };
        let params = json!({"protocolVersion": version, "capabilities": capabilities, "clientInfo": {"name": "t", "version": "1"}});
        let answer = speaker.say(&json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})).await;
        assert_eq!(answer.expect(200)["result"]["protocolVersion"], version);
        speaker.session = Some(answer.header("mcp-session-id"));
        speaker.say(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await.done(202);
        speaker
    }

    /// A request of the endpoint with the headers of the revision.
    pub fn request(&self, method: Method) -> reqwest::RequestBuilder {
        let mut request = self.client.request(method, "/api/mcp").header("mcp-protocol-version", self.version);
        if let Some(session) = &self.session {
            request = request.header("mcp-session-id", session);
        }
        request.header("accept", "application/json, text/event-stream")
    }

    /// Sends a message.
    pub async fn say(&self, message: &Value) -> Answer {
        self.client.send(self.prepared(message)).await
    }

    fn prepared(&self, message: &Value) -> reqwest::RequestBuilder {
        let mut request = self.request(Method::POST);
        if self.version == MODERN {
            request = request.header("mcp-method", message["method"].as_str().unwrap_or_default());
            for name in ["name", "uri"] {
                if let Some(name) = message["params"][name].as_str() {
                    request = request.header("mcp-name", name);
                }
            }
        }
        request.json(message)
    }

    /// A request's message, as the revision wants it.
    #[must_use]
    pub fn message(&self, id: i64, method: &str, mut params: Value, capabilities: &Value) -> Value {
        if self.version == MODERN {
            params["_meta"] = json!({"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": capabilities});
        }
        json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
    }

    /// Asks, and returns the whole answer, which is no stream.
    pub async fn ask(&self, method: &str, params: Value) -> Value {
        self.say(&self.message(1, method, params, &json!({}))).await.json()
    }

    /// Asks, and reads the answer as a stream.
    ///
    /// # Panics
    /// When there is none.
    pub async fn stream(&self, message: &Value) -> EventStream {
        EventStream::of(self.prepared(message)).await.unwrap_or_else(|| panic!("no stream for {message}"))
    }
}
