-- Counters change in the statement that changes the jobs, in a row of the engine that writes; `tables.sql` says in which
-- order locks are taken. What a snapshot of the start of a statement cannot see is seen by the next one. An engine that
-- stands still in a transaction loses it when its lease would be over: what it has locked would have to wait for it.

-- name: lock_groups
-- Keeps these groups from everybody else until the commit. It comes before the positions of their new jobs are taken, so
-- that jobs of a group have positions in the order of their commits, and before `regroup`, which then sees all of them.
INSERT INTO linkly_queue_groups (queue, name, position, lane, ready)
SELECT :queue::bigint, name, 0, 0, 0 FROM unnest(:name::text[]) AS name
CROSS JOIN (SELECT set_config('idle_in_transaction_session_timeout', :lease_ms::bigint::text, true)) AS bounded
ORDER BY name COLLATE "C"
ON CONFLICT (queue, name) DO UPDATE SET queue = excluded.queue;

-- name: held
-- What a queue holds: jobs that have not ended, and bytes of their payloads.
SELECT COALESCE(SUM(accepted - done - dead - cancelled - discarded - expired), 0)::bigint AS jobs,
    COALESCE(SUM(bytes), 0)::bigint AS bytes
FROM linkly_queue_counts WHERE queue = :queue;

-- name: is_there
SELECT id FROM linkly_queue_jobs WHERE id = :id;

-- name: accept
-- Jobs of one queue. Changes no row if it has no room for them.
WITH new (id, lane, priority, message_group, due_at, expires_at, size, head, payload) AS (
    VALUES (
        :id::text, :lane::bigint, :priority::integer, :message_group::text, :due_at::bigint, :expires_at::bigint,
        :size::bigint, :head::bytea, :payload::text
    ), ...
),
room AS MATERIALIZED (
    SELECT 1 FROM linkly_queue_counts WHERE queue = :into::bigint
    HAVING COALESCE(SUM(accepted - done - dead - cancelled - discarded - expired), 0) + :jobs::bigint <= :max_jobs::bigint
        AND COALESCE(SUM(bytes), 0) + :all_bytes::bigint <= :max_bytes::bigint
),
accepted AS (
    INSERT INTO linkly_queue_jobs
        (id, queue, lane, state, priority, message_group, due_at, expires_at, size, head, payload)
    SELECT id, :into::bigint, lane, (due_at IS NOT NULL)::integer, priority, message_group, due_at, expires_at, size,
        head, payload
    FROM new WHERE id IS NOT NULL AND EXISTS (SELECT 1 FROM room)
)
INSERT INTO linkly_queue_counts AS counts (queue, engine, accepted, bytes)
SELECT :into::bigint, :engine::bigint, :jobs::bigint, :all_bytes::bigint FROM room
ON CONFLICT (queue, engine) DO UPDATE SET
    accepted = counts.accepted + excluded.accepted, bytes = counts.bytes + excluded.bytes;

-- name: accept_with_key
-- One job, if nobody has used its key within the window; answers the receipt that the key has. None: the queue has no room,
-- or the key was used for another job. Whoever takes the same key at the same time waits for the first of them.
WITH room AS MATERIALIZED (
    SELECT 1 FROM linkly_queue_counts WHERE queue = :queue::bigint
    HAVING COALESCE(SUM(accepted - done - dead - cancelled - discarded - expired), 0) < :max_jobs::bigint
        AND COALESCE(SUM(bytes), 0) + :size::bigint <= :max_bytes::bigint
),
taken AS (
    INSERT INTO linkly_queue_keys AS keys (queue, key, id, digest, expires_at)
    SELECT :queue::bigint, :key::text, :id::text, :digest::bytea, :now::bigint + :window_ms::bigint FROM room
    ON CONFLICT (queue, key) DO UPDATE SET
        id = excluded.id, digest = excluded.digest, expires_at = excluded.expires_at
    WHERE keys.expires_at <= :now::bigint
    RETURNING id
),
accepted AS (
    INSERT INTO linkly_queue_jobs
        (id, queue, lane, state, priority, message_group, due_at, expires_at, size, head, payload)
    SELECT id, :queue::bigint, :lane::bigint, :state::integer, :priority::integer, :message_group::text,
        :due_at::bigint, :expires_at::bigint, :size::bigint, :head::bytea, :payload::text
    FROM taken
)
INSERT INTO linkly_queue_counts AS counts (queue, engine, accepted, bytes)
SELECT :queue::bigint, :engine::bigint, 1, :size::bigint FROM taken
ON CONFLICT (queue, engine) DO UPDATE SET
    accepted = counts.accepted + excluded.accepted, bytes = counts.bytes + excluded.bytes;
SELECT id FROM linkly_queue_keys WHERE queue = :queue AND key = :key AND digest = :digest;

-- name: has_job
SELECT id FROM linkly_queue_jobs WHERE id = :id;

-- name: key
SELECT id, digest FROM linkly_queue_keys WHERE queue = :queue AND key = :key AND expires_at > :now;

