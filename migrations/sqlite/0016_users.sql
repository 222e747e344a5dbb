-- ish.db: people, as a provider of identities names them.

-- Conversations and messages of a user stand under the tenant `TENANT/ID-OF-THE-USER`, so that what keeps tenants apart keeps users
-- apart; no tenant's own name holds a slash.
CREATE TABLE users (
    id           TEXT PRIMARY KEY,
    tenant       TEXT NOT NULL,
    provider     TEXT NOT NULL,
    -- The identity's name there.
    external_id  TEXT NOT NULL,
    -- Milliseconds since the Unix epoch.
    created_at   INTEGER NOT NULL,
    last_seen_at INTEGER NOT NULL,
    -- Looked up by all three on each request that names a user who is not remembered; a tenant's users are listed in this order.
    UNIQUE (tenant, provider, external_id)
) STRICT, WITHOUT ROWID;

-- A key of one user; a key that may act for any of its tenant's users (a role of its own, which the CHECK of the older column cannot
-- learn).
ALTER TABLE keys ADD COLUMN user_id TEXT REFERENCES users (id) CHECK (user_id IS NULL OR role = 'user');
ALTER TABLE keys ADD COLUMN is_service INTEGER NOT NULL DEFAULT 0
    CHECK (is_service IN (0, 1) AND (is_service = 0 OR role = 'user' AND user_id IS NULL));
