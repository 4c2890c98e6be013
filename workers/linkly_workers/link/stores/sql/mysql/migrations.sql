-- What runs if a table of the tutorial or of an older version lacks the column that the name says, or has a text where
-- bytes have to be; and the indexes of such a table.

-- name: links.code
ALTER TABLE links MODIFY code VARBINARY(255) NOT NULL;

-- name: links.clicks
-- Null until the clicks of before are counted.
ALTER TABLE links ADD COLUMN clicks BIGINT;

-- name: clicks.code
ALTER TABLE clicks MODIFY code VARBINARY(255) NOT NULL;

-- name: links.clicks_counted
UPDATE links SET clicks = (SELECT COUNT(*) FROM clicks WHERE clicks.code = links.code) WHERE clicks IS NULL;
ALTER TABLE links MODIFY clicks BIGINT NOT NULL DEFAULT 0;

-- name: links.expires_at
ALTER TABLE links ADD COLUMN expires_at VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin;

-- name: links.max_clicks
ALTER TABLE links ADD COLUMN max_clicks BIGINT;

-- name: clicks.click_id
ALTER TABLE clicks ADD COLUMN click_id VARBINARY(1020);

-- name: clicks.click_id_as_bytes
-- A text where the table was copied from another database.
ALTER TABLE clicks MODIFY click_id VARBINARY(1020);

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
