-- ish.db: work in the background. All times are milliseconds since the Unix epoch.
CREATE TABLE tasks (
    -- Made by who enqueues; sorts by the time of its making.
    id           TEXT PRIMARY KEY,
    tenant       TEXT NOT NULL CHECK (tenant <> ''),
    kind         TEXT NOT NULL CHECK (kind <> ''),
    -- Of the arguments.
    version      INTEGER NOT NULL CHECK (version >= 0),
    queue        TEXT NOT NULL CHECK (queue <> ''),
    -- 0 critical, 1 high, 2 normal, 3 low.
    priority     INTEGER NOT NULL CHECK (priority BETWEEN 0 AND 3),
    state        TEXT NOT NULL DEFAULT 'available'
                 CHECK (state IN ('available', 'running', 'retryable', 'completed', 'cancelled', 'discarded')),
    -- JSON, as all below that is no number.
    arguments    TEXT NOT NULL,
    run_at       INTEGER NOT NULL,
    -- run_at, and so much more for each level below critical as waiting makes up for (`tasks.aging`): the order of claims, which is
    -- the same at any time, so that an index can have it.
    rank         INTEGER NOT NULL,
    attempt      INTEGER NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    max_attempts INTEGER NOT NULL CHECK (max_attempts > 0),
    -- One more with each claim: who claimed it before can change nothing any more.
    epoch        INTEGER NOT NULL DEFAULT 0,
    worker       TEXT,
    lease_until  INTEGER,
    cancel_wanted INTEGER NOT NULL DEFAULT 0,
    unique_key   TEXT,
    progress     TEXT,
    result       TEXT,
    failures     TEXT NOT NULL DEFAULT '[]',
    enqueued_at  INTEGER NOT NULL,
    started_at   INTEGER,
    ended_at     INTEGER,
    CHECK ((state = 'running') = (worker IS NOT NULL AND lease_until IS NOT NULL)),
    CHECK ((state IN ('completed', 'cancelled', 'discarded')) = (ended_at IS NOT NULL))
) STRICT;
-- What a claim takes first; a delayed task among them is passed over in the index.
CREATE INDEX tasks_waiting ON tasks (rank, id, run_at) WHERE state IN ('available', 'retryable');
-- Leases that are over; who runs how much, for limits of kinds and tenants.
CREATE INDEX tasks_running ON tasks (lease_until) WHERE state = 'running';
-- One living task for a key; an enqueue looks for the one that is there.
CREATE UNIQUE INDEX tasks_unique ON tasks (tenant, kind, unique_key) WHERE state IN ('available', 'running', 'retryable');
-- What has been kept long enough.
CREATE INDEX tasks_ended ON tasks (ended_at) WHERE ended_at IS NOT NULL;
-- Dead letters, listed and counted.
CREATE INDEX tasks_dead ON tasks (id) WHERE state = 'discarded';

-- Which wish made which task: repeated under the same key, it finds that one.
CREATE TABLE task_keys (
    tenant     TEXT NOT NULL,
    kind       TEXT NOT NULL,
    key        TEXT NOT NULL,
    task       TEXT NOT NULL,
    -- BLAKE3 of the arguments.
    digest     BLOB NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, kind, key)
) STRICT, WITHOUT ROWID;
-- Those to be forgotten.
CREATE INDEX task_keys_expired ON task_keys (expires_at);

-- What is not claimed for now; read by every claim.
CREATE TABLE task_pauses (
    scope TEXT NOT NULL CHECK (scope IN ('kind', 'queue')),
    name  TEXT NOT NULL,
    PRIMARY KEY (scope, name)
) STRICT, WITHOUT ROWID;

-- When the next task of a kind or a tenant with a rate would come if each came at its time; read and written by claims.
CREATE TABLE task_rates (
    scope      TEXT NOT NULL CHECK (scope IN ('kind', 'tenant')),
    name       TEXT NOT NULL,
    -- Milliseconds with a fraction.
    arrival_ms REAL NOT NULL,
    PRIMARY KEY (scope, name)
) STRICT, WITHOUT ROWID;

-- Up to which time a schedule's tasks were enqueued: who moves it on enqueues.
CREATE TABLE task_slots (
    schedule TEXT PRIMARY KEY,
    slot     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
