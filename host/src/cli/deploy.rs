//! `deploy` and `rollback`: send the build, then wait until the old one has drained.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::CommandError;
use super::client::{Client, Target, segment};
use super::inspect::{items, short_digest, text};
use super::source::SourceArguments;
use super::{changes, output};

/// An old build may drain for ten minutes at most.
const DRAIN_PATIENCE: Duration = Duration::from_secs(630);
const DRAIN_POLL: Duration = Duration::from_millis(200);

#[derive(Debug, clap::Args)]
pub(super) struct DeployArguments {
    plugin: String,
    #[command(flatten)]
    source: SourceArguments,
    /// Give it this share of the callers first, and by steps more: 10% or 5%,25%,100%
    #[arg(long, value_name = "SHARES", conflicts_with = "shadow")]
    canary: Option<String>,
    /// How long each share of a canary lasts [default: 2m]
    #[arg(long, value_name = "TIME", requires = "canary")]
    every: Option<String>,
    /// Send it copies of safe requests only, and compare the answers
    #[arg(long)]
    shadow: bool,
    /// How long to compare it with the build before it, and go back when it is worse; or off [default: 2m]
    #[arg(long, value_name = "TIME")]
    watch: Option<String>,
    /// Only say what a deploy would do; swap nothing
    #[arg(long, conflicts_with_all = ["grant", "force", "canary", "shadow", "watch"])]
    plan: bool,
    /// Accept what it wants beyond the running build; the manifest stays the bound
    #[arg(long)]
    grant: bool,
    /// Accept that routes go which other plugins may call
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    target: Target,
}

/// `promote` and `abort`.
#[derive(Debug, clap::Args)]
pub(super) struct TrialArguments {
    plugin: String,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, clap::Args)]
pub(super) struct RollbackArguments {
    plugin: String,
    /// The revision to go back to; the previous one when absent
    revision: Option<u64>,
    #[command(flatten)]
    target: Target,
}

pub(super) async fn deploy(arguments: DeployArguments) -> Result<(), CommandError> {
    let target = arguments.target.clone();
    let client = Client::operator(&target)?;
    let component = arguments.source.read().await?;
    let plugin = arguments.plugin.as_str();
    // A refusal in the middle of an upload may be lost with the connection: so ask first.
    let plugins = client.get("/api/admin/plugins").await?;
    if !items(&plugins).iter().any(|row| text(row, "name") == Some(plugin)) {
        return Err(CommandError::failed(format!(
            "there is no plugin {plugin} in the host's manifest; `berth plugins` lists them (404 NOT_FOUND)"
        )));
    }
    output::progress(&format!("{plugin}: sending {}", output::size(component.bytes.len() as u64)));
    output::progress(&format!("{plugin}: {}", arguments.steps()));
    let path = format!("/api/admin/plugins/{}/deploy{}", segment(plugin), arguments.query());
    let report = client.post_component(&path, component).await?;
    if arguments.plan {
        match target.json {
            true => output::json(&report),
            false => changes::plan_lines(plugin, &report).iter().for_each(|line| output::say(line)),
        }
        return Ok(());
    }
    if arguments.is_trial() {
        return tell_of_trial(plugin, &report, target.json);
    }
    finish(&client, plugin, report, target.json).await
}

impl DeployArguments {
    fn is_trial(&self) -> bool {
        self.canary.is_some() || self.shadow
    }

    fn steps(&self) -> &'static str {
        match (self.plan, self.is_trial()) {
            (true, _) => "verify → compare",
            (false, true) => "verify → warm → trial",
            (false, false) => "verify → warm → swap",
        }
    }

    fn query(&self) -> String {
        let mut query = String::new();
        let values = [("canary", &self.canary), ("every", &self.every), ("watch", &self.watch)];
        let values = values.into_iter().filter_map(|(name, value)| Some((name, segment(value.as_deref()?))));
        let switches = [("shadow", self.shadow), ("plan", self.plan), ("grant", self.grant), ("force", self.force)];
        let switches = switches.into_iter().filter(|(_, is_set)| *is_set);
        for (name, value) in values.chain(switches.map(|(name, _)| (name, "true".to_owned()))) {
            query.push_str(if query.is_empty() { "?" } else { "&" });
            query.push_str(&format!("{name}={value}"));
        }
        query
    }
}

