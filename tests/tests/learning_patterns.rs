//! learning-development: a library of patterns whose versions only rise, and what a model proposes.

use berth_tests::answer::text;
use berth_tests::wait::heard;
use berth_tests::{Client, Host, Manifest, members};
use futures_util::future::join_all;
use serde_json::{Value, json};

const PATTERNS: &str = "/api/patterns";

async fn host_with_ada(manifest: Manifest) -> (Host, Client) {
    let host = Host::with(manifest).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    (host, ada)
}

async fn pattern(client: &Client, more: Value) -> String {
    let mut body = json!({"name": "Getter", "patternType": "code-structure", "code": "fn {{name}}(&self) -> {{type}}"});
    if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
        body.extend(more);
    }
    text(&client.post(PATTERNS, &body).await.expect(201), "id")
}

/// The ids of what a search finds, the best first.
async fn found_by(client: &Client, query: &str) -> Vec<String> {
    let page = client.get(&format!("{PATTERNS}/search?{query}")).await.expect(200);
    page.get("items").and_then(Value::as_array).into_iter().flatten().map(|hit| text(hit, "id")).collect()
}

#[tokio::test]
async fn a_pattern_is_filled_in_and_its_versions_only_rise() {
    let (host, ada) = host_with_ada(Manifest::services_and_herald("", "")).await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let parameters = json!(["name", {"name": "type", "default": "u8"}, {"name": "note", "required": false}]);
    let id = pattern(&ada, json!({"parameters": parameters, "tags": ["Rust"], "language": "rust"})).await;
    let row = format!("{PATTERNS}/{id}");
    let fill = async |body: Value| bob.post(&format!("{row}/instantiate"), &body).await;

    let missing = fill(json!({"parameters": {"type": "i64"}})).await;
    assert_eq!(missing.problem(422, "PARAMETERS_MISSING")["missing"], json!(["name"]));
    let filled = fill(json!({"parameters": {"name": "{{type}}"}, "targetPath": "./src//user.rs"})).await.expect(200);
    assert_eq!((&filled["text"], &filled["targetPath"]), (&json!("fn {{type}}(&self) -> u8"), &json!("src/user.rs")));
    assert_eq!(fill(json!({"parameters": {"name": ["x"]}})).await.faulty_fields(), ["parameters.name"]);
    for outside in ["../x", "/etc/passwd", "a\\b", "C:/x"] {
        assert_eq!(fill(json!({"targetPath": outside})).await.faulty_fields(), ["targetPath"], "{outside}");
    }
    let used = heard(&ada, "pattern.used", 1).await;
    assert_eq!((&used[0]["patternId"], &used[0]["version"]), (&json!(id), &json!("1.0.0")));

    let versions = format!("{row}/versions");
    let add = async |version: &str| bob.post(&versions, &json!({"version": version, "code": "v {{name}}"})).await;
    for low in ["1.0.0", "0.9.0", "1.0.0-rc.1", "1.0.0+new"] {
        assert_eq!(add(low).await.problem(409, "VERSION_NOT_HIGHER")["currentVersion"], "1.0.0", "{low}");
    }
    assert_eq!(add("two").await.faulty_fields(), ["version"]);
    // The same version at the same moment: one of them is first.
    let answers = join_all((0..5).map(|_| add("2.0.0"))).await;
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409, 409, 409], "{answers:?}");
    let changed = ada.put(&row, &json!({"code": "w {{name}}", "usageCount": 99})).await.expect(200);
    assert_eq!((&changed["currentVersion"], &changed["usageCount"]), (&json!("2.0.1"), &json!(1)));
    assert_eq!(ada.put(&row, &json!({"currentVersion": "9.0.0"})).await.faulty_fields(), ["currentVersion"]);
    // What is told of it: that it is there, and each of its versions; of one that is not everybody's not even its name.
    let told = |data: &Value| (data["patternId"].clone(), data["name"].clone(), data["version"].clone());
    let updated: Vec<_> = heard(&ada, "pattern.updated", 2).await.iter().map(told).collect();
    let wanted = ["2.0.0", "2.0.1"].map(|version| (json!(id), json!("Getter"), json!(version)));
    assert_eq!(updated, wanted);
    let own = pattern(&bob, json!({"name": "Secret", "isPublic": false})).await;
    let created: Vec<_> = heard(&ada, "pattern.created", 2).await.iter().map(told).collect();
    assert_eq!(created, [(json!(id), json!("Getter"), json!("1.0.0")), (json!(own), Value::Null, json!("1.0.0"))]);
    let all = bob.get(&versions).await.expect(200);
    let listed: Vec<&Value> = all["items"].as_array().into_iter().flatten().map(|one| &one["version"]).collect();
    assert_eq!(listed, ["2.0.1", "2.0.0", "1.0.0"]);
    assert_eq!(all["items"][0]["parentVersionId"], all["items"][1]["id"]);
    let filled = fill(json!({"parameters": {"name": "n"}})).await.expect(200);
    assert_eq!((&filled["text"], &filled["version"]), (&json!("w n"), &json!("2.0.1")));
    let old = fill(json!({"parameters": {"name": "n"}, "version": "1.0.0"})).await.expect(200);
    assert_eq!(old["text"], "fn n(&self) -> u8");
    fill(json!({"parameters": {"name": "n"}, "version": "1.0.9"})).await.problem(404, "NOT_FOUND");

    // One rating a person, whoever sends it how often.
    let rate =
        async |client: &Client, rating: i64| client.post(&format!("{row}/rate"), &json!({"rating": rating})).await;
    for answer in join_all((0..5).map(|_| rate(&bob, 5))).await {
        answer.done(200);
    }
    rate(&ada, 2).await.done(200);
    let rated = rate(&ada, 4).await.expect(200);
    assert_eq!((&rated["ratingSum"], &rated["ratingCount"], &rated["average"]), (&json!(9), &json!(2), &json!(4.5)));
    for wrong in [0, 6] {
        assert_eq!(rate(&ada, wrong).await.faulty_fields(), ["rating"]);
    }
    bob.delete(&row).await.problem(403, "FORBIDDEN");
    ada.delete(&row).await.done(204);
    bob.get(&versions).await.problem(404, "NOT_FOUND");
    let wrong = json!({"name": "x", "patternType": "tune", "code": "c"});
    assert_eq!(ada.post(PATTERNS, &wrong).await.faulty_fields(), ["patternType"]);
    let wrong =
        json!({"name": "x", "patternType": "style", "code": "c", "parameters": ["a", "a"], "currentVersion": "1"});
    assert_eq!(ada.post(PATTERNS, &wrong).await.faulty_fields(), ["currentVersion", "parameters[1]"]);
}

