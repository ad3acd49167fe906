//! `POST /api/capacity/suggest`: who fits some work best, ranked, with why.

use berth_sdk::prelude::*;
use time_rules::day::{Day, Span};

use crate::{
    load::{self, Person},
    profile::{Profile, Skill, skill},
    projects, report, rights,
    score::{self, Score},
    workload::rounded,
};

/// The days of a window when nothing is said.
const DAYS_USUAL: u64 = 14;
/// The longest window.
const DAYS_MAX: u64 = 366;
/// The level that is wanted of a skill when nothing is said.
const LEVEL_USUAL: i64 = 3;

/// The routes.
pub fn routes() -> Router {
    Router::new()
        .post("/api/capacity/suggest", answer)
        .summary("Suggest people for some work, ranked, with what each score is made of.")
        .permission(rights::READ)
}

/// A skill as it is asked for: its name, or its name and level.
#[derive(
    Clone, Debug, PartialEq, berth_sdk::serde::Serialize, berth_sdk::serde::Deserialize, berth_sdk::schemars::JsonSchema,
)]
#[serde(crate = "berth_sdk::serde", untagged)]
#[schemars(crate = "berth_sdk::schemars")]
pub enum Wanted {
    /// Level 3.
    Name(String),
    /// That level.
    Leveled(Skill),
}

impl validate::Tidy for Wanted {
    fn tidy(&mut self, rule: &validate::Rule, path: &validate::Path<'_>, faults: &mut Faults) {
        match self {
            Self::Name(name) => {
                let rule = validate::Rule { min: Some(1.0), max: Some(100.0), plain: true, ..*rule };
                validate::Tidy::tidy(name, &rule, path, faults);
            }
            Self::Leveled(skill) => validate::Tidy::tidy(skill, rule, path, faults),
        }
    }
}

/// The days within which it is to be done.
#[data]
struct Window {
    /// The first; today when absent.
    start: Option<Day>,
    /// The last; when absent the day the task is due, unless that is before the first, or else two weeks later.
    end: Option<Day>,
}

/// What is asked.
#[data]
struct Question {
    /// A task: its tags are the skills, its estimate the hours, its due date the end, each where nothing else is said.
    task_id: Option<Id>,
    /// What is needed.
    #[field(max = 20)]
    skills: Option<Vec<Wanted>>,
    /// How many hours it takes.
    #[field(max = 20_000)]
    hours: Option<f64>,
    /// When.
    window: Option<Window>,
    /// Only these people.
    #[field(max = 200)]
    user_ids: Option<Vec<Id>>,
    /// Only the people of this team.
    team_id: Option<Id>,
    /// The most people of the answer.
    #[field(default = 10, min = 1, max = 50)]
    limit: i64,
}

/// Somebody who could do it.
#[data]
pub struct Suggestion {
    /// Who.
    pub user_id: Id,
    /// From 0 to 1.
    pub score: f64,
    /// What it is made of.
    pub parts: Vec<score::Part>,
    /// What they have left in the window.
    pub available_hours: f64,
    /// Whether all of it fits.
    pub fits: bool,
    /// When they are away in it.
    pub is_away: bool,
}

/// What is answered.
#[data]
struct Answer {
    /// The window.
    start: Day,
    /// See `start`.
    end: Day,
    hours: f64,
    skills: Vec<Skill>,
    /// The best first.
    items: Vec<Suggestion>,
    /// How many people were looked at.
    total: usize,
}

fn answer(Json(question): Json<Question>) -> Result<Json<Answer>> {
    let task = question.task_id.as_ref().map(projects::task).transpose()?;
    let skills = question.skills.map(wanted).unwrap_or_else(|| {
        let tags = task.as_ref().map(|task| task.tags.clone()).unwrap_or_default();
        wanted(tags.into_iter().map(Wanted::Name).collect())
    });
    if task.is_none() && skills.is_empty() {
        return Err(Problem::field("skills", "is required where there is no taskId"));
    }
    let hours = question.hours.or_else(|| task.as_ref().and_then(|task| task.estimated_hours));
    let Some(hours) = hours.filter(|hours| *hours > 0.0) else {
        return Err(Problem::field("hours", "must be more than 0, or the task must have an estimate"));
    };
    let asker = match auth::principal().user_id.map(Id::from) {
        Some(id) => Profile::or_usual(&Pool, &id)?,
        None => Profile::usual(Id::from("")),
    };
    let due = task.as_ref().and_then(|task| task.due_date).map(|due| asker.day_of(due));
    let span = window(question.window.as_ref(), asker.today(), due)?;
    let users = match report::asked(question.user_ids.as_deref(), question.team_id.as_ref())? {
        Some(users) => users,
        None => load::everybody(&Pool, span)?,
    };
    let people = load::people(&Pool, &users, span)?;
    let total = people.len();
    let mut items: Vec<Suggestion> =
        people.into_iter().map(|(id, person)| suggest(id, &person, &skills, hours, span)).collect();
    rank(&mut items);
    items.truncate(usize::try_from(question.limit).unwrap_or(10));
    Ok(Json(Answer { start: span.first, end: span.last, hours, skills, items, total }))
}

