-- Calls and answers of sessions go by their age, also while their session is used.
CREATE INDEX mcp_session_calls_leased ON mcp_session_calls (leased_until);
CREATE INDEX mcp_session_replies_updated ON mcp_session_replies (updated_at);
