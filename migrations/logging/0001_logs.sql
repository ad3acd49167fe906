-- Application logs, and the audit log, whose rows are chained by hashes.

-- Whoever adds lines of an organization first writes here: lines get their numbers in the order in which they become visible.
CREATE TABLE log_heads (
  organization_id TEXT PRIMARY KEY,
  last_sequence BIGINT NOT NULL
);

-- A line never changes: its version is 1, and it was made when it was received.
CREATE TABLE log_logs (
  id TEXT PRIMARY KEY,
  organization_id TEXT NOT NULL,
  created_by TEXT,
  sequence BIGINT NOT NULL,
  level TEXT NOT NULL,
  service TEXT NOT NULL,
  message TEXT NOT NULL,
  context JSONB,
  trace_id TEXT,
  span_id TEXT,
  user_id TEXT,
  project_id TEXT,
  request_id TEXT,
  host TEXT,
  logged_at TIMESTAMPTZ NOT NULL,
  logged_ms BIGINT NOT NULL,
  received_at TIMESTAMPTZ NOT NULL,
  is_truncated BOOLEAN NOT NULL,
  is_clamped BOOLEAN NOT NULL
);
CREATE UNIQUE INDEX log_logs_sequence ON log_logs (organization_id, sequence);
CREATE INDEX log_logs_time ON log_logs (organization_id, logged_ms);
CREATE INDEX log_logs_trace ON log_logs (organization_id, trace_id, logged_ms) WHERE trace_id IS NOT NULL;

-- Which services have logged.
CREATE TABLE log_services (
  service_key TEXT PRIMARY KEY,
  organization_id TEXT NOT NULL,
  service TEXT NOT NULL,
  first_at TIMESTAMPTZ NOT NULL,
  last_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX log_services_organization ON log_services (organization_id, service);

-- One row a chain: an organization's, or '' for what concerns none. Whoever appends to a chain first updates it.
CREATE TABLE audit_chains (
  chain TEXT PRIMARY KEY,
  organization_id TEXT,
  last_sequence BIGINT NOT NULL,
  last_hash TEXT NOT NULL,
  -- Up to where retention has deleted, and the hash of the last row that went.
  pruned_sequence BIGINT NOT NULL,
  pruned_hash TEXT NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL
);

-- Metadata is text and not JSONB, so that it comes back to the byte: the hash is over it.
CREATE TABLE audit_logs (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  chain TEXT NOT NULL,
  sequence BIGINT NOT NULL,
  "timestamp" TIMESTAMPTZ NOT NULL,
  time_ms BIGINT NOT NULL,
  received_at TIMESTAMPTZ NOT NULL,
  received_ms BIGINT NOT NULL,
  user_id TEXT,
  session_id TEXT,
  ip_address TEXT,
  user_agent TEXT,
  action TEXT NOT NULL,
  category TEXT NOT NULL,
  severity TEXT NOT NULL,
  resource_type TEXT,
  resource_id TEXT,
  message TEXT NOT NULL,
  metadata TEXT NOT NULL,
  source TEXT NOT NULL,
  correlation_id TEXT,
  previous_hash TEXT,
  hash TEXT NOT NULL
);
CREATE UNIQUE INDEX audit_logs_sequence ON audit_logs (chain, sequence);
CREATE INDEX audit_logs_time ON audit_logs (chain, time_ms);
CREATE INDEX audit_logs_received ON audit_logs (chain, received_ms);
CREATE INDEX audit_logs_user ON audit_logs (chain, user_id, time_ms);

CREATE TABLE audit_retention_policies (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  category TEXT,
  severity TEXT,
  retention_days BIGINT NOT NULL,
  archive_after_days BIGINT,
  delete_after_days BIGINT NOT NULL,
  immutable BOOLEAN NOT NULL,
  policy_key TEXT NOT NULL
);
-- One policy for each category and severity.
CREATE UNIQUE INDEX audit_retention_policies_key ON audit_retention_policies (policy_key);
CREATE INDEX audit_retention_policies_organization ON audit_retention_policies (organization_id);

CREATE TABLE audit_configurations (
  id TEXT PRIMARY KEY,
  organization_id TEXT NOT NULL,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  capture_ip BOOLEAN NOT NULL,
  capture_user_agent BOOLEAN NOT NULL,
  capture_geolocation BOOLEAN NOT NULL,
  redact_sensitive_data BOOLEAN NOT NULL,
  redaction_patterns JSONB NOT NULL,
  hash_chain_enabled BOOLEAN NOT NULL,
  alerts_enabled BOOLEAN NOT NULL
);
CREATE UNIQUE INDEX audit_configurations_organization ON audit_configurations (organization_id);

CREATE TABLE audit_alert_rules (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  name TEXT NOT NULL,
  enabled BOOLEAN NOT NULL,
  type TEXT NOT NULL,
  conditions JSONB NOT NULL,
  notification_channels JSONB NOT NULL,
  last_triggered_at TIMESTAMPTZ,
  trigger_count BIGINT NOT NULL
);
CREATE INDEX audit_alert_rules_organization ON audit_alert_rules (organization_id);

CREATE TABLE audit_hash_checkpoints (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  chain TEXT NOT NULL,
  checkpoint_timestamp TIMESTAMPTZ NOT NULL,
  last_log_id TEXT NOT NULL,
  last_sequence BIGINT NOT NULL,
  last_hash TEXT NOT NULL,
  log_count BIGINT NOT NULL,
  status TEXT NOT NULL,
  failure JSONB
);
CREATE INDEX audit_hash_checkpoints_chain ON audit_hash_checkpoints (chain, last_sequence);

CREATE TABLE audit_exports (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  chain TEXT NOT NULL,
  format TEXT NOT NULL,
  filters JSONB NOT NULL,
  only_user_id TEXT,
  status TEXT NOT NULL,
  progress DOUBLE PRECISION NOT NULL,
  total_records BIGINT,
  written_records BIGINT NOT NULL,
  after_sequence BIGINT NOT NULL,
  last_sequence BIGINT NOT NULL,
  parts BIGINT NOT NULL,
  file_ref TEXT,
  error TEXT,
  expires_at TIMESTAMPTZ
);
CREATE INDEX audit_exports_organization ON audit_exports (organization_id, created_at);

CREATE TABLE audit_export_parts (
  id TEXT PRIMARY KEY,
  export_id TEXT NOT NULL REFERENCES audit_exports (id) ON DELETE CASCADE,
  part BIGINT NOT NULL,
  content TEXT NOT NULL
);
CREATE UNIQUE INDEX audit_export_parts_part ON audit_export_parts (export_id, part);
