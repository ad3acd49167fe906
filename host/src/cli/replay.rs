//! `berth replay`: would this build have answered the call that failed?
//!
//! The build runs here, with the limits that the call had, and everything it asks of its host is answered from the capsule.
//! Exit status: 0 it answers below 500, 2 it fails, 3 nobody can know because it asks what is not in the capsule.

use std::path::Path;

use bytes::Bytes;
use serde_json::{Value, json};

use super::CommandError;
use super::capsules::{address, ended};
use super::client::{Client, Target};
use super::inspect::short_digest;
use super::output::{self, plain};
use super::source::read_local;
use crate::app::{Outcome, Replayed, replay as play};
use crate::capability::capsule::{CAPSULE_BYTES_MAX, Capsule};
use crate::capability::tape::{End, Played};

/// It fails as well.
const EXIT_FAILS: u8 = 2;
/// It asks what is not in the capsule.
const EXIT_DIVERGED: u8 = 3;
/// Characters of an answer's body.
const BODY_CHARS_MAX: usize = 500;

/// `replay <capsule>`.
#[derive(Debug, clap::Args)]
pub(super) struct ReplayArguments {
    /// A capsule's id, which is fetched from the host, or a file
    capsule: String,
    /// The build to try: a file, or - for standard input [default: the build that failed, from the host]
    #[arg(long, value_name = "FILE")]
    with: Option<String>,
    #[command(flatten)]
    target: Target,
}

/// What a replay has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Answers,
    Fails,
    Diverged,
}

pub(super) async fn replay(arguments: ReplayArguments) -> Result<(), CommandError> {
    let ReplayArguments { capsule, with, target } = arguments;
    let capsule = read_capsule(&capsule, &target).await?;
    let wasm = match with {
        Some(source) => read_local(&source)?.bytes,
        None => failed_build(&capsule, &target).await?,
    };
    let replayed = play(&capsule, Bytes::from(wasm)).await;
    let replayed = replayed.map_err(|error| CommandError::failed(format!("{error:#}")))?;
    let (verdict, sentence) = judge(&replayed.outcome, &replayed.played);
    let sentence = plain(&sentence);
    if target.json {
        output::json(&report(&capsule, &replayed, verdict, &sentence));
    } else {
        lines(&capsule, &replayed).iter().for_each(|line| output::say(&plain(line)));
        output::say(&format!("verdict   {sentence}"));
    }
    match verdict {
        Verdict::Answers => Ok(()),
        Verdict::Fails => Err(CommandError::Verdict { status: EXIT_FAILS, sentence }),
        Verdict::Diverged => Err(CommandError::Verdict { status: EXIT_DIVERGED, sentence }),
    }
}

async fn read_capsule(named: &str, target: &Target) -> Result<Capsule, CommandError> {
    let path = Path::new(named);
    let bytes = if path.is_file() {
        let unreadable = |error: std::io::Error| CommandError::failed(format!("{named} cannot be read: {error}"));
        if std::fs::metadata(path).map_err(unreadable)?.len() > CAPSULE_BYTES_MAX as u64 {
            return Err(CommandError::failed(format!("{named} is larger than {CAPSULE_BYTES_MAX} bytes")));
        }
        std::fs::read(path).map_err(unreadable)?
    } else if named.contains(['/', '.']) {
        return Err(CommandError::failed(format!("there is no file {named}")));
    } else {
        Client::operator(target)?.get(&address(named)).await?.to_string().into_bytes()
    };
    Capsule::read(&bytes).map_err(|sentence| CommandError::failed(format!("{named}: {sentence}")))
}

/// The build that failed, as long as the host has it.
async fn failed_build(capsule: &Capsule, target: &Target) -> Result<Vec<u8>, CommandError> {
    let path = format!("{}/component", address(&capsule.summary.id));
    let fetched = Client::operator(target)?.get_bytes(&path).await?;
    fetched.ok_or_else(|| {
        CommandError::failed("the host has no longer the capsule or the build that failed; give a build with --with")
    })
}

/// The verdict, and one sentence for it.
fn judge(outcome: &Outcome, played: &Played) -> (Verdict, String) {
    match &played.end {
        Some(End::Diverged { number, kept: Some(kept), asked }) => {
            let sentence =
                format!("diverged at host call {number}: the recorded build asked {kept}, this one asks {asked}");
            return (Verdict::Diverged, sentence);
        }
        Some(End::Diverged { number, kept: None, asked }) => {
            let sentence =
                format!("diverged at host call {number}: the recorded build asked nothing more, this one asks {asked}");
            return (Verdict::Diverged, sentence);
        }
        Some(End::Cut { number, asked }) => {
            let sentence = format!(
                "undecided at host call {number}: the recording was cut for its size, and this build asks {asked}"
            );
            return (Verdict::Diverged, sentence);
        }
        Some(End::Unanswered { number, asked }) => {
            let sentence = format!("still fails: host call {number}, {asked}, had no answer when the call ended");
            return (Verdict::Fails, sentence);
        }
        None => {}
    }
    let condition = match played.taken_as_done.len() {
        0 => "",
        _ => ", provided that what is not in the recording goes well",
    };
    match outcome {
        Outcome::Answered { status: status @ 200..500, .. } => {
            (Verdict::Answers, format!("this build answers {status}{condition}"))
        }
        Outcome::Answered { status, .. } => (Verdict::Fails, format!("still fails: this build answers {status}")),
        Outcome::Handled(how) => (Verdict::Answers, format!("this build {how}{condition}")),
        Outcome::Failed(error) => (Verdict::Fails, format!("still fails: {error}")),
    }
}

