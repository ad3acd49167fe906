//! When a step goes away or is left out, whoever has done all the others is done: a message goes through them.

use std::time::Duration;

use berth_sdk::prelude::*;

use super::{Course, complete};
use crate::{
    enrollment::{self, Enrollment, EnrollmentStatus},
    path::Path,
    step,
};

/// The message.
pub const SETTLE: &str = "learning.path.settle";
/// Learners of one message.
const TURN: usize = 50;

/// Which path, and up to which enrolment it is done.
#[data]
struct Work {
    path_id: Id,
    #[field(default)]
    after: String,
}

/// Lets it begin with the transaction.
pub fn begin(transaction: &Transaction, path_id: &Id) -> Result<()> {
    let work = Work { path_id: path_id.clone(), after: String::new() };
    transaction.enqueue(SETTLE, &work, Duration::ZERO).map(|_| ())
}

/// Handles [`SETTLE`].
pub fn settle(envelope: &Envelope) -> Result<()> {
    let work: Work = envelope.data()?;
    database::transaction(|transaction| {
        let Some(path) = entity::find::<Path>(transaction, &work.path_id)? else { return Ok(()) };
        if !transaction.once(&envelope.id)? {
            return Ok(());
        }
        let steps = step::of_path(transaction, &path.id)?;
        let rows = Select::<Enrollment>::new()
            .equal("path_id", &path.id)
            .equal("status", EnrollmentStatus::Active)
            .condition("\"id\" > ?", [work.after.as_str()])
            .sort("id")
            .limit(i64::try_from(TURN).unwrap_or(i64::MAX))
            .all(transaction)?;
        for row in &rows {
            let (mut enrolled, _) = enrollment::hold(transaction, &path, &row.user_id)?;
            let course = Course::of(transaction, &row.user_id, &path.id)?;
            complete::advance(transaction, &path, &mut enrolled, &steps, &course)?;
        }
        if let Some(last) = rows.last().filter(|_| rows.len() == TURN) {
            let next = Work { after: last.id.as_str().to_string(), ..work.clone() };
            transaction.enqueue(SETTLE, &next, Duration::ZERO)?;
        }
        Ok(())
    })
}
