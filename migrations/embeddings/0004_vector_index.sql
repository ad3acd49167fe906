-- PostgreSQL with pgvector compares the vectors of passages itself.
CREATE VECTOR INDEX ON emb_chunks (vector);
