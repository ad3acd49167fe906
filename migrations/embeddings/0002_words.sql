-- Passages are found by their words too. What a name such as `parseUserInput` is made of stands beside the text, which the index takes
-- for one word.

ALTER TABLE emb_chunks ADD COLUMN words TEXT;

CREATE TEXT INDEX emb_chunks_text ON emb_chunks (content, words);
