//! quality: experiments whose assignments stay and whose figures are SciPy's, and a design that nobody changes underneath.
#![expect(clippy::indexing_slicing, clippy::expect_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;

use berth_tests::answer::text;
use berth_tests::members::host_with_ada;
use berth_tests::wait::{heard, heard_of};
use berth_tests::{Client, Host, Manifest, eventually, guests, members};
use reqwest::Method;
use serde_json::{Value, json};

const EXPERIMENTS: &str = "/api/experiments";

fn design(more: &Value) -> Value {
    let mut body = json!({"name": "Button", "primaryMetric": "clicks", "minSampleSize": 10,
        "variants": [{"name": "grey", "isControl": true}, {"name": "red", "config": {"color": "#f00"}}]});
    for (name, value) in more.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    body
}

async fn made(client: &Client, more: &Value) -> Value {
    client.post(EXPERIMENTS, &design(more)).await.expect(201)
}

/// An experiment that runs; its path and the ids of its variants, the control first.
async fn running(client: &Client, more: &Value) -> (String, Vec<String>) {
    let one = made(client, more).await;
    let path = format!("{EXPERIMENTS}/{}", text(&one, "id"));
    client.post(&format!("{path}/start"), &json!({})).await.done(200);
    let mut variants: Vec<&Value> = one["variants"].as_array().into_iter().flatten().collect();
    variants.sort_by_key(|variant| variant["isControl"] != true);
    (path, variants.into_iter().map(|variant| text(variant, "id")).collect())
}

async fn assigned(client: &Client, path: &str, subject: &str) -> Value {
    client.post(&format!("{path}/assign"), &json!({"subjectId": subject})).await.expect(200)
}

/// Brings in subjects until each variant has so many; those of each variant.
async fn fill(client: &Client, path: &str, variants: &[String], wanted: usize) -> Vec<Vec<String>> {
    let mut groups = vec![Vec::new(); variants.len()];
    for number in 0..wanted * variants.len() * 5 {
        if groups.iter().all(|group: &Vec<String>| group.len() >= wanted) {
            break;
        }
        let subject = format!("u{number}");
        let variant = text(&assigned(client, path, &subject).await, "variantId");
        let place = variants.iter().position(|id| *id == variant).expect("a variant of the experiment");
        groups[place].push(subject);
    }
    assert!(groups.iter().all(|group| group.len() >= wanted), "the draw leaves a variant out");
    groups
}

async fn record(client: &Client, path: &str, metric: &str, subjects: &[String], values: &[f64]) {
    let rows: Vec<Value> = subjects
        .iter()
        .zip(values)
        .map(|(subject, value)| json!({"subjectId": subject, "metric": metric, "value": value}))
        .collect();
    let answer = client.post(&format!("{path}/metrics"), &json!({ "values": rows })).await.expect(201);
    assert_eq!((&answer["recorded"], &answer["rejected"]), (&json!(values.len()), &json!([])));
}

/// So many 1 and the rest 0.
fn shares(successes: usize, samples: usize) -> Vec<f64> {
    (0..samples).map(|place| if place < successes { 1.0 } else { 0.0 }).collect()
}

fn near(found: &Value, wanted: &Value, what: &str) {
    let (found, wanted) = (found.as_f64().expect(what), wanted.as_f64().expect(what));
    assert!((found - wanted).abs() <= 1e-9 * wanted.abs(), "{what}: {found:e} here, {wanted:e} by SciPy");
}

