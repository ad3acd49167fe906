//! Starting and stopping: settings, manifest, the data folder, and what survives.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use berth_tests::host::OPERATOR_TOKEN;
use berth_tests::{Host, Manifest, guests, manifest};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn all_faults_of_settings_and_manifest_are_reported_at_once() {
    let manifest = Manifest::hello().and("\n[[plugin]]\nname = \"Second\"\nroutes = [\"/api/hello/x\"]\ncolour = 1\n");
    let output = Host::with(manifest)
        .variable("BERTH_RATE_LIMIT_PER_MINUTE", "often")
        .variable("BERTH_DATABSE_URL", "x")
        .variable("BERTH_LOG_FORMAT", "xml")
        .run_to_end();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{said}");
    for part in [
        "BERTH_RATE_LIMIT_PER_MINUTE",
        "BERTH_DATABASE_URL",
        "BERTH_LOG_FORMAT",
        "\"Second\"",
        "colour",
        "component",
        "overlaps",
    ] {
        assert!(said.contains(part), "{part} is not in:\n{said}");
    }
    assert!(said.contains("plugins.toml:"), "{said}");
}

#[tokio::test]
async fn a_manifest_that_is_missing_is_wrong_usage() {
    let folder = std::env::temp_dir();
    let arguments = ["run", "--config", "nowhere.toml", "--data", "nowhere"];
    let output = Command::new(guests::host_binary()).current_dir(folder).args(arguments).output().expect("berth");
    assert_eq!(output.status.code(), Some(64), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("nowhere.toml"));
}

#[tokio::test]
async fn it_says_where_it_listens_and_what_stands_behind_it() {
    let host = Host::with(Manifest::hello()).start().await;
    let said = host.log().to_lowercase();
    for part in [host.base.as_str(), "sqlite", "in this process", "embedded", "hello", "berth_operator_token"] {
        assert!(said.contains(part), "{part} is not in:\n{said}");
    }
}

#[tokio::test]
async fn health_readiness_and_liveness_answer_without_a_token() {
    let host = Host::with(Manifest::hello()).start().await;
    for path in ["/health", "/ready", "/live", "/api/health", "/"] {
        host.client().get(path).await.done(200);
    }
    let about = host.client().get("/").await.expect(200);
    let routes = about["routes"].as_array().cloned().unwrap_or_default();
    assert!(routes.iter().any(|route| route["path"] == "/api/hello" && route["service"] == "hello"), "{about}");
}

#[tokio::test]
async fn the_first_start_makes_its_secrets_and_only_its_owner_reads_them() {
    let host = Host::with(Manifest::hello())
        .variable("BERTH_MASTER_KEY", "")
        .variable("BERTH_OPERATOR_TOKEN", "")
        .start()
        .await;
    for file in ["master.key", "operator.token"] {
        let metadata = std::fs::metadata(host.data().join(file)).expect(file);
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "{file}");
    }
    let key = std::fs::read_to_string(host.data().join("master.key")).expect("the key");
    assert!(key.trim().len() == 64 && key.trim().chars().all(|letter| letter.is_ascii_hexdigit()));
    let token = std::fs::read_to_string(host.data().join("operator.token")).expect("the token");
    host.client().with_token(token.trim()).get("/api/admin/plugins").await.done(200);
    host.client().with_token(OPERATOR_TOKEN).get("/api/admin/plugins").await.problem(401, "UNAUTHORIZED");
    assert!(!host.log().contains(token.trim()) && !host.log().contains(key.trim()), "a secret reached the log");
}

#[tokio::test]
async fn a_restart_keeps_secrets_accounts_and_sessions() {
    let host = Host::with(Manifest::hello())
        .variable("BERTH_MASTER_KEY", "")
        .variable("BERTH_OPERATOR_TOKEN", "")
        .start()
        .await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let token = std::fs::read_to_string(host.data().join("operator.token")).expect("the token");
    let host = host.restart().await;
    assert_eq!(std::fs::read_to_string(host.data().join("operator.token")).expect("the token"), token);
    host.client().with_token(ada.token()).get("/api/auth/me").await.done(200);
    let _ = host.client().login("ada@example.com").await;
}

