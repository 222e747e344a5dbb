-- ish.db: what must never be lost. Written with synchronous=FULL.

-- Read by id on every message; listed newest first by (tenant, updated_at, id).
CREATE TABLE conversations (
    id         TEXT PRIMARY KEY,
    tenant     TEXT NOT NULL,
    title      TEXT NOT NULL,
    model      TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX conversations_newest ON conversations (tenant, updated_at DESC, id DESC);

-- A message and, for an assistant's, the answer's stream. The history of a message is its chain of parents.
CREATE TABLE messages (
    id            TEXT PRIMARY KEY,
    tenant        TEXT NOT NULL,
    conversation  TEXT NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    parent        TEXT,
    role          TEXT NOT NULL CHECK (role IN ('system', 'user', 'assistant')),
    state         TEXT NOT NULL CHECK (state IN ('complete', 'streaming', 'interrupted', 'cancelled', 'failed')),
    content       TEXT NOT NULL,
    reasoning     TEXT NOT NULL DEFAULT '',
    model         TEXT,
    client_id     TEXT,
    stream        TEXT,
    epoch         INTEGER NOT NULL DEFAULT 1 CHECK (epoch >= 1),
    seq           INTEGER NOT NULL DEFAULT 0 CHECK (seq >= 0),
    finish_reason TEXT,
    input_tokens  INTEGER,
    output_tokens INTEGER,
    cache         TEXT,
    explanation   TEXT,
    error         TEXT,
    elapsed_ms    INTEGER,
    created_at    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
-- A conversation's messages in order: identifiers sort by the time of their making.
CREATE INDEX messages_of_conversation ON messages (conversation, id);
-- A send is idempotent by its client's id: the same id again finds the first.
CREATE UNIQUE INDEX messages_client_id ON messages (tenant, client_id) WHERE client_id IS NOT NULL;
-- resume and cancel name the stream.
CREATE UNIQUE INDEX messages_stream ON messages (stream) WHERE stream IS NOT NULL;
-- At start: answers that a crash cut.
CREATE INDEX messages_unfinished ON messages (state) WHERE state = 'streaming';

-- Looked up by hash on each request of a server with keys; never holds a key.
CREATE TABLE keys (
    id         TEXT PRIMARY KEY,
    hash       BLOB NOT NULL UNIQUE,
    name       TEXT NOT NULL,
    tenant     TEXT NOT NULL,
    role       TEXT NOT NULL CHECK (role IN ('user', 'admin')),
    hint       TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT, WITHOUT ROWID;
