//! mcp-server towards other servers: the registry, reading tools, toggles, and executions under every rule.
#![expect(clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use berth_tests::answer::text;
use berth_tests::mcp::{KEY, host_with_ada, register, stub};
use berth_tests::{Client, Host, ModelProvider, eventually, members, plans};
use serde_json::{Value, json};

async fn world() -> (Host, Client, ModelProvider) {
    let stub = stub().await;
    let (host, ada) = host_with_ada(&[stub.address()]).await;
    (host, ada, stub)
}

async fn execute(ada: &Client, server: &str, tool: &str, params: Value) -> berth_tests::Answer {
    ada.post("/api/mcp/execute", &json!({"serverId": server, "toolName": tool, "params": params})).await
}

fn calls(stub: &ModelProvider, path: &str) -> Vec<Value> {
    let is_call =
        |asked: &&berth_tests::model_provider::Asked| asked.target == path && asked.body["method"] == "tools/call";
    stub.asked().iter().filter(is_call).map(|asked| asked.body.clone()).collect()
}

#[tokio::test]
async fn tools_are_read_and_called_over_every_kind_of_answer() {
    let (host, ada, stub) = world().await;
    for (name, path, version) in
        [("objects", "/json", "2025-11-25"), ("streams", "/sse", "2025-11-25"), ("stateless", "/modern", "2026-07-28")]
    {
        let id = register(&ada, &stub, name, path).await;
        let server = ada.get(&format!("/api/mcp/servers/{id}")).await.expect(200);
        assert_eq!((&server["protocolVersion"], server["session"].is_null()), (&json!(version), true), "{server}");
        let tools = ada.get(&format!("/api/mcp/servers/{id}/tools")).await.expect(200);
        assert_eq!(tools["total"], 8, "{tools}");
        let done = execute(&ada, &id, "add", json!({"a": 1, "b": 2})).await.expect(200);
        assert_eq!(
            (&done["structuredContent"], &done["isError"], &done["status"], &done["warnings"]),
            (&json!({"sum": 3.0}), &json!(false), &json!("COMPLETED"), &json!([])),
            "{done}"
        );
        // By name, and by the route of the tool.
        let path = format!("/api/mcp/servers/{id}/tools/add/execute");
        assert_eq!(ada.post(&path, &json!({"params": {"a": 2, "b": 2}})).await.expect(200)["content"][0]["text"], "4");
        assert_eq!(execute(&ada, name, "add", json!({"a": 4, "b": 4})).await.expect(200)["content"][0]["text"], "8");
        let row = ada.get(&format!("/api/mcp/executions/{}", text(&done, "executionId"))).await.expect(200);
        assert_eq!(
            (&row["status"], &row["input"], &row["callerModule"]),
            (&json!("COMPLETED"), &json!({"a": 1, "b": 2}), &json!("api"))
        );
        let failed = execute(&ada, &id, "fail", json!({})).await.expect(200);
        assert_eq!((&failed["isError"], &failed["status"]), (&json!(true), &json!("FAILED")), "{failed}");
    }
    // The server's own question on a stream was answered.
    let answered = stub
        .asked()
        .iter()
        .any(|asked| asked.target == "/sse" && asked.body["id"] == "server-1" && asked.body["result"] == json!({}));
    assert!(answered, "{:?}", stub.asked());
    let eve = host.client().register("eve@example.com", "Reef").await;
    let row = ada.get("/api/mcp/executions?limit=1").await.expect(200);
    let id = text(&row["items"][0], "id");
    eve.get(&format!("/api/mcp/executions/{id}")).await.problem(404, "NOT_FOUND");
    execute(&eve, "objects", "add", json!({"a": 1, "b": 1})).await.problem(404, "MCP_SERVER_NOT_FOUND");
    assert_eq!(eve.get("/api/mcp/servers").await.expect(200)["total"], 0);
}

