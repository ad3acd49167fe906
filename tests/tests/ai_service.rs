//! ai-service: who is asked, what a provider's failure means, what reaches the client when, and what is counted.

use std::sync::Arc;

use berth_tests::answer::text;
use berth_tests::assistants::{
    KEY, host_with_ada, manifest, metered, model, question, read_until, rest, row, set_up, stream, stub,
};
use berth_tests::model_provider::{Asked, ModelProvider, whole};
use berth_tests::{Client, eventually, members};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn the_embedded_default_answers_at_once_and_says_who_it_is() {
    let (host, ada) = host_with_ada(manifest(None)).await;
    let asked =
        json!({"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": " Ahoy,\nyou "}]});
    let done = ada.post("/api/ai/completions", &asked).await.expect(200);
    assert_eq!((&done["provider"], &done["model"], &done["cached"]), (&json!("echo"), &json!("echo"), &json!(false)));
    let choice = &done["choices"][0];
    assert_eq!((&choice["message"]["content"], &choice["finishReason"]), (&json!(" Ahoy,\nyou "), &json!("stop")));
    let used = done["usage"]["totalTokens"].as_i64().expect("tokens");
    assert!(used > 0 && done["usage"]["promptTokens"].as_i64() > Some(0), "{done}");
    let id = text(&done, "id");
    let kept = ada.get(&format!("/api/ai/completions/{id}")).await.expect(200);
    assert_eq!(
        (&kept["status"], &kept["tokensUsed"], &kept["request"]),
        (&json!("completed"), &json!(used), &json!({"messages": 2, "stored": false}))
    );
    assert_eq!(kept["response"], Value::Null, "nothing that was said is kept unless the organization wants it");
    eventually("the tokens being metered", async || (metered(&ada).await == used).then_some(())).await;
    // What is no question.
    let wrong = ada.post("/api/ai/completions", &json!({"temperature": 3})).await;
    wrong.problem(400, "VALIDATION_ERROR");
    assert_eq!(wrong.faulty_fields(), ["messages", "temperature"]);
    let wrong = json!({"messages": [{"role": "robot", "content": "x"}, {"role": "user"}]});
    let wrong = ada.post("/api/ai/completions", &wrong).await;
    assert_eq!(wrong.faulty_fields(), ["messages[0].role", "messages[1].content"]);
    ada.post("/api/ai/completions", &question("nothing")).await.problem(404, "MODEL_NOT_FOUND");
    let long = json!({"messages": [{"role": "user", "content": "x".repeat(600_000)}]});
    ada.post("/api/ai/completions", &long).await.problem(422, "CONTEXT_LENGTH_EXCEEDED");
    // A provider without a key, a disabled model, none at all.
    let gpt = json!({"providerId": "openai", "name": "gpt", "displayName": "GPT", "contextWindow": 1000});
    let gpt = text(&ada.post("/api/ai/models", &gpt).await.expect(201), "id");
    ada.post("/api/ai/completions", &question("gpt")).await.problem(503, "NO_MODEL_AVAILABLE");
    ada.put(&format!("/api/ai/models/{gpt}/configure"), &json!({"isEnabled": false})).await.done(200);
    ada.post("/api/ai/completions", &question("openai/gpt")).await.problem(403, "MODEL_DISABLED");
    ada.put("/api/ai/models/echo/configure", &json!({"isEnabled": false})).await.done(200);
    ada.post("/api/ai/completions", &asked).await.problem(503, "NO_MODEL_AVAILABLE");
    // Another organization has its own settings, and sees nothing of this.
    let eve = host.client().register("eve@example.com", "Reef").await;
    assert_eq!(eve.post("/api/ai/completions", &asked).await.expect(200)["provider"], "echo");
    eve.get(&format!("/api/ai/completions/{id}")).await.problem(404, "NOT_FOUND");
    eve.get(&format!("/api/ai/models/{gpt}")).await.problem(404, "NOT_FOUND");
    eve.post(&format!("/api/ai/completions/{id}/cancel"), &json!({})).await.problem(404, "NOT_FOUND");
    ada.post(&format!("/api/ai/completions/{id}/cancel"), &json!({})).await.problem(409, "CONFLICT");
}

