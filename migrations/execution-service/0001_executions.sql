-- Runs of plans, their steps, their history, and what they leave behind.

CREATE TABLE execution_executions (
    id TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL,
    created_by TEXT,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    version BIGINT NOT NULL,
    plan_id TEXT NOT NULL,
    project_id TEXT,
    user_id TEXT NOT NULL,
    status TEXT NOT NULL,
    current_step_id TEXT,
    completed_steps BIGINT NOT NULL,
    total_steps BIGINT NOT NULL,
    plan_snapshot JSONB,
    plan_hash TEXT NOT NULL,
    plan_revision BIGINT NOT NULL,
    options JSONB NOT NULL,
    result JSONB,
    error JSONB,
    started_at TIMESTAMPTZ,
    paused_at TIMESTAMPTZ,
    completed_at TIMESTAMPTZ,
    lease_until TIMESTAMPTZ,
    lock_version BIGINT NOT NULL,
    -- The sequence of the last event, and the one after which a rollback undoes.
    event_sequence BIGINT NOT NULL,
    rollback_after BIGINT
);
CREATE INDEX execution_executions_recent ON execution_executions (organization_id, created_at);
-- One run of a plan at a time.
CREATE UNIQUE INDEX execution_executions_active ON execution_executions (organization_id, plan_id)
    WHERE status IN ('pending', 'running', 'pausing', 'paused', 'cancelling', 'rolling_back');

CREATE TABLE execution_steps (
    id TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL,
    created_by TEXT,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    version BIGINT NOT NULL,
    execution_id TEXT NOT NULL,
    step_id TEXT NOT NULL,
    "order" BIGINT NOT NULL,
    title TEXT NOT NULL,
    type TEXT NOT NULL,
    status TEXT NOT NULL,
    phase TEXT NOT NULL,
    attempt BIGINT NOT NULL,
    input JSONB,
    output JSONB,
    error JSONB,
    dependencies JSONB NOT NULL,
    started_at TIMESTAMPTZ,
    finished_at TIMESTAMPTZ,
    next_attempt_at TIMESTAMPTZ,
    worker_id TEXT,
    lease_token_hash TEXT,
    lease_until TIMESTAMPTZ,
    -- What a worker has reported and nobody has recorded yet.
    reported JSONB,
    -- The run elsewhere that finishes this step.
    external_id TEXT,
    completed_sequence BIGINT,
    writes JSONB NOT NULL,
    definition JSONB NOT NULL,
    definition_hash TEXT NOT NULL
);
CREATE UNIQUE INDEX execution_steps_step ON execution_steps (execution_id, step_id);
CREATE INDEX execution_steps_waiting ON execution_steps (organization_id, status, type);
CREATE INDEX execution_steps_leases ON execution_steps (status, lease_until);

CREATE TABLE execution_events (
    id TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL,
    created_by TEXT,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    version BIGINT NOT NULL,
    execution_id TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    type TEXT NOT NULL,
    step_id TEXT,
    data JSONB NOT NULL,
    occurred_at TIMESTAMPTZ NOT NULL
);
CREATE UNIQUE INDEX execution_events_sequence ON execution_events (execution_id, sequence);
CREATE INDEX execution_events_age ON execution_events (occurred_at);

CREATE TABLE execution_checkpoints (
    id TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL,
    created_by TEXT,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    version BIGINT NOT NULL,
    execution_id TEXT NOT NULL,
    step_id TEXT,
    kind TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    state JSONB NOT NULL,
    artifact_refs JSONB NOT NULL
);
CREATE INDEX execution_checkpoints_execution ON execution_checkpoints (execution_id, sequence);

CREATE TABLE execution_artifacts (
    id TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL,
    created_by TEXT,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    version BIGINT NOT NULL,
    execution_id TEXT NOT NULL,
    step_id TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    path TEXT NOT NULL,
    operation TEXT NOT NULL,
    before_hash TEXT,
    after_hash TEXT,
    before BYTEA,
    after BYTEA,
    -- The last word on this path.
    is_current BOOLEAN NOT NULL,
    -- Written by a rollback.
    is_compensation BOOLEAN NOT NULL,
    -- Only for the checks of a dry run; never shown.
    is_dry_run BOOLEAN NOT NULL
);
CREATE INDEX execution_artifacts_path ON execution_artifacts (execution_id, path, sequence);

CREATE TABLE execution_plan_revisions (
    id TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL,
    created_by TEXT,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    version BIGINT NOT NULL,
    execution_id TEXT NOT NULL,
    revision BIGINT NOT NULL,
    plan JSONB NOT NULL,
    hash TEXT NOT NULL,
    changed_by TEXT NOT NULL,
    reason TEXT
);
CREATE UNIQUE INDEX execution_plan_revisions_revision ON execution_plan_revisions (execution_id, revision);

CREATE TABLE execution_workers (
    id TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL,
    created_by TEXT,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    version BIGINT NOT NULL,
    name TEXT NOT NULL,
    kinds JSONB NOT NULL,
    labels JSONB,
    is_active BOOLEAN NOT NULL,
    last_seen_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX execution_workers_active ON execution_workers (organization_id, is_active, last_seen_at);
