-- Money of a key in one period, in billionths of a US dollar: one row is checked and changed by every reserve, whichever instance
-- makes it.
CREATE TABLE spending (
    key      uuid NOT NULL REFERENCES keys (id) ON DELETE CASCADE,
    -- Milliseconds since the Unix epoch; 0 of a budget without an end.
    period   bigint NOT NULL CHECK (period >= 0),
    spent    bigint NOT NULL DEFAULT 0 CHECK (spent >= 0),
    reserved bigint NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    PRIMARY KEY (key, period)
);
SELECT ish_protect('spending');

-- Reserves of calls under way. One that is older than any call is of a process that was killed, and counts as spent.
CREATE TABLE reserves (
    id       uuid PRIMARY KEY,
    key      uuid NOT NULL,
    period   bigint NOT NULL,
    amount   bigint NOT NULL CHECK (amount >= 0),
    until_ms bigint NOT NULL,
    FOREIGN KEY (key, period) REFERENCES spending (key, period) ON DELETE CASCADE
);
-- The foreign key's own way back, and what a list of keys adds up.
CREATE INDEX reserves_of_key ON reserves (key, period);
-- What a start books as spent.
CREATE INDEX reserves_until ON reserves (until_ms);
SELECT ish_protect('reserves');