#[tokio::test]
async fn a_provider_is_asked_with_a_key_that_nobody_sees_and_what_it_counts_is_billed() {
    let provider = stub().await;
    let (host, ada) = host_with_ada(manifest(Some(&provider))).await;
    let (stub, _) = set_up(&ada, &provider, "CUSTOM", &["good"]).await;
    let tested = ada.post(&format!("/api/ai/providers/{stub}/test"), &json!({})).await.expect(200);
    assert_eq!((&tested["success"], &tested["models"]), (&json!(true), &json!(["good", "other"])), "{tested}");
    let mut asked = question("good");
    asked["messages"] = json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say hello."}]);
    asked["maxTokens"] = json!(50);
    let done = ada.post("/api/ai/completions", &asked).await.expect(200);
    assert_eq!(done["choices"][0]["message"], json!({"role": "assistant", "content": "Hello"}));
    assert_eq!(done["usage"], json!({"promptTokens": 10, "completionTokens": 3, "totalTokens": 13}));
    assert_eq!(done["costMicro"], 3_000 + 4_500);
    let seen = provider.asked().pop().expect("a question");
    assert_eq!(seen.header("authorization"), format!("Bearer {KEY}"));
    assert_eq!(
        (seen.target.as_str(), &seen.body["temperature"], &seen.body["max_tokens"]),
        ("/v1/chat/completions", &json!(0.0), &json!(50))
    );
    assert_eq!(seen.body["messages"][0], json!({"role": "system", "content": "Be brief."}));
    eventually("the tokens being metered", async || (metered(&ada).await == 13).then_some(())).await;
    let page = ada.get("/api/ai/providers").await.expect(200);
    let shown =
        page["items"].as_array().into_iter().flatten().find(|row| row["id"] == stub.as_str()).cloned().expect("it");
    assert_eq!((&shown["health"], &shown["isUsable"]), (&json!("HEALTHY"), &json!(true)), "{shown}");
    assert!(!page.to_string().contains(KEY) && !host.log().contains(KEY));
    // The provider's address must not be a plugin of this host, and a secret without a grant is none.
    let inside = json!({"name": "inside", "type": "CUSTOM", "baseUrl": "http://planning.internal/api"});
    assert_eq!(ada.post("/api/ai/providers", &inside).await.faulty_fields(), ["baseUrl"]);
    let secret = json!({"name": "other", "type": "API_KEY", "value": "x", "services": ["notification-manager"]});
    let secret = text(&ada.post("/api/secrets", &secret).await.expect(201), "id");
    ada.post(&format!("/api/ai/providers/{stub}/configure"), &json!({ "secretId": secret })).await.done(200);
    ada.post("/api/ai/completions", &question("good")).await.problem(502, "PROVIDER_AUTH");
    let tested = ada.post(&format!("/api/ai/providers/{stub}/test"), &json!({})).await.expect(200);
    assert_eq!((&tested["success"], &tested["code"]), (&json!(false), &json!("PROVIDER_AUTH")));
}

#[tokio::test]
async fn anthropic_and_ollama_are_spoken_to_in_their_own_form() {
    let provider = ModelProvider::start(Arc::new(|asked: &Asked| match asked.target.as_str() {
        "/v1/messages" => whole(200, "", &json!({"content": [{"type": "text", "text": "Hi"}, {"type": "tool_use", "id": "t1", "name": "add", "input": {"a": 1}}],
            "stop_reason": "tool_use", "usage": {"input_tokens": 5, "output_tokens": 2}}).to_string()),
        "/api/chat" => whole(200, "", &json!({"message": {"role": "assistant", "content": "Hey"}, "done": true, "prompt_eval_count": 4, "eval_count": 1}).to_string()),
        _ => whole(404, "", "{}"),
    }))
    .await;
    let (_host, ada) = host_with_ada(manifest(Some(&provider))).await;
    let (_, _) = set_up(&ada, &provider, "ANTHROPIC", &["claude"]).await;
    let tool = json!({"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object"}}});
    let asked = json!({"model": "claude", "tools": [tool], "messages": [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "1?"},
        {"role": "assistant", "content": null, "toolCalls": [{"id": "t0", "type": "function", "function": {"name": "add", "arguments": "{}"}}]},
        {"role": "tool", "content": "3", "toolCallId": "t0"}]});
    let done = ada.post("/api/ai/completions", &asked).await.expect(200);
    let message = &done["choices"][0]["message"];
    assert_eq!(
        (&message["content"], &message["toolCalls"][0]["function"]["name"]),
        (&json!("Hi"), &json!("add")),
        "{done}"
    );
    assert_eq!((&done["choices"][0]["finishReason"], &done["usage"]["totalTokens"]), (&json!("tool_calls"), &json!(7)));
    let seen = provider.asked().pop().expect("a question");
    assert_eq!(
        (seen.header("x-api-key"), seen.header("anthropic-version"), seen.header("authorization")),
        (KEY, "2023-06-01", "")
    );
    assert_eq!((&seen.body["system"], seen.body["messages"].as_array().map(Vec::len)), (&json!("Be brief."), Some(3)));
    assert_eq!(
        seen.body["messages"][2]["content"][0],
        json!({"type": "tool_result", "tool_use_id": "t0", "content": "3"})
    );
    let base = provider.base_url().replace("/v1", "");
    let ollama = json!({"name": "here", "type": "OLLAMA", "baseUrl": base});
    let ollama = text(&ada.post("/api/ai/providers", &ollama).await.expect(201), "id");
    model(&ada, &ollama, "llama").await;
    let done = ada.post("/api/ai/completions", &question("llama")).await.expect(200);
    assert_eq!((&done["choices"][0]["message"]["content"], &done["usage"]["totalTokens"]), (&json!("Hey"), &json!(5)));
    assert_eq!(provider.asked().pop().expect("a question").body["options"]["temperature"], 0.0);
}

