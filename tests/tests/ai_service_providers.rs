//! ai-service and its providers: their own forms as they come, answers that break off or come too late, keys that change,
//! addresses that nobody may call, and what is written down of it all.

use std::sync::Arc;
use std::time::Duration;

use berth_tests::answer::text;
use berth_tests::assistants::{
    host_with_ada, manifest, metered, model, question, read_until, rest, row, set_up, stream, stub,
};
use berth_tests::eventually;
use berth_tests::model_provider::{Act, Asked, ModelProvider, completion, whole};
use serde_json::{Value, json};

/// The answer to the question which models there are.
const MODELS: &str = r#"{"data":[]}"#;

/// What Anthropic and Ollama say word by word, each with a gate behind it.
fn in_their_own_form(asked: &Asked) -> Vec<Act> {
    let event = |value: Value| format!("data: {value}\n\n");
    let delta = |word: &str| {
        event(json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}))
    };
    let line = |word: &str, more: &str| format!("{{\"message\":{{\"content\":\"{word}\"}},\"done\":{more}}}\n");
    let begin = json!({"type": "message_start", "message": {"usage": {"input_tokens": 11, "output_tokens": 1}}});
    let end = json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}});
    let (kind, [one, two, three]) = match asked.target.as_str() {
        "/v1/messages" => (
            "text/event-stream",
            [event(begin) + &delta("one "), delta("two"), event(end) + &event(json!({"type": "message_stop"}))],
        ),
        "/api/chat" => {
            let end = "true,\"done_reason\":\"stop\",\"prompt_eval_count\":11,\"eval_count\":2";
            ("application/x-ndjson", [line("one ", "false"), line("two", "false"), line("", end)])
        }
        _ => return whole(200, "", MODELS),
    };
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n");
    let send = |text: String| Act::Send(text.into_bytes());
    vec![send(head + &one), Act::Gate, send(two), Act::Gate, send(three)]
}

#[tokio::test]
async fn who_speaks_in_a_form_of_their_own_is_heard_word_by_word() {
    let provider = ModelProvider::start(Arc::new(in_their_own_form)).await;
    let (_host, ada) = host_with_ada(manifest(Some(&provider))).await;
    set_up(&ada, &provider, "ANTHROPIC", &["claude"]).await;
    let ollama = json!({"name": "here", "type": "OLLAMA", "baseUrl": provider.base_url().replace("/v1", "")});
    let ollama = text(&ada.post("/api/ai/providers", &ollama).await.expect(201), "id");
    model(&ada, &ollama, "llama").await;
    for name in ["claude", "llama"] {
        let mut response = stream(&ada, "/api/ai/completions/stream", &question(name)).await;
        assert_eq!(response.status(), 200, "{name}");
        let mut read = String::new();
        read_until(&mut response, &mut read, "one ").await;
        assert!(!read.contains("two"), "{name}: {read}");
        provider.release(1);
        read_until(&mut response, &mut read, "two").await;
        assert!(!read.contains("[DONE]"), "{name}: {read}");
        provider.release(1);
        read.push_str(&rest(response).await);
        assert!(read.ends_with("data: [DONE]\n\n"), "{name}: {read}");
        let done = row(&ada, &format!("model={name}"), |row| row["status"] == "completed").await;
        assert_eq!((&done["inputTokens"], &done["outputTokens"]), (&json!(11), &json!(2)), "{done}");
    }
    let asked = provider.asked();
    assert!(asked.len() == 2 && asked.iter().all(Asked::streams), "{asked:?}");
}