-- name: finish
-- Attempts that have come to an end, for good; of those whose token is not valid any more nothing happens.
WITH ended (position, starts) AS (VALUES (:position::bigint, :starts::integer), ...),
mine AS (
    UPDATE linkly_queue_jobs AS job SET state = 4, finished_at = :now::bigint, engine = NULL FROM ended
    WHERE job.position = ended.position AND job.starts = ended.starts AND state = 3 AND engine = :engine::bigint
    RETURNING job.position, size
),
counted AS (
    INSERT INTO linkly_queue_counts AS counts (queue, engine, done, bytes)
    SELECT :queue::bigint, :engine::bigint, COUNT(*), -SUM(size) FROM mine HAVING COUNT(*) > 0
    ON CONFLICT (queue, engine) DO UPDATE SET
        done = counts.done + excluded.done, bytes = counts.bytes + excluded.bytes
)
SELECT position FROM mine;

-- name: bury
-- As `finish`, for jobs that are dead.
WITH ended (position, starts, reason, error) AS (
    VALUES (:position::bigint, :starts::integer, :reason::text, :error::text), ...
),
mine AS (
    UPDATE linkly_queue_jobs AS job SET
        state = 5, finished_at = :now::bigint, engine = NULL, reason = ended.reason, error = ended.error
    FROM ended
    WHERE job.position = ended.position AND job.starts = ended.starts AND state = 3 AND engine = :engine::bigint
    RETURNING job.position, size
),
counted AS (
    INSERT INTO linkly_queue_counts AS counts (queue, engine, dead, bytes)
    SELECT :queue::bigint, :engine::bigint, COUNT(*), -SUM(size) FROM mine HAVING COUNT(*) > 0
    ON CONFLICT (queue, engine) DO UPDATE SET
        dead = counts.dead + excluded.dead, bytes = counts.bytes + excluded.bytes
)
SELECT position FROM mine;

-- name: put_back
-- As `finish`, for jobs that run once more: at a time, or (without one) as soon as it is their turn. `returned` starts
-- do not count.
WITH ended (position, starts, due_at, error, returned) AS (
    VALUES (:position::bigint, :starts::integer, :due_at::bigint, :error::text, :returned::integer), ...
)
UPDATE linkly_queue_jobs AS job SET
    state = CASE WHEN ended.due_at IS NULL THEN 0 ELSE 2 END,
    due_at = ended.due_at,
    engine = NULL,
    error = COALESCE(ended.error, job.error),
    returned = job.returned + ended.returned
FROM ended
WHERE job.position = ended.position AND job.starts = ended.starts AND state = 3 AND engine = :engine::bigint
RETURNING job.position;

-- name: claim
-- The next jobs of a queue, of those lanes, in the commit that counts their starts, and that renews the engine's lease when
-- a third of it is over. What others are claiming is passed over.
WITH picked AS MATERIALIZED (
    SELECT ready.position FROM unnest(:lanes::bigint[]) AS lanes (id)
    CROSS JOIN (SELECT set_config('idle_in_transaction_session_timeout', :lease_ms::bigint::text, true)) AS bounded
    CROSS JOIN LATERAL (
        SELECT position, priority FROM linkly_queue_jobs
        WHERE lane = lanes.id AND state = 0 AND message_group IS NULL
            AND (expires_at IS NULL OR expires_at > :now::bigint)
        ORDER BY priority DESC, position LIMIT :most::bigint FOR UPDATE SKIP LOCKED
    ) AS ready
    ORDER BY ready.priority DESC, ready.position LIMIT :most::bigint
),
begun AS (
    UPDATE linkly_queue_jobs AS job
    SET state = 3, starts = starts + 1, engine = :engine::bigint, started_at = :now::bigint, due_at = NULL
    FROM picked WHERE job.position = picked.position
    RETURNING job.position, id, lane, starts, returned, message_group, priority, head, payload
),
leased AS (
    INSERT INTO linkly_queue_engines AS mine (id, name, seen_at, lease_until)
    SELECT :engine::bigint, :name::text, :now::bigint, extract(epoch FROM clock_timestamp()) * 1000 + :lease_ms::bigint
    WHERE EXISTS (SELECT 1 FROM begun) AND NOT EXISTS (
        SELECT 1 FROM linkly_queue_engines WHERE id = :engine::bigint
            AND lease_until > extract(epoch FROM clock_timestamp()) * 1000 + :lease_ms::bigint * 2 / 3
    )
    ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at, lease_until = excluded.lease_until
)
SELECT position, id, lane, starts, returned, message_group, priority, head, payload FROM begun;

