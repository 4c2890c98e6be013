// One of several workers that call each other, with iii's Node SDK; its argument is its name.
import { Logger } from "@iii-dev/helpers/observability";
import { registerWorker } from "iii-sdk";

const name = process.argv[2];
const worker = registerWorker(process.env.III_URL, { workerName: name });
const logger = new Logger();
const call = (function_id, payload) => worker.trigger({ function_id, payload });

const handlers = {
  relay: async ({ way, value }) => {
    const [next, ...rest] = way;
    logger.info(`${name} relays`, { value });
    if (next === undefined) return { value, visited: [name] };
    const answer = await call(`${next}::relay`, { way: rest, value });
    return { value: answer.value, visited: [name, ...answer.visited] };
  },
  fail: async () => {
    throw new Error(`${name} fails on purpose`);
  },
  catch: async ({ function_id, payload }) => {
    try {
      return { result: await call(function_id, payload) };
    } catch (error) {
      return { code: error.code, message: error.message };
    }
  },
  log: async ({ level, message, data }) => logger[level](message, data),
  page: async (request) => ({ status_code: 200, body: { from: name, word: request.path_params.word } }),
};
for (const [verb, handler] of Object.entries(handlers)) worker.registerFunction(`${name}::${verb}`, handler);
worker.registerTrigger({
  type: "http",
  function_id: `${name}::page`,
  config: { api_path: `/${name}/:word`, http_method: "GET" },
});
worker.registerFunction(`${name}::ready`, async () => true);
