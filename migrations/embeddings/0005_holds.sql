-- What is held to the end of a transaction where no row stands for it: which model is the default. One row an organization, and one
-- for everybody.
CREATE TABLE emb_holds (
  id TEXT PRIMARY KEY,
  touched_at TIMESTAMPTZ NOT NULL
);
