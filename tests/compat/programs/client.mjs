// A worker as its author writes it with iii's Node SDK; told the engine's URL, talks to the test on stdout.
import { registerWorker, TriggerAction } from "iii-sdk";

const worker = registerWorker(process.argv[2], { workerName: "client", otel: { enabled: false } });
const say = (...words) => process.stdout.write(words.join(" ") + "\n");
const double = (n) => worker.trigger({ function_id: "host::double", payload: { n } });

const handlers = {
  echo: async (data) => ({ got: data.value }),
  fail: async () => {
    throw new Error("on purpose");
  },
  call_back: async (data) => double(data.n),
  call_back_sync: async (data) => double(data.n),
  missing: async () => {
    try {
      await worker.trigger({ function_id: "no::such", payload: {} });
    } catch (error) {
      return { code: error.code };
    }
    return null;
  },
  no_value: async () => {
    const value = await worker.trigger({ function_id: "state::get", payload: { scope: "compat", key: "none" } });
    const answer = await worker.trigger({ function_id: "host::note", payload: { n: 1 } });
    return { nothing: value === undefined && answer === undefined };
  },
  nothing: async () => undefined,
  send_void: async () => {
    await worker.trigger({ function_id: "host::note", payload: { n: 1 }, action: TriggerAction.Void() });
    return null;
  },
  on_void: async (data) => say("void", data.n),
  on_state: async (event) => say("state", event.event_type, event.key),
  on_http: async (request) => ({
    status_code: 201,
    headers: { "x-from": "client" },
    body: { name: request.path_params.name, query: request.query_params },
  }),
};
for (const [name, handler] of Object.entries(handlers)) worker.registerFunction("client::" + name, handler);
worker.registerTrigger({ type: "state", function_id: "client::on_state", config: { scope: "compat" } });
worker.registerTrigger({
  type: "http",
  function_id: "client::on_http",
  config: { api_path: "/client/:name", http_method: "GET" },
});
worker.registerFunction("client::ready", async () => true);
process.stdin.on("end", () => worker.shutdown().then(() => process.exit(0)));
process.stdin.resume();
