-- Answers of `database::atomic` by idempotency key. Keys are bytes, so that no two of them are equal that differ.

-- name: tables
CREATE TABLE IF NOT EXISTS linkly_answers (
    key BLOB PRIMARY KEY, operations BLOB NOT NULL, answer BLOB NOT NULL, at INTEGER NOT NULL
) WITHOUT ROWID;

-- name: columns
SELECT 'linkly_answers.' || name AS name FROM pragma_table_info('linkly_answers')
UNION ALL SELECT 'tables' WHERE EXISTS (SELECT 1 FROM pragma_table_info('linkly_answers'));

-- name: indexes
CREATE INDEX IF NOT EXISTS linkly_answers_by_time ON linkly_answers (at);

-- name: keep
INSERT INTO linkly_answers (key, operations, at, answer) VALUES (:key, :operations, :at, :answer);

-- name: find
SELECT operations, answer FROM linkly_answers WHERE key = :key;

-- name: forget
DELETE FROM linkly_answers WHERE at < :at;
