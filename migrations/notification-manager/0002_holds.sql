-- What is held to the end of a transaction where no row stands for it yet: the digests of a user.
CREATE TABLE notification_holds (
  id TEXT PRIMARY KEY,
  touched_at TIMESTAMPTZ NOT NULL
);
