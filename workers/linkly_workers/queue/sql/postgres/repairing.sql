-- Turns lock jobs and then counts, more than once in a transaction. So what is here locks the counts first, and after that
-- waits for nobody: a job that somebody else has locked is passed over, and looked at again by whoever wants to change it.

-- name: cancel
-- A job that has not ended. The attempt that may run has no valid token from then on.
SELECT 1 FROM linkly_queue_counts WHERE queue = :queue::bigint AND engine = :engine::bigint FOR UPDATE;
WITH picked AS MATERIALIZED (
    SELECT position FROM linkly_queue_jobs WHERE id = :id::text AND state IN (0, 1, 2, 3) FOR UPDATE SKIP LOCKED
),
mine AS (
    UPDATE linkly_queue_jobs AS job SET state = 6, finished_at = :now::bigint, due_at = NULL, engine = NULL
    FROM picked WHERE job.position = picked.position
    RETURNING job.position, queue, size
),
counted AS (
    INSERT INTO linkly_queue_counts AS counts (queue, engine, cancelled, bytes)
    SELECT queue, :engine::bigint, 1, -size FROM mine
    ON CONFLICT (queue, engine) DO UPDATE SET
        cancelled = counts.cancelled + excluded.cancelled, bytes = counts.bytes + excluded.bytes
)
SELECT position FROM mine;

-- name: redrive
-- Jobs of a queue begin anew at the newest end, in this queue or another one (`into`): dead ones, or those that wait. They
-- have new positions, and come in the order of their old ones.
SELECT 1 FROM linkly_queue_counts WHERE queue IN (:queue::bigint, :into::bigint) AND engine = :engine::bigint
ORDER BY queue FOR UPDATE;
WITH chosen (position, lane, message_group) AS (VALUES (:position::bigint, :lane::bigint, :message_group::text), ...),
old AS MATERIALIZED (
    SELECT job.position, chosen.lane, chosen.message_group, job.state, job.size
    FROM chosen JOIN linkly_queue_jobs AS job ON job.position = chosen.position
    WHERE job.queue = :queue::bigint AND job.state IN (0, 1, 2, 5)
    ORDER BY COALESCE(job.finished_at, 0), job.position FOR UPDATE OF job SKIP LOCKED
),
placed AS MATERIALIZED (
    SELECT old.*, nextval(pg_get_serial_sequence('linkly_queue_jobs', 'position')) AS place FROM old
),
moved AS (
    UPDATE linkly_queue_jobs AS job SET
        position = placed.place, queue = :into::bigint, lane = placed.lane, message_group = placed.message_group,
        state = CASE placed.state WHEN 5 THEN 0 ELSE placed.state END, starts = 0, returned = 0, engine = NULL,
        started_at = NULL, finished_at = NULL, reason = NULL, error = NULL,
        expires_at = CASE WHEN expires_at > :now::bigint THEN expires_at END
    FROM placed WHERE job.position = placed.position
    RETURNING job.position
),
changes AS (
    SELECT :queue::bigint AS queue, -COUNT(*) AS accepted, -COUNT(*) FILTER (WHERE state = 5) AS dead,
        -COALESCE(SUM(size) FILTER (WHERE state <> 5), 0) AS bytes FROM old
    UNION ALL
    SELECT :into::bigint, COUNT(*), 0, COALESCE(SUM(size), 0) FROM old
),
counted AS (
    INSERT INTO linkly_queue_counts AS counts (queue, engine, accepted, dead, bytes)
    SELECT queue, :engine::bigint, SUM(accepted), SUM(dead), SUM(bytes) FROM changes GROUP BY queue ORDER BY queue
    ON CONFLICT (queue, engine) DO UPDATE SET accepted = counts.accepted + excluded.accepted,
        dead = counts.dead + excluded.dead, bytes = counts.bytes + excluded.bytes
)
SELECT position FROM moved;

-- name: discard
-- Jobs of a queue that are dead or wait are thrown away.
SELECT 1 FROM linkly_queue_counts WHERE queue = :queue::bigint AND engine = :engine::bigint FOR UPDATE;
WITH chosen (position) AS (VALUES (:position::bigint), ...),
old AS MATERIALIZED (
    SELECT job.position, job.state, job.size
    FROM chosen JOIN linkly_queue_jobs AS job ON job.position = chosen.position
    WHERE job.queue = :queue::bigint AND job.state IN (0, 1, 2, 5) ORDER BY job.position FOR UPDATE OF job SKIP LOCKED
),
gone AS (
    UPDATE linkly_queue_jobs AS job SET state = 7, finished_at = :now::bigint, due_at = NULL
    FROM old WHERE job.position = old.position
),
counted AS (
    INSERT INTO linkly_queue_counts AS counts (queue, engine, discarded, dead, bytes)
    SELECT :queue::bigint, :engine::bigint, COUNT(*), -COUNT(*) FILTER (WHERE state = 5),
        -COALESCE(SUM(size) FILTER (WHERE state <> 5), 0) FROM old
    ON CONFLICT (queue, engine) DO UPDATE SET discarded = counts.discarded + excluded.discarded,
        dead = counts.dead + excluded.dead, bytes = counts.bytes + excluded.bytes
)
SELECT position FROM old;
