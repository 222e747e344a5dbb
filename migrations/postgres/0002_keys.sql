-- Looked up by hash on each request that is not remembered; never holds a key. Who asks is not known before: the system's role only.
-- Times are milliseconds since the Unix epoch. A limit that is NULL is as configured (`limits.*`); there is no budget but a key's own.
CREATE TABLE keys (
    id                  uuid PRIMARY KEY,
    hash                bytea NOT NULL UNIQUE CHECK (length(hash) = 32),
    name                text NOT NULL,
    tenant              text NOT NULL CHECK (tenant <> ''),
    role                text NOT NULL CHECK (role IN ('user', 'admin')),
    hint                text NOT NULL,
    created_at          bigint NOT NULL,
    revoked_at          bigint,
    -- NULL: until it is revoked.
    expires_at_ms       bigint CHECK (expires_at_ms > 0),
    requests_per_minute bigint CHECK (requests_per_minute > 0),
    request_burst       bigint CHECK (request_burst > 0),
    tokens_per_minute   bigint CHECK (tokens_per_minute > 0),
    token_burst         bigint CHECK (token_burst > 0),
    max_tokens_default  bigint CHECK (max_tokens_default > 0),
    -- Billionths of a US dollar; a NULL period is `total`.
    budget              bigint CHECK (budget > 0),
    budget_period       text CHECK (budget_period IN ('day', 'month', 'total'))
);
SELECT ish_protect('keys');
