-- What components were compiled to, in parts, so that a host need not compile what another one has. The name says of which
-- component it is and for which engine, settings and processor; whoever reads it authenticates it. Empty where one host has
-- the database to itself.
CREATE TABLE berth_machine_code_parts (
    name TEXT NOT NULL,
    part BIGINT NOT NULL,
    bytes BYTEA NOT NULL,
    stored_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (name, part)
);
