-- What was used, what it costs, and how much of it is allowed. Amounts are micro-cents.

CREATE TABLE usage_events (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  event_key TEXT NOT NULL,
  event_id TEXT NOT NULL,
  user_id TEXT,
  project_id TEXT,
  team_id TEXT,
  category_code TEXT NOT NULL,
  source_module TEXT NOT NULL,
  source_resource_id TEXT,
  source_action TEXT,
  metrics JSONB NOT NULL,
  dimensions JSONB NOT NULL,
  cost_micro BIGINT NOT NULL,
  metadata JSONB,
  occurred_at TIMESTAMPTZ NOT NULL,
  received_at TIMESTAMPTZ NOT NULL
);
CREATE UNIQUE INDEX usage_events_key ON usage_events (event_key);
CREATE INDEX usage_events_time ON usage_events (organization_id, occurred_at);
CREATE INDEX usage_events_received ON usage_events (received_at);

CREATE TABLE usage_categories (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  code TEXT NOT NULL,
  name TEXT NOT NULL,
  parent_code TEXT,
  metrics JSONB NOT NULL,
  primary_metric TEXT NOT NULL,
  pricing_model TEXT NOT NULL,
  is_active BOOLEAN NOT NULL,
  is_system BOOLEAN NOT NULL,
  owner TEXT NOT NULL
);
-- Within an organization, or among those of everybody.
CREATE UNIQUE INDEX usage_categories_code ON usage_categories (owner, code);

CREATE TABLE usage_aggregates (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  aggregate_key TEXT NOT NULL,
  period_start TIMESTAMPTZ NOT NULL,
  granularity TEXT NOT NULL,
  user_id TEXT,
  project_id TEXT,
  team_id TEXT,
  category_code TEXT NOT NULL,
  dimension_key TEXT,
  dimension_value TEXT,
  metrics JSONB NOT NULL,
  event_count BIGINT NOT NULL,
  total_cost_micro BIGINT NOT NULL
);
-- All keys as one text: an index over columns that may be null keeps nothing unique.
CREATE UNIQUE INDEX usage_aggregates_key ON usage_aggregates (aggregate_key);
CREATE INDEX usage_aggregates_period ON usage_aggregates (organization_id, granularity, period_start);
CREATE INDEX usage_aggregates_changed ON usage_aggregates (granularity, updated_at);

CREATE TABLE usage_quotas (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  name TEXT NOT NULL,
  scope TEXT NOT NULL,
  scope_id TEXT,
  category_code TEXT NOT NULL,
  metric_key TEXT NOT NULL,
  dimension_filters JSONB,
  period TEXT NOT NULL,
  limit_value BIGINT NOT NULL,
  warn_threshold BIGINT NOT NULL,
  critical_threshold BIGINT NOT NULL,
  action TEXT NOT NULL,
  is_active BOOLEAN NOT NULL
);
CREATE INDEX usage_quotas_organization ON usage_quotas (organization_id);

CREATE TABLE usage_budgets (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  name TEXT NOT NULL,
  scope TEXT NOT NULL,
  scope_id TEXT,
  category_code TEXT,
  period TEXT NOT NULL,
  amount_micro BIGINT NOT NULL,
  warn_threshold BIGINT NOT NULL,
  critical_threshold BIGINT NOT NULL,
  action TEXT NOT NULL,
  current_usage_micro BIGINT NOT NULL,
  period_start_date TIMESTAMPTZ,
  is_active BOOLEAN NOT NULL
);
CREATE INDEX usage_budgets_organization ON usage_budgets (organization_id);

CREATE TABLE usage_alerts (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  alert_key TEXT NOT NULL,
  alert_type TEXT NOT NULL,
  severity TEXT NOT NULL,
  quota_id TEXT,
  budget_id TEXT,
  title TEXT NOT NULL,
  message TEXT NOT NULL,
  current_value BIGINT NOT NULL,
  threshold_value BIGINT NOT NULL,
  percentage DOUBLE PRECISION NOT NULL,
  status TEXT NOT NULL
);
-- One for each quota or budget, threshold and period.
CREATE UNIQUE INDEX usage_alerts_key ON usage_alerts (alert_key);
CREATE INDEX usage_alerts_organization ON usage_alerts (organization_id, created_at);

