// The link worker at the end of the tutorial's first chapter: short links, kept in state alone.
import { Logger } from "@iii-dev/helpers/observability";
import { registerWorker } from "iii-sdk";

const SCOPE = "links";
const worker = registerWorker(process.env.III_URL ?? "ws://localhost:49134", { workerName: "link" });
const logger = new Logger();

function makeCode(): string {
  const alphabet = "abcdefghijklmnopqrstuvwxyz0123456789";
  let code = "";
  while (code.length < 6) code += alphabet[Math.floor(Math.random() * alphabet.length)];
  return code;
}

worker.registerFunction("link::create", async (request: { url: string; code?: string }) => {
  const code = request.code ?? makeCode();
  const url = /^https?:\/\//i.test(request.url) ? request.url : `https://${request.url}`;
  await worker.trigger({ function_id: "state::set", payload: { scope: SCOPE, key: code, value: { url } } });
  logger.info("link created", { code, url });
  return { code, url };
});

worker.registerFunction("link::resolve", async (request: { code: string }) => {
  const found = await worker.trigger<{ scope: string; key: string }, { url: string } | null>({
    function_id: "state::get",
    payload: { scope: SCOPE, key: request.code },
  });
  logger.info("link resolved", { code: request.code, found: Boolean(found) });
  return { url: found?.url ?? null };
});

worker.registerFunction("http::create_link", async (req: { body?: { url?: string; code?: string } }) => {
  const { url, code } = req.body ?? {};
  const headers = { "Content-Type": "application/json" };
  if (!url) return { status_code: 400, body: { error: 'missing "url"' }, headers };
  const link = await worker.trigger<object, { code: string; url: string }>({
    function_id: "link::create",
    payload: { url, code },
  });
  return { status_code: 201, body: link, headers };
});
worker.registerTrigger({
  type: "http",
  function_id: "http::create_link",
  config: { api_path: "/links", http_method: "POST" },
});

worker.registerFunction("http::redirect", async (req: { path_params: { code: string } }) => {
  const { url } = await worker.trigger<{ code: string }, { url: string | null }>({
    function_id: "link::resolve",
    payload: { code: req.path_params.code },
  });
  if (url) return { status_code: 302, headers: { Location: url } };
  return {
    status_code: 404,
    body: { error: "link not found" },
    headers: { "Content-Type": "application/json" },
  };
});
worker.registerTrigger({
  type: "http",
  function_id: "http::redirect",
  config: { api_path: "/s/:code", http_method: "GET" },
});

logger.info("link worker ready");
