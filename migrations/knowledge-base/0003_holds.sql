-- What is held to the end of a transaction where several rows say it together: how the categories of an organization stand, a row
-- for each organization.
CREATE TABLE kb_holds (
  id TEXT PRIMARY KEY,
  touched_at TIMESTAMPTZ NOT NULL
);
