-- Conversations, what is said in them, who takes part, and what became of what was asked.

CREATE TABLE messaging_conversations (
  id TEXT PRIMARY KEY,
  organization_id TEXT NOT NULL,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  type TEXT NOT NULL,
  context_type TEXT,
  context_id TEXT,
  project_id TEXT,
  name TEXT,
  title TEXT,
  topic TEXT,
  is_private BOOLEAN NOT NULL,
  is_archived BOOLEAN NOT NULL,
  last_message_at TIMESTAMPTZ,
  -- The number of the newest message, and of the newest change to one; both are taken under this row's lock.
  last_seq BIGINT NOT NULL,
  last_change BIGINT NOT NULL,
  -- The two of a direct conversation, and the same as one text.
  user_ids JSONB NOT NULL,
  direct_key TEXT
);
CREATE UNIQUE INDEX messaging_conversations_context ON messaging_conversations (organization_id, context_type, context_id);
CREATE UNIQUE INDEX messaging_conversations_direct ON messaging_conversations (organization_id, direct_key);
CREATE INDEX messaging_conversations_recent ON messaging_conversations (organization_id, type, last_message_at);
CREATE INDEX messaging_conversations_project ON messaging_conversations (organization_id, project_id);

CREATE TABLE messaging_messages (
  id TEXT PRIMARY KEY,
  organization_id TEXT NOT NULL,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  conversation_id TEXT NOT NULL,
  thread_id TEXT,
  seq BIGINT NOT NULL,
  content TEXT NOT NULL,
  message_type TEXT NOT NULL,
  sender_type TEXT NOT NULL,
  sender_id TEXT NOT NULL,
  client_message_id TEXT,
  structured_data JSONB,
  state TEXT,
  reply_count BIGINT NOT NULL,
  reactions JSONB NOT NULL,
  mentions JSONB NOT NULL,
  edited_at TIMESTAMPTZ,
  deleted_at TIMESTAMPTZ,
  metadata JSONB NOT NULL,
  -- The number of its last change, and that of the conversation's last change when it was written.
  change_seq BIGINT NOT NULL,
  change_base BIGINT NOT NULL,
  escalate_at TIMESTAMPTZ,
  escalation_level BIGINT NOT NULL
);
CREATE UNIQUE INDEX messaging_messages_seq ON messaging_messages (conversation_id, seq);
CREATE UNIQUE INDEX messaging_messages_client ON messaging_messages (conversation_id, client_message_id);
CREATE INDEX messaging_messages_change ON messaging_messages (conversation_id, change_seq);
CREATE INDEX messaging_messages_thread ON messaging_messages (thread_id, seq);
CREATE INDEX messaging_messages_state ON messaging_messages (organization_id, message_type, state);
CREATE INDEX messaging_messages_due ON messaging_messages (escalate_at) WHERE escalate_at IS NOT NULL;

CREATE TABLE messaging_participants (
  id TEXT PRIMARY KEY,
  organization_id TEXT NOT NULL,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  conversation_id TEXT NOT NULL,
  user_id TEXT NOT NULL,
  role TEXT NOT NULL,
  last_read_seq BIGINT NOT NULL,
  muted_until TIMESTAMPTZ,
  joined_at TIMESTAMPTZ NOT NULL
);
CREATE UNIQUE INDEX messaging_participants_once ON messaging_participants (conversation_id, user_id);
CREATE INDEX messaging_participants_user ON messaging_participants (organization_id, user_id);

-- Who a message is for: mentioned, or asked to decide.
CREATE TABLE messaging_addressees (
  id TEXT PRIMARY KEY,
  organization_id TEXT NOT NULL,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  conversation_id TEXT NOT NULL,
  message_id TEXT NOT NULL,
  seq BIGINT NOT NULL,
  user_id TEXT NOT NULL,
  kind TEXT NOT NULL
);
CREATE UNIQUE INDEX messaging_addressees_once ON messaging_addressees (message_id, kind, user_id);
CREATE INDEX messaging_addressees_user ON messaging_addressees (organization_id, user_id, kind, conversation_id, seq);
CREATE INDEX messaging_addressees_conversation ON messaging_addressees (conversation_id);

CREATE TABLE messaging_decisions (
  id TEXT PRIMARY KEY,
  organization_id TEXT NOT NULL,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  conversation_id TEXT NOT NULL,
  message_id TEXT NOT NULL,
  decision TEXT NOT NULL,
  rationale TEXT,
  alternatives JSONB NOT NULL,
  status TEXT NOT NULL,
  decided_by TEXT,
  decided_at TIMESTAMPTZ
);
CREATE UNIQUE INDEX messaging_decisions_message ON messaging_decisions (message_id);
CREATE INDEX messaging_decisions_recent ON messaging_decisions (organization_id, created_at);
CREATE INDEX messaging_decisions_conversation ON messaging_decisions (conversation_id);

CREATE TABLE messaging_escalations (
  id TEXT PRIMARY KEY,
  organization_id TEXT NOT NULL,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  conversation_id TEXT NOT NULL,
  message_id TEXT NOT NULL,
  level BIGINT NOT NULL,
  reason TEXT NOT NULL,
  escalate_to JSONB NOT NULL,
  priority TEXT NOT NULL,
  status TEXT NOT NULL
);
-- Once per level.
CREATE UNIQUE INDEX messaging_escalations_level ON messaging_escalations (message_id, level);
CREATE INDEX messaging_escalations_recent ON messaging_escalations (organization_id, created_at);
CREATE INDEX messaging_escalations_conversation ON messaging_escalations (conversation_id);
