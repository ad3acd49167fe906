//! Reviews of designs: only they approve one.

use berth_sdk::{events::Message, prelude::*, serde_json::Value};

use super::{Design, DesignStatus};
use crate::{project, review::ReviewStatus};

/// A review of a design.
#[entity(table = "architecture_reviews", name = "review")]
pub(crate) struct DesignReview {
    #[field(readonly)]
    pub project_id: Id,
    #[field(readonly, parent = Design)]
    pub design_id: Id,
    #[field(readonly)]
    pub requested_by: Option<Id>,
    /// Who may decide; when there are none anybody who may change the project, but not who asked.
    pub reviewers: Vec<Id>,
    pub status: ReviewStatus,
    pub comments: Vec<Value>,
    pub decision: Option<String>,
    pub decision_notes: Option<String>,
    #[field(readonly)]
    pub decided_by: Option<Id>,
    #[field(readonly)]
    pub decided_at: Option<Timestamp>,
}

impl Rules for DesignReview {
    fn scope() -> Option<Condition> {
        Some(project::within("architecture_reviews"))
    }

    fn event_data(row: &Stored<Self>) -> Value {
        json!({
            "id": row.id, "reviewId": row.id, "projectId": row.project_id, "reviewableType": "architecture",
            "reviewableId": row.design_id, "requestedBy": row.requested_by, "reviewers": row.reviewers,
            "assignedTo": row.reviewers.first(), "status": row.status,
        })
    }
}

/// The body of `POST /api/architecture/diagrams/{id}/review`.
#[data]
pub(crate) struct Request {
    #[field(default, max = 50)]
    reviewers: Vec<Id>,
    #[field(max = 10_000)]
    comment: Option<String>,
}

/// `POST /api/architecture/diagrams/{id}/review`: 409 unless the design is a draft.
pub(super) fn request(Params(id): Params<Id>, input: Option<Json<Request>>) -> Result<Created<Stored<DesignReview>>> {
    let Request { reviewers, comment } =
        input.map_or(Request { reviewers: Vec::new(), comment: None }, |Json(input)| input);
    database::transaction(|transaction| {
        let mut design = entity::read::<Design>(transaction, &id)?;
        project::require_edit(transaction, &design.project_id)?;
        if design.status != DesignStatus::Draft {
            return Err(Problem::conflict(format!("Only a draft is reviewed; this diagram is {}.", design.status)));
        }
        let user_id = auth::principal().user_id.map(Id::from);
        let comments = comment.into_iter().filter(|text| !text.is_empty()).map(|text| said(&text)).collect();
        let review = DesignReview {
            project_id: design.project_id.clone(),
            design_id: design.id.clone(),
            requested_by: user_id,
            reviewers,
            status: ReviewStatus::Pending,
            comments,
            decision: None,
            decision_notes: None,
            decided_by: None,
            decided_at: None,
        };
        let review = entity::create(transaction, review)?;
        design.status = DesignStatus::Review;
        entity::save(transaction, &mut design)?;
        announce(transaction, "review.requested", &review, &design)?;
        Ok(Created(review))
    })
}

/// `GET /api/architecture/diagrams/{id}/reviews`.
pub(super) fn list(Params(id): Params<Id>, query: PageQuery) -> Result<JsonText<Page<Stored<DesignReview>>>> {
    let design = entity::read::<Design>(&Pool, &id)?;
    Select::new().equal("design_id", &design.id).page(&Pool, &query)
}

/// What can be decided.
#[choice]
pub(crate) enum Verdict {
    Approved,
    Rejected,
    ChangesRequested,
}

/// The body of `PUT /api/architecture/reviews/{id}/decision`.
#[data]
pub(crate) struct Decision {
    decision: Verdict,
    #[field(max = 10_000)]
    decision_notes: Option<String>,
}

/// `PUT /api/architecture/reviews/{id}/decision`: once. An approved design takes the place of the version before it;
/// after any other decision it is a draft again.
pub(super) fn decide(
    Params(id): Params<Id>,
    if_match: IfMatch,
    Json(input): Json<Decision>,
) -> Result<Stored<DesignReview>> {
    database::transaction(|transaction| {
        let mut review = entity::read::<DesignReview>(transaction, &id)?;
        if_match.check(review.version)?;
        require_reviewer(&review)?;
        if review.reviewers.is_empty() {
            project::require_edit(transaction, &review.project_id)?;
        }
        if review.status.is_decision() {
            return Err(Problem::conflict(format!("The review is {} already.", review.status)));
        }
        let mut design = entity::read::<Design>(transaction, &review.design_id)?;
        if design.status != DesignStatus::Review {
            return Err(Problem::conflict(format!("The diagram is {}; it is not under review.", design.status)));
        }
        (review.status, design.status) = match input.decision {
            Verdict::Approved => (ReviewStatus::Approved, DesignStatus::Approved),
            Verdict::Rejected => (ReviewStatus::Rejected, DesignStatus::Draft),
            Verdict::ChangesRequested => (ReviewStatus::ChangesRequested, DesignStatus::Draft),
        };
        review.decision = Some(input.decision.to_string());
        review.decision_notes = input.decision_notes;
        review.decided_by = auth::principal().user_id.map(Id::from);
        review.decided_at = Some(clock::now());
        entity::save(transaction, &mut review)?;
        entity::save(transaction, &mut design)?;
        if design.status == DesignStatus::Approved {
            transaction.execute(
                "UPDATE architecture_designs SET status = $2, updated_at = $3, version = version + 1 \
                 WHERE id = $1 AND status = $4",
                params![&design.parent_version_id, DesignStatus::Deprecated, clock::now(), DesignStatus::Approved],
            )?;
        }
        let is_approved = review.status == ReviewStatus::Approved;
        announce(
            transaction,
            if is_approved { "review.approved" } else { "review.changes_requested" },
            &review,
            &design,
        )?;
        Ok(review)
    })
}

/// 403 unless the caller was asked, or nobody was and the caller is somebody else than who asked.
fn require_reviewer(review: &DesignReview) -> Result<()> {
    let principal = auth::principal();
    let user_id = principal.user_id.map(Id::from);
    let is_asked = if review.reviewers.is_empty() {
        user_id != review.requested_by
    } else {
        user_id.is_some_and(|user_id| review.reviewers.contains(&user_id))
    };
    if is_asked || principal.is_super_admin || principal.is_platform {
        return Ok(());
    }
    Err(Problem::forbidden("Only who was asked for the review decides it."))
}

fn announce(transaction: &Transaction, kind: &str, review: &Stored<DesignReview>, design: &Design) -> Result<()> {
    let mut data = DesignReview::event_data(review);
    if let Some(data) = data.as_object_mut() {
        data.insert("title".into(), design.title.clone().into());
    }
    transaction.send(&Message::new(kind, &data)?.with_key(review.id.as_str()))?;
    Ok(())
}

fn said(text: &str) -> Value {
    json!({ "by": auth::principal().user_id, "at": clock::now(), "text": text })
}
