//! prompt-management: versions, variables, overrides, experiments and schedules as their users see them.
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use berth_tests::answer::text;
use berth_tests::event_stream::EventStream;
use berth_tests::{Client, Host, Manifest, assistants, eventually, members};
use serde_json::{Value, json};

const ROUTES: &str = "/api/prompts";

async fn host_with_ada() -> (Host, Client) {
    let host = Host::with(Manifest::services().with("schedules = \"1m\"", "schedules = \"1s\"")).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    (host, ada)
}

/// A prompt with one published version.
async fn published(client: &Client, name: &str, content: &str) -> String {
    let prompt = client.post(ROUTES, &json!({"name": name, "content": content})).await.expect(201);
    client.post(&format!("{ROUTES}/{name}/versions/1/publish"), &json!({})).await.done(200);
    text(&prompt, "id")
}

async fn render(client: &Client, body: Value) -> Value {
    client.post(&format!("{ROUTES}/render"), &body).await.expect(200)
}

#[tokio::test]
async fn a_text_becomes_a_draft_and_publishing_takes_the_former_one_off() {
    let (_host, ada) = host_with_ada().await;
    let prompt = ada.post(ROUTES, &json!({"name": "greet", "content": "Hi {{name|upper}}"})).await.expect(201);
    assert_eq!((&prompt["displayName"], &prompt["publishedVersion"]), (&json!("greet"), &Value::Null));
    ada.post(ROUTES, &json!({"name": "greet"})).await.problem(409, "NAME_TAKEN");
    ada.post(&format!("{ROUTES}/render"), &json!({"name": "greet", "variables": {"name": "Bo"}}))
        .await
        .problem(409, "NO_PUBLISHED_VERSION");
    let first = ada.post(&format!("{ROUTES}/greet/versions/1/publish"), &json!({})).await.expect(200);
    assert_eq!((&first["status"], &first["estimatedTokens"]), (&json!("PUBLISHED"), &json!(5)), "{first}");
    let second = ada
        .post(&format!("{ROUTES}/greet/versions"), &json!({"content": "Hello {{name}}", "label": "politer"}))
        .await
        .expect(201);
    assert_eq!((&second["version"], &second["status"]), (&json!(2), &json!("DRAFT")));
    // A new text by way of the prompt is a draft too, and the published text stays as it is.
    ada.put(&format!("{ROUTES}/greet"), &json!({"content": "Moin {{name}}", "description": "d"})).await.done(200);
    assert_eq!(render(&ada, json!({"name": "greet", "variables": {"name": "Bo"}})).await["content"], "Hi BO");
    ada.post(&format!("{ROUTES}/greet/versions/3/publish"), &json!({})).await.done(200);
    let versions = ada.get(&format!("{ROUTES}/greet/versions?sortBy=version&order=asc")).await.expect(200);
    let states: Vec<&str> =
        versions["items"].as_array().into_iter().flatten().filter_map(|version| version["status"].as_str()).collect();
    assert_eq!(states, ["DEPRECATED", "DRAFT", "PUBLISHED"]);
    assert_eq!(render(&ada, json!({"name": "greet", "variables": {"name": "Bo"}})).await["version"], 3);
    ada.post(&format!("{ROUTES}/greet/rollback"), &json!({"targetVersion": 2})).await.problem(409, "CONFLICT");
    ada.post(&format!("{ROUTES}/greet/rollback"), &json!({"targetVersion": 1})).await.done(200);
    let again = render(&ada, json!({"id": prompt["id"], "variables": {"name": "Bo"}})).await;
    assert_eq!((&again["content"], &again["version"], &again["source"]), (&json!("Hi BO"), &json!(1), &json!("base")));
    assert_eq!(
        render(&ada, json!({"name": "greet", "version": 2, "variables": {"name": "Bo"}})).await["content"],
        "Hello Bo"
    );
    let difference = ada.get(&format!("{ROUTES}/greet/diff?from=1&to=2")).await.expect(200);
    assert_eq!((&difference["added"], &difference["removed"]), (&json!(1), &json!(1)), "{difference}");
    ada.get(&format!("{ROUTES}/greet/versions/9")).await.problem(404, "NOT_FOUND");
    ada.delete(&format!("{ROUTES}/greet")).await.done(204);
    ada.get(&format!("{ROUTES}/greet")).await.problem(404, "NOT_FOUND");
}

