-- name: job
SELECT job.position, job.id, job.queue, lane.namespace, lane.function_id, job.state, job.starts, job.returned, job.priority,
    job.message_group, job.due_at, job.expires_at, job.started_at, job.finished_at, job.reason, job.error, job.head, job.size
FROM linkly_queue_jobs AS job JOIN linkly_queue_lanes AS lane ON lane.id = job.lane WHERE job.id = :id::text;

-- name: jobs_by_id
SELECT job.position, job.id, job.queue, lane.namespace, lane.function_id, job.state, job.starts, job.returned, job.priority,
    job.message_group, job.due_at, job.expires_at, job.started_at, job.finished_at, job.reason, job.error, job.head, job.size
FROM linkly_queue_jobs AS job JOIN linkly_queue_lanes AS lane ON lane.id = job.lane
WHERE job.id = ANY (:ids::text[]) ORDER BY job.position;

-- name: jobs_at
SELECT job.position, job.id, job.queue, lane.namespace, lane.function_id, job.state, job.starts, job.returned, job.priority,
    job.message_group, job.due_at, job.expires_at, job.started_at, job.finished_at, job.reason, job.error, job.head, job.size
FROM linkly_queue_jobs AS job JOIN linkly_queue_lanes AS lane ON lane.id = job.lane
WHERE job.position = ANY (:positions::bigint[]) ORDER BY job.position;

-- name: jobs
-- In the order of their acceptance.
SELECT job.position, job.id, job.queue, lane.namespace, lane.function_id, job.state, job.starts, job.returned, job.priority,
    job.message_group, job.due_at, job.expires_at, job.started_at, job.finished_at, job.reason, job.error, job.head, job.size
FROM linkly_queue_jobs AS job JOIN linkly_queue_lanes AS lane ON lane.id = job.lane
WHERE job.position > :after::bigint
    AND (:queue::bigint IS NULL OR job.queue = :queue::bigint)
    AND job.state = ANY (:states::integer[])
    AND (:function_id::text IS NULL OR lane.function_id = :function_id::text)
ORDER BY job.position LIMIT :most::bigint;

-- name: dead
-- Of one queue, those first that have died first.
SELECT job.position, job.id, job.queue, lane.namespace, lane.function_id, job.state, job.starts, job.returned, job.priority,
    job.message_group, job.due_at, job.expires_at, job.started_at, job.finished_at, job.reason, job.error, job.head, job.size
FROM linkly_queue_jobs AS job JOIN linkly_queue_lanes AS lane ON lane.id = job.lane
WHERE job.queue = :queue::bigint AND job.state = 5
    AND (job.finished_at, job.position) > (:died_after::bigint, :after::bigint)
    AND job.finished_at <= :died_before::bigint
    AND (:function_id::text IS NULL OR lane.function_id = :function_id::text)
    AND (:reason::text IS NULL OR job.reason = :reason::text)
    AND (:error::text IS NULL OR strpos(job.error, :error::text) > 0)
ORDER BY job.finished_at, job.position LIMIT :most::bigint;

-- name: payloads
SELECT position, payload FROM linkly_queue_jobs WHERE position = ANY (:positions::bigint[]);

-- name: depth
-- What has not ended, by function.
SELECT lane.queue, lane.namespace, lane.function_id, live.state, live.jobs, live.first
FROM (
    SELECT lane, state, COUNT(*) AS jobs, MIN(position) AS first FROM linkly_queue_jobs WHERE state < 4 GROUP BY lane, state
) AS live JOIN linkly_queue_lanes AS lane ON lane.id = live.lane;

-- name: heads
SELECT position, head FROM linkly_queue_jobs WHERE position = ANY (:positions::bigint[]);

-- name: counts
SELECT queue, SUM(accepted)::bigint AS accepted, SUM(done)::bigint AS done, SUM(dead)::bigint AS dead, SUM(cancelled)::bigint AS cancelled,
    SUM(discarded)::bigint AS discarded, SUM(expired)::bigint AS expired, SUM(bytes)::bigint AS bytes
FROM linkly_queue_counts GROUP BY queue;

-- name: verify
-- Counters and rows at one moment: counters where `state` is -1, message groups that are no line where it is -2.
SELECT queue, -1 AS state, 0 AS jobs, SUM(bytes)::bigint AS bytes, SUM(accepted)::bigint AS accepted, SUM(done)::bigint AS done, SUM(dead)::bigint AS dead,
    SUM(cancelled)::bigint AS cancelled, SUM(discarded)::bigint AS discarded, SUM(expired)::bigint AS expired
FROM linkly_queue_counts GROUP BY queue
UNION ALL
SELECT queue, state, COUNT(*), SUM(size)::bigint, 0, 0, 0, 0, 0, 0 FROM linkly_queue_jobs GROUP BY queue, state
UNION ALL
SELECT job.queue, -2, COUNT(*), 0, 0, 0, 0, 0, 0, 0 FROM linkly_queue_jobs AS job
WHERE job.message_group IS NOT NULL AND job.state IN (0, 2, 3) AND NOT EXISTS (
    SELECT 1 FROM linkly_queue_groups AS line WHERE line.queue = job.queue AND line.name = job.message_group
) AND job.queue NOT IN (SELECT id FROM linkly_queues WHERE kind = 'kept')
GROUP BY job.queue;

-- name: newest
SELECT COALESCE(MAX(position), 0) AS position FROM linkly_queue_jobs;
