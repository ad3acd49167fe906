-- Spans and traces, metrics, error groups, alerts, health checks and events.

-- A span never changes: its id is that of its trace and its own, its version 1, and it was made when it was received.
CREATE TABLE trace_spans (
  organization_id TEXT NOT NULL,
  trace_id TEXT NOT NULL,
  span_id TEXT NOT NULL,
  parent_span_id TEXT,
  service TEXT NOT NULL,
  name TEXT NOT NULL,
  kind TEXT NOT NULL,
  start_time TIMESTAMPTZ NOT NULL,
  start_us BIGINT NOT NULL,
  duration_us BIGINT NOT NULL,
  status TEXT NOT NULL,
  status_message TEXT,
  attributes JSONB NOT NULL,
  events JSONB NOT NULL,
  received_ms BIGINT NOT NULL,
  PRIMARY KEY (organization_id, trace_id, span_id)
);
CREATE INDEX trace_spans_service ON trace_spans (organization_id, service, start_us);
CREATE INDEX trace_spans_time ON trace_spans (organization_id, start_us);
CREATE INDEX trace_spans_received ON trace_spans (received_ms);

CREATE TABLE trace_traces (
  organization_id TEXT NOT NULL,
  trace_id TEXT NOT NULL,
  root_service TEXT NOT NULL,
  root_name TEXT NOT NULL,
  -- 0: the root is one; 1: it is only the earliest span so far.
  root_rank BIGINT NOT NULL,
  root_us BIGINT NOT NULL,
  started_us BIGINT NOT NULL,
  ended_us BIGINT NOT NULL,
  span_count BIGINT NOT NULL,
  error_count BIGINT NOT NULL,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  received_ms BIGINT NOT NULL,
  version BIGINT NOT NULL,
  PRIMARY KEY (organization_id, trace_id)
);
CREATE INDEX trace_traces_time ON trace_traces (organization_id, started_us);
CREATE INDEX trace_traces_received ON trace_traces (received_ms);

-- Which services have spans in a trace: found by the whole key, whatever a planner knows of the tables.
CREATE TABLE trace_services (
  organization_id TEXT NOT NULL,
  trace_id TEXT NOT NULL,
  service TEXT NOT NULL,
  received_ms BIGINT NOT NULL,
  PRIMARY KEY (organization_id, trace_id, service)
);
CREATE INDEX trace_services_received ON trace_services (received_ms);

-- Services that have sent anything.
CREATE TABLE telemetry_services (
  organization_id TEXT NOT NULL,
  service TEXT NOT NULL,
  first_at TIMESTAMPTZ NOT NULL,
  last_at TIMESTAMPTZ NOT NULL,
  PRIMARY KEY (organization_id, service)
);

-- A metric by its name; whoever adds series to it first updates its row.
CREATE TABLE telemetry_metric_names (
  organization_id TEXT NOT NULL,
  name TEXT NOT NULL,
  kind TEXT NOT NULL,
  unit TEXT NOT NULL,
  series_count BIGINT NOT NULL,
  dropped_count BIGINT NOT NULL,
  first_at TIMESTAMPTZ NOT NULL,
  last_at TIMESTAMPTZ NOT NULL,
  PRIMARY KEY (organization_id, name)
);

-- A metric of one service with one set of labels.
CREATE TABLE telemetry_series (
  organization_id TEXT NOT NULL,
  series_id TEXT NOT NULL,
  name TEXT NOT NULL,
  kind TEXT NOT NULL,
  unit TEXT NOT NULL,
  is_delta BOOLEAN NOT NULL,
  service TEXT NOT NULL,
  labels JSONB NOT NULL,
  first_at TIMESTAMPTZ NOT NULL,
  last_ms BIGINT NOT NULL,
  PRIMARY KEY (organization_id, series_id)
);
CREATE INDEX telemetry_series_name ON telemetry_series (organization_id, name, service);

-- Points as they came, once for each series and moment.
CREATE TABLE telemetry_metrics (
  organization_id TEXT NOT NULL,
  series_id TEXT NOT NULL,
  recorded_ms BIGINT NOT NULL,
  value DOUBLE PRECISION NOT NULL,
  buckets JSONB,
  PRIMARY KEY (organization_id, series_id, recorded_ms)
);
CREATE INDEX telemetry_metrics_time ON telemetry_metrics (recorded_ms);

