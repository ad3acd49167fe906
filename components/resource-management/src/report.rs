//! Reports: who can work how much, what of it is planned, and what is coming.

pub mod availability;
pub mod figures;
pub mod forecast;
pub mod summary;
pub mod utilization;

use std::collections::BTreeSet;

use berth_sdk::prelude::*;
use time_rules::day::Span;

use crate::{load, profile::Profile, rights};

/// The routes.
pub fn routes() -> Router {
    Router::new()
        .get("/api/capacity", summary::answer)
        .summary("Sum up a week of a person or a team; one's own when nothing is said.")
        .post("/api/capacity/forecast", forecast::answer)
        .summary("Look ahead: capacity and plans of people or a team, week by week.")
        .permission(rights::READ)
        .get("/api/capacity/utilization", utilization::answer)
        .summary("Compare what is planned with what can be worked, by user, team, project, week or month.")
}

/// 400 unless the first day is not after the last and there are at most so many.
pub fn require_days(span: Span, most: u64) -> Result<()> {
    match span.days() {
        0 => Err(Problem::field("to", "must not be before from")),
        days if days > most => Err(Problem::field("to", format!("must be at most {most} days after from"))),
        _ => Ok(()),
    }
}

/// The people that are asked about: named ones, those of a team, or none said. 400 for both, 404 for a stranger.
pub fn asked(user_ids: Option<&[Id]>, team_id: Option<&Id>) -> Result<Option<BTreeSet<Id>>> {
    match (user_ids, team_id) {
        (Some(_), Some(_)) => Err(Problem::field("teamId", "must not be there together with users")),
        (None, None) => Ok(None),
        (None, Some(team_id)) => {
            people::team(team_id).map(|people| Some(people.into_iter().take(load::PEOPLE_MAX).collect()))
        }
        (Some(ids), None) => {
            let ids: BTreeSet<Id> = ids.iter().cloned().collect();
            for id in &ids {
                require_known(id)?;
            }
            Ok(Some(ids))
        }
    }
}

/// 404 unless the user belongs to the organization, or did so when something was written of them.
pub fn require_known(user_id: &Id) -> Result<()> {
    if rights::is_self(user_id) || Profile::find(&Pool, user_id)?.is_some() || people::is_member(user_id)? {
        return Ok(());
    }
    Err(Problem::missing("user"))
}
