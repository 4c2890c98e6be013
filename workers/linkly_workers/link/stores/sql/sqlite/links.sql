-- name: insert
INSERT INTO links (code, url, created_at, expires_at, max_clicks)
VALUES (:code, :url, :created_at, :expires_at, :max_clicks)
ON CONFLICT (code) DO NOTHING;

-- name: insert_with_key
-- A code or a key that is taken makes the transaction fail.
DELETE FROM link_keys WHERE created_at < :forget_before;
INSERT INTO link_keys (code, url, created_at, expires_at, max_clicks, idempotency_key, request)
VALUES (:code, :url, :created_at, :expires_at, :max_clicks, :key, :request);
INSERT INTO links (code, url, created_at, expires_at, max_clicks)
VALUES (:code, :url, :created_at, :expires_at, :max_clicks);

-- name: made_with_key
SELECT * FROM link_keys WHERE idempotency_key = :key AND created_at >= :forget_before;

-- name: find
SELECT code, url, created_at, clicks, expires_at, max_clicks FROM links WHERE code = :code;

-- name: update
UPDATE links SET
    url = COALESCE(:url, url),
    expires_at = CASE WHEN :keep_expires_at THEN expires_at ELSE :expires_at END,
    max_clicks = CASE WHEN :keep_max_clicks THEN max_clicks ELSE :max_clicks END
WHERE code = :code
RETURNING code, url, created_at, clicks, expires_at, max_clicks;

-- name: unchanged
-- A link that is still as it was read.
SELECT code FROM links
WHERE code = :code AND url = :url AND expires_at IS :expires_at AND max_clicks IS :max_clicks;

-- name: delete
-- The clicks are found as `stats` finds them.
DELETE FROM link_keys WHERE code = :code;
DELETE FROM links WHERE code = :code;
DELETE FROM clicks WHERE id IN (
    WITH RECURSIVE segments (segment) AS (
        SELECT MIN(id >> 11) FROM clicks
        UNION ALL
        SELECT (SELECT MIN(id >> 11) FROM clicks WHERE id >> 11 > segment) FROM segments WHERE segment IS NOT NULL
    )
    SELECT id FROM segments CROSS JOIN clicks ON clicks.id >> 11 = segments.segment AND clicks.code = :code
);

-- name: newest
SELECT code, url, created_at, clicks, expires_at, max_clicks FROM links
ORDER BY created_at DESC, code DESC LIMIT :limit;

-- name: older
SELECT code, url, created_at, clicks, expires_at, max_clicks FROM links
WHERE (created_at, code) < (:created_at, :code)
ORDER BY created_at DESC, code DESC LIMIT :limit;

-- name: codes_with_capitals
-- A part at a time, because an answer has a limit and links have none.
SELECT code, EXISTS (SELECT 1 FROM links AS other WHERE other.code = lower(links.code)) AS has_twin FROM links
WHERE code <> lower(code) AND code > :after ORDER BY code LIMIT 10000;

-- name: keep_secret
INSERT INTO link_settings (name, value) VALUES ('visitor_secret', :secret) ON CONFLICT (name) DO NOTHING;

-- name: secret
SELECT value FROM link_settings WHERE name = 'visitor_secret';
