-- What keys made at providers (files, caches, conversations, batches), and so whose each is: the first attempt that brought a name stands
-- for it, for ever. What of it goes on is another question, which reservations.work_id alone answers.
CREATE TABLE things (
  provider TEXT NOT NULL,
  name TEXT NOT NULL,
  key_id TEXT NOT NULL,
  attempt_id INTEGER NOT NULL,
  PRIMARY KEY (provider, name)
) STRICT, WITHOUT ROWID;
INSERT INTO things (provider, name, key_id, attempt_id) SELECT provider, work_id, key_id, attempt_id FROM work;
DROP TABLE work;
CREATE INDEX things_made ON things (provider, attempt_id);
