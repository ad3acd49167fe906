//! Comments of a review, at a place or on the whole, in threads that can be resolved.

use berth_sdk::prelude::*;

use super::{Review, ReviewStatus};
use crate::project;

/// What a comment means.
#[choice]
pub(crate) enum CommentType {
    Comment,
    Suggestion,
    Question,
    Approval,
    RequestChanges,
}

/// A comment of a review.
#[entity(table = "project_review_comments", name = "review comment", sort = "createdAt")]
pub(crate) struct ReviewComment {
    #[field(immutable, parent = Review)]
    pub review_id: Id,
    #[field(readonly)]
    pub author_id: Option<Id>,
    #[field(max = 1024, plain)]
    pub file_path: Option<String>,
    #[field(min = 1, max = 10_000_000)]
    pub line: Option<i64>,
    #[field(default = CommentType::Comment)]
    pub r#type: CommentType,
    #[field(min = 1, max = 10_000)]
    pub body: String,
    /// The first comment of the thread.
    pub thread_id: Option<Id>,
    #[field(readonly)]
    pub resolved_at: Option<Timestamp>,
    #[field(readonly)]
    pub resolved_by: Option<Id>,
}

impl Rules for ReviewComment {
    fn check(&self, faults: &mut Faults) {
        if self.line.is_some() && self.file_path.is_none() {
            faults.add("filePath", "is required with a line");
        }
    }

    fn before_create(&mut self, transaction: &Transaction) -> Result<()> {
        self.author_id = auth::principal().user_id.map(Id::from);
        if let Some(thread_id) = &self.thread_id {
            let first = entity::read::<Self>(transaction, thread_id)?;
            if first.review_id != self.review_id {
                return Err(Problem::missing("thread in the review"));
            }
            // An answer to an answer belongs to the same thread.
            self.thread_id = Some(first.data.thread_id.unwrap_or(first.id));
        }
        Ok(())
    }
}

impl ReviewComment {
    /// What was said with a decision.
    pub(super) fn of_decision(review_id: &Id, status: ReviewStatus, body: String) -> Self {
        let r#type = match status {
            ReviewStatus::Approved => CommentType::Approval,
            _ => CommentType::RequestChanges,
        };
        Self {
            review_id: review_id.clone(),
            author_id: None,
            file_path: None,
            line: None,
            r#type,
            body,
            thread_id: None,
            resolved_at: None,
            resolved_by: None,
        }
    }
}

/// `PUT /api/reviews/comments/{id}/resolve`: its whole thread is resolved; doing it again changes nothing.
pub(super) fn resolve(Params(id): Params<Id>, if_match: IfMatch) -> Result<Stored<ReviewComment>> {
    database::transaction(|transaction| {
        let comment = entity::read::<ReviewComment>(transaction, &id)?;
        let missing = |_| Problem::missing("review comment");
        let review = entity::read::<Review>(transaction, &comment.review_id).map_err(missing)?;
        if_match.check(comment.version)?;
        project::require_edit(transaction, &review.project_id)?;
        let first = comment.thread_id.clone().unwrap_or_else(|| comment.id.clone());
        transaction.execute(
            "UPDATE project_review_comments SET resolved_at = $3, resolved_by = $4, updated_at = $3, version = version + 1 \
             WHERE review_id = $1 AND (id = $2 OR thread_id = $2) AND resolved_at IS NULL",
            params![&review.id, &first, clock::now(), auth::principal().user_id],
        )?;
        entity::read(transaction, &id)
    })
}
