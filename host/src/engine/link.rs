//! Which interfaces a component gets: those its grant allows, and no others.

use wasmtime::component::Linker;

use super::state::State;
use super::{Flavour, PrepareError};
use crate::capability::{self, grant::Grant};

/// What the manifest must say before an interface is linked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    Nothing,
    Tables,
    Cache,
    Queue,
    Secrets,
    Mail,
    Egress,
}

/// Every interface Berth offers, by the beginning of its name.
const OFFERED: &[(&str, Need)] = &[
    ("berth:platform/types@", Need::Nothing),
    ("berth:platform/auth@", Need::Nothing),
    ("berth:platform/config@", Need::Nothing),
    ("berth:platform/logging@", Need::Nothing),
    ("berth:platform/database@", Need::Tables),
    ("berth:platform/cache@", Need::Cache),
    ("berth:platform/queue@", Need::Queue),
    ("berth:platform/secrets@", Need::Secrets),
    ("berth:platform/mail@", Need::Mail),
    ("wasi:keyvalue/", Need::Cache),
    ("wasi:config/", Need::Nothing),
    ("wasi:logging/", Need::Nothing),
    ("wasi:http/outgoing-handler@", Need::Egress),
    ("wasi:http/client@", Need::Egress),
    ("wasi:http/types@", Need::Nothing),
    ("wasi:io/", Need::Nothing),
    ("wasi:clocks/", Need::Nothing),
    ("wasi:random/", Need::Nothing),
    ("wasi:cli/", Need::Nothing),
    ("wasi:filesystem/", Need::Nothing),
    ("wasi:sockets/", Need::Nothing),
];

impl Need {
    fn is_met(self, grant: &Grant) -> bool {
        match self {
            Self::Nothing => true,
            Self::Tables => !grant.tables.is_empty(),
            Self::Cache => grant.cache,
            // Whoever may consume may also write to its own private queue.
            Self::Queue => !grant.publish.is_empty() || !grant.consume.is_empty(),
            Self::Secrets => grant.secrets,
            Self::Mail => grant.mail,
            Self::Egress => !grant.outbound.is_empty() || !grant.call.is_empty(),
        }
    }

    fn sentence(self, import: &str) -> String {
        let setting = match self {
            Self::Nothing => return format!("it imports {import}, which Berth does not offer"),
            Self::Tables => "tables",
            Self::Cache => "cache",
            Self::Queue => "publish",
            Self::Secrets => "secrets",
            Self::Mail => "mail",
            Self::Egress => "outbound or call",
        };
        format!("it imports {import}, but its grant has no `{setting}`")
    }
}

/// The imports that the grant does not allow, one sentence each.
pub(super) fn refusals<'a>(imports: impl Iterator<Item = &'a str>, grant: &Grant) -> Vec<String> {
    imports
        .filter_map(|import| match OFFERED.iter().find(|(beginning, _)| import.starts_with(beginning)) {
            Some((_, need)) if need.is_met(grant) => None,
            Some((_, need)) => Some(need.sentence(import)),
            None => Some(Need::Nothing.sentence(import)),
        })
        .collect()
}

/// A linker with what the grant allows.
pub(super) fn linker(
    engine: &wasmtime::Engine,
    flavour: Flavour,
    grant: &Grant,
) -> Result<Linker<State>, PrepareError> {
    let mut linker = Linker::new(engine);
    link_all(&mut linker, flavour, grant)
        .map_err(|error| PrepareError::Unavailable(format!("the interfaces could not be linked: {error:#}")))?;
    Ok(linker)
}

fn link_all(linker: &mut Linker<State>, flavour: Flavour, grant: &Grant) -> wasmtime::Result<()> {
    use capability::{auth, cache, config, database, logging, mail, queue, secrets, shims};
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
    if flavour == Flavour::Concurrent {
        wasmtime_wasi::p3::add_to_linker(linker)?;
        wasmtime_wasi_http::p3::add_to_linker(linker)?;
    }
    auth::link(linker, |state| auth::View { guest: &state.guest })?;
    config::link(linker, |state| config::View { guest: &state.guest })?;
    logging::link(linker, |state| logging::View { guest: &state.guest, room: &state.rooms.logging })?;
    shims::link_config(linker, |state| shims::ConfigView(config::View { guest: &state.guest }))?;
    shims::link_logging(linker, |state| {
        shims::LoggingView(logging::View { guest: &state.guest, room: &state.rooms.logging })
    })?;
    if Need::Cache.is_met(grant) {
        cache::link(linker, |state| cache::View { guest: &state.guest, room: &state.rooms.cache })?;
        shims::link_keyvalue(linker, |state| shims::KeyValueView {
            cache: cache::View { guest: &state.guest, room: &state.rooms.cache },
            table: &mut state.table,
        })?;
    }
    if Need::Tables.is_met(grant) {
        database::link(linker, |state| database::View {
            guest: &state.guest,
            room: &state.rooms.database,
            state: &mut state.database,
            table: &mut state.table,
        })?;
    }
    if Need::Queue.is_met(grant) {
        queue::link(linker, |state| queue::View { guest: &state.guest, room: &state.rooms.queue })?;
    }
    if Need::Secrets.is_met(grant) {
        secrets::link(linker, |state| secrets::View {
            guest: &state.guest,
            room: &state.rooms.secrets,
            credentials: state.rooms.http_out.credentials(),
        })?;
    }
    if Need::Mail.is_met(grant) {
        mail::link(linker, |state| mail::View { guest: &state.guest, room: &state.rooms.mail })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::refusals;
    use crate::capability::grant::Grant;

    #[test]
    fn what_is_not_granted_is_refused_with_a_sentence() {
        let grant = Grant { cache: true, ..Grant::default() };
        let imports =
            ["berth:platform/cache@0.1.0", "berth:platform/database@0.1.0", "wasi:io/poll@0.2.12", "acme:x/y@1.0.0"];
        assert_eq!(
            refusals(imports.into_iter(), &grant),
            [
                "it imports berth:platform/database@0.1.0, but its grant has no `tables`",
                "it imports acme:x/y@1.0.0, which Berth does not offer",
            ]
        );
    }
}
