-- Models, providers and completions; agents and their runs.

CREATE TABLE ai_providers (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  name TEXT NOT NULL,
  type TEXT NOT NULL,
  base_url TEXT,
  api_version TEXT,
  is_enabled BOOLEAN NOT NULL,
  is_default BOOLEAN NOT NULL,
  health TEXT NOT NULL,
  scope TEXT NOT NULL
);
CREATE UNIQUE INDEX ai_providers_name ON ai_providers (COALESCE(organization_id, ''), name);

CREATE TABLE ai_provider_configurations (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  provider_id TEXT NOT NULL,
  scope TEXT NOT NULL,
  api_key_secret_id TEXT,
  custom_base_url TEXT,
  is_enabled BOOLEAN NOT NULL,
  priority BIGINT NOT NULL,
  health TEXT NOT NULL,
  health_error TEXT,
  checked_at TIMESTAMPTZ
);
CREATE UNIQUE INDEX ai_provider_configurations_provider ON ai_provider_configurations (COALESCE(organization_id, ''), provider_id);
CREATE INDEX ai_provider_configurations_checked ON ai_provider_configurations (checked_at);
CREATE INDEX ai_provider_configurations_secret ON ai_provider_configurations (api_key_secret_id);

CREATE TABLE ai_models (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  provider_id TEXT NOT NULL,
  name TEXT NOT NULL,
  display_name TEXT NOT NULL,
  context_window BIGINT NOT NULL,
  max_output_tokens BIGINT,
  input_price_per_1m_micro BIGINT,
  output_price_per_1m_micro BIGINT,
  supports_streaming BOOLEAN NOT NULL,
  supports_functions BOOLEAN NOT NULL,
  supports_vision BOOLEAN NOT NULL,
  supports_json BOOLEAN NOT NULL,
  category TEXT NOT NULL,
  tier TEXT NOT NULL,
  is_enabled BOOLEAN NOT NULL,
  is_default BOOLEAN NOT NULL,
  deprecated_at TIMESTAMPTZ,
  scope TEXT NOT NULL
);
CREATE UNIQUE INDEX ai_models_name ON ai_models (COALESCE(organization_id, ''), provider_id, name);

CREATE TABLE ai_model_configurations (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  model_id TEXT NOT NULL,
  user_id TEXT,
  is_enabled BOOLEAN NOT NULL,
  is_default BOOLEAN NOT NULL,
  default_temperature DOUBLE PRECISION,
  default_max_tokens BIGINT
);
CREATE UNIQUE INDEX ai_model_configurations_model ON ai_model_configurations (organization_id, model_id, COALESCE(user_id, ''));

CREATE TABLE ai_routing_rules (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  name TEXT NOT NULL,
  scope TEXT NOT NULL,
  task_type TEXT,
  context_size_min BIGINT,
  context_size_max BIGINT,
  requires_vision BOOLEAN,
  requires_functions BOOLEAN,
  model_id TEXT NOT NULL,
  priority BIGINT NOT NULL,
  is_enabled BOOLEAN NOT NULL
);
CREATE INDEX ai_routing_rules_organization ON ai_routing_rules (organization_id, priority);

CREATE TABLE ai_fallback_chains (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  primary_model_id TEXT NOT NULL,
  fallback_model_ids JSONB NOT NULL,
  trigger_on_error BOOLEAN NOT NULL,
  trigger_on_rate_limit BOOLEAN NOT NULL,
  trigger_on_timeout BOOLEAN NOT NULL,
  timeout_ms BIGINT NOT NULL
);
CREATE UNIQUE INDEX ai_fallback_chains_primary ON ai_fallback_chains (organization_id, primary_model_id);

CREATE TABLE ai_rate_limit_configs (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  scope TEXT NOT NULL,
  user_id TEXT,
  requests_per_minute BIGINT,
  requests_per_hour BIGINT,
  requests_per_day BIGINT,
  tokens_per_minute BIGINT,
  tokens_per_hour BIGINT,
  tokens_per_day BIGINT
);
CREATE UNIQUE INDEX ai_rate_limit_configs_subject ON ai_rate_limit_configs (COALESCE(organization_id, ''), scope, COALESCE(user_id, ''));

CREATE TABLE ai_completions (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  model_id TEXT NOT NULL,
  request JSONB NOT NULL,
  response JSONB,
  status TEXT NOT NULL,
  tokens_used BIGINT NOT NULL,
  input_tokens BIGINT,
  output_tokens BIGINT,
  cost_micro BIGINT NOT NULL,
  duration_ms BIGINT NOT NULL,
  error TEXT,
  error_code TEXT,
  caller_module TEXT,
  caller_resource_id TEXT,
  request_hash TEXT,
  cached BOOLEAN NOT NULL,
  was_failover BOOLEAN NOT NULL,
  original_model_id TEXT,
  user_id TEXT,
  model TEXT NOT NULL,
  provider TEXT NOT NULL,
  request_id TEXT NOT NULL,
  is_closed BOOLEAN NOT NULL
);
CREATE INDEX ai_completions_organization ON ai_completions (organization_id, created_at);
CREATE INDEX ai_completions_user ON ai_completions (organization_id, user_id, created_at);
CREATE INDEX ai_completions_open ON ai_completions (updated_at) WHERE is_closed = FALSE;
CREATE INDEX ai_completions_age ON ai_completions (created_at);

