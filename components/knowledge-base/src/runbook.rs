//! Runbooks: what to do step by step, and each time it is done.

pub mod run;

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use crate::entry::Entry;

/// Steps of a runbook.
const STEPS_MAX: usize = 100;

/// When a runbook is needed.
#[choice]
pub enum RunbookType {
    /// Something has happened.
    IncidentResponse,
    /// Something is put into use.
    Deployment,
    /// Something is kept up.
    Maintenance,
    /// Something does not work.
    Troubleshooting,
    /// Somebody is new.
    Onboarding,
}

/// A step.
#[data]
pub struct Step {
    /// Its place; by its place in the list when absent.
    #[field(default = 0, min = 0, max = 10_000)]
    pub order: i64,
    /// What it is for.
    #[field(min = 1, max = 300, plain)]
    pub title: String,
    /// What to do.
    #[field(max = 10_000, raw)]
    pub action: Option<String>,
    /// What is seen then.
    #[field(max = 10_000, raw)]
    pub expected_result: Option<String>,
    /// How to undo it.
    #[field(max = 10_000, raw)]
    pub rollback: Option<String>,
}

/// A runbook.
#[entity(table = "kb_runbooks", name = "runbook", sort = "-createdAt")]
pub struct Runbook {
    /// The entry that describes it.
    #[field(parent = Entry, immutable)]
    pub entry_id: Id,
    /// When it is needed.
    pub r#type: RunbookType,
    /// What to do.
    #[field(min = 1, max = STEPS_MAX)]
    pub steps: Vec<Step>,
}

impl Rules for Runbook {
    /// Whoever reads the entry reads its runbook.
    fn scope() -> Option<Condition> {
        let Condition { sql, values } = <Entry as Rules>::scope()?;
        Some(Condition {
            sql: format!("\"entry_id\" IN (SELECT id FROM kb_entries WHERE deleted_at IS NULL AND {sql})"),
            values,
        })
    }

    fn check(&self, faults: &mut Faults) {
        let mut orders: Vec<i64> = self.steps.iter().map(|step| step.order).filter(|order| *order > 0).collect();
        let count = orders.len();
        orders.sort_unstable();
        orders.dedup();
        if orders.len() != count {
            faults.add("steps", "must have different orders");
        } else if count > 0 && count < self.steps.len() {
            faults.add("steps", "must all have an order, or none");
        }
    }

    /// Which projects the caller sees is asked here.
    fn before_transaction(_: &Map<String, Value>) -> Result<()> {
        people::project::seen();
        Ok(())
    }

    fn before_create(&mut self, _: &Transaction) -> Result<()> {
        number(&mut self.steps);
        Ok(())
    }

    fn before_update(&mut self, _: &Stored<Self>, _: &Transaction) -> Result<()> {
        number(&mut self.steps);
        Ok(())
    }

    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        let running = transaction.query_one(
            "SELECT id FROM kb_runbook_runs WHERE runbook_id = $1 AND status = 'running' LIMIT 1",
            params![&row.id],
        )?;
        if running.is_some() {
            return Err(Problem::conflict("Somebody is going through it.").with_code("RUNBOOK_RUNNING"));
        }
        transaction.execute("DELETE FROM kb_runbook_runs WHERE runbook_id = $1", params![&row.id])?;
        Ok(())
    }
}

/// Steps in their order, each with one.
fn number(steps: &mut [Step]) {
    for (place, step) in (1..).zip(steps.iter_mut()) {
        if step.order == 0 {
            step.order = place;
        }
    }
    steps.sort_by_key(|step| step.order);
}
