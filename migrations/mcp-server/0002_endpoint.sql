-- The platform's own endpoint: what it offers, sessions of clients, and calls that can be resumed.

CREATE TABLE mcp_offers (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  kind TEXT NOT NULL,
  name TEXT NOT NULL,
  title TEXT,
  description TEXT,
  method TEXT NOT NULL,
  path TEXT NOT NULL,
  uri TEXT,
  mime_type TEXT,
  confirm BOOLEAN NOT NULL,
  is_enabled BOOLEAN NOT NULL
);
CREATE UNIQUE INDEX mcp_offers_name ON mcp_offers (organization_id, kind, name);

CREATE TABLE mcp_sessions (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  user_id TEXT NOT NULL,
  protocol_version TEXT NOT NULL,
  capabilities JSONB NOT NULL,
  client_info JSONB NOT NULL,
  log_level TEXT NOT NULL,
  subscriptions JSONB NOT NULL,
  last_seen_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX mcp_sessions_seen ON mcp_sessions (last_seen_at);
CREATE INDEX mcp_sessions_user ON mcp_sessions (organization_id, user_id);

CREATE TABLE mcp_session_calls (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  session_id TEXT NOT NULL,
  request_key TEXT NOT NULL,
  request JSONB NOT NULL,
  status TEXT NOT NULL,
  leased_until TIMESTAMPTZ NOT NULL
);
CREATE INDEX mcp_session_calls_session ON mcp_session_calls (session_id, request_key);

CREATE TABLE mcp_session_messages (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  session_id TEXT NOT NULL,
  stream_id TEXT NOT NULL,
  sequence BIGINT NOT NULL,
  message JSONB NOT NULL
);
CREATE UNIQUE INDEX mcp_session_messages_sequence ON mcp_session_messages (stream_id, sequence);
CREATE INDEX mcp_session_messages_session ON mcp_session_messages (session_id);

CREATE TABLE mcp_session_replies (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  session_id TEXT NOT NULL,
  request_key TEXT NOT NULL,
  reply JSONB NOT NULL
);
CREATE UNIQUE INDEX mcp_session_replies_key ON mcp_session_replies (session_id, request_key);
