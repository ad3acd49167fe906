-- The W3C traceparent of what published a message, so that what it causes belongs to the same tree.
ALTER TABLE berth_outbox ADD COLUMN trace TEXT;
ALTER TABLE berth_queue ADD COLUMN trace TEXT;
ALTER TABLE berth_dead_letters ADD COLUMN trace TEXT;
