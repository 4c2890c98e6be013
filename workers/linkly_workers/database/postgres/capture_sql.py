"""What native capture leaves in a database, and how it is read (`capture.py`).

`linkly_changes` has a row for each changed row of a captured table, written by a trigger in the transaction that
changes it. Two things about its order:

* A transaction that got its id early may commit late, so a serial id alone would skip rows that appear behind the
  reader. Only rows below `pg_snapshot_xmin(pg_current_snapshot())` are taken: no transaction that could still write one
  is running. What a reader takes is therefore a window of transactions, `below` to `upto`.
* Inside of a window rows are taken by `id`. Who changes a row has its lock, so of one row the later change has the
  higher id, and a change whose transaction is older than that of the change before is in the same window.

`xid8` and `pg_snapshot` need PostgreSQL 13. The trigger function runs with the rights of who has set it up: whoever may
write the table need not know of `linkly_changes`. It removes what is too old or too much, for when nobody reads.
"""

from __future__ import annotations

CHANNEL = "linkly_changes"
LONGEST_KEPT_S = 86_400
"""How long a change waits for its reader, and how long a reader that does not come is waited for."""

MOST_KEPT = 1_000_000
"""Changes that may wait, of all tables."""

WAKE_MS = 100
"""NOTIFY makes commits wait for one another: so much time is between two of them, whoever writes."""

TRIGGER = "linkly_capture"

LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('linkly capture ' || current_schema(), 0))"

_TABLES = """
CREATE TABLE IF NOT EXISTS linkly_changes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    table_name text NOT NULL,
    op text NOT NULL,
    old json,
    new json
);
ALTER TABLE linkly_changes ADD COLUMN IF NOT EXISTS bytes bigint NOT NULL DEFAULT 0;
CREATE INDEX IF NOT EXISTS linkly_changes_by_window ON linkly_changes (table_name, xid);
CREATE TABLE IF NOT EXISTS linkly_readers (
    table_name text NOT NULL,
    reader text NOT NULL,
    below xid8 NOT NULL,
    upto xid8 NOT NULL,
    last_id bigint NOT NULL,
    seen_at timestamptz NOT NULL,
    PRIMARY KEY (table_name, reader)
);
CREATE SEQUENCE IF NOT EXISTS linkly_wake MINVALUE 0;
"""
_FUNCTION = """
CREATE OR REPLACE FUNCTION {schema}.linkly_capture() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $linkly$
DECLARE
    now_ms bigint := extract(epoch FROM clock_timestamp()) * 1000;
    was json := CASE WHEN TG_OP <> 'INSERT' THEN to_json(OLD) END;
    is_now json := CASE WHEN TG_OP <> 'DELETE' THEN to_json(NEW) END;
BEGIN
    INSERT INTO {schema}.linkly_changes (table_name, op, old, new, bytes) VALUES (
        TG_ARGV[0],
        lower(TG_OP),
        was,
        is_now,
        coalesce(octet_length(was::text), 0) + coalesce(octet_length(is_now::text), 0)
    );
    -- A row that somebody else has removed meanwhile is an error in stricter transactions.
    IF random() < 0.0005 AND current_setting('transaction_isolation') = 'read committed' THEN
        {prune};
    END IF;
    IF now_ms - (SELECT last_value FROM {schema}.linkly_wake) NOT BETWEEN 0 AND {wake_ms} THEN
        PERFORM setval('{schema_text}.linkly_wake', now_ms);
        PERFORM pg_notify('{channel}', '');
    END IF;
    RETURN NULL;
END $linkly$;
"""
_PRUNE = """
DELETE FROM {schema}.linkly_changes WHERE id IN (
    SELECT id FROM {schema}.linkly_changes
    WHERE at < clock_timestamp() - make_interval(secs => {age_s})
    OR id <= (SELECT max(id) FROM {schema}.linkly_changes) - {most}
    ORDER BY id LIMIT 10000 FOR UPDATE SKIP LOCKED
)"""

NAMED = """
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname), c.relname::text, quote_ident(current_schema()::text)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = to_regclass($1) AND c.relkind IN ('r', 'p')"""
"""The name of a table with its schema as SQL, by itself, and the schema that new tables get."""