#[tokio::test]
async fn a_pattern_is_found_by_those_who_may_see_it() {
    let (host, ada) = host_with_ada(Manifest::services()).await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let vic = members::bring(&host, &ada, "vic@example.com", "Member").await;
    let eve = host.client().register("eve@example.com", "Reef").await;
    let open = pattern(
        &bob,
        json!({"name": "Retry with backoff", "description": "Wait longer every time.",
        "tags": ["resilience", "Übung"], "language": "Rust"}),
    )
    .await;
    let foreign = pattern(&bob, json!({"name": "Ключ", "category": "Ärger", "language": "Русский"})).await;
    assert_eq!(found_by(&vic, "q=ключ&category=ärger&language=РУССКИЙ").await, [foreign.as_str()]);
    ada.delete(&format!("{PATTERNS}/{foreign}")).await.done(204);
    let own = pattern(&bob, json!({"name": "Secret retry", "isPublic": false})).await;
    let secret_project = json!({"name": "Dock", "visibility": "private"});
    let project = text(&bob.post("/api/projects", &secret_project).await.expect(201), "id");
    let body = json!({"name": "Dock retry", "patternType": "style", "code": "c", "projectId": project});
    vic.post(PATTERNS, &body).await.problem(404, "NOT_FOUND");
    let of_project = pattern(&bob, json!({"name": "Dock retry", "projectId": project})).await;
    assert_eq!(bob.get(&format!("{PATTERNS}/{of_project}")).await.expect(200)["isPublic"], false);

    assert_eq!(found_by(&vic, "q=retry").await, [open.as_str()]);
    assert_eq!(found_by(&bob, "q=retry").await.len(), 3);
    assert_eq!(found_by(&vic, &format!("q=retry&projectId={project}")).await, [open.as_str()]);
    assert_eq!(
        found_by(&vic, "q=resilience&language=rust&patternType=code-structure&tag=RESILIENCE").await,
        [open.as_str()]
    );
    assert_eq!(found_by(&vic, "q=retry&tag=ÜBUNG").await, [open.as_str()], "capitals beyond ASCII too");
    assert_eq!(vic.get(&format!("{PATTERNS}?tag=Übung")).await.expect(200)["total"], 1);
    assert_eq!(found_by(&vic, "q=longer&language=go").await, Vec::<String>::new());
    assert!(found_by(&eve, "q=retry").await.is_empty());
    assert_eq!(vic.get(PATTERNS).await.expect(200)["total"], 1);
    assert_eq!(eve.get(PATTERNS).await.expect(200)["total"], 0);
    for id in [&own, &of_project] {
        let row = format!("{PATTERNS}/{id}");
        vic.get(&row).await.problem(404, "NOT_FOUND");
        vic.put(&row, &json!({"name": "x"})).await.problem(404, "NOT_FOUND");
        vic.get(&format!("{row}/versions")).await.problem(404, "NOT_FOUND");
        vic.post(&format!("{row}/versions"), &json!({"version": "2.0.0", "code": "c"})).await.problem(404, "NOT_FOUND");
        vic.post(&format!("{row}/instantiate"), &json!({})).await.problem(404, "NOT_FOUND");
        vic.post(&format!("{row}/rate"), &json!({"rating": 1})).await.problem(404, "NOT_FOUND");
    }
    // Who comes into the project sees what is its own.
    let access = json!({"access": [
        {"userId": members::id(&bob), "level": "owner"}, {"userId": members::id(&vic), "level": "viewer"}]});
    bob.put(&format!("/api/projects/{project}/access"), &access).await.done(200);
    vic.get(&format!("{PATTERNS}/{of_project}")).await.done(200);
    assert_eq!(found_by(&vic, &format!("q=retry&projectId={project}")).await.len(), 2);
    assert_eq!(
        vic.get(&format!("{PATTERNS}?projectId={project}")).await.expect(200)["items"][0]["id"],
        of_project.as_str()
    );
}

