//! Plugins that come, change and go while the host runs.
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use std::time::Duration;

use berth_tests::entries::{add, path, remove, set};
use berth_tests::{Client, Host, Load, Manifest, Slot, eventually, guests, manifest};
use serde_json::{Value, json};

/// How often an entry is changed under load.
const CHANGES: u32 = 40;

const STANDARD: &str = "routes = [\"/standard\"]\npublic = [\"/standard/{*rest}\"]\nisolation = \"plugin\"\n";
const LEDGER: &str = "[[plugin]]\nroutes = [\"/ledger\"]\npublic = [\"GET /ledger\", \"POST /ledger/publish\"]\n\
                      isolation = \"plugin\"\n[plugin.grant]\ntables = [\"ledger_\"]\npublish = [\"ledger.#\"]\n\
                      consume = [\"planning.#\", \"project.#\", \"ledger.noted\"]\n";

fn standard() -> Vec<u8> {
    guests::bytes(&guests::fixture("standard"))
}

/// Name to origin of every plugin.
async fn origins(host: &Host) -> Value {
    let plugins = host.operator().get("/api/admin/plugins").await.expect(200);
    let items = plugins["items"].as_array().cloned().unwrap_or_default();
    items
        .into_iter()
        .map(|plugin| (plugin["name"].as_str().expect("a name").to_owned(), plugin["origin"].clone()))
        .collect()
}

async fn answers_standard(client: &Client, path: &str) {
    let answer = client.get(path).await;
    answer.done(200);
    assert_eq!(answer.text(), format!("GET {path} 0"));
}

