use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::{Overlap, Registry};
use crate::capability::Plugin;
use crate::capability::grant::{Grant, Isolation, Limits};
use crate::deploy::{Prefix, Slot, SlotOptions};

fn options(name: &str, prefixes: &[&str]) -> SlotOptions {
    SlotOptions {
        plugin: Arc::new(Plugin {
            name: name.into(),
            grant: Grant::default(),
            limits: Limits::default(),
            config: BTreeMap::new(),
        }),
        origin: Default::default(),
        component: None,
        prefixes: prefixes.iter().map(|prefix| Prefix::parse(prefix).unwrap()).collect(),
        public: Vec::new(),
        port: None,
        isolation: Isolation::default(),
        timers: BTreeMap::new(),
        rate_limits: Vec::new(),
    }
}

fn registry(plugins: &[(&str, &[&str])]) -> Registry<()> {
    Registry::new(plugins.iter().map(|(name, prefixes)| options(name, prefixes)).collect()).unwrap()
}

fn owner(registry: &Registry<()>, path: &str) -> Option<String> {
    registry.route(path).map(|slot| slot.name().to_string())
}

#[test]
fn the_longest_prefix_of_whole_segments_wins() {
    let registry = registry(&[
        ("planning", &["/api/plans", "/api/projects"]),
        ("ai", &["/api/ai", "/api/agents"]),
        ("agents", &["/api/ai/agents"]),
    ]);
    for (path, expected) in [
        ("/api/plans", Some("planning")),
        ("/api/plans/", Some("planning")),
        ("/api/plans/1/steps", Some("planning")),
        ("/api/plans//x", Some("planning")),
        ("/api/planning", None),
        ("/api/plansx/1", None),
        ("/api/plan", None),
        ("/api//plans", None),
        ("/API/plans", None),
        ("/api/pl%61ns/1", Some("planning")),
        ("/api/plans%2F1", None),
        ("/api%2Fplans", None),
        ("/api/plans/%2e%2e/admin", None),
        ("/api/plans/../projects", None),
        ("/api/plans/%zz", None),
        ("/api/ai/agents/7", Some("agents")),
        ("/api/ai/agentsx", Some("ai")),
        ("/api/ai", Some("ai")),
        ("/api/agents", Some("ai")),
        ("/", None),
        ("", None),
        ("*", None),
    ] {
        assert_eq!(owner(&registry, path).as_deref(), expected, "{path}");
    }
}

#[test]
fn a_plugin_at_the_root_gets_what_nobody_else_wants() {
    let registry = registry(&[("site", &["/"]), ("planning", &["/api/plans"])]);
    assert_eq!(owner(&registry, "/").as_deref(), Some("site"));
    assert_eq!(owner(&registry, "/index.html").as_deref(), Some("site"));
    assert_eq!(owner(&registry, "/api/plans/1").as_deref(), Some("planning"));
}

#[test]
fn two_plugins_never_share_a_name_a_route_or_a_port() {
    let twice = |left: SlotOptions, right: SlotOptions| Registry::<()>::new(vec![left, right]).err().unwrap();
    assert!(matches!(twice(options("a", &["/x"]), options("b", &["/x/"])), Overlap::Route { .. }));
    assert!(matches!(twice(options("a", &["/x"]), options("a", &["/y"])), Overlap::Name(_)));
    let at = |name, prefix| SlotOptions { port: Some(3001), ..options(name, &[prefix]) };
    assert!(matches!(twice(at("a", "/x"), at("b", "/y")), Overlap::Port { port: 3001, .. }));
}

#[test]
fn slots_are_seated_together_or_not_at_all() {
    let registry = registry(&[("a", &["/a"]), ("b", &["/b"])]);
    let old = registry.slot("a").unwrap();
    old.switch(Arc::new(()));
    let new = |name, prefix| Arc::new(Slot::new(options(name, &[prefix])));
    assert!(registry.seat(vec![new("a", "/z"), new("c", "/z")]).is_err());
    assert!(registry.add(new("c", "/b")).is_err());
    assert_eq!((owner(&registry, "/a").as_deref(), owner(&registry, "/z")), (Some("a"), None));

    let moved = Arc::new(old.succeed(options("a", &["/a2"])));
    moved.switch(Arc::new(()));
    registry.seat(vec![moved, new("c", "/c")]).unwrap();
    registry.add(new("d", "/d")).unwrap();
    let owners = ["/a", "/b", "/a2", "/c", "/d"].map(|path| owner(&registry, path));
    assert_eq!(owners.each_ref().map(Option::as_deref), [None, None, Some("a"), Some("c"), Some("d")]);
    // Whoever found the old slot goes on under the old entry.
    assert!(old.current().is_some() && old.options().prefixes[0].as_str() == "/a");
    assert!(Arc::ptr_eq(old.meter(), registry.slot("a").unwrap().meter()));
}

fn segment() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "ab", "abc", "plans", "planning"]).prop_map(str::to_owned)
}

fn path(lengths: std::ops::Range<usize>) -> impl Strategy<Value = String> {
    prop::collection::vec(segment(), lengths).prop_map(|segments| format!("/{}", segments.join("/")))
}

/// The rule itself, written the slow way.
fn expected(prefixes: &[String], path: &str) -> Option<String> {
    let parts = |text: &str| text.split('/').map(str::to_owned).collect::<Vec<_>>();
    prefixes.iter().filter(|prefix| parts(path).starts_with(&parts(prefix))).max_by_key(|prefix| prefix.len()).cloned()
}

proptest! {
    #[test]
    fn routing_agrees_with_the_rule_written_plainly(
        prefixes in prop::collection::btree_set(path(1..5), 1..12),
        asked in path(1..8),
        slash in any::<bool>(),
    ) {
        let prefixes: Vec<String> = prefixes.into_iter().collect();
        let registry: Registry<()> =
            Registry::new(prefixes.iter().map(|prefix| options(prefix, &[prefix.as_str()])).collect()).unwrap();
        let asked = if slash { format!("{asked}/") } else { asked };
        prop_assert_eq!(owner(&registry, &asked), expected(&prefixes, &asked));
    }

    #[test]
    fn no_path_makes_routing_panic_or_leave_its_prefix(asked in "\\PC{0,40}") {
        let registry = registry(&[("planning", &["/api/plans"])]);
        if let Some(slot) = registry.route(&asked) {
            prop_assert_eq!(&**slot.name(), "planning");
            prop_assert!(asked.starts_with('/') && !asked.split('/').any(|segment| segment == ".."));
        }
    }

    #[test]
    fn encoding_plain_characters_does_not_change_the_owner(asked in path(1..5), at in any::<prop::sample::Index>()) {
        let registry = registry(&[("one", &["/a"]), ("two", &["/a/b"]), ("three", &["/plans"])]);
        let at = at.index(asked.len());
        let byte = asked.as_bytes()[at];
        prop_assume!(byte != b'/');
        let encoded = format!("{}%{byte:02X}{}", &asked[..at], &asked[at + 1..]);
        prop_assert_eq!(owner(&registry, &encoded), owner(&registry, &asked));
    }
}
