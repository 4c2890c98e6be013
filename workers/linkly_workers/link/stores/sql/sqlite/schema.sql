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
CREATE UNIQUE INDEX IF NOT EXISTS clicks_by_click_id ON clicks (code, click_id);
CREATE INDEX IF NOT EXISTS links_by_age ON links (created_at, code);
CREATE INDEX IF NOT EXISTS link_keys_by_age ON link_keys (created_at);
CREATE INDEX IF NOT EXISTS link_keys_by_code ON link_keys (code);
-- An older version made this one. Each index costs every click.
DROP INDEX IF EXISTS clicks_by_code;
