-- Vectors of entries for the search among the nearest, where pgvector (0.8 or newer) is; without it this step waits for it. Beside
-- `entries`, so that a search among a partition's vectors reads them and nothing else. The index over `meaning` is as the
-- configuration wishes: see `db/vectors.rs`.
CREATE TABLE entry_vectors (
    key        bytea PRIMARY KEY REFERENCES entries (key) ON DELETE CASCADE,
    tenant     text NOT NULL CHECK (tenant <> ''),
    partition  bytea NOT NULL CHECK (length(partition) = 32),
    -- As the entry's.
    expires_at bigint NOT NULL,
    -- Of the prompt; of unit length. The partition is one embedder's, so that vectors of two are never compared.
    meaning    halfvec(384) NOT NULL
);
-- How many vectors a partition has; a small one is compared as a whole.
CREATE INDEX entry_vectors_partition ON entry_vectors (partition);
SELECT ish_protect_by_tenant('entry_vectors');
