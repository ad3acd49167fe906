//! Services that are asked for two things at once: what there is one of stays one, a limit is not passed, and what is counted is
//! true. Where the database has one writer at a time that is its own doing, on PostgreSQL it is the services'.

use berth_tests::answer::text;
use berth_tests::members::host_with_ada;
use berth_tests::{Answer, Client};
use serde_json::{Value, json};

/// How often each is tried: two that are sent at once do not always meet.
const MEETINGS: usize = 5;

/// Makes models that are the default, and models the default, two at once; returns the paths of their rows. `model` is one that
/// becomes the default when it is made.
async fn one_is_the_default(client: &Client, path: &str, model: impl Fn(&str) -> Value) -> Vec<String> {
    let mut rows = Vec::new();
    for meeting in 0..MEETINGS {
        let (one, two) = (model(&format!("one-{meeting}")), model(&format!("two-{meeting}")));
        let (one, two) = tokio::join!(client.post(path, &one), client.post(path, &two));
        rows.extend([one, two].map(|made| format!("{path}/{}", text(&made.expect(201), "id"))));
        assert_eq!(defaults(client, &rows).await, 1, "{path}: made");
    }
    let default = json!({"isDefault": true});
    for pair in rows.chunks(2) {
        let [one, two] = pair else { continue };
        let (one, two) = tokio::join!(client.put(one, &default), client.put(two, &default));
        one.done(200);
        two.done(200);
        assert_eq!(defaults(client, &rows).await, 1, "{path}: changed");
    }
    rows
}

/// How many of these models say that they are the default.
async fn defaults(client: &Client, rows: &[String]) -> usize {
    let mut count = 0;
    for row in rows {
        let model = client.get(row).await.expect(200);
        count += usize::from(model.get("isDefault") == Some(&Value::Bool(true)));
    }
    count
}

#[tokio::test]
async fn of_two_that_become_the_default_one_is() {
    let (host, ada) = host_with_ada().await;
    let asked = |name: &str, scope: &str| json!({"providerId": "openai", "name": name, "displayName": name, "contextWindow": 1000, "scope": scope, "isDefault": true});
    let models = one_is_the_default(&ada, "/api/ai/models", |name| asked(name, "ORGANIZATION")).await;
    // The first organization of a host is the operator's: what belongs to everybody is its own to set up.
    one_is_the_default(&ada, "/api/ai/models", |name| asked(name, "GLOBAL")).await;
    let embedder = |name: &str| json!({"provider": "openai", "name": name, "dimensions": 3, "isDefault": true});
    one_is_the_default(&ada, "/api/embeddings/models", embedder).await;
    // What an organization sets for models is nothing yet: two settings of one model are one, and one of two models is the default.
    let (default, mild) = (json!({"isDefault": true}), json!({"defaultTemperature": 0.5}));
    for pair in models.chunks(2) {
        let [one, two] = [&pair[0], &pair[1]].map(|row| format!("{row}/configure"));
        let (first, second, third) =
            tokio::join!(ada.put(&one, &default), ada.put(&two, &default), ada.put(&one, &mild));
        for set in [first, second, third] {
            set.done(200);
        }
        let found = host.store().ask("SELECT model_id FROM ai_model_configurations WHERE is_default = TRUE").await;
        assert_eq!(found.len(), 1, "{found:?}");
    }
}

/// Two want the one place that is left at once, and one of them is refused with this status; then the place is given back.
async fn one_gets_the_last(client: &Client, path: &str, body: impl Fn(&str) -> Value, refusal: u16) {
    for meeting in 0..MEETINGS {
        let (one, two) = (body(&format!("one-{meeting}")), body(&format!("two-{meeting}")));
        let (one, two) = tokio::join!(client.post(path, &one), client.post(path, &two));
        let (made, refused) = if one.status == 201 { (one, two) } else { (two, one) };
        refused.done(refusal);
        let id = text(&made.expect(201), "id");
        client.delete(&format!("{path}/{id}")).await.done(204);
    }
}

