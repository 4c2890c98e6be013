-- A value has a version, another one for every write: `change` writes over the version that was read, or not at all.
-- Scopes and keys are bytes, so that no two of them are equal that differ.

-- name: tables
CREATE TABLE IF NOT EXISTS linkly_state (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    scope BLOB NOT NULL,
    key BLOB NOT NULL,
    version INTEGER NOT NULL,
    value BLOB NOT NULL,
    UNIQUE (scope, key)
);
CREATE TABLE IF NOT EXISTS linkly_state_identity (number INTEGER PRIMARY KEY CHECK (number = 1), identity BLOB NOT NULL);

-- name: columns
SELECT 'linkly_state.' || name AS name FROM pragma_table_info('linkly_state');

-- name: indexes
CREATE INDEX IF NOT EXISTS linkly_state_by_position ON linkly_state (scope, position);

-- name: keep_identity
INSERT INTO linkly_state_identity (number, identity) VALUES (1, :identity) ON CONFLICT (number) DO NOTHING;

-- name: identity
SELECT identity FROM linkly_state_identity;

-- name: get
SELECT value FROM linkly_state WHERE scope = :scope AND key = :key;

-- name: keys
SELECT key FROM linkly_state WHERE scope = :scope ORDER BY position;

-- name: values
SELECT value FROM linkly_state WHERE scope = :scope ORDER BY position;

-- name: count
SELECT COUNT(*) AS keys FROM linkly_state WHERE scope = :scope;

-- name: after
-- Those in front of which there are at most so many bytes of values.
WITH listed AS MATERIALIZED (
    SELECT position, SUM(length(value)) OVER (ORDER BY position) - length(value) AS bytes FROM (
        SELECT position, value FROM linkly_state WHERE scope = :scope AND position > :position
        ORDER BY position LIMIT :limit
    )
)
SELECT position, key, value FROM listed CROSS JOIN linkly_state USING (position)
WHERE bytes <= :max_bytes ORDER BY position;

-- name: scopes
WITH RECURSIVE scopes (scope) AS (
    SELECT * FROM (SELECT scope FROM linkly_state ORDER BY scope LIMIT 1)
    UNION ALL
    SELECT (SELECT scope FROM linkly_state WHERE scope > scopes.scope ORDER BY scope LIMIT 1)
    FROM scopes WHERE scope IS NOT NULL
)
SELECT scope FROM scopes WHERE scope IS NOT NULL;

-- name: find
WITH asked (place, scope, key) AS (VALUES (:place, :scope, :key), ...)
SELECT place, position, version, value FROM asked CROSS JOIN linkly_state USING (scope, key);

-- name: insert
-- Those that are not there yet; answers what was written by the versions.
WITH new (scope, key, version, value) AS (VALUES (:scope, :key, :version, :value), ...)
INSERT INTO linkly_state (scope, key, version, value)
SELECT scope, key, version, value FROM new WHERE scope IS NOT NULL
ON CONFLICT (scope, key) DO NOTHING
RETURNING version;

-- name: change
-- Those that have the version `old` still; without a value they are deleted. Answers what was written by the versions,
-- what was deleted by the old ones.
WITH new (position, old, version, value) AS (VALUES (:position, :old, :version, :value), ...)
UPDATE linkly_state SET version = new.version, value = new.value FROM new
WHERE linkly_state.position = new.position AND linkly_state.version = new.old AND new.value IS NOT NULL
RETURNING version;
WITH new (position, old, version, value) AS (VALUES (:position, :old, :version, :value), ...)
DELETE FROM linkly_state
WHERE (position, version) IN (SELECT position, old FROM new WHERE value IS NULL)
RETURNING version;
