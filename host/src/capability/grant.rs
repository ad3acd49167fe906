//! What a plugin may do: `[plugin.grant]` and `[plugin.limits]` of the manifest.
//!
//! A grant only ever narrows. It is checked here and in the rooms, never in a guest.

use std::time::Duration;

/// `[plugin.grant]`: everything is refused unless it is listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Grant {
    /// Table prefixes, each ending in `_`; links `database` when not empty.
    pub tables: Vec<String>,
    /// Links `cache`.
    pub cache: bool,
    /// Patterns of event types it may publish (`planning.#`); links `queue` (as does any private queue).
    pub publish: Vec<String>,
    /// Patterns of event types it may consume.
    pub consume: Vec<String>,
    /// Plugins it may call by `http://<plugin>.internal/`; `*` for all.
    pub call: Vec<String>,
    /// Names it may reach by HTTP: `api.example.com`, `*.example.com:8443`; `*` for all public names.
    pub outbound: Vec<String>,
    /// Address ranges (CIDR or address) that are otherwise refused, such as loopback: the operator's own list.
    pub outbound_private: Vec<String>,
    /// Links `secrets`.
    pub secrets: bool,
    /// Links `mail`.
    pub mail: bool,
    /// Links `acting`: while it handles a message it may go on as a user of the message's organization.
    pub act_for_users: bool,
    /// Links `acting` when not empty: while it answers a request it may go on as a member of an organization, with these of
    /// the member's permissions and no others.
    pub serve_as_members: Vec<String>,
}

/// `[plugin.limits]`, with the defaults of the settings' specification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Linear memory of one instance, in MiB (1 to 4096).
    pub memory_mib: u32,
    /// Wall deadline of one call (10 to 600 000 ms).
    pub request_timeout: Duration,
    /// Calls at once; one more waits briefly and is then answered 503.
    pub concurrency: u32,
    /// A request's body, in MiB (1 to 1024).
    pub body_mib: u32,
    /// Requests per minute and principal on this plugin; none: the host's limit alone.
    pub rate_per_minute: Option<u32>,
    /// How long an old build may drain after a swap.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_mib: 64,
            request_timeout: Duration::from_secs(30),
            concurrency: 256,
            body_mib: 10,
            rate_per_minute: None,
            drain: Duration::from_secs(30),
        }
    }
}

/// How long an instance's memory lives, and whom it may serve meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Isolation {
    /// A fresh instance for every call.
    Request,
    /// A warm instance serves one organization only.
    #[default]
    Organization,
    /// A warm instance serves every organization: for components that keep nothing between calls.
    Plugin,
}

/// Whether an event type matches a topic pattern: `*` is one segment, `#` is any number of them, as in RabbitMQ.
/// Costs at most the product of both lengths, whatever the pattern.
pub(crate) fn topic_matches(pattern: &str, event_type: &str) -> bool {
    let segments: Vec<&str> = event_type.split('.').collect();
    walk(pattern, &segments, |word, segment| word == "*" || word == segment)
}

/// Whether every event type that `narrower` matches is matched by `wider` too: a binding against the grant's `consume`.
/// It may say no to a pattern that is covered only by several words together (`#.*` by `*.#`), and never a wrong yes.
pub(crate) fn topic_covers(wider: &str, narrower: &str) -> bool {
    let words: Vec<&str> = narrower.split('.').collect();
    walk(wider, &words, |word, other| if word == "*" { other != "#" } else { word == other && other != "*" })
}

/// Matches a pattern word by word; `reached` holds after how many segments the pattern so far may end.
fn walk(pattern: &str, segments: &[&str], word_matches: impl Fn(&str, &str) -> bool) -> bool {
    let mut reached = vec![false; segments.len() + 1];
    if let Some(first) = reached.first_mut() {
        *first = true;
    }
    for word in pattern.split('.') {
        let mut before = false;
        if word == "#" {
            for slot in &mut reached {
                before |= *slot;
                *slot = before;
            }
            continue;
        }
        // The slot after a segment is reached from the slot before it, and the very first one never by a word.
        for (slot, segment) in reached.iter_mut().zip(std::iter::once(&"").chain(segments)) {
            let here = *slot;
            *slot = before && word_matches(word, segment);
            before = here;
        }
    }
    reached.last().copied().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::{topic_covers, topic_matches};

    #[test]
    fn topic_patterns_match_as_a_topic_exchange_does() {
        for (pattern, event_type, expected) in [
            ("#", "a.b.c", true),
            ("planning.#", "planning.plan.created", true),
            ("planning.#", "planning", true),
            ("planning.#", "planningx.plan", false),
            ("ai.agent.*", "ai.agent.completed", true),
            ("ai.agent.*", "ai.agent.step.done", false),
            ("*.created", "task.created", true),
            ("a.#.z", "a.z", true),
            ("a.#.z", "a.b.c.z", true),
            ("a.#.z", "a.b.c", false),
        ] {
            assert_eq!(topic_matches(pattern, event_type), expected, "{pattern} against {event_type}");
        }
    }

    #[test]
    fn many_wildcards_cost_no_more_than_the_product_of_the_lengths() {
        let pattern = vec!["#"; 2_000].join(".") + ".z";
        let event_type = vec!["a"; 2_000].join(".");
        assert!(!topic_matches(&pattern, &event_type));
        assert!(topic_matches(&pattern, &(event_type + ".z")));
    }

    #[test]
    fn a_wider_pattern_covers_a_narrower_one_and_never_the_other_way_round() {
        for (wider, narrower, expected) in [
            ("#", "#", true),
            ("#", "ai.*", true),
            ("ai.#", "ai.agent.*", true),
            ("ai.#", "ai.#", true),
            ("ai.*", "ai.#", false),
            ("ai.*", "ai.*", true),
            ("ai.*", "ai.done", true),
            ("ai.done", "ai.*", false),
            ("ai.#", "#", false),
            ("ai.#", "aix", false),
        ] {
            assert_eq!(topic_covers(wider, narrower), expected, "{wider} over {narrower}");
        }
    }
}