#[tokio::test]
async fn it_stops_when_asked_and_ends_well() {
    let host = Host::with(Manifest::hello()).start().await;
    let stopped = host.stop().await;
    assert!(stopped.status.success(), "{:?}\n{}", stopped.status, stopped.log);
}

#[test]
fn the_exit_status_says_what_kind_of_failure_it_was() {
    let berth = |arguments: &[&str]| {
        Command::new(guests::host_binary())
            .args(arguments)
            .env("BERTH_OPERATOR_TOKEN", OPERATOR_TOKEN)
            .output()
            .expect("berth")
    };
    assert_eq!(berth(&["fly"]).status.code(), Some(64));
    assert_eq!(berth(&["deploy", "planning"]).status.code(), Some(64));
    assert_eq!(berth(&["--help"]).status.code(), Some(0));
    let unreachable = berth(&["plugins", "--url", "http://127.0.0.1:9"]);
    assert_eq!(unreachable.status.code(), Some(69), "{}", text(&unreachable.stderr));
    assert_eq!(text(&unreachable.stderr).lines().count(), 1, "{}", text(&unreachable.stderr));
    assert_eq!(berth(&["deploy", "planning", "no-such-file.wasm"]).status.code(), Some(1));
}

#[tokio::test]
async fn a_component_that_is_missing_leaves_the_others_serving() {
    let lost = manifest::Slot::new("lost", "nowhere.wasm".into(), "/api/lost");
    let host = Host::with(Manifest::of([manifest::hello(), lost])).start().await;
    host.client().get("/api/hello").await.done(200);
    host.operator().get("/api/lost").await.problem(503, "SERVICE_UNAVAILABLE");
    let plugins = host.operator().get("/api/admin/plugins").await.expect(200);
    let items = plugins["items"].as_array().cloned().unwrap_or_default();
    let lost = items.iter().find(|plugin| plugin["name"] == "lost").expect("the plugin");
    assert_ne!(lost["state"], "loaded", "{lost}");
    assert!(lost["failure"].as_str().is_some_and(|failure| failure.contains("nowhere.wasm")), "{lost}");
}

#[tokio::test]
async fn a_server_that_will_not_do_is_named_with_its_setting() {
    let mut cases = vec![
        ("BERTH_DATABASE_URL", "postgres://berth@nowhere.invalid/berth".to_owned(), "no address is known"),
        ("BERTH_CACHE_URL", "redis://nowhere.invalid".to_owned(), "no address is known"),
        ("BERTH_QUEUE_URL", "amqp://nowhere.invalid".to_owned(), "no address is known"),
        ("BERTH_DATABASE_URL", "postgres://berth@127.0.0.1:9/berth".to_owned(), "takes no connection"),
    ];
    if let Ok(url) = std::env::var("BERTH_TEST_POSTGRES_URL")
        && let Some((server, _)) = url.rsplit_once('/')
    {
        cases.push(("BERTH_DATABASE_URL", format!("{server}/berth_absent"), "has no database berth_absent"));
    }
    if let Ok(url) = std::env::var("BERTH_TEST_AMQP_URL")
        && let Some((_, place)) = url.rsplit_once('@')
    {
        cases.push((
            "BERTH_QUEUE_URL",
            format!("amqp://guest:wrong@{place}"),
            "refuses the user guest or the password",
        ));
    }
    for (variable, url, sentence) in cases {
        let output = Host::with(Manifest::hello()).variable(variable, &url).run_to_end();
        let said = text(&output.stderr);
        assert!(!output.status.success(), "{url}: {said}");
        let line = said.lines().find(|line| line.contains(variable)).unwrap_or_default();
        assert!(line.contains(sentence), "{url}: {said}");
        assert!(!said.contains("wrong@"), "a password stands in: {said}");
    }
}
