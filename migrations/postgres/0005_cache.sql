-- What can be made again: answers, with the vectors of this model's embedder as bytes.
-- Looked up by key (exact) and by normalized; loaded in key order into the index at start.
CREATE TABLE entries (
    key        bytea PRIMARY KEY CHECK (length(key) = 32),
    normalized bytea CHECK (length(normalized) = 32),
    partition  bytea CHECK (length(partition) = 32),
    tenant     text NOT NULL CHECK (tenant <> ''),
    scope      text NOT NULL,
    -- The scope's model, by which entries are evicted.
    model      text NOT NULL GENERATED ALWAYS AS (coalesce(scope::json ->> 'model', '')) STORED,
    prompt     text NOT NULL,
    completion text NOT NULL,
    provider   text NOT NULL,
    elapsed_ms bigint NOT NULL,
    tags       text[] NOT NULL,
    embedder   text,
    embedding  bytea,
    words      bytea,
    -- Who asked for it: half a digest over the key and the request's `user`.
    made_by    bytea CHECK (length(made_by) = 16),
    -- Milliseconds since the Unix epoch.
    created_at bigint NOT NULL,
    expires_at bigint NOT NULL CHECK (expires_at > created_at)
);
-- The 16-byte identifiers of the index are the first half of the key: a range of the primary key finds them.
CREATE INDEX entries_normalized ON entries (normalized) WHERE normalized IS NOT NULL;
-- Expiry deletes what is past; the browser lists a tenant's newest, and evictions go through a tenant's.
CREATE INDEX entries_expiry ON entries (expires_at);
CREATE INDEX entries_newest ON entries (tenant, created_at DESC);
SELECT ish_protect_by_tenant('entries');

-- Pairs that a user reported: a question that must never again get that entry's question's answer.
CREATE TABLE blocked_pairs (
    asked      bytea NOT NULL CHECK (length(asked) = 32),
    answered   bytea NOT NULL CHECK (length(answered) = 32),
    tenant     text NOT NULL CHECK (tenant <> ''),
    created_at bigint NOT NULL,
    PRIMARY KEY (asked, answered)
);
SELECT ish_protect_by_tenant('blocked_pairs');
