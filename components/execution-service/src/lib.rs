//! Runs plans step by step: durable, resumable, with checkpoints, rollback, a history without gaps, and changes of the
//! plan while it is paused.

pub mod advance;
pub mod agent;
pub mod api;
pub mod archive;
pub mod artifact;
pub mod assertion;
pub mod checkpoint;
pub mod commands;
pub mod dispatch;
pub mod execution;
pub mod failure;
pub mod history;
pub mod http_step;
pub mod lease;
pub mod mcp_step;
pub mod notify;
pub mod patch;
pub mod plan;
pub mod progress;
pub mod reaper;
pub mod rollback;
pub mod rollback_run;
pub mod run;
pub mod sight;
pub mod start;
pub mod step;
pub mod stream;
pub mod worker;
pub mod workspace;

use berth_sdk::{migrations, prelude::*};

/// The service.
pub fn service() -> Service {
    Service::new("execution-service", env!("CARGO_PKG_VERSION"))
        .migrations(migrations::embed!["../../../migrations/execution-service/0001_executions.sql"])
        .routes(executions().merge(steps()).merge(workers()))
        .work(run::STEP_RUN, dispatch::run_step)
        .work(run::WORKER_RESULT, dispatch::record_result)
        .work(notify::NOTIFY, notify::notify)
        .on("planning.plan.deleted", commands::cancel_plan)
        .on("ai.agent.*", agent::ended)
        .timer("reaper", "30s", reaper::reap)
}

fn executions() -> Router {
    Router::new()
        .post("/api/executions/execute", api::execute)
        .summary("Execute a plan.")
        .get("/api/executions", api::list)
        .summary("List executions.")
        .get("/api/executions/{id}", api::read)
        .summary("Read an execution with its progress.")
        .answers::<api::Shown>(200)
        .delete("/api/executions/{id}", api::remove)
        .summary("Delete an execution that has ended.")
        .post("/api/executions/{id}/pause", api::pause)
        .summary("Pause.")
        .answers::<api::Shown>(200)
        .post("/api/executions/{id}/resume", api::resume)
        .summary("Resume.")
        .answers::<api::Shown>(200)
        .post("/api/executions/{id}/cancel", api::cancel)
        .summary("Cancel.")
        .answers::<api::Shown>(200)
        .post("/api/executions/{id}/rollback", api::rollback)
        .summary("Undo what was completed, or what was completed after a checkpoint.")
        .answers::<api::Shown>(200)
        .get("/api/executions/{id}/events", api::events)
        .summary("Read the history.")
        .get("/api/executions/{id}/stream", api::stream)
        .summary("Follow the history.")
        .get("/api/executions/{id}/plan", api::read_plan)
        .summary("Read the plan in its current revision.")
        .put("/api/executions/{id}/plan", api::change_plan)
        .summary("Change later steps, while paused.")
}

fn steps() -> Router {
    Router::new()
        .get("/api/executions/{id}/steps", api::steps)
        .summary("List steps with status and attempts.")
        .post("/api/executions/{id}/steps/{stepId}/retry", api::retry)
        .summary("Retry a failed step.")
        .post("/api/executions/{id}/steps/{stepId}/skip", api::skip)
        .summary("Skip a step.")
        .post("/api/executions/{id}/steps/{stepId}/complete", api::complete)
        .summary("Complete a step that waits for a person, or post a worker's result.")
        .get("/api/executions/{id}/checkpoints", api::checkpoints)
        .summary("List checkpoints.")
        .post("/api/executions/{id}/checkpoints", api::note_checkpoint)
        .summary("Note a checkpoint.")
        .get("/api/executions/{id}/artifacts", api::artifacts)
        .summary("List artifacts, or export them with format=tar.")
        .get("/api/executions/{id}/artifacts/archive", api::archive)
        .summary("Export the workspace as a tar archive, streamed.")
}

fn workers() -> Router {
    const LEASE: &str = "executions.worker.lease";
    Router::new()
        .get("/api/executions/workers", api::workers)
        .summary("List registered workers.")
        .permission("executions.worker.read")
        .post("/api/executions/workers", api::register)
        .summary("Register a worker.")
        .permission(LEASE)
        .put("/api/executions/workers/{workerId}/heartbeat", api::heartbeat)
        .summary("Renew presence and held leases.")
        .permission(LEASE)
        .post("/api/executions/workers/{workerId}/lease", api::lease)
        .summary("Lease the next waiting step.")
        .permission(LEASE)
        .delete("/api/executions/workers/{workerId}", api::deregister)
        .summary("Deregister a worker.")
        .permission(LEASE)
}

berth_sdk::plugin!(service());
