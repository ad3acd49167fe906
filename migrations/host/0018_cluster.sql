-- Several hosts on one database: who they are, what they run, and the components they share.

-- One row for each running host; gone when it stops, and after a while when it is lost.
CREATE TABLE berth_hosts (
    -- This life of the host: new at every start.
    instance TEXT PRIMARY KEY,
    -- Machine and port.
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    started_at TIMESTAMPTZ NOT NULL,
    seen_at TIMESTAMPTZ NOT NULL,
    -- What it runs: name, revision, sha256 and state of each plugin.
    plugins JSONB NOT NULL
);

-- Components in parts, so that a host can load what was deployed on another one. Empty where one host has the database
-- to itself.
CREATE TABLE berth_component_parts (
    sha256 TEXT NOT NULL,
    part BIGINT NOT NULL,
    bytes BYTEA NOT NULL,
    stored_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (sha256, part)
);

-- Two hosts that deploy at the same moment: one of them has the number.
CREATE UNIQUE INDEX berth_versions_one_build ON berth_versions (plugin, revision)
    WHERE action = 'deploy' AND outcome = 'switched';
