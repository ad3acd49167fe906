//! What somebody lacks: for a role, which templates of that title describe, or for the paths they are on.

use std::collections::BTreeMap;

use berth_sdk::prelude::*;

use super::{LEVEL_MAX, of};
use crate::{
    path::{Path, PathStatus},
    recommend::{self, Offer},
    words,
};

/// Paths that are looked at.
const PATHS_MAX: i64 = 50;
/// Resources that are named for one gap.
const RESOURCES_MAX: usize = 3;

/// For what.
#[data]
pub struct Wanted {
    /// The title of a template, whatever its case; without it the paths that the caller is on count.
    #[field(min = 1, max = 200)]
    role: Option<String>,
}

/// A skill that is not there yet.
#[data]
pub struct Gap {
    skill: String,
    /// The caller's level.
    level: i64,
    /// The level that is needed.
    required: i64,
    /// How many levels are between them.
    gap: i64,
    /// Resources that teach it.
    resources: Vec<Offer>,
}

/// What is lacking.
#[data]
pub struct Gaps {
    role: Option<String>,
    /// The paths that say what is needed; when there is none, nothing is known of the role.
    based_on: Vec<Offer>,
    /// The widest first.
    gaps: Vec<Gap>,
    /// Skills that are good enough.
    met: Vec<String>,
}

/// The level that a path leads to.
pub fn target(difficulty: &str) -> i64 {
    match words::key(difficulty).as_str() {
        "beginner" | "easy" | "basic" | "low" => 2,
        "advanced" | "hard" | "high" => 4,
        "expert" => LEVEL_MAX,
        _ => 3,
    }
}

/// What paths ask for, by the key of the skill: how it is written, and the highest level.
fn required<'a>(paths: impl IntoIterator<Item = &'a Path>) -> BTreeMap<String, (String, i64)> {
    let mut required: BTreeMap<String, (String, i64)> = BTreeMap::new();
    for path in paths {
        for skill in &path.skills_covered {
            let entry = required.entry(words::key(skill)).or_insert_with(|| (skill.clone(), 0));
            entry.1 = entry.1.max(target(&path.difficulty));
        }
    }
    required
}

/// `GET /api/learning/skill-gaps`.
pub fn read(Query(wanted): Query<Wanted>) -> Result<Json<Gaps>> {
    let user_id = auth::user_id()?;
    let select = Select::<Path>::new().sort("-createdAt").limit(PATHS_MAX);
    let paths = match &wanted.role {
        Some(role) => {
            words::called(select.equal("is_template", true).equal("status", PathStatus::Active), "title", role.trim())
        }
        None => select.condition(
            "id IN (SELECT path_id FROM learning_enrollments WHERE user_id = ? AND status = 'active')",
            [&user_id],
        ),
    };
    let paths = paths.all(&Pool)?;
    let levels: BTreeMap<String, i64> =
        of(&Pool, &user_id)?.into_iter().map(|row| (words::key(&row.skill), row.level)).collect();
    let offered = recommend::known(&Pool, Select::new())?;
    let mut met = Vec::new();
    let mut gaps = Vec::new();
    for (key, (skill, required)) in required(paths.iter().map(|path| &path.data)) {
        let level = levels.get(&key).copied().unwrap_or(0);
        if level >= required {
            met.push(skill);
            continue;
        }
        let teaches = offered.iter().filter(|one| one.skills.iter().any(|other| words::key(other) == key));
        let resources = teaches.take(RESOURCES_MAX).map(|one| Offer::new(&one.id, &one.title)).collect();
        gaps.push(Gap { skill, level, required, gap: required - level, resources });
    }
    gaps.sort_by(|left, right| right.gap.cmp(&left.gap).then_with(|| left.skill.cmp(&right.skill)));
    let based_on = paths.iter().map(|path| Offer::new(&path.id, &path.title)).collect();
    Ok(Json(Gaps { role: wanted.role, based_on, gaps, met }))
}

#[cfg(test)]
mod tests {
    use berth_sdk::serde_json;

    use super::*;

    #[test]
    fn a_role_needs_the_most_that_any_of_its_paths_asks_for() {
        let path = |skills: &[&str], difficulty: &str| -> Path {
            serde_json::from_value(json!({"title": "t", "skillsCovered": skills, "difficulty": difficulty})).unwrap()
        };
        let paths = [path(&["Rust", "SQL"], "Beginner"), path(&["rust"], "expert"), path(&["Go"], "as you like")];
        let levels: Vec<(String, i64)> = required(&paths).into_values().collect();
        assert_eq!(levels, [("Go".into(), 3), ("Rust".into(), 5), ("SQL".into(), 2)]);
    }
}