/// Ends long before the length that it has said.
fn cut_off(asked: &Asked) -> Vec<Act> {
    if asked.body.is_null() {
        return whole(200, "", MODELS);
    }
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\nconnection: close\r\n\r\n";
    vec![Act::Send(format!("{head}{{\"choices\":[").into_bytes())]
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_asked_for_again_and_not_billed() {
    let provider = ModelProvider::start(Arc::new(cut_off)).await;
    let (_host, ada) = host_with_ada(manifest(Some(&provider))).await;
    let (_, models) = set_up(&ada, &provider, "CUSTOM", &["cut"]).await;
    let ask = async |is_stream: bool| {
        let mut asked = question("cut");
        asked["stream"] = json!(is_stream);
        ada.post("/api/ai/completions", &asked).await
    };
    for is_stream in [false, true] {
        ask(is_stream).await.problem(502, "PROVIDER_INVALID");
    }
    assert_eq!(provider.count("cut"), 2, "whoever breaks off has worked already");
    let rows = ada.get("/api/ai/completions").await.expect(200);
    for row in rows["items"].as_array().into_iter().flatten() {
        assert_eq!((&row["status"], &row["tokensUsed"]), (&json!("failed"), &json!(0)), "{row}");
    }
    assert_eq!((&rows["total"], metered(&ada).await), (&json!(2), 0));
    // Somebody else may stand in.
    let chain = json!({"primaryModelId": models[0], "fallbackModelIds": ["echo"]});
    ada.post("/api/ai/routing/fallbacks", &chain).await.done(201);
    assert_eq!(ask(false).await.expect(200)["provider"], "echo");
    assert_eq!(provider.count("cut"), 3);
}

#[tokio::test]
async fn an_answer_that_comes_after_it_was_cancelled_is_billed() {
    let provider = ModelProvider::start(Arc::new(|asked: &Asked| {
        if asked.body.is_null() {
            return whole(200, "", MODELS);
        }
        [Act::Gate].into_iter().chain(completion("Hello", 10, 3)).collect()
    }))
    .await;
    let (_host, ada) = host_with_ada(manifest(Some(&provider))).await;
    set_up(&ada, &provider, "CUSTOM", &["slow"]).await;
    let asker = ada.clone();
    let asking = tokio::spawn(async move { asker.post("/api/ai/completions", &question("slow")).await });
    let running = row(&ada, "model=slow&status=pending", |_| true).await;
    eventually("the question", async || (provider.count("slow") == 1).then_some(())).await;
    let path = format!("/api/ai/completions/{}/cancel", text(&running, "id"));
    assert_eq!(ada.post(&path, &json!({})).await.expect(200)["status"], "cancelled");
    // Longer than a stream may say nothing of itself.
    tokio::time::sleep(Duration::from_secs(22)).await;
    provider.release(1);
    asking.await.expect("an answer").problem(409, "CANCELLED");
    let closed = row(&ada, "model=slow", |row| row["tokensUsed"] == 13).await;
    assert_eq!((&closed["status"], &closed["errorCode"]), (&json!("cancelled"), &json!("CANCELLED")), "{closed}");
    eventually("what was answered being metered", async || (metered(&ada).await == 13).then_some(())).await;
}

#[tokio::test]
async fn a_rotated_key_is_tried_at_once() {
    let provider = ModelProvider::start(Arc::new(|asked: &Asked| {
        let status = if asked.header("authorization") == "Bearer sk-new" { 200 } else { 401 };
        whole(status, "", MODELS)
    }))
    .await;
    // The clock does not look.
    let manifest = manifest(Some(&provider)).with("health = \"1s\"\n", "health = \"1h\"\n");
    let (_host, ada) = host_with_ada(manifest).await;
    let (stub, _) = set_up(&ada, &provider, "CUSTOM", &[]).await;
    let path = format!("/api/ai/providers/{stub}");
    assert_eq!(ada.post(&format!("{path}/test"), &json!({})).await.expect(200)["code"], "PROVIDER_AUTH");
    let shown = ada.get(&path).await.expect(200);
    assert_eq!(shown["health"], "UNHEALTHY", "{shown}");
    let secret = text(&shown["configuration"], "apiKeySecretId");
    ada.post(&format!("/api/secrets/{secret}/rotate"), &json!({"value": "sk-new"})).await.done(200);
    eventually("another look", async || (ada.get(&path).await.expect(200)["health"] == "HEALTHY").then_some(())).await;
}

#[tokio::test]
async fn an_address_that_is_not_allowed_is_never_called() {
    let (provider, stranger) = (stub().await, stub().await);
    let (_host, ada) = host_with_ada(manifest(Some(&provider))).await;
    for (name, address) in [
        ("next-door", stranger.base_url()),
        ("metadata", "http://169.254.169.254/v1".to_owned()),
        ("elsewhere", "https://models.example/v1".to_owned()),
    ] {
        let body = json!({"name": name, "type": "CUSTOM", "baseUrl": address});
        let id = text(&ada.post("/api/ai/providers", &body).await.expect(201), "id");
        let first = model(&ada, &id, name).await;
        // Nobody who stands in hides it.
        let chain = json!({"primaryModelId": first, "fallbackModelIds": ["echo"]});
        ada.post("/api/ai/routing/fallbacks", &chain).await.done(201);
        for is_stream in [false, true] {
            let mut asked = question(name);
            asked["stream"] = json!(is_stream);
            ada.post("/api/ai/completions", &asked).await.problem(502, "PROVIDER_DENIED");
        }
        let tested = ada.post(&format!("/api/ai/providers/{id}/test"), &json!({})).await.expect(200);
        assert_eq!((&tested["success"], &tested["code"]), (&json!(false), &json!("PROVIDER_DENIED")), "{name}");
    }
    assert!(stranger.asked().is_empty(), "{:?}", stranger.asked());
}

#[tokio::test]
async fn what_was_asked_is_told_to_who_asked_and_written_down_nowhere() {
    // One repeats what it refuses, the other one fails.
    let provider = ModelProvider::start(Arc::new(|asked: &Asked| match asked.model() {
        "" => whole(200, "", MODELS),
        "strict" => {
            let message = format!("I take no {}", asked.body["messages"][0]["content"]);
            whole(400, "", &json!({"error": {"message": message}}).to_string())
        }
        _ => whole(500, "", "{}"),
    }))
    .await;
    let (host, ada) = host_with_ada(manifest(Some(&provider))).await;
    set_up(&ada, &provider, "CUSTOM", &["strict", "broken"]).await;
    let ask = async |name: &str| {
        let messages = json!([{"role": "user", "content": "zanzibarine 4711"}]);
        ada.post("/api/ai/completions", &json!({"model": name, "messages": messages})).await
    };
    let refused = ask("strict").await.problem(422, "PROVIDER_REFUSED");
    assert!(text(&refused, "detail").contains("zanzibarine"), "{refused}");
    ask("broken").await.problem(502, "PROVIDER_FAILED");
    assert!(ask("echo").await.expect(200).to_string().contains("zanzibarine"));
    let kept = row(&ada, "model=strict", |row| row["status"] == "failed").await;
    assert_eq!(kept["error"], "The provider refused the request (400).", "{kept}");
    let log = host.operator().get("/api/admin/plugins/ai-service/logs").await.text();
    let stored = String::from_utf8_lossy(&host.store().everything().await).into_owned();
    for (place, said) in [("the log", host.log()), ("the plugin's log", log), ("the database", stored)] {
        assert!(!said.contains("zanzibarine"), "{place} knows what was asked");
    }
}

#[tokio::test]
async fn however_many_users_set_something_what_the_organization_says_counts() {
    let (host, ada) = host_with_ada(manifest(None)).await;
    let configure = "/api/ai/models/echo/configure";
    ada.put(configure, &json!({"isEnabled": false})).await.done(200);
    // As many users as no organization of a test has, before it and behind it in any order.
    let users = "INSERT INTO ai_model_configurations \
        (id, organization_id, created_at, updated_at, version, model_id, user_id, is_enabled, is_default) \
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2100) \
        SELECT s.p || n.i, c.organization_id, c.created_at, c.updated_at, 1, c.model_id, s.p || n.i, TRUE, FALSE \
        FROM n CROSS JOIN (SELECT '000' AS p UNION ALL SELECT 'zzz' AS p) s CROSS JOIN ai_model_configurations c \
        WHERE c.user_id IS NULL";
    assert_eq!(host.store().change(users).await, 4_200);
    // What was known so far is forgotten.
    ada.put(configure, &json!({"defaultTemperature": 0.5})).await.done(200);
    ada.post("/api/ai/completions", &question("echo")).await.problem(403, "MODEL_DISABLED");
}
