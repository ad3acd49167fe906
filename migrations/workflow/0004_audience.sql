-- For whom a run is, among those who see its project: what tells of something private is not for everybody. Events of ai, mcp and
-- learning did not say so before, and may have been private.

ALTER TABLE workflow_runs ADD COLUMN audience TEXT NOT NULL DEFAULT 'organization';
UPDATE workflow_runs SET audience = 'person' WHERE trigger_type = 'event' AND (
    CAST(trigger_payload -> 'data' ->> 'isPrivate' AS TEXT) IN ('true', '1')
    OR CAST(trigger_payload -> 'data' ->> 'isPublic' AS TEXT) IN ('false', '0')
    OR LOWER(trigger_payload -> 'data' ->> 'scope') IN ('user', 'personal', 'team')
    OR (trigger_payload -> 'data' ->> 'visibility' IN ('private', 'team') AND trigger_payload ->> 'type' NOT LIKE 'project.%')
    OR trigger_payload ->> 'type' LIKE 'ai.%' OR trigger_payload ->> 'type' LIKE 'mcp.tool.%'
    OR trigger_payload ->> 'type' LIKE 'learning.%'
);
UPDATE workflow_runs SET audience = 'managers' WHERE trigger_type = 'event' AND (
    trigger_payload ->> 'type' LIKE 'audit.%' OR trigger_payload ->> 'type' LIKE 'auth.%'
    OR trigger_payload ->> 'type' LIKE 'invitation.%' OR trigger_payload ->> 'type' LIKE 'notification.%'
    OR trigger_payload ->> 'type' LIKE 'organization.%' OR trigger_payload ->> 'type' LIKE 'role.%'
    OR trigger_payload ->> 'type' LIKE 'secret.%' OR trigger_payload ->> 'type' LIKE 'session.%'
    OR trigger_payload ->> 'type' LIKE 'sessions.%' OR trigger_payload ->> 'type' LIKE 'team.%'
    OR trigger_payload ->> 'type' LIKE 'user.%'
);
UPDATE workflow_runs SET audience = 'person'
WHERE parent_run_id IN (SELECT r.id FROM workflow_runs r WHERE r.audience = 'person');
UPDATE workflow_runs SET audience = 'managers'
WHERE parent_run_id IN (SELECT r.id FROM workflow_runs r WHERE r.audience = 'managers');
