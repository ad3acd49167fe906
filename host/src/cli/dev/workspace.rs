//! The Cargo workspace somebody works in: which packages become components, and from where their code comes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tokio::process::Command;

use super::super::CommandError;

/// Bytes of the list of files that a component was built from.
const FILE_LIST_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What `cargo metadata` says of it.
pub(super) struct Workspace {
    pub root: PathBuf,
    /// Where everything is built; never watched.
    pub target: PathBuf,
    /// By the folder of their manifest.
    packages: BTreeMap<PathBuf, Package>,
}

struct Package {
    name: String,
    is_component: bool,
    /// Folders of the packages it depends on by path.
    depends_on: Vec<PathBuf>,
}

/// Cargo, as whoever started this process wants it.
pub(super) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

impl Workspace {
    /// The workspace of the working directory.
    ///
    /// # Errors
    /// When there is none or cargo cannot be asked.
    pub(super) async fn read() -> Result<Self, CommandError> {
        let mut command = cargo();
        command.args(["metadata", "--no-deps", "--format-version", "1"]).stdin(std::process::Stdio::null());
        let output = command
            .output()
            .await
            .map_err(|error| CommandError::failed(format!("cargo cannot be started: {error}")))?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            let fault = words.lines().next().unwrap_or_default().trim_start_matches("error: ");
            return Err(CommandError::failed(format!("there is no Cargo workspace to develop in: {fault}")));
        }
        Self::parse(&output.stdout).map_err(|error| {
            CommandError::failed(format!("cargo describes the workspace in words not known here: {error}"))
        })
    }

    fn parse(metadata: &[u8]) -> Result<Self, serde_json::Error> {
        let metadata: Metadata = serde_json::from_slice(metadata)?;
        let folder = |manifest: &Path| manifest.parent().unwrap_or(manifest).to_path_buf();
        let packages = metadata.packages.into_iter().map(|package| {
            let is_component =
                package.targets.iter().any(|target| target.crate_types.iter().any(|kind| kind == "cdylib"));
            let depends_on = package.dependencies.into_iter().filter_map(|dependency| dependency.path).collect();
            (folder(&package.manifest_path), Package { name: package.name, is_component, depends_on })
        });
        Ok(Self { root: metadata.workspace_root, target: metadata.target_directory, packages: packages.collect() })
    }

    /// The names of the packages that become components.
    pub(super) fn components(&self) -> impl Iterator<Item = &str> {
        self.packages.values().filter(|package| package.is_component).map(|package| package.name.as_str())
    }

    /// The folder of a component's package.
    pub(super) fn folder(&self, name: &str) -> Option<&Path> {
        let mut packages = self.packages.iter();
        packages.find(|(_, package)| package.is_component && package.name == name).map(|(folder, _)| folder.as_path())
    }

    /// The folders of a component and of everything in the workspace that it is built from.
    pub(super) fn sources(&self, name: &str) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        let mut waiting: Vec<PathBuf> = self.folder(name).map(Path::to_path_buf).into_iter().collect();
        while let Some(folder) = waiting.pop() {
            if let Some(package) = self.packages.get(&folder) {
                waiting.extend(package.depends_on.iter().filter(|path| !found.contains(*path)).cloned());
            }
            found.insert(folder);
        }
        found
    }

    /// The folders of files elsewhere in the workspace that the compiler has read, as embedded migrations: cargo lists them
    /// beside what it builds.
    pub(super) fn further_sources(&self, component: &Path) -> BTreeSet<PathBuf> {
        let list = component.with_extension("d");
        let is_small = std::fs::metadata(&list).is_ok_and(|file| file.len() <= FILE_LIST_BYTES_MAX);
        let text = if is_small { std::fs::read_to_string(&list).unwrap_or_default() } else { String::new() };
        let is_elsewhere = |file: &PathBuf| {
            file.starts_with(&self.root)
                && !file.starts_with(&self.target)
                && !self.packages.keys().any(|folder| *folder != self.root && file.starts_with(folder))
        };
        let files = listed(&text).into_iter().filter(is_elsewhere);
        files.filter_map(|file| file.parent().filter(|folder| *folder != self.root).map(Path::to_path_buf)).collect()
    }
}

