//! The versions of a pattern: semantic ones, each higher than the one before.

use std::cmp::Ordering;

use berth_sdk::prelude::*;
use semver::Version;

use super::{CODE_CHARACTERS_MAX, Pattern, hold, say, sight::seen};

/// Characters of a version.
pub const CHARACTERS_MAX: usize = 64;

/// One version.
#[entity(table = "pattern_versions", name = "pattern version")]
pub struct PatternVersion {
    /// The pattern.
    #[field(immutable)]
    pub pattern_id: Id,
    /// As in `1.2.0`.
    #[field(
        immutable,
        filter,
        pattern = r"^(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})(-[A-Za-z][0-9A-Za-z-]*)?$"
    )]
    pub version: String,
    /// The code.
    #[field(immutable, raw)]
    pub code: String,
    /// What is different.
    #[field(immutable)]
    pub changelog: Option<String>,
    /// The one before it.
    #[field(immutable)]
    pub parent_version_id: Option<Id>,
}

impl Rules for PatternVersion {}

impl PatternVersion {
    /// Notes the present version of a pattern.
    pub fn note(
        transaction: &Transaction,
        row: &Stored<Pattern>,
        changelog: Option<String>,
        parent_version_id: Option<Id>,
    ) -> Result<Stored<Self>> {
        let version = Self {
            pattern_id: row.id.clone(),
            version: row.current_version.clone(),
            code: row.code.clone(),
            changelog,
            parent_version_id,
        };
        entity::create(transaction, version)
    }
}

/// Reads a version, as in `1.2.0` or `2.0.0-rc.1`.
pub fn parse(text: &str) -> Result<Version, String> {
    Version::parse(text).map_err(|_| "must be a semantic version such as 1.2.0".into())
}

/// The next version, where only the code is different.
pub fn after(current: &str) -> Result<String> {
    let mut version = parse(current).map_err(|fault| Problem::field("currentVersion", fault))?;
    if version.pre.is_empty() {
        let Some(patch) = version.patch.checked_add(1) else {
            return Err(Problem::unprocessable("There is no higher patch version; name a version yourself."));
        };
        version.patch = patch;
    }
    // What is behind a pre-release is the release itself.
    version.pre = semver::Prerelease::EMPTY;
    version.build = semver::BuildMetadata::EMPTY;
    Ok(version.to_string())
}

/// 409 unless the new version is higher; what stands behind a `+` makes no version higher.
fn require_higher(new: &Version, current: &str) -> Result<()> {
    let current_version = parse(current).map_err(|fault| Problem::field("currentVersion", fault))?;
    if new.cmp_precedence(&current_version) == Ordering::Greater {
        return Ok(());
    }
    let problem = Problem::conflict(format!("The version must be higher than {current}."));
    Err(problem.with_code("VERSION_NOT_HIGHER").with("currentVersion", current))
}

/// A version of a pattern.
pub fn find(database: &dyn Executor, pattern_id: &Id, version: &str) -> Result<Option<Stored<PatternVersion>>> {
    Select::<PatternVersion>::new().equal("pattern_id", pattern_id).equal("version", version).first(database)
}

/// `GET /api/patterns/{id}/versions`: the newest first.
pub fn list(Params(id): Params<Id>, query: PageQuery) -> Result<JsonText<Page<Stored<PatternVersion>>>> {
    seen(&id)?;
    Select::<PatternVersion>::new().equal("pattern_id", &id).page(&Pool, &query)
}

/// The body of `POST /api/patterns/{id}/versions`.
#[data]
pub struct NewVersion {
    /// Higher than the present one.
    #[field(min = 1, max = CHARACTERS_MAX, pattern = r"^(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})(-[A-Za-z][0-9A-Za-z-]*)?$")]
    version: String,
    /// The code.
    #[field(min = 1, max = CODE_CHARACTERS_MAX, raw)]
    code: String,
    /// What is different.
    #[field(max = 5_000)]
    changelog: Option<String>,
}

/// `POST /api/patterns/{id}/versions`: 409 when it is not higher.
pub fn add(
    Params(id): Params<Id>,
    if_match: IfMatch,
    Json(input): Json<NewVersion>,
) -> Result<Created<Stored<PatternVersion>>> {
    let new = parse(&input.version).map_err(|fault| Problem::field("version", fault))?;
    seen(&id)?;
    database::transaction(|transaction| {
        let mut row = hold(transaction, &id)?;
        if_match.check(row.version)?;
        require_higher(&new, &row.current_version)?;
        let parent = find(transaction, &id, &row.current_version)?.map(|version| version.id);
        row.code = input.code;
        row.current_version = new.to_string();
        // Only these columns: counters change beside the version.
        transaction.execute(
            "UPDATE pattern_patterns SET code = $2, current_version = $3, updated_at = $4, version = version + 1 WHERE id = $1",
            params![&row.id, &row.code, &row.current_version, clock::now()],
        )?;
        let version = PatternVersion::note(transaction, &row, input.changelog, parent)?;
        say(transaction, "pattern.updated", &row, json!({ "versionId": version.id }))?;
        Ok(Created(version))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_higher_or_it_is_none() {
        let judge = |new: &str, current: &str| require_higher(&parse(new).unwrap(), current);
        for (new, current) in
            [("1.0.1", "1.0.0"), ("1.10.0", "1.9.9"), ("2.0.0", "2.0.0-rc.1"), ("2.0.0-rc.2", "2.0.0-rc.1")]
        {
            judge(new, current).unwrap();
        }
        for (new, current) in [("1.0.0", "1.0.0"), ("1.0.0+b", "1.0.0"), ("0.9.9", "1.0.0"), ("1.0.0-rc.1", "1.0.0")] {
            assert_eq!(judge(new, current).unwrap_err().code, "VERSION_NOT_HIGHER", "{new} {current}");
        }
        for text in ["", "1", "1.0", "v1.0.0", "01.0.0", "1.0.0 "] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn other_code_is_the_next_version() {
        for (current, next) in [("1.0.0", "1.0.1"), ("1.2.9+build", "1.2.10"), ("2.0.0-rc.1", "2.0.0")] {
            assert_eq!(after(current).unwrap(), next);
            require_higher(&parse(next).unwrap(), current).unwrap();
        }
        assert_eq!(after(&format!("1.0.{}", u64::MAX)).unwrap_err().status, 422);
    }
}
