//! The packages of a project: which versions it uses, and what is known to be wrong with them.

use berth_sdk::prelude::*;
use semver::Version;

use crate::project::{self, Project};

/// Where packages come from.
#[choice]
pub(crate) enum Ecosystem {
    Npm,
    Cargo,
    Pypi,
    Go,
}

/// Something that is known to be wrong with a version.
#[data]
pub(crate) struct Vulnerability {
    /// Such as `GHSA-…` or `CVE-…`.
    #[field(min = 1, max = 100, plain)]
    pub id: String,
    #[field(max = 20)]
    pub severity: Option<String>,
    #[field(max = 2000)]
    pub summary: Option<String>,
    /// The first version without it.
    #[field(max = 100)]
    pub fixed_in: Option<String>,
}

/// A package that a project uses.
#[entity(table = "project_packages", sort = "name")]
pub(crate) struct Package {
    #[field(readonly, parent = Project)]
    pub project_id: Id,
    pub ecosystem: Ecosystem,
    #[field(min = 1, max = 300, filter)]
    pub name: String,
    /// As the manifest says it: exact, or a range.
    #[field(max = 200)]
    pub version: String,
    #[field(max = 200)]
    pub latest_version: Option<String>,
    pub is_development: bool,
    #[field(max = 200)]
    pub vulnerabilities: Vec<Vulnerability>,
    pub vulnerability_count: i64,
    pub last_scanned_at: Timestamp,
}

impl Rules for Package {
    fn scope() -> Option<Condition> {
        Some(project::within("project_packages"))
    }
}

/// `GET /api/dependencies/packages`.
pub(super) fn list(query: PageQuery) -> Result<JsonText<Page<Stored<Package>>>> {
    Select::new().page(&Pool, &query)
}

/// A vulnerability with the package it is in.
#[data]
pub(crate) struct Known {
    package_id: Id,
    project_id: Id,
    ecosystem: Ecosystem,
    name: String,
    version: String,
    last_scanned_at: Timestamp,
    vulnerabilities: Vec<Vulnerability>,
}

/// Which vulnerabilities.
#[data]
pub(crate) struct Which {
    project_id: Option<Id>,
}

/// `GET /api/dependencies/vulnerabilities?projectId`: packages that have any, most first.
pub(super) fn vulnerabilities(Query(which): Query<Which>, query: PageQuery) -> Result<Json<Page<Known>>> {
    let mut select = Select::<Package>::new().condition("vulnerability_count > ?", [0]).sort("-vulnerabilityCount");
    if let Some(project_id) = &which.project_id {
        entity::read::<Project>(&Pool, project_id)?;
        select = select.equal("project_id", project_id);
    }
    let total = select.count(&Pool)?;
    let end = query.offset.saturating_add(query.limit);
    let items = select.limit(end).all(&Pool)?;
    let items = items
        .into_iter()
        .skip(usize::try_from(query.offset).unwrap_or(usize::MAX))
        .map(|package| Known {
            package_id: package.id,
            project_id: package.data.project_id,
            ecosystem: package.data.ecosystem,
            name: package.data.name,
            version: package.data.version,
            last_scanned_at: package.data.last_scanned_at,
            vulnerabilities: package.data.vulnerabilities,
        })
        .collect();
    Ok(Json(query.envelope(items, total)))
}

/// The body of `PUT /api/dependencies/{id}/update`.
#[data]
pub(crate) struct Move {
    /// The latest known version when absent.
    #[field(min = 1, max = 200)]
    version: Option<String>,
}

/// `PUT /api/dependencies/{id}/update`: 422 for a version that is not newer. What is fixed in the new version is taken off
/// the list; what is not known to be fixed stays.
pub(super) fn update(Params(id): Params<Id>, if_match: IfMatch, input: Option<Json<Move>>) -> Result<Stored<Package>> {
    let wish = input.and_then(|Json(input)| input.version);
    database::transaction(|transaction| {
        let mut package = entity::read::<Package>(transaction, &id)?;
        if_match.check(package.version)?;
        project::require_edit(transaction, &package.project_id)?;
        let wanted = wish
            .or_else(|| package.latest_version.clone())
            .ok_or_else(|| Problem::field("version", "is required: no newer version is known"))?;
        let to = version_of(&wanted).ok_or_else(|| Problem::field("version", "must be a version such as 1.4.0"))?;
        if version_of(&package.data.version).is_some_and(|from| to <= from) {
            return Err(Problem::unprocessable(format!("{wanted} is not newer than {}.", package.data.version)));
        }
        package.vulnerabilities.retain(|known| !is_fixed(known, &to));
        package.vulnerability_count = i64::try_from(package.vulnerabilities.len()).unwrap_or(i64::MAX);
        let is_latest = package.latest_version.as_deref().and_then(version_of).is_none_or(|latest| latest < to);
        if is_latest {
            package.latest_version = Some(wanted.clone());
        }
        package.data.version = wanted;
        entity::save(transaction, &mut package)?;
        Ok(package)
    })
}

/// Whether a version is beyond a vulnerability.
pub(super) fn is_fixed(known: &Vulnerability, version: &Version) -> bool {
    known.fixed_in.as_deref().and_then(version_of).is_some_and(|fixed| fixed <= *version)
}

/// The version that a requirement means at least: `^1.2`, `v1.2.3`, `>=1.2.3,<2` and the like.
pub(super) fn version_of(text: &str) -> Option<Version> {
    let first = text.split([',', ' ', '|']).find(|part| part.contains(|letter: char| letter.is_ascii_digit()))?;
    let bare = first.trim_start_matches(|letter: char| !letter.is_ascii_digit());
    if let Ok(version) = Version::parse(bare) {
        return Some(version);
    }
    let numbers = bare.split(['-', '+']).next().unwrap_or_default();
    let mut parts = numbers.split('.').map(|part| part.parse::<u64>().ok());
    let major = parts.next()??;
    let next = |part: Option<Option<u64>>| part.flatten().unwrap_or(0);
    Some(Version::new(major, next(parts.next()), next(parts.next())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Version, Vulnerability, is_fixed, version_of};

    #[test]
    fn a_requirement_means_at_least_a_version() {
        for (text, version) in [
            ("1.2.3", "1.2.3"),
            ("^1.2", "1.2.0"),
            ("~=2", "2.0.0"),
            ("v0.4.1", "0.4.1"),
            (">=1.2.3,<2", "1.2.3"),
            (">= 3.1", "3.1.0"),
            ("1.0.0-rc.1", "1.0.0-rc.1"),
            ("2024.1.15.2", "2024.1.15"),
        ] {
            assert_eq!(version_of(text), Some(Version::parse(version).unwrap()), "{text}");
        }
        for text in ["*", "", "latest", "git+https://x"] {
            assert_eq!(version_of(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_fixed_stays_fixed_later(fixed in (0u64..5, 0u64..5, 0u64..5), now in (0u64..5, 0u64..5, 0u64..5)) {
            let (fixed, now) = (Version::new(fixed.0, fixed.1, fixed.2), Version::new(now.0, now.1, now.2));
            let known = Vulnerability { id: "V".into(), severity: None, summary: None, fixed_in: Some(fixed.to_string()) };
            prop_assert_eq!(is_fixed(&known, &now), now >= fixed);
        }
    }
}
