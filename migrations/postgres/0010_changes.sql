-- What other instances have to know of a write, in the transaction of that write. Read by every instance in the order of (xid, id), a few
-- times a second; kept for an hour. `at` is the server's time, for the age of a row alone.
CREATE TABLE changes (
    xid        xid8 NOT NULL DEFAULT pg_current_xact_id(),
    id         bigint GENERATED ALWAYS AS IDENTITY,
    kind       text NOT NULL CHECK (kind IN ('learned', 'evicted', 'blocked', 'key')),
    -- A key is known by its hash before its tenant is.
    tenant     text CHECK (tenant <> ''),
    -- The tenant's generation that begins with this eviction.
    generation bigint CHECK (generation > 0),
    -- What was meant by it, as JSON: once, where it took several rows.
    selection  text,
    -- Of entries: key and partition, 64 bytes each (without one: zeros); of a blocked pair both normalized keys.
    digests    bytea NOT NULL DEFAULT '' CHECK (length(digests) % 64 = 0),
    -- The process that wrote it, as it calls itself.
    made_by    uuid NOT NULL,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (xid, id),
    CHECK ((tenant IS NULL) = (kind = 'key')),
    CHECK ((generation IS NULL) = (kind <> 'evicted'))
);
-- What was evicted while an entry waited to be written.
CREATE INDEX changes_generation ON changes (tenant, generation) WHERE generation IS NOT NULL;
SELECT ish_protect_by_tenant('changes');

-- Up to where changes were deleted: who has not read as far has missed some.
CREATE TABLE changes_deleted (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    xid     xid8 NOT NULL,
    id      bigint NOT NULL
);
INSERT INTO changes_deleted (xid, id) VALUES ('0', 0);
SELECT ish_protect('changes_deleted');

-- How often entries of a tenant were evicted. Whoever evicts changes the row first and deletes then; whoever stores entries holds it
-- meanwhile: no entry is stored that was evicted before.
CREATE TABLE generations (
    tenant     text PRIMARY KEY CHECK (tenant <> ''),
    generation bigint NOT NULL DEFAULT 0 CHECK (generation >= 0)
);
SELECT ish_protect_by_tenant('generations');
