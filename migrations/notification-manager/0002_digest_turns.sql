-- Whose turn it is with the digests of a user: two notifications at once must not begin two digests.
CREATE TABLE notification_digest_turns (
  id TEXT PRIMARY KEY,
  organization_id TEXT NOT NULL,
  turns BIGINT NOT NULL
);
