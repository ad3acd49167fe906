//! The list of candidates, and what happens to one: confirmed, promoted, rolled back.

use berth_sdk::prelude::*;

use super::{Candidate, CandidateStatus};

/// What the list is narrowed to, beyond the fields.
#[data]
pub struct Filter {
    /// Only what held at this moment: for something that began then.
    effective_at: Option<Timestamp>,
}

/// `GET /api/learning/candidates`.
pub fn list(Query(filter): Query<Filter>, query: PageQuery) -> Result<JsonText<Page<Stored<Candidate>>>> {
    let mut select = Select::<Candidate>::new();
    if let Some(moment) = filter.effective_at {
        let sql = "promoted_at <= ? AND (rolled_back_at IS NULL OR rolled_back_at > ?)";
        select = select.condition(sql, [moment, moment]);
    }
    select.page(&Pool, &query)
}

/// A candidate, held until the transaction ends; 404, 412.
fn hold(transaction: &Transaction, id: &Id, if_match: IfMatch) -> Result<Stored<Candidate>> {
    transaction.query_one("SELECT id FROM learning_candidates WHERE id = $1 FOR UPDATE", params![id])?;
    let row = entity::read::<Candidate>(transaction, id)?;
    if_match.check(row.version)?;
    Ok(row)
}

/// `POST /api/learning/candidates/{id}/confirm`: once for each person; 409 when it is decided.
pub fn confirm(Params(id): Params<Id>, if_match: IfMatch) -> Result<Stored<Candidate>> {
    let user_id = auth::user_id()?;
    database::transaction(|transaction| {
        let mut row = hold(transaction, &id, if_match)?;
        if !row.status.is_open() {
            let detail = format!("The candidate is {}.", row.status);
            return Err(Problem::conflict(detail).with_code("CANDIDATE_CLOSED"));
        }
        let made = transaction.execute(
            "INSERT INTO learning_confirmations (id, organization_id, created_at, candidate_id, user_id) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (candidate_id, user_id) DO NOTHING",
            params![Id::new(), &row.organization_id, clock::now(), &row.id, &user_id],
        )?;
        if made > 0 {
            row.confirmations += 1;
            entity::save(transaction, &mut row)?;
        }
        Ok(row)
    })
}

/// `POST /api/learning/candidates/{id}/promote`: 409 before enough people have confirmed it. It holds for whatever begins
/// from then on; nothing that runs is concerned.
pub fn promote(Params(id): Params<Id>, if_match: IfMatch) -> Result<Stored<Candidate>> {
    database::transaction(|transaction| {
        let mut row = hold(transaction, &id, if_match)?;
        require_promotable(&row)?;
        row.status = CandidateStatus::Promoted;
        row.promoted_at = Some(clock::now());
        row.promoted_by = auth::principal().user_id.map(Id::from);
        row.rolled_back_at = None;
        entity::save(transaction, &mut row)?;
        Ok(row)
    })
}

fn require_promotable(candidate: &Candidate) -> Result<()> {
    if !candidate.status.is_open() {
        let detail = format!("The candidate is {}.", candidate.status);
        return Err(Problem::conflict(detail).with_code("CANDIDATE_CLOSED"));
    }
    if candidate.confirmations >= candidate.required {
        return Ok(());
    }
    let problem = Problem::conflict("Not enough people have confirmed it.").with_code("CONFIRMATIONS_MISSING");
    Err(problem.with("confirmations", candidate.confirmations).with("required", candidate.required))
}

/// `POST /api/learning/candidates/{id}/rollback`: 409 unless it holds.
pub fn rollback(Params(id): Params<Id>, if_match: IfMatch) -> Result<Stored<Candidate>> {
    database::transaction(|transaction| {
        let mut row = hold(transaction, &id, if_match)?;
        if row.status != CandidateStatus::Promoted {
            let detail = format!("The candidate is {} and does not hold.", row.status);
            return Err(Problem::conflict(detail).with_code("NOT_PROMOTED"));
        }
        row.status = CandidateStatus::RolledBack;
        row.rolled_back_at = Some(clock::now());
        entity::save(transaction, &mut row)?;
        Ok(row)
    })
}

#[cfg(test)]
mod tests {
    use berth_sdk::serde_json;

    use super::*;

    #[test]
    fn promotion_needs_enough_confirmations_and_an_open_candidate() {
        let candidate = |status: &str, confirmations: i64| -> Candidate {
            let value = json!({
                "kind": "strategy", "content": "c", "status": status, "confirmations": confirmations, "required": 2,
            });
            serde_json::from_value(value).unwrap()
        };
        require_promotable(&candidate("candidate", 2)).unwrap();
        require_promotable(&candidate("shadow", 3)).unwrap();
        let early = require_promotable(&candidate("shadow", 1)).unwrap_err();
        assert_eq!((early.status, early.member("required").unwrap()), (409, &json!(2)));
        for closed in ["promoted", "rejected", "rolled_back"] {
            assert_eq!(require_promotable(&candidate(closed, 9)).unwrap_err().code, "CANDIDATE_CLOSED");
        }
    }
}
