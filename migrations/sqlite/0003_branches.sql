-- ish.db: conversations as trees, of which one branch is selected.

-- The last message of the selected branch: what the next question follows unless it says otherwise.
ALTER TABLE conversations ADD COLUMN leaf TEXT;
UPDATE conversations SET leaf = (SELECT max(id) FROM messages WHERE conversation = conversations.id);

-- What stands side by side below one message, and the way down to the ends of its branches.
CREATE INDEX messages_children ON messages (conversation, parent, id);
-- The instructions of a conversation, which are in every history window however long its branch is.
CREATE INDEX messages_instructions ON messages (conversation) WHERE role = 'system';
