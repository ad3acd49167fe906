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

    /// One more prefix that it answers.
    #[must_use]
    pub fn route(mut self, route: &str) -> Self {
        self.routes.push(route.to_owned());
        self
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

    /// Without a plugin that something else takes the place of; whoever calls it still may.
    #[must_use]
    pub fn without(self, name: &str) -> Self {
        let line = format!("name = {name:?}\n");
        let mut blocks = self.0.split("[[plugin]]\n");
        let head = blocks.next().unwrap_or_default().to_owned();
        Self(blocks.filter(|block| !block.starts_with(&line)).fold(head, |text, block| text + "[[plugin]]\n" + block))
    }

    /// Without a plugin, and nobody may call it.
    #[must_use]
    pub fn bereft_of(self, name: &str) -> Self {
        let Self(text) = self.without(name);
        Self(text.replace(&format!("{name:?}, "), "").replace(&format!(", {name:?}"), ""))
    }

    /// Lets a plugin call another one.
    ///
    /// # Panics
    /// When the plugin is not there, or calls nobody so far.
    #[must_use]
    pub fn letting(self, caller: &str, called: &str) -> Self {
        let begin =
            self.0.find(&format!("name = {caller:?}\n")).unwrap_or_else(|| panic!("the manifest has no {caller}"));
        let list = self.0[begin..].find("\ncall = [").unwrap_or_else(|| panic!("{caller} calls nobody")) + begin;
        let end = self.0[list..].find(']').map_or(list, |end| list + end);
        if self.0[list..end].contains(&format!("{called:?}")) {
            return self;
        }
        let (before, after) = self.0.split_at(list + "\ncall = [".len());
        Self(format!("{before}{called:?}, {after}"))
    }

    /// The repository's services, and the herald in the place of ai-service: it answers completions with `first`, and with
    /// `second` when it is asked again; it keeps every event of planning and publishes what it is told.
    ///
    /// # Panics
    /// When the manifest does not look as it should.
    #[must_use]
    pub fn services_and_herald(first: &str, second: &str) -> Self {
        let herald = Slot::new("ai-service", guests::fixture("herald"), "/api/herald").route("/api/ai").with(&format!(
            "isolation = \"plugin\"\n[plugin.grant]\ntables = [\"herald_\"]\npublish = [\"observability.#\"]\nconsume = [\"#\"]\n\
             [plugin.config]\nfirst = {first:?}\nsecond = {second:?}"
        ));
        let services = Self::services().letting("planning", "ai-service").without("ai-service");
        services.and(&Self::of([herald]).0)
    }

    /// The repository's own `plugins.toml`, with the components where they were built.
    ///
    /// # Panics
    /// When it cannot be read.
    #[must_use]
    pub fn services() -> Self {
        let text = std::fs::read_to_string(guests::manifest()).unwrap_or_else(|error| panic!("plugins.toml: {error}"));
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

    /// With `to` in the place of `from`.
    ///
    /// # Panics
    /// When `from` is not there.
    #[must_use]
    pub fn with(self, from: &str, to: &str) -> Self {
        assert!(self.0.contains(from), "the manifest has no {from}");
        Self(self.0.replace(from, to))
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

/// The guest that notes every event of planning, and those it is asked to publish, once; `GET /ledger` has the figures.
#[must_use]
pub fn ledger() -> Slot {
    Slot::new("ledger", guests::fixture("ledger"), "/ledger").with(
        "public = [\"GET /ledger\", \"POST /ledger/publish\"]\nisolation = \"plugin\"\n[plugin.grant]\n\
         tables = [\"ledger_\"]\npublish = [\"ledger.#\"]\nconsume = [\"planning.#\", \"project.#\", \"ledger.noted\"]",
    )
}

/// The guest whose GET does everything that a read should not, on `/meddler`; it calls hello and whoever listens at `outside`,
/// an address of this machine.
#[must_use]
pub fn meddler(outside: &str) -> Slot {
    Slot::new("meddler", guests::fixture("meddler"), "/meddler").with(&format!(
        "public = [\"GET /meddler\", \"GET /meddler/figures\"]\nisolation = \"plugin\"\n[plugin.grant]\n\
         tables = [\"meddler_\"]\ncache = true\npublish = [\"meddler.#\"]\nconsume = [\"meddler.meddled\"]\n\
         call = [\"hello\"]\noutbound = [{outside:?}]\noutbound_private = [\"127.0.0.0/8\"]\n[plugin.config]\n\
         outside = \"http://{outside}\"",
    ))
}
