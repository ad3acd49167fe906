//! `berth capsules` lists the failed calls that a host has kept, shows and removes them.

use serde_json::{Value, json};

use super::CommandError;
use super::client::{Client, Target, segment};
use super::inspect::{items, short_digest, text};
use super::output::{self, columns};

/// `capsules [plugin]`, `capsules show` and `capsules remove`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct CapsuleArguments {
    #[command(subcommand)]
    command: Option<CapsuleCommand>,
    /// Of this plugin only
    plugin: Option<String>,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, clap::Subcommand)]
enum CapsuleCommand {
    /// A capsule, whole, as JSON: for a file that `berth replay` reads
    Show {
        id: String,
        #[command(flatten)]
        target: Target,
    },
    /// Remove a capsule
    Remove {
        id: String,
        #[command(flatten)]
        target: Target,
    },
}

/// The address of a capsule.
pub(super) fn address(id: &str) -> String {
    format!("/api/admin/capsules/{}", segment(id))
}

pub(super) async fn capsules(arguments: CapsuleArguments) -> Result<(), CommandError> {
    let CapsuleArguments { command, plugin, target } = arguments;
    match command {
        None => list(plugin, target).await,
        Some(CapsuleCommand::Show { id, target }) => {
            output::json(&Client::operator(&target)?.get(&address(&id)).await?);
            Ok(())
        }
        Some(CapsuleCommand::Remove { id, target }) => {
            let answer = Client::operator(&target)?.exchange(reqwest::Method::DELETE, &address(&id), None).await?;
            if !answer.status.is_success() {
                return Err(answer.refusal());
            }
            match target.json {
                true => output::json(&json!({ "removed": id })),
                false => output::say(&format!("removed {id}")),
            }
            Ok(())
        }
    }
}

async fn list(plugin: Option<String>, target: Target) -> Result<(), CommandError> {
    let about = plugin.map_or_else(String::new, |plugin| format!("?plugin={}", segment(&plugin)));
    let answer = Client::operator(&target)?.get(&format!("/api/admin/capsules{about}")).await?;
    if target.json {
        output::json(&answer);
        return Ok(());
    }
    let rows: Vec<Value> = items(&answer).iter().map(row).collect();
    let columns = columns([
        ("CAPSULE", "id"),
        ("TIME", "at"),
        ("PLUGIN", "plugin"),
        ("REVISION", "revision"),
        ("SHA256", "sha256"),
        ("CALL", "what"),
        ("ENDED", "ended"),
        ("HOST CALLS", "hostCalls"),
    ]);
    output::table(&columns, &rows);
    Ok(())
}

fn row(capsule: &Value) -> Value {
    let mut row = capsule.clone();
    let short = text(&row, "sha256").map(|digest| short_digest(digest).to_owned());
    let ended = row.get("failure").map(ended);
    if let Some(members) = row.as_object_mut() {
        members.insert("sha256".to_owned(), short.map_or(Value::Null, Value::String));
        members.insert("ended".to_owned(), ended.map_or(Value::Null, Value::String));
    }
    row
}

/// How a kept call ended, in words.
pub(super) fn ended(failure: &Value) -> String {
    match (text(failure, "kind"), text(failure, "text"), failure.get("status").and_then(Value::as_u64)) {
        (Some("trap"), Some(line), _) => format!("trapped: {line}"),
        (Some("memory"), ..) => "ran out of memory".to_owned(),
        (Some("timeout"), ..) => "ran out of time".to_owned(),
        (Some("status"), _, Some(status)) => format!("answered {status}"),
        _ => "failed".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_failure_is_told_in_words() {
        for (failure, words) in [
            (json!({"kind": "trap", "text": "unreachable"}), "trapped: unreachable"),
            (json!({"kind": "memory"}), "ran out of memory"),
            (json!({"kind": "timeout"}), "ran out of time"),
            (json!({"kind": "status", "status": 503}), "answered 503"),
            (json!({}), "failed"),
        ] {
            assert_eq!(ended(&failure), words);
        }
    }
}
