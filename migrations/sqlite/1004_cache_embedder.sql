-- cache.db: the embedder that entries are kept under. A process that has another one reads so when it starts, enqueues their move, and notes
-- its own (src/cache/reembed.rs).
CREATE TABLE cache_embedder (
    only_one INTEGER PRIMARY KEY DEFAULT 1 CHECK (only_one = 1),
    embedder TEXT NOT NULL
) STRICT;