#[tokio::test]
async fn each_failure_has_its_answer() {
    let (_host, ada, stub) = world().await;
    let id = register(&ada, &stub, "stub", "/json").await;
    let before = calls(&stub, "/json").len();
    let wrong = execute(&ada, &id, "add", json!({"a": "x"})).await;
    wrong.problem(422, "INVALID_PARAMS");
    assert_eq!(wrong.faulty_fields(), ["b", "a"]);
    assert_eq!(calls(&stub, "/json").len(), before, "nothing was sent");
    execute(&ada, &id, "unknown-method", json!({})).await.problem(502, "METHOD_NOT_FOUND");
    execute(&ada, &id, "nothing", json!({})).await.problem(404, "TOOL_NOT_FOUND");
    execute(&ada, "nobody", "add", json!({})).await.problem(404, "MCP_SERVER_NOT_FOUND");
    // The server still lists it, and so it is the arguments that it does not take.
    execute(&ada, &id, "gone", json!({})).await.problem(422, "INVALID_PARAMS");
    ada.post("/api/mcp/execute", &json!({"capability": "nothing.like.it"}))
        .await
        .problem(404, "CAPABILITY_NOT_AVAILABLE");
    assert_eq!(ada.post("/api/mcp/execute", &json!({"params": {}})).await.faulty_fields(), ["serverId", "toolName"]);
    // Too slow: the row says so, and the server is told.
    let body = json!({"serverId": id, "toolName": "silent", "timeout": 600});
    let late = ada.post("/api/mcp/execute", &body).await.problem(504, "EXECUTION_TIMEOUT");
    let row = ada.get(&format!("/api/mcp/executions/{}", text(&late, "executionId"))).await.expect(200);
    assert_eq!((&row["status"], &row["errorCode"]), (&json!("TIMEOUT"), &json!("EXECUTION_TIMEOUT")), "{row}");
    let told = |method: &str| {
        stub.asked()
            .iter()
            .any(|asked| asked.body["method"] == method && asked.body["params"]["requestId"] == row["id"])
    };
    assert!(told("notifications/cancelled"), "{:?}", stub.asked());
    // Transports that guests cannot have.
    let stdio =
        json!({"name": "local", "displayName": "Local", "transport": "STDIO", "source": "LOCAL_STDIO", "command": "x"});
    let stdio = text(&ada.post("/api/mcp/servers", &stdio).await.expect(201), "id");
    ada.post(&format!("/api/mcp/servers/{stdio}/sync"), &json!({})).await.problem(501, "TRANSPORT_UNSUPPORTED");
    // A credential that is missing, wrong, and right.
    let keyed =
        json!({"name": "keyed", "displayName": "Keyed", "endpoint": format!("http://{}/keyed", stub.address())});
    let keyed = text(&ada.post("/api/mcp/servers", &keyed).await.expect(201), "id");
    let auth = format!("/api/mcp/servers/{keyed}/auth");
    assert_eq!(ada.put(&auth, &json!({"authType": "API_KEY"})).await.faulty_fields(), ["secretId"]);
    let secret = json!({"name": "stub", "type": "API_KEY", "value": KEY, "services": ["mcp-server"]});
    let secret = text(&ada.post("/api/secrets", &secret).await.expect(201), "id");
    ada.put(&auth, &json!({"authType": "API_KEY", "secretId": "nothing"})).await.done(200);
    ada.post(&format!("/api/mcp/servers/{keyed}/sync"), &json!({})).await.problem(409, "AUTH_SECRET_NOT_FOUND");
    ada.put(&auth, &json!({"authType": "API_KEY", "secretId": secret})).await.done(200);
    ada.post(&format!("/api/mcp/servers/{keyed}/sync"), &json!({})).await.done(200);
    assert_eq!(execute(&ada, &keyed, "add", json!({"a": 1, "b": 1})).await.expect(200)["isError"], false);
    let shown = ada.get(&format!("/api/mcp/servers/{keyed}")).await.text();
    assert!(!shown.contains(KEY), "{shown}");
    ada.delete(&format!("/api/secrets/{secret}")).await.done(204);
    eventually("the credential being gone", async || {
        (ada.get(&format!("/api/mcp/servers/{keyed}")).await.json()["authSecretId"].is_null()).then_some(())
    })
    .await;
    execute(&ada, &keyed, "add", json!({"a": 1, "b": 1})).await.problem(409, "AUTH_SECRET_NOT_FOUND");
}

