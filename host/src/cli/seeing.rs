//! Commands that see how a running host fares: `status`, `logs`, `events` and `grants`.

use serde_json::{Value, json};

use super::CommandError;
use super::client::{Client, Target, segment};
use super::event_stream::{self, ServerEvent};
use super::inspect::{items, text};
use super::output::{self, columns, plain};

/// `status [plugin]`.
#[derive(Debug, clap::Args)]
pub(super) struct StatusArguments {
    /// This plugin only
    plugin: Option<String>,
    #[command(flatten)]
    target: Target,
}

/// `grants [plugin]`.
#[derive(Debug, clap::Args)]
pub(super) struct GrantArguments {
    /// This plugin only
    plugin: Option<String>,
    #[command(flatten)]
    target: Target,
}

/// `logs <plugin>`.
#[derive(Debug, clap::Args)]
pub(super) struct LogArguments {
    /// The plugin; `host` for what the host says of none
    plugin: String,
    /// Only lines of this weight or more
    #[arg(long, value_parser = ["debug", "info", "warn", "error"])]
    level: Option<String>,
    #[command(flatten)]
    tail: TailArguments,
}

/// `events [plugin]`.
#[derive(Debug, clap::Args)]
pub(super) struct EventArguments {
    /// About this plugin only
    plugin: Option<String>,
    #[command(flatten)]
    tail: TailArguments,
}

#[derive(Debug, clap::Args)]
struct TailArguments {
    /// Go on with what comes; with --json, one object a line
    #[arg(short, long)]
    follow: bool,
    /// The newest so many
    #[arg(short = 'n', long = "lines", value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u16).range(0..=1000))]
    lines: u16,
    #[command(flatten)]
    target: Target,
}

pub(super) async fn status(arguments: StatusArguments) -> Result<(), CommandError> {
    let StatusArguments { plugin, target } = arguments;
    let path = plugin.map_or_else(String::new, |plugin| format!("?plugin={}", segment(&plugin)));
    let answer = Client::operator(&target)?.get(&format!("/api/admin/status{path}")).await?;
    if target.json {
        output::json(&answer);
        return Ok(());
    }
    if let Some(host) = answer.get("host") {
        output::say(&host_line(host));
    }
    let rows: Vec<Value> = items(&answer).iter().map(status_row).collect();
    let columns = columns([
        ("PLUGIN", "plugin"),
        ("REVISION", "revision"),
        ("IS", "is"),
        ("IN FLIGHT", "inFlight"),
        ("REQ/S", "rate"),
        ("P50", "p50"),
        ("P99", "p99"),
        ("REQUESTS", "requests"),
        ("FAILED", "failures"),
        ("TRAPS", "traps"),
        ("CPU", "cpu"),
        ("MEMORY", "memory"),
        ("WARM", "warm"),
        ("QUEUE", "queue"),
        ("LAG", "lag"),
    ]);
    output::table(&columns, &rows);
    for row in items(&answer) {
        let name = text(row, "plugin").unwrap_or_default();
        if let Some(failure) = text(row, "failure") {
            output::say(&plain(&format!("{name}: {failure}")));
        }
        if let Some(trap) = text(row, "lastTrap") {
            output::say(&plain(&format!("{name}: the last trap: {trap}")));
        }
    }
    Ok(())
}

pub(super) async fn grants(arguments: GrantArguments) -> Result<(), CommandError> {
    let GrantArguments { plugin, target } = arguments;
    let path = match plugin {
        Some(plugin) => format!("/api/admin/plugins/{}/grants", segment(&plugin)),
        None => "/api/admin/grants".to_owned(),
    };
    let answer = Client::operator(&target)?.get(&path).await?;
    if target.json {
        output::json(&answer);
        return Ok(());
    }
    let all = if answer.get("items").is_some() { items(&answer) } else { std::slice::from_ref(&answer) };
    for line in all.iter().flat_map(grant_lines) {
        output::say(&plain(&line));
    }
    Ok(())
}

pub(super) async fn logs(arguments: LogArguments) -> Result<(), CommandError> {
    let LogArguments { plugin, level, tail } = arguments;
    let level = level.map_or_else(String::new, |level| format!("&level={level}"));
    let path = format!("/api/admin/plugins/{}/logs?limit={}{level}", segment(&plugin), tail.lines);
    tell(&tail, &path, log_line).await
}

pub(super) async fn events(arguments: EventArguments) -> Result<(), CommandError> {
    let EventArguments { plugin, tail } = arguments;
    let about = plugin.map_or_else(String::new, |plugin| format!("&plugin={}", segment(&plugin)));
    tell(&tail, &format!("/api/admin/events?limit={}{about}", tail.lines), event_line).await
}

