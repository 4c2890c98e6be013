-- name: count
-- The row and the counter, together or neither. `outcome.py` has this rule for everybody else; the INSERT states it once
-- more, so that it holds for exactly the rows that are written, whatever happens at the same time. Neither statement
-- answers a row: with RETURNING the link, bench_redirect answers 7 % less (0.930 [0.917..0.960], six rounds by turns).
INSERT INTO clicks (code, clicked_at, click_id, visitor, referrer, bot)
SELECT code, :clicked_at, :click_id, :visitor, :referrer, :bot FROM links
WHERE code = :code AND (expires_at IS NULL OR expires_at > :now) AND (max_clicks IS NULL OR clicks < max_clicks)
ON CONFLICT (code, click_id) DO NOTHING;
UPDATE links SET clicks = clicks + 1 WHERE code = :code AND changes() = 1;

-- name: uncounted
-- The link of a click that was not counted, and when the click was counted before.
SELECT code, url, created_at, clicks, expires_at, max_clicks,
    (SELECT clicked_at FROM clicks WHERE code = :code AND click_id = :click_id) AS counted_at
FROM links WHERE code = :code;

-- name: stats
-- One statement, so that all figures are of one moment.
WITH people AS MATERIALIZED (SELECT clicked_at, visitor, referrer FROM clicks WHERE code = :code AND bot = 0)
SELECT
    (SELECT COUNT(*) FROM people) AS total,
    (SELECT COUNT(DISTINCT visitor) FROM people) AS uniques,
    (SELECT COUNT(*) FROM clicks WHERE code = :code AND bot <> 0) AS bots,
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
WITH counted AS MATERIALIZED (SELECT code, COUNT(*) AS n FROM clicks GROUP BY code),
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
