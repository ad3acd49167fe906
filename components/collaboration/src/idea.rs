//! Ideas: what somebody would like to be done, what the others think of it, and what becomes of it.

pub mod api;
pub mod comment;
pub mod convert;
pub mod experiment;
pub mod metrics;
pub mod score;
pub mod status;
pub mod target;
pub mod time;
pub mod vote;

use berth_sdk::{events::Message, prelude::*, serde_json::Value};

use crate::{access, access::INNOVATION_UPDATE, project};
use comment::Comment;
use score::Score;
use status::IdeaStatus;

const PATH: &str = "/api/innovation";

/// An idea.
#[entity(table = "innovation_ideas", name = "idea", created = "innovation.idea.submitted")]
pub struct Idea {
    /// The project it belongs to; whoever does not see that does not see the idea.
    #[field(immutable)]
    pub project_id: Option<Id>,
    /// In one line.
    #[field(min = 1, max = 200, plain)]
    pub title: String,
    /// At length.
    #[field(min = 1, max = 20_000)]
    pub description: String,
    /// What it is about, in a word or two.
    #[field(min = 1, max = 100, plain, filter)]
    pub category: String,
    /// Whose it is.
    #[field(readonly)]
    pub author_id: Option<Id>,
    /// Where it stands; changed by its own route.
    #[field(readonly, default = IdeaStatus::Submitted)]
    pub status: IdeaStatus,
    /// What it is worth; set by its own route.
    #[field(readonly)]
    pub score: Option<Score>,
    /// The score as one number: impact and alignment less effort.
    #[field(readonly)]
    pub score_value: Option<f64>,
    /// Votes for it less votes against it.
    #[field(readonly, default)]
    pub vote_count: i64,
    /// Votes for it.
    #[field(readonly, default)]
    pub up_votes: i64,
    /// Votes against it.
    #[field(readonly, default)]
    pub down_votes: i64,
    /// The task that came of it.
    #[field(readonly)]
    pub linked_task_id: Option<Id>,
    /// The milestone, epic or story that came of it.
    #[field(readonly)]
    pub linked_roadmap_item: Option<Id>,
    /// The experiment that tries it.
    #[field(readonly)]
    pub experiment_id: Option<Id>,
    /// Why it stands where it stands.
    #[field(readonly)]
    pub status_reason: Option<String>,
    /// When it was last approved or rejected.
    #[field(readonly)]
    pub decided_at: Option<Timestamp>,
    /// What it is being converted to.
    #[field(readonly, hidden)]
    pub converting_to: Option<String>,
    /// Since when.
    #[field(readonly, hidden)]
    pub converting_since: Option<Timestamp>,
}

impl Rules for Idea {
    fn scope() -> Option<Condition> {
        project::within("innovation_ideas")
    }

    fn before_create(&mut self, _: &Transaction) -> Result<()> {
        self.author_id = auth::principal().user_id.map(Id::from);
        self.status = IdeaStatus::Submitted;
        Ok(())
    }

    fn before_update(&mut self, old: &Stored<Self>, _: &Transaction) -> Result<()> {
        if !old.is_callers() && !access::administers_ideas() {
            return Err(Problem::forbidden("Only its author changes what an idea says."));
        }
        if old.status == IdeaStatus::Implemented {
            return Err(Problem::conflict("The idea is implemented.").with_code("IDEA_CLOSED"));
        }
        Ok(())
    }

    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        let organization_id = auth::organization_id()?;
        for table in ["innovation_votes", "innovation_comments"] {
            let sql = format!("DELETE FROM {table} WHERE idea_id = $1 AND organization_id = $2");
            transaction.execute(&sql, params![&row.id, &organization_id])?;
        }
        // The time was spent all the same.
        transaction.execute(
            "UPDATE innovation_time SET idea_id = NULL WHERE idea_id = $1 AND organization_id = $2",
            params![&row.id, &organization_id],
        )?;
        Ok(())
    }

    fn event_data(row: &Stored<Self>) -> Value {
        json!({
            "id": row.id, "ideaId": row.id, "projectId": row.project_id, "title": row.title, "category": row.category,
            "status": row.status, "authorId": row.author_id, "voteCount": row.vote_count,
            "linkedTaskId": row.linked_task_id, "linkedRoadmapItem": row.linked_roadmap_item,
            "experimentId": row.experiment_id, "reason": row.status_reason,
        })
    }
}

