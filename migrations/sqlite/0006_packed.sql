-- ish.db: long texts are stored packed, in zlib's form. A row made before holds its text as it was.

-- Of a message that has ended: its content, and its reasoning, where packing makes them smaller; the plain column is '' then.
ALTER TABLE messages ADD COLUMN packed BLOB;
ALTER TABLE messages ADD COLUMN packed_reasoning BLOB;

-- The index cannot read a packed text, and no longer has to: it forgets a text by its number alone. What snippets are taken
-- of is read from the messages themselves.
DROP TRIGGER conversation_renamed;
DROP TRIGGER conversation_deleted;
DROP TRIGGER message_deleted;
DROP TRIGGER message_is_final;
DROP TABLE search;

CREATE VIRTUAL TABLE search USING fts5 (
    tenant, text, content = '', contentless_delete = 1, prefix = '2 3',
    tokenize = 'unicode61 remove_diacritics 2'
);
INSERT INTO search (rowid, tenant, text) SELECT row, tenant, text FROM searchable ORDER BY row;
DROP VIEW searchable;

CREATE TRIGGER conversation_renamed AFTER UPDATE OF title ON conversations WHEN new.title <> old.title BEGIN
    DELETE FROM search WHERE rowid = (SELECT row FROM texts WHERE conversation = old.id AND message IS NULL);
    INSERT INTO search (rowid, tenant, text)
        SELECT row, lower(hex(new.tenant)), new.title FROM texts WHERE conversation = new.id AND message IS NULL;
END;
CREATE TRIGGER conversation_deleted AFTER DELETE ON conversations BEGIN
    DELETE FROM search WHERE rowid = (SELECT row FROM texts WHERE conversation = old.id AND message IS NULL);
    DELETE FROM texts WHERE conversation = old.id AND message IS NULL;
END;
CREATE TRIGGER message_deleted AFTER DELETE ON messages WHEN old.role <> 'system' AND old.state <> 'streaming' BEGIN
    DELETE FROM search WHERE rowid = (SELECT row FROM texts WHERE message = old.id);
    DELETE FROM texts WHERE message = old.id;
END;
-- A text is packed once, in the transaction that wrote it and after the index has read it; otherwise it does not change.
CREATE TRIGGER message_is_final BEFORE UPDATE OF content ON messages
    WHEN old.state <> 'streaming' AND new.content <> old.content
         AND NOT (new.content = '' AND new.packed IS NOT NULL AND old.packed IS NULL) BEGIN
    SELECT RAISE(ABORT, 'a message that has ended does not change');
END;