#[tokio::test]
async fn the_first_word_reaches_the_client_when_the_provider_says_it() {
    let provider = stub().await;
    let (_host, ada) = host_with_ada(manifest(Some(&provider))).await;
    set_up(&ada, &provider, "CUSTOM", &["gated"]).await;
    for path in ["/api/ai/completions/stream", "/api/ai/completions", "/api/ai/v1/chat/completions"] {
        let mut asked = question("gated");
        asked["stream"] = json!(true);
        asked["stream_options"] = json!({"include_usage": true});
        let mut response = stream(&ada, path, &asked).await;
        assert_eq!(response.status(), 200);
        let mut read = String::new();
        read_until(&mut response, &mut read, "one ").await;
        // The provider has said one word and waits: it has reached us, and nothing more has.
        assert!(!read.contains("two"), "{read}");
        provider.release(1);
        read_until(&mut response, &mut read, "two").await;
        assert!(!read.contains("[DONE]"), "{read}");
        provider.release(1);
        read.push_str(&rest(response).await);
        assert!(read.ends_with("data: [DONE]\n\n"), "{read}");
        let chunks: Vec<Value> = read
            .lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .filter_map(|data| serde_json::from_str(data).ok())
            .collect();
        assert_eq!(chunks[0]["choices"][0]["delta"], json!({"role": "assistant", "content": "one "}), "{read}");
        let last = chunks.last().expect("a last piece");
        if path.ends_with("chat/completions") {
            assert_eq!(last["usage"]["total_tokens"], 13, "{read}");
        } else {
            assert_eq!(
                (&last["choices"][0]["finishReason"], &last["usage"]["totalTokens"]),
                (&json!("stop"), &json!(13)),
                "{read}"
            );
        }
    }
    assert_eq!(row(&ada, "model=gated", |row| row["status"] == "completed").await["tokensUsed"], 13);
    assert_eq!(provider.asked()[0].body["stream_options"], json!({"include_usage": true}));
    eventually("the tokens being metered", async || (metered(&ada).await == 39).then_some(())).await;
}

