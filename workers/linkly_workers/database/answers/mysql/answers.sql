-- Answers of `database::atomic` by idempotency key. Keys are bytes, so that no two of them are equal that differ.

-- name: tables
CREATE TABLE IF NOT EXISTS linkly_answers (
    `key` VARBINARY(1020) PRIMARY KEY, operations VARBINARY(32) NOT NULL, answer LONGBLOB NOT NULL, at BIGINT NOT NULL,
    INDEX linkly_answers_by_time (at)
) ENGINE = InnoDB;

-- name: columns
SELECT 'tables' AS name FROM information_schema.tables
WHERE table_schema = DATABASE() AND table_name = 'linkly_answers';

-- name: keep
INSERT INTO linkly_answers (`key`, operations, at, answer) VALUES (:key, :operations, :at, :answer);

-- name: find
SELECT operations, answer FROM linkly_answers WHERE `key` = :key;

-- name: forget
DELETE FROM linkly_answers WHERE at < :at;
