-- The outbox, the queues and what belongs to them.

-- Messages between the commit that published them and the queues they go to. Empty most of the time.
CREATE TABLE berth_outbox (
    position BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind TEXT NOT NULL,
    message_id TEXT NOT NULL,
    message_type TEXT NOT NULL,
    data TEXT NOT NULL,
    queue TEXT,
    ordering_key TEXT,
    organization_id TEXT,
    user_id TEXT,
    source_service TEXT NOT NULL,
    source_instance TEXT NOT NULL,
    correlation_id TEXT,
    causation_id TEXT,
    published_at TIMESTAMPTZ NOT NULL,
    held_until TIMESTAMPTZ
);
CREATE INDEX berth_outbox_due ON berth_outbox (held_until, position);

-- One row for each message in each queue, until it is handled. Ready: neither held nor blocked. A lease is a hold with
-- a lease_id; an earlier message with the same ordering key blocks.
CREATE TABLE berth_queue (
    position BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue TEXT NOT NULL,
    kind TEXT NOT NULL,
    message_id TEXT NOT NULL,
    message_type TEXT NOT NULL,
    data TEXT NOT NULL,
    ordering_key TEXT,
    is_blocked BOOLEAN NOT NULL,
    organization_id TEXT,
    user_id TEXT,
    source_service TEXT NOT NULL,
    source_instance TEXT NOT NULL,
    correlation_id TEXT,
    causation_id TEXT,
    published_at TIMESTAMPTZ NOT NULL,
    failures BIGINT NOT NULL DEFAULT 0,
    recoveries BIGINT NOT NULL DEFAULT 0,
    held_until TIMESTAMPTZ,
    lease_id TEXT,
    leased_by TEXT
);
CREATE INDEX berth_queue_ready ON berth_queue (queue, is_blocked, held_until, position);
CREATE INDEX berth_queue_order ON berth_queue (queue, ordering_key, is_blocked, position) WHERE ordering_key IS NOT NULL;
CREATE INDEX berth_queue_leases ON berth_queue (leased_by) WHERE leased_by IS NOT NULL;

CREATE TABLE berth_dead_letters (
    position BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue TEXT NOT NULL,
    kind TEXT NOT NULL,
    message_id TEXT NOT NULL,
    message_type TEXT NOT NULL,
    data TEXT NOT NULL,
    ordering_key TEXT,
    organization_id TEXT,
    user_id TEXT,
    source_service TEXT NOT NULL,
    source_instance TEXT NOT NULL,
    correlation_id TEXT,
    causation_id TEXT,
    published_at TIMESTAMPTZ NOT NULL,
    failures BIGINT NOT NULL,
    reason TEXT NOT NULL,
    dead_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX berth_dead_letters_queue ON berth_dead_letters (queue, position);

-- Which event types each plugin's queue takes; stays while the plugin is not loaded.
CREATE TABLE berth_bindings (
    plugin TEXT NOT NULL,
    pattern TEXT NOT NULL,
    PRIMARY KEY (plugin, pattern)
);

-- Ids that publishers chose themselves, so that a repeated publish is one message.
CREATE TABLE berth_published (
    source_service TEXT NOT NULL,
    organization_id TEXT NOT NULL,
    message_id TEXT NOT NULL,
    published_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (source_service, organization_id, message_id)
);
CREATE INDEX berth_published_age ON berth_published (published_at);

CREATE TABLE berth_timers (
    plugin TEXT NOT NULL,
    name TEXT NOT NULL,
    schedule TEXT NOT NULL,
    next_at TIMESTAMPTZ NOT NULL,
    last_at TIMESTAMPTZ,
    PRIMARY KEY (plugin, name)
);
CREATE INDEX berth_timers_next ON berth_timers (next_at);
