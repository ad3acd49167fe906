-- Answers of requests that carried an Idempotency-Key, for a day.
CREATE TABLE berth_idempotency (
    -- SHA-256 of organization, user, method, path and key: bounded whatever the client sends.
    id TEXT PRIMARY KEY,
    organization_id TEXT,
    user_id TEXT,
    -- Method and path.
    route TEXT NOT NULL,
    -- SHA-256 of query, media type and body: the same key with another request is refused.
    request_hash TEXT NOT NULL,
    -- Which attempt holds the key: only that one may record an answer.
    attempt_id TEXT NOT NULL,
    -- Another attempt may take the key over after this, when the first one's host is gone.
    locked_until TIMESTAMPTZ NOT NULL,
    -- NULL while the request runs; 0 when its answer was too large to keep.
    status BIGINT,
    headers JSONB,
    body BYTEA,
    created_at TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL
);

CREATE INDEX berth_idempotency_expires_at ON berth_idempotency (expires_at);