#[tokio::test]
async fn each_failure_of_a_provider_means_what_it_should() {
    let provider = stub().await;
    let (host, ada) = host_with_ada(manifest(Some(&provider))).await;
    let names = ["unauthorized", "limited", "faulty", "picky", "junk", "huge", "silent", "good"];
    let (_, models) = set_up(&ada, &provider, "CUSTOM", &names).await;
    let (good, of) =
        (&models[7], |name: &str| &models[names.iter().position(|other| *other == name).expect("a model")]);
    // It waits for nobody longer than told.
    let chain = json!({"primaryModelId": of("silent"), "fallbackModelIds": [good], "timeoutMs": 700, "triggerOnTimeout": false});
    let silent = text(&ada.post("/api/ai/routing/fallbacks", &chain).await.expect(201), "id");
    let ask = async |name: &str, stream: bool| {
        let mut asked = question(name);
        asked["stream"] = json!(stream);
        ada.post("/api/ai/completions", &asked).await
    };
    for is_stream in [false, true] {
        let refused = ask("unauthorized", is_stream).await;
        refused.problem(502, "PROVIDER_AUTH");
        assert!(!refused.text().contains(KEY), "the provider's own words may hold the key");
        let limited = ask("limited", is_stream).await;
        limited.problem(429, "PROVIDER_RATE_LIMITED");
        assert_eq!((limited.header("retry-after").as_str(), &limited.json()["retryAfter"]), ("7", &json!(7)));
        ask("faulty", is_stream).await.problem(502, "PROVIDER_FAILED");
        let picky = ask("picky", is_stream).await;
        assert!(picky.problem(422, "PROVIDER_REFUSED")["detail"].to_string().contains("I do not like it"));
        ask("junk", is_stream).await.problem(502, "PROVIDER_INVALID");
        ask("huge", is_stream).await.problem(502, "PROVIDER_INVALID");
        ask("silent", is_stream).await.problem(504, "PROVIDER_TIMEOUT");
    }
    let asked = |name: &str| provider.count(name);
    assert_eq!(
        (asked("faulty"), asked("unauthorized"), asked("limited"), asked("picky")),
        (6, 2, 2, 2),
        "two retries for 5xx only"
    );
    // Every row is closed, and nobody pays for what was not answered.
    let rows = ada.get("/api/ai/completions?limit=100").await.expect(200);
    let statuses: Vec<(&str, &str)> = rows["items"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|row| (row["model"].as_str().unwrap_or_default(), row["status"].as_str().unwrap_or_default()))
        .collect();
    assert_eq!(statuses.len(), 14, "{rows}");
    for (model, status) in statuses {
        let wanted = match model {
            "limited" => "rate_limited",
            "silent" => "timeout",
            _ => "failed",
        };
        assert_eq!(status, wanted, "{model}");
    }
    assert_eq!(metered(&ada).await, 0);
    // With a chain another one is asked, but never in the place of one that refused the key.
    for name in ["unauthorized", "limited", "faulty", "junk", "huge", "picky"] {
        let chain = json!({"primaryModelId": of(name), "fallbackModelIds": [good]});
        ada.post("/api/ai/routing/fallbacks", &chain).await.done(201);
    }
    ada.put(&format!("/api/ai/routing/fallbacks/{silent}"), &json!({"triggerOnTimeout": true})).await.done(200);
    ask("unauthorized", false).await.problem(502, "PROVIDER_AUTH");
    ask("picky", false).await.problem(422, "PROVIDER_REFUSED");
    for name in ["limited", "faulty", "junk", "huge", "silent"] {
        let done = ask(name, false).await.expect(200);
        assert_eq!((&done["model"], &done["wasFailover"]), (&json!("good"), &json!(true)), "{name}: {done}");
        let streamed = ask(name, true).await;
        assert!(
            streamed.text().contains("\"good\"") && streamed.text().contains("[DONE]"),
            "{name}: {}",
            streamed.text()
        );
        let kept = ada.get(&format!("/api/ai/completions/{}", text(&done, "id"))).await.expect(200);
        assert_eq!((&kept["originalModelId"], &kept["wasFailover"]), (&json!(of(name)), &json!(true)));
    }
    let again = json!({"primaryModelId": of("limited"), "fallbackModelIds": [good]});
    ada.post("/api/ai/routing/fallbacks", &again).await.problem(409, "CONFLICT");
    assert!(!host.log().contains(KEY));
}