#[tokio::test]
async fn variables_are_checked_all_at_once_and_text_is_not_filled_twice() {
    let (_host, ada) = host_with_ada().await;
    for content in ["{{a|shout}}", "{{a b}}", "{{a|truncate(x)}}"] {
        ada.post(ROUTES, &json!({"name": "bad", "content": content})).await.problem(422, "INVALID_TEMPLATE");
    }
    published(&ada, "report", "{{title|trim|upper}}: {{count}} {{flag}} {{list|json}} {{note}}").await;
    let variables = json!({"variables": [
        {"name": "title", "type": "STRING"},
        {"name": "count", "type": "NUMBER"},
        {"name": "flag", "type": "BOOLEAN"},
        {"name": "list", "type": "ARRAY", "isRequired": false, "defaultValue": ["x"]},
        {"name": "note", "type": "STRING", "isRequired": false},
    ]});
    assert_eq!(ada.put(&format!("{ROUTES}/report/variables"), &variables).await.expect(200)["total"], 5);
    let given = json!({"title": " {{count}} ", "count": 0, "flag": false, "extra": 1});
    let rendered = render(&ada, json!({"name": "report", "variables": given})).await;
    assert_eq!(
        rendered["content"], "{{COUNT}}: 0 false [\"x\"] ",
        "zero and false are values; what was filled in is text"
    );
    assert_eq!(rendered["warnings"].as_array().map(Vec::len), Some(1), "{rendered}");
    let answer = ada.post(&format!("{ROUTES}/render"), &json!({"name": "report", "variables": {"count": "7"}})).await;
    answer.problem(422, "MISSING_VARIABLE");
    assert_eq!(answer.faulty_fields(), ["variables.count", "variables.flag", "variables.title"]);
    let twice = json!({"variables": [{"name": "a"}, {"name": "a"}]});
    ada.put(&format!("{ROUTES}/report/variables"), &twice).await.problem(400, "VALIDATION_ERROR");
    ada.post(&format!("{ROUTES}/render"), &json!({"name": "nothing"})).await.problem(404, "NOT_FOUND");
}

#[tokio::test]
async fn another_organization_and_a_viewer_get_nowhere() {
    let (host, ada) = host_with_ada().await;
    let id = published(&ada, "secret-plan", "x").await;
    let eve = host.client().register("eve@example.com", "Reef").await;
    for path in [format!("{ROUTES}/{id}"), format!("{ROUTES}/secret-plan")] {
        eve.get(&path).await.problem(404, "NOT_FOUND");
        eve.put(&path, &json!({"description": "mine"})).await.problem(404, "NOT_FOUND");
        eve.delete(&path).await.problem(404, "NOT_FOUND");
        eve.get(&format!("{path}/versions")).await.problem(404, "NOT_FOUND");
    }
    eve.post(&format!("{ROUTES}/render"), &json!({"id": id})).await.problem(404, "NOT_FOUND");
    eve.post(&format!("{ROUTES}/overrides"), &json!({"promptId": id, "content": "y"})).await.problem(404, "NOT_FOUND");
    eve.post(&format!("{ROUTES}/schedules"), &json!({"promptId": id, "name": "s", "cron": "0 9 * * *"}))
        .await
        .problem(404, "NOT_FOUND");
    assert_eq!(eve.get(ROUTES).await.expect(200)["total"], 0);
    eve.post(ROUTES, &json!({"name": "secret-plan"})).await.done(201);
    eve.post(ROUTES, &json!({"name": "everywhere", "scope": "GLOBAL"})).await.problem(403, "FORBIDDEN");
    eve.post(ROUTES, &json!({"name": "system", "isSystem": true})).await.problem(403, "FORBIDDEN");
    let vic = members::bring(&host, &ada, "vic@example.com", "Viewer").await;
    let mia = members::bring(&host, &ada, "mia@example.com", "Member").await;
    vic.get(&format!("{ROUTES}/secret-plan")).await.done(200);
    vic.put(&format!("{ROUTES}/secret-plan"), &json!({"description": "mine"})).await.problem(403, "FORBIDDEN");
    mia.post(ROUTES, &json!({"name": "mine"})).await.problem(403, "FORBIDDEN");
    mia.post(&format!("{ROUTES}/secret-plan/versions"), &json!({"content": "z"})).await.done(201);
    mia.post(&format!("{ROUTES}/secret-plan/versions/2/publish"), &json!({})).await.problem(403, "FORBIDDEN");
    // Ada's is the first organization, whose Super Admin is the platform's: what she makes for everybody is read by all.
    ada.post(ROUTES, &json!({"name": "shared", "scope": "GLOBAL", "isSystem": true, "content": "for {{who}}"}))
        .await
        .done(201);
    ada.post(&format!("{ROUTES}/shared/versions/1/publish"), &json!({})).await.done(200);
    assert_eq!(render(&eve, json!({"name": "shared", "variables": {"who": "all"}})).await["content"], "for all");
    eve.put(&format!("{ROUTES}/shared"), &json!({"description": "mine"})).await.problem(403, "FORBIDDEN");
    eve.post(&format!("{ROUTES}/shared/versions"), &json!({"content": "z"})).await.problem(403, "FORBIDDEN");
    ada.delete(&format!("{ROUTES}/shared")).await.problem(403, "FORBIDDEN");
    for (body, field) in [
        (json!({"name": "No Slug"}), "name"),
        (json!({"name": "schedules"}), "name"),
        (json!({"name": "p", "scope": "PROJECT"}), "projectId"),
        (json!({"name": "p", "category": "POEM"}), "category"),
    ] {
        let answer = ada.post(ROUTES, &body).await;
        answer.problem(400, "VALIDATION_ERROR");
        assert!(answer.faulty_fields().iter().any(|faulty| faulty == field), "{body}: {}", answer.text());
    }
}

