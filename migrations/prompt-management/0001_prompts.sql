-- Prompts, their versions, and everything that is done with them.

CREATE TABLE prompt_prompts (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  name TEXT NOT NULL,
  display_name TEXT NOT NULL,
  description TEXT,
  category TEXT NOT NULL,
  module TEXT NOT NULL,
  scope TEXT NOT NULL,
  project_id TEXT,
  owner_id TEXT,
  preferred_models JSONB NOT NULL,
  tags JSONB NOT NULL,
  usage JSONB NOT NULL,
  is_active BOOLEAN NOT NULL,
  is_system BOOLEAN NOT NULL,
  published_version BIGINT
);
CREATE UNIQUE INDEX prompt_prompts_name ON prompt_prompts (COALESCE(organization_id, ''), name);

CREATE TABLE prompt_versions (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  lock_version BIGINT NOT NULL,
  prompt_id TEXT NOT NULL,
  version BIGINT NOT NULL,
  label TEXT,
  content TEXT NOT NULL,
  estimated_tokens BIGINT NOT NULL,
  status TEXT NOT NULL,
  published_at TIMESTAMPTZ,
  change_notes TEXT,
  scope TEXT NOT NULL
);
CREATE UNIQUE INDEX prompt_versions_number ON prompt_versions (prompt_id, version);
CREATE UNIQUE INDEX prompt_versions_published ON prompt_versions (prompt_id) WHERE status = 'PUBLISHED';

CREATE TABLE prompt_variables (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  prompt_id TEXT NOT NULL,
  name TEXT NOT NULL,
  display_name TEXT NOT NULL,
  type TEXT NOT NULL,
  is_required BOOLEAN NOT NULL,
  default_value JSONB,
  validation JSONB,
  scope TEXT NOT NULL
);
CREATE UNIQUE INDEX prompt_variables_name ON prompt_variables (prompt_id, name);

CREATE TABLE prompt_overrides (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  prompt_id TEXT NOT NULL,
  content TEXT NOT NULL,
  priority BIGINT NOT NULL,
  is_active BOOLEAN NOT NULL,
  approved_at TIMESTAMPTZ,
  approved_by TEXT
);
CREATE UNIQUE INDEX prompt_overrides_prompt ON prompt_overrides (prompt_id, organization_id);

CREATE TABLE prompt_experiments (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  prompt_id TEXT NOT NULL,
  name TEXT NOT NULL,
  hypothesis TEXT,
  status TEXT NOT NULL,
  traffic_percentage BIGINT NOT NULL,
  primary_metric TEXT NOT NULL,
  secondary_metrics JSONB NOT NULL,
  min_samples BIGINT NOT NULL,
  start_date TIMESTAMPTZ,
  end_date TIMESTAMPTZ,
  winning_variant_id TEXT
);
CREATE INDEX prompt_experiments_prompt ON prompt_experiments (prompt_id, status);
CREATE UNIQUE INDEX prompt_experiments_running ON prompt_experiments (organization_id, prompt_id) WHERE status = 'RUNNING';

CREATE TABLE prompt_variants (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  experiment_id TEXT NOT NULL,
  name TEXT NOT NULL,
  version_id TEXT,
  custom_content TEXT,
  weight BIGINT NOT NULL,
  is_control BOOLEAN NOT NULL
);
CREATE INDEX prompt_variants_experiment ON prompt_variants (experiment_id);

CREATE TABLE prompt_executions (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  prompt_id TEXT NOT NULL,
  version_id TEXT NOT NULL,
  variant_id TEXT,
  experiment_id TEXT,
  user_id TEXT,
  caller_module TEXT NOT NULL,
  input_tokens BIGINT,
  output_tokens BIGINT,
  was_successful BOOLEAN,
  user_rating BIGINT,
  latency_ms BIGINT,
  status TEXT NOT NULL,
  output TEXT,
  error TEXT,
  schedule_id TEXT,
  model TEXT,
  executed_at TIMESTAMPTZ NOT NULL,
  correlation_id TEXT,
  run_key TEXT
);
CREATE INDEX prompt_executions_prompt ON prompt_executions (prompt_id, executed_at);
CREATE INDEX prompt_executions_experiment ON prompt_executions (experiment_id, variant_id);
CREATE INDEX prompt_executions_correlation ON prompt_executions (correlation_id);
CREATE UNIQUE INDEX prompt_executions_run ON prompt_executions (run_key);

CREATE TABLE prompt_schedules (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  prompt_id TEXT NOT NULL,
  name TEXT NOT NULL,
  cron TEXT NOT NULL,
  timezone TEXT NOT NULL,
  variables JSONB NOT NULL,
  model TEXT,
  target JSONB NOT NULL,
  is_active BOOLEAN NOT NULL,
  next_run_at TIMESTAMPTZ,
  last_run_at TIMESTAMPTZ,
  last_status TEXT,
  consecutive_failures BIGINT NOT NULL
);
CREATE INDEX prompt_schedules_due ON prompt_schedules (is_active, next_run_at);
CREATE INDEX prompt_schedules_prompt ON prompt_schedules (prompt_id);
