//! The protocol's own programs against a real host: `cargo test --release --test mcp_clients -- --ignored`. The official SDKs of Python and
//! TypeScript, the conformance suite, and the reference server as a server whose tools are called. They are installed below `target/`
//! where they are missing, which needs python3, npm, PyPI and npm's registry.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use berth_tests::mcp::host_with_ada;
use berth_tests::programs::{self, node, said, script, script_in};
use berth_tests::{Client, eventually};
use serde_json::{Value, json};

/// The versions whose behaviour is known.
const PYTHON_SDK: &str = "2.3.0";
const NPM: [&str; 6] = [
    programs::NODE,
    "@modelcontextprotocol/sdk@1.32.2",
    "@modelcontextprotocol/client@2.4.0",
    "@modelcontextprotocol/conformance@0.1.16",
    "conformance-next@npm:@modelcontextprotocol/conformance@0.2.0-alpha.12",
    "@modelcontextprotocol/server-everything@2026.8.31",
];

/// Where the programs of npm are.
fn npm() -> PathBuf {
    programs::npm("mcp-npm", &NPM)
}

/// What the scripts and the suite ask for, offered under the names in which they ask.
async fn offer_all(ada: &Client) {
    let offer = async |body: Value| ada.post("/api/mcp/offers", &body).await.done(201);
    for (name, method, path) in [
        ("test_simple_text", "GET", "text"),
        ("test_image_content", "GET", "image"),
        ("test_audio_content", "GET", "audio"),
        ("test_embedded_resource", "POST", "embedded"),
        ("test_multiple_content_types", "POST", "mixed"),
        ("test_error_handling", "POST", "error"),
        ("test_tool_with_logging", "POST", "logging"),
        ("test_logging_tool", "POST", "logging"),
        ("test_tool_with_progress", "POST", "progress"),
        ("progress", "POST", "progress"),
        ("name", "POST", "name"),
        ("test_reconnection", "POST", "reconnection"),
        ("test_sampling", "POST", "sampling"),
        ("test_elicitation", "POST", "elicitation"),
        ("test_elicitation_sep1034_defaults", "POST", "defaults"),
        ("test_elicitation_sep1330_enums", "POST", "enums"),
        ("json_schema_2020_12_tool", "POST", "vocabulary"),
        ("test_region", "POST", "region"),
        ("test_missing_capability", "POST", "capital"),
        ("test_streaming_elicitation", "POST", "name"),
        ("test_trigger_tool_change", "POST", "tool-change"),
        ("test_trigger_prompt_change", "POST", "prompt-change"),
        ("test_input_required_result_elicitation", "POST", "name"),
        ("test_input_required_result_sampling", "POST", "capital"),
        ("test_input_required_result_list_roots", "POST", "roots"),
        ("test_input_required_result_request_state", "POST", "state"),
        ("test_input_required_result_multiple_inputs", "POST", "several"),
        ("test_input_required_result_multi_round", "POST", "rounds"),
        ("test_input_required_result_tampered_state", "POST", "state"),
        ("test_input_required_result_capabilities", "POST", "capabilities"),
        ("spare", "POST", "error"),
    ] {
        let words = format!("A tool for tests: {path}.");
        offer(json!({"kind": "TOOL", "name": name, "description": words, "method": method, "path": format!("/api/kit/{path}")})).await;
    }
    for (name, path) in [
        ("simple", "simple"),
        ("test_simple_prompt", "simple"),
        ("test_prompt_with_arguments", "two"),
        ("test_prompt_with_embedded_resource", "resource"),
        ("test_prompt_with_image", "image"),
        ("test_input_required_result_prompt", "asked"),
        ("spare", "simple"),
    ] {
        let words = format!("A prompt for tests: {path}.");
        offer(json!({"kind": "PROMPT", "name": name, "description": words, "method": "POST", "path": format!("/api/kit/prompts/{path}")})).await;
    }
    for (name, path, uri, kind) in [
        ("text", "text", "test://static-text", "text/plain"),
        ("binary", "binary", "test://static-binary", "image/png"),
        ("watched", "watched", "test://watched-resource", "text/plain"),
        ("row", "rows/{id}", "test://template/{id}/data", "application/json"),
    ] {
        let words = format!("A resource for tests: {path}.");
        let path = format!("/api/kit/resources/{path}");
        offer(json!({"kind": "RESOURCE", "name": name, "description": words, "method": "GET", "path": path, "uri": uri, "mimeType": kind})).await;
    }
}

