-- Automations, their runs, and what starts them.

CREATE TABLE workflow_workflows (
    id TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL,
    created_by TEXT,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    version BIGINT NOT NULL,
    name TEXT NOT NULL,
    description TEXT,
    project_id TEXT,
    status TEXT NOT NULL,
    "trigger" JSONB NOT NULL,
    trigger_type TEXT NOT NULL,
    definition JSONB NOT NULL,
    -- The row of workflow_versions that a new run gets.
    definition_version BIGINT NOT NULL,
    concurrency TEXT NOT NULL,
    max_run_minutes BIGINT NOT NULL,
    last_run_at TIMESTAMPTZ
);
CREATE INDEX workflow_workflows_recent ON workflow_workflows (organization_id, created_at);
CREATE INDEX workflow_workflows_triggers ON workflow_workflows (organization_id, status, trigger_type);

CREATE TABLE workflow_versions (
    id TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL,
    created_by TEXT,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    version BIGINT NOT NULL,
    workflow_id TEXT NOT NULL,
    definition JSONB NOT NULL
);
CREATE UNIQUE INDEX workflow_versions_version ON workflow_versions (workflow_id, version);

CREATE TABLE workflow_runs (
    id TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL,
    created_by TEXT,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    lock_version BIGINT NOT NULL,
    workflow_id TEXT NOT NULL,
    -- The version of the definition.
    version BIGINT NOT NULL,
    trigger_type TEXT NOT NULL,
    trigger_payload JSONB,
    status TEXT NOT NULL,
    variables JSONB NOT NULL,
    current_steps JSONB NOT NULL,
    result JSONB,
    error JSONB,
    started_at TIMESTAMPTZ,
    completed_at TIMESTAMPTZ,
    deadline TIMESTAMPTZ,
    parent_run_id TEXT,
    caused_by_run_id TEXT,
    depth BIGINT NOT NULL,
    -- The step of the parent that waits for this run, and its attempt.
    parent_step TEXT,
    parent_attempt BIGINT,
    -- What started it; the same thing starts a workflow once.
    trigger_key TEXT,
    correlation_id TEXT,
    policy TEXT NOT NULL,
    -- It waits for its turn.
    is_queued BOOLEAN NOT NULL,
    event_sequence BIGINT NOT NULL
);
CREATE INDEX workflow_runs_recent ON workflow_runs (organization_id, created_at);
CREATE INDEX workflow_runs_workflow ON workflow_runs (workflow_id, status, created_at);
CREATE UNIQUE INDEX workflow_runs_trigger ON workflow_runs (workflow_id, trigger_key);
CREATE INDEX workflow_runs_deadline ON workflow_runs (status, deadline);
CREATE INDEX workflow_runs_age ON workflow_runs (completed_at);
CREATE INDEX workflow_runs_parent ON workflow_runs (parent_run_id);
CREATE INDEX workflow_runs_correlation ON workflow_runs (correlation_id, workflow_id);

CREATE TABLE workflow_step_runs (
    id TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL,
    created_by TEXT,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    version BIGINT NOT NULL,
    run_id TEXT NOT NULL,
    step_id TEXT NOT NULL,
    -- The step, or one item of it: "each", "each.3".
    "key" TEXT NOT NULL,
    item_index BIGINT,
    place BIGINT NOT NULL,
    name TEXT NOT NULL,
    type TEXT NOT NULL,
    action TEXT,
    status TEXT NOT NULL,
    attempt BIGINT NOT NULL,
    -- Attempts before the run was retried as a whole.
    attempt_base BIGINT NOT NULL,
    -- The attempt whose effect is sought: it names the idempotency key.
    effect BIGINT NOT NULL,
    input JSONB,
    output JSONB,
    error JSONB,
    started_at TIMESTAMPTZ,
    finished_at TIMESTAMPTZ,
    next_attempt_at TIMESTAMPTZ,
    lease_until TIMESTAMPTZ,
    deadline TIMESTAMPTZ,
    -- What runs elsewhere for it.
    external_id TEXT,
    -- The message that runs it: events that it causes name it.
    message_id TEXT,
    -- How far a foreach is.
    progress JSONB
);
CREATE UNIQUE INDEX workflow_step_runs_key ON workflow_step_runs (run_id, "key");
CREATE INDEX workflow_step_runs_leases ON workflow_step_runs (status, lease_until);
CREATE INDEX workflow_step_runs_deadlines ON workflow_step_runs (status, deadline);
CREATE INDEX workflow_step_runs_age ON workflow_step_runs (status, updated_at);
CREATE INDEX workflow_step_runs_external ON workflow_step_runs (external_id);
CREATE INDEX workflow_step_runs_message ON workflow_step_runs (message_id);

CREATE TABLE workflow_run_events (
    id TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL,
    created_by TEXT,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    version BIGINT NOT NULL,
    run_id TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    type TEXT NOT NULL,
    step_id TEXT,
    data JSONB NOT NULL,
    at TIMESTAMPTZ NOT NULL
);
CREATE UNIQUE INDEX workflow_run_events_sequence ON workflow_run_events (run_id, sequence);

CREATE TABLE workflow_approvals (
    id TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL,
    created_by TEXT,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    version BIGINT NOT NULL,
    run_id TEXT NOT NULL,
    workflow_id TEXT NOT NULL,
    step_id TEXT NOT NULL,
    attempt BIGINT NOT NULL,
    message TEXT,
    required_approvers JSONB NOT NULL,
    -- The same as a text: " u1 u2 ".
    approver_words TEXT NOT NULL,
    policy TEXT NOT NULL,
    decisions JSONB NOT NULL,
    deadline TIMESTAMPTZ,
    on_timeout TEXT NOT NULL,
    escalate_to JSONB NOT NULL,
    is_escalated BOOLEAN NOT NULL,
    status TEXT NOT NULL
);
CREATE INDEX workflow_approvals_open ON workflow_approvals (organization_id, status, created_at);
CREATE INDEX workflow_approvals_run ON workflow_approvals (run_id, step_id);

CREATE TABLE workflow_hooks (
    id TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL,
    created_by TEXT,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    version BIGINT NOT NULL,
    workflow_id TEXT NOT NULL,
    name TEXT,
    token_hash TEXT NOT NULL,
    secret_id TEXT,
    is_active BOOLEAN NOT NULL,
    last_used_at TIMESTAMPTZ
);
CREATE UNIQUE INDEX workflow_hooks_token ON workflow_hooks (token_hash);
CREATE INDEX workflow_hooks_workflow ON workflow_hooks (workflow_id);

-- Calls that were taken: the same delivery answers with the same run.
CREATE TABLE workflow_hook_deliveries (
    hook_id TEXT NOT NULL,
    delivery_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (hook_id, delivery_id)
);
CREATE INDEX workflow_hook_deliveries_age ON workflow_hook_deliveries (created_at);

CREATE TABLE workflow_schedules (
    id TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL,
    created_by TEXT,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    version BIGINT NOT NULL,
    workflow_id TEXT NOT NULL,
    cron TEXT NOT NULL,
    timezone TEXT NOT NULL,
    next_run_at TIMESTAMPTZ NOT NULL
);
CREATE UNIQUE INDEX workflow_schedules_workflow ON workflow_schedules (workflow_id);
CREATE INDEX workflow_schedules_due ON workflow_schedules (next_run_at);

-- Events that a run has caused through other events: what they cause in turn is caused by the run.
CREATE TABLE workflow_causes (
    event_id TEXT PRIMARY KEY,
    run_id TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX workflow_causes_age ON workflow_causes (created_at);
