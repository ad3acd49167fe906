-- Other servers and their tools: the registry, what may be used where, executions and what they came to.

CREATE TABLE mcp_servers (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  lock_version BIGINT NOT NULL,
  name TEXT NOT NULL,
  display_name TEXT NOT NULL,
  description TEXT,
  version TEXT NOT NULL,
  type TEXT NOT NULL,
  status TEXT NOT NULL,
  verification TEXT NOT NULL,
  source TEXT NOT NULL,
  transport TEXT NOT NULL,
  endpoint TEXT,
  command TEXT,
  args JSONB NOT NULL,
  env JSONB NOT NULL,
  transport_config JSONB NOT NULL,
  auth_type TEXT NOT NULL,
  auth_secret_id TEXT,
  auth_header_name TEXT,
  protocol_version TEXT,
  session JSONB,
  capabilities JSONB NOT NULL,
  health TEXT NOT NULL,
  last_synced_at TIMESTAMPTZ,
  tags JSONB NOT NULL,
  scope TEXT NOT NULL
);
CREATE UNIQUE INDEX mcp_servers_name ON mcp_servers (COALESCE(organization_id, ''), name);
CREATE INDEX mcp_servers_secret ON mcp_servers (auth_secret_id);

CREATE TABLE mcp_tools (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  server_id TEXT NOT NULL,
  name TEXT NOT NULL,
  title TEXT,
  description TEXT,
  input_schema JSONB NOT NULL,
  output_schema JSONB,
  annotations JSONB NOT NULL,
  capabilities JSONB NOT NULL,
  permission_level TEXT NOT NULL,
  is_destructive BOOLEAN NOT NULL,
  is_long_running BOOLEAN NOT NULL,
  is_enabled BOOLEAN NOT NULL,
  schema_hash TEXT NOT NULL,
  scope TEXT NOT NULL
);
CREATE UNIQUE INDEX mcp_tools_name ON mcp_tools (server_id, name);
CREATE INDEX mcp_tools_organization ON mcp_tools (organization_id, name);

CREATE TABLE mcp_server_capabilities (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  server_id TEXT NOT NULL,
  capability_path TEXT NOT NULL
);
CREATE UNIQUE INDEX mcp_server_capabilities_path ON mcp_server_capabilities (server_id, capability_path);
CREATE INDEX mcp_server_capabilities_organization ON mcp_server_capabilities (organization_id, capability_path);

CREATE TABLE mcp_server_configurations (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  server_id TEXT NOT NULL,
  scope TEXT NOT NULL,
  scope_id TEXT,
  config JSONB NOT NULL,
  timeout_ms BIGINT,
  retry_policy JSONB,
  rate_limit BIGINT,
  permission_scope JSONB NOT NULL
);
CREATE UNIQUE INDEX mcp_server_configurations_scope ON mcp_server_configurations (server_id, COALESCE(organization_id, ''), scope, COALESCE(scope_id, ''));

CREATE TABLE mcp_server_toggles (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  server_id TEXT NOT NULL,
  scope TEXT NOT NULL,
  scope_id TEXT NOT NULL,
  enabled BOOLEAN NOT NULL,
  priority BIGINT NOT NULL
);
CREATE UNIQUE INDEX mcp_server_toggles_scope ON mcp_server_toggles (organization_id, server_id, scope, scope_id);

CREATE TABLE mcp_organization_settings (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  mcp_enabled BOOLEAN NOT NULL,
  max_custom_servers BIGINT NOT NULL,
  max_executions_per_hour BIGINT NOT NULL,
  max_concurrent BIGINT NOT NULL,
  offers_defaults BOOLEAN NOT NULL,
  offers_servers BOOLEAN NOT NULL
);
CREATE UNIQUE INDEX mcp_organization_settings_organization ON mcp_organization_settings (organization_id);

CREATE TABLE mcp_executions (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  server_id TEXT NOT NULL,
  tool_name TEXT NOT NULL,
  user_id TEXT,
  project_id TEXT,
  caller_module TEXT NOT NULL,
  caller_agent_id TEXT,
  status TEXT NOT NULL,
  input JSONB NOT NULL,
  output JSONB,
  is_error BOOLEAN NOT NULL,
  error_code TEXT,
  error TEXT,
  duration_ms BIGINT,
  started_at TIMESTAMPTZ NOT NULL,
  completed_at TIMESTAMPTZ
);
CREATE INDEX mcp_executions_started ON mcp_executions (organization_id, started_at);
CREATE INDEX mcp_executions_server ON mcp_executions (server_id, status);
CREATE INDEX mcp_executions_open ON mcp_executions (status, started_at);

CREATE TABLE mcp_health_checks (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  server_id TEXT NOT NULL,
  status TEXT NOT NULL,
  latency_ms BIGINT,
  error TEXT,
  checked_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX mcp_health_checks_server ON mcp_health_checks (server_id, checked_at);

CREATE TABLE mcp_server_versions (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  lock_version BIGINT NOT NULL,
  server_id TEXT NOT NULL,
  version TEXT NOT NULL,
  definition JSONB NOT NULL,
  change_notes TEXT,
  scope TEXT NOT NULL
);
CREATE UNIQUE INDEX mcp_server_versions_version ON mcp_server_versions (server_id, version);

CREATE TABLE mcp_server_metrics (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  server_id TEXT NOT NULL,
  period_start TIMESTAMPTZ NOT NULL,
  executions BIGINT NOT NULL,
  errors BIGINT NOT NULL,
  p50_ms BIGINT,
  p95_ms BIGINT
);
CREATE UNIQUE INDEX mcp_server_metrics_period ON mcp_server_metrics (server_id, organization_id, period_start);

CREATE TABLE mcp_audit_entries (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  action TEXT NOT NULL,
  server_id TEXT,
  subject TEXT NOT NULL,
  details JSONB NOT NULL
);
CREATE INDEX mcp_audit_entries_created ON mcp_audit_entries (organization_id, created_at);
