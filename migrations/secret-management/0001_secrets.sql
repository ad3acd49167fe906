-- Secrets, their versions, who may use them, and what was done with them. Nothing here is a plaintext.

CREATE TABLE secret_secrets (
  id TEXT PRIMARY KEY,
  -- Null for scope GLOBAL.
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  name TEXT NOT NULL,
  description TEXT,
  type TEXT NOT NULL,
  scope TEXT NOT NULL,
  team_id TEXT,
  project_id TEXT,
  user_id TEXT,
  -- Within what the name is unique: the organization, a team, a project or a user of it, or everything.
  owner TEXT NOT NULL,
  storage_backend TEXT NOT NULL,
  vault_id TEXT,
  vault_secret_ref TEXT,
  current_version BIGINT NOT NULL,
  -- The last characters of an API key, for people to tell keys apart.
  mask TEXT,
  injection JSONB,
  expires_at TIMESTAMPTZ,
  -- The warning that was given last, in days before the expiry; 0 once it has expired.
  expiry_notice BIGINT,
  rotation_enabled BOOLEAN NOT NULL,
  rotation_interval_days BIGINT,
  last_rotated_at TIMESTAMPTZ,
  next_rotation_at TIMESTAMPTZ,
  tags JSONB NOT NULL,
  metadata JSONB NOT NULL,
  deleted_at TIMESTAMPTZ,
  deleted_by TEXT,
  recovery_deadline TIMESTAMPTZ
);
CREATE INDEX secret_secrets_organization ON secret_secrets (organization_id, created_at);
CREATE INDEX secret_secrets_expiry ON secret_secrets (expires_at);
CREATE INDEX secret_secrets_user ON secret_secrets (user_id);
CREATE UNIQUE INDEX secret_secrets_name ON secret_secrets (owner, name) WHERE deleted_at IS NULL;

CREATE TABLE secret_versions (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  secret_id TEXT NOT NULL,
  version BIGINT NOT NULL,
  ciphertext BYTEA NOT NULL,
  nonce BYTEA NOT NULL,
  key_id TEXT NOT NULL,
  change_reason TEXT,
  is_active BOOLEAN NOT NULL,
  destroyed_at TIMESTAMPTZ
);
CREATE UNIQUE INDEX secret_versions_number ON secret_versions (secret_id, version);
CREATE INDEX secret_versions_key ON secret_versions (key_id, id);

CREATE TABLE secret_access_grants (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  secret_id TEXT NOT NULL,
  grantee_type TEXT NOT NULL,
  grantee_id TEXT NOT NULL,
  can_read BOOLEAN NOT NULL,
  can_update BOOLEAN NOT NULL,
  can_delete BOOLEAN NOT NULL,
  can_grant BOOLEAN NOT NULL,
  expires_at TIMESTAMPTZ,
  granted_by TEXT
);
CREATE INDEX secret_access_grants_secret ON secret_access_grants (secret_id);
CREATE INDEX secret_access_grants_grantee ON secret_access_grants (grantee_id);

CREATE TABLE secret_vault_configurations (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  name TEXT NOT NULL,
  backend TEXT NOT NULL,
  scope TEXT NOT NULL,
  sealed_config BYTEA,
  is_active BOOLEAN NOT NULL,
  is_default BOOLEAN NOT NULL,
  health TEXT NOT NULL,
  last_health_check TIMESTAMPTZ
);
CREATE INDEX secret_vault_configurations_organization ON secret_vault_configurations (organization_id);

CREATE TABLE secret_encryption_keys (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  -- The organization, or empty for what has scope GLOBAL.
  owner TEXT NOT NULL,
  version BIGINT NOT NULL,
  wrapped_key BYTEA NOT NULL,
  algorithm TEXT NOT NULL,
  status TEXT NOT NULL,
  retired_at TIMESTAMPTZ
);
CREATE UNIQUE INDEX secret_encryption_keys_version ON secret_encryption_keys (owner, version);
-- One key encrypts for each owner, whichever instance makes it first.
CREATE UNIQUE INDEX secret_encryption_keys_active ON secret_encryption_keys (owner) WHERE status = 'ACTIVE';

CREATE TABLE secret_audit_logs (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  event_type TEXT NOT NULL,
  category TEXT NOT NULL,
  actor_type TEXT NOT NULL,
  actor_id TEXT,
  secret_id TEXT,
  secret_name TEXT,
  action TEXT NOT NULL,
  outcome TEXT NOT NULL,
  details JSONB NOT NULL,
  ip TEXT,
  request_id TEXT,
  timestamp TIMESTAMPTZ NOT NULL
);
CREATE INDEX secret_audit_logs_time ON secret_audit_logs (organization_id, timestamp);
CREATE INDEX secret_audit_logs_secret ON secret_audit_logs (secret_id, timestamp);
CREATE INDEX secret_audit_logs_actor ON secret_audit_logs (actor_id, timestamp);

CREATE TABLE secret_usage (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  secret_id TEXT NOT NULL,
  consumer_module TEXT NOT NULL,
  consumer_resource_id TEXT,
  user_id TEXT,
  used_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX secret_usage_secret ON secret_usage (secret_id, used_at);
CREATE INDEX secret_usage_time ON secret_usage (used_at);
