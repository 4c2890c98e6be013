-- name: kept
-- The last of the newest jobs of a queue and state that are kept: those before it go.
SELECT finished_at, position FROM linkly_queue_jobs WHERE queue = :queue::bigint AND state = :state::integer
ORDER BY finished_at DESC, position DESC LIMIT 1 OFFSET :keep::bigint;

-- name: oldest
SELECT MIN(finished_at) AS at FROM linkly_queue_jobs WHERE queue = :queue::bigint AND state = :state::integer;

-- name: forget
DELETE FROM linkly_queue_jobs WHERE position IN (
    SELECT position FROM linkly_queue_jobs
    WHERE queue = :queue::bigint AND state = :state::integer AND (finished_at, position) <= (:at::bigint, :position::bigint)
    ORDER BY finished_at, position LIMIT :most::bigint FOR UPDATE SKIP LOCKED
);

-- name: outlived
-- Dead letters that have been kept long enough.
SELECT position FROM linkly_queue_jobs
WHERE queue = :queue::bigint AND state = 5 AND finished_at <= :at::bigint ORDER BY finished_at, position LIMIT :most::bigint;

-- name: forget_keys
DELETE FROM linkly_queue_keys WHERE (queue, key) IN (
    SELECT queue, key FROM linkly_queue_keys WHERE expires_at <= :now::bigint ORDER BY expires_at LIMIT :most::bigint
    FOR UPDATE SKIP LOCKED
);

-- name: oldest_key
SELECT MIN(expires_at) AS at FROM linkly_queue_keys;

-- name: served
-- Somebody serves the functions of these lanes, as far as was known at this time.
UPDATE linkly_queue_lanes SET served_at = :now::bigint
WHERE served_at <= :before::bigint AND id = ANY (:lanes::bigint[]);

-- name: absent_lanes
-- Lanes of which nobody has said for long that their functions are served.
SELECT id, queue, namespace, function_id FROM linkly_queue_lanes WHERE served_at > 0 AND served_at <= :before::bigint;

-- name: absent
SELECT position, message_group, head FROM linkly_queue_jobs
WHERE lane = :lane::bigint AND state = 0 AND position > :after::bigint ORDER BY position LIMIT :most::bigint;

-- name: give_up
-- Jobs that wait are dead.
SELECT 1 FROM linkly_queue_counts WHERE queue = :queue::bigint AND engine = :engine::bigint FOR UPDATE;
WITH chosen (position) AS (VALUES (:position::bigint), ...),
old AS MATERIALIZED (
    SELECT job.position, job.size FROM chosen JOIN linkly_queue_jobs AS job ON job.position = chosen.position
    WHERE job.state = 0 ORDER BY job.position FOR UPDATE OF job SKIP LOCKED
),
gone AS (
    UPDATE linkly_queue_jobs AS job SET
        state = 5, finished_at = :now::bigint, reason = :reason::text, error = :error::text
    FROM old WHERE job.position = old.position
),
counted AS (
    INSERT INTO linkly_queue_counts AS counts (queue, engine, dead, bytes)
    SELECT :queue::bigint, :engine::bigint, COUNT(*), -COALESCE(SUM(size), 0) FROM old
    ON CONFLICT (queue, engine) DO UPDATE SET
        dead = counts.dead + excluded.dead, bytes = counts.bytes + excluded.bytes
)
SELECT position FROM old;

-- name: ungrouped
-- Jobs without a message group that have not begun.
SELECT position, message_group FROM linkly_queue_jobs
WHERE lane IN (SELECT id FROM linkly_queue_lanes WHERE queue = :queue::bigint) AND state = 0 AND message_group IS NULL
UNION ALL
SELECT position, message_group FROM linkly_queue_jobs WHERE queue = :queue::bigint AND state IN (1, 2) AND message_group IS NULL
LIMIT :most::bigint;

-- name: grouped
-- Jobs with a message group that have not begun.
SELECT position, message_group FROM linkly_queue_jobs
WHERE queue = :queue::bigint AND message_group IS NOT NULL AND state IN (0, 2, 3) AND state <> 3
UNION ALL
SELECT position, message_group FROM linkly_queue_jobs WHERE queue = :queue::bigint AND state IN (1, 2) AND state = 1
    AND message_group IS NOT NULL
LIMIT :most::bigint;

-- name: give_groups
WITH chosen (position, message_group) AS (VALUES (:position::bigint, :message_group::text), ...)
UPDATE linkly_queue_jobs AS job SET message_group = chosen.message_group, priority = 0 FROM chosen
WHERE job.position = chosen.position AND job.state IN (0, 1, 2);