CREATE TABLE ai_cache (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  request_hash TEXT NOT NULL,
  model_id TEXT NOT NULL,
  response JSONB NOT NULL,
  expires_at TIMESTAMPTZ NOT NULL,
  hit_count BIGINT NOT NULL
);
CREATE UNIQUE INDEX ai_cache_hash ON ai_cache (request_hash);
CREATE INDEX ai_cache_expiry ON ai_cache (expires_at);
CREATE INDEX ai_cache_organization ON ai_cache (organization_id);

CREATE TABLE agent_agents (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  name TEXT NOT NULL,
  description TEXT,
  type TEXT NOT NULL,
  scope TEXT NOT NULL,
  project_id TEXT,
  system_prompt_id TEXT,
  system_prompt TEXT,
  model TEXT,
  tools JSONB NOT NULL,
  config JSONB NOT NULL,
  criticality BIGINT NOT NULL,
  is_active BOOLEAN NOT NULL
);
CREATE INDEX agent_agents_organization ON agent_agents (organization_id, created_at);

CREATE TABLE agent_executions (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  agent_id TEXT NOT NULL,
  user_id TEXT NOT NULL,
  status TEXT NOT NULL,
  input JSONB NOT NULL,
  context JSONB NOT NULL,
  output JSONB,
  steps JSONB NOT NULL,
  current_step BIGINT NOT NULL,
  tokens_used BIGINT NOT NULL,
  cost_micro BIGINT NOT NULL,
  error TEXT,
  error_code TEXT,
  started_at TIMESTAMPTZ,
  completed_at TIMESTAMPTZ,
  waiting_for JSONB,
  agent JSONB NOT NULL,
  turns JSONB NOT NULL,
  toolbox JSONB NOT NULL,
  calls JSONB NOT NULL,
  is_repaired BOOLEAN NOT NULL,
  deadline_at TIMESTAMPTZ NOT NULL,
  is_private BOOLEAN NOT NULL
);
CREATE INDEX agent_executions_agent ON agent_executions (organization_id, agent_id, created_at);
CREATE INDEX agent_executions_open ON agent_executions (status, updated_at);

CREATE TABLE agent_memories (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  agent_id TEXT NOT NULL,
  kind TEXT NOT NULL,
  key TEXT NOT NULL,
  value JSONB NOT NULL,
  expires_at TIMESTAMPTZ
);
CREATE UNIQUE INDEX agent_memories_key ON agent_memories (organization_id, agent_id, kind, key);
CREATE INDEX agent_memories_expiry ON agent_memories (expires_at);

-- What is there from the start: a model that needs no key, and the usual providers, which need one.
INSERT INTO ai_providers (id, created_at, updated_at, version, name, type, base_url, is_enabled, is_default, health, scope) VALUES
  ('echo', '2026-01-01T00:00:00.000Z', '2026-01-01T00:00:00.000Z', 1, 'echo', 'ECHO', NULL, TRUE, TRUE, 'HEALTHY', 'GLOBAL'),
  ('openai', '2026-01-01T00:00:00.000Z', '2026-01-01T00:00:00.000Z', 1, 'openai', 'OPENAI', 'https://api.openai.com/v1', TRUE, FALSE, 'UNKNOWN', 'GLOBAL'),
  ('anthropic', '2026-01-01T00:00:00.000Z', '2026-01-01T00:00:00.000Z', 1, 'anthropic', 'ANTHROPIC', 'https://api.anthropic.com/v1', TRUE, FALSE, 'UNKNOWN', 'GLOBAL'),
  ('azure', '2026-01-01T00:00:00.000Z', '2026-01-01T00:00:00.000Z', 1, 'azure', 'AZURE_OPENAI', NULL, TRUE, FALSE, 'UNKNOWN', 'GLOBAL'),
  ('google', '2026-01-01T00:00:00.000Z', '2026-01-01T00:00:00.000Z', 1, 'google', 'GOOGLE_GEMINI', 'https://generativelanguage.googleapis.com/v1beta/openai', TRUE, FALSE, 'UNKNOWN', 'GLOBAL'),
  ('chutes', '2026-01-01T00:00:00.000Z', '2026-01-01T00:00:00.000Z', 1, 'chutes', 'CHUTES', 'https://llm.chutes.ai/v1', TRUE, FALSE, 'UNKNOWN', 'GLOBAL'),
  ('ollama', '2026-01-01T00:00:00.000Z', '2026-01-01T00:00:00.000Z', 1, 'ollama', 'OLLAMA', NULL, TRUE, FALSE, 'UNKNOWN', 'GLOBAL');

INSERT INTO ai_models (id, created_at, updated_at, version, provider_id, name, display_name, context_window, max_output_tokens, input_price_per_1m_micro, output_price_per_1m_micro, supports_streaming, supports_functions, supports_vision, supports_json, category, tier, is_enabled, is_default, scope) VALUES
  ('echo', '2026-01-01T00:00:00.000Z', '2026-01-01T00:00:00.000Z', 1, 'echo', 'echo', 'Echo (built in, repeats)', 128000, 128000, 0, 0, TRUE, TRUE, TRUE, TRUE, 'GENERAL', 'ECONOMY', TRUE, TRUE, 'GLOBAL');
