-- Data keys of the vault, each encrypted under the host's master key.
CREATE TABLE berth_data_keys (
    id TEXT NOT NULL PRIMARY KEY,
    purpose TEXT NOT NULL,
    -- Empty for the host's own keys and for calls without an organization.
    organization_id TEXT NOT NULL,
    wrapped BYTEA NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    -- A retired key opens what it sealed and seals nothing new.
    retired_at TIMESTAMPTZ
);

-- One active key for each purpose and organization, whichever host makes it first.
CREATE UNIQUE INDEX berth_data_keys_active ON berth_data_keys (purpose, organization_id) WHERE retired_at IS NULL;
