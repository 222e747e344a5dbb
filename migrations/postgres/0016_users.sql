-- People, as a provider of identities names them. Who asks is looked up before anything is known of the request: the system's role only.
-- Conversations, messages and texts of a user stand under the tenant `TENANT/ID-OF-THE-USER`, so that what keeps tenants apart keeps
-- users apart; no tenant's own name holds a slash.
CREATE TABLE users (
    id           uuid PRIMARY KEY,
    tenant       text COLLATE "C" NOT NULL CHECK (tenant <> ''),
    provider     text COLLATE "C" NOT NULL CHECK (provider <> ''),
    -- The identity's name there.
    external_id  text COLLATE "C" NOT NULL CHECK (external_id <> ''),
    -- Milliseconds since the Unix epoch.
    created_at   bigint NOT NULL,
    last_seen_at bigint NOT NULL,
    -- Looked up by all three on each request that names a user who is not remembered; a tenant's users are listed in this order.
    UNIQUE (tenant, provider, external_id)
);
SELECT ish_protect('users');

-- A key of one user. A key that may act for any of its tenant's users: a role of its own, which the CHECK of SQLite's older column
-- cannot learn.
ALTER TABLE keys
    ADD COLUMN user_id uuid REFERENCES users (id),
    ADD COLUMN is_service boolean NOT NULL DEFAULT false,
    ADD CHECK (role = 'user' OR NOT is_service),
    ADD CHECK (role = 'user' AND NOT is_service OR user_id IS NULL);
