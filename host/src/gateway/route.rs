//! Who answers a path: the host itself, the main app, or a plugin. Pure look-ups; nothing is judged here.

use std::sync::Arc;

use super::upstream::Upstream;
use crate::deploy::{Registry, Slot};

/// The component that answers its own health route.
const HEALTH_EXCEPTION: &str = "/api/mcp/health";

/// Where a request goes.
pub(super) enum Target<U> {
    /// `/`
    Root,
    /// `/health` and `/api/health`
    Health,
    /// `/live`
    Live,
    /// `/ready`
    Ready,
    /// `/openapi.json`
    Document,
    /// The main app's prefixes.
    MainApp,
    /// `/api/admin/…`
    Admin,
    /// `/api/<prefix>/health`, answered by the host.
    PluginHealth(Arc<Slot<U>>),
    Plugin(Arc<Slot<U>>),
    Nowhere,
}

impl<U> Target<U> {
    /// Whether it is asked by machines that watch the host: never counted against a limit.
    pub(super) fn is_probe(&self) -> bool {
        matches!(self, Self::Health | Self::Live | Self::Ready)
    }
}

/// Finds who answers `path`; on a direct port only its own plugin and the probes do.
pub(super) fn find<U: Upstream>(registry: &Registry<U>, path: &str, only_plugin: Option<&str>) -> Target<U> {
    match path {
        "/health" | "/api/health" => return Target::Health,
        "/live" => return Target::Live,
        "/ready" => return Target::Ready,
        _ => {}
    }
    if only_plugin.is_none() {
        match path {
            "/" => return Target::Root,
            "/openapi.json" => return Target::Document,
            _ => {}
        }
        match first_api_segment(path) {
            Some("auth" | "users" | "organizations" | "teams" | "permissions" | "invitations" | "audit") => {
                return Target::MainApp;
            }
            Some("admin") => return Target::Admin,
            _ => {}
        }
    }
    let Some(slot) = registry.route(path).filter(|slot| only_plugin.is_none_or(|name| name == &**slot.name())) else {
        return Target::Nowhere;
    };
    if is_plugin_health(&slot, path) { Target::PluginHealth(slot) } else { Target::Plugin(slot) }
}

/// `auth` of `/api/auth/login`.
fn first_api_segment(path: &str) -> Option<&str> {
    path.strip_prefix("/api/")?.split('/').next()
}

fn is_plugin_health<U>(slot: &Slot<U>, path: &str) -> bool {
    match path.strip_suffix("/health") {
        Some(prefix) if path != HEALTH_EXCEPTION => slot.options().prefixes.iter().any(|own| own.as_str() == prefix),
        _ => false,
    }
}
