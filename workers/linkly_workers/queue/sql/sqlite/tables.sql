-- A queue is a named one of the config, or a subscription: what one function has of one topic. A lane is the jobs of one
-- function in one queue. A job keeps its `position`, the order of acceptance, for life. `jobs.py` says what the numbers of
-- `state` mean, and the token of an attempt: (position, engine, starts). Times are milliseconds since the epoch.

-- name: tables
CREATE TABLE IF NOT EXISTS linkly_queues (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    namespace TEXT NOT NULL,
    function_id TEXT NOT NULL,
    settings TEXT NOT NULL DEFAULT '{}',
    paused INTEGER NOT NULL DEFAULT 0,
    made_at INTEGER NOT NULL,
    ended_at INTEGER,
    UNIQUE (kind, name, namespace, function_id)
);
CREATE TABLE IF NOT EXISTS linkly_queue_lanes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    queue INTEGER NOT NULL,
    namespace TEXT NOT NULL,
    function_id TEXT NOT NULL,
    served_at INTEGER NOT NULL DEFAULT 0,
    UNIQUE (queue, namespace, function_id)
);
CREATE TABLE IF NOT EXISTS linkly_queue_jobs (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    queue INTEGER NOT NULL,
    lane INTEGER NOT NULL,
    state INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    message_group TEXT,
    due_at INTEGER,
    expires_at INTEGER,
    starts INTEGER NOT NULL DEFAULT 0,
    returned INTEGER NOT NULL DEFAULT 0,
    engine INTEGER,
    started_at INTEGER,
    finished_at INTEGER,
    reason TEXT,
    error TEXT,
    size INTEGER NOT NULL,
    head BLOB NOT NULL,
    payload TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS linkly_queue_groups (
    queue INTEGER NOT NULL,
    name TEXT NOT NULL,
    position INTEGER NOT NULL,
    lane INTEGER NOT NULL,
    ready INTEGER NOT NULL,
    PRIMARY KEY (queue, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS linkly_queue_keys (
    queue INTEGER NOT NULL,
    key TEXT NOT NULL,
    id TEXT NOT NULL,
    digest BLOB NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (queue, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS linkly_queue_engines (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    seen_at INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS linkly_queue_counts (
    queue INTEGER NOT NULL,
    engine INTEGER NOT NULL,
    accepted INTEGER NOT NULL DEFAULT 0,
    done INTEGER NOT NULL DEFAULT 0,
    dead INTEGER NOT NULL DEFAULT 0,
    cancelled INTEGER NOT NULL DEFAULT 0,
    discarded INTEGER NOT NULL DEFAULT 0,
    expired INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (queue, engine)
) WITHOUT ROWID;

-- name: columns
SELECT 'linkly_queue_jobs.' || name AS name FROM pragma_table_info('linkly_queue_jobs');

-- name: indexes
-- What a claim reads is in indexes of the backlog alone, so history costs it nothing.
CREATE INDEX IF NOT EXISTS linkly_queue_jobs_ready ON linkly_queue_jobs (lane, priority DESC, position)
WHERE state = 0 AND message_group IS NULL;
CREATE INDEX IF NOT EXISTS linkly_queue_jobs_grouped ON linkly_queue_jobs (queue, message_group, position)
WHERE message_group IS NOT NULL AND state IN (0, 2, 3);
CREATE INDEX IF NOT EXISTS linkly_queue_jobs_busy ON linkly_queue_jobs (queue, message_group)
WHERE message_group IS NOT NULL AND state = 3;
CREATE INDEX IF NOT EXISTS linkly_queue_jobs_due ON linkly_queue_jobs (due_at) WHERE state IN (1, 2);
CREATE INDEX IF NOT EXISTS linkly_queue_jobs_expiring ON linkly_queue_jobs (expires_at)
WHERE expires_at IS NOT NULL AND state IN (0, 1, 2);
CREATE INDEX IF NOT EXISTS linkly_queue_jobs_active ON linkly_queue_jobs (engine, queue) WHERE state = 3;
CREATE INDEX IF NOT EXISTS linkly_queue_jobs_ended ON linkly_queue_jobs (queue, state, finished_at) WHERE state > 3;
CREATE INDEX IF NOT EXISTS linkly_queue_groups_ready ON linkly_queue_groups (queue, position) WHERE ready = 1;
CREATE INDEX IF NOT EXISTS linkly_queue_keys_expiring ON linkly_queue_keys (expires_at);
