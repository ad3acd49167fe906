-- Bindings that are gone here and may still be at the broker: it may have been away when they went.
CREATE TABLE berth_unbound (
    plugin TEXT NOT NULL,
    pattern TEXT NOT NULL,
    PRIMARY KEY (plugin, pattern)
);
