-- name: lock_groups
-- There is one writer: nothing has to be locked.

-- name: held
-- What a queue holds: jobs that have not ended, and bytes of their payloads.
SELECT SUM(accepted - done - dead - cancelled - discarded - expired) AS jobs, SUM(bytes) AS bytes
FROM linkly_queue_counts WHERE queue = :queue;

-- name: is_there
SELECT id FROM linkly_queue_jobs WHERE id = :id;

-- name: accept
-- Jobs of one queue. The first statement changes no row if it has no room for them.
UPDATE linkly_queue_counts SET accepted = accepted + :jobs, bytes = bytes + :all_bytes
WHERE queue = :into AND engine = :engine AND (
    SELECT SUM(accepted - done - dead - cancelled - discarded - expired) + :jobs <= :max_jobs
        AND SUM(bytes) + :all_bytes <= :max_bytes
    FROM linkly_queue_counts WHERE queue = :into
);
WITH new (id, lane, priority, message_group, due_at, expires_at, size, head, payload) AS (
    VALUES (:id, :lane, :priority, :message_group, :due_at, :expires_at, :size, :head, :payload), ...
)
INSERT INTO linkly_queue_jobs
    (id, queue, lane, state, priority, message_group, due_at, expires_at, size, head, payload)
SELECT id, :into, lane, due_at IS NOT NULL, priority, message_group, due_at, expires_at, size, head, payload
FROM new WHERE id IS NOT NULL;

-- name: accept_with_key
-- One job, if nobody has used its key within the window; answers the receipt that the key has. None: the queue has no room,
-- or the key was used for another job.
UPDATE linkly_queue_counts SET accepted = accepted + 1, bytes = bytes + :size
WHERE queue = :queue AND engine = :engine AND NOT EXISTS (
    SELECT 1 FROM linkly_queue_keys WHERE queue = :queue AND key = :key AND expires_at > :now
) AND (
    SELECT SUM(accepted - done - dead - cancelled - discarded - expired) < :max_jobs AND SUM(bytes) + :size <= :max_bytes
    FROM linkly_queue_counts WHERE queue = :queue
);
INSERT INTO linkly_queue_keys (queue, key, id, digest, expires_at)
SELECT :queue, :key, :id, :digest, :now + :window_ms WHERE changes() = 1
ON CONFLICT (queue, key) DO UPDATE SET id = excluded.id, digest = excluded.digest, expires_at = excluded.expires_at;
INSERT INTO linkly_queue_jobs
    (id, queue, lane, state, priority, message_group, due_at, expires_at, size, head, payload)
SELECT :id, :queue, :lane, :state, :priority, :message_group, :due_at, :expires_at, :size, :head, :payload
WHERE changes() = 1;
SELECT id FROM linkly_queue_keys WHERE queue = :queue AND key = :key AND digest = :digest;

-- name: has_job
SELECT id FROM linkly_queue_jobs WHERE id = :id;

-- name: key
SELECT id, digest FROM linkly_queue_keys WHERE queue = :queue AND key = :key AND expires_at > :now;

-- name: finish
-- Attempts that have come to an end, for good; of those whose token is not valid any more nothing happens.
WITH ended (position, starts) AS (VALUES (:position, :starts), ...),
mine AS MATERIALIZED (
    SELECT COUNT(*) AS n, COALESCE(SUM(size), 0) AS bytes FROM ended CROSS JOIN linkly_queue_jobs USING (position, starts)
    WHERE state = 3 AND engine = :engine
)
UPDATE linkly_queue_counts SET done = done + (SELECT n FROM mine), bytes = bytes - (SELECT bytes FROM mine)
WHERE queue = :queue AND engine = :engine;
WITH ended (position, starts) AS (VALUES (:position, :starts), ...)
UPDATE linkly_queue_jobs SET state = 4, finished_at = :now, engine = NULL FROM ended
WHERE linkly_queue_jobs.position = ended.position AND linkly_queue_jobs.starts = ended.starts
    AND state = 3 AND engine = :engine
RETURNING linkly_queue_jobs.position;

-- name: bury
-- As `finish`, for jobs that are dead.
WITH ended (position, starts, reason, error) AS (VALUES (:position, :starts, :reason, :error), ...),
mine AS MATERIALIZED (
    SELECT COUNT(*) AS n, COALESCE(SUM(size), 0) AS bytes FROM ended CROSS JOIN linkly_queue_jobs USING (position, starts)
    WHERE state = 3 AND engine = :engine
)
UPDATE linkly_queue_counts SET dead = dead + (SELECT n FROM mine), bytes = bytes - (SELECT bytes FROM mine)
WHERE queue = :queue AND engine = :engine;
WITH ended (position, starts, reason, error) AS (VALUES (:position, :starts, :reason, :error), ...)
UPDATE linkly_queue_jobs SET state = 5, finished_at = :now, engine = NULL, reason = ended.reason, error = ended.error
FROM ended
WHERE linkly_queue_jobs.position = ended.position AND linkly_queue_jobs.starts = ended.starts
    AND state = 3 AND engine = :engine
RETURNING linkly_queue_jobs.position;

-- name: put_back
-- As `finish`, for jobs that run once more: at a time, or (without one) as soon as it is their turn. `returned` starts
-- do not count.
WITH ended (position, starts, due_at, error, returned) AS (
    VALUES (:position, :starts, :due_at, :error, :returned), ...
)
UPDATE linkly_queue_jobs SET
    state = CASE WHEN ended.due_at IS NULL THEN 0 ELSE 2 END,
    due_at = ended.due_at,
    engine = NULL,
    error = COALESCE(ended.error, linkly_queue_jobs.error),
    returned = linkly_queue_jobs.returned + ended.returned
