-- Who runs tasks: each start of a process says so, and how many it has room for, anew before its lease is over; a page lists them.
CREATE TABLE task_workers (
    id          uuid PRIMARY KEY,
    -- What people call the process.
    name        text NOT NULL,
    started_at  bigint NOT NULL,
    seen_at     bigint NOT NULL,
    -- Silent for longer, it is taken for dead; others forget it then.
    lease_until bigint NOT NULL,
    room        integer NOT NULL CHECK (room >= 0),
    is_draining boolean NOT NULL
);
SELECT ish_protect('task_workers');
