//! Votes: one for each, and never for one's own idea. The counts are taken anew from the votes at every change.

use berth_sdk::prelude::*;

use super::{Idea, announce, hold};

/// A vote.
#[entity(table = "innovation_votes", name = "vote")]
pub struct Vote {
    /// On which idea.
    pub idea_id: Id,
    /// Whose.
    pub user_id: Id,
    /// 1 for it, -1 against it.
    pub value: i64,
}

impl Rules for Vote {}

impl Vote {
    /// Somebody's vote.
    pub fn find(database: &dyn Executor, idea_id: &Id, user_id: &Id) -> Result<Option<Stored<Self>>> {
        Select::new().equal("idea_id", idea_id).equal("user_id", user_id).first(database)
    }
}

/// The body of a vote.
#[data]
pub struct NewVote {
    /// 1 for it, -1 against it.
    #[field(min = -1, max = 1)]
    value: i64,
}

/// What became of it.
#[data]
pub struct Counted {
    /// The idea.
    idea_id: Id,
    /// The caller's vote.
    value: i64,
    /// Votes for it less votes against it.
    vote_count: i64,
    /// Votes for it.
    up_votes: i64,
    /// Votes against it.
    down_votes: i64,
}

/// `POST /api/innovation/{id}/vote`.
pub fn vote(Params(id): Params<Id>, Json(input): Json<NewVote>) -> Result<Json<Counted>> {
    let user_id = auth::user_id()?;
    entity::read::<Idea>(&Pool, &id)?;
    if input.value == 0 {
        return Err(Problem::field("value", "must be 1 or -1"));
    }
    database::transaction(|transaction| {
        let mut idea = hold(transaction, &id)?;
        if idea.is_callers() {
            return Err(Problem::forbidden("Nobody votes on their own idea.").with_code("OWN_IDEA"));
        }
        idea.status.require_open()?;
        let before = Vote::find(transaction, &id, &user_id)?;
        let from = before.as_ref().map(|vote| vote.value);
        if from != Some(input.value) {
            match before {
                Some(mut vote) => {
                    vote.value = input.value;
                    entity::save(transaction, &mut vote)?;
                }
                None => {
                    let vote = Vote { idea_id: id.clone(), user_id: user_id.clone(), value: input.value };
                    entity::create(transaction, vote)?;
                }
            }
            count(transaction, &mut idea)?;
            let more = json!({ "userId": user_id, "value": input.value, "previousValue": from });
            announce(transaction, "innovation.idea.voted", &idea, &more)?;
        }
        Ok(Json(Counted {
            idea_id: id.clone(),
            value: input.value,
            vote_count: idea.vote_count,
            up_votes: idea.up_votes,
            down_votes: idea.down_votes,
        }))
    })
}

/// `DELETE /api/innovation/{id}/vote`; 404 when there is none.
pub fn withdraw(Params(id): Params<Id>) -> Result<NoContent> {
    let user_id = auth::user_id()?;
    entity::read::<Idea>(&Pool, &id)?;
    database::transaction(|transaction| {
        let mut idea = hold(transaction, &id)?;
        let vote = Vote::find(transaction, &id, &user_id)?.ok_or_else(|| Problem::missing("vote"))?;
        entity::delete::<Vote>(transaction, &vote.id, IfMatch(None))?;
        count(transaction, &mut idea)?;
        let more = json!({ "userId": user_id, "value": 0, "previousValue": vote.value });
        announce(transaction, "innovation.idea.voted", &idea, &more)?;
        Ok(NoContent)
    })
}

/// Counts the votes of an idea that is held.
fn count(transaction: &Transaction, idea: &mut Stored<Idea>) -> Result<()> {
    let rows = transaction.query(
        "SELECT value, COUNT(*) AS votes FROM innovation_votes WHERE idea_id = $1 AND organization_id = $2 GROUP BY value",
        params![&idea.id, auth::organization_id()?],
    )?;
    (idea.up_votes, idea.down_votes) = (0, 0);
    for row in rows {
        let votes: i64 = row.get("votes")?;
        if row.get::<i64>("value")? > 0 { idea.up_votes = votes } else { idea.down_votes = votes }
    }
    idea.vote_count = idea.up_votes - idea.down_votes;
    entity::save(transaction, idea)
}