/// The files behind the first colon of a rule for make; a backslash stands before a blank in a name.
fn listed(text: &str) -> Vec<PathBuf> {
    let Some((_, files)) = text.lines().next().unwrap_or_default().split_once(": ") else { return Vec::new() };
    let mut names = vec![String::new()];
    let mut letters = files.chars().peekable();
    while let Some(letter) = letters.next() {
        match (letter, letters.peek()) {
            ('\\', Some(' ')) => {
                letters.next();
                if let Some(name) = names.last_mut() {
                    name.push(' ');
                }
            }
            (' ', _) => names.push(String::new()),
            _ => {
                if let Some(name) = names.last_mut() {
                    name.push(letter);
                }
            }
        }
    }
    names.into_iter().filter(|name| !name.is_empty()).map(PathBuf::from).collect()
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<PackageMetadata>,
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

#[derive(Deserialize)]
struct PackageMetadata {
    name: String,
    manifest_path: PathBuf,
    targets: Vec<TargetMetadata>,
    dependencies: Vec<DependencyMetadata>,
}

#[derive(Deserialize)]
struct TargetMetadata {
    crate_types: Vec<String>,
}

#[derive(Deserialize)]
struct DependencyMetadata {
    path: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn package(folder: &str, name: &str, kind: &str, depends_on: &[&str]) -> serde_json::Value {
        let dependencies: Vec<_> = depends_on.iter().map(|path| json!({"name": "x", "path": path})).collect();
        let dependencies = [dependencies, vec![json!({"name": "serde"})]].concat();
        json!({"name": name, "manifest_path": format!("{folder}/Cargo.toml"), "targets": [{"crate_types": [kind, "rlib"]}],
            "dependencies": dependencies})
    }

    fn workspace() -> Workspace {
        let packages = [
            package("/w/planning", "planning", "cdylib", &["/w/rules", "/w/sdk"]),
            package("/w/hello", "hello", "cdylib", &["/w/sdk"]),
            package("/w/rules", "plan-rules", "lib", &["/w/sdk"]),
            package("/w/sdk", "sdk", "lib", &[]),
        ];
        let metadata =
            json!({"packages": packages, "workspace_root": "/w", "target_directory": "/w/target", "version": 1});
        Workspace::parse(metadata.to_string().as_bytes()).expect("metadata")
    }

    #[test]
    fn a_component_is_built_from_what_it_depends_on() {
        let workspace = workspace();
        assert_eq!(workspace.components().collect::<BTreeSet<_>>(), BTreeSet::from(["planning", "hello"]));
        let sources = |name: &str| workspace.sources(name).into_iter().collect::<Vec<_>>();
        assert_eq!(sources("planning"), ["/w/planning", "/w/rules", "/w/sdk"].map(PathBuf::from));
        assert_eq!(sources("hello"), ["/w/hello", "/w/sdk"].map(PathBuf::from));
        assert!(sources("sdk").is_empty(), "it becomes no component");
        assert_eq!(workspace.folder("hello"), Some(Path::new("/w/hello")));
    }

    #[test]
    fn embedded_files_are_sources_too() {
        let folder = tempfile::tempdir().expect("a folder");
        let component = folder.path().join("planning.wasm");
        let list = "/w/target/planning.wasm: /w/planning/src/lib.rs /w/migrations/planning/0001\\ a.sql /w/Cargo.toml \
                    /w/target/made.rs /r/serde/lib.rs\n\n/w/other:\n";
        std::fs::write(component.with_extension("d"), list).expect("written");
        let further: Vec<_> = workspace().further_sources(&component).into_iter().collect();
        assert_eq!(further, [PathBuf::from("/w/migrations/planning")]);
        assert!(workspace().further_sources(Path::new("/w/missing.wasm")).is_empty());
        assert_eq!(listed("a: b\\ c d\n"), [PathBuf::from("b c"), PathBuf::from("d")]);
    }
}
