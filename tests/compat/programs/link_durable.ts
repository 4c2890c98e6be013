// The link worker at the end of the tutorial's fourth chapter: clicks go through a queue, changes through durable topics.
import { Logger } from "@iii-dev/helpers/observability";
import { TriggerAction, registerWorker } from "iii-sdk";

const DB = "primary"; // a database of config.yaml
const SCOPE = "links";
const JSON_HEADERS = { "Content-Type": "application/json" };

type Link = { code: string; url: string };

const worker = registerWorker(process.env.III_URL ?? "ws://localhost:49134", { workerName: "link" });
const logger = new Logger();

const execute = (sql: string, params: unknown[] = []) =>
  worker.trigger({ function_id: "database::execute", payload: { db: DB, sql, params } });

const remember = (code: string, url: string) =>
  worker.trigger({ function_id: "state::set", payload: { scope: SCOPE, key: code, value: { url } } });

const publish = (topic: string, data: Link) =>
  worker.trigger({ function_id: "iii::durable::publish", payload: { topic, data } });

const makeCode = (): string => Math.random().toString(36).slice(2, 8).padEnd(6, "0");

worker.registerFunction("link::create", async (request: { url: string; code?: string }): Promise<Link> => {
  const code = request.code ?? makeCode();
  const url = /^https?:\/\//i.test(request.url) ? request.url : `https://${request.url}`;
  const now = new Date().toISOString();
  await execute("INSERT INTO links (code, url, created_at) VALUES (?, ?, ?)", [code, url, now]);
  await remember(code, url);
  await publish("link.created", { code, url });
  logger.info("link created", { code, url });
  return { code, url };
});

worker.registerFunction("link::resolve", async ({ code }: { code: string }) => {
  const cached = await worker.trigger<object, { url: string } | null>({
    function_id: "state::get",
    payload: { scope: SCOPE, key: code },
  });
  if (cached) {
    logger.info("link resolved", { code, found: true });
    return { url: cached.url };
  }
  const { rows } = await worker.trigger<object, { rows: { url: string }[] }>({
    function_id: "database::query",
    payload: { db: DB, sql: "SELECT url FROM links WHERE code = ?", params: [code] },
  });
  const url = rows[0]?.url ?? null;
  if (url !== null) await remember(code, url);
  logger.info("link resolved", { code, found: url !== null });
  return { url };
});

worker.registerFunction("link::record_click", async (click: { code: string; clicked_at: string }) => {
  await execute("INSERT INTO clicks (code, clicked_at) VALUES (?, ?)", [click.code, click.clicked_at]);
  return { recorded: true };
});

worker.registerFunction("http::create_link", async (req: { body?: { url?: string; code?: string } }) => {
  const { url, code } = req.body ?? {};
  if (!url) return { status_code: 400, body: { error: 'missing "url"' }, headers: JSON_HEADERS };
  const link = await worker.trigger<object, Link>({ function_id: "link::create", payload: { url, code } });
  return { status_code: 201, body: link, headers: JSON_HEADERS };
});
worker.registerTrigger({
  type: "http",
  function_id: "http::create_link",
  config: { api_path: "/links", http_method: "POST" },
});

worker.registerFunction("http::redirect", async (req: { path_params: { code: string } }) => {
  const { code } = req.path_params;
  const { url } = await worker.trigger<object, { url: string | null }>({
    function_id: "link::resolve",
    payload: { code },
  });
  if (!url) return { status_code: 404, body: { error: "link not found" }, headers: JSON_HEADERS };
  const receipt = await worker.trigger<object, { messageReceiptId: string }>({
    function_id: "link::record_click",
    payload: { code, clicked_at: new Date().toISOString() },
    action: TriggerAction.Enqueue({ queue: "clicks" }),
  });
  logger.info("click enqueued", { code, receipt: receipt.messageReceiptId });
  return { status_code: 302, headers: { Location: url } };
});
worker.registerTrigger({
  type: "http",
  function_id: "http::redirect",
  config: { api_path: "/s/:code", http_method: "GET" },
});

worker.registerFunction("http::update_link", async (req: { path_params: { code: string }; body?: { url?: string } }) => {
  const { code } = req.path_params;
  const url = req.body?.url;
  if (!url) return { status_code: 400, body: { error: 'missing "url"' }, headers: JSON_HEADERS };
  await execute("UPDATE links SET url = ? WHERE code = ?", [url, code]);
  await publish("link.updated", { code, url });
  return { status_code: 200, body: { code, url }, headers: JSON_HEADERS };
});
worker.registerTrigger({
  type: "http",
  function_id: "http::update_link",
  config: { api_path: "/links/:code", http_method: "PUT" },
});

worker.registerFunction("link::refresh_cache", async ({ code, url }: Link) => {
  await remember(code, url);
  logger.info("cache refreshed", { code, url });
});
worker.registerTrigger({
  type: "durable:subscriber",
  function_id: "link::refresh_cache",
  config: { topic: "link.updated" },
});

async function ensureSchema(): Promise<void> {
  const columns = {
    links: "code TEXT PRIMARY KEY, url TEXT NOT NULL, created_at TEXT NOT NULL",
    clicks: "id INTEGER PRIMARY KEY AUTOINCREMENT, code TEXT NOT NULL, clicked_at TEXT NOT NULL",
  };
  for (const [table, definition] of Object.entries(columns)) {
    await execute(`CREATE TABLE IF NOT EXISTS ${table} (${definition})`);
  }
}

ensureSchema()
  .then(() => logger.info("database: ready"))
  .catch((error) => logger.error("database: schema init failed", { error: String(error) }))
  .finally(() => worker.registerFunction("link::ready", async () => true));