fn tell_of_trial(plugin: &str, report: &Value, is_json: bool) -> Result<(), CommandError> {
    if is_json {
        output::json(report);
        return Ok(());
    }
    let revision = report.get("revision").and_then(Value::as_i64).unwrap_or_default();
    let what = match report.get("share").and_then(Value::as_f64) {
        Some(share) => format!("answers {share}% of the callers"),
        None => "gets copies of safe requests".to_owned(),
    };
    output::say(&format!("{plugin}: revision {revision} {what}; see `berth status`, then promote or abort it"));
    changes::lines(plugin, report).iter().for_each(|line| output::say(line));
    Ok(())
}

/// Ends a trial: `verb` is `promote` or `abort`.
pub(super) async fn end_trial(verb: &str, arguments: TrialArguments) -> Result<(), CommandError> {
    let TrialArguments { plugin, target } = arguments;
    let client = Client::operator(&target)?;
    let report = client.post(&format!("/api/admin/plugins/{}/{verb}", segment(&plugin)), &json!({})).await?;
    if verb == "promote" {
        return finish(&client, &plugin, report, target.json).await;
    }
    if target.json {
        output::json(&report);
    } else {
        let revision = report.get("revision").and_then(Value::as_i64).unwrap_or_default();
        output::say(&format!("{plugin}: revision {revision} is taken away; the build before it serves everybody"));
    }
    Ok(())
}

pub(super) async fn rollback(arguments: RollbackArguments) -> Result<(), CommandError> {
    let RollbackArguments { plugin, revision, target } = arguments;
    let client = Client::operator(&target)?;
    output::progress(&format!("{plugin}: verify → warm → swap"));
    let path = format!("/api/admin/plugins/{}/rollback", segment(&plugin));
    let body = revision.map_or_else(|| json!({}), |revision| json!({ "revision": revision }));
    let report = client.post(&path, &body).await?;
    finish(&client, &plugin, report, target.json).await
}

/// Says what happened and waits for the old build's last call.
async fn finish(client: &Client, plugin: &str, mut report: Value, is_json: bool) -> Result<(), CommandError> {
    if !is_json {
        output::say(&sentence(plugin, &report));
        changes::lines(plugin, &report).iter().for_each(|line| output::say(line));
    }
    let has_drained = report.get("drainedMs").is_some_and(Value::is_number);
    let has_old = report.get("previousRevision").is_none_or(|revision| !revision.is_null());
    if !has_drained && has_old {
        output::progress(&format!("{plugin}: drain"));
        let waited = drained(client, plugin).await?;
        if let Some(members) = report.as_object_mut() {
            members.insert("drainedMs".to_owned(), json!(u64::try_from(waited.as_millis()).unwrap_or(u64::MAX)));
        }
    }
    if is_json {
        output::json(&report);
    } else if let Some(drained_ms) = report.get("drainedMs").and_then(Value::as_u64) {
        output::say(&format!("{plugin}: the old build has drained in {drained_ms} ms"));
    }
    Ok(())
}

/// Waits until no older build of the plugin has calls left.
async fn drained(client: &Client, plugin: &str) -> Result<Duration, CommandError> {
    let begin = Instant::now();
    while begin.elapsed() < DRAIN_PATIENCE {
        let answer = client.get("/api/admin/plugins").await?;
        let row = items(&answer).iter().find(|row| text(row, "name") == Some(plugin));
        let draining = row.and_then(|row| row.get("draining")).and_then(Value::as_u64).unwrap_or_default();
        if draining == 0 {
            return Ok(begin.elapsed());
        }
        tokio::time::sleep(DRAIN_POLL).await;
    }
    Err(CommandError::failed(format!("the new build of {plugin} serves, but the old one has not drained yet")))
}

fn sentence(plugin: &str, report: &Value) -> String {
    let number = |member: &str| report.get(member).and_then(Value::as_i64);
    let mut line = match number("revision") {
        Some(revision) => format!("{plugin}: revision {revision} serves"),
        None => format!("{plugin}: the new build serves"),
    };
    if let Some(digest) = text(report, "sha256") {
        line.push_str(&format!(" ({})", short_digest(digest)));
    }
    if let Some(previous) = number("previousRevision") {
        line.push_str(&format!(" in place of {previous}"));
    }
    if let (Some(prepare_ms), Some(flip_us)) = (number("prepareMs"), number("flipUs")) {
        line.push_str(&format!(", prepared in {prepare_ms} ms, switched in {flip_us} µs"));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_is_one_sentence() {
        let report =
            json!({"revision": 4, "previousRevision": 3, "sha256": "0123456789abcdef", "prepareMs": 80, "flipUs": 12});
        assert_eq!(
            sentence("planning", &report),
            "planning: revision 4 serves (0123456789ab) in place of 3, prepared in 80 ms, switched in 12 µs"
        );
        assert_eq!(sentence("planning", &Value::Null), "planning: the new build serves");
    }
}
