-- The server's clock says which links have expired: several engines share it. What others have locked is passed over, so
-- that nobody waits for it but its own clicks, which are tried again. UPDATE has no such words, so a SELECT locks before it.

-- name: count
-- One click, exactly: the counter, then the row, and the link if both were written. The link is locked first, so whoever
-- counts it at the same time waits. A click that was counted before is refused by its key, and nothing has happened.
SELECT COUNT(*) INTO @linkly_locked FROM (SELECT code FROM links WHERE code = :code FOR UPDATE SKIP LOCKED) AS found;
UPDATE links SET clicks = clicks + 1
WHERE code = IF(@linkly_locked, :code, NULL) AND (:accepted OR (max_clicks IS NULL OR clicks < max_clicks) AND (
    expires_at IS NULL
    OR expires_at > CONCAT(LEFT(DATE_FORMAT(UTC_TIMESTAMP(3), '%Y-%m-%dT%H:%i:%s.%f'), 23), 'Z')
));
INSERT INTO clicks (code, clicked_at, click_id, visitor, referrer, bot)
SELECT :code, :clicked_at, :click_id, :visitor, :referrer, :bot FROM DUAL WHERE ROW_COUNT() = 1;
SELECT code, url, created_at, clicks, expires_at, max_clicks FROM links
WHERE code = :code AND ROW_COUNT() = 1;

-- name: count_many
-- Clicks that nobody else knows by an id, so none of them can be a repeat; `link` and `times` are the codes among them. The
-- links are locked in the order of their codes, so that two engines never wait for each other: by the primary key, since a
-- table of three links is scanned otherwise, with those of others. What was locked is kept in a variable, `times` by code,
-- because at READ COMMITTED a link may be new, or have lost its limit, for the next statement. The UPDATE names the codes
-- that were locked and no other: it would wait for those that were passed over before it looks at any condition. A link
-- that has a limit is left alone, and `count` decides about each of its clicks. Codes are read as LONGTEXT: cut to what a
-- column holds, a longer one would be another link's. The UPDATE is of one table, so that `database::row-changed` can say
-- which.
SELECT JSON_OBJECTAGG(HEX(code), times) INTO @linkly_counted FROM JSON_TABLE(:[link, times], '$[*]' COLUMNS (
    link LONGTEXT CHARACTER SET utf8mb4 PATH '$[0]', times BIGINT PATH '$[1]'
)) AS new
STRAIGHT_JOIN links FORCE INDEX (PRIMARY) ON links.code = link
WHERE max_clicks IS NULL AND (
    expires_at IS NULL
    OR expires_at > CONCAT(LEFT(DATE_FORMAT(UTC_TIMESTAMP(3), '%Y-%m-%dT%H:%i:%s.%f'), 23), 'Z')
)
FOR UPDATE SKIP LOCKED;
UPDATE links FORCE INDEX (PRIMARY)
SET clicks = clicks + CAST(JSON_EXTRACT(@linkly_counted, CONCAT('$."', HEX(code), '"')) AS SIGNED)
WHERE code IN ((IF(LOCATE(CONCAT('"', HEX(:link), '"'), @linkly_counted), :link, NULL)), ...);
INSERT INTO clicks (code, clicked_at, visitor, referrer, bot)
SELECT link, clicked_at, visitor, referrer, bot
FROM JSON_TABLE(:[code, clicked_at, visitor, referrer, bot], '$[*]' COLUMNS (
    link LONGTEXT CHARACTER SET utf8mb4 PATH '$[0]', clicked_at VARCHAR(32) CHARACTER SET ascii PATH '$[1]',
    visitor LONGTEXT CHARACTER SET utf8mb4 PATH '$[2]', referrer LONGTEXT CHARACTER SET utf8mb4 PATH '$[3]',
    bot SMALLINT PATH '$[4]'
)) AS new
WHERE JSON_EXTRACT(@linkly_counted, CONCAT('$."', HEX(link), '"')) IS NOT NULL;
SELECT code, url, created_at, clicks, expires_at, max_clicks
FROM links FORCE INDEX (PRIMARY)
WHERE code IN ((:link), ...) AND JSON_EXTRACT(@linkly_counted, CONCAT('$."', HEX(code), '"')) IS NOT NULL;

