-- ish.db: logins of browsers. A key was given once, and a cookie speaks for it since, of which only the hash is stored.

CREATE TABLE logins (
    id         TEXT PRIMARY KEY,
    -- Looked up on each request with a cookie that is not remembered.
    hash       BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
    key_id     TEXT NOT NULL REFERENCES keys (id) ON DELETE CASCADE,
    -- Milliseconds since the Unix epoch. `logins.lifetime` counts from here,
    created_at INTEGER NOT NULL,
    -- and `logins.idle` from here: noted once a minute at most.
    seen_at    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Of one key: those that are too many, or are all to end.
CREATE INDEX logins_key ON logins (key_id, seen_at);
-- Whoever logs in deletes some that have ended.
CREATE INDEX logins_seen ON logins (seen_at);
