-- Ticks that a broker has and nobody has settled yet: the next one of the same timer waits for it.
CREATE TABLE berth_ticks (
    queue TEXT NOT NULL,
    message_type TEXT NOT NULL,
    sent_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (queue, message_type)
);
