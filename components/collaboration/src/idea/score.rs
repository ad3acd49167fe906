//! What an idea is worth.

use berth_sdk::{
    entity::{Column, Kind},
    prelude::*,
};

use super::{Idea, hold};
use crate::access;

/// Three answers, each from 0 to 100 on whatever scale the organization uses.
#[data]
pub struct Score {
    /// How much it would do.
    #[field(min = 0, max = 100)]
    pub impact: f64,
    /// How much it would take.
    #[field(min = 0, max = 100)]
    pub effort: f64,
    /// How well it fits what is wanted anyway.
    #[field(min = 0, max = 100)]
    pub alignment: f64,
}

impl Column for Score {
    const KIND: Kind = Kind::Json;
}

impl Score {
    /// The three as one number.
    ///
    /// ```
    /// use collaboration::idea::score::Score;
    /// assert_eq!(Score { impact: 8.0, effort: 3.0, alignment: 5.0 }.value(), 10.0);
    /// ```
    pub fn value(&self) -> f64 {
        self.impact + self.alignment - self.effort
    }
}

/// `POST /api/innovation/{id}/evaluate`. Nobody scores their own idea but administrators.
pub fn evaluate(Params(id): Params<Id>, if_match: IfMatch, Json(score): Json<Score>) -> Result<Stored<Idea>> {
    entity::read::<Idea>(&Pool, &id)?;
    database::transaction(|transaction| {
        let mut idea = hold(transaction, &id)?;
        if_match.check(idea.version)?;
        if idea.is_callers() && !access::administers_ideas() {
            return Err(Problem::forbidden("Somebody else says what an idea is worth."));
        }
        idea.status.require_open()?;
        idea.score_value = Some(score.value());
        idea.score = Some(score);
        entity::save(transaction, &mut idea)?;
        Ok(idea)
    })
}
