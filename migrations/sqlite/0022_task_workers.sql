-- ish.db: who runs tasks. Each start of a process says so, and how many it has room for, anew before its lease is over; a page lists them.
CREATE TABLE task_workers (
    id          TEXT PRIMARY KEY,
    -- What people call the process.
    name        TEXT NOT NULL,
    started_at  INTEGER NOT NULL,
    seen_at     INTEGER NOT NULL,
    -- Silent for longer, it is taken for dead; others forget it then.
    lease_until INTEGER NOT NULL,
    room        INTEGER NOT NULL CHECK (room >= 0),
    is_draining INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
