//! Retention policies: how long which kind of data is kept, by word of the organization. Whoever keeps the data keeps to it;
//! nothing is deleted from here.

use berth_sdk::prelude::*;

/// What becomes of it then.
#[choice]
pub enum RetentionAction {
    /// It is put away.
    Archive,
    /// It is deleted.
    Delete,
}

/// How long a kind of data is kept: one for each kind.
#[entity(table = "compliance_retention_policies", name = "retention policy", sort = "resourceType")]
pub struct RetentionPolicy {
    /// Such as `audit-logs` or `messages`.
    #[field(filter, min = 1, max = 100, plain)]
    pub resource_type: String,
    /// How long.
    #[field(min = 1, max = 36_500)]
    pub retention_days: i64,
    /// What becomes of it then.
    pub action: RetentionAction,
    /// Whether it counts.
    #[field(default = true)]
    pub enabled: bool,
}

impl Rules for RetentionPolicy {
    fn before_create(&mut self, transaction: &Transaction) -> Result<()> {
        self.require_free(transaction, None)
    }

    fn before_update(&mut self, old: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        self.require_free(transaction, Some(&old.id))
    }
}

impl RetentionPolicy {
    /// 409 when there is another one for this kind of data; the table's index holds it too.
    fn require_free(&self, transaction: &Transaction, own: Option<&Id>) -> Result<()> {
        let other = Select::<Self>::new().equal("resource_type", self.resource_type.as_str()).first(transaction)?;
        match other {
            Some(other) if own != Some(&other.id) => {
                Err(Problem::conflict(format!("There is a retention policy for {} already.", self.resource_type))
                    .with("retentionPolicyId", other.id.as_str()))
            }
            _ => Ok(()),
        }
    }
}

/// The routes of retention policies.
pub fn routes() -> Router {
    Router::new().entity::<RetentionPolicy>("/api/compliance/retention")
}
