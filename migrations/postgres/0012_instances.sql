-- The processes that share this database. Each renews its row every `instances.heartbeat`; one that has not for `instances.lease`, by
-- this server's clock, is dead, and so is one without a row: others take over the answers that it was making.
CREATE TABLE instances (
    -- Made anew at each start: a process that comes back is another.
    id           uuid PRIMARY KEY,
    -- `server.instance_id`: whoever starts under a name takes its predecessor for dead at once.
    name         text NOT NULL,
    address      text NOT NULL,
    draining     boolean NOT NULL DEFAULT false,
    started_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    heartbeat_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
SELECT ish_protect('instances');

-- Who makes an unfinished answer; NULL: nobody, whoever comes first takes it over. Only the owner may change it, and a new owner
-- begins a new epoch, so that one that was only paused writes nothing more.
ALTER TABLE messages ADD COLUMN owner uuid;
-- A reader's wish to end it, told to an instance that does not make it.
ALTER TABLE messages ADD COLUMN cancel_wanted boolean NOT NULL DEFAULT false;
-- At every heartbeat: answers whose owner is dead, and the wishes to end one's own.
DROP INDEX messages_unfinished;
CREATE INDEX messages_unfinished ON messages (owner) WHERE state = 'streaming';
