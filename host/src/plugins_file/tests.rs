//! Claims about the manifest: every fault is found, at its line, at once.

use std::path::Path;
use std::time::Duration;

use super::*;

fn parse(text: &str) -> Result<Manifest, Vec<String>> {
    parse_with(text, &[])
}

fn file(text: &str) -> Result<Arc<ManifestFile>, Vec<Fault>> {
    ManifestFile::new("plugins.toml", Path::new("/base"), text.to_owned()).map(Arc::new)
}

/// With entries that lie over the file.
fn parse_with(text: &str, laid: &[Laid]) -> Result<Manifest, Vec<String>> {
    file(text)
        .and_then(|file| Manifest::judge(&file, laid))
        .map_err(|faults| faults.iter().map(ToString::to_string).collect())
}

fn laid(plugin: &str, entry: Option<&str>) -> Laid {
    Laid { plugin: plugin.to_owned(), entry: entry.map(str::to_owned) }
}

fn faults(text: &str) -> Vec<String> {
    parse(text).expect_err("a fault")
}

/// The only fault, which must be at `line` and contain `part`.
fn only_fault(text: &str, line: usize, part: &str) {
    let found = faults(text);
    assert_eq!(found.len(), 1, "{found:#?}");
    let first = found.first().expect("one");
    assert!(first.starts_with(&format!("plugins.toml:{line}: ")) && first.contains(part), "{first}");
}

const HELLO: &str = "[[plugin]]\nname = \"hello\"\ncomponent = \"hello.wasm\"\nroutes = [\"/api/hello\"]\n";

#[test]
fn the_example_of_the_specification_is_read() {
    let manifest = parse(
        r#"
[host]
direct_ports = true
[[plugin]]
name = "planning"
component = "target/plugins/planning.wasm"
routes = ["/api/plans", "/api/projects"]
port = 3007
public = ["GET /api/plans/shared/:token"]
isolation = "plugin"
[plugin.grant]
tables = ["plan_", "project_"]
cache = true
publish = ["planning.#"]
consume = ["execution.#"]
call = ["execution-service"]
outbound = ["*.example.com:8443"]
outbound_private = ["10.0.0.0/8"]
serve_as_members = ["plans.plan.read"]
[plugin.timers]
due = "15m"
[plugin.limits]
memory_mib = 128
request_timeout_ms = 1000
[plugin.rate_limits]
"/api/plans" = 60
[plugin.config]
auto_approve = "false"
[[plugin]]
name = "execution-service"
component = "/abs/e.wasm"
routes = ["/api/executions"]
"#,
    )
    .expect("a manifest");
    assert!(manifest.host.direct_ports);
    let planning = manifest.plugin("planning").expect("planning");
    assert_eq!(planning.component.as_deref(), Some(Path::new("/base/target/plugins/planning.wasm")));
    assert_eq!(planning.origin, EntryOrigin::File);
    assert_eq!(planning.plugin.grant.call, ["execution-service"]);
    assert_eq!(planning.plugin.grant.serve_as_members, ["plans.plan.read"]);
    assert_eq!(planning.plugin.limits.memory_mib, 128);
    assert_eq!(planning.plugin.limits.request_timeout, Duration::from_secs(1));
    assert_eq!(planning.plugin.config.get("auto_approve").map(String::as_str), Some("false"));
    assert_eq!(planning.timers, [TimerEntry { name: "due".into(), schedule: "15m".into() }]);
    assert_eq!(planning.rate_limits, [RouteLimit { prefix: "/api/plans".into(), per_minute: 60 }]);
    assert_eq!((planning.isolation, planning.port), (Isolation::Plugin, Some(3007)));
    assert_eq!(planning.public.first().map(|route| route.path.as_str()), Some("/api/plans/shared/{token}"));
    let execution = manifest.plugin("execution-service").expect("execution-service");
    assert_eq!(
        (execution.component.as_deref(), execution.isolation),
        (Some(Path::new("/abs/e.wasm")), Isolation::Organization)
    );
}

