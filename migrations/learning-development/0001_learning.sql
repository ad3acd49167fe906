-- Learning paths with their steps, resources, who has come how far, skills, candidates, and the library of patterns.

CREATE TABLE learning_resources (
  id TEXT PRIMARY KEY,
  organization_id TEXT NOT NULL,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  team_id TEXT,
  title TEXT NOT NULL,
  description TEXT,
  url TEXT NOT NULL,
  resource_type TEXT NOT NULL,
  provider TEXT,
  curated_by TEXT NOT NULL,
  quality_score DOUBLE PRECISION,
  tags JSONB NOT NULL,
  skills JSONB NOT NULL,
  view_count BIGINT NOT NULL,
  helpful_count BIGINT NOT NULL
);
CREATE INDEX learning_resources_recent ON learning_resources (organization_id, created_at);
CREATE INDEX learning_resources_team ON learning_resources (organization_id, team_id);

-- Whom a resource has helped, once each.
CREATE TABLE learning_helpful (
  id TEXT PRIMARY KEY,
  organization_id TEXT NOT NULL,
  created_at TIMESTAMPTZ NOT NULL,
  resource_id TEXT NOT NULL,
  user_id TEXT NOT NULL
);
CREATE UNIQUE INDEX learning_helpful_once ON learning_helpful (resource_id, user_id);

CREATE TABLE learning_paths (
  id TEXT PRIMARY KEY,
  organization_id TEXT NOT NULL,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  user_id TEXT,
  team_id TEXT,
  title TEXT NOT NULL,
  description TEXT,
  skills_covered JSONB NOT NULL,
  estimated_minutes BIGINT,
  difficulty TEXT NOT NULL,
  status TEXT NOT NULL,
  is_template BOOLEAN NOT NULL
);
CREATE INDEX learning_paths_recent ON learning_paths (organization_id, created_at);
CREATE INDEX learning_paths_user ON learning_paths (organization_id, user_id);
CREATE INDEX learning_paths_template ON learning_paths (organization_id, is_template);

CREATE TABLE learning_path_steps (
  id TEXT PRIMARY KEY,
  organization_id TEXT NOT NULL,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  path_id TEXT NOT NULL,
  "order" BIGINT NOT NULL,
  title TEXT NOT NULL,
  step_type TEXT NOT NULL,
  resource_id TEXT,
  resource_url TEXT,
  content TEXT,
  skills JSONB NOT NULL,
  prerequisites JSONB NOT NULL,
  estimated_minutes BIGINT,
  -- `pending` or `skipped`, for everybody; how far somebody is stands in learning_standings.
  status TEXT NOT NULL,
  completed_at TIMESTAMPTZ
);
CREATE INDEX learning_path_steps_path ON learning_path_steps (path_id, "order");
CREATE INDEX learning_path_steps_resource ON learning_path_steps (resource_id);

CREATE TABLE learning_enrollments (
  id TEXT PRIMARY KEY,
  organization_id TEXT NOT NULL,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  path_id TEXT NOT NULL,
  user_id TEXT NOT NULL,
  status TEXT NOT NULL,
  progress DOUBLE PRECISION NOT NULL,
  completed_at TIMESTAMPTZ
);
CREATE UNIQUE INDEX learning_enrollments_once ON learning_enrollments (path_id, user_id);
CREATE INDEX learning_enrollments_user ON learning_enrollments (organization_id, user_id, status);

-- What was recorded, a row a record. Rows with a skill say which skills a record was for: they repeat its minutes.
CREATE TABLE learning_progress (
  id TEXT PRIMARY KEY,
  organization_id TEXT NOT NULL,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  path_id TEXT,
  user_id TEXT NOT NULL,
  step_id TEXT,
  resource_id TEXT,
  skill TEXT,
  value DOUBLE PRECISION NOT NULL,
  minutes BIGINT NOT NULL,
  recorded_at TIMESTAMPTZ NOT NULL,
  -- The client's own id of the record: a second one of the same id counts for nothing.
  event_id TEXT
);
CREATE UNIQUE INDEX learning_progress_event ON learning_progress (organization_id, user_id, event_id);
CREATE INDEX learning_progress_user ON learning_progress (organization_id, user_id, recorded_at);

-- How far somebody is with a resource or a step: never less than before, unless it was begun anew.
CREATE TABLE learning_standings (
  id TEXT PRIMARY KEY,
  organization_id TEXT NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  user_id TEXT NOT NULL,
  -- `resource` or `step`, and its id.
  kind TEXT NOT NULL,
  subject_id TEXT NOT NULL,
  path_id TEXT,
  value DOUBLE PRECISION NOT NULL,
  minutes BIGINT NOT NULL,
  completed_at TIMESTAMPTZ
);
CREATE UNIQUE INDEX learning_standings_once ON learning_standings (organization_id, user_id, kind, subject_id);
CREATE INDEX learning_standings_path ON learning_standings (path_id, user_id);
CREATE INDEX learning_standings_subject ON learning_standings (kind, subject_id);

