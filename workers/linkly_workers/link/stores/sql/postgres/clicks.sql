-- The server's clock says which links have expired: several engines share it. What others have locked is passed over, so
-- that nobody waits for it but its own clicks, which are tried again.

-- name: count
-- One click, exactly: the counter and the row, together or neither. The link is locked first, so whoever counts it at the
-- same time waits, and sees its limit afterwards as this click leaves it. A click whose id came while this one waited is
-- not seen by the condition; then its row is refused by the index, and nothing of this has happened.
WITH locked AS MATERIALIZED (
    SELECT code FROM links
    WHERE code = :code AND (:accepted::int = 1 OR (max_clicks IS NULL OR clicks < max_clicks) AND (
        expires_at IS NULL OR expires_at > (SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))
    )) AND NOT EXISTS (SELECT 1 FROM clicks WHERE clicks.click_id = :click_id AND clicks.code = :code)
    FOR NO KEY UPDATE OF links SKIP LOCKED
),
clicked AS (
    INSERT INTO clicks (code, clicked_at, click_id, visitor, referrer, bot)
    SELECT code, :clicked_at, :click_id, :visitor, :referrer, :bot::smallint FROM locked
)
UPDATE links SET clicks = clicks + 1 FROM locked WHERE links.code = locked.code
RETURNING links.code, url, created_at, clicks, expires_at, max_clicks;

-- name: count_many
-- Clicks that nobody else knows by an id, so none of them can be a repeat; `link` and `times` are the codes among them.
-- The links are locked in the order of their codes, so that two engines never wait for each other. A link that does not
-- meet the condition, has a limit or is locked, is not returned: then nothing of its clicks has happened. One statement,
-- because each costs a round trip.
WITH locked AS MATERIALIZED (
    SELECT code, times FROM links JOIN unnest(:link::text[], :times::bigint[]) AS new (link, times) ON code = link
    WHERE max_clicks IS NULL AND (expires_at IS NULL OR expires_at > (
        SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
    ))
    ORDER BY code FOR NO KEY UPDATE OF links SKIP LOCKED
),
clicked AS (
    INSERT INTO clicks (code, clicked_at, visitor, referrer, bot)
    SELECT new.* FROM unnest(:code::text[], :clicked_at::text[], :visitor::text[], :referrer::text[], :bot::smallint[])
        AS new (code, clicked_at, visitor, referrer, bot)
    JOIN locked ON locked.code = new.code
)
UPDATE links SET clicks = clicks + times FROM locked WHERE links.code = locked.code
RETURNING links.code, url, created_at, clicks, expires_at, max_clicks;

-- name: find_many
-- The links of clicks that `count_many` has left alone, and what time it is: one that would be counted now was locked.
SELECT code, url, created_at, clicks, expires_at, max_clicks,
    to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS now
FROM links WHERE code = ANY (:link::text[]);

-- name: uncounted
-- The link of a click that was not counted, when the click was counted before, and what time it is.
SELECT code, url, created_at, clicks, expires_at, max_clicks,
    (SELECT clicked_at FROM clicks WHERE clicks.code = :code AND click_id = :click_id) AS counted_at,
    to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS now
FROM links WHERE code = :code;

-- name: stats
-- One statement, so that all figures are of one moment.
WITH RECURSIVE segments (segment) AS (
    SELECT MIN(id >> 11) FROM clicks
    UNION ALL
    SELECT (SELECT MIN(id >> 11) FROM clicks WHERE id >> 11 > segment) FROM segments WHERE segment IS NOT NULL
),
mine AS MATERIALIZED (
    SELECT clicked_at, visitor, referrer, bot FROM segments
    JOIN clicks ON clicks.id >> 11 = segments.segment AND clicks.code = :code
),
people AS MATERIALIZED (SELECT clicked_at, visitor, referrer FROM mine WHERE bot = 0)
SELECT
    (SELECT COUNT(*) FROM people) AS total,
    (SELECT COUNT(DISTINCT visitor) FROM people) AS uniques,
    (SELECT COUNT(*) FROM mine WHERE bot <> 0) AS bots,
    (SELECT COALESCE(json_agg(json_build_object('day', day, 'clicks', n) ORDER BY day), '[]')::text FROM (
        SELECT substr(clicked_at, 1, 10) AS day, COUNT(*) AS n FROM people
        WHERE substr(clicked_at, 1, 10) >= :since_day GROUP BY 1
    ) AS days) AS by_day,
    (SELECT COALESCE(json_agg(json_build_object('referrer', referrer, 'clicks', n)), '[]')::text FROM (
        SELECT referrer, COUNT(*) AS n FROM people
        GROUP BY referrer ORDER BY n DESC, referrer COLLATE "C" NULLS FIRST LIMIT :referrer_limit
    ) AS hosts) AS by_referrer
FROM links WHERE code = :code;

-- name: verify
-- One statement, so that all figures are of one moment.
WITH counted AS MATERIALIZED (SELECT code, COUNT(*) AS n FROM clicks GROUP BY code),
different AS (
    SELECT links.code AS code, links.clicks AS counter, COALESCE(n, 0) AS n
    FROM links LEFT JOIN counted USING (code) WHERE links.clicks <> COALESCE(n, 0)
    UNION ALL
    SELECT code, NULL, n FROM counted WHERE NOT EXISTS (SELECT 1 FROM links WHERE links.code = counted.code)
)
SELECT
    (SELECT COUNT(*) FROM links) AS links,
    (SELECT COALESCE(SUM(clicks), 0)::bigint FROM links) AS counted,
    (SELECT COUNT(*) FROM clicks) AS rows,
    (SELECT COALESCE(json_agg(json_build_object('code', code, 'counter', counter, 'rows', n)), '[]')::text FROM (
        SELECT * FROM different ORDER BY code LIMIT :mismatch_limit
    ) AS first) AS mismatches;
