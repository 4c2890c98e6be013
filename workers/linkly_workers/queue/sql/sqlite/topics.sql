-- A subscription is a queue of its own: what one function has of one topic. Its settings are JSON; one of type fifo has
-- all of its jobs in one message group, ''. Messages of topics without subscriptions are jobs of the queue `kept`, where
-- the message group is the topic.

-- name: lock_topic
-- There is one writer: nothing has to be locked.

-- name: lock_topic_alone

-- name: make_subscription
-- It gets messages from `subscribe` on.
INSERT INTO linkly_queues (kind, name, namespace, function_id, made_at, ended_at)
VALUES ('subscription', :topic, :namespace, :function_id, :now, :now)
ON CONFLICT DO NOTHING;

-- name: subscribe
UPDATE linkly_queues SET settings = :settings, ended_at = NULL WHERE id = :queue;

-- name: unsubscribe
UPDATE linkly_queues SET ended_at = :now WHERE id = :queue;

-- name: line_up
-- All jobs of a subscription are one line from now on, or (without a group) none; nothing of it is active.
UPDATE linkly_queue_jobs SET message_group = :message_group WHERE lane = :lane AND state < 4;

-- name: take_kept
-- A subscription that begins gets what its topic has kept.
WITH taken AS MATERIALIZED (
    SELECT COUNT(*) AS n, COALESCE(SUM(size), 0) AS bytes FROM linkly_queue_jobs
    WHERE queue = :kept AND message_group = :topic AND message_group IS NOT NULL AND state IN (0, 2, 3)
)
UPDATE linkly_queue_counts SET
    accepted = accepted + (SELECT n FROM taken) * CASE queue WHEN :kept THEN -1 ELSE 1 END,
    bytes = bytes + (SELECT bytes FROM taken) * CASE queue WHEN :kept THEN -1 ELSE 1 END
WHERE queue IN (:kept, :queue) AND engine = :engine;
UPDATE linkly_queue_jobs SET queue = :queue, lane = :lane, message_group = :message_group, expires_at = NULL
WHERE queue = :kept AND message_group = :topic AND message_group IS NOT NULL AND state IN (0, 2, 3);

-- name: full
-- The subscriptions of a topic that have no room for one more message.
SELECT queues.id, queues.name, queues.namespace, queues.function_id, lanes.id AS lane,
    SUM(counts.accepted - counts.done - counts.dead - counts.cancelled - counts.discarded - counts.expired) AS jobs
FROM linkly_queues AS queues JOIN linkly_queue_counts AS counts ON counts.queue = queues.id
JOIN linkly_queue_lanes AS lanes ON lanes.queue = queues.id
WHERE queues.kind = 'subscription' AND queues.name = :topic AND queues.ended_at IS NULL
GROUP BY queues.id, queues.name, queues.namespace, queues.function_id, lanes.id
HAVING SUM(counts.accepted - counts.done - counts.dead - counts.cancelled - counts.discarded - counts.expired) >= :max_jobs
    OR SUM(counts.bytes) + :size > :max_bytes;

-- name: publish
-- One job for each subscription of a topic; if it has none, the message is kept. Each INSERT answers where it has gone.
INSERT INTO linkly_queue_jobs (id, queue, lane, state, priority, message_group, size, head, payload)
SELECT :id || '.' || queues.id, queues.id, lanes.id, 0, 0,
    CASE json_extract(queues.settings, '$.type') WHEN 'fifo' THEN '' END, :size, :head, :payload
FROM linkly_queues AS queues JOIN linkly_queue_lanes AS lanes ON lanes.queue = queues.id
WHERE queues.kind = 'subscription' AND queues.name = :topic AND queues.ended_at IS NULL
RETURNING queue;
INSERT INTO linkly_queue_jobs (id, queue, lane, state, priority, message_group, expires_at, size, head, payload)
SELECT :id, :kept, :kept_lane, 0, 0, :topic, :expires_at, :size, :head, :payload
WHERE NOT EXISTS (
    SELECT 1 FROM linkly_queues WHERE kind = 'subscription' AND name = :topic AND ended_at IS NULL
)
RETURNING queue;
INSERT INTO linkly_queue_counts (queue, engine, accepted, bytes)
SELECT id, :engine, 1, :size FROM linkly_queues
WHERE kind = 'subscription' AND name = :topic AND ended_at IS NULL
UNION ALL
SELECT queue, :engine, 1, :size FROM linkly_queue_jobs WHERE id = :id
ON CONFLICT (queue, engine) DO UPDATE SET accepted = accepted + 1, bytes = bytes + excluded.bytes;
INSERT INTO linkly_queue_groups (queue, name, position, lane, ready)
SELECT queues.id, '', job.position, job.lane, 1
FROM linkly_queues AS queues JOIN linkly_queue_jobs AS job ON job.id = :id || '.' || queues.id
WHERE queues.kind = 'subscription' AND queues.name = :topic AND queues.ended_at IS NULL AND job.message_group = ''
ON CONFLICT DO NOTHING;

-- name: bury_oldest
-- The oldest jobs of a subscription that wait are dead: there is room then.
WITH plain AS MATERIALIZED (
    SELECT position, size FROM linkly_queue_jobs
    WHERE lane = :lane AND state = 0 AND message_group IS NULL AND priority = 0 ORDER BY position LIMIT :most
), line AS MATERIALIZED (
    SELECT position, size FROM linkly_queue_jobs
    WHERE queue = :queue AND message_group = '' AND message_group IS NOT NULL AND state IN (0, 2, 3) AND state <> 3
    ORDER BY position LIMIT :most
), oldest AS (SELECT * FROM plain UNION ALL SELECT * FROM line)
UPDATE linkly_queue_counts SET
    dead = dead + (SELECT COUNT(*) FROM oldest), bytes = bytes - (SELECT COALESCE(SUM(size), 0) FROM oldest)
WHERE queue = :queue AND engine = :engine;
WITH plain AS MATERIALIZED (
    SELECT position, size FROM linkly_queue_jobs
    WHERE lane = :lane AND state = 0 AND message_group IS NULL AND priority = 0 ORDER BY position LIMIT :most
), line AS MATERIALIZED (
    SELECT position, size FROM linkly_queue_jobs
    WHERE queue = :queue AND message_group = '' AND message_group IS NOT NULL AND state IN (0, 2, 3) AND state <> 3
    ORDER BY position LIMIT :most
), oldest AS (SELECT * FROM plain UNION ALL SELECT * FROM line)
UPDATE linkly_queue_jobs SET state = 5, reason = :reason, error = :error, finished_at = :now, due_at = NULL
WHERE position IN (SELECT position FROM oldest)
RETURNING position;

-- name: drop_kept
-- The oldest messages that nobody has subscribed to are kept no longer.
WITH oldest AS MATERIALIZED (
    SELECT size FROM linkly_queue_jobs
    WHERE queue = :kept AND message_group IS NOT NULL AND state IN (0, 2, 3) ORDER BY position LIMIT :most
)
UPDATE linkly_queue_counts SET
    expired = expired + (SELECT COUNT(*) FROM oldest), bytes = bytes - (SELECT COALESCE(SUM(size), 0) FROM oldest)
WHERE queue = :kept AND engine = :engine;
UPDATE linkly_queue_jobs SET state = 8, finished_at = :now
WHERE position IN (
    SELECT position FROM linkly_queue_jobs
    WHERE queue = :kept AND message_group IS NOT NULL AND state IN (0, 2, 3) ORDER BY position LIMIT :most
);