#[test]
fn an_empty_manifest_has_no_plugins() {
    assert!(parse("").expect("a manifest").plugins.is_empty());
}

#[test]
fn unknown_keys_name_the_nearest_known_one() {
    only_fault(&format!("{HELLO}isolaton = \"plugin\"\n"), 5, "did you mean isolation?");
    only_fault(&format!("{HELLO}[plugin.grant]\ntable = [\"x_\"]\n"), 6, "did you mean tables?");
    only_fault(&format!("{HELLO}[plugin.limits]\nmemory = 5\n"), 6, "did you mean memory_mib?");
    only_fault("[hots]\ndirect_ports = true\n", 1, "did you mean host?");
    only_fault(&format!("{HELLO}colour = 1\n"), 5, "known are name, component");
}

#[test]
fn wrong_types_and_ranges_are_refused() {
    only_fault(&format!("{HELLO}port = \"3007\"\n"), 5, "port must be a whole number, not a string");
    only_fault(&format!("{HELLO}port = 70000\n"), 5, "from 1 to 65535");
    only_fault(&format!("{HELLO}[plugin.limits]\nmemory_mib = 0\n"), 6, "from 1 to 4096, not 0");
    only_fault(&format!("{HELLO}[plugin.limits]\nmemory_mib = -3\n"), 6, "not -3");
    only_fault(&format!("{HELLO}[plugin.grant]\ncache = \"yes\"\n"), 6, "true or false, not a string");
    only_fault(&format!("{HELLO}[plugin.grant]\npublish = [\n 1]\n"), 7, "strings only");
    only_fault(&format!("{HELLO}[plugin.config]\nlimit = 5\n"), 6, "in quotes");
    only_fault(&format!("{HELLO}[plugin.grant]\nserve_as_members = [\"plans.*\"]\n"), 6, "without wildcards");
    only_fault(&format!("{HELLO}grant = 5\n"), 5, "must be a table");
    only_fault("plugin = 5\n", 1, "[[plugin]]");
    only_fault(&format!("{HELLO}isolation = \"plugins\"\n"), 5, "did you mean plugin?");
    only_fault(&format!("{HELLO}[plugin.timers]\ndue = \"often\"\n"), 6, "is no schedule");
}

#[test]
fn what_is_missing_is_said_at_the_plugins_line() {
    let found = faults("\n\n[[plugin]]\nport = 1\n");
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(found.iter().all(|fault| fault.starts_with("plugins.toml:3: ")), "{found:#?}");
}

fn two(first: &str, second: &str) -> String {
    format!(
        "[[plugin]]\nname = \"one\"\ncomponent = \"a\"\nroutes = [\"/api/one\"]\n{first}\n[[plugin]]\nname = \"two\"\ncomponent = \"b\"\nroutes = [\"/api/two\"]\n{second}\n"
    )
}

#[test]
fn plugins_may_not_claim_the_same() {
    only_fault(&two("port = 5", "port = 5"), 10, "port 5 is taken by one");
    only_fault(
        &two("grant = { tables = [\"plan_\"] }", "grant = { tables = [\"plan_item_\"] }"),
        10,
        "overlaps plan_ of one in line 5",
    );
    only_fault(&two("", "").replace("/api/two", "/api/one/two"), 9, "overlaps /api/one of one in line 4");
    only_fault(&two("", "").replace("\"two\"", "\"one\""), 7, "taken in line 2");
    assert!(parse(&two("", "").replace("/api/two", "/api/onetwo")).is_ok());
}

