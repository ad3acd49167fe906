//! What is likely to go wrong, judged by what the project knows of itself. No model is asked: each proposal says what it
//! follows from.

use berth_sdk::prelude::*;

use super::{
    Issue, IssueKind,
    rules::{IssueStatus, Severity, priority_score},
};
use crate::project::{self, Project};

/// The most facts of one kind that are looked at.
const FACTS_MAX: usize = 20;

/// The body of `POST /api/issues/anticipate`.
#[data]
pub(crate) struct Wish {
    project_id: Id,
    /// Stores the proposals as anticipated issues, but for those that are there already.
    #[field(default)]
    store: bool,
}

/// What is likely to go wrong, worst first.
#[data]
pub(crate) struct Anticipated {
    items: Vec<Proposal>,
    /// How many of them were stored by this request.
    stored: usize,
}

/// An issue that is likely.
#[data]
pub(crate) struct Proposal {
    title: String,
    description: String,
    kind: IssueKind,
    severity: Severity,
    likelihood: f64,
    priority_score: f64,
    file_path: Option<String>,
    /// The stored issue, where it is stored.
    issue_id: Option<Id>,
}

/// Something the project knows that points to trouble.
#[data]
struct Fact {
    /// Which kind: see [`FACTS`].
    #[field(default)]
    about: String,
    name: String,
    /// How much of it there is, where that matters.
    amount: Option<f64>,
    path: Option<String>,
}

/// Kinds of facts and the query of each: `$1` is the project, `$2` now.
const FACTS: [(&str, &str); 7] = [
    (
        "overdue",
        "SELECT title AS name, NULL AS amount, NULL AS path FROM project_tasks WHERE project_id = $1 AND deleted_at IS NULL \
         AND status NOT IN ('completed', 'cancelled') AND due_date < $2 ORDER BY due_date",
    ),
    (
        "blocked",
        "SELECT title AS name, NULL AS amount, NULL AS path FROM project_tasks WHERE project_id = $1 AND deleted_at IS NULL \
         AND status = 'blocked' AND created_at < $2 ORDER BY updated_at",
    ),
    (
        "vulnerable",
        "SELECT name, vulnerability_count AS amount, NULL AS path FROM project_packages WHERE project_id = $1 \
         AND vulnerability_count > 0 AND created_at < $2 ORDER BY vulnerability_count DESC, name",
    ),
    (
        "debt",
        "SELECT title AS name, overall_score AS amount, NULL AS path FROM project_debt WHERE project_id = $1 \
         AND status <> 'resolved' AND overall_score >= 7 AND created_at < $2 ORDER BY overall_score DESC",
    ),
    (
        "poor",
        "SELECT name, quality_score AS amount, path FROM project_modules WHERE project_id = $1 AND quality_score < 0.5 \
         AND created_at < $2 ORDER BY quality_score",
    ),
    (
        "waiting",
        "SELECT dependency_type AS name, NULL AS amount, NULL AS path FROM project_dependencies WHERE project_id = $1 \
         AND status <> 'resolved' AND (status = 'blocked' OR sla_status = 'breached') AND created_at < $2 ORDER BY id",
    ),
    (
        "failed",
        "SELECT title AS name, NULL AS amount, NULL AS path FROM plan_plans WHERE project_id = $1 AND deleted_at IS NULL \
         AND status = 'failed' AND created_at < $2 ORDER BY updated_at DESC",
    ),
];

/// `POST /api/issues/anticipate`.
pub(crate) fn anticipate(Json(wish): Json<Wish>) -> Result<Json<Anticipated>> {
    let project = entity::read::<Project>(&Pool, &wish.project_id)?;
    let now = clock::now();
    let mut facts = Vec::new();
    for (about, sql) in FACTS {
        let found: Vec<Fact> =
            database::query_as(&Pool, &format!("{sql} LIMIT {FACTS_MAX}"), params![&project.id, now])?;
        facts.extend(found.into_iter().map(|fact| Fact { about: about.into(), ..fact }));
    }
    let mut items = propose(&facts);
    let stored = if wish.store { store(&project.id, &mut items)? } else { 0 };
    Ok(Json(Anticipated { items, stored }))
}

/// One proposal a fact, worst first.
fn propose(facts: &[Fact]) -> Vec<Proposal> {
    let mut proposals: Vec<Proposal> = facts.iter().filter_map(judge).collect();
    proposals.sort_by(|one, other| {
        other.priority_score.total_cmp(&one.priority_score).then_with(|| one.title.cmp(&other.title))
    });
    proposals
}

