//! Compliance checks: what has to hold by a control of a framework, and whether it did the last time somebody looked.

mod facts;
pub mod rule;
pub mod run;
mod schedule;

use std::time::Duration;

use berth_sdk::prelude::*;

use rule::Rule;
pub use run::due;
pub use schedule::tick;

/// Checks of an organization.
const CHECKS_MAX: i64 = 1_000;
/// The right to let a check ask other services as the organization, which sees everything.
const MANAGE: &str = "compliance.compliance.manage";
/// A schedule comes at most so often.
const INTERVAL_MIN: Duration = Duration::from_secs(300);

/// What a control belongs to.
#[choice]
pub enum Framework {
    /// SOC 2.
    Soc2,
    /// ISO/IEC 27001.
    Iso27001,
    /// General Data Protection Regulation.
    Gdpr,
    /// Health Insurance Portability and Accountability Act.
    Hipaa,
    /// The organization's own.
    Custom,
}

/// How it is found out.
#[choice]
pub enum CheckType {
    /// Somebody looks and says so.
    Manual,
    /// The rule is evaluated over facts that come with the run.
    Rule,
    /// The rule is evaluated over facts that are asked of other services.
    Query,
}

/// How it ended.
#[choice]
pub enum CheckStatus {
    /// Everything holds.
    Pass,
    /// Something that must hold does not, or it could not be found out.
    Fail,
    /// Only something that should hold does not.
    Partial,
    /// Nobody has looked yet, or a manual check is due again.
    NotRun,
}

/// A check.
#[entity(table = "compliance_checks", name = "check", sort = "name")]
pub struct Check {
    /// For people.
    #[field(min = 1, max = 200, plain)]
    pub name: String,
    /// What the control belongs to.
    pub framework: Framework,
    /// The control, such as `CC6.1`.
    #[field(filter, min = 1, max = 100, plain)]
    pub control_id: String,
    /// What it is for.
    #[field(max = 5_000)]
    pub description: Option<String>,
    /// How it is found out.
    pub check_type: CheckType,
    /// What must hold.
    #[field(default)]
    pub rule: Rule,
    /// Five cron fields in UTC: when it runs by itself. A manual one becomes `not_run` then.
    #[field(max = 200)]
    pub schedule_cron: Option<String>,
    /// How it ended the last time.
    #[field(readonly, default = CheckStatus::NotRun)]
    pub status: CheckStatus,
    /// When that was.
    #[field(readonly)]
    pub last_run_at: Option<Timestamp>,
    /// When it runs by itself next.
    #[field(readonly)]
    pub next_run_at: Option<Timestamp>,
}

impl Check {
    /// The next run after a moment; 400 for a schedule that makes no sense.
    fn next_run(&self, after: Timestamp) -> Result<Option<Timestamp>> {
        let Some(cron) = &self.schedule_cron else { return Ok(None) };
        match time_rules::cron::next(cron, "UTC", after, INTERVAL_MIN) {
            Ok(next) => Ok(Some(next)),
            Err(problem) => {
                let fault = problem.errors.first().map_or("makes no sense", |fault| fault.message.as_str());
                Err(Problem::field(
                    "scheduleCron",
                    format!("{fault}; it takes five cron fields, at most every 5 minutes"),
                ))
            }
        }
    }

    /// 403 where it would ask other services by itself, and with that show its runs' readers what its author may not see.
    fn require_manager(&self) -> Result<()> {
        if self.check_type == CheckType::Query && self.schedule_cron.is_some() && !auth::has(MANAGE) {
            return Err(Problem::forbidden(
                "A check that asks other services by schedule does so as the organization: administrators write it.",
            ));
        }
        Ok(())
    }
}

impl Rules for Check {
    fn check(&self, faults: &mut Faults) {
        self.rule.check(self.check_type, faults);
        if let Err(problem) = self.next_run(clock::now()) {
            faults.extend(problem.errors);
        }
    }

    fn before_create(&mut self, transaction: &Transaction) -> Result<()> {
        self.require_manager()?;
        if Select::<Self>::new().count_in_turn(transaction)? >= CHECKS_MAX {
            return Err(Problem::conflict(format!("There are {CHECKS_MAX} checks already.")));
        }
        self.next_run_at = self.next_run(clock::now())?;
        Ok(())
    }

    fn before_update(&mut self, old: &Stored<Self>, _: &Transaction) -> Result<()> {
        self.require_manager()?;
        if self.schedule_cron != old.schedule_cron {
            self.next_run_at = self.next_run(clock::now())?;
        }
        Ok(())
    }

    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        transaction.execute("DELETE FROM compliance_check_runs WHERE check_id = $1", params![&row.id])?;
        Ok(())
    }
}

/// The routes of checks.
pub fn routes() -> Router {
    const PATH: &str = "/api/compliance/checks";
    Router::new()
        .entity::<Check>(PATH)
        .post(&format!("{PATH}/{{id}}/run"), run::run_now)
        .summary("Run a check now.")
        .get(&format!("{PATH}/{{id}}/runs"), run::list)
        .summary("List the runs of a check, newest first.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(fields: berth_sdk::serde_json::Value) -> Vec<String> {
        let mut whole = json!({"name": "MFA", "framework": "soc2", "controlId": "CC6.1", "checkType": "manual"});
        whole.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let check: Check = berth_sdk::serde_json::from_value(whole).unwrap();
        let mut faults = Faults::default();
        check.check(&mut faults);
        faults.errors().iter().map(|error| error.field.clone()).collect()
    }

    #[test]
    fn only_administrators_let_a_check_ask_as_the_organization() {
        berth_sdk::testing::sign_in("u1", "o1");
        let status = |kind: &str, cron: Option<&str>| {
            let fields =
                json!({"name": "x", "framework": "soc2", "controlId": "1", "checkType": kind, "scheduleCron": cron});
            let check: Check = berth_sdk::serde_json::from_value(fields).unwrap();
            check.require_manager().err().map(|problem| problem.status)
        };
        assert_eq!(status("query", Some("0 3 * * *")), Some(403));
        assert_eq!((status("query", None), status("rule", Some("0 3 * * *"))), (None, None));
        berth_sdk::testing::permit(MANAGE);
        assert_eq!(status("query", Some("0 3 * * *")), None);
    }

    #[test]
    fn a_check_that_could_not_run_is_refused() {
        assert!(faults(json!({})).is_empty());
        assert_eq!(faults(json!({"checkType": "rule"})), ["rule.assertions"]);
        assert_eq!(faults(json!({"checkType": "query"})), ["rule.assertions", "rule.queries"]);
        assert!(faults(json!({"scheduleCron": "0 3 * * *"})).is_empty());
        for cron in ["* * * * *", "x", "0 0 31 2 *"] {
            assert_eq!(faults(json!({"scheduleCron": cron})), ["scheduleCron"], "{cron}");
        }
    }
}