#[tokio::test]
async fn a_design_is_frozen_once_it_runs() {
    let (host, ada) = host_with_ada().await;
    let one = made(&ada, &json!({"secondaryMetrics": ["time"]})).await;
    assert_eq!((&one["status"], &one["rolloutPercentage"], &one["type"]), (&json!("draft"), &json!(100), &json!("ab")));
    let path = format!("{EXPERIMENTS}/{}", text(&one, "id"));
    let read = ada.get(&path).await;
    assert_eq!((read.header("etag"), read.json()["variants"].as_array().map(Vec::len)), ("\"1\"".to_owned(), Some(2)));
    ada.put(&path, &json!({"minSampleSize": 20, "variants": []})).await.done(200);
    let act = async |name: &str| ada.post(&format!("{path}/{name}"), &json!({})).await;
    act("start").await.problem(422, "INVALID_EXPERIMENT");
    act("pause").await.problem(409, "ILLEGAL_TRANSITION");
    ada.put(&path, &json!({"variants": design(&json!({}))["variants"]})).await.done(200);
    assert_eq!(act("start").await.expect(200)["status"], "running");
    act("start").await.problem(409, "ILLEGAL_TRANSITION");
    for change in [
        json!({"minSampleSize": 5}),
        json!({"rolloutPercentage": 10}),
        json!({"primaryMetric": "x"}),
        json!({"variants": []}),
    ] {
        ada.put(&path, &change).await.problem(409, "EXPERIMENT_FROZEN");
    }
    assert_eq!(ada.put(&path, &json!({"name": "Knob"})).await.expect(200)["name"], "Knob");
    ada.delete(&path).await.problem(409, "EXPERIMENT_RUNNING");
    act("pause").await.done(200);
    assert_eq!(ada.put(&path, &json!({"rolloutPercentage": 10})).await.expect(200)["rolloutPercentage"], 10);
    ada.put(&path, &json!({"significance": 0.1})).await.problem(409, "EXPERIMENT_FROZEN");
    assert_eq!(act("resume").await.expect(200)["status"], "running");
    let stale = ada.request(Method::POST, &format!("{path}/stop")).header("if-match", "\"1\"").json(&json!({}));
    ada.send(stale).await.problem(412, "PRECONDITION_FAILED");
    let stopped = act("stop").await.expect(200);
    assert_eq!((&stopped["status"], &stopped["winnerVariantId"]), (&json!("completed"), &Value::Null));
    act("resume").await.problem(409, "ILLEGAL_TRANSITION");
    // Decided once, by somebody.
    let conclude = format!("{path}/conclude");
    let wrong = ada.post(&conclude, &json!({"winner": "somebody"})).await;
    wrong.problem(400, "VALIDATION_ERROR");
    assert_eq!(wrong.faulty_fields(), ["winner"]);
    let winner = &ada.get(&path).await.expect(200)["variants"][1]["id"];
    let concluded = ada.post(&conclude, &json!({"winner": winner, "conclusion": "Red it is."})).await.expect(200);
    assert_eq!((&concluded["winnerVariantId"], &concluded["conclusion"]), (winner, &json!("Red it is.")));
    ada.post(&conclude, &json!({"winner": winner})).await.problem(409, "ALREADY_CONCLUDED");
    // Everybody gets the winner now.
    let late = assigned(&ada, &path, "late").await;
    assert_eq!((&late["variantId"], &late["inExperiment"]), (winner, &json!(false)));
    // Another organization has none of it.
    let eve = host.client().register("eve@example.com", "Reef").await;
    eve.get(&path).await.problem(404, "NOT_FOUND");
    for name in ["start", "pause", "resume", "stop"] {
        eve.post(&format!("{path}/{name}"), &json!({})).await.problem(404, "NOT_FOUND");
    }
    eve.post(&format!("{path}/assign"), &json!({"subjectId": "u1"})).await.problem(404, "NOT_FOUND");
    let value = json!({"subjectId": "u1", "metric": "clicks", "value": 1});
    eve.post(&format!("{path}/metrics"), &value).await.problem(404, "NOT_FOUND");
    eve.get(&format!("{path}/results")).await.problem(404, "NOT_FOUND");
    assert_eq!(eve.get(EXPERIMENTS).await.expect(200)["total"], 0);
    ada.delete(&path).await.done(204);
    ada.get(&path).await.problem(404, "NOT_FOUND");
}