#[tokio::test]
async fn what_is_secret_is_kept_nowhere() {
    let (_host, ada, stub) = world().await;
    let id = register(&ada, &stub, "stub", "/json").await;
    let done = execute(&ada, &id, "leak", json!({"password": "p4ss"})).await.expect(200);
    assert_eq!((&done["structuredContent"]["apiKey"], done.to_string().contains("t0p")), (&json!("k3y"), true));
    assert_eq!(calls(&stub, "/json")[0]["params"]["arguments"]["password"], "p4ss");
    let row = ada.get(&format!("/api/mcp/executions/{}", text(&done, "executionId"))).await.text();
    for secret in ["p4ss", "k3y", "t0p"] {
        assert!(!row.contains(secret), "{secret} in {row}");
    }
    let audit = ada.get("/api/mcp/audit?action=execution.ended").await.expect(200);
    assert_eq!(audit["items"][0]["subject"], "leak", "{audit}");
}

#[tokio::test]
async fn a_session_that_is_over_is_begun_anew() {
    let (_host, ada, stub) = world().await;
    let id = register(&ada, &stub, "stub", "/expiring").await;
    for sum in 1..4 {
        let done = execute(&ada, &id, "add", json!({"a": sum, "b": 0})).await.expect(200);
        assert_eq!(done["structuredContent"]["sum"], f64::from(sum), "{done}");
    }
    let begun = stub.asked().iter().filter(|asked| asked.body["method"] == "initialize").count();
    assert_eq!(begun, 2, "once at first, and once when it was over");
}

#[tokio::test]
async fn a_tool_that_has_changed_waits_for_an_administrator() {
    let (host, ada, stub) = world().await;
    let id = register(&ada, &stub, "stub", "/growing").await;
    let again = ada.post(&format!("/api/mcp/servers/{id}/sync"), &json!({})).await.expect(200);
    assert_eq!(
        (&again["changed"], &again["added"], &again["skipped"]),
        (&json!(["fail"]), &json!([]), &json!(1)),
        "{again}"
    );
    execute(&ada, &id, "fail", json!({})).await.problem(403, "PERMISSION_DENIED");
    let mia = members::bring(&host, &ada, "mia@example.com", "Member").await;
    let tool = format!("/api/mcp/tools/{id}/fail");
    mia.put(&tool, &json!({"isEnabled": true})).await.problem(403, "FORBIDDEN");
    ada.put(&tool, &json!({"isEnabled": true})).await.done(200);
    execute(&ada, &id, "fail", json!({})).await.done(200);
    // Levels, and what destroys.
    execute(&mia, &id, "add", json!({"a": 1, "b": 1})).await.done(200);
    execute(&mia, &id, "drop", json!({})).await.problem(403, "PERMISSION_DENIED");
    let confirmed = json!({"serverId": id, "toolName": "drop", "confirm": true});
    mia.post("/api/mcp/execute", &confirmed).await.done(200);
    execute(&ada, &id, "drop", json!({})).await.done(200);
    ada.put(&format!("/api/mcp/tools/{id}/add"), &json!({"permissionLevel": "ADMIN"})).await.done(200);
    execute(&mia, &id, "add", json!({"a": 1, "b": 1})).await.problem(403, "PERMISSION_DENIED");
    let vic = members::bring(&host, &ada, "vic@example.com", "Viewer").await;
    execute(&vic, &id, "drop", json!({})).await.problem(403, "FORBIDDEN");
    // Everybody sees their own executions, administrators all.
    let own = mia.get("/api/mcp/executions?limit=200").await.expect(200);
    let all = ada.get("/api/mcp/executions?limit=200").await.expect(200);
    assert!(own["total"].as_i64() < all["total"].as_i64(), "{own}");
    assert!(own["items"].as_array().into_iter().flatten().all(|row| row["userId"] == json!(members::id(&mia))));
    assert_eq!(ada.get("/api/mcp/analytics/top-tools").await.expect(200)["items"][0]["toolName"], "drop");
    assert_eq!(ada.get("/api/mcp/analytics/usage").await.expect(200)["executions"], all["total"]);
    assert_eq!(ada.get("/api/mcp/analytics/errors").await.expect(200)["items"][0]["errorCode"], "TOOL_ERROR");
    mia.get("/api/mcp/audit").await.problem(403, "FORBIDDEN");
}