#[tokio::test]
async fn what_has_come_is_counted_when_a_stream_breaks_is_left_or_is_cancelled() {
    let provider = stub().await;
    let (_host, ada) = host_with_ada(manifest(Some(&provider))).await;
    let (_, models) = set_up(&ada, &provider, "CUSTOM", &["half", "leaving", "good", "unauthorized"]).await;
    // After the first word nobody else is asked, whatever the chain says.
    let chain = json!({"primaryModelId": models[0], "fallbackModelIds": [models[2]]});
    ada.post("/api/ai/routing/fallbacks", &chain).await.done(201);
    let read = ada.post("/api/ai/completions/stream", &question("half")).await;
    assert_eq!(read.status, 200);
    let (words, error) = read
        .text()
        .split_once("event: error\ndata: ")
        .map(|(words, error)| (words.to_owned(), error.to_owned()))
        .expect("an error event");
    assert!(words.contains("Once ") && words.contains("upon "), "{words}");
    let error: Value = serde_json::from_str(error.trim()).expect("a problem");
    assert_eq!((&error["status"], &error["code"]), (&json!(502), &json!("PROVIDER_INVALID")));
    assert!(!read.text().contains("[DONE]"));
    assert_eq!(provider.count("good"), 0);
    let half = row(&ada, "model=half", |row| row["status"] == "failed").await;
    assert!(half["outputTokens"].as_i64() > Some(0) && half["inputTokens"].as_i64() > Some(0), "{half}");
    let first = half["tokensUsed"].as_i64().unwrap_or_default();
    eventually("half an answer being metered", async || (metered(&ada).await == first).then_some(())).await;
    // The client leaves in the middle.
    let limit = json!({"tokensPerDay": first + 1});
    let limit = text(&ada.post("/api/ai/rate-limits", &limit).await.expect(201), "id");
    let mut response = stream(&ada, "/api/ai/completions/stream", &question("leaving")).await;
    let piece = response.chunk().await.expect("a piece").expect("not the end");
    assert!(String::from_utf8_lossy(&piece).contains("one two"));
    row(&ada, "model=leaving&status=streaming", |row| row["outputTokens"].as_i64() > Some(0)).await;
    // What has come counts against limits before the end: leaving is no way around them.
    eventually("what has come being counted", async || {
        let asked = ada.post("/api/ai/completions", &question("unauthorized")).await;
        (asked.status == 429).then_some(())
    })
    .await;
    ada.delete(&format!("/api/ai/rate-limits/{limit}")).await.done(204);
    drop(response);
    let left = row(&ada, "model=leaving", |row| row["status"] == "cancelled").await;
    let second = left["tokensUsed"].as_i64().unwrap_or_default();
    assert!(second > 0, "{left}");
    eventually("a left answer being metered", async || (metered(&ada).await == first + second).then_some(())).await;
    // Somebody cancels it.
    let response = stream(&ada, "/api/ai/completions/stream", &question("leaving")).await;
    let running = row(&ada, "model=leaving&status=streaming", |_| true).await;
    let path = format!("/api/ai/completions/{}/cancel", text(&running, "id"));
    assert_eq!(ada.post(&path, &json!({})).await.expect(200)["status"], "cancelled");
    let read = rest(response).await;
    assert!(read.contains("event: error") && read.contains("CANCELLED"), "{read}");
    eventually("a cancelled answer being metered", async || (metered(&ada).await == first + 2 * second).then_some(()))
        .await;
    ada.post(&path, &json!({})).await.problem(409, "CONFLICT");
}

#[tokio::test]
async fn limits_quotas_and_the_cache_are_heeded() {
    let provider = stub().await;
    let (host, ada) = host_with_ada(manifest(Some(&provider))).await;
    set_up(&ada, &provider, "CUSTOM", &["good"]).await;
    // The same question is asked once, but only at temperature 0 and on request.
    let mut asked = question("good");
    asked["useCache"] = json!(true);
    let first = ada.post("/api/ai/completions", &asked).await.expect(200);
    let second = ada.post("/api/ai/completions", &asked).await.expect(200);
    assert_eq!((&first["cached"], &second["cached"], provider.count("good")), (&json!(false), &json!(true), 1));
    assert_eq!((&second["choices"], &second["usage"]), (&first["choices"], &first["usage"]));
    assert_ne!(first["id"], second["id"]);
    let replayed = ada.post("/api/ai/completions/stream", &asked).await;
    assert!(replayed.text().contains("Hello") && replayed.text().ends_with("data: [DONE]\n\n"), "{}", replayed.text());
    asked["temperature"] = json!(0.5);
    ada.post("/api/ai/completions", &asked).await.done(200);
    asked["temperature"] = json!(0);
    asked["useCache"] = json!(false);
    ada.post("/api/ai/completions", &asked).await.done(200);
    assert_eq!(provider.count("good"), 3);
    eventually("only what was asked being metered", async || (metered(&ada).await == 39).then_some(())).await;
    // A limit of one user does not stop another, and none is counted for what was refused.
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let limit = json!({"scope": "USER", "userId": members::id(&bob), "requestsPerDay": 2});
    let limit = text(&ada.post("/api/ai/rate-limits", &limit).await.expect(201), "id");
    for _ in 0..2 {
        bob.post("/api/ai/completions", &question("echo")).await.done(200);
    }
    let refused = bob.post("/api/ai/completions", &question("echo")).await;
    refused.problem(429, "RATE_LIMIT_EXCEEDED");
    assert!(refused.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds > 0));
    ada.post("/api/ai/completions", &question("echo")).await.done(200);
    bob.put(&format!("/api/ai/rate-limits/{limit}"), &json!({"requestsPerDay": 9})).await.problem(403, "FORBIDDEN");
    ada.put(&format!("/api/ai/rate-limits/{limit}"), &json!({"requestsPerDay": 3, "tokensPerHour": 1_000_000}))
        .await
        .done(200);
    bob.post("/api/ai/completions", &question("echo")).await.done(200);
    bob.post("/api/ai/completions", &question("echo")).await.problem(429, "RATE_LIMIT_EXCEEDED");
    ada.delete(&format!("/api/ai/rate-limits/{limit}")).await.done(204);
    // A hard quota of usage-tracking.
    let quota = json!({"name": "Tokens", "categoryCode": "ai.*", "metricKey": "totalTokens", "period": "YEARLY", "limitValue": 40, "action": "HARD_LIMIT"});
    ada.post("/api/usage/quotas", &quota).await.done(201);
    let refused = bob.post("/api/ai/completions", &question("good")).await;
    refused.problem(429, "QUOTA_EXCEEDED");
    assert!(!refused.header("retry-after").is_empty());
    // What a quota refuses counts in no limit: three questions of bob's were answered.
    let limit = json!({"scope": "USER", "userId": members::id(&bob), "requestsPerDay": 4});
    ada.post("/api/ai/rate-limits", &limit).await.done(201);
    for _ in 0..3 {
        bob.post("/api/ai/completions", &question("good")).await.problem(429, "QUOTA_EXCEEDED");
    }
    // A key that is good for nothing else is no way around it.
    let key = json!({"name": "Narrow", "permissions": ["ai.*"], "expiresInDays": 1});
    let key = text(&ada.post("/api/users/me/api-keys", &key).await.expect(201), "key");
    ada.with_token(&key).post("/api/ai/completions", &question("good")).await.problem(429, "QUOTA_EXCEEDED");
    assert_eq!(provider.count("good"), 3);
}

