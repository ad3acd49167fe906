//! Commands that look: hosts, plugins, history, routes, queues and signing keys; and their small deeds, `redrive` and `rotate`.

use serde_json::{Value, json};

use super::CommandError;
use super::client::{Client, Target, segment};
use super::output::{self, columns};

/// `sha256`, a sign, and 64 digits.
const SOURCE_DIGEST_CHARS: usize = 6 + 1 + 64;

/// `queues` and `queues redrive`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct QueueArguments {
    #[command(subcommand)]
    command: Option<QueueCommand>,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, clap::Subcommand)]
enum QueueCommand {
    /// Move dead letters back to their queue
    Redrive {
        queue: String,
        #[command(flatten)]
        target: Target,
    },
}

/// `keys` and `keys rotate`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct KeyArguments {
    #[command(subcommand)]
    command: Option<KeyCommand>,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, clap::Subcommand)]
enum KeyCommand {
    /// Sign with a fresh key from now on
    Rotate {
        /// Believe nothing that was signed before: everybody's next request refreshes the token
        #[arg(long)]
        end_earlier: bool,
        #[command(flatten)]
        target: Target,
    },
}

pub(super) async fn plugins(target: Target) -> Result<(), CommandError> {
    let answer = Client::operator(&target)?.get("/api/admin/plugins").await?;
    if target.json {
        output::json(&answer);
        return Ok(());
    }
    let rows: Vec<Value> = items(&answer).iter().map(shortened).collect();
    let columns = columns([
        ("PLUGIN", "name"),
        ("ENTRY", "origin"),
        ("STATE", "state"),
        ("REVISION", "revision"),
        ("VERSION", "version"),
        ("SHA256", "sha256"),
        ("IN FLIGHT", "inFlight"),
        ("TRAPS", "traps"),
        ("PREFIXES", "prefixes"),
    ]);
    output::table(&columns, &rows);
    for row in &rows {
        if let (Some(name), Some(failure)) = (text(row, "name"), text(row, "failure")) {
            output::say(&format!("{name}: {failure}"));
        }
    }
    Ok(())
}

pub(super) async fn hosts(target: Target) -> Result<(), CommandError> {
    let answer = Client::operator(&target)?.get("/api/admin/hosts").await?;
    if target.json {
        output::json(&answer);
        return Ok(());
    }
    let mut rows: Vec<Value> = Vec::new();
    for host in items(&answer) {
        for plugin in host.get("plugins").and_then(Value::as_array).into_iter().flatten() {
            let of_host = |name: &str| host.get(name).cloned().unwrap_or_default();
            let of_plugin = |name: &str| plugin.get(name).cloned().unwrap_or_default();
            rows.push(shortened(&json!({
                "host": of_host("name"), "is": of_host("state"), "seenAt": of_host("seenAt"), "plugin": of_plugin("name"),
                "revision": of_plugin("revision"), "sha256": of_plugin("sha256"), "state": of_plugin("state"),
            })));
        }
    }
    let columns = columns([
        ("HOST", "host"),
        ("IS", "is"),
        ("SEEN", "seenAt"),
        ("PLUGIN", "plugin"),
        ("REVISION", "revision"),
        ("STATE", "state"),
        ("SHA256", "sha256"),
    ]);
    output::table(&columns, &rows);
    Ok(())
}

pub(super) async fn history(plugin: String, target: Target) -> Result<(), CommandError> {
    let path = format!("/api/admin/plugins/{}/history", segment(&plugin));
    let answer = Client::operator(&target)?.get(&path).await?;
    if target.json {
        output::json(&answer);
        return Ok(());
    }
    let rows: Vec<Value> = items(&answer).iter().map(shortened).map(with_short_source).map(mark_current).collect();
    let columns = columns([
        ("", "mark"),
        ("TIME", "createdAt"),
        ("ACTION", "action"),
        ("REVISION", "revision"),
        ("OUTCOME", "outcome"),
        ("VERSION", "version"),
        ("SHA256", "sha256"),
        ("ACTOR", "actor"),
        ("SOURCE", "source"),
        ("REASON", "reason"),
    ]);
    output::table(&columns, &rows);
    Ok(())
}

pub(super) async fn routes(target: Target) -> Result<(), CommandError> {
    let answer = Client::operator(&target)?.get("/api/admin/routes").await?;
    if target.json {
        output::json(&answer);
        return Ok(());
    }
    let columns = columns([("PATH", "path"), ("PLUGIN", "service"), ("STATE", "state"), ("PORT", "port")]);
    output::table(&columns, items(&answer));
    Ok(())
}

