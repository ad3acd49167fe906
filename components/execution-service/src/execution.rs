//! Executions: one run of one plan, its states, and which command each state takes. Pure rules; it must never touch
//! the database.

use berth_sdk::{
    entity::{Column, Kind},
    prelude::*,
    serde_json::Value,
};

/// The most steps that may be under way at once.
pub const PARALLEL_MAX: i64 = 16;

/// How far an execution is.
#[choice]
pub enum Status {
    /// Accepted; no step has begun.
    Pending,
    /// Steps run.
    Running,
    /// It pauses when the step under way is done.
    Pausing,
    /// Nothing runs until it is resumed.
    Paused,
    /// Every step is completed or skipped.
    Completed,
    /// A step has failed, or a rollback got stuck.
    Failed,
    /// It is being cancelled.
    Cancelling,
    /// Somebody has cancelled it.
    Cancelled,
    /// Completed steps are being undone.
    RollingBack,
    /// Everything that was to be undone is.
    RolledBack,
}

impl Status {
    /// Nothing happens any more.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled | Self::RolledBack)
    }
}

/// How an execution is to run.
#[data]
pub struct Options {
    /// Check everything, leave nothing behind.
    #[field(default)]
    pub dry_run: bool,
    /// Undo completed steps when one fails.
    #[field(default)]
    pub auto_rollback: bool,
    /// The most steps that may be under way at once.
    #[field(default = 1, min = 1, max = PARALLEL_MAX)]
    pub max_parallel: i64,
    /// Run what does not depend on a failed step.
    #[field(default)]
    pub continue_on_error: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { dry_run: false, auto_rollback: false, max_parallel: 1, continue_on_error: false }
    }
}

impl Column for Options {
    const KIND: Kind = Kind::Json;
}

/// One run of one plan.
#[entity(table = "execution_executions")]
pub struct Execution {
    /// The plan.
    pub plan_id: Id,
    /// The plan's project.
    pub project_id: Option<Id>,
    /// Who started it.
    pub user_id: Id,
    /// How far it is.
    pub status: Status,
    /// The step that began last.
    pub current_step_id: Option<Id>,
    /// Steps that are completed or skipped.
    pub completed_steps: i64,
    /// Steps of the plan's current revision.
    pub total_steps: i64,
    /// The hash of the plan's current revision.
    pub plan_hash: String,
    /// The plan's revision within this execution, from 1.
    pub plan_revision: i64,
    /// How it runs.
    pub options: Options,
    /// What came of it.
    pub result: Option<Value>,
    /// Why it stopped.
    pub error: Option<Value>,
    /// When the first step began.
    pub started_at: Option<Timestamp>,
    /// When it was paused.
    pub paused_at: Option<Timestamp>,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// When the longest of its leases ends.
    #[field(hidden)]
    pub lease_until: Option<Timestamp>,
    /// Grows with every step of the machine.
    #[field(hidden)]
    pub lock_version: i64,
    /// The sequence of its last event.
    pub event_sequence: i64,
    /// A rollback undoes what was completed after this event.
    #[field(hidden)]
    pub rollback_after: Option<i64>,
}

impl Rules for Execution {}

/// What somebody asks of an execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Stop after the step under way.
    Pause,
    /// Go on.
    Resume,
    /// Stop for good.
    Cancel,
    /// Undo.
    Rollback,
    /// Change later steps.
    ChangePlan,
    /// Retry, skip or complete a step, or note a checkpoint.
    TouchStep,
}

/// What a state says to a command.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Do it.
    Act,
    /// It is so already.
    Nothing,
    /// It cannot be.
    Refuse(Box<Problem>),
}

/// Which command each state takes.
///
/// ```
/// use execution_service::execution::{Command, Status, Verdict, judge};
/// assert_eq!(judge(Status::Running, Command::Pause), Verdict::Act);
/// assert_eq!(judge(Status::Paused, Command::Pause), Verdict::Nothing);
/// assert!(matches!(judge(Status::Completed, Command::Pause), Verdict::Refuse(_)));
/// ```
pub fn judge(status: Status, command: Command) -> Verdict {
    use Command::{Cancel, ChangePlan, Pause, Resume, Rollback, TouchStep};
    use Status::{
        Cancelled, Cancelling, Completed, Failed, Paused, Pausing, Pending, RolledBack, RollingBack, Running,
    };
    match (command, status) {
        (Pause, Paused | Pausing)
        | (Resume, Running | Pending)
        | (Cancel, Cancelled | Cancelling)
        | (Rollback, RolledBack | RollingBack) => Verdict::Nothing,
        // What has ended can still be undone.
        (Rollback, Paused | Completed | Failed | Cancelled) => Verdict::Act,
        (_, status) if status.is_terminal() => Verdict::Refuse(Box::new(terminal(status))),
        (Pause, Pending | Running) | (Resume, Paused) | (Cancel, _) | (ChangePlan, Paused) => Verdict::Act,
        (TouchStep, Pending | Running | Pausing | Paused) => Verdict::Act,
        (ChangePlan | Rollback, Pending | Running | Pausing) => Verdict::Refuse(Box::new(
            Problem::conflict(format!("The execution is {status}: pause it first.")).with_code("PAUSE_REQUIRED"),
        )),
        (_, status) => Verdict::Refuse(Box::new(Problem::conflict(format!("The execution is {status}.")))),
    }
}

