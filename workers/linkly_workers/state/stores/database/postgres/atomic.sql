-- One write of a transaction of others, over the version that was read: it changes one row, or somebody else was first.

-- name: set_new
INSERT INTO linkly_state (scope, key, version, value) VALUES (:scope, :key, :version, :value)
ON CONFLICT (scope, key) DO NOTHING;

-- name: set_over
UPDATE linkly_state SET version = :version, value = :value WHERE scope = :scope AND key = :key AND version = :old;

-- name: remove
DELETE FROM linkly_state WHERE scope = :scope AND key = :key AND version = :old;
