-- One write of a transaction of others, over the version that was read: its last statement changes one row, or somebody
-- else was first. One writer at a time, as in `insert`.

-- name: set_new
SELECT number FROM linkly_state_identity WHERE number = 1 FOR UPDATE;
INSERT INTO linkly_state (scope, `key`, version, value)
SELECT :scope, :key, :version, :value FROM DUAL
WHERE NOT EXISTS (SELECT 1 FROM linkly_state WHERE scope = :scope AND `key` = :key);

-- name: set_over
SELECT number FROM linkly_state_identity WHERE number = 1 FOR UPDATE;
UPDATE linkly_state SET version = :version, value = :value WHERE scope = :scope AND `key` = :key AND version = :old;

-- name: remove
SELECT number FROM linkly_state_identity WHERE number = 1 FOR UPDATE;
DELETE FROM linkly_state WHERE scope = :scope AND `key` = :key AND version = :old;
