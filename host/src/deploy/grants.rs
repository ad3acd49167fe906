//! What a plugin may do, in words: for whoever wants to know it without reading the manifest.

use serde::Serialize;

use super::{Build, Slot};
use crate::capability::grant::{Grant, Isolation, Limits};

/// A plugin's rights and limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PluginGrants {
    pub plugin: String,
    /// What it may do, a sentence each; never empty.
    pub may: Vec<String>,
    /// How far, a sentence each.
    pub limits: Vec<String>,
    /// The names of its settings. Their values are nobody's business here.
    pub settings: Vec<String>,
    /// The interfaces that its present build imports; empty where there is none.
    pub imports: Vec<String>,
}

impl PluginGrants {
    pub(super) fn of<R: Build>(slot: &Slot<R>) -> Self {
        let options = slot.options();
        let plugin = &options.plugin;
        let mut may = vec![format!("answer requests below {}", list(&options.prefixes))];
        if !options.public.is_empty() {
            let public = options.public.iter().map(ToString::to_string).collect::<Vec<_>>();
            may.push(format!("answer without a token at {}", list(&public)));
        }
        if let Some(port) = options.port {
            may.push(format!("answer on port {port} directly"));
        }
        may.extend(sentences(&plugin.grant));
        Self {
            plugin: slot.name().to_string(),
            may,
            limits: limits(&plugin.limits, options.isolation),
            settings: plugin.config.keys().cloned().collect(),
            imports: slot.current().map(|build| build.imports().to_vec()).unwrap_or_default(),
        }
    }
}

/// What a grant allows beyond answering requests.
fn sentences(grant: &Grant) -> Vec<String> {
    let mut may = Vec::new();
    if !grant.tables.is_empty() {
        let tables: Vec<String> = grant.tables.iter().map(|prefix| format!("{prefix}*")).collect();
        may.push(format!("read and write the tables {}, and no others", list(&tables)));
    }
    if grant.cache {
        may.push("keep values in the cache, under its own name".to_owned());
    }
    if !grant.publish.is_empty() {
        may.push(format!("publish the events {}", list(&grant.publish)));
    }
    if !grant.consume.is_empty() {
        may.push(format!("hear the events {}", list(&grant.consume)));
    }
    if !grant.call.is_empty() {
        may.push(match grant.call.iter().any(|name| name == "*") {
            true => "call every other plugin, with the rights of its caller".to_owned(),
            false => format!("call {}, with the rights of its caller", list(&grant.call)),
        });
    }
    if !grant.outbound.is_empty() {
        may.push(match grant.outbound.iter().any(|name| name == "*") {
            true => "reach every public name by HTTP".to_owned(),
            false => format!("reach {} by HTTP", list(&grant.outbound)),
        });
    }
    if !grant.outbound_private.is_empty() {
        may.push(format!("reach the private addresses {}", list(&grant.outbound_private)));
    }
    if grant.secrets {
        may.push("seal secrets and open what it has sealed".to_owned());
    }
    if grant.mail {
        may.push("send mail".to_owned());
    }
    if grant.act_for_users {
        may.push(
            "act for any member of the organization while it handles a message, with the member's rights".to_owned(),
        );
    }
    if !grant.serve_as_members.is_empty() {
        may.push(format!(
            "answer requests as any member of any organization, with the member's rights to {} and to nothing else",
            list(&grant.serve_as_members)
        ));
    }
    may
}

fn limits(limits: &Limits, isolation: Isolation) -> Vec<String> {
    let mut sentences = vec![
        format!("{} MiB of memory for each instance", limits.memory_mib),
        format!("{} ms for a call, {} calls at once", limits.request_timeout.as_millis(), limits.concurrency),
        format!("{} MiB for a request's body", limits.body_mib),
        format!("{} ms for an old build to finish after a swap", limits.drain.as_millis()),
    ];
    if let Some(rate) = limits.rate_per_minute {
        sentences.push(format!("{rate} requests a minute from each caller"));
    }
    sentences.push(
        match isolation {
            Isolation::Request => "a fresh instance for every call",
            Isolation::Organization => "instances that serve one organization only",
            Isolation::Plugin => "instances that serve every organization",
        }
        .to_owned(),
    );
    sentences
}

fn list<T: ToString>(parts: &[T]) -> String {
    let parts: Vec<String> = parts.iter().map(ToString::to_string).collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_granted_is_not_said() {
        assert!(sentences(&Grant::default()).is_empty());
        let grant = Grant {
            tables: vec!["plan_".into(), "project_".into()],
            publish: vec!["planning.#".into()],
            call: vec!["*".into()],
            outbound: vec!["api.example.com".into()],
            mail: true,
            act_for_users: true,
            serve_as_members: vec!["calendar.calendar.read".into(), "projects.project.read".into()],
            ..Grant::default()
        };
        assert_eq!(
            sentences(&grant),
            [
                "read and write the tables plan_*, project_*, and no others",
                "publish the events planning.#",
                "call every other plugin, with the rights of its caller",
                "reach api.example.com by HTTP",
                "send mail",
                "act for any member of the organization while it handles a message, with the member's rights",
                "answer requests as any member of any organization, with the member's rights to \
                 calendar.calendar.read, projects.project.read and to nothing else",
            ]
        );
    }

    #[test]
    fn limits_are_told_with_their_units() {
        let told = limits(&Limits { rate_per_minute: Some(60), ..Limits::default() }, Isolation::Organization);
        assert!(told.contains(&"64 MiB of memory for each instance".to_owned()), "{told:?}");
        assert!(told.contains(&"60 requests a minute from each caller".to_owned()), "{told:?}");
    }
}
