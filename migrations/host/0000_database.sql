-- Messages a plugin has handled: the same one must not have its effect twice (72 hours).
CREATE TABLE berth_handled (
    plugin TEXT NOT NULL,
    message_id TEXT NOT NULL,
    handled_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (plugin, message_id)
);

CREATE INDEX berth_handled_by_age ON berth_handled (handled_at);