#[tokio::test]
async fn what_was_decided_about_a_tool_outlives_its_absence() {
    let (_host, ada, stub) = world().await;
    let id = register(&ada, &stub, "stub", "/wavering").await;
    let tool = format!("/api/mcp/tools/{id}/add");
    ada.put(&tool, &json!({"permissionLevel": "ADMIN", "isEnabled": false})).await.done(200);
    let sync = async || ada.post(&format!("/api/mcp/servers/{id}/sync"), &json!({})).await.expect(200);
    assert_eq!(sync().await["removed"], json!(["add"]));
    ada.get(&tool).await.problem(404, "TOOL_NOT_FOUND");
    assert_eq!(ada.get(&format!("/api/mcp/servers/{id}/tools")).await.expect(200)["total"], 7);
    assert_eq!(sync().await["added"], json!(["add"]));
    let back = ada.get(&tool).await.expect(200);
    assert_eq!((&back["permissionLevel"], &back["isEnabled"]), (&json!("ADMIN"), &json!(false)), "{back}");
    execute(&ada, &id, "add", json!({"a": 1, "b": 1})).await.problem(403, "PERMISSION_DENIED");
}

#[tokio::test]
async fn a_credential_goes_where_an_administrator_says() {
    let (host, ada, stub) = world().await;
    let mia = members::bring(&host, &ada, "mia@example.com", "Member").await;
    let secret = json!({"name": "stub", "type": "API_KEY", "value": KEY, "services": ["mcp-server"]});
    let secret = text(&ada.post("/api/secrets", &secret).await.expect(201), "id");
    let endpoint = format!("http://{}/keyed", stub.address());
    let body = json!({"name": "keyed", "displayName": "Keyed", "endpoint": endpoint, "authType": "API_KEY", "authSecretId": secret});
    mia.post("/api/mcp/servers", &body).await.problem(403, "PERMISSION_DENIED");
    let path = format!("/api/mcp/servers/{}", text(&ada.post("/api/mcp/servers", &body).await.expect(201), "id"));
    let elsewhere = json!({"endpoint": format!("http://{}/json", stub.address())});
    mia.put(&path, &elsewhere).await.problem(403, "PERMISSION_DENIED");
    mia.put(&path, &json!({"displayName": "The one with a key"})).await.done(200);
    let copy = mia.post(&format!("{path}/duplicate"), &json!({})).await.expect(201);
    assert!(copy["authSecretId"].is_null(), "{copy}");
    let auth = format!("/api/mcp/servers/{}/auth", text(&copy, "id"));
    mia.put(&auth, &json!({"authType": "API_KEY", "secretId": secret})).await.problem(403, "PERMISSION_DENIED");
    ada.put(&auth, &json!({"authType": "API_KEY", "secretId": secret})).await.done(200);
}

#[tokio::test]
async fn who_only_sees_a_project_turns_nothing_on_in_it() {
    let (host, ada, stub) = world().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let cleo = members::bring(&host, &ada, "cleo@example.com", "Member").await;
    let id = register(&ada, &stub, "stub", "/json").await;
    let project = json!({"name": "Secret", "visibility": "private"});
    let project = text(&ada.post("/api/projects", &project).await.expect(201), "id");
    let access =
        json!([{"userId": members::id(&ada), "level": "owner"}, {"userId": members::id(&bob), "level": "viewer"}]);
    ada.put(&format!("/api/projects/{project}/access"), &json!({ "access": access })).await.done(200);
    let toggle = format!("/api/mcp/servers/{id}/toggle");
    let body = json!({"scope": "PROJECT", "scopeId": project, "enabled": false});
    bob.put(&toggle, &body).await.problem(403, "PERMISSION_DENIED");
    cleo.put(&toggle, &body).await.problem(404, "NOT_FOUND");
    ada.put(&toggle, &body).await.done(200);
    let configuration = format!("/api/mcp/servers/{id}/configuration");
    let narrow = json!({"scope": "PROJECT", "scopeId": project, "permissionScope": {"readOnly": true}});
    ada.put(&configuration, &narrow).await.done(200);
    for path in ["/api/mcp/toggles", configuration.as_str()] {
        let total = async |client: &Client| client.get(path).await.expect(200)["total"].clone();
        assert_eq!(
            (total(&ada).await, total(&bob).await, total(&cleo).await),
            (json!(1), json!(1), json!(0)),
            "{path}"
        );
    }
}