#[tokio::test]
async fn what_a_model_proposes_is_shown_and_not_stored() {
    let answer = json!({
        "title": "Rust in a week", "difficulty": "beginner", "skillsCovered": ["Rust"],
        "steps": [
            {"title": "Read", "stepType": "reading", "resourceId": "made-up", "prerequisites": [2]},
            {"title": "Build", "stepType": "project", "resourceUrl": "javascript:alert(1)", "prerequisites": [1]},
        ],
        "patterns": [{"name": "Getter", "patternType": "code-structure", "code": "fn {{name}}", "files": ["a.rs", "b.rs"]}],
    });
    let (_host, ada) = host_with_ada(Manifest::services_and_herald("Sorry?", &answer.to_string())).await;
    let goal = json!({"goal": "Learn Rust", "steps": 2});
    let proposal = ada.post("/api/learning/paths/generate", &goal).await.expect(200);
    assert_eq!(proposal["title"], "Rust in a week");
    let [first, second] = [&proposal["steps"][0], &proposal["steps"][1]];
    assert_eq!((&first["resourceId"], &first["prerequisites"]), (&Value::Null, &json!([])));
    assert_eq!((&second["resourceUrl"], &second["prerequisites"]), (&Value::Null, &json!([1])));
    let files = json!({"files": [{"path": "a.rs", "content": "fn age() {}"}]});
    let found = ada.post(&format!("{PATTERNS}/extract"), &files).await.expect(200);
    assert_eq!((&found["patterns"][0]["name"], &found["patterns"][0]["files"]), (&json!("Getter"), &json!(["a.rs"])));
    for list in ["/api/learning/paths", PATTERNS] {
        assert_eq!(ada.get(list).await.expect(200)["total"], 0, "{list}");
    }
    let large = json!({"files": [{"path": "a", "content": "x".repeat(150_000)}, {"path": "b", "content": "x".repeat(150_000)}]});
    ada.post(&format!("{PATTERNS}/extract"), &large).await.problem(413, "PAYLOAD_TOO_LARGE");

    let (_host, ada) = host_with_ada(Manifest::services().bereft_of("ai-service")).await;
    ada.post("/api/learning/paths/generate", &goal).await.problem(503, "SERVICE_UNAVAILABLE");
    ada.post(&format!("{PATTERNS}/extract"), &files).await.problem(503, "SERVICE_UNAVAILABLE");
}