_OWN = "tgfoid = to_regproc(quote_ident(current_schema()::text) || '.linkly_capture')::oid AND tgparentid = 0"
_TOLD_AS = r"tgargs = convert_to($1, getdatabaseencoding()) || '\x00'::bytea"
FOUND_TRIGGER = f"""
SELECT coalesce({_OWN}, false), {_TOLD_AS} FROM pg_trigger
WHERE tgrelid = to_regclass($1) AND tgname = '{TRIGGER}'"""  # noqa: S608
"""Whether a table has a trigger: for each, whether it is of this schema and no partition's, and of this name."""

READ = """
SELECT id, op, old, new, (extract(epoch FROM at) * 1000)::int8 AS at, found FROM (
    SELECT *, (sum(bytes) OVER (ORDER BY id))::int8 - bytes AS before, count(*) OVER () AS found FROM (
        SELECT * FROM linkly_changes WHERE table_name = $1 AND xid >= $2 AND xid < $3 AND id > $4 ORDER BY id LIMIT $5
    ) AS next
) AS counted WHERE before < $6 ORDER BY id"""
"""The next changes of a window, one at least, and no more once those before have so many bytes as JSON: a value is read
only if its row is. `found` is how many there would be otherwise."""

BEGIN_READING = """
INSERT INTO linkly_readers (table_name, reader, below, upto, last_id, seen_at)
SELECT $1, $2, m, m, 0, clock_timestamp() FROM pg_snapshot_xmin(pg_current_snapshot()) AS m
ON CONFLICT (table_name, reader) DO UPDATE SET seen_at = clock_timestamp()"""
POSITION = "SELECT below, upto, last_id FROM linkly_readers WHERE table_name = $1 AND reader = $2"
HORIZON = f"""
SELECT pg_snapshot_xmin(pg_current_snapshot()), NOT EXISTS (
    SELECT 1 FROM pg_trigger WHERE tgrelid = to_regclass($1) AND tgname = '{TRIGGER}' AND {_OWN} AND {_TOLD_AS}
)"""  # noqa: S608
"""And whether the table of this name has no trigger: it is gone, or another one."""

MOVE = """
UPDATE linkly_readers SET below = $3, upto = $4, last_id = $5, seen_at = clock_timestamp()
WHERE table_name = $1 AND reader = $2"""
FORGET_READ = """
DELETE FROM linkly_changes c WHERE c.xid < (
    SELECT min(below) FROM linkly_readers r WHERE r.table_name = c.table_name
)"""
ABANDONED = """
DELETE FROM linkly_readers WHERE seen_at < clock_timestamp() - make_interval(secs => $1)"""
UNREAD_TABLES = f"""
SELECT tgrelid::regclass::text FROM pg_trigger WHERE {_OWN}
AND NOT EXISTS (SELECT 1 FROM linkly_readers WHERE to_regclass(table_name) = tgrelid)"""  # noqa: S608
UNREAD_CHANGES = """
DELETE FROM linkly_changes c WHERE NOT EXISTS (SELECT 1 FROM linkly_readers r WHERE r.table_name = c.table_name)"""
FORGET_READER = "DELETE FROM linkly_readers WHERE table_name = $1 AND reader = $2"
ALONE = "SELECT pg_try_advisory_lock(hashtextextended('linkly reader ' || current_schema() || $1 || ' ' || $2, 0))"


def setup(schema: str) -> str:
    """Return what makes the tables and the function in a schema, which is written as SQL."""
    prune = _PRUNE.format(schema=schema, age_s=LONGEST_KEPT_S, most=MOST_KEPT)
    text = schema.replace("'", "''")
    return _TABLES + _FUNCTION.format(schema=schema, schema_text=text, prune=prune, wake_ms=WAKE_MS, channel=CHANNEL)


def prune(schema: str) -> str:
    """Return what removes changes that are too old or too many."""
    return _PRUNE.format(schema=schema, age_s=LONGEST_KEPT_S, most=MOST_KEPT)


def capture(table: str, schema: str) -> str:
    """Return what has the changes of a table written; both are written as SQL."""
    argument = table.replace("'", "''")
    return (
        f"CREATE TRIGGER {TRIGGER} AFTER INSERT OR UPDATE OR DELETE ON {table} "
        f"FOR EACH ROW EXECUTE FUNCTION {schema}.linkly_capture('{argument}')"
    )


def release(table: str) -> str:
    """Return what ends that."""
    return f"DROP TRIGGER IF EXISTS {TRIGGER} ON {table}"
