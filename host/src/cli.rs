//! The command line: `berth run` starts a host, every other command talks to one or works beside it.
//!
//! Exit status: 0 done, 1 refused or failed with one sentence on standard error, 64 wrong usage or settings, 69 host not
//! reachable. It must never decide anything that the host decides.

mod bench;
mod capsules;
mod changes;
mod client;
mod deploy;
mod dev;
mod event_stream;
mod inspect;
mod output;
mod plugins;
mod push;
mod replay;
mod seeing;
mod sign;
mod source;
mod worker;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::plugins_file::Manifest;
use crate::settings::{RunFlags, Settings};
use client::Target;

/// Wrong usage or settings.
const EXIT_USAGE: u8 = 64;
/// The host cannot be reached.
const EXIT_UNREACHABLE: u8 = 69;

/// Runs services as WebAssembly components and swaps them in place.
#[derive(Debug, Parser)]
#[command(name = "berth", version, arg_required_else_help = true, max_term_width = 120)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the host
    Run(RunFlags),
    /// Deploy a build of a plugin; ends when the old build has drained
    Deploy(deploy::DeployArguments),
    /// Push a component to a registry, and say the reference it can be deployed by
    Push(push::PushArguments),
    /// Build and deploy plugins whenever their sources change
    Dev(dev::DevArguments),
    /// Go back to the previous build, or to a given revision
    Rollback(deploy::RollbackArguments),
    /// Put the build on trial in front of everybody
    Promote(deploy::TrialArguments),
    /// Take the build on trial away
    Abort(deploy::TrialArguments),
    /// Builds of a plugin with time, actor and outcome
    History {
        plugin: String,
        #[command(flatten)]
        target: Target,
    },
    /// Every host on the database and what it runs
    Hosts {
        #[command(flatten)]
        target: Target,
    },
    /// How every build fares: requests, times, failures, traps, processor time, memory, queue
    Status(seeing::StatusArguments),
    /// What a plugin logs, and what the host says of it
    Logs(seeing::LogArguments),
    /// What the host did: deploys, trials, reverts, failures and traps
    Events(seeing::EventArguments),
    /// Failed calls that the host has kept; `capsules show` and `capsules remove` take one
    Capsules(capsules::CapsuleArguments),
    /// Try a build on a failed call: whether it would have answered
    Replay(replay::ReplayArguments),
    /// What each plugin may do, in words
    Grants(seeing::GrantArguments),
    /// Plugins with their builds and how they fare; `plugins add`, `set` and `remove` change them while the host runs
    Plugins(plugins::PluginsArguments),
    /// The effective route table
    Routes {
        #[command(flatten)]
        target: Target,
    },
    /// Queues with depth and dead letters; `queues redrive <queue>` moves dead letters back
    Queues(inspect::QueueArguments),
    /// Keys that sign access tokens; `keys rotate` signs with a fresh one from now on
    Keys(inspect::KeyArguments),
    /// Make a key pair that signs components
    Keygen(sign::KeygenArguments),
    /// Sign a component into <file>.sig
    Sign(sign::SignArguments),
    /// Lease and run `command` steps on this machine
    Worker(worker::WorkerArguments),
    /// Compile a component in a limited process (used by the host itself)
    Compile {
        /// The component
        input: PathBuf,
        /// Where the compiled form goes
        #[arg(short, long)]
        output: PathBuf,
    },
    /// Completions for a shell, on standard output
    Completions { shell: clap_complete::Shell },
    /// A bare HTTP server to compare with
    #[command(hide = true)]
    BenchHyper(bench::BenchArguments),
}

/// Why a command ended without success.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// Exit status 1: one sentence.
    #[error("{0}")]
    Failed(String),
    /// Exit status 64: one sentence for each fault.
    #[error("{}", .0.join("\n"))]
    Usage(Vec<String>),
    /// An exit status of the command's own: what it has found is not what was hoped for, in one sentence.
    #[error("{sentence}")]
    Verdict { status: u8, sentence: String },
    /// Exit status 69: the host's URL and why.
    #[error("the host at {url} cannot be reached: {reason}; is it running, and is --url right?")]
    Unreachable { url: String, reason: String },
}

impl CommandError {
    pub(crate) fn failed(sentence: impl Into<String>) -> Self {
        Self::Failed(sentence.into())
    }

    pub(crate) fn usage(sentence: impl Into<String>) -> Self {
        Self::Usage(vec![sentence.into()])
    }

    const fn status(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => EXIT_USAGE,
            Self::Verdict { status, .. } => *status,
            Self::Unreachable { .. } => EXIT_UNREACHABLE,
        }
    }
}

/// Reads the command line and does what it says.
pub(crate) fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are answers, everything else is wrong usage.
            let status = if error.use_stderr() { EXIT_USAGE } else { 0 };
            let _ = error.print();
            return ExitCode::from(status);
        }
    };
    match dispatch(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            for sentence in error.to_string().lines() {
                output::complain(sentence);
            }
            ExitCode::from(error.status())
        }
    }
}

