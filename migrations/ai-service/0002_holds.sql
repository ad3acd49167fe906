-- What is held to the end of a transaction where no row stands for it: which model is the default, what is set for models, and how
-- many rows a list has.
CREATE TABLE ai_holds (
  id TEXT PRIMARY KEY,
  touched_at TIMESTAMPTZ NOT NULL
);