/// Shows what there is, or what there is and what comes.
async fn tell(tail: &TailArguments, path: &str, line: fn(&Value) -> String) -> Result<(), CommandError> {
    let client = Client::operator(&tail.target)?;
    if tail.follow {
        return event_stream::follow(&client, path, |event| show(event, tail.target.json, line)).await;
    }
    let answer = client.get(path).await?;
    if tail.target.json {
        output::json(&answer);
    } else {
        items(&answer).iter().for_each(|item| output::say(&line(item)));
    }
    Ok(())
}

/// Shows one event; false when nobody reads any more.
fn show(event: &ServerEvent, is_json: bool, line: fn(&Value) -> String) -> bool {
    let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
    if event.kind == "missed" {
        let lines = data.get("lines").and_then(Value::as_u64);
        output::complain(&match lines {
            Some(lines) => format!("{lines} lines came too fast and are not shown"),
            None => "some lines are gone and are not shown".to_owned(),
        });
        return true;
    }
    output::say_to_reader(&if is_json { data.to_string() } else { line(&data) })
}

fn host_line(host: &Value) -> String {
    let number = |member: &str| host.get(member).and_then(Value::as_u64).unwrap_or_default();
    let memory = host.get("residentBytes").and_then(Value::as_u64);
    let mut line = format!(
        "Berth {}, up {}, {} requests in flight, {} turned away, {} over their limit",
        text(host, "version").unwrap_or("?"),
        duration(number("uptimeSeconds") * 1_000),
        number("inFlight"),
        number("turnedAway"),
        number("rateLimited"),
    );
    if let Some(memory) = memory {
        line.push_str(&format!(", {} resident", bytes(memory)));
    }
    plain(&line)
}

fn status_row(build: &Value) -> Value {
    let member = |name: &str| build.get(name).cloned().unwrap_or_default();
    let number = |name: &str| build.get(name).and_then(Value::as_u64);
    let queue = |name: &str| build.get("queue").and_then(|queue| queue.get(name));
    let has_build = build.get("revision").is_some_and(Value::is_number);
    json!({
        "plugin": member("plugin"),
        "revision": member("revision"),
        "is": text(build, "role").or_else(|| text(build, "state")),
        "inFlight": member("inFlight"),
        "rate": build.get("rate").and_then(Value::as_f64).map(|rate| format!("{rate:.1}")),
        "p50": number("p50Us").map(time),
        "p99": number("p99Us").map(time),
        "requests": member("requests"),
        "failures": member("failures"),
        "traps": member("traps"),
        "cpu": build.get("cpuShare").and_then(Value::as_f64).filter(|_| has_build).map(share),
        "memory": number("memoryBytes").filter(|_| has_build).map(bytes),
        "warm": member("warm"),
        "queue": queue("depth"),
        "lag": queue("lagMs").and_then(Value::as_u64).map(duration),
    })
}

fn grant_lines(grants: &Value) -> Vec<String> {
    let texts = |member: &str| {
        let values = grants.get(member).and_then(Value::as_array).into_iter().flatten();
        values.filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
    };
    let mut lines = vec![text(grants, "plugin").unwrap_or("?").to_owned()];
    lines.extend(texts("may").iter().map(|right| format!("  may {right}")));
    lines.extend(texts("limits").iter().map(|limit| format!("  has {limit}")));
    let settings = texts("settings");
    if !settings.is_empty() {
        lines.push(format!("  has the settings {}", settings.join(", ")));
    }
    lines
}

/// `2026-01-31T08:15:00.000Z warn  host   a guest trapped  trap=unreachable  (request r1, revision 3)`
fn log_line(line: &Value) -> String {
    let mut said = format!(
        "{} {:<5} {:<5} {}",
        text(line, "time").unwrap_or("-"),
        text(line, "level").unwrap_or("-"),
        text(line, "source").unwrap_or("-"),
        text(line, "message").unwrap_or_default(),
    );
    for (name, value) in line.get("fields").and_then(Value::as_object).into_iter().flatten() {
        said.push_str(&format!("  {name}={}", value.as_str().unwrap_or_default()));
    }
    let about = [("request", "requestId"), ("revision", "revision"), ("organization", "organizationId")];
    let about = about.iter().filter_map(|(word, member)| Some(format!("{word} {}", text(line, member)?)));
    let about = about.collect::<Vec<_>>();
    if !about.is_empty() {
        said.push_str(&format!("  ({})", about.join(", ")));
    }
    plain(&said)
}

