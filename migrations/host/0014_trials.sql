-- A build on trial beside the one that serves, one for each plugin at most: what every host is to do with it.
CREATE TABLE berth_trials (
    plugin TEXT PRIMARY KEY,
    revision BIGINT NOT NULL,
    sha256 TEXT NOT NULL,
    -- canary or shadow
    mode TEXT NOT NULL,
    -- hundredths of a percent of the callers
    share BIGINT NOT NULL,
    -- the shares that follow by themselves, separated by commas
    steps TEXT NOT NULL,
    -- how long each share lasts
    every_ms BIGINT NOT NULL,
    actor TEXT NOT NULL,
    began_at TIMESTAMPTZ NOT NULL,
    stepped_at TIMESTAMPTZ NOT NULL
);

-- Where a build came from, in the words of who deployed it, and the signature it came with.
ALTER TABLE berth_versions ADD COLUMN source TEXT;
ALTER TABLE berth_versions ADD COLUMN signature TEXT;
