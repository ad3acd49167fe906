//! Sessions and ideas at a glance.

use berth_sdk::prelude::*;

use crate::{
    idea::{Idea, status::IdeaStatus},
    session::{Session, Status},
};

/// How many of each are shown.
const SHOWN_MAX: i64 = 10;

/// The route of the overview.
pub fn routes() -> Router {
    Router::new()
        .get("/api/collaboration/overview", overview)
        .summary("Read which sessions go on or are to come, and the best ideas.")
}

/// What `GET /api/collaboration/overview` answers.
#[data]
pub struct Totals {
    /// Sessions that go on.
    active_sessions: i64,
    /// Sessions that are planned.
    scheduled_sessions: i64,
    /// Ideas that are not decided.
    open_ideas: i64,
}

/// The rest of it, with rows.
#[derive(Debug, berth_sdk::serde::Serialize, berth_sdk::schemars::JsonSchema)]
#[serde(crate = "berth_sdk::serde", rename_all = "camelCase")]
#[schemars(crate = "berth_sdk::schemars", rename_all = "camelCase")]
pub struct Overview {
    /// Those that go on, the newest first.
    active_sessions: Vec<Stored<Session>>,
    /// Those that are to come, the next first.
    upcoming_sessions: Vec<Stored<Session>>,
    /// Open ideas with most votes.
    top_ideas: Vec<Stored<Idea>>,
    /// How many there are.
    totals: Totals,
}

/// `GET /api/collaboration/overview`.
pub fn overview() -> Result<Json<Overview>> {
    let active = || Select::<Session>::new().equal("status", Status::Active);
    let scheduled = || Select::<Session>::new().equal("status", Status::Scheduled);
    let open = || Select::<Idea>::new().one_of("status", IdeaStatus::OPEN);
    Ok(Json(Overview {
        active_sessions: active().sort("-startedAt").limit(SHOWN_MAX).all(&Pool)?,
        upcoming_sessions: scheduled().sort("scheduledAt").limit(SHOWN_MAX).all(&Pool)?,
        top_ideas: open().sort("-voteCount").limit(SHOWN_MAX).all(&Pool)?,
        totals: Totals {
            active_sessions: active().count(&Pool)?,
            scheduled_sessions: scheduled().count(&Pool)?,
            open_ideas: open().count(&Pool)?,
        },
    }))
}
