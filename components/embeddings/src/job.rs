//! Jobs: a collection indexed again, or emptied, step by step.

pub mod api;
pub mod run;

use berth_sdk::{prelude::*, serde_json::Value};

use crate::collection;

/// What a job does.
#[choice(upper)]
pub enum JobType {
    /// Every document gets new vectors.
    FullReindex,
    /// Those whose vectors are missing or old.
    Incremental,
    /// Every document goes.
    Delete,
}

/// How far it is.
#[choice(upper)]
pub enum JobStatus {
    /// Has not begun.
    Pending,
    /// Is at it.
    Running,
    /// Is done.
    Completed,
    /// Has given up.
    Failed,
    /// Was told to stop.
    Cancelled,
}

/// Which part of a job is being done.
#[choice]
pub enum Phase {
    /// Documents of a source are fetched.
    Fetch,
    /// Documents are indexed or removed.
    Work,
}

/// A job. Only the service writes it.
#[entity(table = "emb_jobs", name = "job", global, sort = "-createdAt")]
pub struct Job {
    /// The collection.
    #[field(readonly)]
    pub collection_id: Id,
    /// What it does.
    #[field(readonly)]
    pub job_type: JobType,
    /// How far it is.
    #[field(readonly, default = JobStatus::Pending)]
    pub status: JobStatus,
    /// Documents there are to do.
    #[field(readonly, default = 0)]
    pub total_items: i64,
    /// Documents that are done, whether they succeeded or not.
    #[field(readonly, default = 0)]
    pub processed_items: i64,
    /// Documents that failed.
    #[field(readonly, default = 0)]
    pub failed_items: i64,
    /// The first failures.
    #[field(readonly, default)]
    pub errors: Vec<JobError>,
    /// When it began.
    #[field(readonly)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[field(readonly)]
    pub completed_at: Option<Timestamp>,
    /// The present part.
    #[field(readonly, hidden, default = Phase::Work)]
    pub phase: Phase,
    /// Up to where that is done.
    #[field(readonly, hidden, default = "")]
    pub place: String,
}

/// A document that failed.
#[data]
pub struct JobError {
    /// Which one; none when the job itself failed.
    pub document_id: Option<Id>,
    /// Why.
    pub message: String,
}

impl Rules for Job {
    fn scope() -> Option<Condition> {
        Some(collection::visible(""))
    }
}

impl Job {
    /// Whether there is something left to do.
    pub fn is_open(&self) -> bool {
        matches!(self.status, JobStatus::Pending | JobStatus::Running)
    }
}

/// What its events say.
pub fn event_data(job: &Stored<Job>) -> Value {
    json!({
        "jobId": job.id, "collectionId": job.collection_id, "jobType": job.job_type, "status": job.status,
        "totalItems": job.total_items, "processedItems": job.processed_items, "failedItems": job.failed_items,
    })
}
