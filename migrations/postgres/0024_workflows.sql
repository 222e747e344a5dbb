-- Workflows: graphs of steps, each of which is work of the queue. All times are milliseconds since the Unix epoch by this server's clock.
CREATE TABLE workflow_runs (
    -- Made by who starts it; sorts by the time of its making.
    id           uuid PRIMARY KEY,
    tenant       text COLLATE "C" NOT NULL CHECK (tenant <> ''),
    workflow     text COLLATE "C" NOT NULL CHECK (workflow <> ''),
    -- Of the definition that it was started with, and ends with.
    version      integer NOT NULL CHECK (version >= 0),
    state        text NOT NULL DEFAULT 'running'
                 CHECK (state IN ('running', 'compensating', 'completed', 'failed', 'cancelled', 'compensation_failed')),
    -- Whether somebody did not want it any more: what it ends as once it is compensated.
    is_cancelled boolean NOT NULL DEFAULT false,
    -- JSON, as `output`.
    input        text NOT NULL,
    output       text,
    error        text,
    -- A start that is repeated under it is the same run.
    key          text COLLATE "C",
    -- BLAKE3 of the input.
    digest       bytea NOT NULL,
    created_at   bigint NOT NULL DEFAULT ish_now_ms(),
    ended_at     bigint,
    CHECK ((state IN ('running', 'compensating')) = (ended_at IS NULL))
);
-- One run for a key.
CREATE UNIQUE INDEX workflow_runs_key ON workflow_runs (tenant, workflow, key) WHERE key IS NOT NULL;
-- What is under way: counted, and looked after.
CREATE INDEX workflow_runs_live ON workflow_runs (workflow, version) WHERE ended_at IS NULL;
-- What has been kept long enough.
CREATE INDEX workflow_runs_ended ON workflow_runs (ended_at) WHERE ended_at IS NOT NULL;
SELECT ish_protect_by_tenant('workflow_runs');

-- The steps of runs, and, where a step runs once for each element of a list, those as well. They go with their run.
CREATE TABLE workflow_steps (
    run        uuid NOT NULL,
    tenant     text COLLATE "C" NOT NULL CHECK (tenant <> ''),
    step       text COLLATE "C" NOT NULL CHECK (step <> ''),
    -- Which element, from 0; -1 is the step itself.
    item       integer NOT NULL DEFAULT -1 CHECK (item >= -1),
    -- Among the steps of its definition.
    position   integer NOT NULL,
    kind       text NOT NULL CHECK (kind IN ('one', 'each', 'item')),
    -- The steps that it waits for: JSON, a list of names.
    needs      text NOT NULL DEFAULT '[]',
    -- Ready and compensating: there is a task, or there are items that have one.
    state      text NOT NULL DEFAULT 'waiting' CHECK (state IN
                   ('waiting', 'ready', 'completed', 'failed', 'skipped', 'compensating', 'compensated')),
    -- How often it was undone, and begun anew.
    round      integer NOT NULL DEFAULT 0 CHECK (round >= 0),
    -- What does it, or undoes it.
    task       uuid,
    -- An item's element: JSON, as `output`.
    input      text,
    output     text,
    error      text,
    undo_error text,
    attempt    integer NOT NULL DEFAULT 0,
    -- The order in which steps of a run were done.
    sequence   bigint,
    started_at bigint,
    ended_at   bigint,
    undone_at  bigint,
    PRIMARY KEY (run, step, item)
);
-- What has a task: looked after, so that none waits for a task that is gone.
CREATE INDEX workflow_steps_live ON workflow_steps (run) WHERE state IN ('ready', 'compensating');
SELECT ish_protect_by_tenant('workflow_steps');
