-- As on SQLite (`../sqlite/topics.sql`). Who publishes shares a lock of the topic, who subscribes has it alone: so a
-- message is kept or goes to a subscription that begins, and nothing is between the two. An engine that stands still in such
-- a transaction loses it after a time.

-- name: lock_topic
SELECT 'locked', 1 FROM (SELECT set_config('idle_in_transaction_session_timeout', '30000', true)) AS bounded
CROSS JOIN pg_advisory_xact_lock_shared(hashtextextended('linkly topic ' || :topic::text, 0));

-- name: lock_topic_alone
SELECT 'locked', 1 FROM (SELECT set_config('idle_in_transaction_session_timeout', '30000', true)) AS bounded
CROSS JOIN pg_advisory_xact_lock(hashtextextended('linkly topic ' || :topic::text, 0));

-- name: make_subscription
-- It gets messages from `subscribe` on.
INSERT INTO linkly_queues (kind, name, namespace, function_id, made_at, ended_at)
VALUES ('subscription', :topic, :namespace, :function_id, :now::bigint, :now::bigint)
ON CONFLICT DO NOTHING;

-- name: subscribe
UPDATE linkly_queues SET settings = :settings, ended_at = NULL WHERE id = :queue;

-- name: unsubscribe
UPDATE linkly_queues SET ended_at = :now WHERE id = :queue;

-- name: line_up
-- All jobs of a subscription are one line from now on, or (without a group) none; nothing of it is active here.
UPDATE linkly_queue_jobs SET message_group = :message_group::text WHERE lane = :lane AND state < 4;

-- name: take_kept
-- A subscription that begins gets what its topic has kept.
WITH taken AS (
    UPDATE linkly_queue_jobs
    SET queue = :queue::bigint, lane = :lane::bigint, message_group = :message_group::text, expires_at = NULL
    WHERE queue = :kept::bigint AND message_group = :topic::text AND message_group IS NOT NULL AND state IN (0, 2, 3)
    RETURNING size
)
INSERT INTO linkly_queue_counts AS counts (queue, engine, accepted, bytes)
SELECT moved.queue, :engine::bigint, factor * COUNT(*), factor * COALESCE(SUM(size), 0)
FROM taken CROSS JOIN (VALUES (:kept::bigint, -1), (:queue::bigint, 1)) AS moved (queue, factor)
GROUP BY moved.queue, factor ORDER BY moved.queue
ON CONFLICT (queue, engine) DO UPDATE SET
    accepted = counts.accepted + excluded.accepted, bytes = counts.bytes + excluded.bytes;

-- name: full
-- The subscriptions of a topic that have no room for one more message.
SELECT queues.id, queues.name, queues.namespace, queues.function_id, lanes.id AS lane,
    SUM(counts.accepted - counts.done - counts.dead - counts.cancelled - counts.discarded - counts.expired)::bigint AS jobs
FROM linkly_queues AS queues JOIN linkly_queue_counts AS counts ON counts.queue = queues.id
JOIN linkly_queue_lanes AS lanes ON lanes.queue = queues.id
WHERE queues.kind = 'subscription' AND queues.name = :topic::text AND queues.ended_at IS NULL
GROUP BY queues.id, queues.name, queues.namespace, queues.function_id, lanes.id
HAVING SUM(counts.accepted - counts.done - counts.dead - counts.cancelled - counts.discarded - counts.expired)
    >= :max_jobs::bigint OR SUM(counts.bytes) + :size::bigint > :max_bytes::bigint;

