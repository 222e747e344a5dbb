-- Conversations as trees of messages. Times are milliseconds since the Unix epoch; identifiers (UUID version 7) sort by the time of
-- their making. Text is compared by its bytes (COLLATE "C"), as SQLite does, whatever the database's own collation. Postgres stores
-- no U+0000: what is text of people or models goes through `conversations/postgres/text.rs`.

-- Read by id on every message, always of a tenant; listed newest first by (tenant, updated_at, id).
CREATE TABLE conversations (
    tenant     text COLLATE "C" NOT NULL CHECK (tenant <> ''),
    id         uuid NOT NULL,
    title      text COLLATE "C" NOT NULL,
    model      text COLLATE "C",
    -- The last message of the selected branch: what the next question follows unless it says otherwise.
    leaf       uuid,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE INDEX conversations_newest ON conversations (tenant, updated_at DESC, id DESC);
SELECT ish_protect_by_tenant('conversations');

-- A message and, for an assistant's, the answer's stream. The history of a message is its chain of parents. Its conversation is of
-- the same tenant: a foreign key is checked without regard to row-level security.
CREATE TABLE messages (
    id            uuid PRIMARY KEY,
    tenant        text COLLATE "C" NOT NULL,
    conversation  uuid NOT NULL,
    parent        uuid,
    role          text COLLATE "C" NOT NULL CHECK (role IN ('system', 'user', 'assistant')),
    state         text COLLATE "C" NOT NULL CHECK (state IN ('complete', 'streaming', 'interrupted', 'cancelled', 'failed')),
    content       text COLLATE "C" NOT NULL,
    reasoning     text COLLATE "C" NOT NULL DEFAULT '',
    model         text COLLATE "C",
    client_id     text COLLATE "C",
    stream        uuid,
    epoch         bigint NOT NULL DEFAULT 1 CHECK (epoch >= 1),
    seq           bigint NOT NULL DEFAULT 0 CHECK (seq >= 0),
    finish_reason text COLLATE "C",
    input_tokens  bigint,
    output_tokens bigint,
    -- JSON as it was made, which is shown and never searched.
    cache         text,
    explanation   text,
    error         text,
    elapsed_ms    bigint,
    created_at    bigint NOT NULL,
    FOREIGN KEY (tenant, conversation) REFERENCES conversations (tenant, id) ON DELETE CASCADE
);
-- A conversation's messages in order, how many there are, and the foreign key's way back.
CREATE INDEX messages_of_conversation ON messages (tenant, conversation, id);
-- What stands side by side below one message, and the way down to the ends of its branches.
CREATE INDEX messages_children ON messages (conversation, parent, id);
-- The instructions of a conversation, which are in every history window however long its branch is.
CREATE INDEX messages_instructions ON messages (conversation) WHERE role = 'system';
-- A send is idempotent by its client's id: the same id again finds the first.
CREATE UNIQUE INDEX messages_client_id ON messages (tenant, client_id) WHERE client_id IS NOT NULL;
-- resume and cancel name the stream.
CREATE UNIQUE INDEX messages_stream ON messages (stream) WHERE stream IS NOT NULL;
-- At start: answers that a crash cut.
CREATE INDEX messages_unfinished ON messages (id) WHERE state = 'streaming';
SELECT ish_protect_by_tenant('messages');

-- The search index could not follow a text that changes later, so none does.
CREATE FUNCTION ish_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a message that has ended does not change';
END $$;
CREATE TRIGGER message_is_final BEFORE UPDATE OF content ON messages FOR EACH ROW
    WHEN (old.state <> 'streaming' AND new.content <> old.content) EXECUTE FUNCTION ish_refuse_change();

-- What can be found: titles (without a message), questions, answers that have ended. The words are made by
-- `conversations/words.rs`, the same for every server: what a letter is, and which are equal, depends on Postgres's locale otherwise.
CREATE TABLE texts (
    tenant       text COLLATE "C" NOT NULL,
    conversation uuid NOT NULL,
    message      uuid REFERENCES messages (id) ON DELETE CASCADE,
    words        tsvector NOT NULL,
    FOREIGN KEY (tenant, conversation) REFERENCES conversations (tenant, id) ON DELETE CASCADE
);
-- The foreign keys' ways back, and the title that a new one replaces.
CREATE UNIQUE INDEX texts_of_message ON texts (message) WHERE message IS NOT NULL;
CREATE INDEX texts_of_conversation ON texts (tenant, conversation) WHERE message IS NULL;
-- Search. Without a list of pending entries, which each search would read to its end.
CREATE INDEX texts_words ON texts USING gin (words) WITH (fastupdate = off);

-- A tenant is a word of each of its texts, so that a search reads its own tenant's postings only. No word of a text holds a colon.
CREATE FUNCTION ish_word_of_tenant(tenant text) RETURNS text LANGUAGE sql STABLE
    RETURN 't:' || left(encode(sha256(convert_to(tenant, 'UTF8')), 'hex'), 32);

-- The words of a text as they stand in `texts`.
CREATE FUNCTION ish_words(tenant text, words text) RETURNS tsvector LANGUAGE sql STABLE
    RETURN (quote_literal(ish_word_of_tenant(tenant)) || ' ' || words)::tsvector;

-- What the transaction looks for: the setting `ish.sought` within its tenant; where none is set, all of it.
CREATE FUNCTION ish_sought() RETURNS tsquery LANGUAGE sql STABLE
    RETURN (quote_literal(ish_word_of_tenant(current_setting('ish.tenant', true)))
        || coalesce(' & (' || nullif(current_setting('ish.sought', true), '') || ')', ''))::tsquery;

-- `@@` may not look at a row before the row's policy has allowed it (it is not LEAKPROOF), so no query's own `@@` could use the index.
-- A policy's own condition may: therefore what is sought stands here.
SELECT ish_protect('texts');
CREATE POLICY tenant ON texts TO ish_tenant
    USING (tenant = current_setting('ish.tenant', true) AND words @@ ish_sought())
    WITH CHECK (tenant = current_setting('ish.tenant', true));
GRANT SELECT, INSERT, UPDATE, DELETE ON texts TO ish_tenant;
