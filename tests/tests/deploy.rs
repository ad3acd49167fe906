//! Deploying: new builds in place of old ones, without a request noticing.
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::DirEntry;
use std::time::SystemTime;

use berth_tests::{Answer, Client, Host, Manifest, guests};
use reqwest::Method;
use serde_json::Value;

fn hello() -> Vec<u8> {
    guests::bytes(&guests::plugin("hello"))
}

async fn plugin(client: &Client, name: &str) -> Value {
    let plugins = client.get("/api/admin/plugins").await.expect(200);
    let items = plugins["items"].as_array().cloned().unwrap_or_default();
    items.into_iter().find(|plugin| plugin["name"] == name).unwrap_or_default()
}

fn switched(answer: &Answer) -> Value {
    assert!(matches!(answer.status, 200 | 202), "{}: {}", answer.status, answer.text());
    answer.json()
}

#[tokio::test]
async fn garbage_is_refused_while_the_old_build_serves() {
    let host = Host::with(Manifest::hello()).start().await;
    let operator = host.operator();
    let before = plugin(&operator, "hello").await;
    let module = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00].to_vec();
    let cut = hello().into_iter().take(1000).collect();
    for component in [b"garbage".to_vec(), Vec::new(), module, cut, vec![0; 1_000_000]] {
        operator.deploy("hello", component).await.problem(422, "UNPROCESSABLE");
    }
    operator.deploy("nobody", b"garbage".to_vec()).await.problem(404, "NOT_FOUND");
    assert_eq!(plugin(&operator, "hello").await["sha256"], before["sha256"]);
    assert_eq!(host.client().get("/api/hello").await.expect(200)["message"], "hello");
}

/// What was compiled, each with the time of its last change.
fn compiled(host: &Host) -> BTreeMap<OsString, SystemTime> {
    let entries = std::fs::read_dir(host.data().join("compiled")).expect("the compile cache").flatten();
    let changed = |entry: &DirEntry| entry.metadata().and_then(|about| about.modified()).expect("a time");
    entries.map(|entry| (entry.file_name(), changed(&entry))).collect()
}

#[tokio::test]
async fn a_deploy_a_rollback_and_a_restart_agree_on_what_serves() {
    let host = Host::with(Manifest::hello()).start().await;
    let operator = host.operator();
    let first = plugin(&operator, "hello").await["sha256"].clone();
    let report = switched(&operator.deploy("hello", guests::variant(&hello(), 1)).await);
    let second = report["sha256"].clone();
    assert_ne!(first, second);
    assert_eq!(plugin(&operator, "hello").await["sha256"], second);
    let host = host.restart().await;
    let operator = host.operator();
    assert_eq!(plugin(&operator, "hello").await["sha256"], second, "a restart forgot the deploy");
    let before = compiled(&host);
    let back = operator.send(operator.request(Method::POST, "/api/admin/plugins/hello/rollback?wait=true")).await;
    assert_eq!(switched(&back)["sha256"], first);
    assert_eq!(compiled(&host), before, "a rollback compiled something, though a host was started meanwhile");
    let host = host.kill().await.start().await;
    let operator = host.operator();
    assert_eq!(plugin(&operator, "hello").await["sha256"], first, "kill -9 forgot the rollback");
    let history = operator.get("/api/admin/plugins/hello/history").await.expect(200);
    let actions: Vec<&str> =
        history["items"].as_array().into_iter().flatten().filter_map(|line| line["action"].as_str()).collect();
    assert!(actions.contains(&"deploy") && actions.contains(&"rollback"), "{history}");
    host.client().get("/api/hello").await.done(200);
}

#[tokio::test]
async fn the_commands_do_what_the_api_does() {
    let host = Host::with(Manifest::hello()).start().await;
    let file = host.data().join("build.wasm");
    std::fs::write(&file, guests::variant(&hello(), 7)).expect("written");
    let run = |arguments: &[&str]| {
        let output = host.berth(arguments).output().expect("berth");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (status, said, complaint) = run(&["deploy", "hello", &file.display().to_string()]);
    assert_eq!(status, Some(0), "{complaint}");
    assert!(said.contains("revision 2"), "{said}");
    let (status, said, complaint) = run(&["plugins", "--json"]);
    assert_eq!(status, Some(0), "{complaint}");
    let plugins: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(plugins["items"][0]["revision"], 2, "{said}");
    let (status, said, _) = run(&["history", "hello"]);
    assert!(status == Some(0) && said.lines().count() >= 3, "{said}");
    let (status, _, complaint) = run(&["rollback", "hello"]);
    assert_eq!(status, Some(0), "{complaint}");
    // The same bytes at the end of a pipe.
    let mut command = host.berth(&["deploy", "hello", "-", "--json"]);
    let output = command.stdin(std::fs::File::open(&file).expect("the file")).output().expect("berth");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        (output.status.code(), &report["revision"], &report["previousRevision"]),
        (Some(0), &3.into(), &1.into()),
        "{report}"
    );
    let (status, said, _) = run(&["routes"]);
    assert!(status == Some(0) && said.contains("/api/hello"), "{said}");
    std::fs::write(&file, b"garbage").expect("written");
    let (status, said, complaint) = run(&["deploy", "hello", &file.display().to_string()]);
    assert_eq!((status, said.as_str()), (Some(1), ""), "{complaint}");
    assert!(complaint.contains("422") && complaint.lines().count() == 1, "{complaint}");
    let (status, _, complaint) = run(&["deploy", "nobody", &file.display().to_string()]);
    assert!(status == Some(1) && complaint.contains("404"), "{complaint}");
}
