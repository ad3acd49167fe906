//! The routes of jobs.

use berth_sdk::prelude::*;

use super::{Job, JobStatus, JobType, Phase, run};
use crate::{
    collection::{self, Collection},
    knowledge,
};

/// How often a cancellation that met a step is tried.
const ATTEMPTS_MAX: u32 = 5;

/// What shall be done.
#[data]
pub struct NewJob {
    /// FULL_REINDEX when absent.
    job_type: Option<JobType>,
}

/// `POST /api/embeddings/collections/{id}/reindex`.
pub fn start(Params(id): Params<Id>, input: Option<Json<NewJob>>) -> Result<Accepted<Stored<Job>>> {
    let job_type = input.and_then(|Json(input)| input.job_type).unwrap_or(JobType::FullReindex);
    if job_type == JobType::Delete {
        auth::require("embeddings.embedding.delete")?;
    }
    let job = database::transaction(|transaction| {
        let collection = entity::read::<Collection>(transaction, &id)?;
        collection::require_writable(collection.organization_id.as_ref())?;
        let open = transaction.query_one(
            "SELECT id FROM emb_jobs WHERE collection_id = $1 AND status IN ('PENDING', 'RUNNING')",
            params![&id],
        )?;
        if open.is_some() {
            return Err(running());
        }
        let fetches = job_type != JobType::Delete && collection.source_type.as_deref() == Some(knowledge::SOURCE);
        let job = Job {
            collection_id: id.clone(),
            job_type,
            status: JobStatus::Pending,
            total_items: collection.document_count,
            processed_items: 0,
            failed_items: 0,
            errors: Vec::new(),
            started_at: None,
            completed_at: None,
            phase: if fetches { Phase::Fetch } else { Phase::Work },
            place: String::new(),
        };
        let job = entity::create(transaction, job).map_err(|problem| match problem.code.as_ref() {
            "CONFLICT" => running(),
            _ => problem,
        })?;
        run::enqueue(transaction, &job)?;
        Ok(job)
    })?;
    Ok(Accepted(job))
}

fn running() -> Problem {
    Problem::conflict("A job of this collection is running.").with_code("JOB_RUNNING")
}

/// `POST /api/embeddings/jobs/{id}/cancel`: what is done stays.
pub fn cancel(Params(id): Params<Id>) -> Result<Stored<Job>> {
    let mut attempt = 1;
    loop {
        let result = database::transaction(|transaction| {
            let mut job = entity::read::<Job>(transaction, &id)?;
            if !job.is_open() {
                return Err(Problem::conflict(format!("The job is {}.", job.status)).with_code("JOB_NOT_RUNNING"));
            }
            job.status = JobStatus::Cancelled;
            job.completed_at = Some(clock::now());
            entity::save(transaction, &mut job)?;
            Ok(job)
        });
        match result {
            // A step was written at the same moment.
            Err(problem) if problem.code == "CHANGED_MEANWHILE" && attempt < ATTEMPTS_MAX => attempt += 1,
            result => return result,
        }
    }
}