/// An override, an experiment, a schedule and an execution of a prompt, each by its path.
async fn hung_on(client: &Client, id: &str) -> [String; 4] {
    let variants = json!([{"name": "a", "isControl": true, "customContent": "A"}, {"name": "b", "customContent": "B"}]);
    let bodies = [
        ("overrides", json!({"promptId": id, "content": "O"})),
        ("experiments", json!({"promptId": id, "name": "x", "variants": variants})),
        ("schedules", json!({"promptId": id, "name": "s", "cron": "0 9 * * *", "variables": {"private": "words"}})),
    ];
    let mut paths = Vec::new();
    for (group, body) in bodies {
        let row = client.post(&format!("{ROUTES}/{group}"), &body).await.expect(201);
        paths.push(format!("{ROUTES}/{group}/{}", text(&row, "id")));
    }
    let execution = text(&render(client, json!({"id": id})).await, "executionId");
    paths.push(format!("{ROUTES}/executions/{execution}"));
    paths.try_into().expect("four")
}

/// Neither a prompt nor what hangs on it exists for somebody.
async fn is_hidden(client: &Client, id: &str, hung: &[String; 4]) {
    client.get(&format!("{ROUTES}/{id}")).await.problem(404, "NOT_FOUND");
    client.post(&format!("{ROUTES}/render"), &json!({"id": id})).await.problem(404, "NOT_FOUND");
    let [over, experiment, schedule, execution] = hung;
    for (group, path) in [("overrides", over), ("experiments", experiment), ("schedules", schedule)] {
        let listed = client.get(&format!("{ROUTES}/{group}?promptId={id}")).await.expect(200);
        assert_eq!(listed["total"], 0, "{listed}");
        client.get(path).await.problem(404, "NOT_FOUND");
        client.put(path, &json!({"name": "mine", "content": "mine"})).await.problem(404, "NOT_FOUND");
    }
    for path in [format!("{schedule}/run-now"), format!("{schedule}/pause"), format!("{experiment}/stop")] {
        client.post(&path, &json!({})).await.problem(404, "NOT_FOUND");
    }
    client.get(&format!("{experiment}/results")).await.problem(404, "NOT_FOUND");
    client.post(&format!("{execution}/outcome"), &json!({"rating": 1})).await.problem(404, "NOT_FOUND");
}