#[tokio::test]
#[ignore = "needs python3, npm, PyPI and npm's registry"]
async fn the_official_clients_work() {
    let (npm, python) = (npm(), programs::python("mcp", PYTHON_SDK));
    let (_host, ada) = host_with_ada(&[]).await;
    offer_all(&ada).await;
    let key = json!({"name": "MCP", "permissions": ["*"], "expiresInDays": 1});
    let key = ada.post("/api/users/me/api-keys", &key).await.expect(201)["key"].as_str().unwrap_or_default().to_owned();
    for address in ["/api/mcp", "/api/mcp/rpc"] {
        let arguments = [ada.url(address), key.clone()];
        let (is_good, text) = said(Command::new(&python).arg(script("mcp_client.py")).args(&arguments));
        assert!(is_good && text.contains("all of it works"), "{text}");
        let (is_good, text) = said(node(&npm).arg(script_in(&npm, "mcp_client.mjs")).args(&arguments));
        assert!(is_good && text.contains("all of it works"), "{text}");
    }
}

#[tokio::test]
#[ignore = "needs python3, npm, PyPI and npm's registry"]
async fn the_conformance_suite_passes() {
    let npm = npm();
    let (_host, ada) = host_with_ada(&[]).await;
    offer_all(&ada).await;
    let (stable, next) = ("@modelcontextprotocol/conformance", "conformance-next");
    for (suite, arguments) in [
        (stable, vec!["--suite", "active"]),
        (next, vec!["--requirements", "2025-11-25"]),
        (next, vec!["--requirements", "2026-07-28"]),
        (next, vec!["--spec-version", "2026-07-28", "--scenario", "http-header-validation"]),
        (next, vec!["--spec-version", "2026-07-28", "--scenario", "http-custom-header-server-validation"]),
        (next, vec!["--spec-version", "2025-11-25", "--scenario", "server-session-lifecycle"]),
        (next, vec!["--spec-version", "2025-11-25", "--scenario", "json-schema-2020-12"]),
    ] {
        let program = npm.join("node_modules").join(suite).join("dist/index.js");
        let mut command = node(&npm);
        command
            .arg(script("mcp_conformance.mjs"))
            .args([&ada.url("/api/mcp"), ada.token()])
            .arg(program)
            .args(&arguments);
        let (is_good, text) = said(&mut command);
        assert!(is_good, "{suite} {arguments:?}:\n{text}");
    }
}

/// A program that ends with the test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
#[ignore = "needs python3, npm, PyPI and npm's registry"]
async fn tools_of_the_reference_server_are_called() {
    let npm = npm();
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .map_or(0, |address| address.port());
    let program = npm.join("node_modules/@modelcontextprotocol/server-everything/dist/index.js");
    let mut command = node(&npm);
    command
        .arg(program)
        .arg("streamableHttp")
        .env("PORT", port.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _server = Program(command.spawn().unwrap_or_else(|error| unreachable!("{error}")));
    let address = format!("127.0.0.1:{port}");
    let (_host, ada) = host_with_ada(std::slice::from_ref(&address)).await;
    let body = json!({"name": "everything", "displayName": "Everything", "endpoint": format!("http://{address}/mcp")});
    let id = ada.post("/api/mcp/servers", &body).await.expect(201)["id"].as_str().unwrap_or_default().to_owned();
    let found = eventually("the server being there", async || {
        let answer = ada.post(&format!("/api/mcp/servers/{id}/sync"), &json!({})).await;
        (answer.status == 200).then(|| answer.json())
    })
    .await;
    assert!(found["total"].as_i64().is_some_and(|total| total >= 8), "{found}");
    let call = async |tool: &str, params: Value| {
        let body = json!({"serverId": id, "toolName": tool, "params": params, "confirm": true});
        ada.post("/api/mcp/execute", &body).await
    };
    assert_eq!(call("echo", json!({"message": "ahoy"})).await.expect(200)["content"][0]["text"], "Echo: ahoy");
    let sum = call("get-sum", json!({"a": 20, "b": 22})).await.expect(200);
    assert!(sum["content"][0]["text"].as_str().is_some_and(|text| text.contains("42")), "{sum}");
    assert_eq!(call("get-tiny-image", json!({})).await.expect(200)["content"][1]["type"], "image");
    let weather = call("get-structured-content", json!({"location": "Chicago"})).await.expect(200);
    assert!(weather["structuredContent"]["temperature"].is_number() && weather["warnings"] == json!([]), "{weather}");
    let long = call("trigger-long-running-operation", json!({"duration": 1, "steps": 2})).await.expect(200);
    assert_eq!(long["isError"], false, "{long}");
    call("get-sum", json!({"a": "x"})).await.problem(422, "INVALID_PARAMS");
    assert_eq!(ada.get(&format!("/api/mcp/servers/{id}")).await.expect(200)["health"], "HEALTHY");
}
