-- cache.db: a long answer is stored packed, in zlib's form; `completion` is '' then. A row made before holds it as it was.
ALTER TABLE entries ADD COLUMN packed BLOB;
