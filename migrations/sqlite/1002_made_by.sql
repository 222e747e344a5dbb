-- Who asked for an entry: half a digest over the key and the request's `user`. The maker may see where a later answer
-- comes from; another person's first reply from it reads as a miss. NULL: made by an earlier version.
ALTER TABLE entries ADD COLUMN made_by BLOB CHECK (length(made_by) = 16);
