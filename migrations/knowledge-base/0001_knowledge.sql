-- Entries with their versions, spaces, categories, comments, runbooks, attachments, and what they are found by.

CREATE TABLE kb_entries (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  deleted_at TIMESTAMPTZ,
  team_id TEXT,
  project_id TEXT,
  space_id TEXT,
  parent_id TEXT,
  title TEXT NOT NULL,
  slug TEXT NOT NULL,
  blocks JSONB,
  category TEXT NOT NULL,
  category_ids JSONB NOT NULL,
  tags JSONB NOT NULL,
  status TEXT NOT NULL,
  status_before TEXT,
  author_id TEXT NOT NULL,
  editor_ids JSONB NOT NULL,
  last_edited_by TEXT NOT NULL,
  path TEXT NOT NULL,
  file_path TEXT,
  source JSONB,
  source_key TEXT,
  links JSONB NOT NULL,
  is_template BOOLEAN NOT NULL,
  view_count BIGINT NOT NULL,
  helpful_count BIGINT NOT NULL,
  summary TEXT,
  content_hash TEXT NOT NULL,
  published_at TIMESTAMPTZ,
  content TEXT NOT NULL
);
-- A deleted entry gives its slug free; restored it gets another one where somebody has taken it.
CREATE UNIQUE INDEX kb_entries_slug ON kb_entries (organization_id, COALESCE(space_id, ''), slug) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX kb_entries_source ON kb_entries (organization_id, source_key) WHERE source_key IS NOT NULL;
CREATE INDEX kb_entries_updated ON kb_entries (organization_id, updated_at);
CREATE INDEX kb_entries_parent ON kb_entries (parent_id);
CREATE INDEX kb_entries_path ON kb_entries (organization_id, path);
CREATE INDEX kb_entries_project ON kb_entries (organization_id, project_id);
CREATE INDEX kb_entries_space ON kb_entries (space_id);
CREATE INDEX kb_entries_deleted ON kb_entries (deleted_at);

CREATE TABLE kb_search_index (
  entry_id TEXT PRIMARY KEY,
  organization_id TEXT,
  title TEXT NOT NULL,
  tags TEXT NOT NULL,
  terms TEXT NOT NULL
);
CREATE INDEX kb_search_index_organization ON kb_search_index (organization_id);

CREATE TABLE kb_entry_versions (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  lock_version BIGINT NOT NULL,
  entry_id TEXT NOT NULL,
  version BIGINT NOT NULL,
  title TEXT NOT NULL,
  edited_by TEXT NOT NULL,
  change_note TEXT,
  content TEXT NOT NULL
);
CREATE UNIQUE INDEX kb_entry_versions_number ON kb_entry_versions (entry_id, version);

CREATE TABLE kb_spaces (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  name TEXT NOT NULL,
  description TEXT,
  type TEXT NOT NULL,
  is_public BOOLEAN NOT NULL,
  owner_id TEXT NOT NULL,
  team_id TEXT,
  project_id TEXT,
  member_ids JSONB NOT NULL
);
CREATE UNIQUE INDEX kb_spaces_name ON kb_spaces (organization_id, name);

CREATE TABLE kb_categories (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  name TEXT NOT NULL,
  parent_id TEXT,
  path TEXT NOT NULL,
  is_system BOOLEAN NOT NULL
);
CREATE UNIQUE INDEX kb_categories_name ON kb_categories (organization_id, COALESCE(parent_id, ''), name);
CREATE INDEX kb_categories_path ON kb_categories (organization_id, path);

CREATE TABLE kb_comments (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  entry_id TEXT NOT NULL,
  author_id TEXT NOT NULL,
  body TEXT NOT NULL,
  parent_comment_id TEXT,
  resolved_at TIMESTAMPTZ
);
CREATE INDEX kb_comments_entry ON kb_comments (entry_id, created_at);

CREATE TABLE kb_runbooks (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  entry_id TEXT NOT NULL,
  type TEXT NOT NULL,
  steps JSONB NOT NULL
);
CREATE INDEX kb_runbooks_entry ON kb_runbooks (entry_id);

CREATE TABLE kb_runbook_runs (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  runbook_id TEXT NOT NULL,
  status TEXT NOT NULL,
  step_results JSONB NOT NULL,
  started_by TEXT NOT NULL,
  finished_at TIMESTAMPTZ
);
CREATE INDEX kb_runbook_runs_runbook ON kb_runbook_runs (runbook_id, created_at);

CREATE TABLE kb_favorites (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  entry_id TEXT NOT NULL,
  user_id TEXT NOT NULL
);
CREATE UNIQUE INDEX kb_favorites_once ON kb_favorites (entry_id, user_id);
CREATE INDEX kb_favorites_user ON kb_favorites (organization_id, user_id);

CREATE TABLE kb_helpful (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  entry_id TEXT NOT NULL,
  user_id TEXT NOT NULL
);
CREATE UNIQUE INDEX kb_helpful_once ON kb_helpful (entry_id, user_id);

CREATE TABLE kb_attachments (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  entry_id TEXT NOT NULL,
  name TEXT NOT NULL,
  media_type TEXT NOT NULL,
  size BIGINT NOT NULL,
  hash TEXT NOT NULL,
  bytes BYTEA
);
CREATE INDEX kb_attachments_entry ON kb_attachments (entry_id, created_at);
