-- What engines that share a database have to do for one another. Leases are by the server's clock. An engine has one
-- for all of its jobs, renewed by `claim` and `keep_lease`; what is active without one belongs to nobody.

-- name: poll
-- What others may have changed, in one look whose cost does not depend on the backlog: lanes with jobs that can start,
-- when one is due next, whether jobs are active without a lease, and a number that changes when a queue is made, changed,
-- paused or ended.
SELECT 'lane' AS what, lanes.id AS number FROM linkly_queue_lanes AS lanes CROSS JOIN LATERAL (
    SELECT 1 FROM linkly_queue_jobs WHERE lane = lanes.id AND state = 0 AND message_group IS NULL
    ORDER BY priority DESC, position LIMIT 1
) AS ready
UNION ALL
SELECT 'lane', lanes.id FROM linkly_queue_lanes AS lanes CROSS JOIN LATERAL (
    SELECT 1 FROM linkly_queue_groups WHERE lane = lanes.id AND ready = 1 ORDER BY position LIMIT 1
) AS line
UNION ALL
SELECT 'due', LEAST(
    (SELECT MIN(due_at) FROM linkly_queue_jobs WHERE state IN (1, 2)),
    (SELECT MIN(expires_at) FROM linkly_queue_jobs WHERE expires_at IS NOT NULL AND state IN (0, 1, 2))
)
UNION ALL
SELECT 'lost', COUNT(*) FROM (
    SELECT DISTINCT engine FROM linkly_queue_jobs WHERE state = 3 AND engine <> :engine::bigint
) AS running
WHERE NOT EXISTS (
    SELECT 1 FROM linkly_queue_engines AS owner
    WHERE owner.id = running.engine AND lease_until > extract(epoch FROM clock_timestamp()) * 1000
)
UNION ALL
SELECT 'queues', hashtextextended(COALESCE(string_agg(
    concat_ws(' ', id, paused, COALESCE(ended_at, 0), settings), ',' ORDER BY id
), ''), 0) >> 11 FROM linkly_queues;

-- name: keep_lease
INSERT INTO linkly_queue_engines AS mine (id, name, seen_at, lease_until)
SELECT :engine::bigint, :name::text, :now::bigint, extract(epoch FROM clock_timestamp()) * 1000 + :lease_ms::bigint
ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at, lease_until = excluded.lease_until;

-- name: fold
-- Counts of engines without a lease go into the row of engine 0, and engines that were not seen for a day are forgotten.
-- One that is still there and counts again gets a row again, because every count makes the row that it lacks.
WITH old AS MATERIALIZED (
    SELECT counts.* FROM linkly_queue_counts AS counts
    WHERE engine <> 0 AND (engine = :leaving::bigint OR engine <> :engine::bigint AND NOT EXISTS (
        SELECT 1 FROM linkly_queue_engines AS owner
        WHERE owner.id = counts.engine AND lease_until > extract(epoch FROM clock_timestamp()) * 1000
    ))
    ORDER BY queue, engine FOR UPDATE SKIP LOCKED
),
removed AS (
    DELETE FROM linkly_queue_counts AS counts USING old WHERE counts.queue = old.queue AND counts.engine = old.engine
),
forgotten AS (
    DELETE FROM linkly_queue_engines
    WHERE id = :leaving::bigint OR id <> :engine::bigint AND seen_at < :now::bigint - 86400000
        AND lease_until < extract(epoch FROM clock_timestamp()) * 1000
)
INSERT INTO linkly_queue_counts AS counts
    (queue, engine, accepted, done, dead, cancelled, discarded, expired, bytes)
SELECT queue, 0, SUM(accepted), SUM(done), SUM(dead), SUM(cancelled), SUM(discarded), SUM(expired), SUM(bytes)
FROM old GROUP BY queue ORDER BY queue
ON CONFLICT (queue, engine) DO UPDATE SET
    accepted = counts.accepted + excluded.accepted, done = counts.done + excluded.done, dead = counts.dead + excluded.dead,
    cancelled = counts.cancelled + excluded.cancelled, discarded = counts.discarded + excluded.discarded,
    expired = counts.expired + excluded.expired, bytes = counts.bytes + excluded.bytes;
