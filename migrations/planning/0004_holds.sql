-- What is held to the end of a transaction where no row stands for it yet: an alert that may become an issue, and the codes of
-- the organization's projects.
CREATE TABLE project_holds (
  id TEXT PRIMARY KEY,
  touched_at TIMESTAMPTZ NOT NULL
);
