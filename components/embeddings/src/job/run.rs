//! The steps of a job: read where it is, do a few documents, write where it is then together with the next message.

use std::time::Duration;

use berth_sdk::{database::Value, prelude::*};

use super::{Job, JobError, JobStatus, JobType, Phase, event_data};
use crate::{
    collection::Collection,
    document::{Document, Status, store},
    draft::Piece,
    index, knowledge,
};

/// The message that does a step.
pub const STEP: &str = "emb.job.step";
/// Documents of one step.
const STEP_DOCUMENTS: i64 = 20;
/// How long one step works on documents before it writes down what it has.
const STEP_TIME: Duration = Duration::from_secs(10);
/// Failures that are kept.
const ERRORS_MAX: usize = 50;

/// Which job.
#[data]
struct Step {
    job_id: Id,
}

/// Asks for the next step.
pub fn enqueue(transaction: &Transaction, job: &Stored<Job>) -> Result<()> {
    transaction.enqueue(STEP, &Step { job_id: job.id.clone() }, Duration::ZERO).map(|_| ())
}

/// A document with what became of it; none where it needed nothing.
type Tried = (Stored<Document>, Option<Result<Vec<Piece>>>);

/// What a step has done.
struct Done {
    /// Documents that were tried.
    outcomes: Vec<Tried>,
    /// Documents that a source had, and where to go on there; none: no more.
    fetched: Option<(Vec<knowledge::Entry>, Option<String>)>,
}

/// Handles [`STEP`].
pub fn step(envelope: &Envelope) -> Result<()> {
    let step: Step = envelope.data()?;
    let Some(job) = entity::find::<Job>(&Pool, &step.job_id)?.filter(|job| job.is_open()) else { return Ok(()) };
    let result = advance(envelope, &job);
    if let Err(problem) = &result
        && (envelope.is_last_attempt || matches!(problem.status, 400 | 404 | 413 | 422))
    {
        return give_up(&step.job_id, problem);
    }
    result
}

fn advance(envelope: &Envelope, job: &Stored<Job>) -> Result<()> {
    let collection = entity::read::<Collection>(&Pool, &job.collection_id)?;
    let done = match (job.job_type, job.phase) {
        (_, Phase::Fetch) => {
            Done { outcomes: Vec::new(), fetched: Some(knowledge::fetch(job.place.parse().unwrap_or(0))?) }
        }
        (JobType::Delete, _) => Done { outcomes: Vec::new(), fetched: None },
        _ => Done { outcomes: work(job)?, fetched: None },
    };
    let fetched: Vec<knowledge::Entry> = done.fetched.iter().flat_map(|(entries, _)| entries).cloned().collect();
    database::transaction(|transaction| {
        if !transaction.once(&envelope.id)? {
            return Ok(());
        }
        let Some(mut job) = entity::find::<Job>(transaction, &job.id)?.filter(|job| job.is_open()) else {
            return Ok(());
        };
        begin(transaction, &mut job)?;
        let is_last = match (job.job_type, job.phase) {
            (_, Phase::Fetch) => {
                keep_fetched(transaction, &mut job, &collection, done.fetched)?;
                false
            }
            (JobType::Delete, _) => remove(transaction, &mut job)?,
            _ => keep(transaction, &mut job, done.outcomes)?,
        };
        end(transaction, &mut job, is_last)
    })?;
    let own = std::slice::from_ref(&collection);
    fetched.into_iter().try_for_each(|entry| knowledge::settle(own, &Id::from(entry.id.as_str()), Some(entry)))
}

fn begin(transaction: &Transaction, job: &mut Stored<Job>) -> Result<()> {
    if job.status == JobStatus::Pending {
        job.status = JobStatus::Running;
        job.started_at = Some(clock::now());
        transaction.publish("embedding.job.started", &event_data(job))?;
    }
    Ok(())
}