/// Others hear once that an experiment has begun, and once that it has ended; that it paused meanwhile is its own affair.
#[tokio::test]
async fn others_hear_of_an_experiments_beginning_and_end() {
    let host = Host::with(Manifest::services_and_herald("", "")).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    made(&ada, &json!({"name": "Never begun"})).await;
    let (path, _) = running(&ada, &json!({"featureFlag": "red-button"})).await;
    for step in ["pause", "resume", "stop"] {
        ada.post(&format!("{path}/{step}"), &json!({})).await.done(200);
    }
    let shown = ada.get(&path).await.expect(200);
    for (kind, status) in [("experiment.started", "running"), ("experiment.completed", "completed")] {
        let told = heard(&ada, kind, 1).await.remove(0);
        for name in ["id", "name", "type", "featureFlag", "primaryMetric"] {
            assert_eq!(told[name], shown[name], "{kind}: {name} of {told}");
        }
        assert_eq!((&told["status"], &told["experimentId"]), (&json!(status), &shown["id"]), "{kind}: {told}");
    }
    assert_eq!(heard(&ada, "experiment.started", 1).await[0]["startAt"], shown["startAt"]);
}

#[tokio::test]
async fn every_fault_of_a_design_is_named() {
    let (_host, ada) = host_with_ada().await;
    let wrong = json!({"name": "", "rolloutPercentage": 101, "significance": 0.9, "goal": "win", "status": "running",
        "variants": [{"name": "a", "weight": -1}, {"isControl": "yes"}]});
    let refused = ada.post(EXPERIMENTS, &wrong).await;
    refused.problem(400, "VALIDATION_ERROR");
    let mut fields = refused.faulty_fields();
    fields.sort();
    for field in ["goal", "name", "primaryMetric", "variants[0].weight", "variants[1].isControl", "variants[1].name"] {
        assert!(fields.iter().any(|found| found == field), "{field} is not named: {fields:?}");
    }
    for (variants, count) in [
        (json!([{"name": "a", "isControl": true}]), 1),
        (json!([{"name": "a"}, {"name": "b"}]), 1),
        (json!([{"name": "a", "isControl": true, "weight": 0}, {"name": "b", "weight": 0}]), 1),
    ] {
        let refused = ada.post(EXPERIMENTS, &design(&json!({ "variants": variants }))).await;
        refused.problem(400, "VALIDATION_ERROR");
        assert_eq!((refused.faulty_fields().len(), refused.faulty_fields()[0].as_str()), (count, "variants"));
    }
    let readonly = made(&ada, &json!({"status": "running", "winnerVariantId": "x", "conclusion": "x"})).await;
    assert_eq!((&readonly["status"], &readonly["winnerVariantId"]), (&json!("draft"), &Value::Null));
}

#[tokio::test]
async fn a_subject_gets_the_same_whoever_asks() {
    let (_host, ada) = host_with_ada().await;
    let (path, _) = running(&ada, &json!({})).await;
    let ada = Arc::new(ada);
    let askers: Vec<_> = (0..16)
        .map(|_| {
            let (ada, path) = (Arc::clone(&ada), path.clone());
            tokio::spawn(async move { text(&assigned(&ada, &path, "u1").await, "variantId") })
        })
        .collect();
    let mut seen = Vec::new();
    for asker in askers {
        seen.push(asker.await.expect("an asker"));
    }
    seen.dedup();
    assert_eq!(seen.len(), 1, "{seen:?}");
    let results = ada.get(&format!("{path}/results")).await.expect(200);
    assert_eq!(results["assignments"]["total"], 1, "{results}");
    // Outside the rollout it is the control, and nobody counts.
    let (closed, variants) = running(&ada, &json!({"rolloutPercentage": 0})).await;
    for number in 0..10 {
        let one = assigned(&ada, &closed, &format!("u{number}")).await;
        assert_eq!((&one["variantId"], &one["inExperiment"]), (&json!(variants[0]), &json!(false)), "{one}");
    }
    assert_eq!(ada.get(&format!("{closed}/results")).await.expect(200)["assignments"]["total"], 0);
    let refused =
        ada.post(&format!("{closed}/metrics"), &json!({"subjectId": "u1", "metric": "clicks", "value": 1})).await;
    refused.problem(422, "NOT_ASSIGNED");
    // Half of them: more than nobody, and of both variants.
    ada.post(&format!("{closed}/pause"), &json!({})).await.done(200);
    ada.put(&closed, &json!({"rolloutPercentage": 50})).await.done(200);
    assert_eq!(assigned(&ada, &closed, "u1").await["inExperiment"], false, "nobody new while it pauses");
    ada.post(&format!("{closed}/resume"), &json!({})).await.done(200);
    let mut counts = [0; 3];
    for number in 0..100 {
        let one = assigned(&ada, &closed, &format!("u{number}")).await;
        let is_in = one["inExperiment"] == true;
        counts[if is_in { usize::from(one["isControl"] != true) } else { 2 }] += 1;
    }
    assert!(counts[0] >= 8 && counts[1] >= 8 && (25..=75).contains(&counts[2]), "{counts:?}");
    for bad in [json!({}), json!({"subjectId": "a/b"}), json!({"subjectId": ""}), json!({"subjectId": 7})] {
        ada.post(&format!("{path}/assign"), &bad).await.problem(400, "VALIDATION_ERROR");
    }
}

