-- Work in the background. All times are milliseconds since the Unix epoch by this server's clock, so that workers whose clocks differ
-- agree on whose time has come.
CREATE FUNCTION ish_now_ms() RETURNS bigint LANGUAGE sql STABLE PARALLEL SAFE AS
    $$ SELECT (extract(epoch FROM statement_timestamp()) * 1000)::bigint $$;

CREATE TABLE tasks (
    -- Made by who enqueues; sorts by the time of its making.
    id           uuid PRIMARY KEY,
    tenant       text COLLATE "C" NOT NULL CHECK (tenant <> ''),
    kind         text COLLATE "C" NOT NULL CHECK (kind <> ''),
    -- Of the arguments.
    version      integer NOT NULL CHECK (version >= 0),
    queue        text COLLATE "C" NOT NULL CHECK (queue <> ''),
    -- 0 critical, 1 high, 2 normal, 3 low.
    priority     integer NOT NULL CHECK (priority BETWEEN 0 AND 3),
    state        text NOT NULL DEFAULT 'available'
                 CHECK (state IN ('available', 'running', 'retryable', 'completed', 'cancelled', 'discarded')),
    -- JSON, as all below that is no number.
    arguments    text NOT NULL,
    run_at       bigint NOT NULL,
    -- run_at, and so much more for each level below critical as waiting makes up for (`tasks.aging`): the order of claims, which is
    -- the same at any time, so that an index can have it.
    rank         bigint NOT NULL,
    attempt      integer NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    max_attempts integer NOT NULL CHECK (max_attempts > 0),
    -- One more with each claim: who claimed it before can change nothing any more.
    epoch        bigint NOT NULL DEFAULT 0,
    worker       uuid,
    lease_until  bigint,
    cancel_wanted boolean NOT NULL DEFAULT false,
    unique_key   text COLLATE "C",
    progress     text,
    result       text,
    failures     text NOT NULL DEFAULT '[]',
    enqueued_at  bigint NOT NULL DEFAULT ish_now_ms(),
    started_at   bigint,
    ended_at     bigint,
    CHECK ((state = 'running') = (worker IS NOT NULL AND lease_until IS NOT NULL)),
    CHECK ((state IN ('completed', 'cancelled', 'discarded')) = (ended_at IS NOT NULL))
);
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
SELECT ish_protect_by_tenant('tasks');

-- Which wish made which task: repeated under the same key, it finds that one.
CREATE TABLE task_keys (
    tenant     text COLLATE "C" NOT NULL,
    kind       text COLLATE "C" NOT NULL,
    key        text COLLATE "C" NOT NULL,
    task       uuid NOT NULL,
    -- BLAKE3 of the arguments.
    digest     bytea NOT NULL,
    expires_at bigint NOT NULL,
    PRIMARY KEY (tenant, kind, key)
);
-- Those to be forgotten.
CREATE INDEX task_keys_expired ON task_keys (expires_at);
SELECT ish_protect_by_tenant('task_keys');

-- What is not claimed for now; read by every claim.
CREATE TABLE task_pauses (
    scope text NOT NULL CHECK (scope IN ('kind', 'queue')),
    name  text COLLATE "C" NOT NULL,
    PRIMARY KEY (scope, name)
);
SELECT ish_protect('task_pauses');

-- When the next task of a kind or a tenant with a rate would come if each came at its time; read and written by claims, one at a time.
CREATE TABLE task_rates (
    scope      text NOT NULL CHECK (scope IN ('kind', 'tenant')),
    name       text COLLATE "C" NOT NULL,
    -- Milliseconds with a fraction.
    arrival_ms double precision NOT NULL,
    PRIMARY KEY (scope, name)
);
SELECT ish_protect('task_rates');

-- Up to which time a schedule's tasks were enqueued: who moves it on enqueues, and nobody else.
CREATE TABLE task_slots (
    schedule text COLLATE "C" PRIMARY KEY,
    slot     bigint NOT NULL
);
SELECT ish_protect('task_slots');
