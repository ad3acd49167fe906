//! Reading package manifests. Pure; what is not understood is a sentence, never a guess.

use std::collections::BTreeMap;

use berth_sdk::serde_json::{self, Map, Value};
use toml_edit::{DocumentMut, Item, TableLike};

use super::super::package::Ecosystem;

/// A package that a manifest names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub name: String,
    pub version: String,
    pub is_development: bool,
}

/// The ecosystem that a manifest's name tells.
pub(super) fn ecosystem_of(file_name: &str) -> Option<Ecosystem> {
    match file_name {
        "package.json" | "package-lock.json" => Some(Ecosystem::Npm),
        "Cargo.toml" | "Cargo.lock" => Some(Ecosystem::Cargo),
        "go.mod" => Some(Ecosystem::Go),
        name if name.starts_with("requirements") && name.ends_with(".txt") => Some(Ecosystem::Pypi),
        _ => None,
    }
}

/// The packages of a manifest, each once, in the order of their names.
pub(super) fn read(ecosystem: Ecosystem, file_name: &str, text: &str) -> Result<Vec<Found>, String> {
    let found = match ecosystem {
        Ecosystem::Npm => npm(text)?,
        Ecosystem::Cargo => cargo(file_name, text)?,
        Ecosystem::Pypi => requirements(text),
        Ecosystem::Go => go(text),
    };
    let mut by_name: BTreeMap<String, Found> = BTreeMap::new();
    for package in found {
        let is_long = package.name.len() > 300 || package.version.len() > 200 || package.name.is_empty();
        if is_long || package.name.chars().any(char::is_control) {
            return Err("names a package that no registry would have".into());
        }
        // What is needed to run counts for more than what is needed to build.
        let known = by_name.entry(package.name.clone()).or_insert_with(|| package.clone());
        if known.is_development && !package.is_development {
            *known = package;
        }
    }
    Ok(by_name.into_values().collect())
}

fn npm(text: &str) -> Result<Vec<Found>, String> {
    let document: Map<String, Value> =
        serde_json::from_str(text).map_err(|error| format!("is no JSON object: {error}"))?;
    let mut found = Vec::new();
    if let Some(packages) = document.get("packages").and_then(Value::as_object) {
        for (path, package) in packages {
            let Some((_, name)) = path.rsplit_once("node_modules/") else { continue };
            let text = |member: &str| package.get(member).and_then(Value::as_str);
            let is_development = package.get("dev") == Some(&Value::Bool(true));
            found.push(Found {
                name: text("name").unwrap_or(name).into(),
                version: text("version").unwrap_or("*").into(),
                is_development,
            });
        }
        return Ok(found);
    }
    for (member, is_development) in [
        ("dependencies", false),
        ("optionalDependencies", false),
        ("peerDependencies", false),
        ("devDependencies", true),
    ] {
        for (name, version) in document.get(member).and_then(Value::as_object).into_iter().flatten() {
            let version = version.as_str().or_else(|| version.get("version")?.as_str()).unwrap_or("*");
            found.push(Found { name: name.clone(), version: version.into(), is_development });
        }
    }
    Ok(found)
}

fn cargo(file_name: &str, text: &str) -> Result<Vec<Found>, String> {
    let document: DocumentMut = text.parse().map_err(|_| "is no TOML".to_string())?;
    let mut found = Vec::new();
    if let Some(packages) = document.get("package").and_then(Item::as_array_of_tables) {
        for package in packages {
            let text = |member: &str| package.get(member).and_then(Item::as_str);
            // Without a source it is one of the workspace itself.
            if let (Some(name), Some(version), Some(_)) = (text("name"), text("version"), text("source")) {
                found.push(Found { name: name.into(), version: version.into(), is_development: false });
            }
        }
        return Ok(found);
    }
    if file_name == "Cargo.lock" {
        return Err("has no packages".into());
    }
    let table = |item: Option<&Item>| item.and_then(Item::as_table_like).map(|table| collect(table, false));
    let mut sections: Vec<Vec<Found>> = Vec::new();
    let mut take = |holder: &dyn TableLike| {
        for (member, is_development) in
            [("dependencies", false), ("build-dependencies", false), ("dev-dependencies", true)]
        {
            if let Some(table) = holder.get(member).and_then(Item::as_table_like) {
                sections.push(collect(table, is_development));
            }
        }
    };
    take(document.as_table());
    for (_, target) in document.get("target").and_then(Item::as_table_like).into_iter().flat_map(TableLike::iter) {
        if let Some(target) = target.as_table_like() {
            take(target);
        }
    }
    let shared = document.get("workspace").and_then(Item::as_table_like);
    sections.extend(table(shared.and_then(|workspace| workspace.get("dependencies"))));
    found.extend(sections.into_iter().flatten());
    Ok(found)
}

fn collect(table: &dyn TableLike, is_development: bool) -> Vec<Found> {
    let package = |(name, item): (&str, &Item)| {
        let member = |member: &str| item.as_table_like()?.get(member)?.as_str().map(ToString::to_string);
        // One by path, or of the workspace, has no version of its own here.
        let version = item.as_str().map(ToString::to_string).or_else(|| member("version"))?;
        let name = member("package").unwrap_or_else(|| name.to_string());
        Some(Found { name, version, is_development })
    };
    table.iter().filter_map(package).collect()
}

