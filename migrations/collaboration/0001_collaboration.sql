-- Sessions of pairs and mobs with who takes part, what they note and what happens in them; ideas and what becomes of them.

CREATE TABLE pairing_sessions (
  id TEXT PRIMARY KEY,
  organization_id TEXT NOT NULL,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  project_id TEXT,
  title TEXT NOT NULL,
  description TEXT,
  session_type TEXT NOT NULL,
  status TEXT NOT NULL,
  driver_id TEXT,
  navigator_id TEXT,
  -- Who is asked to come.
  invitee_ids JSONB NOT NULL,
  shared_editor BOOLEAN NOT NULL,
  shared_terminal BOOLEAN NOT NULL,
  voice_video_enabled BOOLEAN NOT NULL,
  recording_enabled BOOLEAN NOT NULL,
  current_file TEXT,
  scheduled_at TIMESTAMPTZ,
  started_at TIMESTAMPTZ,
  ended_at TIMESTAMPTZ,
  -- As planned; as it was once the session is over.
  duration_minutes BIGINT,
  recording_url TEXT,
  review_id TEXT,
  end_reason TEXT,
  -- The number of the newest event, taken under this row's lock; and when somebody last did something.
  last_seq BIGINT NOT NULL,
  active_at TIMESTAMPTZ
);
CREATE INDEX pairing_sessions_status ON pairing_sessions (organization_id, status, scheduled_at);
CREATE INDEX pairing_sessions_project ON pairing_sessions (organization_id, project_id);
CREATE INDEX pairing_sessions_review ON pairing_sessions (organization_id, review_id);
CREATE INDEX pairing_sessions_idle ON pairing_sessions (status, active_at);
CREATE INDEX pairing_sessions_ended ON pairing_sessions (organization_id, ended_at);

CREATE TABLE pairing_participants (
  id TEXT PRIMARY KEY,
  organization_id TEXT NOT NULL,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  session_id TEXT NOT NULL,
  user_id TEXT NOT NULL,
  role TEXT NOT NULL,
  recording_consent BOOLEAN NOT NULL,
  joined_at TIMESTAMPTZ NOT NULL,
  left_at TIMESTAMPTZ
);
CREATE UNIQUE INDEX pairing_participants_user ON pairing_participants (session_id, user_id);
CREATE INDEX pairing_participants_sessions ON pairing_participants (organization_id, user_id);

CREATE TABLE pairing_annotations (
  id TEXT PRIMARY KEY,
  organization_id TEXT NOT NULL,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  session_id TEXT,
  file_path TEXT NOT NULL,
  line BIGINT NOT NULL,
  content TEXT NOT NULL,
  author_id TEXT NOT NULL,
  resolved_at TIMESTAMPTZ,
  resolved_by TEXT
);
CREATE INDEX pairing_annotations_session ON pairing_annotations (session_id, file_path, line);

CREATE TABLE pairing_presence (
  id TEXT PRIMARY KEY,
  organization_id TEXT NOT NULL,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  user_id TEXT NOT NULL,
  status TEXT NOT NULL,
  -- The one synchronous session that somebody is in.
  active_session_id TEXT,
  last_seen TIMESTAMPTZ NOT NULL
);
CREATE UNIQUE INDEX pairing_presence_user ON pairing_presence (organization_id, user_id);
CREATE INDEX pairing_presence_session ON pairing_presence (active_session_id);

-- What has happened in a session, for those who follow it.
CREATE TABLE pairing_events (
  id TEXT PRIMARY KEY,
  organization_id TEXT NOT NULL,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  session_id TEXT NOT NULL,
  seq BIGINT NOT NULL,
  kind TEXT NOT NULL,
  user_id TEXT,
  -- The one it is for; everybody otherwise.
  to_user_id TEXT,
  data JSONB NOT NULL
);
CREATE UNIQUE INDEX pairing_events_seq ON pairing_events (session_id, seq);
CREATE INDEX pairing_events_age ON pairing_events (created_at);

CREATE TABLE innovation_ideas (
  id TEXT PRIMARY KEY,
  organization_id TEXT NOT NULL,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  project_id TEXT,
  title TEXT NOT NULL,
  description TEXT NOT NULL,
  category TEXT NOT NULL,
  author_id TEXT,
  status TEXT NOT NULL,
  score JSONB,
  -- Impact and alignment less effort.
  score_value DOUBLE PRECISION,
  -- Those for it less those against it.
  vote_count BIGINT NOT NULL,
  up_votes BIGINT NOT NULL,
  down_votes BIGINT NOT NULL,
  linked_task_id TEXT,
  linked_roadmap_item TEXT,
  experiment_id TEXT,
  status_reason TEXT,
  decided_at TIMESTAMPTZ,
  -- What it is being converted to, and since when.
  converting_to TEXT,
  converting_since TIMESTAMPTZ
);
CREATE INDEX innovation_ideas_status ON innovation_ideas (organization_id, status, vote_count);
CREATE INDEX innovation_ideas_project ON innovation_ideas (organization_id, project_id);
CREATE INDEX innovation_ideas_experiment ON innovation_ideas (organization_id, experiment_id);

CREATE TABLE innovation_votes (
  id TEXT PRIMARY KEY,
  organization_id TEXT NOT NULL,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  idea_id TEXT NOT NULL,
  user_id TEXT NOT NULL,
  value BIGINT NOT NULL
);
CREATE UNIQUE INDEX innovation_votes_user ON innovation_votes (idea_id, user_id);

CREATE TABLE innovation_comments (
  id TEXT PRIMARY KEY,
  organization_id TEXT NOT NULL,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  idea_id TEXT NOT NULL,
  author_id TEXT,
  body TEXT NOT NULL
);
CREATE INDEX innovation_comments_idea ON innovation_comments (idea_id, created_at);

CREATE TABLE innovation_time (
  id TEXT PRIMARY KEY,
  organization_id TEXT NOT NULL,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  user_id TEXT NOT NULL,
  idea_id TEXT,
  minutes BIGINT NOT NULL,
  date TEXT NOT NULL
);
CREATE INDEX innovation_time_user ON innovation_time (organization_id, user_id, date);
CREATE INDEX innovation_time_idea ON innovation_time (idea_id);