fn shortened(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let mut short: String = text.chars().take(BODY_CHARS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

fn recorded(capsule: &Capsule) -> String {
    ended(&serde_json::to_value(&capsule.summary.failure).unwrap_or_default())
}

fn lines(capsule: &Capsule, replayed: &Replayed) -> Vec<String> {
    let (summary, played) = (&capsule.summary, &replayed.played);
    let took: u64 = capsule.calls.iter().map(|call| call.took_ms).sum();
    let mut lines = vec![
        format!("capsule   {}: {} of {}, {}", summary.id, summary.what, summary.plugin, summary.at.to_rfc3339()),
        format!(
            "recorded  revision {} ({}) {}, after {} host calls that took {took} ms",
            summary.revision,
            short_digest(&summary.sha256),
            recorded(capsule),
            summary.host_calls
        ),
    ];
    lines.extend(replayed.lines.iter().map(|line| format!("log       {line}")));
    let build = short_digest(&replayed.sha256);
    lines.push(match &replayed.outcome {
        Outcome::Answered { status, body } => format!("this one  ({build}) answers {status} {}", shortened(body)),
        Outcome::Handled(how) => format!("this one  ({build}) {how}"),
        // Where the replay ended, the trap only says so.
        Outcome::Failed(_) if played.end.is_some() => format!("this one  ({build}) could not go on"),
        Outcome::Failed(error) => format!("this one  ({build}): {error}"),
    });
    lines.push(format!("calls     {} asked, {} of them from the recording", played.asked, played.answered));
    lines.extend(played.taken_as_done.iter().map(|call| format!("  taken as done  {call}")));
    lines.extend(played.unused.iter().map(|call| format!("  not asked      {call}")));
    lines
}

fn report(capsule: &Capsule, replayed: &Replayed, verdict: Verdict, sentence: &str) -> Value {
    let (summary, played) = (&capsule.summary, &replayed.played);
    let (answer, handled, failure) = match &replayed.outcome {
        Outcome::Answered { status, body } => (json!({ "status": status, "body": shortened(body) }), None, None),
        Outcome::Handled(how) => (Value::Null, Some(how), None),
        Outcome::Failed(error) => (Value::Null, None, Some(error.to_string())),
    };
    json!({
        "capsule": summary.id,
        "plugin": summary.plugin,
        "what": summary.what,
        "recorded": {
            "revision": summary.revision, "sha256": summary.sha256, "at": summary.at, "ended": recorded(capsule),
            "failure": summary.failure, "hostCalls": summary.host_calls, "isCut": capsule.is_cut,
        },
        "sha256": replayed.sha256,
        "verdict": match verdict {
            Verdict::Answers => "answers",
            Verdict::Fails => "fails",
            Verdict::Diverged => "diverged",
        },
        "sentence": sentence,
        "answer": answer,
        "handled": handled,
        "failure": failure.filter(|_| played.end.is_none()),
        "calls": {
            "asked": played.asked, "fromTheRecording": played.answered, "takenAsDone": played.taken_as_done,
            "notAsked": played.unused,
        },
        "logs": replayed.lines,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::CallError;

    fn played(end: Option<End>, taken_as_done: Vec<String>) -> Played {
        Played { asked: 1, answered: 1, taken_as_done, unused: Vec::new(), end }
    }

    #[test]
    fn a_verdict_is_one_sentence() {
        let answered = |status| Outcome::Answered { status, body: Vec::new() };
        let asked = || "database.query(\"a\")".to_owned();
        for (outcome, end, verdict, words) in [
            (answered(404), None, Verdict::Answers, "answers 404"),
            (answered(503), None, Verdict::Fails, "answers 503"),
            (answered(7), None, Verdict::Fails, "answers 7"),
            (Outcome::Failed(CallError::TimedOut), None, Verdict::Fails, "did not answer in time"),
            (
                answered(200),
                Some(End::Diverged { number: 2, kept: None, asked: asked() }),
                Verdict::Diverged,
                "diverged at host call 2: the recorded build asked nothing more, this one asks database.query",
            ),
            (answered(200), Some(End::Cut { number: 2, asked: asked() }), Verdict::Diverged, "cut"),
            (answered(200), Some(End::Unanswered { number: 2, asked: asked() }), Verdict::Fails, "had no answer"),
        ] {
            let (found, sentence) = judge(&outcome, &played(end, Vec::new()));
            assert!(found == verdict && sentence.contains(words), "{sentence}");
        }
        let (verdict, sentence) = judge(&answered(201), &played(None, vec![asked()]));
        assert!(verdict == Verdict::Answers && sentence.contains("provided that"), "{sentence}");
    }
}
