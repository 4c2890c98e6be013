-- What runs if a table of the tutorial or of an older version lacks the column that the name says.

-- name: links.clicks
ALTER TABLE links ADD COLUMN clicks INTEGER NOT NULL DEFAULT 0;
UPDATE links SET clicks = counted.n
FROM (SELECT code, COUNT(*) AS n FROM clicks GROUP BY code) AS counted WHERE links.code = counted.code;

-- name: links.expires_at
ALTER TABLE links ADD COLUMN expires_at TEXT;

-- name: links.max_clicks
ALTER TABLE links ADD COLUMN max_clicks INTEGER;

-- name: clicks.click_id
ALTER TABLE clicks ADD COLUMN click_id TEXT;

-- name: clicks.visitor
ALTER TABLE clicks ADD COLUMN visitor TEXT;

-- name: clicks.referrer
ALTER TABLE clicks ADD COLUMN referrer TEXT;

-- name: clicks.bot
ALTER TABLE clicks ADD COLUMN bot INTEGER NOT NULL DEFAULT 0;
