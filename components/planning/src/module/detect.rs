//! Proposing modules: files that lie together and know each other. Pure but for the handler; nothing is stored.

use std::collections::{BTreeMap, BTreeSet};

use berth_sdk::{prelude::*, serde_json::Value};

/// Folders that say nothing about what is in them.
const GENERIC: [&str; 14] = [
    "src",
    "lib",
    "libs",
    "app",
    "apps",
    "packages",
    "components",
    "services",
    "modules",
    "internal",
    "pkg",
    "crates",
    "source",
    "main",
];
/// So many files make a module a sure one.
const FILES_SURE: usize = 5;

/// The body of `POST /api/modules/detect`.
#[data]
pub(crate) struct Files {
    /// Paths, or `{path, imports?: [text]}`.
    #[field(min = 1, max = 10_000)]
    files: Vec<Value>,
}

/// Proposed modules.
#[data]
pub(crate) struct Proposals {
    modules: Vec<Proposal>,
}

/// A module that is not stored.
#[data]
pub(crate) struct Proposal {
    name: String,
    path: String,
    files: Vec<String>,
    /// The paths of other proposed modules that its files import from.
    dependencies: Vec<String>,
    /// From 0 to 1.
    confidence: f64,
    /// The share of its imports that stay inside; 1 when it has none.
    cohesion: f64,
}

/// A file, as far as it matters here.
#[derive(Clone, Debug)]
struct File {
    path: String,
    imports: Vec<String>,
}

/// `POST /api/modules/detect`.
pub(crate) fn detect(Json(input): Json<Files>) -> Result<Json<Proposals>> {
    let mut faults = Faults::default();
    let mut files = Vec::with_capacity(input.files.len());
    for (index, file) in input.files.iter().enumerate() {
        match read(file) {
            Some(file) => files.push(file),
            None => faults.add(format!("files[{index}]"), "must be a relative path, or {path, imports?: [text]}"),
        }
    }
    faults.finish()?;
    Ok(Json(Proposals { modules: propose(&files) }))
}

fn read(value: &Value) -> Option<File> {
    let (path, imports) = match value {
        Value::String(path) => (path.as_str(), Vec::new()),
        Value::Object(members) => {
            let imports = match members.get("imports") {
                None | Some(Value::Null) => Vec::new(),
                Some(imports) => {
                    let imports = imports.as_array()?;
                    imports.iter().map(|import| import.as_str().map(ToString::to_string)).collect::<Option<_>>()?
                }
            };
            (members.get("path")?.as_str()?, imports)
        }
        _ => return None,
    };
    let is_plain = path.len() <= 1024 && !path.starts_with('/') && !path.contains(['\\', '\0', '\n']);
    let path = join("", path)?;
    (is_plain && !path.is_empty()).then_some(File { path, imports })
}

/// A relative path below a folder, without `.` and `..`; none when it leaves the root.
fn join(folder: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." {
            parts.pop()?;
        } else {
            parts.push(part);
        }
    }
    Some(parts.join("/"))
}

/// The folder that makes a file's module: down to the first one with a name of its own.
fn module_of(path: &str) -> &str {
    let mut end = 0;
    for (at, _) in path.match_indices('/') {
        let folder = path.get(end..at).unwrap_or_default().trim_start_matches('/');
        end = at;
        if !GENERIC.contains(&folder) {
            break;
        }
    }
    path.get(..end).unwrap_or_default()
}

/// The modules that the files seem to make, by their paths.
fn propose(files: &[File]) -> Vec<Proposal> {
    let mut modules: BTreeMap<&str, Vec<&File>> = BTreeMap::new();
    for file in files {
        modules.entry(module_of(&file.path)).or_default().push(file);
    }
    let paths: Vec<&str> = modules.keys().copied().collect();
    modules.iter().map(|(path, files)| proposal(path, files, &paths)).collect()
}

