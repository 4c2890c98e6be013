-- A value has a version, another one for every write: `change` writes over the version that was read, or not at all.
-- Scopes and keys are bytes, so that no two of them are equal that differ: `Abc`, `aBC` and `Abc ` are one text here.

-- name: tables
CREATE TABLE IF NOT EXISTS linkly_state (
    position BIGINT AUTO_INCREMENT PRIMARY KEY,
    scope VARBINARY(1000) NOT NULL,
    `key` VARBINARY(1000) NOT NULL,
    version BIGINT NOT NULL,
    value LONGBLOB NOT NULL,
    UNIQUE INDEX linkly_state_by_key (scope, `key`),
    INDEX linkly_state_by_position (scope, position)
) ENGINE = InnoDB;
CREATE TABLE IF NOT EXISTS linkly_state_identity (
    number INTEGER PRIMARY KEY CHECK (number = 1), identity VARBINARY(16) NOT NULL
) ENGINE = InnoDB;

-- name: columns
SELECT CONCAT('linkly_state.', column_name) AS name FROM information_schema.columns
WHERE table_schema = DATABASE() AND table_name = 'linkly_state';

-- name: keep_identity
INSERT INTO linkly_state_identity (number, identity) VALUES (1, :identity) ON DUPLICATE KEY UPDATE number = 1;

-- name: identity
SELECT identity FROM linkly_state_identity;

-- name: get
SELECT value FROM linkly_state WHERE scope = :scope AND `key` = :key;

-- name: keys
SELECT `key` FROM linkly_state WHERE scope = :scope ORDER BY position;

-- name: values
SELECT value FROM linkly_state WHERE scope = :scope ORDER BY position;

-- name: count
SELECT COUNT(*) AS `keys` FROM linkly_state WHERE scope = :scope;

-- name: after
-- Those in front of which there are at most so many bytes of values.
WITH listed AS (
    SELECT position, SUM(size) OVER (ORDER BY position) - size AS bytes FROM (
        SELECT position, LENGTH(value) AS size FROM linkly_state WHERE scope = :scope AND position > :position
        ORDER BY position LIMIT :limit
    ) AS behind
)
SELECT linkly_state.position, `key`, value FROM listed JOIN linkly_state ON linkly_state.position = listed.position
WHERE bytes <= :max_bytes ORDER BY linkly_state.position;

-- name: scopes
SELECT DISTINCT scope FROM linkly_state ORDER BY scope;

-- name: find
SELECT place, position, version, value FROM JSON_TABLE(:[place, scope, key], '$[*]' COLUMNS (
    place INTEGER PATH '$[0]', scope_text LONGTEXT PATH '$[1]."$blob"', key_text LONGTEXT PATH '$[2]."$blob"'
)) AS asked
STRAIGHT_JOIN linkly_state ON scope = FROM_BASE64(scope_text) AND `key` = FROM_BASE64(key_text);

-- name: insert
-- Those that are not there yet; answers what was written by the versions. One engine at a time, here and in `change`:
-- InnoDB locks a row and each of its index entries by itself, so writers of the same keys would be deadlocked.
SELECT number FROM linkly_state_identity WHERE number = 1 FOR UPDATE;
INSERT INTO linkly_state (scope, `key`, version, value)
SELECT FROM_BASE64(scope_text), FROM_BASE64(key_text), new.version, FROM_BASE64(value_text)
FROM JSON_TABLE(:[scope, key, version, value], '$[*]' COLUMNS (
    place FOR ORDINALITY,
    scope_text LONGTEXT PATH '$[0]."$blob"', key_text LONGTEXT PATH '$[1]."$blob"', version BIGINT PATH '$[2]',
    value_text LONGTEXT PATH '$[3]."$blob"'
)) AS new ORDER BY place
ON DUPLICATE KEY UPDATE linkly_state.version = linkly_state.version;
SELECT new.version FROM JSON_TABLE(:[scope, key, version], '$[*]' COLUMNS (
    scope_text LONGTEXT PATH '$[0]."$blob"', key_text LONGTEXT PATH '$[1]."$blob"', version BIGINT PATH '$[2]'
)) AS new
STRAIGHT_JOIN linkly_state
ON scope = FROM_BASE64(scope_text) AND `key` = FROM_BASE64(key_text) AND linkly_state.version = new.version;

-- name: change
-- Those that have the version `old` still; without a value they are deleted. Answers what was there by the old versions.
SELECT number FROM linkly_state_identity WHERE number = 1 FOR UPDATE;
SELECT new.old FROM JSON_TABLE(:[position, old], '$[*]' COLUMNS (
    position BIGINT PATH '$[0]', old BIGINT PATH '$[1]'
)) AS new
STRAIGHT_JOIN linkly_state ON linkly_state.position = new.position AND linkly_state.version = new.old
FOR UPDATE;
UPDATE JSON_TABLE(:[position, old, version, value], '$[*]' COLUMNS (
    position BIGINT PATH '$[0]', old BIGINT PATH '$[1]', version BIGINT PATH '$[2]',
    value_text LONGTEXT PATH '$[3]."$blob"'
)) AS new
STRAIGHT_JOIN linkly_state ON linkly_state.position = new.position AND linkly_state.version = new.old
SET linkly_state.version = new.version, linkly_state.value = FROM_BASE64(value_text) WHERE value_text IS NOT NULL;
DELETE linkly_state FROM JSON_TABLE(:[position, old, value], '$[*]' COLUMNS (
    position BIGINT PATH '$[0]', old BIGINT PATH '$[1]', value_text LONGTEXT PATH '$[2]."$blob"'
)) AS new
STRAIGHT_JOIN linkly_state ON linkly_state.position = new.position AND linkly_state.version = new.old
WHERE value_text IS NULL;