FROM ended
WHERE linkly_queue_jobs.position = ended.position AND linkly_queue_jobs.starts = ended.starts
    AND state = 3 AND engine = :engine
RETURNING linkly_queue_jobs.position;

-- name: claim
-- The next jobs of a queue, of those lanes; in the commit that counts their starts.
UPDATE linkly_queue_jobs SET state = 3, starts = starts + 1, engine = :engine, started_at = :now, due_at = NULL
WHERE position IN (
    SELECT job.position FROM json_each(:lanes) AS lane CROSS JOIN linkly_queue_jobs AS job
    WHERE job.position IN (
        SELECT position FROM linkly_queue_jobs AS ready
        WHERE ready.lane = lane.value AND ready.state = 0 AND ready.message_group IS NULL
            AND (ready.expires_at IS NULL OR ready.expires_at > :now)
        ORDER BY ready.priority DESC, ready.position LIMIT :most
    )
    ORDER BY job.priority DESC, job.position LIMIT :most
)
RETURNING position, id, lane, starts, returned, message_group, priority, head, payload;

-- name: claim_groups
-- As `claim`, for a queue in which each message group is one line: its head, if no other of the group is active.
UPDATE linkly_queue_jobs SET state = 3, starts = starts + 1, engine = :engine, started_at = :now, due_at = NULL
WHERE position IN (
    SELECT position FROM linkly_queue_groups
    WHERE queue = :queue AND ready = 1 AND lane IN (SELECT value FROM json_each(:lanes))
    ORDER BY position LIMIT :most
)
RETURNING position, id, lane, starts, returned, message_group, priority, head, payload;
UPDATE linkly_queue_groups SET ready = 0
WHERE queue = :queue AND ready = 1 AND position IN (
    SELECT position FROM linkly_queue_jobs WHERE state = 3 AND engine = :engine AND queue = :queue
);

-- name: regroup
-- Say anew which job is the head of each of these groups, after jobs of them came or went.
WITH changed (name) AS (VALUES (:name), ...)
INSERT INTO linkly_queue_groups (queue, name, position, lane, ready)
SELECT :queue, changed.name, head.position, head.lane, head.state = 0 AND NOT EXISTS (
    SELECT 1 FROM linkly_queue_jobs WHERE queue = :queue AND message_group = changed.name AND message_group IS NOT NULL
        AND state = 3
)
FROM changed CROSS JOIN linkly_queue_jobs AS head ON head.position = (
    SELECT position FROM linkly_queue_jobs
    WHERE queue = :queue AND message_group = changed.name AND message_group IS NOT NULL AND state IN (0, 2, 3)
    ORDER BY position LIMIT 1
)
WHERE true
ON CONFLICT (queue, name) DO UPDATE SET position = excluded.position, lane = excluded.lane, ready = excluded.ready;
WITH changed (name) AS (VALUES (:name), ...)
DELETE FROM linkly_queue_groups WHERE queue = :queue AND name IN (SELECT name FROM changed) AND NOT EXISTS (
    SELECT 1 FROM linkly_queue_jobs
    WHERE queue = :queue AND message_group = linkly_queue_groups.name AND message_group IS NOT NULL
        AND state IN (0, 2, 3)
);

-- name: next_due
-- When a job is due next, or expires.
SELECT MIN(at) AS at FROM (
    SELECT MIN(due_at) AS at FROM linkly_queue_jobs WHERE state IN (1, 2)
    UNION ALL
    SELECT MIN(expires_at) FROM linkly_queue_jobs WHERE expires_at IS NOT NULL AND state IN (0, 1, 2)
);

-- name: due
-- Jobs whose time has come: to wait their turn, or to expire.
SELECT * FROM (
    SELECT position, queue, message_group, 1 AS expires FROM linkly_queue_jobs
    WHERE expires_at <= :now AND expires_at IS NOT NULL AND state IN (0, 1, 2) ORDER BY expires_at LIMIT :most
)
UNION ALL
SELECT * FROM (
    SELECT position, queue, message_group, 0 FROM linkly_queue_jobs
    WHERE state IN (1, 2) AND due_at <= :now AND (expires_at IS NULL OR expires_at > :now) ORDER BY due_at LIMIT :most
);

-- name: expire
WITH old (position) AS (VALUES (:position), ...),
mine AS MATERIALIZED (
    SELECT COUNT(*) AS n, COALESCE(SUM(size), 0) AS bytes FROM old CROSS JOIN linkly_queue_jobs USING (position)
    WHERE state IN (0, 1, 2)
)
UPDATE linkly_queue_counts SET expired = expired + (SELECT n FROM mine), bytes = bytes - (SELECT bytes FROM mine)
WHERE queue = :queue AND engine = :engine;
WITH old (position) AS (VALUES (:position), ...)
UPDATE linkly_queue_jobs SET state = 8, finished_at = :now FROM old
WHERE linkly_queue_jobs.position = old.position AND state IN (0, 1, 2);

-- name: promote
WITH now_due (position) AS (VALUES (:position), ...)
UPDATE linkly_queue_jobs SET state = 0, due_at = NULL FROM now_due
WHERE linkly_queue_jobs.position = now_due.position AND state IN (1, 2) AND due_at <= :now;

-- name: active_here
-- What this engine runs of a queue, as far as the database knows.
SELECT position, starts, engine, returned, queue, message_group FROM linkly_queue_jobs
WHERE state = 3 AND engine = :engine AND queue = :queue;

-- name: lost
-- What ran when the engine ended that had the file before.
SELECT position, starts, engine, returned, queue, message_group FROM linkly_queue_jobs WHERE state = 3;
