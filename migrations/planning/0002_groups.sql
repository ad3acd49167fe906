-- Roadmaps, issues, releases, architecture, dependencies, incidents, environments, debt, reviews and modules.

CREATE TABLE project_roadmaps (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  project_id TEXT NOT NULL,
  name TEXT NOT NULL,
  description TEXT
);
CREATE INDEX project_roadmaps_project ON project_roadmaps (project_id);

CREATE TABLE project_milestones (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  project_id TEXT NOT NULL,
  roadmap_id TEXT NOT NULL,
  name TEXT NOT NULL,
  description TEXT,
  target_date TIMESTAMPTZ,
  status TEXT NOT NULL,
  "position" BIGINT NOT NULL
);
CREATE INDEX project_milestones_roadmap ON project_milestones (roadmap_id, "position");

CREATE TABLE project_epics (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  project_id TEXT NOT NULL,
  roadmap_id TEXT NOT NULL,
  milestone_id TEXT NOT NULL,
  name TEXT NOT NULL,
  description TEXT,
  status TEXT NOT NULL,
  "position" BIGINT NOT NULL
);
CREATE INDEX project_epics_roadmap ON project_epics (roadmap_id, "position");
CREATE INDEX project_epics_milestone ON project_epics (milestone_id);

CREATE TABLE project_stories (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  project_id TEXT NOT NULL,
  roadmap_id TEXT NOT NULL,
  milestone_id TEXT NOT NULL,
  epic_id TEXT NOT NULL,
  name TEXT NOT NULL,
  description TEXT,
  status TEXT NOT NULL,
  "position" BIGINT NOT NULL
);
CREATE INDEX project_stories_roadmap ON project_stories (roadmap_id, "position");
CREATE INDEX project_stories_epic ON project_stories (epic_id);

CREATE INDEX project_tasks_milestone ON project_tasks (milestone_id);
CREATE INDEX project_tasks_epic ON project_tasks (epic_id);
CREATE INDEX project_tasks_story ON project_tasks (story_id);

CREATE TABLE project_issues (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  project_id TEXT,
  title TEXT NOT NULL,
  description TEXT NOT NULL,
  kind TEXT NOT NULL,
  severity TEXT NOT NULL,
  likelihood DOUBLE PRECISION NOT NULL,
  priority_score DOUBLE PRECISION NOT NULL,
  status TEXT NOT NULL,
  source TEXT NOT NULL,
  file_path TEXT,
  task_id TEXT,
  alert_key TEXT
);
CREATE INDEX project_issues_organization ON project_issues (organization_id, created_at);
CREATE INDEX project_issues_project ON project_issues (project_id, status);
CREATE INDEX project_issues_alert ON project_issues (organization_id, alert_key);

CREATE TABLE project_releases (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  lock_version BIGINT NOT NULL,
  project_id TEXT NOT NULL,
  name TEXT NOT NULL,
  "version" TEXT NOT NULL,
  description TEXT,
  status TEXT NOT NULL,
  services JSONB NOT NULL,
  planned_start TIMESTAMPTZ,
  planned_end TIMESTAMPTZ,
  actual_start TIMESTAMPTZ,
  actual_end TIMESTAMPTZ,
  risk_score DOUBLE PRECISION,
  release_notes TEXT
);
CREATE UNIQUE INDEX project_releases_version ON project_releases (project_id, "version");

CREATE TABLE project_deployments (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  release_id TEXT NOT NULL,
  project_id TEXT NOT NULL,
  environment TEXT NOT NULL,
  status TEXT NOT NULL,
  services JSONB NOT NULL,
  started_at TIMESTAMPTZ,
  completed_at TIMESTAMPTZ,
  rolled_back_at TIMESTAMPTZ
);
CREATE INDEX project_deployments_release ON project_deployments (release_id, created_at);

CREATE TABLE architecture_designs (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  project_id TEXT NOT NULL,
  title TEXT NOT NULL,
  description TEXT,
  status TEXT NOT NULL,
  architecture_data JSONB NOT NULL,
  parent_version_id TEXT,
  tags JSONB NOT NULL
);
CREATE INDEX architecture_designs_project ON architecture_designs (project_id, status);

CREATE TABLE architecture_reviews (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  project_id TEXT NOT NULL,
  design_id TEXT NOT NULL,
  requested_by TEXT,
  reviewers JSONB NOT NULL,
  status TEXT NOT NULL,
  comments JSONB NOT NULL,
  decision TEXT,
  decision_notes TEXT,
  decided_by TEXT,
  decided_at TIMESTAMPTZ
);
CREATE INDEX architecture_reviews_design ON architecture_reviews (design_id);

CREATE TABLE project_dependencies (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  from_team_id TEXT NOT NULL,
  to_team_id TEXT NOT NULL,
  project_id TEXT NOT NULL,
  description TEXT,
  dependency_type TEXT NOT NULL,
  contract JSONB,
  status TEXT NOT NULL,
  blocking BOOLEAN NOT NULL,
  sla JSONB,
  sla_status TEXT NOT NULL,
  health_score DOUBLE PRECISION NOT NULL
);
CREATE INDEX project_dependencies_project ON project_dependencies (project_id, status);

