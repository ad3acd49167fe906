//! `POST /api/capacity/rebalance`: who could take what of those who have too much. A proposal; nothing is changed.

mod propose;

use std::collections::BTreeMap;

use berth_sdk::prelude::*;
use time_rules::day::{Day, Span};

use crate::{load, profile::Profile, projects::Visible, report, rights, score, workload::rounded};

pub use propose::{Move, overload, propose};

/// The longest range.
const DAYS_MAX: u64 = 92;
/// The days of a range when nothing is said.
const DAYS_USUAL: u64 = 28;

/// The routes.
pub fn routes() -> Router {
    Router::new()
        .post("/api/capacity/rebalance", answer)
        .summary("Propose who could take what of those who have too much; nothing is changed.")
        .permission(rights::READ)
}

/// What is asked.
#[data]
struct Question {
    /// The first day; this week when absent.
    from: Option<Day>,
    /// The last day; four weeks when absent, at most 92 days.
    to: Option<Day>,
    /// Only among these people.
    #[field(max = 200)]
    user_ids: Option<Vec<Id>>,
    /// Only among the people of this team.
    team_id: Option<Id>,
}

/// What somebody could take.
#[data]
struct Proposal {
    allocation_id: String,
    from_user_id: Id,
    to_user_id: Id,
    /// The week it is of.
    week_start: Day,
    /// How much.
    hours: f64,
    /// How well it fits, from 0 to 1.
    score: f64,
    /// What the score is made of; the skills are those of who gives.
    parts: Vec<score::Part>,
    /// Why, for people.
    reason: String,
    /// What it is planned for; null where that does not exist for the caller.
    project_id: Option<String>,
}

/// What is answered.
#[data]
struct Answer {
    from: Day,
    to: Day,
    /// Hours that cannot be worked as it is.
    overallocation_before: f64,
    /// Hours that still cannot be worked when all of it is done.
    overallocation_after: f64,
    proposals: Vec<Proposal>,
}

fn answer(body: Option<Json<Question>>) -> Result<Json<Answer>> {
    let empty = Question { from: None, to: None, user_ids: None, team_id: None };
    let question = body.map_or(empty, |Json(question)| question);
    let today = Profile::or_usual(&Pool, &auth::user_id()?)?.today();
    // Weeks that are over cannot be changed any more.
    let from = question.from.unwrap_or(today).max(today).monday();
    let span = Span::new(from, question.to.unwrap_or_else(|| from.plus(DAYS_USUAL - 1)).monday().plus(6));
    report::require_days(span, DAYS_MAX + 7)?;
    let users = match report::asked(question.user_ids.as_deref(), question.team_id.as_ref())? {
        Some(users) => users,
        None => load::everybody(&Pool, span)?,
    };
    let people = load::people(&Pool, &users, span)?;
    let projects = load::projects(&Pool, &people.keys().collect::<Vec<_>>(), span)?;
    let before = overload(&people, span);
    let (moves, after) = propose(people, span);
    Ok(Json(Answer {
        from: span.first,
        to: span.last,
        overallocation_before: rounded(before),
        overallocation_after: rounded(after),
        proposals: proposals(moves, &projects),
    }))
}

fn proposals(moves: Vec<Move>, projects: &BTreeMap<String, String>) -> Vec<Proposal> {
    let mut visible = Visible::default();
    let one = |step: Move| Proposal {
        project_id: projects.get(&step.allocation_id).filter(|id| visible.holds(id)).cloned(),
        reason: format!(
            "{} hours of the week of {} are more than there is time for; {} hours of them find room.",
            rounded(step.overload),
            step.week_start,
            rounded(step.hours)
        ),
        allocation_id: step.allocation_id,
        from_user_id: step.from,
        to_user_id: step.to,
        week_start: step.week_start,
        hours: rounded(step.hours),
        score: step.score.score,
        parts: step.score.parts,
    };
    moves.into_iter().map(one).collect()
}