#[tokio::test]
async fn figures_are_those_of_scipy() {
    let file = guests::root().join("components/experiment-rules/tests/corpus/expected.json");
    let expected: Value = serde_json::from_slice(&std::fs::read(file).expect("the corpus")).expect("JSON");
    let (_host, ada) = host_with_ada().await;
    let more = json!({"secondaryMetrics": ["time"], "metricKinds": {"clicks": "rate", "time": "mean"}});
    let (path, variants) = running(&ada, &more).await;
    let groups = fill(&ada, &path, &variants, 100).await;
    // 45 of 100 and 60 of 100; and two lists of values far from 0.
    let rates =
        expected["rates"].as_array().and_then(|all| all.iter().find(|one| one["counts"] == json!([45, 100, 60, 100])));
    let rates = rates.expect("the case");
    let far = |one: &&Value| one["mean"][0].as_f64().is_some_and(|mean| mean > 1e8);
    let means = expected["means"].as_array().and_then(|all| all.iter().find(far)).expect("the case");
    let list =
        |name: &str| -> Vec<f64> { means[name].as_array().into_iter().flatten().filter_map(Value::as_f64).collect() };
    record(&ada, &path, "clicks", &groups[0][..100], &shares(45, 100)).await;
    record(&ada, &path, "clicks", &groups[1][..100], &shares(60, 100)).await;
    record(&ada, &path, "time", &groups[0], &list("control")).await;
    record(&ada, &path, "time", &groups[1], &list("other")).await;
    let results = ada.get(&format!("{path}/results")).await.expect(200);
    let against = |metric: usize| &results["metrics"][metric]["comparisons"][0];
    let (clicks, time) = (against(0), against(1));
    assert_eq!((&clicks["test"], &time["test"]), (&json!("two_proportion_z"), &json!("welch_t")), "{results}");
    near(&clicks["statistic"], &rates["statistic"], "z");
    near(&clicks["pValue"], &rates["pValue"], "the p-value of z");
    near(&time["statistic"], &means["statistic"], "t");
    near(&time["degreesOfFreedom"], &means["degrees"], "the degrees of freedom");
    near(&time["pValue"], &means["pValue"], "the p-value of t");
    for (place, name) in ["value", "low", "high"].into_iter().enumerate() {
        near(&clicks["difference"][name], &rates["difference"][place], name);
        let estimate = &results["metrics"][1]["variants"]
            .as_array()
            .expect("variants")
            .iter()
            .find(|one| one["isControl"] != true);
        near(&estimate.expect("the other")["estimate"][name], &means["mean"][place], name);
    }
    assert_eq!(results["conclusion"], "significant", "0.034 is below 0.05: {results}");
    assert_eq!((&results["winner"], &results["isPreliminary"]), (&Value::Null, &json!(true)));
    // Several values of one subject are one figure.
    record(&ada, &path, "clicks", &groups[0][..1], &[0.0]).await;
    let again = ada.get(&format!("{path}/results")).await.expect(200);
    near(&again["metrics"][0]["comparisons"][0]["pValue"], &rates["pValue"], "the same p-value");
}

