-- How many a search compares is counted without looking at them.
CREATE INDEX IF NOT EXISTS emb_chunks_counted ON emb_chunks (collection_id, dims, project_id);
CREATE INDEX IF NOT EXISTS emb_chunks_counted_loose ON emb_chunks (organization_id, dims, collection_id, project_id, embedding_model);
