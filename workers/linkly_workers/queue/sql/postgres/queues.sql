-- name: make_engine
INSERT INTO linkly_queue_engines (name, seen_at) VALUES (:name::text, :now::bigint) RETURNING id;

-- name: engine
SELECT id FROM linkly_queue_engines WHERE name = :name::text;

-- name: make_queue
INSERT INTO linkly_queues (kind, name, namespace, function_id, settings, made_at)
VALUES (:kind, :name, :namespace, :function_id, :settings, :now)
ON CONFLICT (kind, name, namespace, function_id) DO UPDATE SET settings = excluded.settings, ended_at = NULL;

-- name: queues
SELECT id, kind, name, namespace, function_id, settings, paused, made_at, ended_at FROM linkly_queues ORDER BY id;

-- name: counted_here
-- The row in which an engine counts what happens to a queue.
INSERT INTO linkly_queue_counts (queue, engine) VALUES (:queue, :engine) ON CONFLICT DO NOTHING;

-- name: make_lane
INSERT INTO linkly_queue_lanes (queue, namespace, function_id) VALUES (:queue, :namespace, :function_id)
ON CONFLICT DO NOTHING;

-- name: lanes
SELECT id, queue, namespace, function_id FROM linkly_queue_lanes;

-- name: pause
UPDATE linkly_queues SET paused = :paused WHERE id = :queue;
