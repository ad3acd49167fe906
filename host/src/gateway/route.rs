//! Who answers a path: the host itself, the main app, or a plugin. Pure look-ups; nothing is judged here.

use std::sync::Arc;

use super::listener::Door;
use super::upstream::Upstream;
use super::{docs, webdav};
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
    /// `/.well-known/jwks.json`
    KeySet,
    /// `/.well-known/caldav`
    Calendars,
    /// `/docs`
    Browser,
    /// The main app's prefixes.
    MainApp,
    /// `/api/admin/…`
    Admin,
    /// `/metrics`
    Metrics,
    /// `/api/<prefix>/health`, answered by the host.
    PluginHealth(Arc<Slot<U>>),
    Plugin(Arc<Slot<U>>),
    Nowhere,
}

impl<U> Target<U> {
    /// Whether it is asked by machines that watch the host: never counted against a limit.
    pub(super) fn is_probe(&self) -> bool {
        matches!(self, Self::Health | Self::Live | Self::Ready | Self::Metrics)
    }
}

/// Finds who answers `path` at this door. The probes answer at every one, a direct port only for its own plugin besides.
pub(super) fn find<U: Upstream>(registry: &Registry<U>, path: &str, door: &Door, has_admin_door: bool) -> Target<U> {
    match path {
        "/health" | "/api/health" => return Target::Health,
        "/live" => return Target::Live,
        "/ready" => return Target::Ready,
        _ => {}
    }
    let only_plugin = match door {
        Door::Gateway => None,
        Door::Direct(plugin) => Some(plugin),
        Door::Admin | Door::Metrics => {
            return match (path, first_api_segment(path)) {
                ("/metrics", _) => Target::Metrics,
                (_, Some("admin")) if *door == Door::Admin => Target::Admin,
                _ => Target::Nowhere,
            };
        }
    };
    if only_plugin.is_none() {
        match path {
            "/" => return Target::Root,
            "/openapi.json" => return Target::Document,
            "/.well-known/jwks.json" => return Target::KeySet,
            webdav::WELL_KNOWN => return Target::Calendars,
            _ if docs::is_path(path) => return Target::Browser,
            _ => {}
        }
        if is_main_app(path) {
            return Target::MainApp;
        }
        if first_api_segment(path) == Some("admin") {
            return if has_admin_door { Target::Nowhere } else { Target::Admin };
        }
    }
    let Some(slot) = registry.route(path).filter(|slot| only_plugin.is_none_or(|name| name == slot.name())) else {
        return Target::Nowhere;
    };
    if is_plugin_health(&slot, path) { Target::PluginHealth(slot) } else { Target::Plugin(slot) }
}

/// `auth` of `/api/auth/login`.
fn first_api_segment(path: &str) -> Option<&str> {
    path.strip_prefix("/api/")?.split('/').next()
}

/// Whether the main app answers below this path.
pub(super) fn is_main_app(path: &str) -> bool {
    matches!(
        first_api_segment(path),
        Some("auth" | "users" | "organizations" | "teams" | "permissions" | "invitations" | "audit")
    )
}

fn is_plugin_health<U>(slot: &Slot<U>, path: &str) -> bool {
    match path.strip_suffix("/health") {
        Some(prefix) if path != HEALTH_EXCEPTION => slot.options().prefixes.iter().any(|own| own.as_str() == prefix),
        _ => false,
    }
}