#[tokio::test]
async fn of_two_who_want_the_last_place_one_gets_it() {
    let (_host, ada) = host_with_ada().await;
    // The last is the first as well: there is no row yet at which they could wait for each other.
    ada.put("/api/mcp/settings", &json!({"maxCustomServers": 1})).await.done(200);
    let server = |name: &str| json!({"name": name, "displayName": name, "endpoint": "https://mcp.example.com/mcp"});
    one_gets_the_last(&ada, "/api/mcp/servers", server, 409).await;
    let provider = |name: &str| json!({"name": name, "type": "OPENAI"});
    let known = ada.get("/api/ai/providers").await.expect(200)["total"].as_u64().expect("a total");
    for number in known..99 {
        ada.post("/api/ai/providers", &provider(&format!("of-many-{number}"))).await.done(201);
    }
    one_gets_the_last(&ada, "/api/ai/providers", provider, 422).await;
}

#[tokio::test]
async fn what_two_take_away_is_counted_once() {
    let (_host, ada) = host_with_ada().await;
    let own = json!({"name": "own", "dimensions": 3});
    let own = text(&ada.post("/api/embeddings/collections", &own).await.expect(201), "id");
    let document = |project: Value, number: usize| json!({"collectionId": own, "projectId": project, "content": "x", "vector": [1, 1, number]});
    let (collection, project) = (format!("/api/embeddings/collections/{own}"), "/api/embeddings/project/p1");
    for meeting in 1..=MEETINGS {
        // One stays.
        let documents: Vec<Value> = (0..40).map(|number| document(json!("p1"), number)).collect();
        let documents = [documents, vec![document(Value::Null, meeting)]].concat();
        let stored = ada.post("/api/embeddings/batch", &json!({ "embeddings": documents })).await.expect(201);
        let one = format!("/api/embeddings/{}", text(&stored["embeddings"][7], "id"));
        let (first, second, third) = tokio::join!(ada.delete(project), ada.delete(project), ada.delete(&one));
        let gone = |answer: Answer| answer.expect(200)["deleted"].as_i64().expect("a number");
        assert!(matches!(third.status, 204 | 404), "{}", third.text());
        assert_eq!(gone(first) + gone(second) + i64::from(third.status == 204), 40);
        let left = ada.get(&collection).await.expect(200);
        assert_eq!((&left["documentCount"], &left["chunkCount"]), (&json!(meeting), &json!(meeting)), "{left}");
    }
}

#[tokio::test]
async fn what_is_set_of_a_server_is_all_there() {
    let (host, ada) = host_with_ada().await;
    let eve = host.client().register("eve@example.com", "Reef").await;
    for meeting in 0..MEETINGS {
        let body = json!({"name": format!("shared-{meeting}"), "displayName": "Shared", "endpoint": "https://mcp.example.com/mcp", "authType": "API_KEY"});
        let server = text(&ada.post("/api/mcp/catalog/servers", &body).await.expect(201), "id");
        let [auth, configuration] = ["auth", "configuration"].map(|what| format!("/api/mcp/servers/{server}/{what}"));
        let [one, two] = ["one", "two"].map(|secret| json!({"authType": "API_KEY", "secretId": secret}));
        let slow = json!({"timeoutMs": 5000});
        let (first, second, third) =
            tokio::join!(eve.put(&auth, &one), eve.put(&auth, &two), eve.put(&configuration, &slow));
        for set in [first, second, third] {
            set.done(200);
        }
        let known = eve.get(&configuration).await.expect(200);
        assert_eq!((&known["total"], &known["items"][0]["timeoutMs"]), (&json!(1), &json!(5000)), "{known}");
        let secret = &known["items"][0]["config"]["authSecretId"];
        assert!(secret == "one" || secret == "two", "{known}");
    }
}

#[tokio::test]
async fn what_was_used_before_a_limit_is_counted_once() {
    let (_host, ada) = host_with_ada().await;
    let ask = async |words: &str| {
        let body = json!({"model": "echo", "messages": [{"role": "user", "content": words}]});
        ada.post("/api/ai/completions", &body).await
    };
    let used = ask(&"x".repeat(4_000)).await.expect(200)["usage"]["totalTokens"].as_i64().expect("tokens");
    // Whoever asks next finds a counter that nobody has begun.
    ada.post("/api/ai/rate-limits", &json!({"tokensPerDay": 2 * used})).await.done(201);
    let (one, two, three, four) = tokio::join!(ask("a"), ask("b"), ask("c"), ask("d"));
    for answer in [one, two, three, four] {
        answer.done(200);
    }
    ask("e").await.done(200);
}
