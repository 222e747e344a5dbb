-- What was said before the history window, in short. By the message that it ends with: it stands for that one and all its parents, and
-- so for nothing of another branch. It goes with that message. Read with the history of a question, which walks by that message.
CREATE TABLE summaries (
    message      uuid PRIMARY KEY REFERENCES messages (id) ON DELETE CASCADE,
    tenant       text COLLATE "C" NOT NULL,
    conversation uuid NOT NULL,
    content      text COLLATE "C" NOT NULL CHECK (content <> ''),
    model        text COLLATE "C" NOT NULL,
    created_at   bigint NOT NULL
);
-- An export's.
CREATE INDEX summaries_of_conversation ON summaries (conversation, message);
SELECT ish_protect_by_tenant('summaries');