fn proposal(path: &str, files: &[&File], modules: &[&str]) -> Proposal {
    let mut dependencies: BTreeSet<&str> = BTreeSet::new();
    let (mut inside, mut resolved) = (0_u32, 0_u32);
    for file in files {
        let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for target in file.imports.iter().filter_map(|import| target_of(import, folder, modules)) {
            resolved += 1;
            if target == path {
                inside += 1;
            } else {
                dependencies.insert(target);
            }
        }
    }
    let cohesion = if resolved == 0 { 1.0 } else { f64::from(inside) / f64::from(resolved) };
    let mut paths: Vec<String> = files.iter().map(|file| file.path.clone()).collect();
    paths.sort();
    paths.dedup();
    #[expect(clippy::cast_precision_loss, reason = "at most a handful")]
    let size = paths.len().min(FILES_SURE) as f64 / FILES_SURE as f64;
    let name = path.rsplit('/').next().unwrap_or_default();
    let is_named = !name.is_empty() && !GENERIC.contains(&name);
    let confidence = (0.5 * size + 0.5 * cohesion) * if is_named { 1.0 } else { 0.5 };
    Proposal {
        name: if name.is_empty() { "root".into() } else { name.into() },
        path: path.into(),
        files: paths,
        dependencies: dependencies.into_iter().map(ToString::to_string).collect(),
        confidence: crate::score::rounded(confidence),
        cohesion: crate::score::rounded(cohesion),
    }
}

/// The module that an import means: a relative one from the file's folder, another one by the module's path or name.
fn target_of<'a>(import: &str, folder: &str, modules: &[&'a str]) -> Option<&'a str> {
    if import.starts_with('.') {
        let path = join(folder, import)?;
        // It may name a folder or a file; the ending of a file may be missing.
        let as_folder = format!("{path}/");
        let (folder, file) = (module_of(&as_folder), module_of(&path));
        return modules.iter().find(|known| **known == folder || **known == file).copied();
    }
    let spelled = import.replace("::", "/").replace('.', "/");
    let spelled = spelled.trim_start_matches(['@', '~', '/']).trim_start_matches("crate/");
    let holds = |path: &str, rest: &str| rest == path || rest.starts_with(&format!("{path}/"));
    modules
        .iter()
        .filter(|module| !module.is_empty())
        .find(|module| {
            let name = module.rsplit('/').next().unwrap_or_default();
            holds(module, spelled) || (!GENERIC.contains(&name) && holds(name, spelled))
        })
        .copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(path: &str, imports: &[&str]) -> File {
        File { path: path.into(), imports: imports.iter().map(ToString::to_string).collect() }
    }

    #[test]
    fn a_module_is_the_first_folder_with_a_name_of_its_own() {
        for (path, module) in [
            ("src/auth/login.ts", "src/auth"),
            ("packages/api/src/index.ts", "packages/api"),
            ("src/main.rs", "src"),
            ("README.md", ""),
            ("auth/deep/er/x.go", "auth"),
        ] {
            assert_eq!(module_of(path), module, "{path}");
        }
    }

    #[test]
    fn imports_become_dependencies() {
        let files = [
            file("src/auth/login.ts", &["../db/pool", "./session", "@scope/else"]),
            file("src/auth/session.ts", &["crate::db::rows", "src/auth/login"]),
            file("src/db/pool.ts", &[]),
        ];
        let found = propose(&files);
        let auth = &found[0];
        assert_eq!((auth.path.as_str(), auth.dependencies.as_slice()), ("src/auth", ["src/db".to_string()].as_slice()));
        assert_eq!((auth.cohesion, auth.confidence), (0.5, 0.45));
        assert_eq!((found[1].name.as_str(), found[1].cohesion), ("db", 1.0));
    }

    #[test]
    fn what_is_no_path_below_the_root_is_none() {
        for value in [
            json!("/etc/x"),
            json!("../x"),
            json!(""),
            json!(5),
            json!({"imports": []}),
            json!({"path": "a", "imports": [1]}),
        ] {
            assert!(read(&value).is_none(), "{value}");
        }
        assert_eq!(read(&json!("./a//b/../c.rs")).unwrap().path, "a/c.rs");
    }

    proptest! {
        #[test]
        fn every_file_is_in_one_module_whatever_the_order(
            mut paths in prop::collection::btree_set("(src/|lib/)?([a-c]/){0,3}[x-z]\\.rs", 1..20).prop_map(|set| set.into_iter().collect::<Vec<_>>()),
            by in any::<prop::sample::Index>()
        ) {
            let files = |paths: &[String]| paths.iter().map(|path| file(path, &[])).collect::<Vec<_>>();
            let first = propose(&files(&paths));
            let mut seen: Vec<&String> = first.iter().flat_map(|module| &module.files).collect();
            seen.sort();
            prop_assert_eq!(seen, paths.iter().collect::<Vec<_>>());
            for module in &first {
                prop_assert!(module.files.iter().all(|path| path.starts_with(&module.path)));
                prop_assert!((0.0..=1.0).contains(&module.confidence));
            }
            let places = paths.len();
            paths.rotate_left(by.index(places));
            prop_assert_eq!(propose(&files(&paths)), first);
        }
    }
}
