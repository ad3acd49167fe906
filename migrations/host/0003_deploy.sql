-- Which build of each plugin serves: the current pointer.
CREATE TABLE berth_plugins (
    name TEXT PRIMARY KEY,
    revision BIGINT NOT NULL,
    sha256 TEXT NOT NULL,
    -- The component file of the manifest as it was last deployed: another digest there is a new build.
    file_sha256 TEXT,
    updated_at TIMESTAMPTZ NOT NULL
);

-- What was done with builds, and how it ended. A build is the row of its deploy; a rollback names the same revision again.
CREATE TABLE berth_versions (
    id TEXT PRIMARY KEY,
    plugin TEXT NOT NULL,
    -- deploy, rollback, or start for a build that could not be loaded at start
    action TEXT NOT NULL,
    -- api or file
    origin TEXT NOT NULL,
    -- none when the deploy failed: only a build that served has a number
    revision BIGINT,
    previous_revision BIGINT,
    sha256 TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    -- the component's own version
    component_version TEXT,
    actor TEXT NOT NULL,
    -- switched or failed
    outcome TEXT NOT NULL,
    reason TEXT,
    prepare_ms BIGINT NOT NULL,
    flip_us BIGINT,
    drained_ms BIGINT,
    -- whether calls were cancelled at the end of the drain
    is_cut_short BOOLEAN,
    created_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX berth_versions_by_plugin ON berth_versions (plugin, id);
CREATE INDEX berth_versions_by_revision ON berth_versions (plugin, revision);
