-- For whom steps are done. A workflow acts for whoever last said what it does or what starts it, a run for one user to its end.

ALTER TABLE workflow_workflows ADD COLUMN acts_for TEXT;
ALTER TABLE workflow_runs ADD COLUMN acts_for TEXT;
-- Where nothing stands, the author of the run's version does.
UPDATE workflow_runs SET acts_for = created_by WHERE trigger_type = 'manual';
