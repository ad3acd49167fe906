-- Experiments with what was measured, and compliance: checks with their runs, policies, reports, certifications, scores, retention.

CREATE TABLE experiment_experiments (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  project_id TEXT,
  name TEXT NOT NULL,
  hypothesis TEXT NOT NULL,
  type TEXT NOT NULL,
  status TEXT NOT NULL,
  feature_flag TEXT,
  rollout_percentage BIGINT NOT NULL,
  primary_metric TEXT NOT NULL,
  secondary_metrics JSONB NOT NULL,
  -- What the values of a metric are, by its name.
  metric_kinds JSONB NOT NULL,
  goal TEXT NOT NULL,
  min_sample_size BIGINT NOT NULL,
  significance DOUBLE PRECISION NOT NULL,
  start_at TIMESTAMPTZ,
  -- The end that was set, and when it really ended.
  end_at TIMESTAMPTZ,
  stopped_at TIMESTAMPTZ,
  winner_variant_id TEXT,
  conclusion TEXT,
  -- When somebody decided; the winner that the figures made is no decision.
  concluded_at TIMESTAMPTZ
);
CREATE INDEX experiment_experiments_organization ON experiment_experiments (organization_id, created_at);
CREATE INDEX experiment_experiments_due ON experiment_experiments (end_at) WHERE status IN ('running', 'paused');

CREATE TABLE experiment_variants (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  experiment_id TEXT NOT NULL,
  name TEXT NOT NULL,
  weight BIGINT NOT NULL,
  is_control BOOLEAN NOT NULL,
  config JSONB NOT NULL
);
CREATE INDEX experiment_variants_experiment ON experiment_variants (experiment_id);

CREATE TABLE experiment_assignments (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  experiment_id TEXT NOT NULL,
  subject_id TEXT NOT NULL,
  variant_id TEXT NOT NULL
);
-- A subject gets one variant, whoever asks at the same time.
CREATE UNIQUE INDEX experiment_assignments_subject ON experiment_assignments (experiment_id, subject_id);

CREATE TABLE experiment_metrics (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  experiment_id TEXT NOT NULL,
  variant_id TEXT NOT NULL,
  subject_id TEXT NOT NULL,
  metric TEXT NOT NULL,
  value DOUBLE PRECISION NOT NULL,
  recorded_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX experiment_metrics_metric ON experiment_metrics (experiment_id, metric, variant_id, subject_id);

CREATE TABLE experiment_results (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  experiment_id TEXT NOT NULL,
  computed_at TIMESTAMPTZ NOT NULL,
  summary JSONB NOT NULL
);
CREATE INDEX experiment_results_experiment ON experiment_results (experiment_id, computed_at);

CREATE TABLE compliance_checks (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  name TEXT NOT NULL,
  framework TEXT NOT NULL,
  control_id TEXT NOT NULL,
  description TEXT,
  check_type TEXT NOT NULL,
  rule JSONB NOT NULL,
  schedule_cron TEXT,
  status TEXT NOT NULL,
  last_run_at TIMESTAMPTZ,
  next_run_at TIMESTAMPTZ,
  -- The run that goes on: one at a time.
  run_token TEXT,
  run_started_at TIMESTAMPTZ
);
CREATE INDEX compliance_checks_organization ON compliance_checks (organization_id, framework);
CREATE INDEX compliance_checks_due ON compliance_checks (next_run_at) WHERE next_run_at IS NOT NULL;

CREATE TABLE compliance_check_runs (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  check_id TEXT NOT NULL,
  status TEXT NOT NULL,
  evidence JSONB NOT NULL,
  findings JSONB NOT NULL,
  run_by TEXT NOT NULL
);
CREATE INDEX compliance_check_runs_check ON compliance_check_runs (check_id, created_at);
CREATE INDEX compliance_check_runs_time ON compliance_check_runs (organization_id, created_at);

CREATE TABLE compliance_policies (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  name TEXT NOT NULL,
  policy_type TEXT NOT NULL,
  rules JSONB NOT NULL,
  enabled BOOLEAN NOT NULL,
  enforcement_mode TEXT NOT NULL
);
CREATE INDEX compliance_policies_organization ON compliance_policies (organization_id, name);

CREATE TABLE compliance_reports (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  report_type TEXT NOT NULL,
  framework TEXT,
  period TEXT NOT NULL,
  start_date TIMESTAMPTZ NOT NULL,
  end_date TIMESTAMPTZ NOT NULL,
  findings JSONB NOT NULL,
  status TEXT NOT NULL,
  generated_by TEXT NOT NULL
);
CREATE INDEX compliance_reports_organization ON compliance_reports (organization_id, created_at);

CREATE TABLE compliance_certifications (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  certification_type TEXT NOT NULL,
  status TEXT NOT NULL,
  issued_date TIMESTAMPTZ,
  expiry_date TIMESTAMPTZ,
  certifying_body TEXT,
  certificate_number TEXT,
  evidence JSONB NOT NULL,
  warned_days BIGINT
);
CREATE INDEX compliance_certifications_organization ON compliance_certifications (organization_id, certification_type);
CREATE INDEX compliance_certifications_expiry ON compliance_certifications (expiry_date) WHERE status = 'certified';

CREATE TABLE compliance_scores (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  project_id TEXT NOT NULL,
  kind TEXT NOT NULL,
  value DOUBLE PRECISION NOT NULL,
  details JSONB NOT NULL,
  recorded_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX compliance_scores_latest ON compliance_scores (organization_id, project_id, kind, recorded_at);

CREATE TABLE compliance_retention_policies (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  resource_type TEXT NOT NULL,
  retention_days BIGINT NOT NULL,
  action TEXT NOT NULL,
  enabled BOOLEAN NOT NULL
);
CREATE UNIQUE INDEX compliance_retention_policies_type ON compliance_retention_policies (organization_id, resource_type);