#[tokio::test]
async fn toggles_scopes_and_limits_decide() {
    let (host, ada, stub) = world().await;
    let first = register(&ada, &stub, "first", "/json").await;
    let second = register(&ada, &stub, "second", "/modern").await;
    let add = json!({"a": 1, "b": 1});
    // By capability: the one that is preferred, and the other when that is turned off.
    for id in [&first, &second] {
        ada.put(&format!("/api/mcp/servers/{id}"), &json!({"capabilities": ["math.*"]})).await.done(200);
    }
    let by = async |project: Option<&str>| {
        let body = json!({"capability": "math.add", "params": add, "projectId": project});
        let answer = ada.post("/api/mcp/execute", &body).await;
        (answer.status, answer.json()["serverId"].clone())
    };
    let toggle =
        async |id: &str, body: Value| ada.put(&format!("/api/mcp/servers/{id}/toggle"), &body).await.expect(200);
    toggle(&second, json!({"enabled": true, "priority": 5})).await;
    assert_eq!(by(None).await, (200, json!(second)));
    let project = plans::project(&ada, "Quay").await;
    toggle(&first, json!({"scope": "PROJECT", "scopeId": project, "enabled": true})).await;
    assert_eq!(by(Some(&project)).await, (200, json!(first)), "the narrowest toggle counts");
    toggle(&second, json!({"enabled": false})).await;
    assert_eq!(by(None).await, (200, json!(first)));
    execute(&ada, &second, "add", add.clone()).await.problem(403, "PERMISSION_DENIED");
    let sent = calls(&stub, "/modern").len();
    assert_eq!(sent, 1, "nothing was sent to what is turned off");
    let mia = members::bring(&host, &ada, "mia@example.com", "Member").await;
    mia.put(&format!("/api/mcp/servers/{first}/toggle"), &json!({"enabled": false}))
        .await
        .problem(403, "PERMISSION_DENIED");
    ada.put(
        &format!("/api/mcp/servers/{first}/toggle"),
        &json!({"scope": "PROJECT", "scopeId": "nothing", "enabled": true}),
    )
    .await
    .problem(404, "NOT_FOUND");
    // The sandbox.
    let configuration = format!("/api/mcp/servers/{first}/configuration");
    ada.put(&configuration, &json!({"permissionScope": {"readOnly": true}})).await.done(200);
    execute(&ada, &first, "drop", json!({})).await.problem(403, "SANDBOX_VIOLATION");
    execute(&ada, &first, "add", add.clone()).await.done(200);
    assert_eq!(
        ada.put(&configuration, &json!({"permissionScope": {"readOnly": 1}})).await.faulty_fields(),
        ["permissionScope.readOnly"]
    );
    // Limits: of the server, and of the organization.
    ada.put(&configuration, &json!({"permissionScope": {}, "rateLimit": 1})).await.done(200);
    let limited = execute(&ada, &first, "add", add.clone()).await;
    limited.problem(429, "RATE_LIMIT_EXCEEDED");
    assert_eq!(limited.header("retry-after"), "60");
    ada.put(&configuration, &json!({"rateLimit": 100_000})).await.done(200);
    ada.put("/api/mcp/settings", &json!({"maxExecutionsPerHour": 1})).await.done(200);
    execute(&ada, &first, "add", add.clone()).await.problem(429, "RATE_LIMIT_EXCEEDED");
    ada.put("/api/mcp/settings", &json!({"maxExecutionsPerHour": 1000, "maxConcurrent": 0})).await.done(200);
    execute(&ada, &first, "add", add.clone()).await.problem(429, "RATE_LIMIT_EXCEEDED");
    ada.put("/api/mcp/settings", &json!({"mcpEnabled": false})).await.done(200);
    execute(&ada, &first, "add", add.clone()).await.problem(403, "PERMISSION_DENIED");
    ada.put("/api/mcp/settings", &json!({"mcpEnabled": true, "maxConcurrent": 5, "maxCustomServers": 2}))
        .await
        .done(200);
    let third = json!({"name": "third", "displayName": "Third", "endpoint": "https://mcp.example.com"});
    ada.post("/api/mcp/servers", &third).await.problem(409, "SERVER_LIMIT_REACHED");
    ada.put("/api/mcp/settings", &json!({"maxCustomServers": 9})).await.done(200);
    ada.post("/api/mcp/servers", &json!({"name": "first", "displayName": "x", "endpoint": "https://a.example"}))
        .await
        .problem(409, "DUPLICATE_NAME");
    let copy = ada.post(&format!("/api/mcp/servers/{first}/duplicate"), &json!({})).await.expect(201);
    assert_eq!((&copy["name"], &copy["health"]), (&json!("first-copy"), &json!("UNKNOWN")));
}

