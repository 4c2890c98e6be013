-- Answers of `database::atomic` by idempotency key. Keys are bytes, so that no two of them are equal that differ.

-- name: lock
-- Engines that make the table at once make it one after another: CREATE TABLE IF NOT EXISTS of two sessions at once fails.
SELECT pg_advisory_xact_lock(hashtextextended('linkly answers ' || coalesce(current_schema(), ''), 0));

-- name: tables
CREATE TABLE IF NOT EXISTS linkly_answers (
    key BYTEA PRIMARY KEY, operations BYTEA NOT NULL, answer BYTEA NOT NULL, at BIGINT NOT NULL
);

-- name: columns
SELECT 'tables' AS name WHERE to_regclass('linkly_answers') IS NOT NULL;

-- name: indexes
CREATE INDEX IF NOT EXISTS linkly_answers_by_time ON linkly_answers (at);

-- name: keep
INSERT INTO linkly_answers (key, operations, at, answer) VALUES (:key, :operations, :at, :answer);

-- name: find
SELECT operations, answer FROM linkly_answers WHERE key = :key;

-- name: forget
DELETE FROM linkly_answers WHERE at < :at;