-- name: publish
-- One job for each subscription of a topic; if it has none, the message is kept. Answers where it has gone. Lines are
-- locked before the positions of their new jobs are taken (`lock_groups`).
INSERT INTO linkly_queue_groups (queue, name, position, lane, ready)
SELECT id, '', 0, 0, 0 FROM linkly_queues
WHERE kind = 'subscription' AND name = :topic::text AND ended_at IS NULL AND settings::json ->> 'type' = 'fifo'
ORDER BY id
ON CONFLICT (queue, name) DO UPDATE SET queue = excluded.queue;
WITH published AS (
    INSERT INTO linkly_queue_jobs (id, queue, lane, state, priority, message_group, size, head, payload)
    SELECT :id::text || '.' || queues.id, queues.id, lanes.id, 0, 0,
        CASE queues.settings::json ->> 'type' WHEN 'fifo' THEN '' END, :size::bigint, :head::bytea, :payload::text
    FROM linkly_queues AS queues JOIN linkly_queue_lanes AS lanes ON lanes.queue = queues.id
    WHERE queues.kind = 'subscription' AND queues.name = :topic::text AND queues.ended_at IS NULL
    ORDER BY queues.id
    RETURNING queue, size
),
counted AS (
    INSERT INTO linkly_queue_counts AS counts (queue, engine, accepted, bytes)
    SELECT queue, :engine::bigint, 1, size FROM published ORDER BY queue
    ON CONFLICT (queue, engine) DO UPDATE SET
        accepted = counts.accepted + excluded.accepted, bytes = counts.bytes + excluded.bytes
)
SELECT queue FROM published;
WITH published AS (
    INSERT INTO linkly_queue_jobs (id, queue, lane, state, priority, message_group, expires_at, size, head, payload)
    SELECT :id::text, :kept::bigint, :kept_lane::bigint, 0, 0, :topic::text, :expires_at::bigint, :size::bigint,
        :head::bytea, :payload::text
    WHERE NOT EXISTS (
        SELECT 1 FROM linkly_queues WHERE kind = 'subscription' AND name = :topic::text AND ended_at IS NULL
    )
    RETURNING queue, size
),
counted AS (
    INSERT INTO linkly_queue_counts AS counts (queue, engine, accepted, bytes)
    SELECT queue, :engine::bigint, 1, size FROM published
    ON CONFLICT (queue, engine) DO UPDATE SET
        accepted = counts.accepted + excluded.accepted, bytes = counts.bytes + excluded.bytes
)
SELECT queue FROM published;
UPDATE linkly_queue_groups AS groups SET position = head.position, lane = head.lane, ready = (head.state = 0 AND NOT EXISTS (
    SELECT 1 FROM linkly_queue_jobs AS busy WHERE busy.queue = groups.queue AND busy.message_group = '' AND busy.state = 3
))::integer
FROM linkly_queues AS queues CROSS JOIN LATERAL (
    SELECT position, lane, state FROM linkly_queue_jobs
    WHERE queue = queues.id AND message_group = '' AND message_group IS NOT NULL AND state IN (0, 2, 3)
    ORDER BY position LIMIT 1
) AS head
WHERE groups.queue = queues.id AND groups.name = '' AND queues.kind = 'subscription' AND queues.name = :topic::text
    AND queues.ended_at IS NULL;

-- name: bury_oldest
-- The oldest jobs of a subscription that wait are dead: there is room then.
WITH plain AS MATERIALIZED (
    SELECT position FROM linkly_queue_jobs
    WHERE lane = :lane::bigint AND state = 0 AND message_group IS NULL AND priority = 0
    ORDER BY position LIMIT :most::bigint FOR UPDATE SKIP LOCKED
), line AS MATERIALIZED (
    SELECT position FROM linkly_queue_jobs
    WHERE queue = :queue::bigint AND message_group = '' AND message_group IS NOT NULL AND state IN (0, 2, 3) AND state <> 3
    ORDER BY position LIMIT :most::bigint FOR UPDATE SKIP LOCKED
), mine AS (
    UPDATE linkly_queue_jobs AS job
    SET state = 5, reason = :reason::text, error = :error::text, finished_at = :now::bigint, due_at = NULL
    FROM (SELECT position FROM plain UNION ALL SELECT position FROM line) AS oldest
    WHERE job.position = oldest.position
    RETURNING job.position, size
), counted AS (
    INSERT INTO linkly_queue_counts AS counts (queue, engine, dead, bytes)
    SELECT :queue::bigint, :engine::bigint, COUNT(*), -SUM(size) FROM mine HAVING COUNT(*) > 0
    ON CONFLICT (queue, engine) DO UPDATE SET
        dead = counts.dead + excluded.dead, bytes = counts.bytes + excluded.bytes
)
SELECT position FROM mine;

-- name: drop_kept
-- The oldest messages that nobody has subscribed to are kept no longer.
WITH oldest AS MATERIALIZED (
    SELECT position FROM linkly_queue_jobs
    WHERE queue = :kept::bigint AND message_group IS NOT NULL AND state IN (0, 2, 3)
    ORDER BY position LIMIT :most::bigint FOR UPDATE SKIP LOCKED
), mine AS (
    UPDATE linkly_queue_jobs AS job SET state = 8, finished_at = :now::bigint
    FROM oldest WHERE job.position = oldest.position
    RETURNING size
)
INSERT INTO linkly_queue_counts AS counts (queue, engine, expired, bytes)
SELECT :kept::bigint, :engine::bigint, COUNT(*), -SUM(size) FROM mine HAVING COUNT(*) > 0
ON CONFLICT (queue, engine) DO UPDATE SET
    expired = counts.expired + excluded.expired, bytes = counts.bytes + excluded.bytes;
