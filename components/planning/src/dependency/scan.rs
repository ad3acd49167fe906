//! Scanning package manifests that come in the request, and asking a vulnerability feed where one is set up.

mod manifest;

use std::collections::BTreeMap;

use berth_sdk::{http_out, prelude::*, serde_json::Value};

use super::package::{Ecosystem, Package, Vulnerability, is_fixed, version_of};
use crate::project;
use manifest::Found;

/// The most packages of one manifest.
const PACKAGES_MAX: usize = 2_000;
/// How many packages one question to the feed names.
const FEED_BATCH: usize = 500;

/// The body of `POST /api/dependencies/scan`.
#[data]
pub(crate) struct Wish {
    project_id: Id,
    /// The manifest's text: `package.json`, `package-lock.json`, `Cargo.toml`, `Cargo.lock`, `requirements.txt` or
    /// `go.mod`.
    #[field(min = 1, raw)]
    manifest: String,
    /// The manifest's name; tells what it is when `ecosystem` does not.
    #[field(max = 200, plain)]
    file_name: Option<String>,
    ecosystem: Option<Ecosystem>,
    /// Advisories that are known here, for hosts without a feed.
    #[field(default, max = 1000)]
    advisories: Vec<Advisory>,
}

/// Something known of a package.
#[data]
pub(crate) struct Advisory {
    #[field(min = 1, max = 300)]
    package: String,
    #[field(min = 1, max = 100, plain)]
    id: String,
    #[field(max = 20)]
    severity: Option<String>,
    #[field(max = 2000)]
    summary: Option<String>,
    /// The first version without it; every version has it when absent.
    #[field(max = 100)]
    fixed_in: Option<String>,
}

/// What a scan found.
#[derive(berth_sdk::serde::Serialize, berth_sdk::schemars::JsonSchema)]
#[serde(crate = "berth_sdk::serde", rename_all = "camelCase")]
#[schemars(crate = "berth_sdk::schemars")]
pub(crate) struct Scan {
    project_id: Id,
    ecosystem: Ecosystem,
    packages: Vec<Stored<Package>>,
    /// How many of them the project did not have.
    added: usize,
    /// How many have another version than before.
    changed: usize,
    /// How many vulnerabilities are known of them.
    vulnerabilities: i64,
    /// `asked`, `not_configured` or `unavailable`; without it only the request's advisories are known.
    feed: Feed,
}

/// Whether somebody was asked what is wrong with the packages.
#[choice]
pub(crate) enum Feed {
    Asked,
    NotConfigured,
    Unavailable,
}

/// `POST /api/dependencies/scan`: the packages of the manifest are kept, by project, ecosystem and name.
pub(super) fn scan(Json(wish): Json<Wish>) -> Result<Json<Scan>> {
    let name = wish.file_name.as_deref().map(|name| name.rsplit('/').next().unwrap_or_default());
    let ecosystem = wish.ecosystem.or_else(|| manifest::ecosystem_of(name.unwrap_or_default())).ok_or_else(|| {
        Problem::field("ecosystem", "is required where fileName does not tell; one of npm, cargo, pypi, go")
    })?;
    let found = manifest::read(ecosystem, name.unwrap_or_default(), &wish.manifest)
        .map_err(|message| Problem::field("manifest", message))?;
    if found.len() > PACKAGES_MAX {
        return Err(Problem::field("manifest", format!("must name at most {PACKAGES_MAX} packages")));
    }
    // Nobody outside is asked for somebody who could not keep the answer, and not while a transaction is open.
    project::require_edit(&Pool, &wish.project_id)?;
    let (feed, known) = ask_feed(ecosystem, &found);
    database::transaction(|transaction| {
        project::require_edit(transaction, &wish.project_id)?;
        let mut old: BTreeMap<String, Stored<Package>> = Select::<Package>::new()
            .equal("project_id", &wish.project_id)
            .equal("ecosystem", ecosystem)
            .all(transaction)?
            .into_iter()
            .map(|package| (package.name.clone(), package))
            .collect();
        let mut scan = Scan {
            project_id: wish.project_id.clone(),
            ecosystem,
            packages: Vec::with_capacity(found.len()),
            added: 0,
            changed: 0,
            vulnerabilities: 0,
            feed,
        };
        for found in found {
            let mut vulnerabilities = known.get(&found.name).cloned().unwrap_or_default();
            vulnerabilities.extend(advised(&wish.advisories, &found));
            let before = old.remove(&found.name);
            scan.changed += usize::from(before.as_ref().is_some_and(|before| before.data.version != found.version));
            scan.added += usize::from(before.is_none());
            let package = keep(transaction, &wish.project_id, ecosystem, found, vulnerabilities, before)?;
            scan.vulnerabilities += package.vulnerability_count;
            scan.packages.push(package);
        }
        Ok(Json(scan))
    })
}