CREATE TABLE project_packages (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  lock_version BIGINT NOT NULL,
  project_id TEXT NOT NULL,
  ecosystem TEXT NOT NULL,
  name TEXT NOT NULL,
  "version" TEXT NOT NULL,
  latest_version TEXT,
  is_development BOOLEAN NOT NULL,
  vulnerabilities JSONB NOT NULL,
  vulnerability_count BIGINT NOT NULL,
  last_scanned_at TIMESTAMPTZ NOT NULL
);
CREATE UNIQUE INDEX project_packages_name ON project_packages (project_id, ecosystem, name);

CREATE TABLE project_incidents (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  project_id TEXT,
  title TEXT NOT NULL,
  description TEXT,
  severity TEXT NOT NULL,
  status TEXT NOT NULL,
  declared_at TIMESTAMPTZ NOT NULL,
  resolved_at TIMESTAMPTZ,
  timeline JSONB NOT NULL
);
CREATE INDEX project_incidents_organization ON project_incidents (organization_id, created_at);
CREATE INDEX project_incidents_project ON project_incidents (project_id, status);

CREATE TABLE project_postmortems (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  incident_id TEXT NOT NULL,
  summary TEXT NOT NULL,
  root_causes JSONB NOT NULL,
  impact TEXT NOT NULL,
  lessons JSONB NOT NULL,
  five_whys JSONB NOT NULL
);
CREATE UNIQUE INDEX project_postmortems_incident ON project_postmortems (incident_id);

CREATE TABLE project_action_items (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  incident_id TEXT NOT NULL,
  title TEXT NOT NULL,
  assigned_to TEXT,
  status TEXT NOT NULL,
  priority TEXT NOT NULL,
  due_date TIMESTAMPTZ
);
CREATE INDEX project_action_items_incident ON project_action_items (incident_id);

CREATE TABLE project_environments (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  project_id TEXT NOT NULL,
  name TEXT NOT NULL,
  config JSONB NOT NULL
);
CREATE UNIQUE INDEX project_environments_name ON project_environments (project_id, name);

CREATE TABLE project_debt (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  project_id TEXT NOT NULL,
  title TEXT NOT NULL,
  description TEXT,
  debt_type TEXT NOT NULL,
  impact_score DOUBLE PRECISION NOT NULL,
  effort_score DOUBLE PRECISION NOT NULL,
  overall_score DOUBLE PRECISION NOT NULL,
  status TEXT NOT NULL,
  items JSONB NOT NULL,
  detected_at TIMESTAMPTZ NOT NULL,
  resolved_at TIMESTAMPTZ,
  task_id TEXT
);
CREATE INDEX project_debt_project ON project_debt (project_id, status);
CREATE INDEX project_debt_score ON project_debt (organization_id, overall_score);

CREATE TABLE project_reviews (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  project_id TEXT NOT NULL,
  reviewable_type TEXT NOT NULL,
  reviewable_id TEXT NOT NULL,
  title TEXT NOT NULL,
  description TEXT,
  assigned_to TEXT NOT NULL,
  status TEXT NOT NULL,
  level TEXT NOT NULL,
  priority TEXT NOT NULL,
  due_date TIMESTAMPTZ,
  quality JSONB,
  decided_by TEXT,
  decided_at TIMESTAMPTZ
);
CREATE INDEX project_reviews_project ON project_reviews (project_id, status);
CREATE INDEX project_reviews_assigned ON project_reviews (assigned_to, status);

CREATE TABLE project_review_comments (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  review_id TEXT NOT NULL,
  author_id TEXT,
  file_path TEXT,
  "line" BIGINT,
  type TEXT NOT NULL,
  body TEXT NOT NULL,
  thread_id TEXT,
  resolved_at TIMESTAMPTZ,
  resolved_by TEXT
);
CREATE INDEX project_review_comments_review ON project_review_comments (review_id, created_at);

CREATE TABLE project_modules (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  project_id TEXT NOT NULL,
  name TEXT NOT NULL,
  path TEXT NOT NULL,
  files JSONB NOT NULL,
  dependencies JSONB NOT NULL,
  confidence DOUBLE PRECISION NOT NULL,
  quality_score DOUBLE PRECISION,
  metrics JSONB,
  parent_module_id TEXT
);
CREATE INDEX project_modules_project ON project_modules (project_id, name);
CREATE INDEX project_modules_parent ON project_modules (parent_module_id);

-- A task can be named as people name it: QUAY-12.
ALTER TABLE project_projects ADD COLUMN code TEXT;
ALTER TABLE project_projects ADD COLUMN task_counter BIGINT NOT NULL DEFAULT 0;
ALTER TABLE project_tasks ADD COLUMN identifier TEXT;
CREATE INDEX project_tasks_identifier ON project_tasks (organization_id, identifier);