-- name: find_many
-- The links of clicks that `count_many` has left alone, and what time it is: one that would be counted now was locked.
SELECT code, url, created_at, clicks, expires_at, max_clicks,
    CONCAT(LEFT(DATE_FORMAT(UTC_TIMESTAMP(3), '%Y-%m-%dT%H:%i:%s.%f'), 23), 'Z') AS now
FROM links WHERE code IN ((:link), ...);

-- name: uncounted
-- The link of a click that was not counted, when the click was counted before, and what time it is.
SELECT code, url, created_at, clicks, expires_at, max_clicks,
    (SELECT clicked_at FROM clicks WHERE clicks.code = :code AND click_id = :click_id) AS counted_at,
    CONCAT(LEFT(DATE_FORMAT(UTC_TIMESTAMP(3), '%Y-%m-%dT%H:%i:%s.%f'), 23), 'Z') AS now
FROM links WHERE code = :code;

-- name: stats
-- One statement, so that all figures are of one moment. MySQL would cut the lists after 1024 bytes.
WITH mine AS (SELECT clicked_at, visitor, referrer, bot FROM clicks WHERE code = :code),
people AS (SELECT clicked_at, visitor, referrer FROM mine WHERE bot = 0),
days AS (
    SELECT LEFT(clicked_at, 10) AS day, COUNT(*) AS n FROM people GROUP BY LEFT(clicked_at, 10)
),
hosts AS (
    SELECT CONVERT(host USING utf8mb4) AS host, n FROM (
        SELECT CAST(referrer AS BINARY) AS host, COUNT(*) AS n FROM people GROUP BY CAST(referrer AS BINARY)
    ) AS counted ORDER BY n DESC, counted.host LIMIT :referrer_limit
)
SELECT /*+ SET_VAR(group_concat_max_len = 1048576) */
    (SELECT COUNT(*) FROM people) AS total,
    (SELECT COUNT(DISTINCT CAST(visitor AS BINARY)) FROM people) AS uniques,
    (SELECT COUNT(*) FROM mine WHERE bot <> 0) AS bots,
    (SELECT COALESCE(CONCAT('[', GROUP_CONCAT(
        JSON_OBJECT('day', day, 'clicks', n) ORDER BY day
    ), ']'), '[]') FROM days WHERE day >= :since_day) AS by_day,
    (SELECT COALESCE(CONCAT('[', GROUP_CONCAT(
        JSON_OBJECT('referrer', host, 'clicks', n) ORDER BY n DESC, CAST(host AS BINARY)
    ), ']'), '[]') FROM hosts) AS by_referrer
FROM links WHERE code = :code;

-- name: verify
-- One statement, so that all figures are of one moment.
WITH counted AS (SELECT code, COUNT(*) AS n FROM clicks GROUP BY code),
different AS (
    SELECT links.code AS code, links.clicks AS counter, COALESCE(n, 0) AS n
    FROM links LEFT JOIN counted ON counted.code = links.code WHERE links.clicks <> COALESCE(n, 0)
    UNION ALL
    SELECT code, NULL, n FROM counted WHERE NOT EXISTS (SELECT 1 FROM links WHERE links.code = counted.code)
),
first_ones AS (SELECT code, counter, n FROM different ORDER BY code LIMIT :mismatch_limit)
SELECT /*+ SET_VAR(group_concat_max_len = 1048576) */
    (SELECT COUNT(*) FROM links) AS links,
    (SELECT CAST(COALESCE(SUM(clicks), 0) AS SIGNED) FROM links) AS counted,
    (SELECT COUNT(*) FROM clicks) AS `rows`,
    (SELECT COALESCE(CONCAT('[', GROUP_CONCAT(
        JSON_OBJECT('code', code, 'counter', counter, 'rows', n) ORDER BY first_ones.code
    ), ']'), '[]') FROM first_ones) AS mismatches;
