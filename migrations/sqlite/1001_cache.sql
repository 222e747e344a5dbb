-- cache.db: what can be made again. Written with synchronous=NORMAL.

-- Looked up by key (exact) and by normalized; loaded by partition into the index at start.
CREATE TABLE entries (
    key        BLOB PRIMARY KEY CHECK (length(key) = 32),
    normalized BLOB CHECK (length(normalized) = 32),
    partition  BLOB CHECK (length(partition) = 32),
    tenant     TEXT NOT NULL,
    scope      TEXT NOT NULL,
    prompt     TEXT NOT NULL,
    completion TEXT NOT NULL,
    provider   TEXT NOT NULL,
    elapsed_ms INTEGER NOT NULL,
    tags       TEXT NOT NULL DEFAULT '[]',
    embedder   TEXT,
    embedding  BLOB,
    words      BLOB,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL CHECK (expires_at > created_at)
) STRICT, WITHOUT ROWID;
CREATE INDEX entries_normalized ON entries (normalized) WHERE normalized IS NOT NULL;
-- The 16-byte identifiers of the index are the first half of the key: a range of the primary key finds them.
-- Expiry deletes what is past; the browser lists a tenant's newest.
CREATE INDEX entries_expiry ON entries (expires_at);
CREATE INDEX entries_newest ON entries (tenant, created_at DESC);

-- Pairs that a user reported: a question that must never again get that entry's question's answer.
CREATE TABLE blocked_pairs (
    asked      BLOB NOT NULL CHECK (length(asked) = 32),
    answered   BLOB NOT NULL CHECK (length(answered) = 32),
    tenant     TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (asked, answered)
) STRICT, WITHOUT ROWID;