fn dispatch(command: Command) -> Result<(), CommandError> {
    match command {
        Command::Run(flags) => start_host(&flags),
        Command::Deploy(arguments) => wait(deploy::deploy(arguments)),
        Command::Push(arguments) => wait(push::push(arguments)),
        Command::Dev(arguments) => wait(dev::develop(arguments)),
        Command::Rollback(arguments) => wait(deploy::rollback(arguments)),
        Command::Promote(arguments) => wait(deploy::end_trial("promote", arguments)),
        Command::Abort(arguments) => wait(deploy::end_trial("abort", arguments)),
        Command::History { plugin, target } => wait(inspect::history(plugin, target)),
        Command::Hosts { target } => wait(inspect::hosts(target)),
        Command::Status(arguments) => wait(seeing::status(arguments)),
        Command::Logs(arguments) => wait(seeing::logs(arguments)),
        Command::Events(arguments) => wait(seeing::events(arguments)),
        Command::Capsules(arguments) => wait(capsules::capsules(arguments)),
        Command::Replay(arguments) => wait(replay::replay(arguments)),
        Command::Grants(arguments) => wait(seeing::grants(arguments)),
        Command::Plugins(arguments) => wait(plugins::plugins(arguments)),
        Command::Routes { target } => wait(inspect::routes(target)),
        Command::Queues(arguments) => wait(inspect::queues(arguments)),
        Command::Keys(arguments) => wait(inspect::keys(arguments)),
        Command::Keygen(arguments) => sign::keygen(&arguments),
        Command::Sign(arguments) => sign::sign(&arguments),
        Command::Worker(arguments) => wait(worker::work(arguments)),
        Command::Compile { input, output } => {
            crate::engine::compile_file(&input, &output).map_err(|error| CommandError::failed(error.to_string()))
        }
        Command::Completions { shell } => {
            let mut command = Arguments::command();
            clap_complete::generate(shell, &mut command, "berth", &mut std::io::stdout());
            Ok(())
        }
        Command::BenchHyper(arguments) => wait(bench::serve(arguments)),
    }
}

/// What a starting host tells whoever started it.
fn say_lines(lines: &[String]) {
    for line in lines {
        output::say(line);
    }
}

/// Judges settings and manifest together, so that one look shows every fault, and only then starts anything.
fn start_host(flags: &RunFlags) -> Result<(), CommandError> {
    let settings = Settings::judge(flags, std::env::vars_os());
    let config = match &settings {
        Ok(settings) => settings.config.clone(),
        Err(_) => Settings::config_path(flags, std::env::vars_os()),
    };
    let manifest = Manifest::load(&config);
    match (settings, manifest) {
        (Ok(settings), Ok(manifest)) => {
            crate::app::run(settings, manifest, say_lines).map_err(|error| CommandError::failed(format!("{error:#}")))
        }
        (settings, manifest) => {
            let mut sentences: Vec<String> = Vec::new();
            sentences.extend(settings.err().into_iter().flatten().map(|fault| fault.to_string()));
            sentences.extend(manifest.err().into_iter().flatten().map(|fault| fault.to_string()));
            Err(CommandError::Usage(sentences))
        }
    }
}

/// Runs a command that waits for the network, on this thread.
fn wait(command: impl Future<Output = Result<(), CommandError>>) -> Result<(), CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CommandError::failed(format!("the runtime cannot be started: {error}")))?;
    runtime.block_on(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_commands_of_the_specification_are_understood() {
        for line in [
            "berth run --config plugins.toml --data d --listen 127.0.0.1:0",
            "berth deploy planning planning.wasm --json",
            "berth deploy planning - --url http://127.0.0.1:1 --token-file t",
            "berth deploy planning planning.wasm --canary 5%,25%,100% --every 2m --watch 30s",
            "berth deploy planning planning.wasm --shadow",
            "berth deploy planning https://example.com/planning.wasm --digest sha256:12",
            "berth deploy planning http://10.0.0.1/planning.wasm#sha256=12 --plain-http",
            "berth deploy planning oci://ghcr.io/acme/planning:1",
            "berth push oci://ghcr.io/acme/planning:1 planning.wasm",
            "berth dev",
            "berth dev planning hello --profile release --url http://127.0.0.1:1",
            "berth deploy planning planning.wasm --plan --json",
            "berth deploy planning planning.wasm --canary 5% --grant --force",
            "berth keygen key.pem",
            "berth sign key.pem planning.wasm",
            "berth promote planning",
            "berth abort planning --json",
            "berth rollback planning",
            "berth rollback planning 3",
            "berth history planning",
            "berth plugins --json",
            "berth status",
            "berth status planning --json",
            "berth logs planning -f -n 0 --level warn",
            "berth events -f --json",
            "berth events planning",
            "berth capsules",
            "berth capsules planning --json",
            "berth capsules show 01900000-0000-7000-8000-000000000000",
            "berth capsules remove 01900000-0000-7000-8000-000000000000",
            "berth replay 01900000-0000-7000-8000-000000000000",
            "berth replay capsule.json --with new.wasm --json",
            "berth grants",
            "berth grants planning",
            "berth plugins show planning",
            "berth plugins add notes notes.wasm --entry notes.toml --json",
            "berth plugins add notes - routes=[\"/api/notes\"] grant.cache=true",
            "berth plugins set notes --entry notes.toml",
            "berth plugins set notes grant.cache=false",
            "berth plugins remove notes",
            "berth routes",
            "berth queues",
            "berth queues redrive planning.dlq",
            "berth keys",
            "berth keys rotate --end-earlier",
            "berth worker --allow cargo npm --dir w",
            "berth compile a.wasm -o a.cwasm",
            "berth completions bash",
        ] {
            assert!(Arguments::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
        for line in [
            "berth deploy planning",
            "berth deploy planning a.wasm --every 2m",
            "berth deploy planning a.wasm --shadow --canary 5%",
            "berth push oci://ghcr.io/acme/planning:1",
            "berth deploy planning a.wasm --plan --grant",
            "berth sign key.pem",
            "berth replay",
            "berth fly",
            "berth logs",
            "berth logs planning --level loud",
            "berth events -n 1001",
            "berth plugins add notes notes.wasm",
            "berth plugins set notes",
            "berth plugins set notes x=1 --entry notes.toml",
            "berth worker",
            "berth rollback planning minus",
        ] {
            assert!(Arguments::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