#[tokio::test]
async fn what_hangs_on_a_prompt_exists_for_whom_the_prompt_does() {
    let (host, ada) = host_with_ada().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Admin").await;
    let mia = members::bring(&host, &ada, "mia@example.com", "Member").await;
    let cleo = members::bring(&host, &ada, "cleo@example.com", "Member").await;
    let create = async |name: &str, more: Value| {
        let mut body = json!({"name": name, "content": format!("Text of {more}")});
        body.as_object_mut().expect("a body").extend(more.as_object().cloned().unwrap_or_default());
        let id = text(&bob.post(ROUTES, &body).await.expect(201), "id");
        bob.post(&format!("{ROUTES}/{id}/versions/1/publish"), &json!({})).await.done(200);
        id
    };
    // A user's own: not even for a Super Admin, who may do everything else.
    let own = create("own", json!({"scope": "USER"})).await;
    let hung = hung_on(&bob, &own).await;
    is_hidden(&mia, &own, &hung).await;
    is_hidden(&ada, &own, &hung).await;
    ada.post(&format!("{}/approve", hung[0]), &json!({})).await.problem(404, "NOT_FOUND");
    ada.post(&format!("{}/start", hung[1]), &json!({})).await.problem(404, "NOT_FOUND");
    bob.put(&hung[2], &json!({"name": "again"})).await.done(200);
    assert_eq!(bob.post(&format!("{}/outcome", hung[3]), &json!({"rating": 5})).await.expect(200)["userRating"], 5);
    // A project's: for those who see the project.
    let project = json!({"name": "Dock", "visibility": "private"});
    let project = text(&bob.post("/api/projects", &project).await.expect(201), "id");
    let access =
        json!([{"userId": members::id(&bob), "level": "owner"}, {"userId": members::id(&cleo), "level": "viewer"}]);
    bob.put(&format!("/api/projects/{project}/access"), &json!({ "access": access })).await.done(200);
    for somebody in [&bob, &ada] {
        let nowhere = json!({"name": "lost", "scope": "PROJECT", "projectId": "nobody"});
        somebody.post(ROUTES, &nowhere).await.problem(404, "NOT_FOUND");
    }
    let dock = create("dock", json!({"scope": "PROJECT", "projectId": project})).await;
    let hung = hung_on(&bob, &dock).await;
    is_hidden(&mia, &dock, &hung).await;
    assert_eq!(mia.get(ROUTES).await.expect(200)["total"], 0);
    mia.post(&format!("{ROUTES}/render"), &json!({"name": "dock"})).await.problem(404, "NOT_FOUND");
    cleo.get(&hung[0]).await.done(200);
    render(&cleo, json!({"name": "dock"})).await;
    ada.get(&hung[2]).await.done(200);
    // A private one and one for everybody may have the same name, whoever asks first.
    ada.post(ROUTES, &json!({"name": "dock", "scope": "GLOBAL", "content": "everybody's"})).await.done(201);
    let shared = ada.get(&format!("{ROUTES}?scope=GLOBAL")).await.expect(200)["items"][0].clone();
    ada.post(&format!("{ROUTES}/{}/versions/1/publish", text(&shared, "id")), &json!({})).await.done(200);
    for (client, is_own) in [(&mia, false), (&cleo, true), (&mia, false), (&bob, true)] {
        let rendered = render(client, json!({"name": "dock"})).await;
        assert_eq!(rendered["content"] != "everybody's", is_own, "{rendered}");
    }
}

#[tokio::test]
async fn an_override_counts_once_it_is_approved() {
    let (host, ada) = host_with_ada().await;
    let id = published(&ada, "greet", "Hi").await;
    assert_eq!(render(&ada, json!({"name": "greet"})).await["source"], "base");
    let mia = members::bring(&host, &ada, "mia@example.com", "Member").await;
    let row = mia.post(&format!("{ROUTES}/overrides"), &json!({"promptId": id, "content": "Ahoy"})).await.expect(201);
    let path = format!("{ROUTES}/overrides/{}", text(&row, "id"));
    mia.post(&format!("{ROUTES}/overrides"), &json!({"promptId": id, "content": "Again"}))
        .await
        .problem(409, "CONFLICT");
    assert_eq!(render(&ada, json!({"name": "greet"})).await["content"], "Hi");
    mia.post(&format!("{path}/approve"), &json!({})).await.problem(403, "FORBIDDEN");
    assert!(ada.post(&format!("{path}/approve"), &json!({})).await.expect(200)["approvedAt"].is_string());
    let rendered = render(&ada, json!({"name": "greet"})).await;
    assert_eq!(
        (&rendered["content"], &rendered["source"], &rendered["version"]),
        (&json!("Ahoy"), &json!("override"), &json!(1))
    );
    assert_eq!(mia.put(&path, &json!({"content": "Arr"})).await.expect(200)["approvedAt"], Value::Null);
    assert_eq!(render(&ada, json!({"name": "greet"})).await["content"], "Hi", "a new text needs a new approval");
    ada.delete(&path).await.done(204);
}