CREATE TABLE usage_pricing (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  scope TEXT NOT NULL,
  category_code TEXT NOT NULL,
  dimension_key TEXT,
  dimension_value TEXT,
  pricing_model TEXT NOT NULL,
  unit_price_micro BIGINT NOT NULL,
  unit_multiplier BIGINT NOT NULL,
  tiers JSONB,
  effective_from TIMESTAMPTZ NOT NULL,
  effective_to TIMESTAMPTZ,
  is_active BOOLEAN NOT NULL
);
CREATE INDEX usage_pricing_category ON usage_pricing (category_code);

CREATE TABLE metric_entries (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  name TEXT NOT NULL,
  type TEXT NOT NULL,
  value DOUBLE PRECISION NOT NULL,
  unit TEXT,
  labels JSONB NOT NULL,
  label_text TEXT NOT NULL,
  project_id TEXT,
  source TEXT NOT NULL,
  recorded_at TIMESTAMPTZ NOT NULL,
  recorded_ms BIGINT NOT NULL
);
CREATE INDEX metric_entries_name ON metric_entries (organization_id, name, recorded_ms);
CREATE INDEX metric_entries_time ON metric_entries (recorded_ms);

-- How much of a quota, a budget or a tiered price is used up in one period; rebuilt from the events when absent.
CREATE TABLE usage_counters (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  value DOUBLE PRECISION NOT NULL,
  period_start TIMESTAMPTZ NOT NULL,
  period_end TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX usage_counters_end ON usage_counters (period_end);

-- Whoever records usage of an organization first writes here: two never add to the same sums at once.
CREATE TABLE usage_turns (
  organization_id TEXT PRIMARY KEY,
  turns BIGINT NOT NULL
);

INSERT INTO usage_categories (id, created_at, updated_at, version, code, name, metrics, primary_metric, pricing_model, is_active, is_system, owner) VALUES
  ('system-ai-completion', '2026-01-01T00:00:00.000Z', '2026-01-01T00:00:00.000Z', 1, 'ai.completion', 'AI completions', '["count", "inputTokens", "outputTokens", "totalTokens"]', 'totalTokens', 'PER_MILLION', TRUE, TRUE, ''),
  ('system-ai-embedding', '2026-01-01T00:00:00.000Z', '2026-01-01T00:00:00.000Z', 1, 'ai.embedding', 'Embeddings', '["count", "tokens", "chunks"]', 'tokens', 'PER_MILLION', TRUE, TRUE, ''),
  ('system-mcp-execution', '2026-01-01T00:00:00.000Z', '2026-01-01T00:00:00.000Z', 1, 'mcp.execution', 'Tool calls', '["count", "durationMs"]', 'count', 'PER_UNIT', TRUE, TRUE, ''),
  ('system-compute-agent', '2026-01-01T00:00:00.000Z', '2026-01-01T00:00:00.000Z', 1, 'compute.agent', 'Plan executions', '["count", "durationMs", "steps"]', 'count', 'PER_UNIT', TRUE, TRUE, ''),
  ('system-prompt-execution', '2026-01-01T00:00:00.000Z', '2026-01-01T00:00:00.000Z', 1, 'prompt.execution', 'Prompt executions', '["count"]', 'count', 'NONE', TRUE, TRUE, ''),
  ('system-workflow-run', '2026-01-01T00:00:00.000Z', '2026-01-01T00:00:00.000Z', 1, 'workflow.run', 'Workflow runs', '["count", "durationMs"]', 'count', 'PER_UNIT', TRUE, TRUE, ''),
  ('system-storage', '2026-01-01T00:00:00.000Z', '2026-01-01T00:00:00.000Z', 1, 'storage', 'Storage', '["bytes"]', 'bytes', 'PER_UNIT', TRUE, TRUE, ''),
  ('system-adjustment', '2026-01-01T00:00:00.000Z', '2026-01-01T00:00:00.000Z', 1, 'adjustment', 'Adjustments', '["amountMicro"]', 'amountMicro', 'NONE', TRUE, TRUE, ''),
  ('system-uncategorized', '2026-01-01T00:00:00.000Z', '2026-01-01T00:00:00.000Z', 1, 'uncategorized', 'Uncategorized', '["count"]', 'count', 'NONE', TRUE, TRUE, '');
