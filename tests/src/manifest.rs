//! The `plugins.toml` of a test host.

use std::fmt::Write;
use std::path::PathBuf;

use crate::guests;

/// One `[[plugin]]`.
#[derive(Clone, Debug)]
pub struct Slot {
    name: String,
    component: PathBuf,
    routes: Vec<String>,
    extra: String,
}

impl Slot {
    /// A plugin with nothing granted.
    #[must_use]
    pub fn new(name: &str, component: PathBuf, route: &str) -> Self {
        Self { name: name.to_owned(), component, routes: vec![route.to_owned()], extra: String::new() }
    }

    /// More lines of the plugin: keys first, then sections such as `[plugin.grant]`.
    #[must_use]
    pub fn with(mut self, lines: &str) -> Self {
        self.extra.push_str(lines);
        self.extra.push('\n');
        self
    }
}

/// A manifest as text.
#[derive(Clone, Debug, Default)]
pub struct Manifest(String);

impl Manifest {
    /// From plugins.
    #[must_use]
    pub fn of(slots: impl IntoIterator<Item = Slot>) -> Self {
        let mut text = String::new();
        for slot in slots {
            let _ = write!(
                text,
                "[[plugin]]\nname = {:?}\ncomponent = {:?}\nroutes = {:?}\n{}\n",
                slot.name,
                slot.component.display().to_string(),
                slot.routes,
                slot.extra
            );
        }
        Self(text)
    }

    /// The repository's own `plugins.toml`, with the components where they were built.
    ///
    /// # Panics
    /// When it cannot be read.
    #[must_use]
    pub fn services() -> Self {
        let text = std::fs::read_to_string(guests::root().join("plugins.toml"))
            .unwrap_or_else(|error| panic!("plugins.toml: {error}"));
        let folder = guests::plugin("planning").parent().map(|folder| folder.display().to_string()).unwrap_or_default();
        Self(text.replace("target/plugins/", &format!("{folder}/")))
    }

    /// The plugin hello on `/api/hello`, public.
    #[must_use]
    pub fn hello() -> Self {
        Self::of([hello()])
    }

    /// As it is written to the file.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }

    /// More text at the end.
    #[must_use]
    pub fn and(mut self, text: &str) -> Self {
        self.0.push_str(text);
        self
    }
}

/// The plugin hello on `/api/hello`; everything public.
#[must_use]
pub fn hello() -> Slot {
    Slot::new("hello", guests::plugin("hello"), "/api/hello").with(
        "public = [\"GET /api/hello\", \"POST /api/hello/echo\", \"GET /api/hello/stream\"]\nisolation = \"plugin\"",
    )
}

/// The guest that breaks rules, on `/api/unruly`; small limits, so that it is caught soon.
#[must_use]
pub fn unruly() -> Slot {
    Slot::new("unruly", guests::fixture("unruly"), "/api/unruly").with(
        "public = [\"/api/unruly/{*rest}\"]\n[plugin.limits]\nmemory_mib = 32\nrequest_timeout_ms = 1000\nconcurrency = 8",
    )
}
