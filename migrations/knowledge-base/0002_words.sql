-- Full-text search over what entries are found by: FTS5 in SQLite, tsvector in PostgreSQL.

CREATE TEXT INDEX kb_search_index_text ON kb_search_index (title WEIGHT 3, tags WEIGHT 2, terms);
