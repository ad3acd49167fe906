-- The project that a run tells of: whoever does not see the project sees nothing of the run.

ALTER TABLE workflow_runs ADD COLUMN project_id TEXT;
UPDATE workflow_runs SET project_id = trigger_payload -> 'data' ->> 'projectId' WHERE trigger_type = 'event';
UPDATE workflow_runs SET project_id = trigger_payload -> 'data' ->> 'id'
WHERE trigger_type = 'event' AND project_id IS NULL AND trigger_payload ->> 'type' LIKE 'project.%';
UPDATE workflow_runs SET project_id = (SELECT w.project_id FROM workflow_workflows w WHERE w.id = workflow_runs.workflow_id)
WHERE project_id IS NULL;
