-- Tables and indexes. `columns` lists what the tables have, so that `migrations.sql` can add what an older version's lack.

-- name: tables
CREATE TABLE IF NOT EXISTS links (
    code TEXT PRIMARY KEY,
    url TEXT NOT NULL,
    created_at TEXT NOT NULL,
    clicks INTEGER NOT NULL DEFAULT 0,
    expires_at TEXT,
    max_clicks INTEGER
);
CREATE TABLE IF NOT EXISTS clicks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    code TEXT NOT NULL,
    clicked_at TEXT NOT NULL,
    click_id TEXT,
    visitor TEXT,
    referrer TEXT,
    bot INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS link_keys (
    idempotency_key TEXT PRIMARY KEY,
    request TEXT NOT NULL,
    code TEXT NOT NULL,
    url TEXT NOT NULL,
    created_at TEXT NOT NULL,
    expires_at TEXT,
    max_clicks INTEGER
);
CREATE TABLE IF NOT EXISTS link_settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);

-- name: columns
SELECT 'links.' || name AS name FROM pragma_table_info('links')
UNION ALL
SELECT 'clicks.' || name FROM pragma_table_info('clicks');

-- name: indexes
-- Clicks that somebody can ask for again have an id, the others need none, nor a place in this index.
CREATE UNIQUE INDEX IF NOT EXISTS clicks_by_given_id ON clicks (click_id, code) WHERE click_id IS NOT NULL;
-- The clicks of a code, in segments of 2048 rows in the order in which they came. Ordered by code alone, each click
-- changes another page of the index; here all of them change the last segment, and a reader looks a code up in every one.
-- `python -m tests.bench click`, 1000 links and 10^6 clicks: 16 us of CPU and 2.0 KB of log a click, and 13 ms for the
-- statistics of a link; by code 25 us, 6.0 KB and 12 ms; without an index 14 us, 1.5 KB and 200 ms. Among 10^7 clicks the
-- statistics take 100 ms, by code 140, without an index 1500.
CREATE INDEX IF NOT EXISTS clicks_by_segment ON clicks (id >> 11, code);
CREATE INDEX IF NOT EXISTS links_by_age ON links (created_at, code);
CREATE INDEX IF NOT EXISTS link_keys_by_age ON link_keys (created_at);
CREATE INDEX IF NOT EXISTS link_keys_by_code ON link_keys (code);
-- Older versions made these. Each index costs every click.
DROP INDEX IF EXISTS clicks_by_code;
DROP INDEX IF EXISTS clicks_by_click_id;