CREATE TABLE learning_skills (
  id TEXT PRIMARY KEY,
  organization_id TEXT NOT NULL,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  user_id TEXT NOT NULL,
  skill TEXT NOT NULL,
  -- The skill as it is compared: in lower case.
  skill_key TEXT NOT NULL,
  level BIGINT NOT NULL,
  source TEXT NOT NULL,
  verified_by TEXT
);
CREATE UNIQUE INDEX learning_skills_once ON learning_skills (organization_id, user_id, skill_key);

-- Resources that fit what happened to somebody.
CREATE TABLE learning_suggestions (
  id TEXT PRIMARY KEY,
  organization_id TEXT NOT NULL,
  created_at TIMESTAMPTZ NOT NULL,
  user_id TEXT NOT NULL,
  resource_id TEXT NOT NULL,
  source TEXT NOT NULL,
  source_id TEXT NOT NULL
);
CREATE UNIQUE INDEX learning_suggestions_once ON learning_suggestions (organization_id, user_id, resource_id);
CREATE INDEX learning_suggestions_resource ON learning_suggestions (resource_id);
CREATE INDEX learning_suggestions_recent ON learning_suggestions (organization_id, user_id, created_at);

CREATE TABLE learning_candidates (
  id TEXT PRIMARY KEY,
  organization_id TEXT NOT NULL,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  kind TEXT NOT NULL,
  content TEXT NOT NULL,
  confirmations BIGINT NOT NULL,
  required BIGINT NOT NULL,
  status TEXT NOT NULL,
  promoted_at TIMESTAMPTZ,
  promoted_by TEXT,
  rolled_back_at TIMESTAMPTZ
);
CREATE INDEX learning_candidates_status ON learning_candidates (organization_id, status, created_at);

CREATE TABLE learning_confirmations (
  id TEXT PRIMARY KEY,
  organization_id TEXT NOT NULL,
  created_at TIMESTAMPTZ NOT NULL,
  candidate_id TEXT NOT NULL,
  user_id TEXT NOT NULL
);
CREATE UNIQUE INDEX learning_confirmations_once ON learning_confirmations (candidate_id, user_id);

CREATE TABLE pattern_patterns (
  id TEXT PRIMARY KEY,
  organization_id TEXT NOT NULL,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  name TEXT NOT NULL,
  description TEXT NOT NULL,
  pattern_type TEXT NOT NULL,
  category TEXT NOT NULL,
  code TEXT NOT NULL,
  language TEXT,
  parameters JSONB,
  tags JSONB NOT NULL,
  is_public BOOLEAN NOT NULL,
  team_id TEXT,
  project_id TEXT,
  usage_count BIGINT NOT NULL,
  rating_sum BIGINT NOT NULL,
  rating_count BIGINT NOT NULL,
  current_version TEXT NOT NULL,
  -- Tags and language as words, for the search.
  words TEXT NOT NULL
);
CREATE INDEX pattern_patterns_recent ON pattern_patterns (organization_id, created_at);
CREATE INDEX pattern_patterns_project ON pattern_patterns (organization_id, project_id);
CREATE TEXT INDEX pattern_patterns_text ON pattern_patterns (name WEIGHT 3, words WEIGHT 2, category WEIGHT 2, description);

CREATE TABLE pattern_versions (
  id TEXT PRIMARY KEY,
  organization_id TEXT NOT NULL,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  lock_version BIGINT NOT NULL,
  pattern_id TEXT NOT NULL,
  version TEXT NOT NULL,
  code TEXT NOT NULL,
  changelog TEXT,
  parent_version_id TEXT
);
CREATE UNIQUE INDEX pattern_versions_once ON pattern_versions (pattern_id, version);

CREATE TABLE pattern_ratings (
  id TEXT PRIMARY KEY,
  organization_id TEXT NOT NULL,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  pattern_id TEXT NOT NULL,
  user_id TEXT NOT NULL,
  rating BIGINT NOT NULL
);
CREATE UNIQUE INDEX pattern_ratings_once ON pattern_ratings (pattern_id, user_id);

CREATE TABLE pattern_usages (
  id TEXT PRIMARY KEY,
  organization_id TEXT NOT NULL,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  pattern_id TEXT NOT NULL,
  project_id TEXT,
  target_path TEXT,
  "by" TEXT NOT NULL,
  "at" TIMESTAMPTZ NOT NULL
);
CREATE INDEX pattern_usages_pattern ON pattern_usages (pattern_id, "at");
