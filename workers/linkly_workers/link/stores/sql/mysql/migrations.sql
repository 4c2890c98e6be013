-- What runs if a table of the tutorial or of an older version lacks the column that the name says, or has bytes, or a text
-- with another collation; and the indexes of such a table. Bytes become the text that they are in UTF-8.

-- name: links.code
ALTER TABLE links MODIFY code VARCHAR(255) CHARACTER SET utf8mb4 COLLATE {collation} NOT NULL;

-- name: links.clicks
-- Null until the clicks of before are counted.
ALTER TABLE links ADD COLUMN clicks BIGINT;

-- name: clicks.code
ALTER TABLE clicks MODIFY code VARCHAR(255) CHARACTER SET utf8mb4 COLLATE {collation} NOT NULL;

-- name: link_keys.idempotency_key
ALTER TABLE link_keys MODIFY idempotency_key VARCHAR(255) CHARACTER SET utf8mb4 COLLATE {collation} NOT NULL;

-- name: link_keys.code
ALTER TABLE link_keys MODIFY code VARCHAR(255) CHARACTER SET utf8mb4 COLLATE {collation} NOT NULL;

-- name: links.clicks_counted
UPDATE links SET clicks = (SELECT COUNT(*) FROM clicks WHERE clicks.code = links.code) WHERE clicks IS NULL;
ALTER TABLE links MODIFY clicks BIGINT NOT NULL DEFAULT 0;

-- name: links.expires_at
ALTER TABLE links ADD COLUMN expires_at VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin;

-- name: links.max_clicks
ALTER TABLE links ADD COLUMN max_clicks BIGINT;

-- name: clicks.click_id
ALTER TABLE clicks ADD COLUMN click_id VARCHAR(255) CHARACTER SET utf8mb4 COLLATE {collation};

-- name: clicks.click_id_by_bytes
ALTER TABLE clicks MODIFY click_id VARCHAR(255) CHARACTER SET utf8mb4 COLLATE {collation};

-- name: clicks.visitor
ALTER TABLE clicks ADD COLUMN visitor TEXT CHARACTER SET utf8mb4;

-- name: clicks.referrer
ALTER TABLE clicks ADD COLUMN referrer TEXT CHARACTER SET utf8mb4;

-- name: clicks.bot
ALTER TABLE clicks ADD COLUMN bot SMALLINT NOT NULL DEFAULT 0;

-- name: indexes.links_by_age
CREATE INDEX links_by_age ON links (created_at, code);

-- name: indexes.clicks_by_given_id
CREATE UNIQUE INDEX clicks_by_given_id ON clicks (click_id, code);

-- name: indexes.clicks_by_code
CREATE INDEX clicks_by_code ON clicks (code);