#[tokio::test]
async fn an_experiment_shows_each_user_one_variant_and_claims_no_more_than_it_knows() {
    let (host, ada) = host_with_ada().await;
    let id = published(&ada, "greet", "Hi").await;
    let experiment = json!({"promptId": "greet", "name": "Politeness", "minSamples": 3, "variants": [
        {"name": "plain", "isControl": true, "versionId": null, "customContent": "Hi"},
        {"name": "polite", "customContent": "Good day", "weight": 1},
    ]});
    let row = ada.post(&format!("{ROUTES}/experiments"), &experiment).await.expect(201);
    let path = format!("{ROUTES}/experiments/{}", text(&row, "id"));
    assert_eq!(row["variants"].as_array().map(Vec::len), Some(2), "{row}");
    let lone =
        json!({"promptId": id, "name": "Lone", "variants": [{"name": "a", "isControl": true, "customContent": "x"}]});
    let lone = ada.post(&format!("{ROUTES}/experiments"), &lone).await.expect(201);
    ada.post(&format!("{ROUTES}/experiments/{}/start", text(&lone, "id")), &json!({}))
        .await
        .problem(422, "INVALID_EXPERIMENT");
    assert_eq!(ada.post(&format!("{path}/start"), &json!({})).await.expect(200)["status"], "RUNNING");
    let second = ada.post(&format!("{ROUTES}/experiments"), &experiment).await.expect(201);
    ada.post(&format!("{ROUTES}/experiments/{}/start", text(&second, "id")), &json!({}))
        .await
        .problem(409, "EXPERIMENT_RUNNING");
    ada.delete(&format!("{ROUTES}/greet")).await.problem(409, "EXPERIMENT_RUNNING");
    ada.delete(&path).await.problem(409, "EXPERIMENT_RUNNING");
    ada.put(&path, &json!({"trafficPercentage": 5})).await.problem(409, "CONFLICT");

    let mut seen = Vec::new();
    for number in 0..6 {
        let user = members::bring(&host, &ada, &format!("user{number}@example.com"), "Member").await;
        let first = render(&user, json!({"name": "greet"})).await;
        assert_eq!(first["source"], "experiment", "{first}");
        for _ in 0..2 {
            assert_eq!(render(&user, json!({"name": "greet"})).await["variantId"], first["variantId"], "sticky");
        }
        let outside = render(&user, json!({"name": "greet", "enableExperiments": false})).await;
        assert_eq!((&outside["source"], &outside["variantId"]), (&json!("base"), &Value::Null));
        let outcome = format!("{ROUTES}/executions/{}/outcome", text(&first, "executionId"));
        let noted = user.post(&outcome, &json!({"success": true, "rating": 5, "latencyMs": 0})).await.expect(200);
        assert_eq!((&noted["status"], &noted["latencyMs"]), (&json!("completed"), &json!(0)));
        user.post(&outcome, &json!({"rating": 6})).await.problem(400, "VALIDATION_ERROR");
        seen.push(first["variantId"].clone());
    }
    let results = ada.get(&format!("{path}/results")).await.expect(200);
    assert_eq!((&results["conclusion"], &results["winner"]), (&json!("inconclusive"), &Value::Null), "{results}");
    let samples: i64 =
        results["variants"].as_array().into_iter().flatten().filter_map(|variant| variant["samples"].as_i64()).sum();
    assert_eq!(samples, 6, "{results}");
    ada.post(&format!("{path}/promote"), &json!({})).await.problem(409, "ILLEGAL_TRANSITION");
    assert_eq!(ada.post(&format!("{path}/stop"), &json!({})).await.expect(200)["status"], "COMPLETED");
    ada.post(&format!("{path}/promote"), &json!({})).await.problem(409, "INCONCLUSIVE");
    let polite = row["variants"].as_array().into_iter().flatten().find(|variant| variant["name"] == "polite");
    let promoted = ada
        .post(&format!("{path}/promote"), &json!({"variantId": polite.map(|variant| &variant["id"])}))
        .await
        .expect(200);
    assert_eq!(
        (&promoted["version"], &promoted["status"], &promoted["content"]),
        (&json!(2), &json!("PUBLISHED"), &json!("Good day"))
    );
    assert_eq!(render(&ada, json!({"name": "greet"})).await["content"], "Good day");
    let stats = ada.get(&format!("{ROUTES}/greet/stats")).await.expect(200);
    assert_eq!((&stats["total"]["outcomes"], &stats["total"]["averageRating"]), (&json!(6), &json!(5.0)), "{stats}");
    assert!(ada.get(&format!("{ROUTES}/greet/executions?status=completed")).await.expect(200)["total"] == 6);
}

