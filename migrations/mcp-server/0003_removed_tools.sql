-- A tool that its server lists no more: what was decided about it holds when it comes back.
ALTER TABLE mcp_tools ADD COLUMN removed_at TIMESTAMPTZ;
