-- Plans, projects and tasks.

CREATE TABLE project_projects (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  name TEXT NOT NULL,
  description TEXT,
  team_id TEXT,
  status TEXT NOT NULL,
  visibility TEXT NOT NULL,
  repository_url TEXT,
  metadata JSONB NOT NULL,
  settings JSONB NOT NULL,
  deleted_at TIMESTAMPTZ
);
CREATE INDEX project_projects_organization ON project_projects (organization_id, created_at);

CREATE TABLE project_access (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  project_id TEXT NOT NULL,
  user_id TEXT,
  team_id TEXT,
  level TEXT NOT NULL
);
CREATE INDEX project_access_project ON project_access (project_id, user_id);

-- Which project a user works on.
CREATE TABLE project_selections (
  organization_id TEXT NOT NULL,
  user_id TEXT NOT NULL,
  project_id TEXT NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  PRIMARY KEY (organization_id, user_id)
);

CREATE TABLE plan_plans (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  project_id TEXT NOT NULL,
  title TEXT NOT NULL,
  description TEXT NOT NULL,
  intent TEXT NOT NULL,
  strategy TEXT NOT NULL,
  status TEXT NOT NULL,
  confidence DOUBLE PRECISION NOT NULL,
  quality JSONB,
  estimated_time BIGINT,
  assumptions JSONB NOT NULL,
  invariants JSONB NOT NULL,
  non_goals JSONB NOT NULL,
  plan_hash TEXT,
  approved_by TEXT,
  approved_at TIMESTAMPTZ,
  execution_id TEXT,
  execution_sequence BIGINT NOT NULL,
  deleted_at TIMESTAMPTZ
);
CREATE INDEX plan_plans_organization ON plan_plans (organization_id, created_at);
CREATE INDEX plan_plans_project ON plan_plans (project_id, status);

CREATE TABLE plan_steps (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  plan_id TEXT NOT NULL,
  "order" BIGINT NOT NULL,
  title TEXT NOT NULL,
  description TEXT NOT NULL,
  type TEXT NOT NULL,
  dependencies JSONB NOT NULL,
  status TEXT NOT NULL,
  status_sequence BIGINT NOT NULL,
  params JSONB NOT NULL,
  preconditions JSONB NOT NULL,
  postconditions JSONB NOT NULL,
  expected_artifacts JSONB NOT NULL,
  rollback JSONB,
  rollback_type TEXT NOT NULL,
  irreversible_accepted BOOLEAN NOT NULL,
  on_failure TEXT NOT NULL,
  max_retries BIGINT NOT NULL,
  timeout_ms BIGINT NOT NULL
);
CREATE UNIQUE INDEX plan_steps_order ON plan_steps (plan_id, "order");

CREATE TABLE project_tasks (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  project_id TEXT NOT NULL,
  plan_id TEXT,
  plan_step_id TEXT,
  title TEXT NOT NULL,
  description TEXT,
  type TEXT NOT NULL,
  status TEXT NOT NULL,
  priority TEXT NOT NULL,
  assigned_to TEXT,
  estimated_hours DOUBLE PRECISION,
  actual_hours DOUBLE PRECISION,
  due_date TIMESTAMPTZ,
  milestone_id TEXT,
  epic_id TEXT,
  story_id TEXT,
  environment_id TEXT,
  parent_task_id TEXT,
  tags JSONB NOT NULL,
  due_state TEXT,
  deleted_at TIMESTAMPTZ
);
CREATE INDEX project_tasks_organization ON project_tasks (organization_id, created_at);
CREATE INDEX project_tasks_project ON project_tasks (project_id, status);
CREATE INDEX project_tasks_parent ON project_tasks (parent_task_id);
CREATE INDEX project_tasks_due ON project_tasks (due_date);

CREATE TABLE project_task_dependencies (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  from_task_id TEXT NOT NULL,
  to_task_id TEXT NOT NULL,
  type TEXT NOT NULL
);
CREATE UNIQUE INDEX project_task_dependencies_pair ON project_task_dependencies (from_task_id, to_task_id, type);
CREATE INDEX project_task_dependencies_to ON project_task_dependencies (to_task_id);

CREATE TABLE project_task_comments (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  task_id TEXT NOT NULL,
  author_id TEXT,
  body TEXT NOT NULL
);
CREATE INDEX project_task_comments_task ON project_task_comments (task_id, created_at);

CREATE TABLE project_task_history (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  task_id TEXT NOT NULL,
  field TEXT NOT NULL,
  "old" TEXT,
  "new" TEXT,
  "by" TEXT,
  "at" TIMESTAMPTZ NOT NULL
);
CREATE INDEX project_task_history_task ON project_task_history (task_id, "at");
