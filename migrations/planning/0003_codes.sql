-- The last number behind the letters of a code, for each organization: HARB, HARB2, HARB3, …
CREATE TABLE project_codes (
  id TEXT PRIMARY KEY,
  organization_id TEXT NOT NULL,
  last_number BIGINT NOT NULL
);
