-- When an account and the mailbox of its address were first seen in one hand. Unknown for accounts that are older: the next password
-- that is set by mail ends what they have beside it, once.
ALTER TABLE users ADD COLUMN holder_known_at TIMESTAMPTZ;
