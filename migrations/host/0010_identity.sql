-- Signing keys that follow each other by themselves: each generation is made by one host only, is published for a while
-- before it signs, and can be ended before its time.
ALTER TABLE berth_signing_keys ADD COLUMN generation BIGINT;
ALTER TABLE berth_signing_keys ADD COLUMN signs_from TIMESTAMPTZ;
ALTER TABLE berth_signing_keys ADD COLUMN ended_at TIMESTAMPTZ;
UPDATE berth_signing_keys SET signs_from = created_at, generation = (
    SELECT COUNT(*) FROM berth_signing_keys o
    WHERE o.created_at < berth_signing_keys.created_at
        OR (o.created_at = berth_signing_keys.created_at AND o.id <= berth_signing_keys.id)
);
CREATE UNIQUE INDEX berth_signing_keys_by_generation ON berth_signing_keys (generation);

-- Keys for programs: a key acts for the user who made it, in one organization, within its scope.
CREATE TABLE berth_api_keys (
    id TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    user_id TEXT NOT NULL REFERENCES users (id),
    name TEXT NOT NULL,
    -- The first characters, to tell keys apart by.
    hint TEXT NOT NULL,
    secret_hash TEXT NOT NULL UNIQUE,
    -- Codes and wildcards.
    permissions JSONB NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL,
    last_used_at TIMESTAMPTZ,
    revoked_at TIMESTAMPTZ,
    revoked_by_user_id TEXT,
    created_by TEXT,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    version BIGINT NOT NULL
);
CREATE INDEX berth_api_keys_by_user ON berth_api_keys (user_id, organization_id, revoked_at);
CREATE INDEX berth_api_keys_by_organization ON berth_api_keys (organization_id, revoked_at);
CREATE INDEX berth_api_keys_by_expiry ON berth_api_keys (expires_at);

-- The states of sign-ins by a login provider that came back once already.
CREATE TABLE berth_used_login_states (
    state_hash TEXT PRIMARY KEY,
    used_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX berth_used_login_states_by_time ON berth_used_login_states (used_at);