fn requirements(text: &str) -> Vec<Found> {
    let package = |line: &str| {
        let line = line.split('#').next().unwrap_or_default().split(';').next().unwrap_or_default().trim();
        if line.is_empty() || line.starts_with('-') || line.contains("://") {
            return None;
        }
        let end =
            line.find(|letter: char| !(letter.is_ascii_alphanumeric() || "._-".contains(letter))).unwrap_or(line.len());
        let (name, rest) = line.split_at(end);
        let rest = rest.trim_start();
        let version = match rest.strip_prefix('[') {
            Some(extras) => extras.split_once(']').map_or("", |(_, version)| version),
            None => rest,
        };
        let version = version.trim().trim_start_matches("==").trim();
        let version = if version.is_empty() { "*" } else { version };
        // Names of packages are the same in any case and with any separator.
        let name = name.to_lowercase().replace(['_', '.'], "-");
        Some(Found { name, version: version.into(), is_development: false })
    };
    text.lines().filter_map(package).collect()
}

fn go(text: &str) -> Vec<Found> {
    let mut found = Vec::new();
    let mut is_inside = false;
    for line in text.lines() {
        let line = line.split("//").next().unwrap_or_default().trim();
        if line == ")" {
            is_inside = false;
        } else if line.starts_with("require") && line.ends_with('(') {
            is_inside = true;
        } else if let Some(pair) = line.strip_prefix("require ").or(is_inside.then_some(line)) {
            let mut words = pair.split_whitespace();
            if let (Some(name), Some(version)) = (words.next(), words.next()) {
                let version = version.trim_start_matches('v');
                found.push(Found { name: name.into(), version: version.into(), is_development: false });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(ecosystem: Ecosystem, name: &str, text: &str) -> Vec<String> {
        let found = read(ecosystem, name, text).unwrap();
        found
            .into_iter()
            .map(|found| format!("{}@{}{}", found.name, found.version, if found.is_development { " dev" } else { "" }))
            .collect()
    }

    #[test]
    fn each_manifest_names_its_packages() {
        let npm = r#"{"dependencies": {"left": "^1.2.0", "both": "1.0.0"}, "devDependencies": {"test-it": "2", "both": "1.0.0"}}"#;
        assert_eq!(texts(Ecosystem::Npm, "package.json", npm), ["both@1.0.0", "left@^1.2.0", "test-it@2 dev"]);
        let lock = r#"{"packages": {"": {"name": "own"}, "node_modules/a": {"version": "1.0.0"}, "node_modules/a/node_modules/@s/b": {"version": "2.0.0", "dev": true}}}"#;
        assert_eq!(texts(Ecosystem::Npm, "package-lock.json", lock), ["@s/b@2.0.0 dev", "a@1.0.0"]);
        let cargo = "[package]\nname = \"own\"\n[dependencies]\nserde = \"1\"\nown-too = { path = \"x\" }\nother = { package = \"real\", version = \"0.3\" }\n[dev-dependencies]\nproptest = \"1\"\n[target.'cfg(unix)'.dependencies]\nnix = \"0.29\"\n";
        assert_eq!(texts(Ecosystem::Cargo, "Cargo.toml", cargo), ["nix@0.29", "proptest@1 dev", "real@0.3", "serde@1"]);
        let lock = "[[package]]\nname = \"own\"\nversion = \"0.1.0\"\n[[package]]\nname = \"serde\"\nversion = \"1.0.1\"\nsource = \"registry+x\"\n";
        assert_eq!(texts(Ecosystem::Cargo, "Cargo.lock", lock), ["serde@1.0.1"]);
        let python =
            "# x\nDjango==4.2.1\nrequests[socks]>=2.31,<3 ; python_version > '3'\n-r other.txt\ngit+https://x\nplain\n";
        assert_eq!(
            texts(Ecosystem::Pypi, "requirements.txt", python),
            ["django@4.2.1", "plain@*", "requests@>=2.31,<3"]
        );
        let go = "module x\n\nrequire (\n\tgolang.org/x/net v0.17.0 // indirect\n)\nrequire github.com/a/b v1.2.3\n";
        assert_eq!(texts(Ecosystem::Go, "go.mod", go), ["github.com/a/b@1.2.3", "golang.org/x/net@0.17.0"]);
    }

    #[test]
    fn what_is_no_manifest_is_said_so() {
        assert!(read(Ecosystem::Npm, "package.json", "[]").is_err());
        assert!(read(Ecosystem::Cargo, "Cargo.toml", "= x").is_err());
        assert!(ecosystem_of("pom.xml").is_none());
    }

    proptest! {
        #[test]
        fn whatever_comes_in_no_package_is_there_twice(text in "([a-c]{1,3}(==[0-9.]{1,4})?\n){0,20}|.{0,200}", ecosystem in 0usize..4) {
            if let Ok(found) = read(Ecosystem::ALL[ecosystem], "", &text) {
                let mut names: Vec<&String> = found.iter().map(|found| &found.name).collect();
                names.dedup();
                prop_assert_eq!(names.len(), found.len());
            }
        }
    }
}
