-- Whose turn it is with an alert: two messages about one alert at once must not suggest two issues.
CREATE TABLE project_alerts (
  id TEXT PRIMARY KEY,
  organization_id TEXT NOT NULL,
  turns BIGINT NOT NULL
);