fn keep(
    transaction: &Transaction,
    project_id: &Id,
    ecosystem: Ecosystem,
    found: Found,
    vulnerabilities: Vec<Vulnerability>,
    before: Option<Stored<Package>>,
) -> Result<Stored<Package>> {
    let package = Package {
        project_id: project_id.clone(),
        ecosystem,
        name: found.name,
        version: found.version,
        latest_version: before.as_ref().and_then(|before| before.latest_version.clone()),
        is_development: found.is_development,
        vulnerability_count: i64::try_from(vulnerabilities.len()).unwrap_or(i64::MAX),
        vulnerabilities,
        last_scanned_at: clock::now(),
    };
    match before {
        None => entity::create(transaction, package),
        Some(mut stored) => {
            stored.data = package;
            entity::save(transaction, &mut stored)?;
            Ok(stored)
        }
    }
}

/// What the request's advisories say of a package.
fn advised(advisories: &[Advisory], found: &Found) -> Vec<Vulnerability> {
    let version = version_of(&found.version);
    advisories
        .iter()
        .filter(|advisory| advisory.package == found.name)
        .map(|advisory| Vulnerability {
            id: advisory.id.clone(),
            severity: advisory.severity.clone(),
            summary: advisory.summary.clone(),
            fixed_in: advisory.fixed_in.clone(),
        })
        .filter(|known| !version.as_ref().is_some_and(|version| is_fixed(known, version)))
        .collect()
}

/// Asks the feed that the setting `vulnerability_feed` names, which speaks the query protocol of OSV. Without one, or when
/// it does not answer, the scan goes on.
fn ask_feed(ecosystem: Ecosystem, found: &[Found]) -> (Feed, BTreeMap<String, Vec<Vulnerability>>) {
    let mut known: BTreeMap<String, Vec<Vulnerability>> = BTreeMap::new();
    let Some(base) = config::get::<String>("vulnerability_feed").filter(|base| !base.is_empty()) else {
        return (Feed::NotConfigured, known);
    };
    let client = http_out::Client::new(&base);
    for batch in found.chunks(FEED_BATCH) {
        let asked: Vec<(&Found, String)> =
            batch.iter().filter_map(|found| Some((found, version_of(&found.version)?.to_string()))).collect();
        let queries: Vec<Value> = asked
            .iter()
            .map(|(found, version)| {
                json!({ "package": { "name": found.name, "ecosystem": feed_name(ecosystem) }, "version": version })
            })
            .collect();
        let answer = client.post("/v1/querybatch").json(&json!({ "queries": queries })).fetch::<Value>();
        let Ok(answer) = answer.inspect_err(|problem| logging::warn!("the feed did not answer", problem = problem))
        else {
            return (Feed::Unavailable, BTreeMap::new());
        };
        let results = answer.get("results").and_then(Value::as_array).cloned().unwrap_or_default();
        for ((found, _), result) in asked.iter().zip(results) {
            let ids = result.get("vulns").and_then(Value::as_array).cloned().unwrap_or_default();
            let entries = ids.iter().filter_map(|entry| entry.get("id").and_then(Value::as_str)).take(100);
            let entries = entries.map(|id| Vulnerability {
                id: id.chars().take(100).collect(),
                severity: None,
                summary: None,
                fixed_in: None,
            });
            known.entry(found.name.clone()).or_default().extend(entries);
        }
    }
    (Feed::Asked, known)
}

fn feed_name(ecosystem: Ecosystem) -> &'static str {
    match ecosystem {
        Ecosystem::Npm => "npm",
        Ecosystem::Cargo => "crates.io",
        Ecosystem::Pypi => "PyPI",
        Ecosystem::Go => "Go",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advisories_count_until_they_are_fixed() {
        let advisory = |fixed_in: Option<&str>| Advisory {
            package: "left".into(),
            id: "A-1".into(),
            severity: None,
            summary: None,
            fixed_in: fixed_in.map(Into::into),
        };
        let found =
            |name: &str, version: &str| Found { name: name.into(), version: version.into(), is_development: false };
        let count = |fixed_in, name, version| advised(&[advisory(fixed_in)], &found(name, version)).len();
        assert_eq!(count(Some("1.3.0"), "left", "^1.2.0"), 1);
        assert_eq!(count(Some("1.3.0"), "left", "1.3.0"), 0);
        assert_eq!(count(None, "left", "9.9.9"), 1);
        assert_eq!(count(None, "right", "1.0.0"), 0);
        assert_eq!(count(Some("1.3.0"), "left", "*"), 1);
    }

    #[test]
    fn without_a_feed_a_scan_says_so() {
        assert_eq!(ask_feed(Ecosystem::Npm, &[]).0, Feed::NotConfigured);
    }
}