-- The same summed up by the hour.
CREATE TABLE telemetry_rollups (
  organization_id TEXT NOT NULL,
  series_id TEXT NOT NULL,
  hour_ms BIGINT NOT NULL,
  points BIGINT NOT NULL,
  total DOUBLE PRECISION NOT NULL,
  least DOUBLE PRECISION NOT NULL,
  most DOUBLE PRECISION NOT NULL,
  last_value DOUBLE PRECISION NOT NULL,
  last_ms BIGINT NOT NULL,
  PRIMARY KEY (organization_id, series_id, hour_ms)
);
CREATE INDEX telemetry_rollups_time ON telemetry_rollups (hour_ms);

-- Rows without an organization are about the host, and the platform's to read.
CREATE TABLE telemetry_events (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  owner TEXT NOT NULL,
  service TEXT NOT NULL,
  type TEXT NOT NULL,
  severity TEXT NOT NULL,
  message TEXT NOT NULL,
  attributes JSONB NOT NULL,
  occurred_at TIMESTAMPTZ NOT NULL,
  occurred_ms BIGINT NOT NULL
);
CREATE INDEX telemetry_events_time ON telemetry_events (owner, occurred_ms);
CREATE INDEX telemetry_events_retention ON telemetry_events (occurred_ms);

CREATE TABLE telemetry_errors (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  group_key TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  service TEXT NOT NULL,
  type TEXT NOT NULL,
  title TEXT NOT NULL,
  status TEXT NOT NULL,
  count BIGINT NOT NULL,
  first_seen TIMESTAMPTZ NOT NULL,
  last_seen TIMESTAMPTZ NOT NULL,
  sample JSONB NOT NULL
);
CREATE UNIQUE INDEX telemetry_errors_key ON telemetry_errors (group_key);
CREATE INDEX telemetry_errors_organization ON telemetry_errors (organization_id, last_seen);

CREATE TABLE telemetry_alert_rules (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  name TEXT NOT NULL,
  source TEXT NOT NULL,
  query TEXT NOT NULL,
  operator TEXT NOT NULL,
  threshold DOUBLE PRECISION NOT NULL,
  for_minutes BIGINT NOT NULL,
  severity TEXT NOT NULL,
  channels JSONB NOT NULL,
  enabled BOOLEAN NOT NULL,
  last_evaluated_at TIMESTAMPTZ,
  last_error TEXT
);
CREATE INDEX telemetry_alert_rules_organization ON telemetry_alert_rules (organization_id);

-- Since when a rule's condition holds, for each set of labels.
CREATE TABLE telemetry_pending (
  pending_key TEXT PRIMARY KEY,
  rule_id TEXT NOT NULL,
  since_ms BIGINT NOT NULL
);
CREATE INDEX telemetry_pending_rule ON telemetry_pending (rule_id);

CREATE TABLE telemetry_alerts (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  rule_id TEXT NOT NULL,
  rule_name TEXT NOT NULL,
  severity TEXT NOT NULL,
  labels JSONB NOT NULL,
  active_key TEXT,
  status TEXT NOT NULL,
  value DOUBLE PRECISION NOT NULL,
  started_at TIMESTAMPTZ NOT NULL,
  acknowledged_by TEXT,
  acknowledged_at TIMESTAMPTZ,
  resolved_at TIMESTAMPTZ
);
-- One open alert for each rule and set of labels; those that are closed have no key.
CREATE UNIQUE INDEX telemetry_alerts_active ON telemetry_alerts (active_key);
CREATE INDEX telemetry_alerts_organization ON telemetry_alerts (organization_id, started_at);

CREATE TABLE telemetry_checks (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  name TEXT NOT NULL,
  url TEXT,
  service TEXT,
  interval_s BIGINT NOT NULL,
  timeout_ms BIGINT NOT NULL,
  expected JSONB NOT NULL,
  enabled BOOLEAN NOT NULL,
  last_status TEXT,
  last_checked_at TIMESTAMPTZ,
  next_ms BIGINT NOT NULL
);
CREATE INDEX telemetry_checks_organization ON telemetry_checks (organization_id);
CREATE INDEX telemetry_checks_due ON telemetry_checks (next_ms);

CREATE TABLE telemetry_check_results (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  check_id TEXT NOT NULL,
  status TEXT NOT NULL,
  latency_ms BIGINT,
  error TEXT,
  checked_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX telemetry_check_results_check ON telemetry_check_results (check_id, checked_at);
CREATE INDEX telemetry_check_results_retention ON telemetry_check_results (checked_at);
