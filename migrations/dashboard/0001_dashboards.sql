-- Dashboards, their widgets, whom they are shared with, and what they are to each user.

CREATE TABLE dashboard_dashboards (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  name TEXT NOT NULL,
  description TEXT,
  config JSONB NOT NULL,
  owner_id TEXT NOT NULL,
  scope TEXT NOT NULL,
  scope_id TEXT,
  context_type TEXT,
  filters JSONB NOT NULL,
  refresh_seconds BIGINT,
  -- Kept with every widget that comes or goes, so that their number is bounded whoever adds at the same time.
  widget_count BIGINT NOT NULL
);
CREATE INDEX dashboard_dashboards_owner ON dashboard_dashboards (organization_id, owner_id, scope);
CREATE INDEX dashboard_dashboards_scope ON dashboard_dashboards (organization_id, scope, scope_id);

CREATE TABLE dashboard_widgets (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  dashboard_id TEXT NOT NULL,
  type TEXT NOT NULL,
  title TEXT NOT NULL,
  config JSONB NOT NULL,
  data_source JSONB,
  position JSONB
);
CREATE INDEX dashboard_widgets_dashboard ON dashboard_widgets (dashboard_id);

-- One row for each user, team or organization that a dashboard is shared with.
CREATE TABLE dashboard_shares (
  dashboard_id TEXT NOT NULL,
  organization_id TEXT NOT NULL,
  kind TEXT NOT NULL,
  target_id TEXT NOT NULL,
  can_edit BOOLEAN NOT NULL,
  PRIMARY KEY (dashboard_id, kind, target_id)
);
CREATE INDEX dashboard_shares_target ON dashboard_shares (organization_id, kind, target_id);

-- The key holds that a user has one default for each scope and no more.
CREATE TABLE dashboard_defaults (
  organization_id TEXT NOT NULL,
  user_id TEXT NOT NULL,
  scope TEXT NOT NULL,
  dashboard_id TEXT NOT NULL,
  PRIMARY KEY (organization_id, user_id, scope)
);
CREATE INDEX dashboard_defaults_dashboard ON dashboard_defaults (dashboard_id);

CREATE TABLE dashboard_favorites (
  dashboard_id TEXT NOT NULL,
  organization_id TEXT NOT NULL,
  user_id TEXT NOT NULL,
  PRIMARY KEY (dashboard_id, user_id)
);
CREATE INDEX dashboard_favorites_user ON dashboard_favorites (organization_id, user_id);