#[tokio::test]
async fn an_execution_without_the_assistant_is_a_failed_one() {
    let host = Host::with(Manifest::services().bereft_of("ai-service")).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    published(&ada, "greet", "Hi {{name}}").await;
    let path = format!("{ROUTES}/greet/execute");
    ada.post(&path, &json!({"variables": {}})).await.problem(422, "MISSING_VARIABLE");
    ada.post(&path, &json!({"variables": {"name": "Bo"}})).await.problem(503, "SERVICE_UNAVAILABLE");
    let failed = ada.get(&format!("{ROUTES}/greet/executions?status=failed")).await.expect(200);
    assert_eq!((&failed["total"], &failed["items"][0]["wasSuccessful"]), (&json!(1), &json!(false)), "{failed}");
    // A stream that does not begin is an ordinary problem too.
    ada.post(&path, &json!({"variables": {"name": "Bo"}, "stream": true})).await.problem(503, "SERVICE_UNAVAILABLE");
    assert_eq!(ada.get(&format!("{ROUTES}/greet/executions?status=failed")).await.expect(200)["total"], 2);
}

#[tokio::test]
async fn an_execution_asks_the_assistant_whole_and_piece_by_piece() {
    let (host, ada) = host_with_ada().await;
    published(&ada, "greet", "Ahoy {{name}}").await;
    let path = format!("{ROUTES}/greet/execute");
    let asked = json!({"variables": {"name": "Bo"}, "model": "echo"});
    let done = ada.post(&path, &asked).await.expect(200);
    assert_eq!((&done["output"], &done["model"], &done["source"]), (&json!("Ahoy Bo"), &json!("echo"), &json!("base")));
    let mut streamed = asked.clone();
    streamed["stream"] = json!(true);
    let mut stream =
        EventStream::of(ada.request(reqwest::Method::POST, &path).json(&streamed)).await.expect("a stream");
    let (mut kinds, mut output, mut last) = (Vec::new(), String::new(), Value::Null);
    while let Some(event) = stream.next().await {
        output.push_str(event.data["content"].as_str().unwrap_or_default());
        kinds.push(event.kind);
        last = event.data;
    }
    assert_eq!(
        (kinds.first().map(String::as_str), kinds.last().map(String::as_str)),
        (Some("started"), Some("completed"))
    );
    assert!(kinds.iter().any(|kind| kind == "delta") && output == "Ahoy Bo", "{kinds:?} {output}");
    assert!(last["inputTokens"].as_i64() > Some(0) && last["latencyMs"].is_i64(), "{last}");
    let rows = ada.get(&format!("{ROUTES}/greet/executions?status=completed")).await.expect(200);
    assert_eq!(rows["total"], 2, "{rows}");
    for row in rows["items"].as_array().into_iter().flatten() {
        assert_eq!(
            (&row["output"], &row["wasSuccessful"], &row["model"]),
            (&json!("Ahoy Bo"), &json!(true), &json!("echo"))
        );
        assert!(row["inputTokens"].as_i64() > Some(0), "{row}");
    }
    // What was filled twice is counted twice, and its tokens are those of the completions.
    eventually("the usage", async || {
        let used = ada.get("/api/usage/events?categoryCode=prompt.execution").await.expect(200);
        (used["total"] == 2).then_some(())
    })
    .await;
    // What somebody was answered is theirs, and for those who look after prompts.
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let own = json!({"variables": {"name": "Bob"}, "model": "echo"});
    bob.post(&path, &own).await.done(200);
    let shown = async |client: &Client| {
        let rows = client.get(&format!("{ROUTES}/greet/executions?sortBy=executedAt")).await.expect(200);
        rows["items"].as_array().into_iter().flatten().map(|row| row["output"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(shown(&bob).await, [Value::Null, Value::Null, json!("Ahoy Bob")]);
    assert_eq!(shown(&ada).await, [json!("Ahoy Bo"), json!("Ahoy Bo"), json!("Ahoy Bob")]);
    bob.get(&format!("{ROUTES}/greet/executions?sortBy=output")).await.problem(400, "VALIDATION_ERROR");
    let outcome = format!("{ROUTES}/executions/{}/outcome", text(&done, "executionId"));
    assert_eq!(bob.post(&outcome, &json!({"rating": 4})).await.expect(200)["output"], Value::Null);
}

#[tokio::test]
async fn a_stream_that_its_client_leaves_is_over_and_counted_once() {
    let provider = assistants::stub().await;
    let (host, ada) = assistants::host_with_ada(assistants::manifest(Some(&provider))).await;
    assistants::set_up(&ada, &provider, "CUSTOM", &["leaving"]).await;
    published(&ada, "greet", "Ahoy").await;
    let asked = json!({"variables": {}, "model": "leaving", "stream": true});
    let request = ada.request(reqwest::Method::POST, &format!("{ROUTES}/greet/execute")).json(&asked);
    let mut stream = EventStream::of(request).await.expect("a stream");
    let started = stream.wait_for("started").await;
    stream.wait_for("delta").await;
    drop(stream);
    let over = eventually("the end of the execution", async || {
        // As if the assistant had heard of nobody for a while.
        let silent = "UPDATE ai_completions SET updated_at = '2020-01-01T00:00:00.000Z' WHERE status = 'streaming'";
        host.store().change(silent).await;
        let rows = ada.get(&format!("{ROUTES}/greet/executions?status=failed")).await.expect(200);
        rows["items"].get(0).cloned()
    })
    .await;
    assert_eq!((&over["id"], &over["wasSuccessful"]), (&started.data["executionId"], &json!(false)), "{over}");
    assert!(over["error"].as_str().is_some_and(|error| !error.is_empty()), "{over}");
    eventually("the usage", async || {
        let used = ada.get("/api/usage/events?categoryCode=prompt.execution").await.expect(200);
        (used["total"] == 1 && used["items"][0]["dimensions"]["status"] == "failed").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_due_schedule_runs_once_whatever_was_missed_and_tells_its_target() {
    let manifest = Manifest::services().with("schedules = \"1m\"", "schedules = \"1s\"");
    let host = Host::with(manifest).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    published(&ada, "digest", "News of {{day}}").await;
    let body = json!({"promptId": "digest", "name": "Morning", "cron": "*/5 * * * *", "variables": {"day": "today"},
        "model": "echo", "target": {"channel": "c1"}});
    let row = ada.post(&format!("{ROUTES}/schedules"), &body).await.expect(201);
    let one = format!("{ROUTES}/schedules/{}", text(&row, "id"));
    let stopped = host.stop().await;
    // As if the host had been away for days: hundreds of runs were missed.
    let missed = "UPDATE prompt_schedules SET next_run_at = '2026-01-01T00:00:00.000Z'";
    assert_eq!(stopped.store().change(missed).await, 1);
    let host = stopped.start().await;
    let ada = host.client().with_token(ada.token());
    let runs = format!("{ROUTES}/digest/executions");
    let run = eventually("the run", async || {
        let runs = ada.get(&format!("{runs}?status=completed")).await.expect(200);
        runs["items"].get(0).cloned()
    })
    .await;
    assert_eq!((&run["output"], &run["scheduleId"]), (&json!("News of today"), &row["id"]), "{run}");
    let after = eventually("the schedule having noted it", async || {
        let row = ada.get(&one).await.expect(200);
        (row["lastStatus"] == "completed").then_some(row)
    })
    .await;
    assert!(after["nextRunAt"].as_str() > Some("2026-01-02") && after["consecutiveFailures"] == 0, "{after}");
    // A run by hand comes through the same queue: when it is over, nothing of the missed ones is left there.
    ada.post(&format!("{one}/run-now"), &json!({})).await.done(202);
    eventually("the run by hand", async || {
        let runs = ada.get(&format!("{runs}?status=completed")).await.expect(200);
        (runs["total"].as_i64() >= Some(2)).then_some(())
    })
    .await;
    // The wall clock may have passed a multiple of five minutes meanwhile.
    let total = ada.get(&runs).await.expect(200)["total"].as_i64().unwrap_or_default();
    assert!((2..=3).contains(&total), "{total} runs");
}

#[tokio::test]
async fn a_label_names_the_newest_version_that_has_it_and_only_publishers_start_experiments() {
    let (host, ada) = host_with_ada().await;
    let mia = members::bring(&host, &ada, "mia@example.com", "Member").await;
    published(&ada, "greet", "Hi").await;
    for content in ["Hello", "Good day"] {
        let version = json!({"content": content, "label": "staging"});
        mia.post(&format!("{ROUTES}/greet/versions"), &version).await.done(201);
    }
    assert_eq!(render(&ada, json!({"name": "greet", "label": "staging"})).await["content"], "Good day");
    assert_eq!(render(&ada, json!({"name": "greet"})).await["content"], "Hi");
    ada.post(&format!("{ROUTES}/render"), &json!({"name": "greet", "label": "nowhere"}))
        .await
        .problem(404, "NOT_FOUND");
    // Who may not publish a text may not put it before everybody by way of an experiment either.
    let experiment = json!({"promptId": "greet", "name": "Coup", "variants": [
        {"name": "a", "isControl": true, "customContent": "mine"}, {"name": "b", "customContent": "mine"}]});
    let row = mia.post(&format!("{ROUTES}/experiments"), &experiment).await.expect(201);
    let path = format!("{ROUTES}/experiments/{}", text(&row, "id"));
    mia.post(&format!("{path}/start"), &json!({})).await.problem(403, "FORBIDDEN");
    assert_eq!(render(&mia, json!({"name": "greet"})).await["content"], "Hi");
    ada.post(&format!("{path}/start"), &json!({})).await.done(200);
    assert_eq!(render(&mia, json!({"name": "greet"})).await["content"], "mine");
}

#[tokio::test]
async fn a_schedule_fails_five_times_is_paused_and_tells_its_owner() {
    let manifest = Manifest::services().bereft_of("ai-service").with("schedules = \"1m\"", "schedules = \"1s\"");
    let host = Host::with(manifest).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    published(&ada, "digest", "News").await;
    let schedule =
        |cron: &str| json!({"promptId": "digest", "name": "Morning", "cron": cron, "timezone": "Europe/Berlin"});
    let path = format!("{ROUTES}/schedules");
    ada.post(&path, &schedule("*/4 * * * *")).await.problem(422, "INTERVAL_TOO_SHORT");
    ada.post(&path, &schedule("0 0 9 * * *")).await.problem(422, "INVALID_SCHEDULE");
    let row = ada.post(&path, &schedule("0 9 * * *")).await.expect(201);
    assert!(row["nextRunAt"].is_string() && row["isActive"] == true, "{row}");
    let one = format!("{path}/{}", text(&row, "id"));
    for number in 1..=5 {
        ada.post(&format!("{one}/run-now"), &json!({})).await.done(202);
        eventually("the run being over", async || {
            let row = ada.get(&one).await.expect(200);
            (row["consecutiveFailures"].as_i64() >= Some(number)).then_some(())
        })
        .await;
    }
    let paused = ada.get(&one).await.expect(200);
    assert_eq!(
        (&paused["isActive"], &paused["lastStatus"], &paused["consecutiveFailures"]),
        (&json!(false), &json!("failed"), &json!(5))
    );
    let runs = ada.get(&format!("{ROUTES}/digest/executions")).await.expect(200);
    assert_eq!(runs["total"], 5, "each run once: {runs}");
    eventually("the owner being told", async || {
        let inbox = ada.get("/api/notifications?type=prompt.schedule.paused").await.expect(200);
        (inbox["total"] == 1).then_some(())
    })
    .await;
    let resumed = ada.post(&format!("{one}/resume"), &json!({})).await.expect(200);
    assert_eq!((&resumed["isActive"], &resumed["consecutiveFailures"]), (&json!(true), &json!(0)));
    // Due by itself it is tried again at the next tick, and no more often than by hand.
    let due = "UPDATE prompt_schedules SET next_run_at = '2020-01-01T00:00:00.000Z'";
    assert_eq!(host.store().change(due).await, 1);
    let paused = eventually("the schedule being given up", async || {
        let row = ada.get(&one).await.expect(200);
        (row["isActive"] == false).then_some(row)
    })
    .await;
    assert_eq!(paused["consecutiveFailures"], 5, "{paused}");
    let runs = ada.get(&format!("{ROUTES}/digest/executions?limit=200")).await.expect(200);
    let failed = runs["items"].as_array().into_iter().flatten();
    let failed = failed.filter(|run| run["status"] == "failed" && run["scheduleId"] == row["id"]).count();
    assert_eq!((&runs["total"], failed), (&json!(10), 10), "each try is a run of its own: {runs}");
    eventually("the owner being told of the failures", async || {
        let inbox = ada.get("/api/notifications?type=prompt.execution.failed").await.expect(200);
        (inbox["total"].as_i64() > Some(0)).then_some(())
    })
    .await;
    ada.post(&format!("{one}/resume"), &json!({})).await.done(200);
    assert_eq!(ada.post(&format!("{one}/pause"), &json!({})).await.expect(200)["isActive"], false);
}
