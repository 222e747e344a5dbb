-- ish.db: what was said before the history window, in short. All times are milliseconds since the Unix epoch.

-- By the message that it ends with: it stands for that one and all its parents, and so for nothing of another branch. It goes with that
-- message. Read with the history of a question, which walks by that message.
CREATE TABLE summaries (
    message      TEXT PRIMARY KEY REFERENCES messages (id) ON DELETE CASCADE,
    tenant       TEXT NOT NULL,
    conversation TEXT NOT NULL,
    content      TEXT NOT NULL CHECK (content <> ''),
    model        TEXT NOT NULL,
    created_at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
-- An export's.
CREATE INDEX summaries_of_conversation ON summaries (conversation, message);