#[tokio::test]
async fn a_question_goes_where_rules_and_wishes_send_it() {
    let provider = stub().await;
    let (host, ada) = host_with_ada(manifest(Some(&provider))).await;
    let (stub, models) = set_up(&ada, &provider, "CUSTOM", &["good", "other"]).await;
    let asked_of = async |client: &Client, more: Value| {
        let mut body = json!({"messages": [{"role": "user", "content": "x"}]});
        for (name, value) in more.as_object().into_iter().flatten() {
            body[name] = value.clone();
        }
        client.post("/api/ai/completions", &body).await.expect(200)["model"].clone()
    };
    assert_eq!(asked_of(&ada, json!({})).await, "echo");
    assert_eq!(asked_of(&ada, json!({"preferredModel": "nobody"})).await, "echo");
    assert_eq!(asked_of(&ada, json!({"preferredModel": "good"})).await, "good");
    let rule = json!({"name": "Code", "taskType": "code", "modelId": models[1], "priority": 5});
    let rule = text(&ada.post("/api/ai/routing/rules", &rule).await.expect(201), "id");
    assert_eq!(asked_of(&ada, json!({"taskType": "code"})).await, "other");
    assert_eq!(asked_of(&ada, json!({"taskType": "chat"})).await, "echo");
    ada.put(&format!("/api/ai/models/{}/configure", models[0]), &json!({"isDefault": true})).await.done(200);
    assert_eq!(asked_of(&ada, json!({})).await, "good", "the organization's default");
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let own = json!({"userId": members::id(&bob), "isDefault": true});
    bob.put(&format!("/api/ai/models/{}/configure", models[1]), &own).await.done(200);
    assert_eq!((asked_of(&bob, json!({})).await, asked_of(&ada, json!({})).await), (json!("other"), json!("good")));
    // Who may set things up, and what is in the way.
    bob.put(&format!("/api/ai/models/{}/configure", models[1]), &json!({"isDefault": true}))
        .await
        .problem(403, "FORBIDDEN");
    for (path, body) in [
        ("/api/ai/routing/rules", json!({"name": "x", "modelId": models[0]})),
        ("/api/ai/models", json!({"providerId": stub, "name": "x", "displayName": "x", "contextWindow": 100})),
        ("/api/ai/providers", json!({"name": "x", "type": "CUSTOM", "baseUrl": "https://a.example/v1"})),
    ] {
        bob.post(path, &body).await.problem(403, "FORBIDDEN");
    }
    let eve = host.client().register("eve@example.com", "Reef").await;
    eve.post("/api/ai/routing/rules", &json!({"name": "x", "modelId": models[0]})).await.problem(404, "NOT_FOUND");
    eve.get(&format!("/api/ai/routing/rules/{rule}")).await.problem(404, "NOT_FOUND");
    eve.put("/api/ai/models/echo", &json!({"displayName": "Mine"})).await.problem(403, "FORBIDDEN");
    eve.post(&format!("/api/ai/providers/{stub}/configure"), &json!({})).await.problem(404, "NOT_FOUND");
    ada.delete(&format!("/api/ai/models/{}", models[1])).await.problem(409, "CONFLICT");
    ada.delete(&format!("/api/ai/routing/rules/{rule}")).await.done(204);
    ada.delete(&format!("/api/ai/models/{}", models[1])).await.done(204);
    ada.delete(&format!("/api/ai/providers/{stub}")).await.problem(409, "CONFLICT");
    let shown = ada.get("/api/ai/models?usable=true").await.expect(200);
    let names: Vec<&str> =
        shown["models"].as_array().into_iter().flatten().filter_map(|model| model["name"].as_str()).collect();
    assert_eq!(names, ["echo", "good"], "{shown}");
    let viewer = members::bring(&host, &ada, "vic@example.com", "Viewer").await;
    viewer.post("/api/ai/completions", &question("echo")).await.problem(403, "FORBIDDEN");
    viewer.get("/api/ai/models").await.done(200);
    assert_eq!(viewer.get("/api/ai/completions").await.expect(200)["total"], 0, "other people's questions are theirs");
}