/// 409 for a command on what has ended.
pub fn terminal(status: Status) -> Problem {
    Problem::new(409, "EXECUTION_TERMINAL", "The execution has ended", format!("The execution is {status}."))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Command, Status, Verdict, judge};

    const COMMANDS: [Command; 5] =
        [Command::Pause, Command::Resume, Command::Cancel, Command::ChangePlan, Command::TouchStep];

    fn code(status: Status, command: Command) -> String {
        match judge(status, command) {
            Verdict::Act => "act".into(),
            Verdict::Nothing => "nothing".into(),
            Verdict::Refuse(problem) => problem.code.into_owned(),
        }
    }

    #[test]
    fn what_has_ended_takes_no_command() {
        for status in Status::ALL.iter().copied().filter(|status| status.is_terminal()) {
            for command in COMMANDS {
                let expected = match (status, command) {
                    (Status::Cancelled, Command::Cancel) => "nothing",
                    _ => "EXECUTION_TERMINAL",
                };
                assert_eq!(code(status, command), expected, "{status} {command:?}");
            }
        }
    }

    #[test]
    fn the_table_of_states_holds() {
        assert_eq!(code(Status::Pending, Command::Pause), "act");
        assert_eq!(code(Status::Pausing, Command::Resume), "CONFLICT");
        assert_eq!(code(Status::Running, Command::Resume), "nothing");
        assert_eq!(code(Status::Running, Command::ChangePlan), "PAUSE_REQUIRED");
        assert_eq!(code(Status::Paused, Command::ChangePlan), "act");
        assert_eq!(code(Status::RollingBack, Command::Cancel), "act");
        assert_eq!(code(Status::RollingBack, Command::Pause), "CONFLICT");
        assert_eq!(code(Status::Failed, Command::Rollback), "act");
        assert_eq!(code(Status::Running, Command::Rollback), "PAUSE_REQUIRED");
        assert_eq!(code(Status::RolledBack, Command::Rollback), "nothing");
    }

    /// What may become of an execution at this moment, by a command or by itself.
    fn next(status: Status, event: u8) -> Option<Status> {
        use Status::{Cancelled, Completed, Failed, Paused, Pausing, Pending, RolledBack, RollingBack, Running};
        let acts = |command| judge(status, command) == Verdict::Act;
        match (event, status) {
            (0, Pending) if acts(Command::Pause) => Some(Paused),
            (0, _) if acts(Command::Pause) => Some(Pausing),
            (1, _) if acts(Command::Resume) => Some(Running),
            (2, _) if acts(Command::Cancel) => Some(Cancelled),
            (3, _) if acts(Command::Rollback) => Some(RollingBack),
            (4, Pending) => Some(Running),
            (4, Pausing) => Some(Paused),
            (5, Running) => Some(Completed),
            (5, RollingBack) => Some(RolledBack),
            (6, Running | RollingBack) => Some(Failed),
            _ => None,
        }
    }

    proptest! {
        /// Whatever is asked and happens, no step begins after the end, and each command is idempotent in its target state.
        #[test]
        fn what_has_ended_is_at_most_undone(events in prop::collection::vec(0u8..7, 0..40)) {
            let (mut status, mut has_ended) = (Status::Pending, false);
            for event in events {
                let Some(to) = next(status, event) else { continue };
                has_ended |= status.is_terminal();
                status = to;
                prop_assert!(!has_ended || matches!(status, Status::RollingBack) || status.is_terminal(), "{status}");
                let again = match event {
                    0 => Some(Command::Pause),
                    1 => Some(Command::Resume),
                    2 => Some(Command::Cancel),
                    3 => Some(Command::Rollback),
                    _ => None,
                };
                if let Some(command) = again {
                    prop_assert_eq!(judge(status, command), Verdict::Nothing);
                }
                prop_assert_eq!(judge(status, Command::ChangePlan) == Verdict::Act, status == Status::Paused);
            }
        }
    }
}
