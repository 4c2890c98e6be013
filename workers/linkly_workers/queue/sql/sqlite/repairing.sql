-- name: cancel
-- A job that has not ended. The attempt that may run has no valid token from then on.
INSERT INTO linkly_queue_counts (queue, engine)
SELECT queue, :engine FROM linkly_queue_jobs WHERE id = :id AND state IN (0, 1, 2, 3) ON CONFLICT DO NOTHING;
UPDATE linkly_queue_counts SET
    cancelled = cancelled + 1, bytes = bytes - (SELECT size FROM linkly_queue_jobs WHERE id = :id)
WHERE engine = :engine AND queue = (SELECT queue FROM linkly_queue_jobs WHERE id = :id AND state IN (0, 1, 2, 3));
UPDATE linkly_queue_jobs SET state = 6, finished_at = :now, due_at = NULL, engine = NULL
WHERE id = :id AND state IN (0, 1, 2, 3)
RETURNING position;

-- name: redrive
-- Jobs of a queue begin anew at the newest end, in this queue or another one (`into`): dead ones, or those that wait. They
-- have new positions, and come in the order of their old ones.
INSERT INTO linkly_queue_counts (queue, engine) SELECT :queue, :engine UNION SELECT :into, :engine WHERE true
ON CONFLICT DO NOTHING;
WITH chosen (position, lane, message_group) AS (VALUES (:position, :lane, :message_group), ...),
mine AS MATERIALIZED (
    SELECT COUNT(*) AS jobs, COUNT(*) FILTER (WHERE state = 5) AS dead,
        COALESCE(SUM(size) FILTER (WHERE state <> 5), 0) AS bytes
    FROM chosen CROSS JOIN linkly_queue_jobs USING (position) WHERE queue = :queue AND state IN (0, 1, 2, 5)
)
UPDATE linkly_queue_counts SET
    accepted = accepted - mine.jobs, dead = linkly_queue_counts.dead - mine.dead,
    bytes = linkly_queue_counts.bytes - mine.bytes
FROM mine WHERE queue = :queue AND engine = :engine;
WITH chosen (position, lane, message_group) AS (VALUES (:position, :lane, :message_group), ...),
mine AS MATERIALIZED (
    SELECT COUNT(*) AS jobs, COALESCE(SUM(size), 0) AS bytes
    FROM chosen CROSS JOIN linkly_queue_jobs USING (position) WHERE queue = :queue AND state IN (0, 1, 2, 5)
)
UPDATE linkly_queue_counts SET accepted = accepted + mine.jobs, bytes = linkly_queue_counts.bytes + mine.bytes
FROM mine WHERE queue = :into AND engine = :engine;
WITH chosen (position, lane, message_group) AS (VALUES (:position, :lane, :message_group), ...)
INSERT OR REPLACE INTO linkly_queue_jobs
    (id, queue, lane, state, priority, message_group, due_at, expires_at, size, head, payload)
SELECT old.id, :into, chosen.lane, CASE old.state WHEN 5 THEN 0 ELSE old.state END, old.priority, chosen.message_group,
    old.due_at, CASE WHEN old.expires_at > :now THEN old.expires_at END, old.size, old.head, old.payload
FROM chosen CROSS JOIN linkly_queue_jobs AS old ON old.position = chosen.position
WHERE old.queue = :queue AND old.state IN (0, 1, 2, 5)
ORDER BY COALESCE(old.finished_at, 0), old.position
RETURNING position;

-- name: discard
-- Jobs of a queue that are dead or wait are thrown away.
INSERT INTO linkly_queue_counts (queue, engine) VALUES (:queue, :engine) ON CONFLICT DO NOTHING;
WITH chosen (position) AS (VALUES (:position), ...),
mine AS MATERIALIZED (
    SELECT COUNT(*) AS jobs, COUNT(*) FILTER (WHERE state = 5) AS dead,
        COALESCE(SUM(size) FILTER (WHERE state <> 5), 0) AS bytes
    FROM chosen CROSS JOIN linkly_queue_jobs USING (position) WHERE queue = :queue AND state IN (0, 1, 2, 5)
)
UPDATE linkly_queue_counts SET
    discarded = discarded + mine.jobs, dead = linkly_queue_counts.dead - mine.dead,
    bytes = linkly_queue_counts.bytes - mine.bytes
FROM mine WHERE queue = :queue AND engine = :engine;
WITH chosen (position) AS (VALUES (:position), ...)
UPDATE linkly_queue_jobs SET state = 7, finished_at = :now, due_at = NULL FROM chosen
WHERE linkly_queue_jobs.position = chosen.position AND queue = :queue AND state IN (0, 1, 2, 5)
RETURNING linkly_queue_jobs.position;
