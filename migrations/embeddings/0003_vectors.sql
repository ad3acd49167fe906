-- The database compares the vectors of passages itself, where it can.

ALTER TABLE emb_chunks ALTER COLUMN vector TYPE VECTOR;
