-- Models, collections, documents and their passages with vectors, and jobs that index again.

CREATE TABLE emb_models (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  provider TEXT NOT NULL,
  name TEXT NOT NULL,
  description TEXT,
  scope TEXT NOT NULL,
  dimensions BIGINT NOT NULL,
  max_input_tokens BIGINT NOT NULL,
  price_per_1m_micro BIGINT,
  default_threshold DOUBLE PRECISION,
  base_url TEXT,
  secret_id TEXT,
  is_enabled BOOLEAN NOT NULL,
  is_default BOOLEAN NOT NULL
);
CREATE UNIQUE INDEX emb_models_name ON emb_models (COALESCE(organization_id, ''), name);

INSERT INTO emb_models (id, created_at, updated_at, version, provider, name, description, scope, dimensions, max_input_tokens,
  price_per_1m_micro, default_threshold, is_enabled, is_default) VALUES
  ('builtin-lexical-256', '2026-01-01T00:00:00.000Z', '2026-01-01T00:00:00.000Z', 1, 'builtin', 'lexical-256',
   'Built in, offline and deterministic: hashes words and parts of words. It finds the same words in other forms; it knows no synonyms and no other language.',
   'GLOBAL', 256, 100000, 0, 0.2, TRUE, TRUE);

CREATE TABLE emb_collections (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  name TEXT NOT NULL,
  scope TEXT NOT NULL,
  project_id TEXT,
  user_id TEXT,
  embedding_model_id TEXT,
  dimensions BIGINT NOT NULL,
  chunk_size BIGINT NOT NULL,
  chunk_overlap BIGINT NOT NULL,
  distance_metric TEXT NOT NULL,
  source_type TEXT,
  document_count BIGINT NOT NULL,
  chunk_count BIGINT NOT NULL
);
CREATE UNIQUE INDEX emb_collections_name ON emb_collections
  (COALESCE(organization_id, ''), COALESCE(project_id, ''), COALESCE(user_id, ''), name);
CREATE INDEX emb_collections_source ON emb_collections (organization_id, source_type);

-- The vector stands before the content, which may be long: reading the one must not read the other.
CREATE TABLE emb_documents (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  scope TEXT NOT NULL,
  project_id TEXT,
  file_path TEXT,
  dims BIGINT NOT NULL,
  norm DOUBLE PRECISION NOT NULL,
  metadata JSONB,
  embedding_model TEXT,
  collection_id TEXT,
  source_id TEXT,
  source_type TEXT,
  title TEXT,
  content_hash TEXT NOT NULL,
  status TEXT NOT NULL,
  error_message TEXT,
  attempts BIGINT NOT NULL,
  is_supplied BOOLEAN NOT NULL,
  chunk_count BIGINT NOT NULL,
  token_count BIGINT,
  vector BYTEA,
  content TEXT NOT NULL
);
CREATE UNIQUE INDEX emb_documents_file ON emb_documents (organization_id, project_id, file_path)
  WHERE project_id IS NOT NULL AND file_path IS NOT NULL;
CREATE UNIQUE INDEX emb_documents_source ON emb_documents (collection_id, source_id)
  WHERE collection_id IS NOT NULL AND source_id IS NOT NULL;
CREATE INDEX emb_documents_organization ON emb_documents (organization_id, id);
CREATE INDEX emb_documents_collection ON emb_documents (collection_id, id);
CREATE INDEX emb_documents_project ON emb_documents (organization_id, project_id, id);
CREATE INDEX emb_documents_source_id ON emb_documents (organization_id, source_id);

CREATE TABLE emb_chunks (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  document_id TEXT NOT NULL,
  collection_id TEXT,
  project_id TEXT,
  embedding_model TEXT,
  dims BIGINT NOT NULL,
  norm DOUBLE PRECISION NOT NULL,
  vector BYTEA NOT NULL,
  chunk_index BIGINT NOT NULL,
  start_offset BIGINT NOT NULL,
  end_offset BIGINT NOT NULL,
  token_count BIGINT,
  metadata JSONB NOT NULL,
  content TEXT NOT NULL
);
CREATE UNIQUE INDEX emb_chunks_order ON emb_chunks (document_id, chunk_index);
CREATE INDEX emb_chunks_organization ON emb_chunks (organization_id, id);
CREATE INDEX emb_chunks_collection ON emb_chunks (collection_id, id);
CREATE INDEX emb_chunks_project ON emb_chunks (organization_id, project_id, id);

CREATE TABLE emb_jobs (
  id TEXT PRIMARY KEY,
  organization_id TEXT,
  created_by TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  version BIGINT NOT NULL,
  collection_id TEXT NOT NULL,
  job_type TEXT NOT NULL,
  status TEXT NOT NULL,
  phase TEXT NOT NULL,
  place TEXT NOT NULL,
  total_items BIGINT NOT NULL,
  processed_items BIGINT NOT NULL,
  failed_items BIGINT NOT NULL,
  errors JSONB NOT NULL,
  started_at TIMESTAMPTZ,
  completed_at TIMESTAMPTZ
);
CREATE UNIQUE INDEX emb_jobs_one_at_a_time ON emb_jobs (collection_id) WHERE status IN ('PENDING', 'RUNNING');
CREATE INDEX emb_jobs_organization ON emb_jobs (organization_id, created_at);
