-- The embedder that entries are kept under: a process that has another one reads so when it starts, enqueues their move, and notes its own
-- (src/cache/reembed.rs).
CREATE TABLE cache_embedder (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    embedder text NOT NULL
);
SELECT ish_protect('cache_embedder');