#[test]
fn the_hosts_own_names_are_refused() {
    only_fault(&HELLO.replace("/api/hello", "/api/auth/x"), 4, "overlaps /api/auth");
    only_fault(&HELLO.replace("/api/hello", "/api"), 4, "which the host answers itself");
    only_fault(&HELLO.replace("\"hello\"", "\"host\""), 2, "reserved");
    for prefix in ["berth_", "berth_x_", "team_", "role_", "sqlite_", "pg_", "cte__", "cte__x_"] {
        only_fault(&format!("{HELLO}[plugin.grant]\ntables = [\"{prefix}\"]\n"), 6, "reserved for the host");
    }
    for pattern in ["#", "user.#", "host.plugin.deployed", "*.x"] {
        only_fault(&format!("{HELLO}[plugin.grant]\npublish = [\"{pattern}\"]\n"), 6, "the host's own events");
    }
    assert!(parse(&HELLO.replace("/api/hello", "/api/audit-logs")).is_ok());
}

#[test]
fn a_call_to_a_plugin_that_does_not_exist_is_refused() {
    only_fault(
        &two("grant = { call = [\"tow\", \"*\"] }", "")
            .replace("\"two\"", "\"two-service\"")
            .replace("tow", "two-servic"),
        5,
        "did you mean two-service?",
    );
    only_fault(&two("grant = { call = [\"nobody\"] }", ""), 5, "no such plugin");
    assert!(parse(&two("grant = { call = [\"host\"] }", "")).is_ok(), "the main app can be asked");
}

#[test]
fn all_faults_are_reported_at_once_in_order() {
    let text = two(
        "port = 0\nisolaton = \"x\"",
        "[plugin.grant]\ntables = [\"berth_\", \"Plan\"]\ncall = [\"x\"]\noutbound = [\"http://x\"]\n[plugin.timers]\nx = \"1w\"",
    );
    let found = faults(&text);
    assert_eq!(found.len(), 7, "{found:#?}");
    let lines: Vec<usize> = found.iter().filter_map(|fault| fault.split(':').nth(1)?.parse().ok()).collect();
    assert!(lines.is_sorted(), "{lines:?}");
}

#[test]
fn a_public_route_lies_below_the_plugins_routes() {
    only_fault(&format!("{HELLO}public = [\"/api/other\"]\n"), 5, "not below");
    only_fault(&format!("{HELLO}public = [\"LOOK /api/hello\"]\n"), 5, "not a public route");
}

#[test]
fn trusted_keys_are_public_keys() {
    let key = crate::signature::Signer::generate().public_key();
    let manifest = parse(&format!("[host]\ntrusted_keys = [\"{key}\"]\n")).expect("a manifest");
    assert_eq!(manifest.host.trusted_keys.len(), 1);
    only_fault("[host]\ntrusted_keys = [\n\"AAAA\"]\n", 3, "32 bytes in base64");
}

#[test]
fn what_is_not_toml_names_its_line() {
    only_fault("[host]\ndirect_ports = \n", 2, "is not TOML");
    only_fault("[host\n", 1, "is not TOML");
}

#[test]
fn an_entry_that_lies_over_the_file_counts_in_its_place() {
    let added = laid("second", Some("routes = [\"/api/second\"]\n[grant]\ncache = true\n"));
    let changed = laid("hello", Some("[[plugin]]\nroutes = [\"/api/hi\"]\n[plugin.limits]\nmemory_mib = 9\n"));
    let manifest = parse_with(HELLO, &[added.clone(), changed]).expect("a manifest");
    let second = manifest.plugin("second").expect("second");
    assert!(second.plugin.grant.cache && second.origin == EntryOrigin::Added && second.component.is_none());
    let hello = manifest.plugin("hello").expect("hello");
    assert_eq!((hello.origin, hello.routes.as_slice()), (EntryOrigin::Changed, ["/api/hi".to_owned()].as_slice()));
    assert_eq!(hello.plugin.limits.memory_mib, 9);
    let without = parse_with(HELLO, &[added, laid("hello", None)]).expect("a manifest");
    assert!(without.plugin("hello").is_none() && without.plugin("second").is_some());
}

