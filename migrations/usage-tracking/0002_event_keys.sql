-- The keys of events that are gone while they could still be reported once more: whoever does so is told that they are known.

CREATE TABLE usage_event_keys (
  event_key TEXT PRIMARY KEY,
  organization_id TEXT,
  received_at TIMESTAMPTZ NOT NULL,
  occurred_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX usage_event_keys_received ON usage_event_keys (received_at);
