//! Benchmarks: built here, measured by the crate `berth-bench`.

use anyhow::{Result, bail};

use crate::servers::Servers;
use crate::{build, test, workspace};

const NAMES: [&str; 10] =
    ["hello", "swap", "neighbour", "restart", "outbox", "ingest", "vectors", "workflow", "dev", "spread"];
/// Those that are about servers.
const ON_SERVERS_ONLY: [&str; 2] = ["outbox", "spread"];
/// On PostgreSQL, Redis and RabbitMQ instead of the embedded stores.
const ON_SERVERS: &str = "--servers";

/// `bench <name> [--servers]`.
///
/// # Errors
/// When there is no such benchmark, or it fails.
pub(crate) fn bench(arguments: &[String]) -> Result<()> {
    let [name, rest @ ..] = arguments else { bail!("bench needs a name: {}", NAMES.join(", ")) };
    if !NAMES.contains(&name.as_str()) {
        bail!("there is no benchmark {name}; there are {}", NAMES.join(", "));
    }
    let is_on_servers = rest.iter().any(|argument| argument == ON_SERVERS);
    let rest = rest.iter().filter(|argument| *argument != ON_SERVERS);
    // Only what is about servers needs them.
    let servers =
        if is_on_servers || ON_SERVERS_ONLY.contains(&name.as_str()) { Servers::find()? } else { Servers::none() };
    if name == "ingest" && is_on_servers && !servers.has_pgvector() {
        println!("xtask: PostgreSQL has no pgvector: the component compares vectors");
    }
    build::build_guests()?;
    build::build_host()?;
    let mut command = workspace::cargo();
    command.args(["run", "--quiet", "--release", "--package", "berth-bench", "--", name]).args(rest);
    command.env("BERTH_TEST_HOST", workspace::host_binary());
    command.env("BERTH_TEST_PLUGINS", workspace::target().join("plugins"));
    command.env("BERTH_TEST_FIXTURES", workspace::target().join("fixtures"));
    servers.give_to(&mut command);
    if is_on_servers {
        command.env(test::STACK_VARIABLE, "servers");
    }
    workspace::run(&mut command)
}
