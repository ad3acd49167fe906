-- What is held to the end of a transaction where no row stands for it yet: a review that a session may be offered for.
CREATE TABLE pairing_holds (
  id TEXT PRIMARY KEY,
  touched_at TIMESTAMPTZ NOT NULL
);