impl Idea {
    /// An idea with nothing else said.
    pub fn new(title: String, description: String, category: String) -> Self {
        Self {
            project_id: None,
            title,
            description,
            category,
            author_id: None,
            status: IdeaStatus::Submitted,
            score: None,
            score_value: None,
            vote_count: 0,
            up_votes: 0,
            down_votes: 0,
            linked_task_id: None,
            linked_roadmap_item: None,
            experiment_id: None,
            status_reason: None,
            decided_at: None,
            converting_to: None,
            converting_since: None,
        }
    }

    /// Whether the caller is its author.
    pub fn is_callers(&self) -> bool {
        self.author_id.as_deref().is_some_and(access::is_caller)
    }
}

/// Reads an idea and holds its row to the end of the transaction, so that changes come one after another. 404.
pub fn hold(transaction: &Transaction, id: &Id) -> Result<Stored<Idea>> {
    transaction.execute(
        "UPDATE innovation_ideas SET vote_count = vote_count WHERE id = $1 AND organization_id = $2",
        params![id, auth::organization_id()?],
    )?;
    entity::read(transaction, id)
}

/// Publishes what became of an idea.
pub fn announce(transaction: &Transaction, kind: &str, row: &Stored<Idea>, more: &Value) -> Result<()> {
    let mut data = Idea::event_data(row);
    if let (Some(data), Some(more)) = (data.as_object_mut(), more.as_object()) {
        data.extend(more.clone());
    }
    transaction.send(&Message::new(kind, &data)?.with_key(row.id.as_str()))?;
    Ok(())
}

/// The routes of ideas.
pub fn routes() -> Router {
    let row = format!("{PATH}/{{id}}");
    Router::new()
        .entity::<Idea>(PATH)
        .post(PATH, api::create)
        .summary("Submit an idea.")
        .get(&row, api::read)
        .summary("Read an idea, with the caller's vote.")
        .post(&format!("{row}/vote"), vote::vote)
        .summary("Vote for or against an idea; a second vote takes the place of the first.")
        .delete(&format!("{row}/vote"), vote::withdraw)
        .permission(INNOVATION_UPDATE)
        .summary("Take the vote back.")
        .post(&format!("{row}/evaluate"), score::evaluate)
        .summary("Say what an idea is worth.")
        .put(&format!("{row}/status"), status::change)
        .summary("Move an idea on; rejecting needs a reason.")
        .children::<Comment>(&format!("{row}/comments"), "ideaId")
        .post(&format!("{row}/convert"), convert::convert)
        .summary("Make a task, a roadmap item or an experiment of an idea.")
        .get(&format!("{PATH}/metrics"), metrics::metrics)
        .summary("Count ideas, votes, conversions and innovation time.")
        .get(&format!("{PATH}/time"), time::list)
        .summary("List the caller's innovation time.")
        .post(&format!("{PATH}/time"), time::add)
        .summary("Note innovation time.")
        .delete(&format!("{PATH}/time/{{id}}"), time::remove)
        .permission(INNOVATION_UPDATE)
        .summary("Take innovation time of one's own back.")
}

#[cfg(test)]
pub(crate) mod tests {
    use berth_sdk::testing;

    use super::*;

    /// An idea of u1.
    pub(crate) fn idea() -> Idea {
        let author_id = Some("u1".into());
        Idea { author_id, ..Idea::new("t".into(), "d".into(), "c".into()) }
    }

    #[test]
    fn an_idea_knows_its_author() {
        testing::sign_in("u1", "o1");
        assert!(idea().is_callers());
        testing::sign_in("u2", "o1");
        assert!(!idea().is_callers());
    }
}
