-- How often a tag fell that values in Redis and in instances' memory depend on (src/memo/tags.rs): a value made before the last time is
-- believed nowhere. One row is written by each fall; all are read by an instance that starts.
CREATE TABLE memo_falls (
    tag   smallint PRIMARY KEY CHECK (tag BETWEEN 0 AND 16383),
    count bigint NOT NULL CHECK (count > 0)
);
SELECT ish_protect('memo_falls');

-- What fell is nobody's: a tag is a number that hides whose it is. `selection` says which tags, each with its count.
ALTER TABLE changes
    DROP CONSTRAINT changes_kind_check,
    DROP CONSTRAINT changes_check,
    ADD CHECK (kind IN ('learned', 'evicted', 'blocked', 'key', 'fallen')),
    ADD CHECK ((tenant IS NULL) = (kind IN ('key', 'fallen')));
