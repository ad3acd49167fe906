-- Whose administrators hear of a GLOBAL secret that expires: the organization of whoever made it.

ALTER TABLE secret_secrets ADD COLUMN home_organization_id TEXT;