#[tokio::test]
async fn nobody_wins_before_the_minimum_and_the_end() {
    let manifest = Manifest::services_and_herald("", "")
        .with("checks = \"1m\"\ncertifications = \"daily\"", "checks = \"1s\"\ncertifications = \"1s\"");
    let host = Host::with(manifest).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let more = json!({"minSampleSize": 30, "metricKinds": {"clicks": "rate"},
        "startAt": "2020-01-01T00:00:00Z", "endAt": "2100-01-01T00:00:00Z"});
    let (path, variants) = running(&ada, &more).await;
    let groups = fill(&ada, &path, &variants, 40).await;
    record(&ada, &path, "clicks", &groups[0][..20], &shares(5, 20)).await;
    record(&ada, &path, "clicks", &groups[1][..40], &shares(35, 40)).await;
    let few = ada.get(&format!("{path}/results")).await.expect(200);
    assert_eq!((&few["conclusion"], &few["metrics"][0]["comparisons"]), (&json!("insufficient_data"), &json!([])));
    record(&ada, &path, "clicks", &groups[0][20..40], &shares(5, 20)).await;
    let sure = ada.get(&format!("{path}/results")).await.expect(200);
    assert_eq!((&sure["conclusion"], &sure["winner"]), (&json!("significant"), &Value::Null), "{sure}");
    // The end comes: it is completed by itself, and the figures have made a winner.
    ada.post(&format!("{path}/pause"), &json!({})).await.done(200);
    ada.put(&path, &json!({"endAt": "2020-01-02T00:00:00Z"})).await.done(200);
    let done = eventually("its end", async || {
        let one = ada.get(&path).await.expect(200);
        (one["status"] == "completed").then_some(one)
    })
    .await;
    assert_eq!(done["winnerVariantId"], json!(variants[1]), "{done}");
    let kept = ada.get(&format!("{path}/results")).await.expect(200);
    assert_eq!((&kept["conclusion"], &kept["winner"]), (&json!("winner"), &json!(variants[1])), "{kept}");
    let value = json!({"subjectId": groups[0][0], "metric": "clicks", "value": 1});
    ada.post(&format!("{path}/metrics"), &value).await.problem(409, "EXPERIMENT_NOT_RUNNING");
    let told = heard_of(&ada, "experiment.completed", 1, |_| true).await.remove(0);
    assert_eq!(told["winnerVariantId"], json!(variants[1]), "{told}");
    // What the figures say binds nobody, but who decides does so once.
    let decision = json!({"winner": variants[0], "conclusion": "Red hurts the eyes."});
    let decided = ada.post(&format!("{path}/conclude"), &decision).await.expect(200);
    assert_eq!(decided["winnerVariantId"], json!(variants[0]), "{decided}");
    ada.post(&format!("{path}/conclude"), &decision).await.problem(409, "ALREADY_CONCLUDED");
    let kept = ada.get(&format!("{path}/results")).await.expect(200);
    assert_eq!((&kept["winner"], &kept["winnerVariantId"]), (&json!(variants[1]), &json!(variants[0])), "{kept}");
    // Stopped before its end it has none.
    let (early, variants) = running(&ada, &more).await;
    let groups = fill(&ada, &early, &variants, 40).await;
    record(&ada, &early, "clicks", &groups[0][..40], &shares(5, 40)).await;
    record(&ada, &early, "clicks", &groups[1][..40], &shares(35, 40)).await;
    let stopped = ada.post(&format!("{early}/stop"), &json!({})).await.expect(200);
    assert_eq!((&stopped["status"], &stopped["winnerVariantId"]), (&json!("completed"), &Value::Null), "{stopped}");
}

