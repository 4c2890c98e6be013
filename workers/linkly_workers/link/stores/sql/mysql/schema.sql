-- Tables. Codes, ids and keys are texts that are compared byte for byte, blanks at the end as well: otherwise `Abc`, `aBC`
-- and `Abc ` would be one. DDL commits by itself here, so each statement stands alone and is harmless when it is run again.

-- name: collation
-- What stands for {collation} in the other scripts that make columns.
SELECT IF(VERSION() LIKE '%MariaDB%', 'utf8mb4_nopad_bin', 'utf8mb4_0900_bin') AS collation;

-- name: tables
CREATE TABLE IF NOT EXISTS links (
    code VARCHAR(255) CHARACTER SET utf8mb4 COLLATE {collation} PRIMARY KEY,
    url TEXT CHARACTER SET utf8mb4 NOT NULL,
    created_at VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    clicks BIGINT NOT NULL DEFAULT 0,
    expires_at VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin,
    max_clicks BIGINT,
    KEY links_by_age (created_at, code)
) ENGINE = InnoDB;
CREATE TABLE IF NOT EXISTS clicks (
    id BIGINT AUTO_INCREMENT PRIMARY KEY,
    code VARCHAR(255) CHARACTER SET utf8mb4 COLLATE {collation} NOT NULL,
    clicked_at VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    click_id VARCHAR(255) CHARACTER SET utf8mb4 COLLATE {collation},
    visitor TEXT CHARACTER SET utf8mb4,
    referrer TEXT CHARACTER SET utf8mb4,
    bot SMALLINT NOT NULL DEFAULT 0,
    UNIQUE KEY clicks_by_given_id (click_id, code),
    KEY clicks_by_code (code)
) ENGINE = InnoDB;
CREATE TABLE IF NOT EXISTS link_keys (
    idempotency_key VARCHAR(255) CHARACTER SET utf8mb4 COLLATE {collation} PRIMARY KEY,
    request VARCHAR(255) CHARACTER SET ascii NOT NULL,
    code VARCHAR(255) CHARACTER SET utf8mb4 COLLATE {collation} NOT NULL,
    url TEXT CHARACTER SET utf8mb4 NOT NULL,
    created_at VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    expires_at VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin,
    max_clicks BIGINT,
    KEY link_keys_by_age (created_at),
    KEY link_keys_by_code (code)
) ENGINE = InnoDB;
CREATE TABLE IF NOT EXISTS link_settings (
    name VARCHAR(64) CHARACTER SET ascii PRIMARY KEY,
    value VARCHAR(255) CHARACTER SET ascii NOT NULL
) ENGINE = InnoDB;

-- name: columns
SELECT CONCAT(table_name, '.', column_name) AS name FROM information_schema.columns
WHERE table_schema = DATABASE() AND table_name IN ('links', 'clicks', 'link_keys') AND (
    column_name NOT IN ('code', 'idempotency_key')
    OR (data_type = 'varchar' AND collation_name IN ('utf8mb4_nopad_bin', 'utf8mb4_0900_bin'))
)
UNION ALL
SELECT 'clicks.click_id_by_bytes' FROM information_schema.columns
WHERE table_schema = DATABASE() AND table_name = 'clicks' AND column_name = 'click_id'
AND data_type = 'varchar' AND collation_name IN ('utf8mb4_nopad_bin', 'utf8mb4_0900_bin')
UNION ALL
SELECT 'links.clicks_counted' FROM information_schema.columns
WHERE table_schema = DATABASE() AND table_name = 'links' AND column_name = 'clicks' AND is_nullable = 'NO'
UNION ALL
SELECT DISTINCT CONCAT('indexes.', index_name) FROM information_schema.statistics
WHERE table_schema = DATABASE() AND table_name IN ('links', 'clicks');
