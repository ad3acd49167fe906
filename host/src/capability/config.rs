//! The config room: a plugin's own settings, read-only. It needs no grant.
//!
//! It must never read the environment: the manifest's parser has put everything into `Plugin.config`.

mod host;

pub(crate) use host::link;

use super::Guest;

/// What the room sees of the running call.
pub(crate) struct View<'a> {
    pub guest: &'a Guest,
}

impl View<'_> {
    /// One setting.
    pub(crate) fn setting(&self, key: &str) -> Option<&str> {
        self.guest.plugin.config.get(key).map(String::as_str)
    }

    /// All settings, sorted by key.
    pub(crate) fn settings(&self) -> impl Iterator<Item = (&str, &str)> {
        self.guest.plugin.config.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::bindings::imports::config::Host as _;
    use crate::capability::testing;

    #[tokio::test]
    async fn a_guest_reads_its_own_settings_sorted_by_key() {
        let mut guest = testing::guest("planning", None);
        let plugin = Arc::make_mut(&mut guest.plugin);
        plugin.config.insert("b".into(), "".into());
        plugin.config.insert("a".into(), "1".into());
        let mut view = View { guest: &guest };
        assert_eq!(view.get("a".into()).await.unwrap().as_deref(), Some("1"));
        assert_eq!(view.get("b".into()).await.unwrap().as_deref(), Some(""), "an empty setting is a setting");
        assert_eq!(view.get("c".into()).await.unwrap(), None);
        assert_eq!(view.all().await.unwrap(), [("a".into(), "1".into()), ("b".into(), "".into())]);
    }
}
