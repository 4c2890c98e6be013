-- Tables. Codes, ids and keys are bytes: as texts, `Abc`, `aBC` and `Abc ` would be one. DDL commits by itself here, so each
-- statement stands alone and is harmless when it is run again.

-- name: tables
CREATE TABLE IF NOT EXISTS links (
    code VARBINARY(255) PRIMARY KEY,
    url TEXT CHARACTER SET utf8mb4 NOT NULL,
    created_at VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    clicks BIGINT NOT NULL DEFAULT 0,
    expires_at VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin,
    max_clicks BIGINT,
    KEY links_by_age (created_at, code)
) ENGINE = InnoDB;
CREATE TABLE IF NOT EXISTS clicks (
    id BIGINT AUTO_INCREMENT PRIMARY KEY,
    code VARBINARY(255) NOT NULL,
    clicked_at VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    click_id VARBINARY(1020),
    visitor TEXT CHARACTER SET utf8mb4,
    referrer TEXT CHARACTER SET utf8mb4,
    bot SMALLINT NOT NULL DEFAULT 0,
    UNIQUE KEY clicks_by_given_id (click_id, code),
    KEY clicks_by_code (code)
) ENGINE = InnoDB;
CREATE TABLE IF NOT EXISTS link_keys (
    idempotency_key VARBINARY(1020) PRIMARY KEY,
    request VARCHAR(255) CHARACTER SET ascii NOT NULL,
    code VARBINARY(255) NOT NULL,
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
WHERE table_schema = DATABASE() AND table_name IN ('links', 'clicks')
AND (column_name <> 'code' OR data_type = 'varbinary')
UNION ALL
SELECT 'clicks.click_id_as_bytes' FROM information_schema.columns
WHERE table_schema = DATABASE() AND table_name = 'clicks' AND column_name = 'click_id' AND data_type = 'varbinary'
UNION ALL
SELECT 'links.clicks_counted' FROM information_schema.columns
WHERE table_schema = DATABASE() AND table_name = 'links' AND column_name = 'clicks' AND is_nullable = 'NO'
UNION ALL
SELECT DISTINCT CONCAT('indexes.', index_name) FROM information_schema.statistics
WHERE table_schema = DATABASE() AND table_name IN ('links', 'clicks');
