-- name: insert
-- The key settles the race for a code: whoever comes second waits for the first and is refused. INSERT IGNORE would keep
-- silent about values that do not fit, and ON DUPLICATE KEY UPDATE counts the row in both cases.
INSERT INTO links (code, url, created_at, expires_at, max_clicks)
VALUES (:code, :url, :created_at, :expires_at, :max_clicks);

-- name: insert_with_key
-- A code or a key that is taken makes the transaction fail.
DELETE FROM link_keys WHERE created_at < :forget_before;
INSERT INTO link_keys (code, url, created_at, expires_at, max_clicks, idempotency_key, request)
VALUES (:code, :url, :created_at, :expires_at, :max_clicks, :key, :request);
INSERT INTO links (code, url, created_at, expires_at, max_clicks)
VALUES (:code, :url, :created_at, :expires_at, :max_clicks);

-- name: made_with_key
SELECT code, url, created_at, expires_at, max_clicks, request FROM link_keys
WHERE idempotency_key = :key AND created_at >= :forget_before;

-- name: find
SELECT code, url, created_at, clicks, expires_at, max_clicks FROM links
WHERE code = :code;

-- name: update
UPDATE links SET
    url = COALESCE(:url, url),
    expires_at = CASE WHEN :keep_expires_at THEN expires_at ELSE :expires_at END,
    max_clicks = CASE WHEN :keep_max_clicks THEN max_clicks ELSE :max_clicks END
WHERE code = :code;
SELECT code, url, created_at, clicks, expires_at, max_clicks FROM links
WHERE code = :code;

-- name: unchanged
-- A link that is still as it was read, and stays so until the transaction ends.
SELECT code FROM links
WHERE code = :code AND url = :url AND expires_at <=> :expires_at AND max_clicks <=> :max_clicks
FOR UPDATE;

-- name: delete
-- Keys before links, as `insert_with_key` has it. Clicks last: whoever counts has locked the link, so the last of them is
-- there when the link is gone.
DELETE FROM link_keys WHERE code = :code;
DELETE FROM links WHERE code = :code;
DELETE FROM clicks WHERE code = :code;

-- name: newest
SELECT code, url, created_at, clicks, expires_at, max_clicks FROM links
ORDER BY links.created_at DESC, links.code DESC LIMIT :limit;

-- name: older
SELECT code, url, created_at, clicks, expires_at, max_clicks FROM links
WHERE (links.created_at, links.code) < (:created_at, :code)
ORDER BY links.created_at DESC, links.code DESC LIMIT :limit;

-- name: codes_with_capitals
-- A part at a time, because an answer has a limit and links have none.
SELECT code, EXISTS (
    SELECT 1 FROM links AS other WHERE other.code = LOWER(links.code)
) AS has_twin FROM links
WHERE links.code <> LOWER(links.code) AND links.code > :after
ORDER BY links.code LIMIT 10000;

-- name: keep_secret
INSERT INTO link_settings (name, value) VALUES ('visitor_secret', :secret) ON DUPLICATE KEY UPDATE name = name;

-- name: secret
SELECT value FROM link_settings WHERE name = 'visitor_secret';
