//! Every command that talks to a host does what it should in a pipe, for a program and at a terminal.
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use std::process::Output;

use berth_tests::{Host, Manifest, guests, manifest, process};
use serde_json::{Value, json};

/// How a command is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Somebody reads its output line by line.
    Pipe,
    /// The same with `--json`.
    Json,
    Terminal,
}

/// What a replay ends with when the build fails as well.
const FAILS: i32 = 2;

/// Runs a command and judges what it says.
fn run(host: &Host, way: Way, line: &[&str], status: i32) {
    let is_json = if way == Way::Json { &["--json"][..] } else { &[] };
    let mut command = host.berth(&[line, is_json].concat());
    if way == Way::Terminal {
        command = process::in_a_terminal(&command);
    }
    let output = command.output().expect("berth, and script of util-linux");
    let Output { stdout, stderr, .. } = &output;
    let (said, complaint) = (String::from_utf8_lossy(stdout), String::from_utf8_lossy(stderr));
    let context = format!("{line:?}, {way:?}: {said}{complaint}");
    assert_eq!(output.status.code(), Some(status), "{context}");
    assert!(!said.trim().is_empty(), "{context}");
    if way != Way::Terminal {
        assert!(!said.contains('\u{1b}') && !complaint.contains('\u{1b}'), "{context}");
        assert_eq!(complaint.lines().count(), usize::from(status != 0), "{context}");
    }
    if way == Way::Json {
        assert!(serde_json::from_str::<Value>(&said).is_ok_and(|value| value.is_object()), "{context}");
    }
}

/// A failed call that the host keeps.
async fn failure(host: &Host) -> String {
    host.client().get("/api/unruly/trap").await.done(502);
    let id = berth_tests::eventually("its capsule", async || {
        let capsules = host.operator().get("/api/admin/capsules?plugin=unruly").await.expect(200);
        capsules["items"][0]["id"].as_str().map(str::to_owned)
    });
    id.await
}

#[tokio::test]
async fn every_command_speaks_to_people_to_programs_and_at_a_terminal() {
    let host = Host::with(Manifest::of([manifest::hello(), manifest::unruly(), manifest::ledger()])).start().await;
    let build = guests::bytes(&guests::plugin("hello"));
    let file = |name: &str, number| {
        let path = host.data().join(name);
        std::fs::write(&path, guests::variant(&build, number)).expect("written");
        path.display().to_string()
    };
    let (first, second) = (file("first.wasm", 1), file("second.wasm", 2));
    host.operator().deploy("hello", guests::variant(&build, 1)).await.done(200);
    let standard = guests::fixture("standard").display().to_string();
    for way in [Way::Pipe, Way::Json, Way::Terminal] {
        let capsule = failure(&host).await;
        let lines: [&[&str]; 29] = [
            &["deploy", "hello", &second, "--plan"],
            &["deploy", "hello", &second],
            &["history", "hello"],
            &["rollback", "hello"],
            &["deploy", "hello", &second, "--canary", "50%"],
            &["promote", "hello"],
            &["deploy", "hello", &first, "--shadow"],
            &["abort", "hello"],
            &["rollback", "hello"],
            &["hosts"],
            &["status"],
            &["status", "hello"],
            &["logs", "host", "-n", "5"],
            &["events", "hello"],
            &["grants"],
            &["routes"],
            &["queues"],
            &["queues", "redrive", "ledger.dlq"],
            &["keys"],
            &["keys", "rotate"],
            &["plugins"],
            &["plugins", "show", "hello"],
            &["plugins", "add", "standard", &standard, "routes = [\"/standard\"]", "isolation = \"plugin\""],
            &["plugins", "set", "standard", "routes = [\"/standard\", \"/usual\"]"],
            &["plugins", "remove", "standard"],
            &["capsules"],
            &["capsules", "unruly"],
            &["capsules", "show", &capsule],
            &["capsules", "remove", &capsule],
        ];
        let (last, others) = lines.split_last().expect("commands");
        others.iter().for_each(|line| run(&host, way, line, 0));
        run(&host, way, &["replay", &capsule], FAILS);
        run(&host, way, last, 0);
    }
    // What it did is what it was told to do, each time.
    let history = host.operator().get("/api/admin/plugins/hello/history").await.expect(200);
    let of = |action: &str| {
        let lines = history["items"].as_array().into_iter().flatten();
        lines.filter(|line| line["action"] == action && line["outcome"] != "failed").count()
    };
    let done = ["deploy", "rollback", "canary", "promote", "shadow", "abort"].map(of);
    assert_eq!(done, [2 + 3, 6, 3, 3, 3, 3], "{history}");
    let keys = host.operator().get("/api/admin/signing-keys").await.expect(200);
    assert_eq!(keys["items"][0]["generation"], 4, "{keys}");
    assert_eq!(host.operator().get("/api/admin/capsules?plugin=unruly").await.expect(200)["items"], json!([]));
}
