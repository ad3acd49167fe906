-- What the host has told of itself: deploys, trials, reverts, failures and traps, for people to read. The oldest rows go first.
CREATE TABLE berth_events (
    position BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_type TEXT NOT NULL,
    data TEXT NOT NULL,
    instance TEXT NOT NULL,
    occurred_at TIMESTAMPTZ NOT NULL
);