/// `2026-01-31T08:15:00.000Z deployed       hello  revision 2 in place of 1, by operator`
fn event_line(event: &Value) -> String {
    let kind = text(event, "type").unwrap_or("-");
    let kind = kind.strip_prefix("host.plugin.").unwrap_or(kind).replace('_', " ");
    let null = Value::Null;
    let data = event.get("data").unwrap_or(&null);
    let number = |member: &str| data.get(member).and_then(Value::as_i64);
    let mut parts = Vec::new();
    match (number("revision"), number("previousRevision")) {
        (Some(revision), Some(previous)) if revision != previous => {
            parts.push(format!("revision {revision} in place of {previous}"));
        }
        (Some(revision), _) => parts.push(format!("revision {revision}")),
        _ => {}
    }
    if let Some(action) = text(data, "action").filter(|action| !matches!(*action, "deploy" | "rollback")) {
        parts.push(action.to_owned());
    }
    if let Some(actor) = text(data, "actor") {
        parts.push(format!("by {actor}"));
    }
    if let Some(reason) = text(data, "reason") {
        parts.push(reason.to_owned());
    }
    let time = text(event, "time").unwrap_or("-");
    plain(&format!("{time} {kind:<14} {:<22} {}", text(data, "plugin").unwrap_or("-"), parts.join(", ")))
}

/// Microseconds for people.
fn time(microseconds: u64) -> String {
    match microseconds {
        0..1_000 => format!("{microseconds} µs"),
        1_000..1_000_000 => format!("{:.1} ms", microseconds as f64 / 1e3),
        _ => format!("{:.1} s", microseconds as f64 / 1e6),
    }
}

/// Milliseconds for people.
fn duration(milliseconds: u64) -> String {
    let seconds = milliseconds / 1_000;
    match seconds {
        0 => format!("{milliseconds} ms"),
        1..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// A share of one processor for people: above 100 % where several are busy.
fn share(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn bytes(bytes: u64) -> String {
    const MEBIBYTE: f64 = 1_048_576.0;
    format!("{:.1} MiB", bytes as f64 / MEBIBYTE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_who_said_what_and_cannot_move_the_cursor() {
        let line = json!({"time": "2026-01-31T08:15:00.000Z", "level": "warn", "source": "host", "message": "a guest\u{1b}[2J trapped",
            "fields": {"trap": "unreachable"}, "requestId": "r1", "revision": null});
        assert_eq!(
            log_line(&line),
            "2026-01-31T08:15:00.000Z warn  host  a guest [2J trapped  trap=unreachable  (request r1)"
        );
    }

    #[test]
    fn an_event_is_one_line() {
        let event = json!({"type": "host.plugin.rolled_back", "time": "2026-01-31T08:15:00.000Z", "data": {"plugin": "hello",
            "action": "rollback", "revision": 1, "previousRevision": 2, "actor": "host", "reason": "3 of 5 requests failed"}});
        let line = event_line(&event);
        assert!(line.starts_with("2026-01-31T08:15:00.000Z rolled back"), "{line}");
        assert!(line.ends_with("revision 1 in place of 2, by host, 3 of 5 requests failed"), "{line}");
    }

    #[test]
    fn figures_have_units() {
        assert_eq!((time(12), time(1_250), time(2_000_000)), ("12 µs".into(), "1.2 ms".into(), "2.0 s".into()));
        assert_eq!(
            (duration(999), duration(61_000), duration(90_000_000)),
            ("999 ms".into(), "1 min".into(), "1 d 1 h".into())
        );
        let row = status_row(
            &json!({"plugin": "hello", "state": "missing", "revision": null, "rate": 0.0, "memoryBytes": 0}),
        );
        assert_eq!((&row["is"], &row["rate"], &row["memory"]), (&json!("missing"), &json!("0.0"), &Value::Null));
        let row = status_row(
            &json!({"role": "current", "revision": 2, "memoryBytes": 3_145_728, "cpuShare": 1.254, "queue": {"depth": 4, "lagMs": 1_500}}),
        );
        assert_eq!((&row["memory"], &row["queue"], &row["lag"]), (&json!("3.0 MiB"), &json!(4), &json!("1 s")));
        assert_eq!(row["cpu"], "125.4 %");
    }

    #[test]
    fn grants_are_read_as_sentences() {
        let grants = json!({"plugin": "hello", "may": ["answer requests below /api/hello"], "limits": ["64 MiB"], "settings": ["a"]});
        assert_eq!(
            grant_lines(&grants),
            ["hello", "  may answer requests below /api/hello", "  has 64 MiB", "  has the settings a"]
        );
    }
}
