-- Changes of plugins' entries that were made while hosts ran. The newest one of a plugin lies over its entry in plugins.toml.
CREATE TABLE berth_plugin_changes (
    -- Numbers follow each other over all plugins: of two hosts that change something at the same moment, one has the number.
    generation BIGINT PRIMARY KEY,
    -- Tells whether a commit whose answer was lost has happened.
    id TEXT NOT NULL,
    plugin TEXT NOT NULL,
    -- add, set, remove, or release: the file's entry counts again
    action TEXT NOT NULL,
    -- The entry as TOML; none for remove and release.
    entry TEXT,
    -- The file's entry at that moment; none where it had none. Another one there is newer than the change.
    file_sha256 TEXT,
    actor TEXT NOT NULL,
    changed_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX berth_plugin_changes_by_plugin ON berth_plugin_changes (plugin, generation);
