//! Which interfaces a component gets: those its grant allows, and no others.

use std::collections::BTreeSet;

use wasmtime::component::Linker;

use super::state::State;
use super::{Flavour, PrepareError};
use crate::capability::tape::Taped;
use crate::capability::{self, grant::Grant};

/// Characters of an import's name in a sentence: a component may have names of any length.
const NAME_CHARS_TOLD: usize = 120;

/// What the manifest must say before an interface is linked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    Nothing,
    Tables,
    Cache,
    Queue,
    Secrets,
    Mail,
    Acting,
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
    ("berth:platform/acting@", Need::Acting),
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
            Self::Acting => grant.act_for_users || !grant.serve_as_members.is_empty(),
            Self::Egress => !grant.outbound.is_empty() || !grant.call.is_empty(),
        }
    }

    fn sentence(self, import: &str) -> String {
        let import: String = import.chars().take(NAME_CHARS_TOLD).collect();
        let setting = match self {
            Self::Nothing => return format!("it imports {import}, which Berth does not offer"),
            Self::Tables => "tables",
            Self::Cache => "cache",
            Self::Queue => "publish",
            Self::Secrets => "secrets",
            Self::Mail => "mail",
            Self::Acting => "act_for_users or serve_as_members",
            Self::Egress => "outbound or call",
        };
        format!("it imports {import}, but its grant has no `{setting}`")
    }

    /// What the grant opens to whoever imports this, in words.
    fn words(self, grant: &Grant) -> Vec<String> {
        let each = |word: &str, names: &[String]| names.iter().map(|name| format!("{word} {name}")).collect::<Vec<_>>();
        match self {
            Self::Nothing => Vec::new(),
            // A transaction publishes too.
            Self::Tables => [each("tables", &grant.tables), each("publish", &grant.publish)].concat(),
            Self::Cache => vec!["cache".to_owned()],
            Self::Queue if grant.publish.is_empty() => vec!["its own queue".to_owned()],
            Self::Queue => each("publish", &grant.publish),
            Self::Secrets => vec!["secrets".to_owned()],
            Self::Mail => vec!["mail".to_owned()],
            Self::Acting => {
                let acting = grant.act_for_users.then(|| "act_for_users".to_owned());
                acting.into_iter().chain(each("serve_as_members", &grant.serve_as_members)).collect()
            }
            Self::Egress => [each("outbound", &grant.outbound), each("call", &grant.call)].concat(),
        }
    }
}

/// What imports open to a component under its grant, in words: `publish planning.#`, `outbound api.example.com`, `cache`.
/// Interfaces that need no grant open nothing that anybody has to know of.
pub(crate) fn opened<'a>(imports: impl Iterator<Item = &'a str>, grant: &Grant) -> BTreeSet<String> {
    imports.filter_map(need).flat_map(|need| need.words(grant)).collect()
}

fn need(import: &str) -> Option<Need> {
    OFFERED.iter().find(|(beginning, _)| import.starts_with(beginning)).map(|(_, need)| *need)
}

/// The imports that the grant does not allow, one sentence each.
pub(super) fn refusals<'a>(imports: impl Iterator<Item = &'a str>, grant: &Grant) -> Vec<String> {
    imports
        .filter_map(|import| match need(import) {
            Some(need) if need.is_met(grant) => None,
            Some(need) => Some(need.sentence(import)),
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
    use capability::{acting, auth, cache, config, database, logging, mail, queue, secrets, shims};
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
        cache::link(linker, |state| Taped {
            tape: &state.tape,
            inner: cache::View { guest: &state.guest, room: &state.rooms.cache },
        })?;
        shims::link_keyvalue(linker, |state| shims::KeyValueView {
            cache: Taped { tape: &state.tape, inner: cache::View { guest: &state.guest, room: &state.rooms.cache } },
            table: &mut state.table,
        })?;
    }
    if Need::Tables.is_met(grant) {
        database::link(linker, |state| Taped {
            tape: &state.tape,
            inner: database::View {
                guest: &state.guest,
                room: &state.rooms.database,
                state: &mut state.database,
                table: &mut state.table,
            },
        })?;
    }
    if Need::Queue.is_met(grant) {
        queue::link(linker, |state| Taped {
            tape: &state.tape,
            inner: queue::View { guest: &state.guest, room: &state.rooms.queue },
        })?;
    }
    if Need::Secrets.is_met(grant) {
        secrets::link(linker, |state| Taped {
            tape: &state.tape,
            inner: secrets::View {
                guest: &state.guest,
                room: &state.rooms.secrets,
                credentials: state.rooms.http_out.credentials(),
            },
        })?;
    }
    if Need::Mail.is_met(grant) {
        mail::link(linker, |state| Taped {
            tape: &state.tape,
            inner: mail::View { guest: &state.guest, room: &state.rooms.mail },
        })?;
    }
    if Need::Acting.is_met(grant) {
        acting::link(linker, |state| Taped {
            tape: &state.tape,
            inner: acting::View { guest: &mut state.guest, room: &state.rooms.acting },
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{opened, refusals};
    use crate::capability::grant::Grant;

    #[test]
    fn what_imports_open_is_told_in_the_words_of_the_grant() {
        let grant = Grant {
            publish: vec!["billing.*".into()],
            outbound: vec!["api.example.com".into()],
            call: vec!["planning".into()],
            ..Grant::default()
        };
        let imports = [
            "wasi:http/outgoing-handler@0.2.12",
            "wasi:http/client@0.3.0",
            "berth:platform/queue@0.1.0",
            "berth:platform/auth@0.1.0",
            "wasi:io/poll@0.2.12",
        ];
        let words: Vec<String> = opened(imports.into_iter(), &grant).into_iter().collect();
        assert_eq!(words, ["call planning", "outbound api.example.com", "publish billing.*"]);
        let writer = Grant { tables: vec!["bill_".into()], ..grant.clone() };
        let words: Vec<String> = opened(["berth:platform/database@0.1.0"].into_iter(), &writer).into_iter().collect();
        assert_eq!(words, ["publish billing.*", "tables bill_"], "a transaction publishes too");
        let consumer = Grant { consume: vec!["a.#".into()], ..Grant::default() };
        assert!(opened(["berth:platform/queue@0.1.0"].into_iter(), &consumer).contains("its own queue"));
        assert!(opened(["wasi:cli/environment@0.2.12"].into_iter(), &grant).is_empty());
        let acting = |grant: Grant| -> Vec<String> {
            opened(["berth:platform/acting@0.1.0"].into_iter(), &grant).into_iter().collect()
        };
        assert_eq!(acting(Grant { act_for_users: true, ..Grant::default() }), ["act_for_users"]);
        let server = Grant { serve_as_members: vec!["plans.plan.read".into()], ..Grant::default() };
        assert_eq!(acting(server), ["serve_as_members plans.plan.read"]);
    }

    #[test]
    fn what_is_not_granted_is_refused_with_a_sentence() {
        let grant = Grant { cache: true, ..Grant::default() };
        let imports = [
            "berth:platform/cache@0.1.0",
            "berth:platform/database@0.1.0",
            "wasi:io/poll@0.2.12",
            "acme:x/y@1.0.0",
            "berth:platform/acting@0.1.0",
        ];
        assert_eq!(
            refusals(imports.into_iter(), &grant),
            [
                "it imports berth:platform/database@0.1.0, but its grant has no `tables`",
                "it imports acme:x/y@1.0.0, which Berth does not offer",
                "it imports berth:platform/acting@0.1.0, but its grant has no `act_for_users or serve_as_members`",
            ]
        );
    }
}
