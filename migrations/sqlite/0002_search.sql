-- ish.db: full text search over titles, questions and answers that have ended.

-- What can be found, under a number of its own: FTS5 names its documents by integers, our tables by UUIDs. A row without a
-- message stands for the conversation's title. No foreign keys: the triggers below need a row until its text has left
-- the index.
CREATE TABLE texts (
    row          INTEGER PRIMARY KEY,
    conversation TEXT NOT NULL,
    message      TEXT
) STRICT;
-- The triggers look a text up by what it belongs to.
CREATE UNIQUE INDEX texts_of_message ON texts (message) WHERE message IS NOT NULL;
CREATE UNIQUE INDEX texts_of_title ON texts (conversation) WHERE message IS NULL;

-- The text itself is stored once, where it belongs; the index reads it here for its snippets. The tenant is a word of the
-- index (in hexadecimal, so that it is one word whatever it holds): a search reads its own tenant's postings only.
CREATE VIEW searchable AS
    SELECT texts.row, lower(hex(conversations.tenant)) AS tenant,
           CASE WHEN texts.message IS NULL THEN conversations.title ELSE messages.content END AS text
    FROM texts
    JOIN conversations ON conversations.id = texts.conversation
    LEFT JOIN messages ON messages.id = texts.message;

-- A search as one types ends with a word's beginning. Those of two and three characters have postings of their own: without,
-- each would be gathered from every word that begins so.
CREATE VIRTUAL TABLE search USING fts5 (
    tenant, text, content = 'searchable', content_rowid = 'row', prefix = '2 3',
    tokenize = 'unicode61 remove_diacritics 2'
);

INSERT INTO texts (conversation) SELECT id FROM conversations;
INSERT INTO texts (conversation, message)
    SELECT conversation, id FROM messages WHERE role <> 'system' AND state <> 'streaming';
INSERT INTO search (search) VALUES ('rebuild');

-- From here on every change of a text changes the index in the same transaction.
CREATE TRIGGER conversation_titled AFTER INSERT ON conversations BEGIN
    INSERT INTO texts (conversation) VALUES (new.id);
    INSERT INTO search (rowid, tenant, text)
        SELECT row, lower(hex(new.tenant)), new.title FROM texts WHERE conversation = new.id AND message IS NULL;
END;
CREATE TRIGGER conversation_renamed AFTER UPDATE OF title ON conversations WHEN new.title <> old.title BEGIN
    INSERT INTO search (search, rowid, tenant, text)
        SELECT 'delete', row, lower(hex(old.tenant)), old.title FROM texts WHERE conversation = old.id AND message IS NULL;
    INSERT INTO search (rowid, tenant, text)
        SELECT row, lower(hex(new.tenant)), new.title FROM texts WHERE conversation = new.id AND message IS NULL;
END;
CREATE TRIGGER conversation_deleted AFTER DELETE ON conversations BEGIN
    INSERT INTO search (search, rowid, tenant, text)
        SELECT 'delete', row, lower(hex(old.tenant)), old.title FROM texts WHERE conversation = old.id AND message IS NULL;
    DELETE FROM texts WHERE conversation = old.id AND message IS NULL;
END;

-- An answer enters the index once, when it has ended, not with every checkpoint.
CREATE TRIGGER message_said AFTER INSERT ON messages WHEN new.role <> 'system' AND new.state <> 'streaming' BEGIN
    INSERT INTO texts (conversation, message) VALUES (new.conversation, new.id);
    INSERT INTO search (rowid, tenant, text)
        SELECT row, lower(hex(new.tenant)), new.content FROM texts WHERE message = new.id;
END;
CREATE TRIGGER message_ended AFTER UPDATE OF state ON messages
    WHEN new.role <> 'system' AND old.state = 'streaming' AND new.state <> 'streaming' BEGIN
    INSERT INTO texts (conversation, message) VALUES (new.conversation, new.id);
    INSERT INTO search (rowid, tenant, text)
        SELECT row, lower(hex(new.tenant)), new.content FROM texts WHERE message = new.id;
END;
CREATE TRIGGER message_deleted AFTER DELETE ON messages WHEN old.role <> 'system' AND old.state <> 'streaming' BEGIN
    INSERT INTO search (search, rowid, tenant, text)
        SELECT 'delete', row, lower(hex(old.tenant)), old.content FROM texts WHERE message = old.id;
    DELETE FROM texts WHERE message = old.id;
END;
-- The index could not follow a text that changes later, so none does.
CREATE TRIGGER message_is_final BEFORE UPDATE OF content ON messages
    WHEN old.state <> 'streaming' AND new.content <> old.content BEGIN
    SELECT RAISE(ABORT, 'a message that has ended does not change');
END;