#[tokio::test]
async fn executions_run_afterwards_in_batches_and_can_be_cancelled() {
    let (_host, ada, stub) = world().await;
    let id = register(&ada, &stub, "stub", "/json").await;
    let order = |tool: &str, more: Value| {
        let mut order = json!({"serverId": id, "toolName": tool, "params": {"a": 1, "b": 1}});
        order
            .as_object_mut()
            .unwrap_or(&mut serde_json::Map::new())
            .extend(more.as_object().cloned().unwrap_or_default());
        order
    };
    let later = ada.post("/api/mcp/execute", &order("add", json!({"async": true}))).await.expect(202);
    let path = text(&later, "statusUrl");
    let row = eventually("the execution's end", async || {
        let row = ada.get(&path).await.expect(200);
        (row["status"] == "COMPLETED").then_some(row)
    })
    .await;
    assert_eq!(row["output"]["structuredContent"], json!({"sum": 2.0}), "{row}");
    // In a row, until one fails.
    let batch = json!({"executions": [order("add", json!({})), order("fail", json!({})), order("add", json!({}))], "stopOnError": true});
    let done = ada.post("/api/mcp/execute/batch", &batch).await.expect(200);
    assert_eq!((&done["succeeded"], &done["failed"], &done["skipped"]), (&json!(1), &json!(1), &json!(1)), "{done}");
    let batch = json!({"executions": [order("add", json!({})), order("nothing", json!({}))], "parallel": true});
    let done = ada.post("/api/mcp/execute/batch", &batch).await.expect(200);
    assert_eq!(
        (&done["results"][0]["status"], &done["results"][1]["problem"]["code"]),
        (&json!(202), &json!("TOOL_NOT_FOUND")),
        "{done}"
    );
    assert_eq!(ada.post("/api/mcp/execute/batch", &json!({"executions": []})).await.faulty_fields(), ["executions"]);
    // Cancelled while the server thinks: the server is told, and what it says then is discarded.
    let slow = ada.post("/api/mcp/execute", &order("slow", json!({"async": true}))).await.expect(202);
    let path = text(&slow, "statusUrl");
    let server = format!("/api/mcp/servers/{id}");
    eventually("the tool being called", async || {
        calls(&stub, "/json").iter().any(|call| call["params"]["name"] == "slow").then_some(())
    })
    .await;
    ada.delete(&server).await.problem(409, "SERVER_BUSY");
    ada.delete(&path).await.done(204);
    ada.delete(&path).await.done(204);
    stub.release(1);
    assert_eq!(ada.get(&path).await.expect(200)["status"], "CANCELLED");
    let told = stub.asked().iter().any(|asked| {
        asked.body["method"] == "notifications/cancelled" && asked.body["params"]["requestId"] == slow["executionId"]
    });
    assert!(told, "the server is told");
    ada.delete(&text(&later, "statusUrl")).await.problem(409, "EXECUTION_OVER");
    eventually("the server being free", async || (ada.delete(&server).await.status == 204).then_some(())).await;
}

