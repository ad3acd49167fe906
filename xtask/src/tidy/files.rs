//! What every file owes its reader: a head that says what it is for, and an end within reach.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;

use super::Finding;
use super::source::Source;
use crate::workspace;

/// Lines of a Rust file.
const LINES_MAX: usize = 600;
/// Places on one machine, spelled in two parts so that this file does not find itself.
const MACHINE_PATHS: [(&str, &str); 5] =
    [("/ro", "ot/"), ("/ho", "me/"), ("/wo", "rk/"), ("/tm", "p/wt"), ("/Us", "ers/")];
/// Words for work that is not done.
const LEFT_OVERS: [(&str, &str); 3] = [("TO", "DO"), ("FIX", "ME"), ("XX", "X:")];

/// Length, head, names and left-overs of one file.
pub(super) fn check(source: &Source, findings: &mut Vec<Finding>) {
    let mut find = |line: Option<usize>, sentence: String| {
        findings.push(Finding { path: source.path.clone(), line, sentence });
    };
    if source.is_rust() {
        if source.path.ends_with("/mod.rs") {
            find(None, "is a mod.rs; name it after its folder and put it beside it".to_owned());
        }
        let count = source.text.lines().count();
        if count > LINES_MAX {
            find(None, format!("has {count} lines; split it, {LINES_MAX} is the most"));
        }
        let first = source.text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        // A room's tests are a part of it.
        if !first.starts_with("//!") && !source.path.ends_with("/tests.rs") {
            find(Some(1), "must begin with //! and what the file is for, and what it must never do".to_owned());
        }
    }
    for (number, line) in source.text.lines().enumerate() {
        for (first, second) in MACHINE_PATHS {
            if holds_path(line, &format!("{first}{second}")) {
                find(Some(number + 1), format!("names a path of one machine, {first}{second}"));
            }
        }
        for (first, second) in LEFT_OVERS {
            if holds_word(line, &format!("{first}{second}")) {
                find(Some(number + 1), format!("says {first}{second}; do it, or open an issue"));
            }
        }
    }
}

/// Whether the line holds an absolute path that begins so; a longer path that merely contains it does not count.
fn holds_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        !before.is_some_and(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | '}' | '>' | '*'))
    })
}

fn holds_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        let after = line.get(at + word.len()..).and_then(|text| text.chars().next());
        let is_letter = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
        !is_letter(before) && !is_letter(after)
    })
}

/// A migration for one dialect needs its twin, and numbers are not used twice.
pub(super) fn check_migrations(sources: &[Source], findings: &mut Vec<Finding>) {
    let paths: BTreeSet<&str> = sources.iter().map(|source| source.path.as_str()).collect();
    let mut numbers = BTreeSet::new();
    for path in paths.iter().filter(|path| path.contains("migrations/") && path.ends_with(".sql")) {
        let mut find = |sentence: String| findings.push(Finding { path: (*path).to_owned(), line: None, sentence });
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let stem = name.trim_end_matches(".sql");
        let is_numbered = stem.split_once('_').is_some_and(|(number, rest)| {
            number.len() == 4 && number.chars().all(|c| c.is_ascii_digit()) && !rest.is_empty()
        });
        if !is_numbered {
            find("is not named as 0001_create_things.sql".to_owned());
            continue;
        }
        let (plain, twin) = match (stem.strip_suffix(".sqlite"), stem.strip_suffix(".postgres")) {
            (Some(plain), _) => (plain, Some(format!("{folder}/{plain}.postgres.sql"))),
            (_, Some(plain)) => (plain, Some(format!("{folder}/{plain}.sqlite.sql"))),
            _ => (stem, None),
        };
        if let Some(twin) = &twin
            && !paths.contains(twin.as_str())
        {
            find(format!("is for one dialect and has no twin {twin}"));
        }
        let number = plain.split('_').next().unwrap_or_default();
        let dialect = if twin.is_some() { stem.rsplit('.').next().unwrap_or_default() } else { "" };
        if !numbers.insert(format!("{folder}/{number}.{dialect}")) {
            find(format!("uses the number {number} again"));
        }
    }
}