#[test]
fn an_entry_over_the_file_is_judged_with_it_as_if_it_stood_there() {
    let faults = |entry: &str| parse_with(HELLO, &[laid("second", Some(entry))]).expect_err("a fault");
    let found = faults("routes = [\"/api/hello/x\"]\ncolour = 1\n\n[grant]\ntable = [\"x_\"]\ncall = [\"nobody\"]\n");
    assert_eq!(
        found,
        [
            "entry of second:1: route /api/hello/x overlaps /api/hello of hello in line 4 of plugins.toml",
            "entry of second:2: [[plugin]] has no key colour; known are name, component, routes, port, public, \
             isolation, grant, timers, limits, rate_limits, config",
            "entry of second:5: [plugin.grant] has no key table; did you mean tables?",
            "entry of second:6: call names nobody, but there is no such plugin",
        ]
    );
    assert!(faults("cache = [").concat().starts_with("entry of second:1: is not TOML"));
    assert!(faults("name = \"third\"\nroutes = []").concat().contains("is for second, but names third"));
    assert!(faults("[[plugin]]\n[[plugin]]\n").concat().contains("one [[plugin]] and nothing else"));
    assert!(faults("").concat().contains("needs routes"));
    // Whoever was removed cannot be called.
    let calls = two("grant = { call = [\"two\"] }", "");
    let found = parse_with(&calls, &[laid("two", None)]).expect_err("a fault");
    assert!(found.concat().contains("plugins.toml:5: call names two"), "{found:?}");
}

#[test]
fn what_is_taken_is_told_apart_from_what_is_wrong() {
    let kinds = |entry: &str| {
        let file = file(HELLO).expect("TOML");
        let faults = Manifest::judge(&file, &[laid("second", Some(entry))]).expect_err("a fault");
        faults.iter().map(|fault| fault.kind).collect::<Vec<_>>()
    };
    assert_eq!(kinds("routes = [\"/api/hello\"]"), [FaultKind::Taken]);
    assert_eq!(kinds("routes = [\"/api/auth\"]\nport = 0"), [FaultKind::Taken, FaultKind::Wrong]);
}

#[test]
fn an_entry_has_one_form_whatever_its_layout_was() {
    let layouts = [
        "[[plugin]]\nroutes = [\"/a\", # the first\n \"/b\"]\nname = 'x'\n[plugin.grant]\ncache = true\ntables = [\"x_\"]\n",
        "grant = { tables = [\"x_\"], cache = true }\nroutes = [\"/a\", \"/b\"]\n",
        "grant.cache = true\ngrant.tables = [\"x_\"]\nroutes = [\"\\u002fa\", \"/b\"]\n",
    ];
    let wanted = "grant = { cache = true, tables = [\"x_\"] }\nname = \"x\"\nroutes = [\"/a\", \"/b\"]\n";
    for layout in layouts {
        assert_eq!(plain("x", layout, true).expect("an entry"), wanted, "{layout}");
    }
    let with_component = format!("component = \"x.wasm\"\n{wanted}");
    assert_eq!(plain("x", &with_component, true).expect("an entry"), with_component);
    assert_eq!(plain("x", &with_component, false).expect("an entry"), wanted, "no file is a newer build");
    let file = file(layouts[0]).expect("TOML");
    assert_eq!(file.entry("x"), Some(wanted));
    assert_eq!(
        merged("x", wanted, "grant.cache = false\ngrant.mail = true\nroutes = [\"/c\"]\n[limits]\nbody_mib = 2")
            .expect("an entry"),
        "grant = { cache = false, mail = true, tables = [\"x_\"] }\nlimits = { body_mib = 2 }\nname = \"x\"\nroutes = [\"/c\"]\n"
    );
}

#[test]
fn the_manifest_at_the_root_has_no_fault() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins.toml");
    let manifest = Manifest::load(&root).expect("a manifest without fault");
    assert!(manifest.plugin("planning").is_some() && manifest.plugin("execution-service").is_some());
}