#[tokio::test]
async fn an_added_plugin_answers_at_once_and_after_every_restart() {
    let host = Host::with(Manifest::hello()).start().await;
    host.client().get("/standard/a").await.problem(404, "ROUTE_NOT_FOUND");
    let document = host.client().get("/openapi.json").await.expect(200);
    assert!(document["paths"]["/standard/health"].is_null());
    let report = add(&host, "standard", STANDARD, standard()).await.expect(201);
    assert_eq!((&report["plugin"], &report["revision"]), (&json!("standard"), &json!(1)), "{report}");
    answers_standard(&host.client(), "/standard/a").await;
    let document = host.client().get("/openapi.json").await.expect(200);
    assert!(document["paths"]["/standard/health"].is_object(), "the document does not follow");
    host.client().get("/ready").await.done(200);
    assert_eq!(origins(&host).await, json!({ "hello": "file", "standard": "added" }));
    let host = host.restart().await;
    answers_standard(&host.client(), "/standard/b").await;
    assert_eq!(origins(&host).await, json!({ "hello": "file", "standard": "added" }));
    set(&host, "standard", "routes = [\"/moved\"]\npublic = [\"/moved/{*rest}\"]").await.done(202);
    let host = host.kill().await.start().await;
    answers_standard(&host.client(), "/moved/c").await;
    host.client().get("/standard/c").await.problem(404, "ROUTE_NOT_FOUND");
    remove(&host, "standard").await.done(200);
    remove(&host, "hello").await.done(200);
    let host = host.restart().await;
    assert_eq!(origins(&host).await, json!({}), "what was removed is back");
    for path in ["/moved/d", "/api/hello"] {
        host.client().get(path).await.problem(404, "ROUTE_NOT_FOUND");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_changes_under_load_and_drops_no_request() {
    let host = Host::with(Manifest::hello()).start().await;
    add(&host, "standard", STANDARD, standard()).await.done(201);
    let load = Load::new()
        .getting(host.address(), 8, "/standard/a", "", |answer| {
            if answer.body == "GET /standard/a 0" { Ok(()) } else { Err(format!("a strange answer: {answer:?}")) }
        })
        .getting(host.address(), 8, "/api/hello", "", |_| Ok(()))
        .echoing_slowly(host.address(), 4, "/api/hello/echo", 20, Duration::from_millis(100));
    let client = host.client();
    for number in 0..CHANGES {
        let is_wide = number % 2 == 0;
        let (routes, public) = if is_wide {
            ("\"/standard\", \"/other\"", "\"/standard/{*rest}\", \"/other/{*rest}\"")
        } else {
            ("\"/standard\"", "\"/standard/{*rest}\"")
        };
        let keys = format!("routes = [{routes}]\npublic = [{public}]\ngrant.cache = {is_wide}");
        let report = set(&host, "standard", &keys).await.expect(202);
        assert_eq!(report["hasChanged"], true, "{report}");
        set(&host, "hello", &format!("grant.cache = {is_wide}\nlimits.drain_ms = {}", 5_000 + number)).await.done(202);
        if is_wide {
            answers_standard(&client, "/other/b").await;
        } else {
            client.get("/other/b").await.problem(404, "ROUTE_NOT_FOUND");
        }
    }
    load.stop().await.assert_whole(u64::from(CHANGES));
}

#[tokio::test]
async fn a_faulty_change_is_refused_with_every_fault_and_changes_nothing() {
    let host = Host::with(Manifest::hello()).start().await;
    add(&host, "standard", STANDARD, standard()).await.done(201);
    let faulty = "routes = [\"/api/hello/x\"]\ncolour = 1\n\n[grant]\ntable = [\"x_\"]\ncall = [\"nobody\"]\n";
    let problem = add(&host, "second", faulty, standard()).await.problem(400, "VALIDATION_ERROR");
    let faults = problem["errors"].as_array().cloned().unwrap_or_default();
    let fields: Vec<&str> = faults.iter().filter_map(|fault| fault["field"].as_str()).collect();
    assert_eq!(
        fields,
        ["entry of second:1", "entry of second:2", "entry of second:5", "entry of second:6"],
        "{problem}"
    );
    for part in ["overlaps /api/hello", "no key colour", "did you mean tables?", "no such plugin"] {
        assert!(
            faults.iter().any(|fault| fault["message"].as_str().is_some_and(|text| text.contains(part))),
            "{problem}"
        );
    }
    for (route, part) in
        [("/api/hello", "of hello"), ("/standard/x", "of standard"), ("/api/auth/x", "host answers itself")]
    {
        let refused =
            add(&host, "second", &format!("routes = [\"{route}\"]"), standard()).await.problem(409, "CONFLICT");
        assert!(refused["errors"][0]["message"].as_str().is_some_and(|text| text.contains(part)), "{refused}");
    }
    add(&host, "standard", STANDARD, standard()).await.problem(409, "CONFLICT");
    add(&host, "second", "routes = [\"/second\"]", b"garbage".to_vec()).await.problem(422, "UNPROCESSABLE");
    set(&host, "standard", "routes = [\"/api/hello\"]\npublic = []").await.problem(409, "CONFLICT");
    set(&host, "standard", "grant.cache = \"yes\"").await.problem(400, "VALIDATION_ERROR");
    set(&host, "hello", "routes = [\"/api/elsewhere\"]\npublic = []").await.problem(422, "UNPROCESSABLE");
    set(&host, "nobody", "port = 1").await.problem(404, "NOT_FOUND");
    remove(&host, "nobody").await.problem(404, "NOT_FOUND");
    host.client().delete(&path("hello")).await.problem(401, "UNAUTHORIZED");
    for path in ["/second/a", "/api/elsewhere"] {
        host.client().get(path).await.problem(404, "ROUTE_NOT_FOUND");
    }
    host.client().get("/api/hello").await.done(200);
    answers_standard(&host.client(), "/standard/a").await;
    assert_eq!(origins(&host).await, json!({ "hello": "file", "standard": "added" }));
}

#[tokio::test]
async fn a_removed_plugin_gets_no_messages_and_finds_its_data_when_it_is_added_again() {
    let herald = Slot::new("herald", guests::fixture("herald"), "/api/herald").route("/api/ai").with(
        "isolation = \"plugin\"\n[plugin.grant]\ntables = [\"herald_\"]\npublish = [\"project.#\"]\nconsume = [\"#\"]",
    );
    let host = Host::with(Manifest::of([herald])).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let publish = async || ada.post("/api/herald", &json!({ "type": "project.created", "data": {} })).await.done(204);
    let queue = async || {
        let queues = host.operator().get("/api/admin/queues").await.expect(200);
        queues["items"].as_array()?.iter().find(|queue| queue["name"] == "ledger").cloned()
    };
    let entries = async || host.client().get("/ledger").await.expect(200)["entries"].as_i64().expect("entries");
    let component = guests::bytes(&guests::fixture("ledger"));

    add(&host, "ledger", LEDGER, component.clone()).await.done(201);
    eventually("the queue's binding", async || queue().await).await;
    publish().await;
    eventually("the first event", async || (entries().await == 1).then_some(())).await;

    let report = remove(&host, "ledger").await.expect(200);
    assert_eq!((&report["action"], &report["prefixes"]), (&json!("remove"), &json!([])), "{report}");
    host.client().get("/ledger").await.problem(404, "ROUTE_NOT_FOUND");
    let history = host.operator().get("/api/admin/plugins/ledger/history").await.expect(200);
    assert_eq!(history["total"], 1, "{history}");
    eventually("the end of the binding", async || queue().await.is_none().then_some(())).await;
    publish().await;

    let report = add(&host, "ledger", LEDGER, component).await.expect(201);
    assert_eq!(report["revision"], 2, "{report}");
    assert!(entries().await == 1, "its data is lost, or it got what was published while it was away");
    eventually("the queue's binding", async || queue().await).await;
    publish().await;
    eventually("the last event", async || (entries().await >= 2).then_some(())).await;
    eventually("an empty queue", async || {
        queue().await.is_some_and(|queue| queue["depth"] == 0 && queue["inFlight"] == 0).then_some(())
    })
    .await;
    assert_eq!(entries().await, 2, "it got what was published while it was away");
}

#[tokio::test]
async fn the_commands_add_show_change_and_remove() {
    let host = Host::with(Manifest::hello()).start().await;
    let run = |arguments: &[&str]| {
        let output = host.berth(arguments).output().expect("berth");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let component = guests::fixture("standard").display().to_string();
    let entry = host.data().join("entry.toml");
    std::fs::write(&entry, format!("# as in plugins.toml\n[[plugin]]\n{STANDARD}")).expect("written");
    let entry = entry.display().to_string();
    let (status, said, complaint) = run(&["plugins", "add", "standard", &component, "--entry", &entry]);
    assert_eq!(status, Some(0), "{complaint}");
    assert!(said.contains("added") && said.contains("revision 1"), "{said}");
    answers_standard(&host.client(), "/standard/a").await;
    let (status, said, _) = run(&["plugins", "show", "standard"]);
    assert!(status == Some(0) && said.contains("routes = [\"/standard\"]"), "{said}");
    let (status, said, complaint) =
        run(&["plugins", "set", "standard", "grant.cache = true", "routes = [\"/standard\", \"/x\"]"]);
    assert!(status == Some(0) && said.contains("/standard /x"), "{said}{complaint}");
    let (status, said, _) = run(&["plugins", "set", "standard", "grant.cache = true"]);
    assert!(status == Some(0) && said.contains("nothing is different"), "{said}");
    let (status, said, _) = run(&["plugins", "set", "standard", "--entry", &entry]);
    assert!(status == Some(0) && !said.contains("/x"), "{said}");
    let (status, said, _) = run(&["plugins"]);
    assert!(status == Some(0) && said.contains("added") && said.contains("file"), "{said}");
    let (status, said, complaint) = run(&["plugins", "set", "standard", "colour = 1", "grant.table = 1"]);
    assert_eq!((status, said.as_str()), (Some(1), ""), "{complaint}");
    assert!(
        complaint.contains("colour") && complaint.contains("tables") && complaint.lines().count() == 1,
        "{complaint}"
    );
    let (status, said, complaint) = run(&["plugins", "remove", "standard"]);
    assert!(status == Some(0) && said.contains("removed"), "{said}{complaint}");
    let (status, _, complaint) = run(&["plugins", "remove", "standard"]);
    assert!(status == Some(1) && complaint.contains("404"), "{complaint}");
    let (status, _, _) = run(&["plugins", "add", "standard", &component]);
    assert_eq!(status, Some(64), "an entry is needed");
}

#[tokio::test]
async fn a_hangup_takes_a_good_manifest_whole_and_a_faulty_one_not_at_all() {
    let host = Host::with(Manifest::hello()).start().await;
    let standard =
        || Slot::new("standard", guests::fixture("standard"), "/standard").with("public = [\"/standard/{*rest}\"]");
    let faulty = Manifest::of([manifest::hello(), standard().with("colour = 1").route("/api/hello/x")]);
    host.write_manifest(&faulty);
    host.signal("HUP");
    eventually("every fault in the log", async || {
        let log = host.log();
        (log.contains("colour") && log.contains("/api/hello/x overlaps /api/hello")).then_some(())
    })
    .await;
    assert_eq!(origins(&host).await, json!({ "hello": "file" }));
    host.client().get("/api/hello").await.done(200);

    host.write_manifest(&Manifest::of([manifest::hello().route("/hi"), standard()]));
    host.signal("HUP");
    eventually("the new plugin", async || (host.client().get("/standard/a").await.status == 200).then_some(())).await;
    assert_eq!(origins(&host).await, json!({ "hello": "file", "standard": "file" }));
    let about = host.client().get("/").await.expect(200);
    assert!(
        about["routes"].as_array().is_some_and(|routes| routes.iter().any(|route| route["path"] == "/hi")),
        "{about}"
    );

    // What was changed at run time stays until the file says something else of that plugin.
    set(&host, "standard", "routes = [\"/standard\", \"/other\"]").await.done(202);
    host.write_manifest(&Manifest::of([manifest::hello(), standard()]));
    host.signal("HUP");
    eventually("the route to go", async || {
        let about = host.client().get("/").await.expect(200);
        about["routes"].as_array()?.iter().all(|route| route["path"] != "/hi").then_some(())
    })
    .await;
    assert_eq!(origins(&host).await, json!({ "hello": "file", "standard": "changed" }));
    host.write_manifest(&Manifest::hello());
    host.signal("HUP");
    eventually("the plugin to go", async || (host.client().get("/standard/a").await.status == 404).then_some(())).await;
    assert_eq!(origins(&host).await, json!({ "hello": "file" }));
}
