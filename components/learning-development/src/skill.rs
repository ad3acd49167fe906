//! Skills: what somebody can do, from 0 (nothing yet) to 5.

pub mod gap;

use berth_sdk::{events::Message, prelude::*};

use crate::{recommend, words};

/// The highest level.
pub const LEVEL_MAX: i64 = 5;
/// Skills of one person.
const SKILLS_MAX: usize = 200;
/// Where a level comes from when nothing is said.
const SOURCE: &str = "self";

/// What somebody can do.
#[entity(table = "learning_skills", name = "skill", sort = "skill")]
pub struct Skill {
    /// Who.
    #[field(immutable)]
    pub user_id: Id,
    /// What.
    #[field(filter)]
    pub skill: String,
    /// As it is compared.
    #[field(hidden)]
    pub skill_key: String,
    /// How well: 0 to 5.
    pub level: i64,
    /// Where that comes from.
    #[field(filter)]
    pub source: String,
    /// Who has verified it; another level is not verified any more.
    pub verified_by: Option<Id>,
}

impl Rules for Skill {}

/// One skill of the body of `PUT /api/learning/skills`.
#[data]
pub struct Level {
    /// What.
    #[field(min = 1, max = words::CHARACTERS_MAX as f64, plain)]
    skill: String,
    /// How well: 0 to 5.
    #[field(min = 0, max = LEVEL_MAX)]
    level: i64,
    /// Where that comes from; `self` when absent.
    #[field(min = 1, max = 60, plain)]
    source: Option<String>,
}

/// The body of `PUT /api/learning/skills`.
#[data]
pub struct Levels {
    /// What changes; skills that are not named stay.
    #[field(min = 1, max = 200)]
    skills: Vec<Level>,
}

impl Levels {
    /// 400 for a skill that is there twice.
    fn check(&self) -> Result<()> {
        let mut faults = Faults::default();
        for (index, level) in self.skills.iter().enumerate() {
            let key = words::key(&level.skill);
            if self.skills.iter().take(index).any(|other| words::key(&other.skill) == key) {
                faults.add(format!("skills[{index}].skill"), "is there twice");
            }
        }
        faults.finish()
    }
}

/// The skills of a user, in their order.
pub fn of(database: &dyn Executor, user_id: &Id) -> Result<Vec<Stored<Skill>>> {
    let limit = i64::try_from(SKILLS_MAX).unwrap_or(i64::MAX);
    Select::<Skill>::new().equal("user_id", user_id).limit(limit).all(database)
}

/// `GET /api/learning/skills`: the caller's own.
pub fn list(query: PageQuery) -> Result<JsonText<Page<Stored<Skill>>>> {
    Select::<Skill>::new().equal("user_id", auth::user_id()?).page(&Pool, &query)
}

/// `PUT /api/learning/skills`: sets the levels of the skills that are named, and answers with all.
pub fn update(Json(input): Json<Levels>) -> Result<Page<Stored<Skill>>> {
    input.check()?;
    let user_id = auth::user_id()?;
    let skills = database::transaction(|transaction| {
        for level in &input.skills {
            set(transaction, &user_id, level)?;
        }
        let skills = of(transaction, &user_id)?;
        let known = Select::<Skill>::new().equal("user_id", &user_id).count(transaction)?;
        if usize::try_from(known).is_ok_and(|known| known > SKILLS_MAX) {
            return Err(Problem::unprocessable(format!("Somebody has at most {SKILLS_MAX} skills.")));
        }
        transaction.forget(recommend::key(&user_id));
        Ok(skills)
    })?;
    let total = i64::try_from(skills.len()).unwrap_or(i64::MAX);
    Ok(Page { items: skills, total, limit: i64::try_from(SKILLS_MAX).unwrap_or(i64::MAX), offset: 0 })
}

/// Sets one level; the row is made when there is none, and held either way.
fn set(transaction: &Transaction, user_id: &Id, level: &Level) -> Result<()> {
    let key = words::key(&level.skill);
    let source = level.source.as_deref().unwrap_or(SOURCE);
    let made = transaction.execute(
        "INSERT INTO learning_skills (id, organization_id, created_by, created_at, updated_at, version, user_id, skill, \
         skill_key, level, source) VALUES ($1, $2, $3, $4, $4, 1, $3, $5, $6, $7, $8) \
         ON CONFLICT (organization_id, user_id, skill_key) DO NOTHING",
        params![
            Id::new(),
            auth::organization_id()?,
            user_id,
            clock::now(),
            &level.skill,
            &key,
            level.level,
            source,
        ],
    )?;
    if made > 0 {
        return say(transaction, user_id, level, None);
    }
    transaction.query_one(
        "SELECT id FROM learning_skills WHERE organization_id = $1 AND user_id = $2 AND skill_key = $3 FOR UPDATE",
        params![auth::organization_id()?, user_id, &key],
    )?;
    let row = Select::<Skill>::new().equal("user_id", user_id).equal("skill_key", key.as_str()).first(transaction)?;
    let Some(mut row) = row else { return Err(Problem::conflict("It was removed at the same time; try again.")) };
    let before = row.level;
    if before == level.level && row.source == source {
        return Ok(());
    }
    row.level = level.level;
    row.source = source.to_string();
    if before != level.level {
        row.verified_by = None;
    }
    entity::save(transaction, &mut row)?;
    say(transaction, user_id, level, Some(before))
}

fn say(transaction: &Transaction, user_id: &Id, level: &Level, before: Option<i64>) -> Result<()> {
    let data = json!({
        "userId": user_id, "skill": level.skill, "level": level.level, "previousLevel": before,
        "source": level.source.as_deref().unwrap_or(SOURCE), "isPrivate": true,
    });
    transaction.send(&Message::new("learning.skill.updated", &data)?.with_key(user_id.as_str()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use berth_sdk::http::read_value;

    use super::*;

    fn faulty(body: berth_sdk::serde_json::Value) -> Vec<String> {
        let result = read_value::<Levels>(body).and_then(|levels| levels.check());
        result.err().map(|problem| problem.errors.into_iter().map(|fault| fault.field).collect()).unwrap_or_default()
    }

    #[test]
    fn a_level_is_one_of_six_and_a_skill_is_named_once() {
        assert!(faulty(json!({"skills": [{"skill": "Rust", "level": 0}, {"skill": "SQL", "level": 5}]})).is_empty());
        assert_eq!(faulty(json!({"skills": [{"skill": "Rust", "level": 6}]})), ["skills[0].level"]);
        assert_eq!(faulty(json!({"skills": [{"skill": "Rust", "level": -1}]})), ["skills[0].level"]);
        assert_eq!(faulty(json!({"skills": [{"skill": " ", "level": 1}]})), ["skills[0].skill"]);
        assert_eq!(faulty(json!({"skills": []})), ["skills"]);
        let twice = json!({"skills": [{"skill": "Rust", "level": 1}, {"skill": "rust ", "level": 2}]});
        assert_eq!(faulty(twice), ["skills[1].skill"]);
    }
}