/// The skills that are asked for, each once.
fn wanted(list: Vec<Wanted>) -> Vec<Skill> {
    let mut skills: Vec<Skill> = Vec::new();
    for one in list {
        let one = match one {
            Wanted::Name(skill) => Skill { skill, level: LEVEL_USUAL },
            Wanted::Leveled(skill) => skill,
        };
        if !skills.iter().any(|other| skill::key(&other.skill) == skill::key(&one.skill)) {
            skills.push(one);
        }
    }
    skills
}

fn window(window: Option<&Window>, today: Day, due: Option<Day>) -> Result<Span> {
    let start = window.and_then(|window| window.start).unwrap_or(today);
    // What is overdue is looked for in the usual window.
    let due = due.filter(|due| *due >= start).map(|due| due.min(start.plus(DAYS_MAX - 1)));
    let end = window.and_then(|window| window.end).or(due).unwrap_or_else(|| start.plus(DAYS_USUAL - 1));
    let span = Span::new(start, end);
    match span.days() {
        0 => Err(Problem::field("window.end", "must not be before the beginning")),
        days if days > DAYS_MAX => Err(Problem::field("window.end", "must be at most a year after the beginning")),
        _ => Ok(span),
    }
}

/// What somebody's score is.
pub fn score(person: &Person, skills: &[Skill], hours: f64, span: Span) -> Score {
    let sum = person.workload.sum(span);
    score::together(vec![
        score::skill(&person.profile.skills, skills),
        score::availability(sum.available(), hours),
        score::balance(sum.allocated, sum.capacity()),
    ])
}

fn suggest(user_id: Id, person: &Person, skills: &[Skill], hours: f64, span: Span) -> Suggestion {
    let Score { score, parts } = score(person, skills, hours, span);
    let available = person.workload.sum(span).available();
    Suggestion {
        user_id,
        score,
        parts,
        available_hours: rounded(available),
        fits: available + crate::workload::NOTHING >= hours,
        is_away: person.workload.is_away(span),
    }
}

/// The best first; of equals the one with more time, then in the order of their ids.
fn rank(items: &mut [Suggestion]) {
    items.sort_by(|one, other| {
        other
            .score
            .total_cmp(&one.score)
            .then(other.available_hours.total_cmp(&one.available_hours))
            .then_with(|| one.user_id.cmp(&other.user_id))
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::{Commitment, Workload, tests::day};

    fn person(id: &str, level: i64, planned: f64) -> Person {
        let span = Span::week(day(4));
        let commitment = Commitment { id: id.into(), span, hours: planned, until: span.last, is_worked: false };
        let skills = vec![Skill { skill: "Rust".into(), level }];
        Person {
            profile: Profile { skills, ..Profile::usual(id.into()) },
            workload: Workload { commitments: vec![commitment], ..Workload::default() },
        }
    }

    #[test]
    fn a_task_is_to_be_done_until_it_is_due_unless_something_else_is_said() {
        let asked = |start: Option<u64>, end: Option<u64>, due: Option<u64>| {
            let said = Window { start: start.map(day), end: end.map(day) };
            window(Some(&said), day(4), due.map(day)).map_err(|problem| problem.status)
        };
        assert_eq!(window(None, day(4), Some(day(9))).unwrap(), Span::new(day(4), day(9)));
        assert_eq!(asked(None, Some(6), Some(9)), Ok(Span::new(day(4), day(6))));
        assert_eq!(asked(Some(10), None, Some(9)), Ok(Span::new(day(10), day(23))), "it is overdue");
        assert_eq!(asked(None, None, None), Ok(Span::new(day(4), day(17))));
        assert_eq!(asked(None, Some(3), Some(9)), Err(400));
        assert_eq!(asked(None, None, Some(900)), Ok(Span::new(day(4), day(369))), "no window is longer than a year");
        assert_eq!(asked(None, Some(900), None), Err(400));
    }

    #[test]
    fn the_best_comes_first_and_says_why() {
        let skills = wanted(vec![Wanted::Name("rust".into()), Wanted::Name("RUST".into())]);
        assert_eq!(skills.len(), 1);
        let one = |id: &str, level, planned| {
            suggest(id.into(), &person(id, level, planned), &skills, 20.0, Span::week(day(4)))
        };
        let mut items = vec![one("busy", 5, 40.0), one("new", 0, 0.0), one("good", 5, 10.0), one("fair", 2, 0.0)];
        rank(&mut items);
        let order: Vec<(&str, f64, bool)> =
            items.iter().map(|item| (item.user_id.as_str(), item.score, item.fits)).collect();
        // Two with half a score each: who has more time comes first.
        assert_eq!(order, [("good", 0.95, true), ("fair", 0.833333, true), ("new", 0.5, true), ("busy", 0.5, false)]);
    }
}