pub(super) async fn queues(arguments: QueueArguments) -> Result<(), CommandError> {
    let QueueArguments { command, target } = arguments;
    if let Some(QueueCommand::Redrive { queue, target }) = command {
        return redrive(&queue, &target).await;
    }
    let answer = Client::operator(&target)?.get("/api/admin/queues").await?;
    if target.json {
        output::json(&answer);
        return Ok(());
    }
    let columns =
        columns([("QUEUE", "name"), ("DEPTH", "depth"), ("CONSUMERS", "consumers"), ("DEAD LETTERS", "deadLetters")]);
    output::table(&columns, items(&answer));
    Ok(())
}

pub(super) async fn keys(arguments: KeyArguments) -> Result<(), CommandError> {
    let KeyArguments { command, target } = arguments;
    let (answer, target) = match command {
        Some(KeyCommand::Rotate { end_earlier, target }) => {
            let body = json!({ "endEarlier": end_earlier });
            (Client::operator(&target)?.post("/api/admin/signing-keys/rotate", &body).await?, target)
        }
        None => (Client::operator(&target)?.get("/api/admin/signing-keys").await?, target),
    };
    if target.json {
        output::json(&answer);
        return Ok(());
    }
    let rows: Vec<Value> = items(&answer).iter().cloned().map(mark_current).collect();
    output::table(&columns([("", "mark"), ("KEY", "id"), ("SIGNS FROM", "signsFrom"), ("UNTIL", "nextFrom")]), &rows);
    Ok(())
}

async fn redrive(queue: &str, target: &Target) -> Result<(), CommandError> {
    let path = format!("/api/admin/queues/{}/redrive", segment(queue));
    let answer = Client::operator(target)?.post(&path, &json!({})).await?;
    if target.json {
        output::json(&answer);
    } else {
        let moved = answer.get("redriven").and_then(Value::as_u64);
        output::say(
            &moved.map_or_else(|| "moved".to_owned(), |moved| format!("moved {moved} messages back to {queue}")),
        );
    }
    Ok(())
}

/// The rows of a list, enveloped or bare.
pub(super) fn items(answer: &Value) -> &[Value] {
    answer.get("items").unwrap_or(answer).as_array().map_or(&[], Vec::as_slice)
}

pub(super) fn text<'a>(row: &'a Value, member: &str) -> Option<&'a str> {
    row.get(member).and_then(Value::as_str)
}

/// Enough of a digest to tell builds apart.
pub(super) fn short_digest(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

fn shortened(row: &Value) -> Value {
    let mut row = row.clone();
    let short = text(&row, "sha256").map(|digest| short_digest(digest).to_owned());
    if let (Some(short), Some(members)) = (short, row.as_object_mut()) {
        members.insert("sha256".to_owned(), Value::String(short));
    }
    row
}

/// A source as it fits a table: digests short, and of what is too long its end, where tag and digest stand.
fn with_short_source(mut row: Value) -> Value {
    let short = text(&row, "source").map(|source| {
        let digest = source.rfind("sha256").filter(|at| source.len() - at == SOURCE_DIGEST_CHARS);
        let parts = digest.and_then(|at| source.split_at_checked(at + SOURCE_DIGEST_CHARS - 64));
        let (name, digest) = parts.unwrap_or((source, ""));
        output::end_of(&format!("{name}{}", short_digest(digest)))
    });
    if let (Some(short), Some(members)) = (short, row.as_object_mut()) {
        members.insert("source".to_owned(), Value::String(short));
    }
    row
}

fn mark_current(mut row: Value) -> Value {
    let is_current = row.get("isCurrent").and_then(Value::as_bool).unwrap_or_default();
    if let Some(members) = row.as_object_mut() {
        members.insert("mark".to_owned(), Value::from(if is_current { "*" } else { " " }));
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_enveloped_or_bare() {
        assert_eq!(items(&json!({"items": [1, 2], "total": 2})).len(), 2);
        assert_eq!(items(&json!([1])).len(), 1);
        assert!(items(&json!({"x": 1})).is_empty());
        assert_eq!(short_digest("0123456789abcdef"), "0123456789ab");
    }

    #[test]
    fn a_source_fits_a_table() {
        let digits = "0123456789abcdef".repeat(4);
        let short = |source: &str| with_short_source(json!({ "source": source }))["source"].clone();
        for (source, expected) in [
            (format!("oci://ghcr.io/a/b:1@sha256:{digits}"), "oci://ghcr.io/a/b:1@sha256:0123456789ab".to_owned()),
            (format!("https://a.example/b#sha256={digits}"), "https://a.example/b#sha256=0123456789ab".to_owned()),
            ("target/sha256.wasm".to_owned(), "target/sha256.wasm".to_owned()),
            (
                format!("oci://ghcr.io/{}:1@sha256:{digits}", "a".repeat(80)),
                format!("…{}:1@sha256:0123456789ab", "a".repeat(37)),
            ),
        ] {
            assert_eq!(short(&source), expected);
        }
        assert_eq!(with_short_source(json!({ "source": null })), json!({ "source": null }));
    }
}