-- name: claim_groups
-- As `claim`, for a queue in which each message group is one line: its head, if no other of the group is active. The
-- group's row is locked until the commit only, and not while its job runs.
WITH picked AS MATERIALIZED (
    SELECT ready.position FROM unnest(:lanes::bigint[]) AS lanes (id)
    CROSS JOIN (SELECT set_config('idle_in_transaction_session_timeout', :lease_ms::bigint::text, true)) AS bounded
    CROSS JOIN LATERAL (
        SELECT position FROM linkly_queue_groups WHERE lane = lanes.id AND ready = 1
        ORDER BY position LIMIT :most::bigint FOR UPDATE SKIP LOCKED
    ) AS ready
    ORDER BY ready.position LIMIT :most::bigint
),
begun AS (
    UPDATE linkly_queue_jobs AS job
    SET state = 3, starts = starts + 1, engine = :engine::bigint, started_at = :now::bigint, due_at = NULL
    FROM picked WHERE job.position = picked.position AND state = 0
    RETURNING job.position, id, lane, starts, returned, message_group, priority, head, payload
),
marked AS (
    UPDATE linkly_queue_groups AS groups SET ready = 0 FROM begun
    WHERE groups.queue = :queue::bigint AND groups.name = begun.message_group
),
leased AS (
    INSERT INTO linkly_queue_engines AS mine (id, name, seen_at, lease_until)
    SELECT :engine::bigint, :name::text, :now::bigint, extract(epoch FROM clock_timestamp()) * 1000 + :lease_ms::bigint
    WHERE EXISTS (SELECT 1 FROM begun) AND NOT EXISTS (
        SELECT 1 FROM linkly_queue_engines WHERE id = :engine::bigint
            AND lease_until > extract(epoch FROM clock_timestamp()) * 1000 + :lease_ms::bigint * 2 / 3
    )
    ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at, lease_until = excluded.lease_until
)
SELECT position, id, lane, starts, returned, message_group, priority, head, payload FROM begun;

-- name: regroup
-- Say anew which job is the head of each of these groups, after jobs of them came or went; `lock_groups` has locked them.
WITH changed AS MATERIALIZED (
    SELECT name, head.position, head.lane, (head.state = 0 AND NOT EXISTS (
        SELECT 1 FROM linkly_queue_jobs WHERE queue = :queue::bigint AND message_group = name AND state = 3
    ))::integer AS ready
    FROM unnest(:name::text[]) AS name LEFT JOIN LATERAL (
        SELECT position, lane, state FROM linkly_queue_jobs
        WHERE queue = :queue::bigint AND message_group = name AND state IN (0, 2, 3)
        ORDER BY position LIMIT 1
    ) AS head ON true
),
gone AS (
    DELETE FROM linkly_queue_groups AS groups USING changed
    WHERE groups.queue = :queue::bigint AND groups.name = changed.name AND changed.position IS NULL
)
UPDATE linkly_queue_groups AS groups SET position = changed.position, lane = changed.lane, ready = changed.ready
FROM changed
WHERE groups.queue = :queue::bigint AND groups.name = changed.name AND changed.position IS NOT NULL
    AND (groups.position, groups.lane, groups.ready) <> (changed.position, changed.lane, changed.ready);

-- name: next_due
-- When a job is due next, or expires.
SELECT LEAST(
    (SELECT MIN(due_at) FROM linkly_queue_jobs WHERE state IN (1, 2)),
    (SELECT MIN(expires_at) FROM linkly_queue_jobs WHERE expires_at IS NOT NULL AND state IN (0, 1, 2))
) AS at;

-- name: due
-- Jobs whose time has come: to wait their turn, or to expire.
(SELECT position, queue, message_group, 1 AS expires FROM linkly_queue_jobs
WHERE expires_at <= :now::bigint AND expires_at IS NOT NULL AND state IN (0, 1, 2) ORDER BY expires_at LIMIT :most::bigint)
UNION ALL
(SELECT position, queue, message_group, 0 FROM linkly_queue_jobs
WHERE state IN (1, 2) AND due_at <= :now::bigint AND (expires_at IS NULL OR expires_at > :now::bigint)
ORDER BY due_at LIMIT :most::bigint);

-- name: expire
WITH old (position) AS (VALUES (:position::bigint), ...),
mine AS (
    UPDATE linkly_queue_jobs AS job SET state = 8, finished_at = :now::bigint FROM old
    WHERE job.position = old.position AND state IN (0, 1, 2)
    RETURNING size
)
INSERT INTO linkly_queue_counts AS counts (queue, engine, expired, bytes)
SELECT :queue::bigint, :engine::bigint, COUNT(*), -SUM(size) FROM mine HAVING COUNT(*) > 0
ON CONFLICT (queue, engine) DO UPDATE SET
    expired = counts.expired + excluded.expired, bytes = counts.bytes + excluded.bytes;

-- name: promote
WITH now_due (position) AS (VALUES (:position::bigint), ...)
UPDATE linkly_queue_jobs AS job SET state = 0, due_at = NULL FROM now_due
WHERE job.position = now_due.position AND state IN (1, 2) AND due_at <= :now::bigint;

-- name: active_here
-- What this engine runs of a queue, as far as the database knows.
SELECT position, starts, engine, returned, queue, message_group FROM linkly_queue_jobs
WHERE state = 3 AND engine = :engine AND queue = :queue;

-- name: lost
-- What runs on engines whose lease is over.
SELECT position, starts, engine, returned, queue, message_group FROM linkly_queue_jobs AS job
WHERE state = 3 AND engine <> :engine AND NOT EXISTS (
    SELECT 1 FROM linkly_queue_engines AS owner
    WHERE owner.id = job.engine AND lease_until > extract(epoch FROM clock_timestamp()) * 1000
);