/// The next documents with their new vectors, as far as the time of a step goes.
fn work(job: &Stored<Job>) -> Result<Vec<Tried>> {
    let begin = clock::now();
    let rows = Select::<Document>::new()
        .equal("collection_id", &job.collection_id)
        .condition("\"id\" > ?", [job.place.as_str()])
        .sort("id")
        .limit(STEP_DOCUMENTS)
        .all(&Pool)?;
    let mut outcomes = Vec::with_capacity(rows.len());
    for row in rows {
        if !outcomes.is_empty() && clock::now().since(begin) > STEP_TIME {
            break;
        }
        let needs = !row.is_supplied && (job.job_type == JobType::FullReindex || row.status != Status::Completed);
        let outcome = needs.then(|| index::pieces(&row));
        if let Some(Err(problem)) = &outcome
            && index::is_passing(problem)
        {
            return Err(problem.clone());
        }
        outcomes.push((row, outcome));
    }
    Ok(outcomes)
}

/// Writes the vectors of a step. True when these were the last documents.
fn keep(transaction: &Transaction, job: &mut Stored<Job>, outcomes: Vec<Tried>) -> Result<bool> {
    let is_last = outcomes.is_empty();
    for (row, outcome) in outcomes {
        job.place = row.id.as_str().to_string();
        job.processed_items += 1;
        let Some(outcome) = outcome else { continue };
        // It may have changed or gone since it was read: then somebody else sees to it.
        let now = entity::find::<Document>(transaction, &row.id)?;
        let Some(now) = now.filter(|now| now.content_hash == row.content_hash) else { continue };
        if let Err(problem) = &outcome {
            job.failed_items += 1;
            note(job, Some(row.id.clone()), &problem.detail);
        }
        store::finish(transaction, now, &outcome)?;
    }
    job.total_items = job.total_items.max(job.processed_items);
    Ok(is_last)
}

fn note(job: &mut Job, document_id: Option<Id>, message: &str) {
    if job.errors.len() < ERRORS_MAX {
        job.errors.push(JobError { document_id, message: message.chars().take(500).collect() });
    }
}

/// Removes some documents. True when there were no more.
fn remove(transaction: &Transaction, job: &mut Stored<Job>) -> Result<bool> {
    let condition = Condition::new("\"collection_id\" = ?", [Value::from(&job.collection_id)]);
    let rows = store::identities(transaction, &condition)?;
    job.processed_items += store::remove_some(transaction, &rows)?;
    job.total_items = job.total_items.max(job.processed_items);
    Ok(!store::may_be_more(&rows))
}

/// Documents of a source that are not there yet become pending ones, which the next phase indexes.
fn keep_fetched(
    transaction: &Transaction,
    job: &mut Stored<Job>,
    collection: &Stored<Collection>,
    fetched: Option<(Vec<knowledge::Entry>, Option<String>)>,
) -> Result<()> {
    let (entries, next) = fetched.unwrap_or_default();
    for entry in entries {
        knowledge::keep(transaction, collection, &entry, false)?;
    }
    match next {
        Some(next) => job.place = next,
        None => {
            job.phase = Phase::Work;
            job.place = String::new();
            let all = Select::<Document>::new().equal("collection_id", &collection.id).count(transaction)?;
            job.total_items = all;
        }
    }
    Ok(())
}

fn end(transaction: &Transaction, job: &mut Stored<Job>, is_last: bool) -> Result<()> {
    if is_last {
        let all_failed = job.failed_items > 0 && job.failed_items == job.processed_items;
        job.status = if all_failed { JobStatus::Failed } else { JobStatus::Completed };
        job.completed_at = Some(clock::now());
    }
    entity::save(transaction, job)?;
    let kind = match job.status {
        JobStatus::Completed => "embedding.job.completed",
        JobStatus::Failed => "embedding.job.failed",
        _ => "embedding.job.progress",
    };
    transaction.publish(kind, &event_data(job))?;
    if is_last { Ok(()) } else { enqueue(transaction, job) }
}

/// The message goes to the dead letters, or makes no sense: the job must not stay open for ever.
fn give_up(job_id: &Id, problem: &Problem) -> Result<()> {
    database::transaction(|transaction| {
        let Some(mut job) = entity::find::<Job>(transaction, job_id)?.filter(|job| job.is_open()) else {
            return Ok(());
        };
        note(&mut job, None, &problem.detail);
        job.status = JobStatus::Failed;
        job.completed_at = Some(clock::now());
        entity::save(transaction, &mut job)?;
        transaction.publish("embedding.job.failed", &event_data(&job)).map(|_| ())
    })
}
