-- ish.db: what a key may use, and what it has used.

-- Read with the key on each request that is not remembered; NULL: as configured (`limits.*`), and no budget.
ALTER TABLE keys ADD COLUMN requests_per_minute INTEGER CHECK (requests_per_minute > 0);
ALTER TABLE keys ADD COLUMN request_burst INTEGER CHECK (request_burst > 0);
ALTER TABLE keys ADD COLUMN tokens_per_minute INTEGER CHECK (tokens_per_minute > 0);
ALTER TABLE keys ADD COLUMN token_burst INTEGER CHECK (token_burst > 0);
ALTER TABLE keys ADD COLUMN max_tokens_default INTEGER CHECK (max_tokens_default > 0);
-- Billionths of a US dollar; a NULL period is `total`.
ALTER TABLE keys ADD COLUMN budget INTEGER CHECK (budget > 0);
ALTER TABLE keys ADD COLUMN budget_period TEXT CHECK (budget_period IN ('day', 'month', 'total'));

-- Money of a key in one period, in billionths of a US dollar: one row is checked and changed by every reserve.
CREATE TABLE spending (
    key      TEXT NOT NULL REFERENCES keys (id) ON DELETE CASCADE,
    -- Milliseconds since the Unix epoch; 0 of a budget without an end.
    period   INTEGER NOT NULL CHECK (period >= 0),
    spent    INTEGER NOT NULL DEFAULT 0 CHECK (spent >= 0),
    reserved INTEGER NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    PRIMARY KEY (key, period)
) STRICT, WITHOUT ROWID;

-- Reserves of calls under way. What stands here at a start is of a process that was killed, and counts as spent.
CREATE TABLE reserves (
    id      TEXT PRIMARY KEY,
    key     TEXT NOT NULL,
    period  INTEGER NOT NULL,
    amount  INTEGER NOT NULL CHECK (amount >= 0),
    FOREIGN KEY (key, period) REFERENCES spending (key, period) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
-- The foreign key's own way back, and the sum per key at a start.
CREATE INDEX reserves_of_key ON reserves (key, period);