/// Every component says what it is in a README.
///
/// # Errors
/// When a manifest cannot be read.
pub(super) fn check_components(root: &Path, sources: &[Source], findings: &mut Vec<Finding>) -> Result<()> {
    for component in workspace::components(&root.join("components"))? {
        let folder = component.folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let readme = format!("components/{folder}/README.md");
        if !sources.iter().any(|source| source.path == readme) {
            findings.push(Finding {
                path: readme,
                line: None,
                sentence: "is missing: every component has one".to_owned(),
            });
        }
        if folder != component.name {
            let sentence = format!("holds the package {}; folder and plugin have one name", component.name);
            findings.push(Finding { path: format!("components/{folder}"), line: None, sentence });
        }
    }
    Ok(())
}

/// Every dependency stands in ARCHITECTURE.md, with its reason.
pub(super) fn check_dependencies(sources: &[Source], findings: &mut Vec<Finding>) {
    let text = |path: &str| sources.iter().find(|source| source.path == path).map(|source| source.text.as_str());
    let (Some(manifest), Some(document)) = (text("Cargo.toml"), text("ARCHITECTURE.md")) else { return };
    let Ok(manifest) = manifest.parse::<toml_edit::DocumentMut>() else { return };
    let names: BTreeSet<&str> = document
        .lines()
        .filter_map(|line| line.strip_prefix('|')?.split('|').next())
        .flat_map(|cell| cell.split(','))
        .map(str::trim)
        .collect();
    let dependencies = manifest
        .get("workspace")
        .and_then(|workspace| workspace.get("dependencies"))
        .and_then(|table| table.as_table_like());
    for (name, item) in dependencies.into_iter().flat_map(|table| table.iter()) {
        let is_own = item.get("path").is_some();
        if !is_own && !names.contains(name) {
            let sentence = format!("does not say why there is the dependency {name}");
            findings.push(Finding { path: "ARCHITECTURE.md".to_owned(), line: None, sentence });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentences(path: &str, text: &str) -> Vec<String> {
        let mut findings = Vec::new();
        check(&Source::new(path, text), &mut findings);
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_file_begins_with_its_purpose_and_ends_in_time() {
        assert!(sentences("a.rs", "//! What it is for.\n").is_empty());
        assert_eq!(sentences("a.rs", "use std::fs;\n").len(), 1);
        assert_eq!(sentences("a.rs", &format!("//! x\n{}", "\n".repeat(600))).len(), 1);
        assert_eq!(sentences("a/mod.rs", "//! x\n").len(), 1);
        assert!(sentences("a.md", "text").is_empty());
    }

    #[test]
    fn left_overs_and_machine_paths_are_found() {
        let left_over = ["TO", "DO"].concat();
        assert_eq!(sentences("a.md", &format!("{left_over}: later")).len(), 1);
        assert!(sentences("a.md", &format!("a{left_over}s")).is_empty());
        let home = ["/ho", "me/ann/x"].concat();
        assert_eq!(sentences("a.md", &format!("see {home}")).len(), 1);
        assert!(sentences("a.md", &format!("https://example.com{home}")).is_empty());
    }

    #[test]
    fn a_dependency_needs_a_reason() {
        let manifest = "[workspace.dependencies]\nserde = \"1\"\nregex = \"1\"\nown = { path = \"own\" }\n";
        let sources = [Source::new("Cargo.toml", manifest), Source::new("ARCHITECTURE.md", "| serde, toml | data |\n")];
        let mut findings = Vec::new();
        check_dependencies(&sources, &mut findings);
        assert_eq!(findings.len(), 1, "{findings:?}");
    }

    #[test]
    fn a_dialects_migration_needs_its_twin() {
        let check = |paths: &[&str]| {
            let sources: Vec<Source> = paths.iter().map(|path| Source::new(path, "")).collect();
            let mut findings = Vec::new();
            check_migrations(&sources, &mut findings);
            findings.len()
        };
        assert_eq!(
            check(&[
                "migrations/host/0001_a.sql",
                "migrations/host/0002_b.sqlite.sql",
                "migrations/host/0002_b.postgres.sql"
            ]),
            0
        );
        assert_eq!(check(&["migrations/host/0002_b.sqlite.sql"]), 1);
        assert_eq!(check(&["migrations/host/0001_a.sql", "migrations/host/0001_b.sql"]), 1);
        assert_eq!(check(&["migrations/host/first.sql"]), 1);
        assert_eq!(check(&["migrations/host/0001_a.sql", "migrations/planning/0001_a.sql"]), 0);
    }
}
