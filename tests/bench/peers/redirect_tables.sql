-- What the redirect's peers write into: the columns that a click and a link need, and no index more.
PRAGMA journal_mode = WAL;
CREATE TABLE links (
    code TEXT PRIMARY KEY,
    url TEXT NOT NULL,
    created_at TEXT NOT NULL,
    clicks INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE clicks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    code TEXT NOT NULL,
    clicked_at TEXT NOT NULL
);
