-- name: kept
-- The last of the newest jobs of a queue and state that are kept: those before it go.
SELECT finished_at, position FROM linkly_queue_jobs WHERE queue = :queue AND state = :state AND state > 3
ORDER BY finished_at DESC, position DESC LIMIT 1 OFFSET :keep;

-- name: oldest
SELECT MIN(finished_at) AS at FROM linkly_queue_jobs WHERE queue = :queue AND state = :state AND state > 3;

-- name: forget
DELETE FROM linkly_queue_jobs WHERE position IN (
    SELECT position FROM linkly_queue_jobs
    WHERE queue = :queue AND state = :state AND state > 3 AND (finished_at, position) <= (:at, :position)
    ORDER BY finished_at, position LIMIT :most
);

-- name: outlived
-- Dead letters that have been kept long enough.
SELECT position FROM linkly_queue_jobs
WHERE queue = :queue AND state = 5 AND state > 3 AND finished_at <= :at ORDER BY finished_at, position LIMIT :most;

-- name: forget_keys
DELETE FROM linkly_queue_keys WHERE (queue, key) IN (
    SELECT queue, key FROM linkly_queue_keys WHERE expires_at <= :now ORDER BY expires_at LIMIT :most
);

-- name: oldest_key
SELECT MIN(expires_at) AS at FROM linkly_queue_keys;

-- name: served
-- Somebody serves the functions of these lanes, as far as was known at this time.
UPDATE linkly_queue_lanes SET served_at = :now
WHERE served_at <= :before AND id IN (SELECT value FROM json_each(:lanes));

-- name: absent_lanes
-- Lanes of which nobody has said for long that their functions are served.
SELECT id, queue, namespace, function_id FROM linkly_queue_lanes WHERE served_at > 0 AND served_at <= :before;

-- name: absent
SELECT position, message_group, head FROM linkly_queue_jobs
WHERE lane = :lane AND state = 0 AND position > :after ORDER BY position LIMIT :most;

-- name: give_up
-- Jobs that wait are dead.
INSERT INTO linkly_queue_counts (queue, engine) VALUES (:queue, :engine) ON CONFLICT DO NOTHING;
WITH chosen (position) AS (VALUES (:position), ...),
mine AS MATERIALIZED (
    SELECT COUNT(*) AS jobs, COALESCE(SUM(size), 0) AS bytes
    FROM chosen CROSS JOIN linkly_queue_jobs USING (position) WHERE state = 0
)
UPDATE linkly_queue_counts SET
    dead = dead + mine.jobs, bytes = linkly_queue_counts.bytes - mine.bytes
FROM mine WHERE queue = :queue AND engine = :engine;
WITH chosen (position) AS (VALUES (:position), ...)
UPDATE linkly_queue_jobs SET state = 5, finished_at = :now, reason = :reason, error = :error FROM chosen
WHERE linkly_queue_jobs.position = chosen.position AND state = 0
RETURNING linkly_queue_jobs.position;

-- name: ungrouped
-- Jobs without a message group that have not begun.
SELECT position, message_group FROM linkly_queue_jobs
WHERE lane IN (SELECT id FROM linkly_queue_lanes WHERE queue = :queue) AND state = 0 AND message_group IS NULL
UNION ALL
SELECT position, message_group FROM linkly_queue_jobs WHERE queue = :queue AND state IN (1, 2) AND message_group IS NULL
LIMIT :most;

-- name: grouped
-- Jobs with a message group that have not begun.
SELECT position, message_group FROM linkly_queue_jobs
WHERE queue = :queue AND message_group IS NOT NULL AND state IN (0, 2, 3) AND state <> 3
UNION ALL
SELECT position, message_group FROM linkly_queue_jobs WHERE queue = :queue AND state IN (1, 2) AND state = 1
    AND message_group IS NOT NULL
LIMIT :most;

-- name: give_groups
WITH chosen (position, message_group) AS (VALUES (:position, :message_group), ...)
UPDATE linkly_queue_jobs SET message_group = chosen.message_group, priority = 0 FROM chosen
WHERE linkly_queue_jobs.position = chosen.position AND state IN (0, 1, 2);
