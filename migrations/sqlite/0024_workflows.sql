-- ish.db: workflows, graphs of steps, each of which is work of the queue. All times are milliseconds since the Unix epoch.
CREATE TABLE workflow_runs (
    -- Made by who starts it; sorts by the time of its making.
    id           TEXT PRIMARY KEY,
    tenant       TEXT NOT NULL CHECK (tenant <> ''),
    workflow     TEXT NOT NULL CHECK (workflow <> ''),
    -- Of the definition that it was started with, and ends with.
    version      INTEGER NOT NULL CHECK (version >= 0),
    state        TEXT NOT NULL DEFAULT 'running'
                 CHECK (state IN ('running', 'compensating', 'completed', 'failed', 'cancelled', 'compensation_failed')),
    -- Whether somebody did not want it any more: what it ends as once it is compensated.
    is_cancelled INTEGER NOT NULL DEFAULT 0,
    -- JSON, as `output`.
    input        TEXT NOT NULL,
    output       TEXT,
    error        TEXT,
    -- A start that is repeated under it is the same run.
    key          TEXT,
    -- BLAKE3 of the input.
    digest       BLOB NOT NULL,
    created_at   INTEGER NOT NULL,
    ended_at     INTEGER,
    CHECK ((state IN ('running', 'compensating')) = (ended_at IS NULL))
) STRICT;
-- One run for a key.
CREATE UNIQUE INDEX workflow_runs_key ON workflow_runs (tenant, workflow, key) WHERE key IS NOT NULL;
-- What is under way: counted, and looked after.
CREATE INDEX workflow_runs_live ON workflow_runs (workflow, version) WHERE ended_at IS NULL;
-- What has been kept long enough.
CREATE INDEX workflow_runs_ended ON workflow_runs (ended_at) WHERE ended_at IS NOT NULL;

-- The steps of runs, and, where a step runs once for each element of a list, those as well. They go with their run.
CREATE TABLE workflow_steps (
    run        TEXT NOT NULL,
    tenant     TEXT NOT NULL CHECK (tenant <> ''),
    step       TEXT NOT NULL CHECK (step <> ''),
    -- Which element, from 0; -1 is the step itself.
    item       INTEGER NOT NULL DEFAULT -1 CHECK (item >= -1),
    -- Among the steps of its definition.
    position   INTEGER NOT NULL,
    kind       TEXT NOT NULL CHECK (kind IN ('one', 'each', 'item')),
    -- The steps that it waits for: JSON, a list of names.
    needs      TEXT NOT NULL DEFAULT '[]',
    -- Ready and compensating: there is a task, or there are items that have one.
    state      TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN
                   ('waiting', 'ready', 'completed', 'failed', 'skipped', 'compensating', 'compensated')),
    -- How often it was undone, and begun anew.
    round      INTEGER NOT NULL DEFAULT 0 CHECK (round >= 0),
    -- What does it, or undoes it.
    task       TEXT,
    -- An item's element: JSON, as `output`.
    input      TEXT,
    output     TEXT,
    error      TEXT,
    undo_error TEXT,
    attempt    INTEGER NOT NULL DEFAULT 0,
    -- The order in which steps of a run were done.
    sequence   INTEGER,
    started_at INTEGER,
    ended_at   INTEGER,
    undone_at  INTEGER,
    PRIMARY KEY (run, step, item)
) STRICT, WITHOUT ROWID;
-- What has a task: looked after, so that none waits for a task that is gone.
CREATE INDEX workflow_steps_live ON workflow_steps (run) WHERE state IN ('ready', 'compensating');
