//! A Cargo workspace of its own with one plugin in it, for what `berth dev` does: it is written, built and watched.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::guests;

/// What `berth dev` builds with, so that the first build leaves what the next ones stand on.
const QUICK: [(&str, &str); 4] = [
    ("CARGO_PROFILE_GUEST_OPT_LEVEL", "1"),
    ("CARGO_PROFILE_GUEST_LTO", "off"),
    ("CARGO_PROFILE_GUEST_CODEGEN_UNITS", "256"),
    ("CARGO_PROFILE_GUEST_INCREMENTAL", "true"),
];

/// The workspace, and the process that watches it.
pub struct Workshop {
    folder: TempDir,
    /// The package, and its folder below `components/`.
    name: String,
    process: Option<Child>,
}

impl Workshop {
    /// A workspace with this manifest around a package with this one; in both, `NAME` stands for its name.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn new(name: &str, workspace: &str, package: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let workshop = Self { folder, name: name.to_owned(), process: None };
        workshop.write("Cargo.toml", &workspace.replace("NAME", name));
        workshop.write(&format!("components/{name}/Cargo.toml"), &package.replace("NAME", name));
        for file in ["Cargo.lock", "rust-toolchain.toml"] {
            std::fs::copy(guests::root().join(file), workshop.folder.path().join(file)).expect("copied");
        }
        workshop
    }

    /// The folder of the workspace.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file of the workspace, as an editor does on saving.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, file: &str, text: &str) {
        let path = self.folder.path().join(file);
        let folder = path.parent().expect("a folder");
        std::fs::create_dir_all(folder).expect("a folder");
        std::fs::write(&path, text).expect("written");
    }

    /// Writes the plugin's source.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn save(&self, source: &str) {
        self.write(&format!("components/{}/src/lib.rs", self.name), source);
    }

    /// Builds it once, with everything that it depends on; where the component is.
    ///
    /// # Panics
    /// When it does not build.
    #[must_use]
    pub fn build(&self) -> PathBuf {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--quiet", "--target", "wasm32-wasip2", "--profile", "guest"]).envs(QUICK);
        let built = self.prepare(&mut cargo).status().expect("cargo");
        assert!(built.success(), "the component does not build");
        let file = format!("wasm32-wasip2/guest/{}.wasm", self.name.replace('-', "_"));
        Self::target().join(file)
    }

    /// Lets a command, `berth dev`, go on in the workspace; what it says is in [`Workshop::log`].
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn develop(&mut self, mut command: Command) {
        let file = |name: &str| std::fs::File::create(self.folder.path().join(name)).expect("a file");
        command.stdin(Stdio::null()).stdout(file("said")).stderr(file("complained"));
        self.process = Some(self.prepare(&mut command).spawn().expect("berth dev"));
    }

    /// What the process has said so far, on standard output (`said`) or standard error (`complained`).
    #[must_use]
    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }

    /// Ends the process as Ctrl-C does.
    ///
    /// # Panics
    /// When it does not end well.
    pub fn stop(&mut self) {
        let mut process = self.process.take().expect("a process");
        let sent = Command::new("kill").args(["-s", "INT", &process.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()));
        assert!(process.wait().expect("its end").success(), "{}", self.log("complained"));
    }

    /// In the workspace, and built beside everything else.
    fn prepare<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.current_dir(self.folder.path()).env("CARGO_TARGET_DIR", Self::target());
        // Everything that the component needs was fetched for the guests. Whoever turned incremental builds off did not mean
        // these.
        command.env("CARGO_NET_OFFLINE", "true").env_remove("CARGO_INCREMENTAL")
    }

    fn target() -> PathBuf {
        guests::target().join("test-dev")
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = Command::new("kill").args(["-s", "TERM", &process.id().to_string()]).status();
            let _ = process.wait();
        }
    }
}
