//! How long which entries are kept. The most particular policy counts: category and severity before category, before
//! severity, before the one for everything. What no policy is about is kept.

use berth_sdk::prelude::*;

use super::entry::{Category, Severity};
use crate::{access, filter::Filter};

/// Policies of an organization.
const POLICIES_MAX: i64 = 50;
const DAY_MS: i64 = 86_400_000;

/// A policy.
#[entity(table = "audit_retention_policies", name = "retention policy")]
pub(crate) struct Policy {
    pub category: Option<Category>,
    pub severity: Option<Severity>,
    /// How long entries must be kept.
    #[field(min = 30, max = 2555)]
    pub retention_days: i64,
    /// After so many days they are left out of lists, unless these say `includeArchived=true`.
    #[field(min = 1, max = 2555)]
    pub archive_after_days: Option<i64>,
    /// After so many days they are deleted.
    #[field(min = 30, max = 2555)]
    pub delete_after_days: i64,
    /// They are never deleted, and the policy cannot be loosened any more.
    #[field(default)]
    pub immutable: bool,
    #[field(hidden, readonly, default)]
    pub policy_key: String,
}

impl Policy {
    fn specificity(&self) -> u8 {
        u8::from(self.category.is_some()) * 2 + u8::from(self.severity.is_some())
    }

    fn key(&self) -> Result<String> {
        let name = |text: Option<&'static str>| text.unwrap_or("*");
        let (category, severity) = (self.category.map(Category::as_str), self.severity.map(Severity::as_str));
        Ok(format!("{}|{}|{}", auth::organization_id()?, name(category), name(severity)))
    }

    /// Whether another one in its place would protect less.
    fn is_loosened_by(&self, new: &Self) -> bool {
        !new.immutable
            || new.category != self.category
            || new.severity != self.severity
            || new.retention_days < self.retention_days
            || new.delete_after_days < self.delete_after_days
    }
}

impl Rules for Policy {
    fn check(&self, faults: &mut Faults) {
        if self.delete_after_days < self.retention_days {
            faults.add("deleteAfterDays", "must not be less than retentionDays");
        }
        if self.archive_after_days.is_some_and(|days| days > self.delete_after_days) {
            faults.add("archiveAfterDays", "must not be more than deleteAfterDays");
        }
    }

    fn before_create(&mut self, transaction: &Transaction) -> Result<()> {
        access::require_admin()?;
        if Select::<Self>::new().count_in_turn(transaction)? >= POLICIES_MAX {
            return Err(Problem::conflict(format!("There are {POLICIES_MAX} policies already.")));
        }
        self.policy_key = self.key()?;
        Ok(())
    }

    fn before_update(&mut self, old: &Stored<Self>, _: &Transaction) -> Result<()> {
        access::require_admin()?;
        if old.immutable && old.is_loosened_by(self) {
            return Err(Problem::conflict("An immutable policy can only be tightened."));
        }
        self.policy_key = self.key()?;
        Ok(())
    }

    fn before_delete(row: &Stored<Self>, _: &Transaction) -> Result<()> {
        access::require_admin()?;
        if row.immutable { Err(Problem::conflict("The policy is immutable.")) } else { Ok(()) }
    }
}

/// Every policy, the most particular first.
pub(crate) fn all(database: &dyn Executor) -> Result<Vec<Policy>> {
    let rows = Select::<Policy>::new().limit(POLICIES_MAX).all(database)?;
    let mut policies: Vec<Policy> = rows.into_iter().map(|row| row.data).collect();
    policies.sort_by_key(|policy| std::cmp::Reverse(policy.specificity()));
    Ok(policies)
}

