-- Where pgvector is, as 0014 waits for it. To put a vector into an index over `meaning` takes milliseconds, and a partition of up to two
-- thousand vectors is compared as a whole anyway: only what comes to a larger one goes there. Of those that were stored before, all did.
ALTER TABLE entry_vectors ADD COLUMN is_indexed boolean NOT NULL DEFAULT true;
-- They are made again, of those alone: see `db/vectors.rs`.
DROP INDEX IF EXISTS entry_vectors_hnsw, entry_vectors_ivfflat;
-- How many vectors a partition has, and how many of them in no index; those are compared one by one.
DROP INDEX entry_vectors_partition;
CREATE INDEX entry_vectors_partition ON entry_vectors (partition, is_indexed);
