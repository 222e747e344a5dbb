-- ish.db: which start of the server makes an unfinished answer. A file has one server at a time: whatever another start was making,
-- it was cut at.
ALTER TABLE messages ADD COLUMN owner TEXT;
-- A reader's wish to end it.
ALTER TABLE messages ADD COLUMN cancel_wanted INTEGER NOT NULL DEFAULT 0;
