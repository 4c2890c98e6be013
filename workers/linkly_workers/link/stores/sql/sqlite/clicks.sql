-- name: count
-- One click, exactly: the row and the counter, together or neither. `outcome.py` has this rule for everybody else; the
-- INSERT states it once more, so that it holds for exactly the rows that are written, whatever happens at the same time.
INSERT INTO clicks (code, clicked_at, click_id, visitor, referrer, bot)
SELECT code, :clicked_at, :click_id, :visitor, :referrer, :bot FROM links
WHERE code = :code AND (
    :accepted OR (expires_at IS NULL OR expires_at > :now) AND (max_clicks IS NULL OR clicks < max_clicks)
)
ON CONFLICT DO NOTHING;
UPDATE links SET clicks = clicks + 1 WHERE code = :code AND changes() = 1
RETURNING code, url, created_at, clicks, expires_at, max_clicks;

-- name: count_many
-- Clicks that nobody else knows by an id, so none of them can be a repeat; `link` and `times` are the codes among them.
-- Both statements have the same condition, and compare codes letter by letter, whatever the table says: the answer is
-- told apart by the codes that were asked for. A link that does not meet it, or has a limit, is not returned by the first:
-- then nothing of its clicks has happened, and `count` decides about each.
UPDATE links SET clicks = clicks + new.times
FROM (SELECT column1 AS code, column2 AS times FROM (VALUES (:link, :times), ...)) AS new
WHERE links.code = new.code COLLATE BINARY AND max_clicks IS NULL AND (expires_at IS NULL OR expires_at > :now)
RETURNING links.code, url, created_at, clicks, expires_at, max_clicks;
INSERT INTO clicks (code, clicked_at, visitor, referrer, bot)
SELECT column1, column2, column3, column4, column5
FROM (VALUES (:code, :clicked_at, :visitor, :referrer, :bot), ...) AS new
JOIN links ON links.code = new.column1 COLLATE BINARY
WHERE max_clicks IS NULL AND (expires_at IS NULL OR expires_at > :now);

-- name: uncounted
-- The link of a click that was not counted, when the click was counted before, and what time it is.
SELECT code, url, created_at, clicks, expires_at, max_clicks,
    (SELECT clicked_at FROM clicks WHERE code = :code AND click_id = :click_id) AS counted_at, :now AS now
FROM links WHERE code = :code;

-- name: stats
-- One statement, so that all figures are of one moment. `schema.sql` says what a segment is.
WITH RECURSIVE segments (segment) AS (
    SELECT MIN(id >> 11) FROM clicks
    UNION ALL
    SELECT (SELECT MIN(id >> 11) FROM clicks WHERE id >> 11 > segment) FROM segments WHERE segment IS NOT NULL
),
mine AS MATERIALIZED (
    SELECT clicked_at, visitor, referrer, bot FROM segments CROSS JOIN clicks
    ON clicks.id >> 11 = segments.segment AND clicks.code = :code
),
people AS MATERIALIZED (SELECT clicked_at, visitor, referrer FROM mine WHERE bot = 0)
SELECT
    (SELECT COUNT(*) FROM people) AS total,
    (SELECT COUNT(DISTINCT visitor) FROM people) AS uniques,
    (SELECT COUNT(*) FROM mine WHERE bot <> 0) AS bots,
    (SELECT json_group_array(json_object('day', day, 'clicks', n)) FROM (
        SELECT substr(clicked_at, 1, 10) AS day, COUNT(*) AS n FROM people
        GROUP BY day HAVING day >= :since_day ORDER BY day
    )) AS by_day,
    (SELECT json_group_array(json_object('referrer', referrer, 'clicks', n)) FROM (
        SELECT referrer, COUNT(*) AS n FROM people
        GROUP BY referrer ORDER BY n DESC, referrer LIMIT :referrer_limit
    )) AS by_referrer
FROM links WHERE code = :code;

-- name: verify
-- One statement, so that all figures are of one moment.
WITH counted AS MATERIALIZED (
    -- By segments first, which is the order of the index.
    SELECT code, SUM(n) AS n FROM (SELECT code, COUNT(*) AS n FROM clicks GROUP BY id >> 11, code) GROUP BY code
),
different AS (
    SELECT links.code AS code, links.clicks AS counter, COALESCE(n, 0) AS n
    FROM links LEFT JOIN counted USING (code) WHERE links.clicks <> COALESCE(n, 0)
    UNION ALL
    SELECT code, NULL, n FROM counted WHERE code NOT IN (SELECT code FROM links)
)
SELECT
    (SELECT COUNT(*) FROM links) AS links,
    (SELECT COALESCE(SUM(clicks), 0) FROM links) AS counted,
    (SELECT COUNT(*) FROM clicks) AS rows,
    (SELECT json_group_array(json_object('code', code, 'counter', counter, 'rows', n)) FROM (
        SELECT * FROM different ORDER BY code LIMIT :mismatch_limit
    )) AS mismatches;
