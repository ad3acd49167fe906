-- Notifications, their deliveries, and everything that decides about them.

CREATE TABLE notification_notifications (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  user_id TEXT NOT NULL,
  type TEXT NOT NULL,
  title TEXT NOT NULL,
  message TEXT NOT NULL,
  read BOOLEAN NOT NULL,
  read_at TIMESTAMPTZ,
  category TEXT NOT NULL,
  criticality TEXT NOT NULL,
  source_module TEXT NOT NULL,
  source_resource_type TEXT,
  source_resource_id TEXT,
  action_url TEXT,
  action_label TEXT,
  metadata JSONB NOT NULL,
  channels_requested JSONB NOT NULL,
  channels_delivered JSONB NOT NULL,
  status TEXT NOT NULL,
  status_reason TEXT,
  scheduled_for TIMESTAMPTZ,
  expires_at TIMESTAMPTZ,
  acknowledged_at TIMESTAMPTZ,
  dedup_key TEXT,
  batch_id TEXT,
  escalation_chain_id TEXT,
  escalation_level BIGINT NOT NULL,
  escalated_from TEXT,
  team_id TEXT,
  project_id TEXT,
  in_inbox BOOLEAN NOT NULL,
  inbox_at TIMESTAMPTZ,
  escalation_due_at TIMESTAMPTZ,
  resolved_at TIMESTAMPTZ,
  data JSONB NOT NULL
);
CREATE INDEX notification_notifications_inbox ON notification_notifications (user_id, read, created_at);
CREATE INDEX notification_notifications_stream ON notification_notifications (user_id, inbox_at);
CREATE INDEX notification_notifications_waiting ON notification_notifications (status, scheduled_for);
CREATE INDEX notification_notifications_escalation ON notification_notifications (escalation_due_at);
CREATE INDEX notification_notifications_resource ON notification_notifications (organization_id, source_resource_id);

CREATE TABLE notification_delivery_logs (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  notification_id TEXT NOT NULL,
  channel TEXT NOT NULL,
  provider_id TEXT,
  status TEXT NOT NULL,
  provider_message_id TEXT,
  attempt_count BIGINT NOT NULL,
  max_attempts BIGINT NOT NULL,
  next_retry_at TIMESTAMPTZ,
  last_error TEXT,
  cost_micro BIGINT,
  attempted_at TIMESTAMPTZ,
  delivered_at TIMESTAMPTZ,
  batch_id TEXT,
  user_id TEXT NOT NULL,
  recipient TEXT,
  words JSONB
);
CREATE INDEX notification_delivery_logs_notification ON notification_delivery_logs (notification_id);
CREATE INDEX notification_delivery_logs_user ON notification_delivery_logs (user_id, attempted_at);
CREATE INDEX notification_delivery_logs_batch ON notification_delivery_logs (batch_id);

CREATE TABLE notification_templates (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  name TEXT NOT NULL,
  event_type TEXT NOT NULL,
  channel TEXT NOT NULL,
  locale TEXT NOT NULL,
  subject TEXT,
  body TEXT NOT NULL,
  body_html TEXT,
  variables JSONB NOT NULL,
  enabled BOOLEAN NOT NULL,
  is_default BOOLEAN NOT NULL,
  scope TEXT NOT NULL,
  criticality TEXT,
  category TEXT
);
CREATE UNIQUE INDEX notification_templates_words
  ON notification_templates (COALESCE(organization_id, ''), event_type, channel, locale);

CREATE TABLE notification_preferences (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  scope TEXT NOT NULL,
  scope_id TEXT,
  channels JSONB NOT NULL,
  categories JSONB NOT NULL,
  event_overrides JSONB NOT NULL,
  min_criticality TEXT,
  quiet_hours_start TEXT,
  quiet_hours_end TEXT,
  timezone TEXT,
  locale TEXT,
  quiet_days JSONB,
  allow_critical BOOLEAN,
  dnd_until TIMESTAMPTZ
);
CREATE UNIQUE INDEX notification_preferences_scope
  ON notification_preferences (COALESCE(organization_id, ''), scope, COALESCE(scope_id, ''));

CREATE TABLE notification_escalation_chains (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  name TEXT NOT NULL,
  trigger_criticality TEXT NOT NULL,
  trigger_event_types JSONB NOT NULL,
  levels JSONB NOT NULL,
  is_active BOOLEAN NOT NULL
);
CREATE INDEX notification_escalation_chains_organization ON notification_escalation_chains (organization_id);

CREATE TABLE notification_batches (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  user_id TEXT NOT NULL,
  channel TEXT NOT NULL,
  frequency TEXT NOT NULL,
  status TEXT NOT NULL,
  collect_until TIMESTAMPTZ NOT NULL,
  delivered_at TIMESTAMPTZ,
  attempt_count BIGINT NOT NULL
);
CREATE INDEX notification_batches_due ON notification_batches (status, collect_until);
CREATE INDEX notification_batches_user ON notification_batches (user_id, status);

CREATE TABLE notification_providers (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  code TEXT NOT NULL,
  channel TEXT NOT NULL,
  scope TEXT NOT NULL,
  secret_id TEXT,
  config JSONB NOT NULL,
  priority BIGINT NOT NULL,
  is_active BOOLEAN NOT NULL,
  is_default BOOLEAN NOT NULL,
  health TEXT NOT NULL,
  rate_limit BIGINT,
  daily_limit BIGINT,
  failure_count BIGINT NOT NULL
);
CREATE INDEX notification_providers_channel ON notification_providers (organization_id, channel);

CREATE TABLE notification_webhooks (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  name TEXT NOT NULL,
  direction TEXT NOT NULL,
  url TEXT,
  auth_type TEXT NOT NULL,
  auth_secret_id TEXT,
  event_types JSONB NOT NULL,
  is_active BOOLEAN NOT NULL,
  max_retries BIGINT NOT NULL,
  failure_count BIGINT NOT NULL,
  last_success_at TIMESTAMPTZ
);
CREATE INDEX notification_webhooks_organization ON notification_webhooks (organization_id, direction);

-- What an organization says of a channel.
CREATE TABLE notification_channels (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  channel TEXT NOT NULL,
  enabled BOOLEAN NOT NULL,
  fallback JSONB NOT NULL
);
CREATE UNIQUE INDEX notification_channels_channel ON notification_channels (organization_id, channel);

-- News that must not be told again within the hour; the id is a hash of organization and key.
CREATE TABLE notification_dedup_keys (
  id TEXT PRIMARY KEY,
  organization_id TEXT NOT NULL,
  notification_id TEXT NOT NULL,
  expires_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX notification_dedup_keys_expires ON notification_dedup_keys (expires_at);
