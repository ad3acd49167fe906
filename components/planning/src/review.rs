//! Reviews: somebody looks at a plan, a task, code or a design, says what they think of it, and decides.

mod comment;
mod rules;

use berth_sdk::{events::Message, prelude::*, serde_json::Value};

use crate::{
    architecture::Design,
    plan::Plan,
    project::{self, Project},
    task::{Priority, Task},
};
use comment::ReviewComment;
pub(crate) use rules::ReviewStatus;

/// What can be reviewed.
#[choice]
pub(crate) enum ReviewableType {
    Plan,
    Task,
    Code,
    Architecture,
}

/// Who should look at it.
#[choice]
pub(crate) enum Level {
    Peer,
    Senior,
    Architect,
}

/// A review.
#[entity(table = "project_reviews", created = "review.requested")]
pub(crate) struct Review {
    #[field(immutable, parent = Project)]
    pub project_id: Id,
    #[field(immutable)]
    pub reviewable_type: ReviewableType,
    /// A plan, a task or a design; for code whatever names it.
    #[field(immutable)]
    pub reviewable_id: Id,
    #[field(min = 1, max = 200, plain)]
    pub title: String,
    pub description: Option<String>,
    pub assigned_to: Id,
    #[field(default = ReviewStatus::Pending)]
    pub status: ReviewStatus,
    #[field(default = Level::Peer)]
    pub level: Level,
    #[field(default = Priority::Medium)]
    pub priority: Priority,
    pub due_date: Option<Timestamp>,
    pub quality: Option<Value>,
    #[field(readonly)]
    pub decided_by: Option<Id>,
    #[field(readonly)]
    pub decided_at: Option<Timestamp>,
}

impl Rules for Review {
    fn scope() -> Option<Condition> {
        Some(project::within("project_reviews"))
    }

    fn before_create(&mut self, transaction: &Transaction) -> Result<()> {
        project::require_edit(transaction, &self.project_id)?;
        if self.status != ReviewStatus::Pending {
            return Err(Problem::unprocessable("A new review begins as pending."));
        }
        let project_id = match self.reviewable_type {
            ReviewableType::Plan => Some(entity::read::<Plan>(transaction, &self.reviewable_id)?.data.project_id),
            ReviewableType::Task => Some(entity::read::<Task>(transaction, &self.reviewable_id)?.data.project_id),
            ReviewableType::Architecture => {
                Some(entity::read::<Design>(transaction, &self.reviewable_id)?.data.project_id)
            }
            ReviewableType::Code => None,
        };
        if project_id.is_some_and(|project_id| project_id != self.project_id) {
            return Err(Problem::unprocessable("What is to be reviewed belongs to another project."));
        }
        Ok(())
    }

    fn before_update(&mut self, old: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        project::require_edit(transaction, &old.project_id)?;
        if self.status == old.status {
            return Ok(());
        }
        if self.status.is_decision() {
            return Err(Problem::unprocessable("A review is decided by its routes approve and reject."));
        }
        rules::require_move(old.status, self.status)?;
        (self.decided_by, self.decided_at) = (None, None);
        Ok(())
    }

    fn after_update(old: &Stored<Self>, new: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        let is_asked_again = old.status.is_decision() && !new.status.is_decision();
        if is_asked_again || old.assigned_to != new.assigned_to {
            announce(transaction, "review.requested", new, json!({}))?;
        }
        Ok(())
    }

    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        project::require_edit(transaction, &row.project_id)?;
        transaction.execute("DELETE FROM project_review_comments WHERE review_id = $1", params![&row.id])?;
        Ok(())
    }

    fn event_data(row: &Stored<Self>) -> Value {
        json!({
            "id": row.id, "reviewId": row.id, "projectId": row.project_id, "title": row.title, "status": row.status,
            "reviewableType": row.reviewable_type, "reviewableId": row.reviewable_id, "assignedTo": row.assigned_to,
            "level": row.level, "priority": row.priority, "dueDate": row.due_date, "requestedBy": row.created_by,
        })
    }
}

fn announce(transaction: &Transaction, kind: &str, review: &Stored<Review>, more: Value) -> Result<()> {
    let mut data = Review::event_data(review);
    if let (Some(data), Some(more)) = (data.as_object_mut(), more.as_object()) {
        data.extend(more.clone());
    }
    transaction.send(&Message::new(kind, &data)?.with_key(review.id.as_str()))?;
    Ok(())
}

/// What is said with a decision.
#[data]
pub(crate) struct Decision {
    #[field(max = 10_000)]
    comment: Option<String>,
    /// Asks for changes instead of rejecting for good.
    #[field(default)]
    request_changes: bool,
    quality: Option<Value>,
}

/// `PUT /api/reviews/{id}/approve`.
fn approve(Params(id): Params<Id>, if_match: IfMatch, input: Option<Json<Decision>>) -> Result<Stored<Review>> {
    decide(&id, if_match, input.map(|Json(input)| input), |_| ReviewStatus::Approved)
}

/// `PUT /api/reviews/{id}/reject`.
fn reject(Params(id): Params<Id>, if_match: IfMatch, input: Option<Json<Decision>>) -> Result<Stored<Review>> {
    decide(&id, if_match, input.map(|Json(input)| input), |input| {
        let wants_changes = input.is_some_and(|input| input.request_changes);
        if wants_changes { ReviewStatus::ChangesRequested } else { ReviewStatus::Rejected }
    })
}

fn decide(
    id: &Id,
    if_match: IfMatch,
    input: Option<Decision>,
    status: impl FnOnce(Option<&Decision>) -> ReviewStatus,
) -> Result<Stored<Review>> {
    database::transaction(|transaction| {
        let mut review = entity::read::<Review>(transaction, id)?;
        if_match.check(review.version)?;
        require_reviewer(&review)?;
        let status = status(input.as_ref());
        rules::require_move(review.status, status)?;
        review.status = status;
        review.decided_by = auth::principal().user_id.map(Id::from);
        review.decided_at = Some(clock::now());
        let comment = input.and_then(|input| {
            if input.quality.is_some() {
                review.quality = input.quality;
            }
            input.comment.filter(|text| !text.is_empty())
        });
        entity::save(transaction, &mut review)?;
        if let Some(body) = &comment {
            entity::create(transaction, ReviewComment::of_decision(&review.id, status, body.clone()))?;
        }
        let kind = if status == ReviewStatus::Approved { "review.approved" } else { "review.changes_requested" };
        announce(transaction, kind, &review, json!({ "decidedBy": review.decided_by, "comment": comment }))?;
        Ok(review)
    })
}

/// 403 unless the caller is the one who was asked, or administers the organization.
fn require_reviewer(review: &Review) -> Result<()> {
    let principal = auth::principal();
    let is_asked = principal.user_id.as_deref() == Some(review.assigned_to.as_str());
    if is_asked || principal.is_super_admin || principal.is_platform || auth::has("reviews.review.delete") {
        return Ok(());
    }
    Err(Problem::forbidden("Only who was asked for the review decides it."))
}

/// The routes of reviews.
pub(crate) fn routes() -> Router {
    Router::new()
        .entity::<Review>("/api/reviews")
        .children::<ReviewComment>("/api/reviews/{id}/comments", "reviewId")
        .put("/api/reviews/{id}/approve", approve)
        .summary("Approve.")
        .put("/api/reviews/{id}/reject", reject)
        .summary("Reject, or request changes.")
        .put("/api/reviews/comments/{id}/resolve", comment::resolve)
        .summary("Resolve a comment and its thread.")
}