#[tokio::test]
async fn only_values_that_mean_something_are_taken() {
    let (_host, ada) = host_with_ada().await;
    let draft = made(&ada, &json!({})).await;
    let value =
        |subject: &str, metric: &str, value: Value| json!({"subjectId": subject, "metric": metric, "value": value});
    let unborn = format!("{EXPERIMENTS}/{}/metrics", text(&draft, "id"));
    ada.post(&unborn, &value("u1", "clicks", json!(1))).await.problem(409, "EXPERIMENT_NOT_RUNNING");
    let (path, _) = running(&ada, &json!({"metricKinds": {"clicks": "conversion"}})).await;
    let metrics = format!("{path}/metrics");
    assigned(&ada, &path, "u1").await;
    for (body, field) in [
        (value("u1", "other", json!(1)), "metric"),
        (value("u1", "clicks", json!(0.5)), "value"),
        (value("u1", "clicks", json!("1")), "value"),
        (json!({"values": []}), "values"),
        (json!({"values": [value("u1", "clicks", json!(1)), value("u1", "clicks", json!(2))]}), "values[1].value"),
        (json!({"values": vec![value("u1", "clicks", json!(1)); 1001]}), "values"),
    ] {
        let refused = ada.post(&metrics, &body).await;
        refused.problem(400, "VALIDATION_ERROR");
        assert!(refused.faulty_fields().iter().any(|found| found == field), "{field}: {}", refused.text());
    }
    let mixed = json!({"values": [value("u1", "clicks", json!(1)), value("stranger", "clicks", json!(1))]});
    let taken = ada.post(&metrics, &mixed).await.expect(201);
    assert_eq!((&taken["recorded"], &taken["rejected"][0]["index"]), (&json!(1), &json!(1)), "{taken}");
    // A conversion is of everybody who takes part.
    for number in 2..12 {
        assigned(&ada, &path, &format!("u{number}")).await;
    }
    let results = ada.get(&format!("{path}/results")).await.expect(200);
    let samples: i64 = results["metrics"][0]["variants"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|one| one["samples"].as_i64())
        .sum();
    assert_eq!(samples, 11, "{results}");
}

#[tokio::test]
async fn a_private_project_keeps_its_experiments_and_scores() {
    let (host, ada) = host_with_ada().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let carol = members::bring(&host, &ada, "carol@example.com", "Member").await;
    let project = json!({"name": "Secret", "visibility": "private"});
    let project = text(&bob.post("/api/projects", &project).await.expect(201), "id");
    let one = made(&bob, &json!({ "projectId": project })).await;
    let path = format!("{EXPERIMENTS}/{}", text(&one, "id"));
    bob.post("/api/quality/scores", &json!({"projectId": project, "kind": "coverage", "value": 81.5})).await.done(201);
    let open = made(&carol, &json!({})).await;
    for (who, experiments, scores) in [(&bob, 2, 1), (&ada, 2, 1), (&carol, 1, 0)] {
        assert_eq!(who.get(EXPERIMENTS).await.expect(200)["total"], experiments);
        assert_eq!(who.get("/api/quality/scores").await.expect(200)["total"], scores);
        let named = who.get(&format!("/api/quality/scores?projectId={project}")).await.expect(200);
        assert_eq!(named["total"], scores);
        let overview = who.get("/api/quality/overview").await.expect(200);
        assert_eq!(
            (&overview["experiments"]["total"], overview["scores"].as_array().map(Vec::len)),
            (&json!(experiments), Some(scores)),
            "{overview}"
        );
    }
    assert_eq!(bob.get(&path).await.expect(200)["projectId"], json!(project));
    carol.get(&path).await.problem(404, "NOT_FOUND");
    carol.put(&path, &json!({"name": "x"})).await.problem(404, "NOT_FOUND");
    carol.get(&format!("{path}/results")).await.problem(404, "NOT_FOUND");
    carol.post(&format!("{path}/start"), &json!({})).await.problem(404, "NOT_FOUND");
    carol.post(&format!("{path}/assign"), &json!({"subjectId": "u1"})).await.problem(404, "NOT_FOUND");
    carol.post(EXPERIMENTS, &design(&json!({ "projectId": project }))).await.problem(404, "NOT_FOUND");
    let score = json!({"projectId": project, "kind": "coverage", "value": 1});
    carol.post("/api/quality/scores", &score).await.problem(404, "NOT_FOUND");
    carol.get(&format!("{EXPERIMENTS}/{}", text(&open, "id"))).await.done(200);
    // The latest score counts, by when it was taken.
    let later = json!({"projectId": project, "kind": "coverage", "value": 90, "recordedAt": "2030-01-01T00:00:00Z"});
    bob.post("/api/quality/scores", &later).await.done(201);
    let earlier = json!({"projectId": project, "kind": "coverage", "value": 10, "recordedAt": "2020-01-01T00:00:00Z"});
    bob.post("/api/quality/scores", &earlier).await.done(201);
    let overview = bob.get("/api/quality/overview").await.expect(200);
    assert_eq!(overview["scores"][0]["value"], 90.0, "{overview}");
}
