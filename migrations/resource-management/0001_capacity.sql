-- Profiles, allocations, time off, holidays, plans, and what is made of them. Days are texts such as 2026-01-31: they sort as they are.

CREATE TABLE resource_profiles (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  user_id TEXT NOT NULL,
  weekly_hours DOUBLE PRECISION NOT NULL,
  skills JSONB NOT NULL,
  cost_rate_micro BIGINT,
  working_days JSONB NOT NULL,
  timezone TEXT NOT NULL,
  team_ids JSONB NOT NULL,
  region TEXT
);
CREATE UNIQUE INDEX resource_profiles_user ON resource_profiles (organization_id, user_id);

CREATE TABLE capacity_allocations (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  user_id TEXT NOT NULL,
  project_id TEXT,
  task_id TEXT,
  allocated_hours DOUBLE PRECISION NOT NULL,
  start_date TEXT NOT NULL,
  end_date TEXT NOT NULL,
  status TEXT NOT NULL,
  percentage DOUBLE PRECISION,
  note TEXT,
  -- The last day that counts of what is completed.
  closed_on TEXT,
  -- What it was made from by itself, such as `task:<id>:<user>`.
  origin TEXT,
  told_at TIMESTAMPTZ
);
CREATE INDEX capacity_allocations_user ON capacity_allocations (organization_id, user_id, end_date);
CREATE INDEX capacity_allocations_range ON capacity_allocations (organization_id, end_date, start_date);
CREATE INDEX capacity_allocations_task ON capacity_allocations (organization_id, task_id);
CREATE INDEX capacity_allocations_project ON capacity_allocations (organization_id, project_id, end_date);
CREATE UNIQUE INDEX capacity_allocations_origin ON capacity_allocations (organization_id, origin) WHERE origin IS NOT NULL;

CREATE TABLE capacity_time_off (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  user_id TEXT NOT NULL,
  start_date TEXT NOT NULL,
  end_date TEXT NOT NULL,
  kind TEXT NOT NULL,
  status TEXT NOT NULL,
  hours_per_day DOUBLE PRECISION,
  note TEXT,
  decided_by TEXT,
  decided_at TIMESTAMPTZ,
  origin TEXT
);
CREATE INDEX capacity_time_off_user ON capacity_time_off (organization_id, user_id, end_date);
CREATE INDEX capacity_time_off_range ON capacity_time_off (organization_id, end_date, start_date);

CREATE TABLE capacity_holidays (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  name TEXT NOT NULL,
  start_date TEXT NOT NULL,
  end_date TEXT NOT NULL,
  region TEXT
);
CREATE INDEX capacity_holidays_range ON capacity_holidays (organization_id, end_date, start_date);

CREATE TABLE capacity_plans (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  name TEXT NOT NULL,
  project_id TEXT,
  start_date TEXT NOT NULL,
  end_date TEXT NOT NULL,
  status TEXT NOT NULL,
  scenario JSONB NOT NULL
);
CREATE INDEX capacity_plans_start ON capacity_plans (organization_id, start_date);

CREATE TABLE capacity_snapshots (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  user_id TEXT,
  team_id TEXT,
  week_start TEXT NOT NULL,
  -- `user:<id>` or `team:<id>`: one row for each week of either.
  subject TEXT NOT NULL,
  total DOUBLE PRECISION NOT NULL,
  allocated DOUBLE PRECISION NOT NULL,
  utilized DOUBLE PRECISION NOT NULL,
  available DOUBLE PRECISION NOT NULL
);
CREATE UNIQUE INDEX capacity_snapshots_week ON capacity_snapshots (organization_id, subject, week_start);
CREATE INDEX capacity_snapshots_start ON capacity_snapshots (organization_id, week_start);

CREATE TABLE capacity_alerts (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  user_id TEXT NOT NULL,
  week_start TEXT NOT NULL,
  overallocation_hours DOUBLE PRECISION NOT NULL,
  status TEXT NOT NULL
);
CREATE UNIQUE INDEX capacity_alerts_week ON capacity_alerts (organization_id, user_id, week_start);
CREATE INDEX capacity_alerts_status ON capacity_alerts (organization_id, status, week_start);

-- One row for everybody whose time is planned: who writes it holds the row until the end of the transaction.
CREATE TABLE capacity_holds (
  id TEXT PRIMARY KEY,
  touched_at TIMESTAMPTZ NOT NULL
);