#[tokio::test]
async fn clients_of_openai_are_understood() {
    let (_host, ada) = host_with_ada(manifest(None)).await;
    let key = json!({"name": "SDK", "permissions": ["ai.*"], "expiresInDays": 1});
    let key = ada.post("/api/users/me/api-keys", &key).await.expect(201);
    let program = ada.with_token(&text(&key, "key"));
    let tool = json!({"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}});
    let mut asked = json!({"model": "echo", "tools": [tool], "messages": [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "call add {\"a\": 1}"}]});
    let done = program.post("/api/ai/v1/chat/completions", &asked).await.expect(200);
    assert_eq!(
        (&done["object"], &done["choices"][0]["finish_reason"]),
        (&json!("chat.completion"), &json!("tool_calls")),
        "{done}"
    );
    let call = done["choices"][0]["message"]["tool_calls"][0].clone();
    assert_eq!(
        (&call["type"], &call["function"]),
        (&json!("function"), &json!({"name": "add", "arguments": "{\"a\":1}"}))
    );
    assert!(
        done["id"].as_str().is_some_and(|id| id.starts_with("chatcmpl-"))
            && done["usage"]["total_tokens"].as_i64() > Some(0)
    );
    let message = done["choices"][0]["message"].clone();
    let list = asked["messages"].as_array_mut().expect("messages");
    list.push(message);
    list.push(json!({"role": "tool", "tool_call_id": call["id"], "content": "2"}));
    assert_eq!(
        program.post("/api/ai/v1/chat/completions", &asked).await.expect(200)["choices"][0]["message"]["content"],
        "2"
    );
    let mut streamed =
        json!({"model": "echo", "stream": true, "messages": [{"role": "user", "content": "call add {\"a\": 1}"}]});
    let read = program.post("/api/ai/v1/chat/completions", &streamed).await;
    assert!(read.header("content-type").starts_with("text/event-stream"));
    assert!(
        read.text().contains("\"tool_calls\":[{\"index\":0,\"id\":\"call_1\"")
            && read.text().ends_with("data: [DONE]\n\n"),
        "{}",
        read.text()
    );
    assert!(!read.text().contains("prompt_tokens"), "usage only where it is asked for");
    for piece in read.text().lines().filter(|line| line.starts_with("data: {")) {
        assert!(piece.contains("\"provider\":\"echo\""), "every piece says who answers: {piece}");
    }
    streamed["stream_options"] = json!({"include_usage": true});
    assert!(program.post("/api/ai/v1/chat/completions", &streamed).await.text().contains("\"prompt_tokens\""));
    let models = program.get("/api/ai/v1/models").await.expect(200);
    assert_eq!(
        (&models["object"], &models["data"][0]["id"], &models["data"][0]["owned_by"]),
        (&json!("list"), &json!("echo"), &json!("echo"))
    );
    assert_eq!(program.get("/api/ai/v1/models/echo").await.expect(200)["object"], "model");
    assert_eq!(program.get("/api/ai/v1/models/echo/echo").await.expect(200)["id"], "echo");
    // Errors in OpenAI's form.
    for (body, status, code) in [
        (json!({"model": "nobody", "messages": [{"role": "user", "content": "x"}]}), 404, "model_not_found"),
        (json!({"model": "echo"}), 400, "validation_error"),
        (json!({"model": "echo", "n": 3, "messages": [{"role": "user", "content": "x"}]}), 400, "validation_error"),
        (
            json!({"model": "echo", "messages": [{"role": "user", "content": "x".repeat(600_000)}]}),
            400,
            "context_length_exceeded",
        ),
    ] {
        let error = program.post("/api/ai/v1/chat/completions", &body).await.expect(status);
        assert_eq!(error["error"]["code"], code, "{error}");
        assert!(error["error"]["message"].is_string() && error["error"]["type"] == "invalid_request_error", "{error}");
    }
    // What is behind another service needs its permission too, whoever asks for it in between.
    let wish = json!({"model": "default", "input": ["a", "b"]});
    assert_eq!(program.post("/api/ai/v1/embeddings", &wish).await.expect(403)["error"]["type"], "permission_error");
    let vectors = ada.post("/api/ai/v1/embeddings", &wish).await.expect(200);
    assert_eq!(vectors["data"].as_array().map(Vec::len), Some(2), "{vectors}");
    program.post("/api/ai/v1/embeddings", &json!({"input": []})).await.done(400);
    program.post("/api/plans", &json!({})).await.done(403);
}

#[tokio::test]
async fn the_same_key_is_the_same_answer() {
    let (_host, ada) = host_with_ada(manifest(None)).await;
    let ask = async || {
        let request = ada.request(Method::POST, "/api/ai/completions").header("idempotency-key", "once");
        ada.send(request.json(&question("echo"))).await.expect(200)
    };
    assert_eq!(ask().await, ask().await);
    assert_eq!(ada.get("/api/ai/completions").await.expect(200)["total"], 1);
}

#[tokio::test]
async fn every_provider_that_can_be_asked_is_looked_at() {
    let provider = stub().await;
    let (_host, ada) = host_with_ada(manifest(Some(&provider))).await;
    // More than one tick looks at, and none of them with a key.
    for number in 0..12 {
        let body = json!({"name": format!("bare-{number}"), "type": "OPENAI", "baseUrl": provider.base_url()});
        let id = text(&ada.post("/api/ai/providers", &body).await.expect(201), "id");
        ada.post(&format!("/api/ai/providers/{id}/configure"), &json!({"priority": 5})).await.done(200);
    }
    let (keyed, _) = set_up(&ada, &provider, "CUSTOM", &[]).await;
    eventually("the clock's look", async || {
        let shown = ada.get(&format!("/api/ai/providers/{keyed}")).await.expect(200);
        (shown["health"] == "HEALTHY").then_some(())
    })
    .await;
    // One of the organization's own needs no settings to be judged.
    let body = json!({"name": "plain", "type": "CUSTOM", "baseUrl": provider.base_url()});
    let plain = text(&ada.post("/api/ai/providers", &body).await.expect(201), "id");
    assert_eq!(ada.post(&format!("/api/ai/providers/{plain}/test"), &json!({})).await.expect(200)["success"], true);
    assert_eq!(ada.get(&format!("/api/ai/providers/{plain}")).await.expect(200)["health"], "HEALTHY");
}

#[tokio::test]
async fn what_is_said_is_kept_once_the_organization_wants_it_whoever_says_it() {
    let (host, ada) = host_with_ada(manifest(None)).await;
    let settings = format!("/api/organizations/{}/settings", text(&ada.account["organization"], "id"));
    ada.put(&settings, &json!({"store_prompts": true})).await.done(200);
    // A program that may see nothing of what the organization has set.
    let body = json!({"name": "Asker", "permissions": ["ai.*"]});
    let key = text(&ada.post("/api/users/me/api-keys", &body).await.expect(201), "key");
    let program = host.client().with_token(&key);
    program.get(&settings).await.problem(403, "FORBIDDEN");
    let done = program.post("/api/ai/completions", &question("echo")).await.expect(200);
    let kept = ada.get(&format!("/api/ai/completions/{}", text(&done, "id"))).await.expect(200);
    for member in ["request", "response"] {
        assert!(kept[member].to_string().contains("Say hello."), "{member}: {kept}");
    }
    // Another organization wants nothing kept.
    let eve = host.client().register("eve@example.com", "Reef").await;
    let done = eve.post("/api/ai/completions", &question("echo")).await.expect(200);
    let kept = eve.get(&format!("/api/ai/completions/{}", text(&done, "id"))).await.expect(200);
    assert_eq!((&kept["request"]["stored"], &kept["response"]), (&json!(false), &Value::Null));
}
