-- ish.db: until when a key is good.

-- Read with the key on each request that is not remembered; NULL: until it is revoked.
ALTER TABLE keys ADD COLUMN expires_at_ms INTEGER CHECK (expires_at_ms > 0);