fn judge(fact: &Fact) -> Option<Proposal> {
    use IssueKind::{BreakingChange, Bug, Dependency, Quality, Security};
    let amount = fact.amount.unwrap_or_default();
    let name = fact.name.as_str();
    let (title, why, kind, severity, likelihood) = match fact.about.as_str() {
        "overdue" => {
            (format!("\"{name}\" delays what waits for it"), "The task is overdue.", Quality, Severity::Medium, 0.7)
        }
        "blocked" => (format!("\"{name}\" stays blocked"), "The task is blocked.", Dependency, Severity::Medium, 0.6),
        "vulnerable" => {
            let severity = if amount >= 3.0 { Severity::Critical } else { Severity::High };
            (
                format!("{name} is attacked through a known hole"),
                "The package has known vulnerabilities.",
                Security,
                severity,
                0.8,
            )
        }
        "debt" => (
            format!("\"{name}\" slows changes down"),
            "The debt scores high.",
            Quality,
            Severity::High,
            // Scores are mostly from 0 to 10.
            (amount / 10.0).clamp(0.5, 0.95),
        ),
        "poor" => (
            format!("Changes to {name} break it"),
            "The module's quality is low.",
            Bug,
            Severity::Medium,
            (1.0 - amount).clamp(0.5, 0.95),
        ),
        "waiting" => (
            format!("What another team owes ({name}) comes late"),
            "A dependency is blocked or its agreement is broken.",
            BreakingChange,
            Severity::High,
            0.7,
        ),
        "failed" => {
            (format!("\"{name}\" fails again"), "The last execution of the plan failed.", Bug, Severity::High, 0.5)
        }
        _ => return None,
    };
    let likelihood = crate::score::rounded(likelihood);
    Some(Proposal {
        title: title.chars().take(200).collect(),
        description: why.into(),
        kind,
        severity,
        likelihood,
        priority_score: priority_score(severity, likelihood),
        file_path: fact.path.clone(),
        issue_id: None,
    })
}

/// Stores what is not there yet; every proposal gets the id of its issue.
fn store(project_id: &Id, items: &mut [Proposal]) -> Result<usize> {
    database::transaction(|transaction| {
        project::require_edit(transaction, project_id)?;
        let known = Select::<Issue>::new()
            .equal("project_id", project_id)
            .condition("status NOT IN (?, ?)", [IssueStatus::Resolved, IssueStatus::Dismissed])
            .limit(1000)
            .all(transaction)?;
        let mut stored = 0;
        for item in items {
            if let Some(issue) = known.iter().find(|issue| issue.title == item.title) {
                item.issue_id = Some(issue.id.clone());
                continue;
            }
            let mut issue = Issue::anticipated(Some(project_id.clone()), item.title.clone(), item.description.clone());
            (issue.kind, issue.severity, issue.likelihood) = (item.kind, item.severity, item.likelihood);
            issue.file_path = item.file_path.clone();
            item.issue_id = Some(entity::create(transaction, issue)?.id);
            stored += 1;
        }
        Ok(stored)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fact(about: &str, name: &str, amount: Option<f64>) -> Fact {
        Fact { about: about.into(), name: name.into(), amount, path: None }
    }

    #[test]
    fn what_is_worst_comes_first() {
        let found = propose(&[
            fact("overdue", "Paint", None),
            fact("vulnerable", "openssl", Some(4.0)),
            fact("failed", "Ship", None),
        ]);
        let kinds: Vec<IssueKind> = found.iter().map(|proposal| proposal.kind).collect();
        assert_eq!(kinds, [IssueKind::Security, IssueKind::Bug, IssueKind::Quality]);
        assert_eq!(found[0].severity, Severity::Critical);
    }

    proptest! {
        #[test]
        fn every_known_fact_makes_one_proposal_in_range(about in 0usize..7, name in ".{1,300}", amount in prop::option::of(-10.0f64..1000.0)) {
            let found = propose(&[fact(FACTS[about].0, &name, amount)]);
            prop_assert_eq!(found.len(), 1);
            prop_assert!((0.0..=1.0).contains(&found[0].likelihood) && (0.0..=1.0).contains(&found[0].priority_score));
            prop_assert!(found[0].title.chars().count() <= 200);
        }
    }
}