#[tokio::test]
async fn a_server_that_fails_is_unhealthy_and_is_not_asked() {
    let (_host, ada, stub) = world().await;
    let body =
        json!({"name": "broken", "displayName": "Broken", "endpoint": format!("http://{}/broken", stub.address())});
    let id = text(&ada.post("/api/mcp/servers", &body).await.expect(201), "id");
    let check = format!("/api/mcp/servers/{id}/health/check");
    eventually("three failures in a row", async || {
        let checked = ada.post(&check, &json!({})).await.expect(200);
        (checked["health"] == "UNHEALTHY").then_some(())
    })
    .await;
    let health = ada.get(&format!("/api/mcp/servers/{id}/health")).await.expect(200);
    assert!(
        health["checks"].as_array().is_some_and(|checks| checks.len() >= 3) && health["error"].is_string(),
        "{health}"
    );
    execute(&ada, &id, "add", json!({})).await.problem(404, "TOOL_NOT_FOUND");
    let well = register(&ada, &stub, "well", "/json").await;
    assert_eq!(ada.get(&format!("/api/mcp/servers/{well}")).await.expect(200)["health"], "HEALTHY");
    let summary = eventually("the summary", async || {
        let summary = ada.get("/api/mcp/health").await.expect(200);
        (summary["total"] == 2).then_some(summary)
    })
    .await;
    assert_eq!((&summary["unhealthy"], &summary["healthy"]), (&json!(1), &json!(1)), "{summary}");
}

#[tokio::test]
async fn the_catalogue_is_the_platforms_and_everybodys() {
    let (host, ada, stub) = world().await;
    let eve = host.client().register("eve@example.com", "Reef").await;
    let body =
        json!({"name": "shared", "displayName": "Shared", "endpoint": format!("http://{}/json", stub.address())});
    eve.post("/api/mcp/catalog/servers", &body).await.problem(403, "FORBIDDEN");
    // The first organization is the operator's.
    let id = text(&ada.post("/api/mcp/catalog/servers", &body).await.expect(201), "id");
    ada.post(&format!("/api/mcp/servers/{id}/sync"), &json!({})).await.done(200);
    assert_eq!(eve.get("/api/mcp/catalog").await.expect(200)["items"][0]["name"], "shared");
    eve.put(&format!("/api/mcp/servers/{id}"), &json!({"displayName": "x"})).await.problem(403, "FORBIDDEN");
    execute(&eve, &id, "add", json!({"a": 1, "b": 1})).await.problem(403, "PERMISSION_DENIED");
    eve.put(&format!("/api/mcp/servers/{id}/toggle"), &json!({"enabled": true})).await.done(200);
    assert_eq!(execute(&eve, &id, "add", json!({"a": 1, "b": 1})).await.expect(200)["isError"], false);
    let copy = eve.post(&format!("/api/mcp/servers/{id}/duplicate"), &json!({"name": "own"})).await.expect(201);
    assert_eq!((&copy["type"], &copy["scope"]), (&json!("CUSTOM"), &json!("ORGANIZATION")), "{copy}");
    let tools = format!("/api/mcp/servers/{}/tools", text(&copy, "id"));
    assert_eq!(eve.get(&tools).await.expect(200)["total"], 8, "with its tools");
    ada.get(&tools).await.problem(404, "MCP_SERVER_NOT_FOUND");
    let version = json!({"version": "2.0.0", "changeNotes": "New.", "definition": {"description": "It adds."}});
    ada.post(&format!("/api/mcp/catalog/servers/{id}/versions"), &version).await.done(201);
    let versions = eve.get(&format!("/api/mcp/servers/{id}/versions")).await.expect(200);
    assert_eq!((&versions["total"], &versions["items"][0]["version"]), (&json!(2), &json!("2.0.0")), "{versions}");
    assert_eq!(
        ada.post(&format!("/api/mcp/catalog/servers/{id}/deprecate"), &json!({})).await.expect(200)["status"],
        "DEPRECATED"
    );
    ada.post(&format!("/api/mcp/catalog/servers/{id}/archive"), &json!({})).await.done(200);
    execute(&eve, &id, "add", json!({"a": 1, "b": 1})).await.problem(403, "PERMISSION_DENIED");
    assert_eq!(eve.get("/api/mcp/catalog").await.expect(200)["total"], 0);
}

