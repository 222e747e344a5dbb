-- Logins of browsers: a key was given once, and a cookie speaks for it since. The cookie is never stored, only its hash. What a login may
-- do is its key's, which is asked each time; whose it is not known before it is found: the system's role only.
CREATE TABLE logins (
    id         uuid PRIMARY KEY,
    -- Looked up on each request with a cookie that is not remembered.
    hash       bytea NOT NULL UNIQUE CHECK (length(hash) = 32),
    key_id     uuid NOT NULL REFERENCES keys (id) ON DELETE CASCADE,
    -- Milliseconds since the Unix epoch. `logins.lifetime` counts from here,
    created_at bigint NOT NULL,
    -- and `logins.idle` from here: noted once a minute at most.
    seen_at    bigint NOT NULL
);
-- Of one key: those that are too many, or are all to end.
CREATE INDEX logins_key ON logins (key_id, seen_at);
-- Whoever logs in deletes some that have ended.
CREATE INDEX logins_seen ON logins (seen_at);
SELECT ish_protect('logins');