/// An SQL expression of the moment (in milliseconds) before which a row is gone by its policy; 0 where it is never. Texts
/// and numbers in it are this program's own.
fn border<'a>(
    policies: impl IntoIterator<Item = &'a Policy>,
    now: Timestamp,
    days: impl Fn(&Policy) -> Option<i64>,
) -> String {
    // By the day, so that the text of the statement stays the same for a while.
    let today = now.millis() / DAY_MS * DAY_MS;
    let mut sql = String::from("CASE");
    for policy in policies {
        let mut conditions = Vec::new();
        if let Some(category) = policy.category {
            conditions.push(format!("category = '{}'", category.as_str()));
        }
        if let Some(severity) = policy.severity {
            conditions.push(format!("severity = '{}'", severity.as_str()));
        }
        let condition = if conditions.is_empty() { "1 = 1".to_string() } else { conditions.join(" AND ") };
        let border = days(policy).map_or(0, |days| today - days * DAY_MS);
        sql.push_str(&format!(" WHEN {condition} THEN {border}"));
    }
    if sql == "CASE" {
        return "0".into();
    }
    sql.push_str(" ELSE 0 END");
    sql
}

/// Leaves out what is archived.
pub(crate) fn leave_archived(filter: &mut Filter) -> Result<()> {
    let policies = all(&Pool)?;
    if policies.iter().any(|policy| policy.archive_after_days.is_some()) {
        let border = border(&policies, clock::now(), |policy| policy.archive_after_days);
        filter.and(&format!("received_ms >= {border}"), []);
    }
    Ok(())
}

/// A condition of the rows that must stay; none where every row must. What is immutable is so whatever a more particular policy
/// says: that one may have come later.
pub(crate) fn must_stay(policies: &[Policy], now: Timestamp) -> Option<String> {
    let deletes = |policy: &Policy| (!policy.immutable).then_some(policy.delete_after_days);
    let (immutable, others): (Vec<&Policy>, Vec<&Policy>) = policies.iter().partition(|policy| policy.immutable);
    let is_any_deleted = !others.is_empty();
    let border = border(immutable.into_iter().chain(others), now, deletes);
    is_any_deleted.then(|| format!("received_ms >= {border}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(category: Option<Category>, days: i64, immutable: bool) -> Policy {
        Policy {
            category,
            severity: None,
            retention_days: 30,
            archive_after_days: None,
            delete_after_days: days,
            immutable,
            policy_key: String::new(),
        }
    }

    #[test]
    fn rows_stay_by_the_most_particular_policy() {
        let now = Timestamp::parse("2026-01-31T12:00:00Z").unwrap();
        let policies = [policy(Some(Category::Security), 100, true), policy(None, 30, false)];
        let today = Timestamp::parse("2026-01-31T00:00:00Z").unwrap().millis();
        assert_eq!(
            must_stay(&policies, now).unwrap(),
            format!(
                "received_ms >= CASE WHEN category = 'SECURITY' THEN 0 WHEN 1 = 1 THEN {} ELSE 0 END",
                today - 30 * DAY_MS
            )
        );
        // A more particular policy does not undo an immutable one.
        let particular = [
            Policy { severity: Some(Severity::Info), ..policy(Some(Category::Security), 30, false) },
            policy(Some(Category::Security), 100, true),
        ];
        assert_eq!(
            must_stay(&particular, now).unwrap(),
            format!(
                "received_ms >= CASE WHEN category = 'SECURITY' THEN 0 WHEN category = 'SECURITY' AND severity = 'INFO' THEN {} ELSE 0 END",
                today - 30 * DAY_MS
            )
        );
        assert_eq!(must_stay(&policies[..1], now), None);
        assert_eq!(must_stay(&[], now), None);
    }

    #[test]
    fn an_immutable_policy_is_only_tightened() {
        let old = policy(None, 100, true);
        assert!(!old.is_loosened_by(&policy(None, 200, true)));
        assert!(old.is_loosened_by(&policy(None, 200, false)));
        assert!(old.is_loosened_by(&policy(None, 99, true)));
        assert!(old.is_loosened_by(&policy(Some(Category::Access), 100, true)));
        let mut faults = Faults::default();
        Policy { archive_after_days: Some(200), retention_days: 150, ..old }.check(&mut faults);
        assert_eq!(faults.errors().len(), 2);
    }
}