#[tokio::test]
async fn a_wrong_credential_of_one_organization_keeps_no_other_from_a_server() {
    let (host, ada, stub) = world().await;
    let eve = host.client().register("eve@example.com", "Reef").await;
    let body = json!({"name": "shared", "displayName": "Shared", "endpoint": format!("http://{}/keyed", stub.address()), "authType": "API_KEY"});
    let id = text(&ada.post("/api/mcp/catalog/servers", &body).await.expect(201), "id");
    let keyed = async |client: &Client, value: &str| {
        let secret = json!({"name": "stub", "type": "API_KEY", "value": value, "services": ["mcp-server"]});
        let secret = text(&client.post("/api/secrets", &secret).await.expect(201), "id");
        let auth = json!({"authType": "API_KEY", "secretId": secret});
        client.put(&format!("/api/mcp/servers/{id}/auth"), &auth).await.done(200);
        client.put(&format!("/api/mcp/servers/{id}/toggle"), &json!({"enabled": true})).await.done(200);
    };
    keyed(&ada, KEY).await;
    ada.post(&format!("/api/mcp/servers/{id}/sync"), &json!({})).await.done(200);
    keyed(&eve, "key-of-nothing").await;
    let add = json!({"a": 1, "b": 1});
    for _ in 0..4 {
        execute(&eve, &id, "add", add.clone()).await.problem(502, "TRANSPORT_ERROR");
    }
    assert_eq!(execute(&ada, &id, "add", add).await.expect(200)["isError"], false);
    assert_eq!(ada.get(&format!("/api/mcp/servers/{id}")).await.expect(200)["health"], "HEALTHY");
}

#[tokio::test]
async fn agents_and_plans_call_tools() {
    let (_host, ada, stub) = world().await;
    let id = register(&ada, &stub, "stub", "/json").await;
    let agent = json!({"name": "Worker", "model": "echo", "tools": ["stub/*"]});
    let agent = text(&ada.post("/api/ai/agents", &agent).await.expect(201), "id");
    let given = ada
        .post(&format!("/api/ai/agents/{agent}/execute"), &json!({"input": "call add {\"a\": 1, \"b\": 2}"}))
        .await
        .expect(201);
    let run = text(&given["execution"], "id");
    let row = eventually("the agent's end", async || {
        let row = ada.get(&format!("/api/ai/executions/{run}")).await.expect(200);
        matches!(row["status"].as_str(), Some("completed" | "failed")).then_some(row)
    })
    .await;
    assert_eq!((&row["status"], &row["output"]), (&json!("completed"), &json!("3")), "{row}");
    let rows = ada.get("/api/mcp/executions?callerModule=ai-service").await.expect(200);
    assert_eq!((&rows["total"], &rows["items"][0]["callerAgentId"]), (&json!(1), &json!(agent)), "{rows}");
    let steps = json!([{"title": "Add", "type": "mcp_tool", "params": {"serverId": id, "tool": "add", "arguments": {"a": 20, "b": 22}},
        "postconditions": [{"kind": "absent", "path": "nothing"}]}]);
    let plan = plans::ready_plan(&ada, &steps).await;
    let execution = plans::execute(&ada, &plan).await;
    let row = plans::reaches(&ada, &execution, &["failed", "completed"]).await;
    assert_eq!(row["status"], "completed", "{row}");
    let events = plans::events(&ada, &execution).await;
    assert!(
        events.iter().any(|event| event["type"] == "execution.step.completed" && event.to_string().contains("42")),
        "{events:#?}"
    );
}
