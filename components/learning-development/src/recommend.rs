//! What somebody should look at next: what fits what happened to them, what they learn, and what they can do already.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use berth_sdk::{cache, canonical, prelude::*};

use crate::{
    path::Path,
    resource::{
        Resource,
        api::{generation, sight},
    },
    skill::{self, LEVEL_MAX},
    standing::Kind,
    suggest, words,
};

/// How long recommendations are remembered.
const TTL: Duration = Duration::from_secs(600);
/// Paths and resources that are looked at, the newest.
const OFFERED_MAX: i64 = 500;
/// Paths and resources that are recommended.
const RECOMMENDED_MAX: usize = 10;
/// What counts how much.
const SUGGESTED: f64 = 5.0;
const ON_THE_WAY: f64 = 2.0;
const OWN: f64 = 1.0;

/// The key of somebody's recommendations in the cache.
pub fn key(user_id: &Id) -> String {
    format!("recommendations:{user_id}")
}

/// Something by its id and title.
#[data]
pub struct Offer {
    id: Id,
    title: String,
}

impl Offer {
    /// Of something.
    pub fn new(id: &Id, title: &str) -> Self {
        Self { id: id.clone(), title: title.to_string() }
    }
}

/// What is known of a resource here.
#[data]
pub struct Known {
    pub id: Id,
    pub title: String,
    pub url: String,
    pub skills: Vec<String>,
    pub tags: Vec<String>,
    pub quality_score: Option<f64>,
    pub helpful_count: i64,
}

/// The resources of a selection, the newest first.
pub fn known(database: &dyn Executor, select: Select<Resource>) -> Result<Vec<Known>> {
    let columns = "id, title, url, skills, tags, quality_score AS \"qualityScore\", helpful_count AS \"helpfulCount\"";
    select.limit(OFFERED_MAX).columns(database, columns)
}

/// Something that is recommended.
#[data]
pub struct Recommendation {
    id: Id,
    title: String,
    /// Where a resource is.
    url: Option<String>,
    skills: Vec<String>,
    /// The higher, the better it fits.
    score: f64,
    /// Why: `after:execution.failed`, `learning:rust`, `skill:rust`, `popular`.
    reasons: Vec<String>,
}

/// What is recommended.
#[data]
pub struct Recommendations {
    paths: Vec<Recommendation>,
    resources: Vec<Recommendation>,
}

/// As the cache keeps it.
#[data]
struct Remembered {
    /// The state of the catalogue that it was made of, and what of it the person sees: other teams see other resources.
    state: String,
    recommendations: Recommendations,
}

/// What somebody is interested in, by the key of the skill.
#[derive(Clone, Debug, Default)]
struct Interests {
    /// Skills of the paths they are on.
    on_the_way: BTreeSet<String>,
    /// Skills in which they can still get better.
    own: BTreeSet<String>,
    /// Resources that fit what happened, with what that was.
    suggested: BTreeMap<Id, String>,
}

impl Interests {
    /// How well something with these skills fits, and why.
    fn judge(&self, id: &Id, skills: &[String]) -> (f64, Vec<String>) {
        let mut score = 0.0;
        let mut reasons = Vec::new();
        if let Some(source) = self.suggested.get(id) {
            score += SUGGESTED;
            reasons.push(format!("after:{source}"));
        }
        for key in skills.iter().map(|skill| words::key(skill)) {
            if self.on_the_way.contains(&key) {
                score += ON_THE_WAY;
                reasons.push(format!("learning:{key}"));
            } else if self.own.contains(&key) {
                score += OWN;
                reasons.push(format!("skill:{key}"));
            }
        }
        (score, reasons)
    }
}

/// How much others think of a resource: 0 to just below 1, so that it only decides between what fits alike.
fn esteem(helpful_count: i64, quality_score: Option<f64>) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a count of people")]
    let helpful = helpful_count.max(0) as f64;
    0.5 * helpful / (helpful + 5.0) + 0.499 * quality_score.unwrap_or(0.0) / 100.0
}

/// The best first; what nothing speaks for is left out.
fn best(mut all: Vec<Recommendation>) -> Vec<Recommendation> {
    all.retain(|one| one.score > 0.0);
    all.sort_by(|left, right| right.score.total_cmp(&left.score).then_with(|| left.id.cmp(&right.id)));
    all.truncate(RECOMMENDED_MAX);
    for one in &mut all {
        one.score = (one.score * 1e3).round() / 1e3;
    }
    all
}

