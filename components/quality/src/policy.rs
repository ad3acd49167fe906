//! Policies: what may be done, asked by whoever is about to do it.

pub mod ask;
pub mod judge;

use berth_sdk::prelude::*;

use judge::PolicyRule;

/// What becomes of a violation.
#[choice]
pub enum EnforcementMode {
    /// It is allowed, and said.
    Warn,
    /// It is not allowed.
    Block,
    /// It is allowed, and kept in the audit log.
    Audit,
}

/// A policy.
#[entity(table = "compliance_policies", name = "policy", sort = "name")]
pub struct Policy {
    /// For people.
    #[field(min = 1, max = 200, plain)]
    pub name: String,
    /// What it is about, such as `access` or `deployment`.
    #[field(filter, min = 1, max = 100, plain)]
    pub policy_type: String,
    /// What must hold.
    #[field(max = 100)]
    pub rules: Vec<PolicyRule>,
    /// Whether it counts.
    #[field(default = true)]
    pub enabled: bool,
    /// What becomes of a violation.
    #[field(default = EnforcementMode::Warn)]
    pub enforcement_mode: EnforcementMode,
}

impl Rules for Policy {
    fn check(&self, faults: &mut Faults) {
        judge::check(&self.rules, faults);
    }

    fn before_update(&mut self, old: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        transaction.forget(ask::key(&old.id));
        Ok(())
    }

    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        transaction.forget(ask::key(&row.id));
        Ok(())
    }
}

/// The routes of policies.
pub fn routes() -> Router {
    const PATH: &str = "/api/compliance/policies";
    Router::new()
        .entity::<Policy>(PATH)
        .post(&format!("{PATH}/{{id}}/check"), ask::check)
        .summary("Ask whether something may be done.")
        // Asking changes nothing of the policy: whoever may see it may ask.
        .permission("compliance.compliance.read")
}
