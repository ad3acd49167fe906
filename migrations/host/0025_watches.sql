-- For how long and against what the build that serves is watched, as its switch said: so that a restart goes on with it, and
-- other hosts watch it too. NULL where nobody watches.
ALTER TABLE berth_plugins ADD COLUMN watch JSONB;