/// `GET /api/learning/recommendations`.
pub fn read() -> Result<Json<Recommendations>> {
    let user_id = auth::user_id()?;
    let state = format!("{}:{}", generation()?, canonical::sha256(&json!(sight())));
    if let Some(known) = cache::get::<Remembered>(&key(&user_id))
        && known.state == state
    {
        return Ok(Json(known.recommendations));
    }
    let recommendations = make(&user_id)?;
    let remembered = Remembered { state, recommendations };
    cache::set_ttl(&key(&user_id), &remembered, TTL);
    Ok(Json(remembered.recommendations))
}

fn make(user_id: &Id) -> Result<Recommendations> {
    let organization_id = auth::organization_id()?;
    let ids = |sql: &str| -> Result<BTreeSet<Id>> {
        let rows = database::query(sql, params![&organization_id, user_id])?;
        Ok(rows.into_iter().map(|row| row.get("id")).collect::<Result<_, Fault>>()?)
    };
    let enrolled = ids("SELECT path_id AS id FROM learning_enrollments WHERE organization_id = $1 AND user_id = $2 \
                        ORDER BY updated_at DESC LIMIT 1000")?;
    let done = format!(
        "SELECT subject_id AS id FROM learning_standings WHERE organization_id = $1 AND user_id = $2 AND kind = '{}' \
         AND completed_at IS NOT NULL LIMIT 5000",
        Kind::Resource
    );
    let done = ids(&done)?;
    let paths = Select::<Path>::new()
        .condition("status IN ('active') AND (user_id IS NULL OR user_id = ?)", [user_id])
        .limit(OFFERED_MAX)
        .all(&Pool)?;
    let mut interests = Interests { suggested: suggest::of(&Pool, user_id)?, ..Interests::default() };
    for path in paths.iter().filter(|path| enrolled.contains(&path.id)) {
        interests.on_the_way.extend(path.skills_covered.iter().map(|skill| words::key(skill)));
    }
    let skills = skill::of(&Pool, user_id)?;
    interests.own.extend(skills.iter().filter(|row| row.level < LEVEL_MAX).map(|row| words::key(&row.skill)));

    let of_path = |path: &Stored<Path>| {
        let (score, reasons) = interests.judge(&path.id, &path.skills_covered);
        let (id, title, skills) = (path.id.clone(), path.title.clone(), path.skills_covered.clone());
        Recommendation { id, title, url: None, skills, score, reasons }
    };
    let of_resource = |one: Known| {
        let (fit, mut reasons) = interests.judge(&one.id, &one.skills);
        let score = fit + esteem(one.helpful_count, one.quality_score);
        if reasons.is_empty() {
            reasons.push("popular".into());
        }
        Recommendation { id: one.id, title: one.title, url: Some(one.url), skills: one.skills, score, reasons }
    };
    let resources = known(&Pool, Select::new())?.into_iter().filter(|one| !done.contains(&one.id)).map(of_resource);
    let paths = paths.iter().filter(|path| !enrolled.contains(&path.id)).map(of_path);
    Ok(Recommendations { paths: best(paths.collect()), resources: best(resources.collect()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interests() -> Interests {
        Interests {
            on_the_way: ["rust".to_string()].into(),
            own: ["sql".to_string(), "rust".into()].into(),
            suggested: [(Id::from("r1"), "incident.resolved".to_string())].into(),
        }
    }

    #[test]
    fn what_fits_what_happened_comes_before_what_fits_a_skill() {
        let (happened, reasons) = interests().judge(&"r1".into(), &[]);
        assert_eq!(reasons, ["after:incident.resolved"]);
        let (fits, reasons) = interests().judge(&"r2".into(), &["Rust".into(), "SQL".into()]);
        assert_eq!(reasons, ["learning:rust", "skill:sql"]);
        assert!(happened > fits);
        assert_eq!(interests().judge(&"r3".into(), &["Go".into()]).1, Vec::<String>::new());
    }

    #[test]
    fn esteem_only_decides_between_what_fits_alike() {
        assert!(esteem(i64::MAX, Some(100.0)) < OWN);
        assert!(esteem(3, None) > esteem(2, None));
        assert_eq!(esteem(0, None).to_bits(), 0.0_f64.to_bits());
    }

    #[test]
    fn what_nothing_speaks_for_is_not_recommended() {
        let one = |id: &str, score: f64| Recommendation {
            id: id.into(),
            title: id.into(),
            url: None,
            skills: Vec::new(),
            score,
            reasons: Vec::new(),
        };
        let chosen = best(vec![one("c", 1.0), one("a", 0.0), one("b", 1.0), one("d", 2.0)]);
        assert_eq!(chosen.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["d", "b", "c"]);
    }
}
