-- Calendars, events with their recurrence, who takes part, and what hangs on them.

CREATE TABLE calendar_calendars (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  name TEXT NOT NULL,
  description TEXT,
  owner_type TEXT NOT NULL,
  owner_id TEXT NOT NULL,
  color TEXT NOT NULL,
  timezone TEXT NOT NULL
);
CREATE INDEX calendar_calendars_owner ON calendar_calendars (organization_id, owner_type, owner_id);

CREATE TABLE calendar_events (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  calendar_id TEXT,
  project_id TEXT,
  user_id TEXT,
  agent_id TEXT,
  environment_id TEXT,
  environment_name TEXT,
  title TEXT NOT NULL,
  description TEXT,
  location TEXT,
  start_time TIMESTAMPTZ NOT NULL,
  end_time TIMESTAMPTZ NOT NULL,
  all_day BOOLEAN NOT NULL,
  timezone TEXT NOT NULL,
  event_type TEXT NOT NULL,
  status TEXT NOT NULL,
  plan_id TEXT,
  plan_step_id TEXT,
  time_rules JSONB,
  rrule TEXT,
  rdates JSONB NOT NULL,
  exdates JSONB NOT NULL,
  recurrence_parent_id TEXT,
  recurrence_id TIMESTAMPTZ,
  visibility TEXT NOT NULL,
  organizer_id TEXT NOT NULL,
  metadata JSONB NOT NULL,
  uid TEXT NOT NULL,
  sequence BIGINT NOT NULL,
  actual_start TIMESTAMPTZ,
  actual_end TIMESTAMPTZ,
  is_recurring BOOLEAN NOT NULL,
  -- When the last occurrence is over; far away for a series without an end.
  until_time TIMESTAMPTZ NOT NULL,
  last_start TIMESTAMPTZ,
  -- Whom the visibility `team` means.
  team_ids JSONB NOT NULL,
  -- What it was made from, such as `incident:<id>`.
  origin TEXT,
  -- The place in one spelling, where it is a room.
  room TEXT
);
CREATE INDEX calendar_events_range ON calendar_events (organization_id, start_time, until_time);
CREATE INDEX calendar_events_until ON calendar_events (organization_id, until_time);
CREATE INDEX calendar_events_user ON calendar_events (organization_id, user_id, until_time);
CREATE INDEX calendar_events_organizer ON calendar_events (organization_id, organizer_id, until_time);
CREATE INDEX calendar_events_calendar ON calendar_events (calendar_id, until_time);
CREATE INDEX calendar_events_project ON calendar_events (organization_id, project_id, until_time);
CREATE INDEX calendar_events_plan ON calendar_events (organization_id, plan_id);
CREATE INDEX calendar_events_agent ON calendar_events (organization_id, agent_id, until_time);
CREATE INDEX calendar_events_room ON calendar_events (organization_id, room, until_time);
CREATE UNIQUE INDEX calendar_events_override ON calendar_events (recurrence_parent_id, recurrence_id);
CREATE UNIQUE INDEX calendar_events_origin ON calendar_events (organization_id, origin);
CREATE INDEX calendar_events_uid ON calendar_events (organization_id, uid);

CREATE TABLE calendar_attendees (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  event_id TEXT NOT NULL,
  user_id TEXT,
  email TEXT,
  response TEXT NOT NULL,
  is_required BOOLEAN NOT NULL
);
CREATE UNIQUE INDEX calendar_attendees_user ON calendar_attendees (event_id, user_id);
CREATE UNIQUE INDEX calendar_attendees_email ON calendar_attendees (event_id, email);
CREATE INDEX calendar_attendees_events ON calendar_attendees (organization_id, user_id, event_id);

CREATE TABLE calendar_reminders (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  event_id TEXT NOT NULL,
  user_id TEXT NOT NULL,
  minutes_before BIGINT NOT NULL,
  channel TEXT NOT NULL,
  sent_at TIMESTAMPTZ,
  -- When it fires next, and for the occurrence that begins when; none when nothing is to come.
  due_at TIMESTAMPTZ,
  occurrence_start TIMESTAMPTZ
);
CREATE UNIQUE INDEX calendar_reminders_once ON calendar_reminders (event_id, user_id, minutes_before, channel);
CREATE INDEX calendar_reminders_due ON calendar_reminders (due_at);

CREATE TABLE calendar_conflicts (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  event_id TEXT NOT NULL,
  other_event_id TEXT NOT NULL,
  type TEXT NOT NULL,
  severity TEXT NOT NULL,
  status TEXT NOT NULL,
  start_time TIMESTAMPTZ NOT NULL,
  end_time TIMESTAMPTZ NOT NULL,
  resolution TEXT
);
CREATE UNIQUE INDEX calendar_conflicts_pair ON calendar_conflicts (event_id, other_event_id, type);
CREATE INDEX calendar_conflicts_other ON calendar_conflicts (other_event_id);

CREATE TABLE calendar_time_rules (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  project_id TEXT NOT NULL,
  environment TEXT NOT NULL,
  allowed_hours JSONB NOT NULL,
  blocked_days JSONB NOT NULL,
  timezone TEXT NOT NULL
);
CREATE UNIQUE INDEX calendar_time_rules_key ON calendar_time_rules (organization_id, project_id, environment);

CREATE TABLE calendar_timeline_predictions (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  plan_id TEXT NOT NULL,
  plan_step_id TEXT,
  predicted_start TIMESTAMPTZ NOT NULL,
  predicted_end TIMESTAMPTZ NOT NULL,
  confidence DOUBLE PRECISION NOT NULL,
  basis JSONB NOT NULL
);
CREATE UNIQUE INDEX calendar_timeline_predictions_key
  ON calendar_timeline_predictions (organization_id, plan_id, COALESCE(plan_step_id, ''));

CREATE TABLE calendar_feeds (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  name TEXT NOT NULL,
  user_id TEXT NOT NULL,
  calendar_id TEXT,
  token_hash TEXT NOT NULL,
  team_ids JSONB NOT NULL,
  revoked_at TIMESTAMPTZ,
  last_used_at TIMESTAMPTZ
);
CREATE UNIQUE INDEX calendar_feeds_token ON calendar_feeds (token_hash);
CREATE INDEX calendar_feeds_user ON calendar_feeds (organization_id, user_id);

-- One row for everybody and everything that can be taken twice: who writes an event of theirs holds it.
CREATE TABLE calendar_subjects (
  id TEXT PRIMARY KEY,
  touched_at TIMESTAMPTZ NOT NULL
);
